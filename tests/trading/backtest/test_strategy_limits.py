"""Limits of a strategy's own level in a backtest: judged by the code that judges live, on what is its own."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest

from risk.groups import GroupLimit, SymbolGroup, SymbolGroups
from risk.limits import Limits
from strategies.registry import STRATEGIES
from tests.trading.backtest.candle_tests import bars, fixed_usd, known_strategies, outcome_of, request
from trading.backtest.compiled_terms import compiled_reason
from trading.backtest.request_json import LIMITS, RequestInvalid, request_from_json, request_to_json
from trading.backtest.result import BacktestResult

__all__ = ["known_strategies"]
D = Decimal
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
FLAT = [[100, 101, 99, 100]] * 4
LONG = ("Buy", "300", "1")


def of_two(own: Limits, says: dict[tuple[str, int], Any], rows: Any = FLAT, **changes: Any) -> BacktestResult:
    """One strategy with limits of its own on two symbols, another without any on a third."""
    asked = request(
        fixed_usd(SYMBOLS[:2], name="held", limits=own), fixed_usd(SYMBOLS[2:], name="free"),
        **({"limits": Limits(price_collar_percent=D(100))} | changes),
    )  # fmt: skip
    series = [bars(rows, symbol) for symbol in SYMBOLS]
    found, thorough = (outcome_of(series, says, asked, every_bar=each) for each in (False, True))
    assert (found.signals, found.fills) == (thorough.signals, thorough.fills)
    return found


def outcomes(found: BacktestResult) -> list[tuple[str, str, str]]:
    return [(each.strategy, each.symbol, each.outcome) for each in found.signals]


def test_a_strategys_positions_are_counted_apart_from_the_accounts() -> None:
    found = of_two(Limits(max_positions=1), {(symbol, 0): LONG for symbol in SYMBOLS})
    assert outcomes(found) == [
        ("held", "BTCUSDT", "approved"), ("held", "ETHUSDT", "denied"), ("free", "SOLUSDT", "approved"),
    ]  # fmt: skip
    assert "position number 2; at most 1" in found.signals[1].words
    # Once the first is open the limit counts what is held, no more what is on its way.
    found = of_two(Limits(max_positions=1), {("BTCUSDT", 0): LONG, ("ETHUSDT", 2): LONG, ("SOLUSDT", 2): LONG})
    assert [outcome for *_, outcome in outcomes(found)] == ["approved", "denied", "approved"]


def test_a_strategys_loss_of_a_day_keeps_it_from_new_risk_and_no_other() -> None:
    """It loses 10 of 10,000 by its stop, 0.1 %; the next day it may again."""
    day = 1_440
    rows = [[100, 101, 99, 100], [100, 101, 98, 99]] + [[100, 101, 99, 100]] * (day + 3)
    says = {("BTCUSDT", 0): ("Buy", "103", "99"), ("BTCUSDT", 5): LONG, ("SOLUSDT", 5): LONG, ("ETHUSDT", day): LONG}
    found = of_two(Limits(max_daily_loss_percent=D("0.05")), says, rows)
    assert [outcome for *_, outcome in outcomes(found)] == ["approved", "denied", "approved", "approved"]
    assert "today's loss is 0.10 %" in found.signals[1].words
    found = of_two(Limits(max_daily_loss_percent=D("0.2")), says, rows)
    assert {outcome for *_, outcome in outcomes(found)} == {"approved"}


def test_of_an_orders_own_limits_the_strictest_of_both_levels_holds() -> None:
    cut = of_two(Limits(max_order_notional=D(500)), {(symbol, 0): LONG for symbol in SYMBOLS})
    assert [each.quantity for each in cut.fills if each.why == "signal"] == [D(5), D(5), D(10)]


def test_a_group_may_be_limited_at_both_levels() -> None:
    groups = SymbolGroups([SymbolGroup("majors", frozenset(SYMBOLS))])
    limit = MappingProxyType({"majors": GroupLimit(max_positions=1)})
    says = {(symbol, 0): LONG for symbol in SYMBOLS}
    of_strategy = of_two(Limits(group_limits=limit), says, groups=groups)
    assert [outcome for *_, outcome in outcomes(of_strategy)] == ["approved", "denied", "approved"]
    of_account = of_two(Limits(), says, groups=groups, limits=Limits(group_limits=limit))
    assert [outcome for *_, outcome in outcomes(of_account)] == ["approved", "denied", "denied"]


def specs() -> dict[str, Any]:
    return {key: kind.parameters for key, kind in STRATEGIES.items()}


def asked(**changes: Any) -> dict[str, Any]:
    run = {"strategy": "supertrend", "symbols": ["BTCUSDT"]}
    return {"strategies": [run | changes], "start": "2026-01-01", "end": "2026-02-01"}


def test_limits_of_both_levels_are_asked_for_as_json_and_written_back() -> None:
    body = asked(limits={"max_positions": 2, "group_limits": {"majors": {"max_notional": "900"}}})
    body |= {
        "groups": [{"name": "majors", "symbols": ["BTCUSDT", "ETHUSDT"]}],
        "limits": {"group_limits": {"majors": {"max_positions": 1}}},
    }
    request = request_from_json(body, specs())
    limits = request.strategies[0].limits
    assert limits is not None and limits.max_positions == 2 and limits.max_leverage is None
    assert limits.group_limits == {"majors": GroupLimit(None, D(900))}
    assert request.limits.group_limits == {"majors": GroupLimit(1, None)}
    again = request_from_json(request_to_json(request), specs())
    assert request_to_json(again) == request_to_json(request) and again.strategies[0].limits == limits
    assert request_from_json(asked(), specs()).strategies[0].limits is None


@pytest.mark.parametrize(
    ("limits", "field"),
    [
        ({"max_position": 2}, "strategies.0.limits.max_position"),
        ({"max_positions": 0}, "strategies.0.limits.max_positions"),
        ({"group_limits": {"majors": {}}}, "strategies.0.limits.group_limits.majors"),
        ({"group_limits": []}, "strategies.0.limits.group_limits"),
        (7, "strategies.0.limits"),
    ],
)
def test_limits_that_cannot_be_are_refused_by_their_field(limits: Any, field: str) -> None:
    with pytest.raises(RequestInvalid) as refused:
        request_from_json(asked(limits=limits), specs())
    assert [each.field for each in refused.value.violations] == [field]


def test_a_strategys_limits_take_the_full_path() -> None:
    lone = request_from_json(asked() | {"limits": dict.fromkeys(LIMITS)}, specs())
    assert compiled_reason(lone) == ""
    limited = replace(lone, strategies=(replace(lone.strategies[0], limits=Limits(max_positions=1)),))
    assert "several levels" in compiled_reason(limited)
