"""``manage.py chaos`` itself: whole deployments, killed and compared; nothing is left of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.processes import REPOSITORY, until

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]
Starter = Callable[..., subprocess.Popen[bytes]]


def start(folder: Path, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "manage.py", "chaos", "--keep", str(folder), *options]
    environment = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")}
    with folder.with_suffix(".log").open("wb") as log:
        return subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=log, stderr=log)


def left_of(folder: Path) -> list[str]:
    """Processes that carry the folder in their command or environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            told = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:
            continue
        if str(folder).encode() + b"/lane" in told:
            found.append((process / "cmdline").read_text().replace("\0", " "))
    return found


def test_a_few_seeded_runs_find_both_sides_equal_and_leave_nothing_behind(tmp_path: Path) -> None:
    folder, output = tmp_path / "chaos", tmp_path / "summary.json"
    tmp_path.chmod(0o755)
    process = start(folder, "--runs", "4", "--seed", "1", "--lanes", "1", "--output", str(output))
    assert process.wait(800) == 0, folder.with_suffix(".log").read_text()
    summary = json.loads(output.read_text())
    assert summary["passed"] and summary["runs"] == 4 and summary["violations"] == []
    assert summary["orders_on_exchange"] > 0 and summary["fills"] > 0 and summary["labels"]
    assert left_of(folder) == []


def test_an_interrupted_command_ends_everything_that_it_started(tmp_path: Path) -> None:
    folder = tmp_path / "chaos"
    process = start(folder, "--runs", "50", "--lanes", "2")
    until(lambda: any("runsimulator" in each for each in left_of(folder)), 120)
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 130
    assert left_of(folder) == []
    assert "everything was ended" in folder.with_suffix(".log").read_text()
