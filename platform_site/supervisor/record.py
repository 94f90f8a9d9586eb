"""The state file of the supervisor, for the status page and for people: who runs, since when, how often restarted."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path

from platform_site.supervisor.child import Child


def write_record(path: Path, children: Iterable[Child]) -> None:
    """Replaces the file whole, so that a reader never sees half of one. A full disk must not end the supervision."""
    content = {
        "supervisor_pid": os.getpid(),
        "written_at": time.time(),
        "processes": [
            {
                "name": child.spec.name,
                "pid": child.pid,
                "state": str(child.state),
                "restarts": child.restarts,
                "last_exit": child.last_exit,
            }
            for child in children
        ],
    }
    unfinished = path.with_suffix(".new")
    with contextlib.suppress(OSError):
        unfinished.write_text(json.dumps(content, indent=2) + "\n")
        unfinished.replace(path)
