"""Labelled points of an order's way: each is somewhere, none does anything unless it is armed, armed ones end or pause
their process, and only simulated deployments may arm one."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.processes import REPOSITORY, until
from trading import crash_points
from trading.crash_points import ACTIONS, POINTS, VARIABLE, CrashPointError, crash_point

REACH = re.compile(r'"([a-z]+\.[a-z_]+)"')
WALK = """
from trading.crash_points import reach
for name in ("order.before_commit", "order.committed", "order.committed", "order.answered"):
    print(name, flush=True)
    reach(name)
print("done", flush=True)
"""


def walk(armed: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, VARIABLE: armed}
    command = [sys.executable, "-c", WALK]
    return subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)


def test_every_label_is_reached_somewhere_and_nothing_else_is() -> None:
    places = [
        path
        for folder in ("trading", "risk", "audit", "platform_site")
        for path in (REPOSITORY / folder).rglob("*.py")
        if path.name != "crash_points.py" and "chaos" not in path.parts and "reach(" in path.read_text()
    ]
    lines = [line for path in places for line in path.read_text().splitlines()]
    reached = {name for line in lines if "reach(" in line or line.startswith("LEFT") for name in REACH.findall(line)}
    assert reached == set(POINTS)


def test_unarmed_points_do_nothing() -> None:
    assert not crash_points.ARMED
    for name in POINTS:
        crash_points.reach(name)


@pytest.mark.parametrize(
    ("armed", "printed"),
    [
        ("order.before_commit", 1),
        ("order.committed", 2),
        ("order.committed:2", 3),
        ("order.committed:2:kill", 3),
    ],
)
def test_a_process_ends_itself_at_the_passage_that_is_armed(armed: str, printed: int) -> None:
    done = walk(armed)
    assert done.returncode == -signal.SIGKILL
    assert len(done.stdout.splitlines()) == printed


@pytest.mark.parametrize("armed", ["order.committed:3", "kill.done", ""])
def test_a_process_that_never_comes_by_goes_on(armed: str) -> None:
    assert walk(armed).stdout.splitlines()[-1] == "done"


def test_a_file_arms_a_process_that_runs_already_and_says_what_was_reached(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    assert walk(f"@{trap}").stdout.splitlines()[-1] == "done"
    trap.write_text("order.answered:1:kill")
    done = walk(f"@{trap}")
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "trap.reached").read_text().endswith(" order.answered:1:kill")


def test_a_paused_process_goes_on_when_it_is_woken() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WALK],
        env={**os.environ, VARIABLE: "order.committed:1:stop"},
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        until(lambda: Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")
        process.send_signal(signal.SIGCONT)
        assert process.communicate(timeout=60)[0].splitlines()[-1] == "done"
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("order.comitted", "'order.comitted' is no labelled point"),
        ("order.committed:0", "the passage is '0'; expected a whole number from 1"),
        ("order.committed:one", "the passage is 'one'"),
        ("order.committed:1:explode", "the action is 'explode'; expected kill or stop"),
    ],
)
def test_a_label_that_cannot_be_is_refused_with_a_sentence(text: str, told: str) -> None:
    with pytest.raises(CrashPointError, match=re.escape(told)):
        crash_point(text)


@given(st.sampled_from(sorted(POINTS)), st.integers(1, 10**6), st.sampled_from(sorted(ACTIONS)))
def test_a_point_reads_back_as_it_was_written(name: str, passage: int, action: str) -> None:
    point = crash_point(f"{name}:{passage}:{action}")
    assert crash_point(point.text) == point and point.passage == passage


def settings_with(**environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "import django; django.setup(); print('it starts')"]
    every = {**os.environ, "DJANGO_SETTINGS_MODULE": "platform_site.settings", **environment}
    return subprocess.run(command, env=every, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    "environment",
    [{"BALLAST_DEBUG": "false"}, {"BALLAST_DEBUG": "true", "EXCHANGE": "bybit-testnet"}],
    ids=["a deployment without debug", "a real venue"],
)
def test_a_deployment_that_may_not_be_ended_refuses_to_start_with_an_armed_point(
    environment: dict[str, str], tmp_path: Path
) -> None:
    refused = settings_with(**environment, BALLAST_DATA_DIR=str(tmp_path), **{VARIABLE: "order.committed"})
    assert refused.returncode != 0 and "only `manage.py chaos` and deployments with BALLAST_DEBUG" in refused.stderr


def test_a_lane_of_the_chaos_command_and_a_debug_deployment_start_with_one(tmp_path: Path) -> None:
    debug = settings_with(BALLAST_DEBUG="true", BALLAST_DATA_DIR=str(tmp_path), **{VARIABLE: "order.committed"})
    (tmp_path / "chaos-lane").touch()
    lane = settings_with(BALLAST_DEBUG="false", BALLAST_DATA_DIR=str(tmp_path), **{VARIABLE: f"@{tmp_path}/trap"})
    assert "it starts" in debug.stdout and "it starts" in lane.stdout
    wrong = settings_with(BALLAST_DEBUG="true", BALLAST_DATA_DIR=str(tmp_path), **{VARIABLE: "order.comitted"})
    assert "BALLAST_CRASH_AT: 'order.comitted' is no labelled point" in wrong.stderr
