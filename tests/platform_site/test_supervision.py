"""Children that crash, signals, and sudden death: tried on real processes."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from platform_site.supervisor.console import Console
from platform_site.supervisor.leftovers import find_leftovers, mark_of, stop_leftovers
from platform_site.supervisor.refusals import StartRefused, StopRequested
from platform_site.supervisor.supervision import RestartPolicy, Supervisor
from tests.platform_site.supervised import shell_child

SLEEPER = "exec sleep 600"
# A pool: the leader's death alone would leave the other running.
FAMILY = "sleep 600 & echo $! > member.pid; wait"
STUBBORN = "trap '' TERM; echo deaf; while :; do sleep 600; done"
SECONDS = 30.0

Start = Callable[..., subprocess.Popen[str]]


def eventually(condition: Callable[[], bool], seconds: float = SECONDS) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def interrupted(process: subprocess.Popen[str]) -> bool:
    """Whether the process has ended; asked again by Ctrl-C, at a person's pace, when not."""
    try:
        process.wait(0.3)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
    return process.returncode is not None


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    """A supervisor in this process; ``supervisor.console`` writes into memory."""
    policy = RestartPolicy(first_pause=0.05, longest_pause=0.2, stable_after=60)
    it = Supervisor(Console(io.StringIO()), tmp_path / "supervisor.json", policy)
    yield it
    it.stop()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts ``supervised.py`` and returns when it has started its children."""
    running: list[subprocess.Popen[str]] = []

    def run(**commands: str) -> subprocess.Popen[str]:
        arguments = [f"{name}={command}" for name, command in commands.items()]
        # Tests that were started by nohup would hand down that SIGHUP is ignored.
        terminal = ["env", "--default-signal=HUP"]
        command = [*terminal, sys.executable, "-m", "tests.platform_site.supervised", str(tmp_path), *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        running.append(process)
        assert process.stdout is not None
        for line in process.stdout:
            if "everything was started" in line:
                break
        return process

    yield run
    for process in running:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
    stop_leftovers(mark_of(tmp_path))


def said(supervisor: Supervisor) -> str:
    return supervisor.console._stream.getvalue()


def test_a_crashed_child_is_restarted_with_growing_pauses(supervisor: Supervisor, tmp_path: Path) -> None:
    child = supervisor.start(shell_child(tmp_path, "crasher", "echo out of luck; exit 3"))
    assert supervisor.wait_until(lambda: child.restarts == 4, SECONDS)
    pauses = re.findall(r"ended \(exit code 3\), starts again in ([0-9.]+) s", said(supervisor))
    assert pauses[:4] == ["0.05", "0.1", "0.2", "0.2"]


def test_the_end_of_a_crashed_child_s_log_is_shown_once(supervisor: Supervisor, tmp_path: Path) -> None:
    child = supervisor.start(shell_child(tmp_path, "crasher", "echo out of luck; exit 3"))
    assert supervisor.wait_until(lambda: child.restarts == 3, SECONDS)
    assert said(supervisor).count("    | out of luck") == 1


def test_a_child_that_ran_stably_is_restarted_after_the_first_pause(tmp_path: Path) -> None:
    policy = RestartPolicy(first_pause=0.05, longest_pause=10, stable_after=0)
    supervisor = Supervisor(Console(io.StringIO()), tmp_path / "supervisor.json", policy)
    child = supervisor.start(shell_child(tmp_path, "crasher", "exit 1"))
    assert supervisor.wait_until(lambda: child.restarts == 4, SECONDS)
    supervisor.stop()
    assert set(re.findall(r"again in ([0-9.]+) s", said(supervisor))) == {"0.05"}


def test_the_state_file_tells_restarts_and_the_last_exit(supervisor: Supervisor, tmp_path: Path) -> None:
    child = supervisor.start(shell_child(tmp_path, "sleeper", SLEEPER))
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    assert supervisor.wait_until(lambda: child.restarts == 1, SECONDS)
    (entry,) = json.loads((tmp_path / "supervisor.json").read_text())["processes"]
    assert entry == {
        "name": "sleeper",
        "pid": child.pid,
        "state": "running",
        "restarts": 1,
        "last_exit": "killed by SIGKILL",
    }


def test_a_restart_that_the_machine_refuses_is_tried_again(supervisor: Supervisor, tmp_path: Path) -> None:
    folder = tmp_path / "moved"
    folder.mkdir()
    spec = replace(shell_child(tmp_path, "crasher", "sleep 0.1; exit 1"), directory=folder)
    child = supervisor.start(spec)
    folder.rmdir()
    assert supervisor.wait_until(lambda: child.restarts == 1, SECONDS)
    assert child.last_exit == "cannot be started: No such file or directory"
    folder.mkdir()
    assert supervisor.wait_until(lambda: child.pid is not None, SECONDS)


def test_a_command_that_fails_refuses_the_start_with_its_last_words(supervisor: Supervisor, tmp_path: Path) -> None:
    with pytest.raises(StartRefused, match=r"migrate failed \(exit code 4\)[\s\S]*no such table"):
        supervisor.run_to_end(shell_child(tmp_path, "migrate", "echo no such table; exit 4"), SECONDS)


def test_a_server_that_keeps_ending_refuses_the_start(supervisor: Supervisor, tmp_path: Path) -> None:
    child = supervisor.start(shell_child(tmp_path, "server", "echo cannot bind; exit 1"))
    with pytest.raises(StartRefused, match=r"server did not start \(exit code 1\)[\s\S]*cannot bind"):
        supervisor.require_ready(child, lambda: False, SECONDS, attempts=2)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stop_signal_ends_every_process_and_its_children(
    number: signal.Signals, start: Start, tmp_path: Path
) -> None:
    process = start(sleeper=SLEEPER, family=FAMILY)
    assert eventually((tmp_path / "member.pid").exists)
    process.send_signal(number)
    assert process.wait(SECONDS) == 0
    assert find_leftovers(mark_of(tmp_path)) == []


def test_a_child_that_ignores_the_signal_is_killed_at_the_second_ctrl_c(start: Start, tmp_path: Path) -> None:
    process = start(stubborn=STUBBORN)
    assert eventually(lambda: "deaf" in (tmp_path / "logs" / "stubborn.log").read_text())
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    assert "stopping" in process.stdout.readline()
    assert eventually(lambda: interrupted(process), 8)
    assert process.returncode == 0
    assert find_leftovers(mark_of(tmp_path)) == []


@pytest.mark.slow
def test_a_child_that_ignores_the_signal_is_killed_within_ten_seconds(start: Start, tmp_path: Path) -> None:
    process = start(stubborn=STUBBORN)
    assert eventually(lambda: "deaf" in (tmp_path / "logs" / "stubborn.log").read_text())
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert find_leftovers(mark_of(tmp_path)) == []


def test_a_killed_supervisor_leaves_no_children(start: Start, tmp_path: Path) -> None:
    process = start(sleeper=SLEEPER, other=SLEEPER)
    assert eventually(lambda: len(find_leftovers(mark_of(tmp_path))) == 2)
    process.kill()
    process.wait()
    assert eventually(lambda: find_leftovers(mark_of(tmp_path)) == [])


def test_a_closed_terminal_ends_everything(start: Start, tmp_path: Path) -> None:
    process = start(crasher="sleep 0.2; exit 1", sleeper=SLEEPER)
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(SECONDS) == 0
    assert find_leftovers(mark_of(tmp_path)) == []


def test_a_wait_ends_when_the_terminal_is_gone(tmp_path: Path) -> None:
    stream = io.StringIO()
    supervisor = Supervisor(Console(stream), tmp_path / "supervisor.json")
    stream.close()
    supervisor.console.event("ballast", "nobody reads this")
    with pytest.raises(StopRequested):
        supervisor.wait(0)


def test_processes_left_by_an_earlier_start_are_found_and_ended(tmp_path: Path) -> None:
    spec = shell_child(tmp_path, "orphan", SLEEPER)
    orphan = subprocess.Popen(spec.command, env=dict(spec.environment))
    assert eventually(lambda: find_leftovers(mark_of(tmp_path)) == [orphan.pid])
    assert stop_leftovers(mark_of(tmp_path)) == 1
    assert orphan.wait(30) == -signal.SIGTERM


def test_a_command_that_was_begun_runs_beside_others_and_is_awaited(supervisor: Supervisor, tmp_path: Path) -> None:
    command = supervisor.begin(shell_child(tmp_path, "compile", "echo done > done.txt"))
    supervisor.run_to_end(shell_child(tmp_path, "other", "true"), SECONDS)
    supervisor.await_end(command, SECONDS)
    assert (tmp_path / "done.txt").read_text() == "done\n"


def test_a_command_that_was_begun_does_not_outlive_the_supervisor(supervisor: Supervisor, tmp_path: Path) -> None:
    command = supervisor.begin(shell_child(tmp_path, "compile", "exec sleep 600"))
    supervisor.stop()
    assert command.process is not None and eventually(lambda: command.process.poll() is not None)
