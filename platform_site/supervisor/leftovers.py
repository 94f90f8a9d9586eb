"""Processes of an earlier start that outlived their supervisor. There are none, unless it was killed in an unlucky
moment; two PostgreSQLs on one cluster or two engines on one account would be worse than looking."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

from platform_site.supervisor.refusals import StartRefused

# Set for every child: found again by it, whatever its process id and whoever its parent is.
MARK = "BALLAST_SUPERVISED"
GRACE_SECONDS = 8.0


def mark_of(data_folder: Path) -> str:
    return str(data_folder.resolve())


def find_leftovers(mark: str) -> list[int]:
    """Process ids of running processes (not of zombies) that carry the mark."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if wanted in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
    return [pid for pid in found if pid != os.getpid()]


def stop_leftovers(mark: str) -> int:
    """Ends them, politely first; the number of processes ended. Raises StartRefused when one cannot be ended."""
    first = find_leftovers(mark)
    deadline = time.monotonic() + GRACE_SECONDS
    for pid in first:
        # PostgreSQL's SIGTERM waits for its clients; SIGINT does not.
        _send(pid, signal.SIGINT if _command(pid) == "postgres" else signal.SIGTERM)
    while (left := find_leftovers(mark)) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in left:
        _send(pid, signal.SIGKILL)
    deadline = time.monotonic() + 2
    while (left := find_leftovers(mark)) and time.monotonic() < deadline:
        time.sleep(0.05)
    if left:
        raise StartRefused(
            f"Processes of an earlier start cannot be ended: {', '.join(map(str, left))}. End them first."
        )
    return len(first)


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
