"""What was live beside its test: stretches of one version, and differences that are all told."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from trading.backtest.comparison import compare_signals, told
from trading.backtest.result import BacktestSignal
from trading.backtest.stretches import Span, stretches

SAID = BacktestSignal(60_000, "BTCUSDT", "trend", "Buy", 0.5, Decimal(9), Decimal(10), Decimal(8), "approved", "up")
SIGNALS = st.lists(
    st.builds(
        lambda minute, side, outcome: replace(SAID, time_ms=minute * 60_000, side=side, outcome=outcome),
        st.integers(1, 8), st.sampled_from(["Buy", "Sell"]), st.sampled_from(["approved", "denied"]),
    ),
    unique_by=lambda each: each.time_ms,
)  # fmt: skip


def span(**changes: Any) -> Span:
    values: dict[str, Any] = {
        "version": 1, "code": "", "symbol": "BTCUSDT", "interval": "1",
        "settings": {"strategy": "supertrend", "sizing_value": "1", "leverage": "10"},
        "first_ms": 0, "begun_ms": 600_000, "until_ms": 1_200_000,
    }  # fmt: skip
    return Span(**(values | changes))


@given(recorded=SIGNALS, tested=SIGNALS)
def test_every_signal_is_counted_once_and_every_difference_is_told(
    recorded: list[BacktestSignal], tested: list[BacktestSignal]
) -> None:
    found = compare_signals(recorded, tested)

    assert found.same + found.different + found.only_recorded == found.recorded == len(recorded)
    assert found.same + found.different + found.only_tested == found.tested == len(tested)
    assert found.judged_otherwise <= found.same
    assert found.is_true == (found.only_recorded == found.only_tested == found.different == 0)
    assert len(told(found)) == 1 + len(found.differences) and all(each.why for each in found.differences)


def test_another_outcome_of_the_same_signal_is_told_and_is_no_untruth() -> None:
    denied = replace(SAID, outcome="denied", words="a Buy position is open already")

    found = compare_signals([denied], [SAID])

    assert found.is_true and (found.same, found.judged_otherwise) == (1, 1)
    (difference,) = found.differences
    assert difference.recorded == "denied: a Buy position is open already" and "state of the account" in difference.why


def test_symbols_of_one_time_are_tested_together_and_a_restart_begins_anew() -> None:
    bitcoin, ether = span(), span(symbol="ETHUSDT", begun_ms=660_000)
    again = span(first_ms=1_000_000, begun_ms=1_500_000, until_ms=2_000_000)

    found = stretches([again, ether, bitcoin])

    assert [each.spans for each in found] == [(bitcoin, ether), (again,)]
    assert (found[0].start_ms, found[0].end_ms, found[0].run().symbols) == (600_000, 1_200_000, ("BTCUSDT", "ETHUSDT"))
    assert found[0].holds("ETHUSDT", 720_000) and not found[0].holds("ETHUSDT", 660_000)


def test_versions_and_files_of_a_strategy_are_never_mixed() -> None:
    many = [span(), span(version=2), span(symbol="ETHUSDT", code="of another file"), span(interval="5")]

    assert sorted(len(each.spans) for each in stretches(many)) == [1, 1, 1, 1]
