"""Whether a run that was recorded, live or on paper, and its backtest decided the same: signal for signal."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from trading.backtest.request_json import iso
from trading.backtest.result import BacktestSignal

SAID = ("side", "strength", "entry_price", "take_profit", "stop_loss")
JUDGED = "outcome"
ONLY_RECORDED = (
    "the test says nothing here: the code of the strategy or its indicators has changed since, or the bars of the "
    "archive are not those that the engine was told"
)
ONLY_TESTED = (
    "an engine was told this bar, and no signal of it is on record: the strategy failed then (see the alerts), or the "
    "engine or the database ended before it was written"
)
SAID_OTHERWISE = "the code has changed since, or the bars of the archive are not those that the engine was told"
JUDGED_OTHERWISE = (
    "the same signal, judged by another state of the account: its fills, orders of people and of other strategies, and "
    "what the venue and the book said then are not in the test"
)


@dataclass(frozen=True, slots=True)
class SignalDifference:
    """``field`` is ``signal`` where one of the two has none; values as texts. ``why``: what that means, in words."""

    time_ms: int
    symbol: str
    strategy: str
    field: str
    recorded: str
    tested: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """How many signals were recorded, and how many the test made. Of these ``same``: time, symbol, side, strength and
    prices; ``judged_otherwise``: the same, and yet another outcome. ``different`` are at one time and say something
    else."""

    recorded: int
    tested: int
    same: int
    only_recorded: int
    only_tested: int
    different: int
    judged_otherwise: int
    differences: tuple[SignalDifference, ...]

    @property
    def is_true(self) -> bool:
        """Whether the test made every signal that was recorded, and none besides."""
        return self.recorded == self.tested == self.same


def compare_signals(recorded: Iterable[BacktestSignal], tested: Iterable[BacktestSignal]) -> Comparison:
    """Signals of one time, symbol and strategy are held against each other; reasons in words for people are not."""
    ours, theirs = ({(each.time_ms, each.symbol, each.strategy): each for each in many} for many in (recorded, tested))
    differences: list[SignalDifference] = []
    only_recorded = only_tested = different = judged = 0
    for key in sorted(ours.keys() | theirs.keys()):
        one, other = ours.get(key), theirs.get(key)
        if one is None or other is None:
            only_recorded, only_tested = only_recorded + (other is None), only_tested + (one is None)
            why = ONLY_TESTED if one is None else ONLY_RECORDED
            differences.append(SignalDifference(*key, "signal", _text(one), _text(other), why))
            continue
        found = [
            SignalDifference(*key, name, str(getattr(one, name)), str(getattr(other, name)), SAID_OTHERWISE)
            for name in SAID
            if getattr(one, name) != getattr(other, name)
        ]
        different += bool(found)
        if one.outcome != other.outcome:
            judged += not found
            words = [f"{each.outcome}: {each.words}" for each in (one, other)]
            found.append(SignalDifference(*key, JUDGED, words[0], words[1], JUDGED_OTHERWISE))
        differences += found
    same = len(ours) - only_recorded - different
    return Comparison(
        len(ours), len(theirs), same, only_recorded, only_tested, different, judged, tuple(differences)
    )  # fmt: skip


def told(found: Comparison) -> list[str]:
    """The counts and every difference, in lines of words."""
    counts = (
        f"{found.recorded} signals recorded, {found.tested} in the test, {found.same} the same; {found.only_recorded} "
        f"only recorded, {found.only_tested} only in the test, {found.different} different; {found.judged_otherwise} "
        "the same and judged otherwise"
    )
    return [counts, *(_line(each) for each in found.differences)]


def _line(each: SignalDifference) -> str:
    said = f"recorded {each.recorded}, tested {each.tested}"
    return f"{iso(each.time_ms)} {each.symbol} {each.field}: {said} ({each.why})"


def _text(signal: BacktestSignal | None) -> str:
    return "none" if signal is None else f"{signal.side} at {signal.entry_price:f}, {signal.outcome}"
