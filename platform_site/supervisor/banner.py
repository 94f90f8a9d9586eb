"""The one notice that tells a person where to go and as whom."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from platform_site.supervisor.health import Health

RULE = "-" * 78
LOGINS = "demo_logins.json"


def read_logins(path: Path) -> list[Mapping[str, str]]:
    """The demo users that the seed wrote; empty when there are none."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return []
    wanted = {"username", "password", "role"}
    return [entry for entry in content if isinstance(entry, dict) and wanted <= entry.keys()]


def banner(
    port: int, venue: str, health: Health, logins: Iterable[Mapping[str, str]], logs: Path, seconds: float
) -> list[str]:
    state = "Ballast runs" if health.is_ok else "Ballast runs, but not everything is well"
    lines = [RULE, f"  {state}:  http://127.0.0.1:{port}/    (venue: {venue}, ready after {seconds:.1f} s)"]
    if not health.is_ok:
        lines.append(f"  {health.text()}")
    entries = list(logins)
    if entries:
        width = max(len(entry["username"]) for entry in entries)
        password = max(len(entry["password"]) for entry in entries)
        lines.append("  Demo logins:")
        lines += [
            f"    {entry['username']:<{width}}  {entry['password']:<{password}}  {entry['role']}" for entry in entries
        ]
    return [*lines, f"  Admin: /admin/   API: /api/v1/schema/   Logs: {logs}", "  Ctrl-C stops everything.", RULE]
