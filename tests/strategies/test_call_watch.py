"""An endless loop of somebody else's ends where it is, and strikes nobody else."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import traceback
from typing import Any

import pytest

from strategies.call_watch import CallWatch, Overrun

LIMIT = 0.3


def endless(swallows: type[BaseException] | None = None) -> None:
    while True:
        try:
            while True:
                pass
        except Exception:
            if swallows is None:
                raise


def test_a_loop_ends_with_the_line_that_it_was_at_and_the_next_call_goes_well() -> None:
    with CallWatch(LIMIT) as watch:
        for _ in range(2):
            with pytest.raises(Overrun) as caught:
                watch.call("loop", endless, Exception)
            assert "endless" in {step.name for step in traceback.extract_tb(caught.value.__traceback__)}
            assert watch.call("quick", lambda a, b: a + b, 1, 2) == 3


def test_what_it_returns_and_raises_is_the_callers() -> None:
    with CallWatch(LIMIT) as watch:
        assert watch.call("quick", str, 5) == "5"
        with pytest.raises(ValueError, match="invalid literal"):
            watch.call("quick", int, "five")


def test_calls_that_end_about_when_their_time_is_up_are_struck_inside_or_not_at_all() -> None:
    """Whatever comes after the call is never struck."""
    struck = 0
    with CallWatch(0.2) as watch:
        for number in range(12):
            began = time.monotonic()

            def nearly(until: float = began + 0.18 + number * 0.012) -> str:
                while time.monotonic() < until:
                    pass
                return "done"

            try:
                assert watch.call("nearly", nearly) == "done"
            except Overrun:
                struck += 1
            after = time.monotonic() + 0.02
            while time.monotonic() < after:
                pass
    assert 0 < struck < 12


def test_a_call_that_no_exception_reaches_is_told_to_the_watcher_with_its_frame() -> None:
    told: list[tuple[Any, str]] = []
    release = threading.Event()

    def deaf() -> None:
        release.wait(60)

    def on_stuck(subject: Any, frame: Any) -> None:
        names = set()
        while frame is not None:
            names.add(frame.f_code.co_name)
            frame = frame.f_back
        told.append((subject, "deaf" if "deaf" in names else ""))
        release.set()

    with CallWatch(LIMIT, on_stuck) as watch, pytest.raises(Overrun):
        watch.call("the subject", deaf)
    assert told == [("the subject", "deaf")]


def test_what_may_take_longer_says_so() -> None:
    with CallWatch(0.2) as watch:
        assert watch.call("slow", time.sleep, 0.6, times=20) is None


SWALLOWS = """
import sys
from strategies.call_watch import CallWatch, Overrun

def swallows():
    try:
        while True:
            pass
    except Overrun:
        return "went on"

with CallWatch(0.3) as watch:
    answers = [watch.call("it", swallows), watch.call("quick", str, 5)]
sys.settrace(lambda frame, event, argument: None)
(lambda: 0)()
sys.settrace(None)
print(answers)
"""


def test_a_call_that_was_struck_leaves_an_interpreter_that_can_be_traced() -> None:
    """An exception that is taken back before it was raised is looked for ever after by CPython 3.11, and while anything
    traces (a debugger, coverage, hypothesis) the next function never begins."""
    done = subprocess.run([sys.executable, "-c", SWALLOWS], capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout == "['went on', '5']\n", done.stderr
