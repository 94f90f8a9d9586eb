"""The checker finds what is planted, says where, and has nothing to say about good strategies."""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from strategies.call_watch import CallWatch
from strategies.check_process import CheckRequest, check_apart
from strategies.checker import Finding, Kind, Report, check
from strategies.files import load_file
from strategies.library import STRATEGIES as BUILT_IN
from strategies.new_file import write_new
from strategies.registry import STRATEGIES
from strategies.sample_market import sample_candles
from tests.recordings import recording
from tests.strategies.own import line_of, written

BARS = sample_candles("BTCUSDT", "1", 600)
HEAR = "last, self.last = self.last, candle.close"


def report_of(folder: Path, *changes: tuple[str, str], events: Any = BARS, **options: Any) -> Report:
    path = written(folder, "mine", *changes)
    with CallWatch(0.5) as watch:
        return check(load_file(path).kind, events=events, call=watch.call, **options)


def only(report: Report) -> Finding:
    (finding,) = report.findings
    return finding


def test_a_good_strategy_passes_and_the_report_says_what_was_tried(tmp_path: Path) -> None:
    report = report_of(tmp_path)
    assert report.passed, report.findings
    assert (report.strategy, report.events, report.warm_up) == ("own.mine", 600, 5)
    assert report.signals > 10 and report.enough_warm_up is not None and report.enough_warm_up <= 5
    assert 0 < report.microseconds < 1_000


@pytest.mark.parametrize("key", ["supertrend", "scalping.imbalance"])
def test_built_in_strategies_pass(key: str) -> None:
    report = check(BUILT_IN[key])
    assert report.passed, report.findings
    assert report.events >= 3_000


def test_what_an_earlier_run_left_behind_is_found(tmp_path: Path) -> None:
    """The usual way to look ahead with news that come one by one: what another run was told is still there."""
    peeks = (
        "tape = {}\n\n    def __init__",
        f"{HEAR}\n        self.tape[candle.start_ms] = candle.close\n"
        "        if self.tape.get(candle.start_ms + 60_000, 0) > candle.close * 1: self.risen = self.bars - 1\n",
    )
    finding = only(report_of(tmp_path, ("def __init__", peeks[0]), (HEAR, peeks[1])))
    assert finding.kind == Kind.RANDOM and "class attributes and globals are shared" in finding.words
    assert "gives no signal, then gives Buy at" in finding.words and f"bar {finding.bar} (2024-" in finding.words


def test_a_signal_that_depends_on_how_much_history_follows_is_found(tmp_path: Path) -> None:
    """It knows the whole file: its decisions depend on the last bar that there is."""
    path = written(tmp_path, "mine", (HEAR, f"{HEAR}\n        self.risen += KNOWS(candle)"))
    kind = load_file(path).kind
    bars = list(BARS)
    module = __import__("sys").modules[kind.__module__]
    replays = iter(range(10_000))

    class Watch:
        """Stands for a file of prices that a strategy opens by itself: as long as what is replayed."""

        def __init__(self) -> None:
            self.end = len(bars)

        def __call__(self, candle: Any) -> int:
            number = (candle.start_ms - bars[0].start_ms) // 60_000
            if number == 0:
                next(replays)
            return 0 if number + 1 >= self.end or bars[number + 1].close > candle.close else -1

    knows = module.KNOWS = Watch()  # type: ignore[attr-defined]

    def call(subject: Any, ask: Any, *arguments: Any, times: int = 1) -> Any:
        return ask(*arguments)

    class Bars(list):  # type: ignore[type-arg]
        def __getitem__(self, place: Any) -> Any:
            found = list.__getitem__(self, place)
            knows.end = place.stop if isinstance(place, slice) and place.stop is not None else len(bars)
            return found

    report = check(kind, events=Bars(bars), call=call)
    finding = report.findings[0]
    assert finding.kind == Kind.LOOK_AHEAD and "it knew what comes later" in finding.words
    assert "when everything from bar" in finding.words and finding.bar is not None


def test_a_time_that_has_not_come_yet_is_found(tmp_path: Path) -> None:
    finding = only(report_of(tmp_path, ("int(self._timeframe) * 60_000)", "2 * int(self._timeframe) * 60_000)")))
    assert finding.kind == Kind.LOOK_AHEAD and "later than what it was told" in finding.words


def test_too_short_a_warm_up_is_found_with_the_one_that_would_do(tmp_path: Path) -> None:
    seen = "self._timeframe = parameters"
    long = (seen, f"self.seen = 0; {seen}")
    waits = (HEAR, f"self.seen += 1\n        {HEAR}\n        if self.seen < 60: return None")
    finding = only(report_of(tmp_path, long, waits))
    assert (
        finding.kind == Kind.WARM_UP
        and "warm_up is 5" in finding.words
        and "when history begins at bar" in finding.words
    )
    report = report_of(tmp_path, long, waits)
    assert report.enough_warm_up is not None and 20 < report.enough_warm_up <= 60
    assert f"a warm_up of {report.enough_warm_up} would do" in finding.words
    assert report_of(tmp_path, long, waits, ("self.bars + 2", "60")).passed


def test_what_never_forgets_where_history_began_is_found(tmp_path: Path) -> None:
    counts = (HEAR, f"self.seen += 1\n        {HEAR}\n        if self.seen % 7: return None")
    finding = only(report_of(tmp_path, ("self._timeframe = p", "self.seen = 0; self._timeframe = p"), counts))
    assert finding.kind == Kind.WARM_UP and "it never comes to agree" in finding.words


def test_chance_is_found_in_the_text_and_in_what_it_does(tmp_path: Path) -> None:
    chance = ("from decimal", "import random\nfrom decimal")
    report = report_of(tmp_path, chance, (HEAR, f"{HEAR}\n        self.risen += random.random() < 0.1"))
    kinds = {finding.kind: finding for finding in reversed(report.findings)}
    assert set(kinds) == {Kind.OUTSIDE, Kind.RANDOM}
    assert kinds[Kind.OUTSIDE].where == "mine.py:2" and "imports random" in kinds[Kind.OUTSIDE].words


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("import time", "imports time: a strategy reads no clock"),
        ("from urllib.request import urlopen", "imports urllib.request: a strategy decides by the data"),
        ("import datetime; NOW = datetime.datetime.now()", "calls datetime.now: a strategy reads no clock"),
        ("LINES = open(__file__)", "opens a file"),
        ("import numpy; R = numpy.random.default_rng()", "calls random.default_rng: random numbers"),
    ],
)
def test_what_reaches_outside_is_named_with_its_line(tmp_path: Path, line: str, words: str) -> None:
    finding = only(report_of(tmp_path, ("from decimal", f"{line}\nfrom decimal")))
    assert (finding.kind, finding.where) == (Kind.OUTSIDE, "mine.py:2") and finding.words.startswith(words)


def test_acting_on_a_bar_that_is_not_finished_is_found(tmp_path: Path) -> None:
    finding = only(report_of(tmp_path, ("not candle.closed or ", "")))
    assert finding.kind == Kind.OPEN_BARS and "Look at candle.closed" in finding.words
    finding = only(report_of(tmp_path, (" or candle.interval != self._timeframe", "")))
    assert finding.kind == Kind.OPEN_BARS


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (("take_profit=candle.close + 2", "take_profit=candle.close + 1"), Kind.FAULT, "is under 1.5 times the risk"),
        (("entry_price=candle.close", "entry_price=candle.close * Decimal('0.999') - 0"), None, ""),
        (("strategy=self.name", "strategy='other'"), Kind.SIGNAL, "it is of other on BTCUSDT; expected own.mine"),
        (("symbol=self.symbol", "symbol='ETHUSDT'"), Kind.SIGNAL, "on ETHUSDT; expected"),
        (('reason=f"{self.bars} bars rose"', 'reason=""'), Kind.SIGNAL, "it has no reason"),
        (("time_ns=(candle.start_ms", "time_ns=(candle.start_ms - 600_000"), Kind.SIGNAL, "before what it was told"),
        (("return Signal(", "return dict("), Kind.FAULT, "returned dict; expected a Signal or None"),
        (("return self.bars + 2", "return -1"), Kind.CONTRACT, "warm_up is -1; expected a number of bars"),
    ],
)
def test_a_bad_signal_is_found(tmp_path: Path, change: tuple[str, str], kind: Kind | None, words: str) -> None:
    report = report_of(tmp_path, change)
    if kind is None:
        assert report.passed, report.findings
        return
    assert report.findings[0].kind == kind and words in report.findings[0].words


def test_an_exception_is_told_with_line_and_bar(tmp_path: Path) -> None:
    finding = only(report_of(tmp_path, (HEAR, f"{HEAR}\n        1 / (candle.start_ms - {BARS[37].start_ms})")))
    line = line_of(tmp_path / "mine.py", "1 / (candle")
    assert (finding.kind, finding.bar, finding.where) == (Kind.FAULT, 37, f"mine.py:{line} in on_candle")
    assert finding.words == "raises ZeroDivisionError: division by zero at bar 37 (2024-01-01 00:37:00)"


def test_a_value_at_the_end_of_its_range_that_cannot_work_is_found(tmp_path: Path) -> None:
    finding = only(
        report_of(tmp_path, ("self.symbol, self.bars", "1 / (50 - parameters['bars']); self.symbol, self.bars"))
    )
    assert finding.kind == Kind.RANGES and finding.words.startswith("with bars 50 it raises ZeroDivisionError")


def test_an_endless_loop_is_ended_with_its_line(tmp_path: Path) -> None:
    finding = only(report_of(tmp_path, (HEAR, f"{HEAR}\n        while self.risen == 3: pass")))
    line = line_of(tmp_path / "mine.py", "while self.risen")
    assert (finding.kind, finding.where) == (Kind.ENDLESS, f"mine.py:{line} in on_candle")


def test_what_takes_too_long_is_found(tmp_path: Path) -> None:
    finding = only(report_of(tmp_path, (HEAR, f"{HEAR}\n        sum(range(100_000))"), events=BARS[:30]))
    assert finding.kind == Kind.SLOW and "engines have 1000 at most" in finding.words


# Kernels: the template of `manage.py new_strategy`, with faults in it.


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_new(tmp_path_factory.mktemp("new"), "mine", of_books=False, taken=()).read_text()


def test_the_template_passes_and_a_run_that_looks_at_the_next_bar_does_not(tmp_path: Path, template: str) -> None:
    made = "return kernel_of(step, state_size)"
    peeking = """kernel = kernel_of(step, state_size)
        import dataclasses
        import numpy as np
        def run(state, numbers, start_ms, open_, high, low, close, volume, at, rows):
            later = np.append(close[1:], close[-1:])
            return kernel.run(state, numbers, start_ms, open_, np.maximum(high, later), np.minimum(low, later),
                              later, volume, at, rows)
        return dataclasses.replace(kernel, run=run)
"""
    honest = check(load_file(written(tmp_path, "honest", source=template)).kind, events=BARS)
    assert honest.passed and honest.signals > 5, honest.findings
    kind = load_file(written(tmp_path, "peeks", (made, peeking), source=template)).kind
    finding = only(check(kind, events=BARS, parameters={"stop_percent": 8}))
    assert (finding.kind, finding.where) == (Kind.LOOK_AHEAD, "the kernel's run, over arrays")
    late = peeking.replace("close[1:], close[-1:]", "close[:1], close[:-1]")
    kind = load_file(written(tmp_path, "late", (made, late), source=template)).kind
    finding = only(check(kind, events=BARS, parameters={"stop_percent": 8}))
    assert finding.kind == Kind.TWO_PATHS and "decide and run differ" in finding.words


# Apart, in a process of its own.


@pytest.mark.long
def test_a_kernel_that_never_returns_is_ended_from_outside_with_its_line(tmp_path: Path, template: str) -> None:
    loop = "return False\n            while volume > -1.0:\n                state[LEANING] += 1e-300\n"
    path = written(tmp_path, "mine", ("return False\n            second", f"{loop}            second"), source=template)
    report = check_apart(CheckRequest("mine", str(path), call_seconds=0.5, seconds=20))
    finding = only(report)
    assert finding.kind == Kind.ENDLESS and "is not done after 20 s" in finding.words


def test_a_file_that_ends_the_process_is_a_finding(tmp_path: Path) -> None:
    path = written(tmp_path, "mine", ("from decimal", "import os\nos._exit(9)\nfrom decimal"))
    finding = only(check_apart(CheckRequest("own.mine", str(path))))
    assert finding.kind == Kind.FAULT and "its process ended with 9" in finding.words


def test_a_check_apart_sees_no_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BALLAST_MASTER_KEY", "secret")
    path = written(tmp_path, "mine", ("from decimal", "import os\nos.environ['BALLAST_MASTER_KEY']\nfrom decimal"))
    finding = only(check_apart(CheckRequest("own.mine", str(path))))
    assert finding.kind == Kind.CONTRACT and finding.words == "KeyError: 'BALLAST_MASTER_KEY'"
    assert finding.where == "mine.py:3"


@pytest.fixture
def folder(tmp_path: Path, settings: Any) -> Iterator[Path]:
    STRATEGIES.look_in(tmp_path)
    yield tmp_path
    STRATEGIES.look_in(settings.STRATEGIES_DIR)


def command(*arguments: str) -> str:
    out = StringIO()
    try:
        call_command("check_strategy", *arguments, stdout=out)
    except CommandError as error:
        return f"{out.getvalue()}{error}"
    return out.getvalue()


def test_the_command_tells_what_it_found_and_reads_bars_of_a_file(folder: Path) -> None:
    written(folder, "mine")
    path = folder / "bars.csv"
    rows = [f"{bar.start_ms},{bar.open},{bar.high},{bar.low},{bar.close},{bar.volume}" for bar in BARS]
    path.write_text("\n".join(["ts_ms,open,high,low,close,volume", *rows]))
    said = command("own.mine", "--candles", str(path), "--set", "bars=2")
    assert "own.mine on BTCUSDT: timeframe 1, bars 2" in said and "600 events" in said and "Nothing found." in said
    path.write_text("\n".join(["ts_ms,open,high,low,close,volume", *rows[:5], "1,2,3,nonsense,5,6"]))
    assert f"{path}:7: expected numbers" in command("own.mine", "--candles", str(path))
    assert "there is no strategy own.nothing; known are" in command("own.nothing")
    written(folder, "broken", ("from decimal", "1 / 0\nfrom decimal"))
    assert "- contract: ZeroDivisionError: division by zero (broken.py:2)" in command("broken")


@pytest.mark.long
@pytest.mark.recording
def test_real_bars_of_the_recordings_are_read(tmp_path: Path) -> None:
    path = recording("candles-bybit", "BTCUSDT_15m.csv.gz")
    report = check_apart(CheckRequest("supertrend", candles=str(path)))
    assert report.passed and report.events == 20_000 and report.parameters["timeframe"] == "15"
