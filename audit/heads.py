"""Heads of the audit trail kept outside the database, in a file of the process that verifies: one line for each time
they were noted, with the platform's head, which stands for all chains."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from audit.chain import Head


def keep(file: Path, head: Head) -> None:
    """Append a head; on disk when this returns."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as lines:
        lines.write(f"{datetime.now(tz=UTC).isoformat(timespec='seconds')} {head}\n")
        lines.flush()
        os.fsync(lines.fileno())


def kept(file: Path) -> list[Head]:
    """All heads that were kept, oldest first; none where there is no file yet.

    Raises:
        ValueError: a line is no head.
    """
    try:
        lines = file.read_text("utf-8").splitlines()
    except FileNotFoundError:
        return []
    return [Head.parse(line.split()[-1]) for line in lines if line.strip()]
