"""What a backtest is asked, from outside: every wrong value is named with its rule, a right one comes back."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies.base import ParameterSpec
from tests import builders
from trading.backtest.request_json import RequestInvalid, request_from_json, request_to_json

NINE = [f"S{number}" for number in range(9)]
SPECS = {
    "supertrend": (
        ParameterSpec("timeframe", "choice", "30", "candles", "minutes", choices=("1", "5", "30")),
        ParameterSpec("period", "int", 10, "bars", "bars", 2, 200),
    )
}


def strategy(**changes: Any) -> dict[str, Any]:
    return {"strategies": [{"strategy": "supertrend", "symbols": ["BTCUSDT"]} | changes]}


def refused(**changes: Any) -> dict[str, str]:
    with pytest.raises(RequestInvalid) as caught:
        request_from_json(builders.backtest_request(**changes), SPECS)
    return {each.field: each.rule for each in caught.value.violations}


def test_a_short_request_has_the_defaults_of_live_trading() -> None:
    request = request_from_json(builders.backtest_request(), SPECS)
    assert (request.start_ms, request.end_ms) == (1_767_225_600_000, 1_768_089_600_000)
    assert request.symbols == ("BTCUSDT",) and request.balance == 10_000
    assert request.costs.fee == Decimal("0.001") and request.costs.latency_ms == 50
    assert request.limits.max_positions == 10 and request.limits.max_daily_loss_percent == 5
    assert dict(request.strategies[0].parameters) == {"timeframe": "5", "period": 10}
    assert request.strategies[0].sizing_mode == "percent"


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"costs": {"fee": "0.00055", "maker_fee": -0.0001, "latency_ms": 0, "funding": False}},
        {"limits": {"max_positions": None, "max_leverage": "3.5"}},
        {"exit_rules": {"partial_exits": [[1, 50], ["2.5", 100]], "reversal": False}},
        {"groups": [{"name": "majors", "symbols": ["BTCUSDT"], "max_positions": 1}], "seed": 0},
        {"source": "books", "recording": "2026-11/btc"},
        strategy(sizing_mode="fixed_usd", sizing_value="500", leverage=1, name="one", allow_reversal=False),
        {"start": "2026-01-01T01:30:00+01:30", "end": "2026-01-01T00:05:00.250Z"},
    ],
)  # fmt: skip
def test_what_is_stored_asks_for_the_same_again(changes: dict[str, Any]) -> None:
    request = request_from_json(builders.backtest_request(**changes), SPECS)
    stored = orjson.loads(orjson.dumps(request_to_json(request)))
    again = request_from_json(stored, SPECS)
    assert request_to_json(again) == stored
    assert (again.costs, again.limits, again.exit_rules, again.start_ms) == (
        *(request.costs, request.limits, request.exit_rules, request.start_ms),
    )


@pytest.mark.parametrize(
    ("changes", "field", "rule"),
    [
        ({"start": "yesterday"}, "start", "2026-01-31"),
        ({"start": "2026-01-01T00:00:00"}, "start", "offset"),
        ({"start": 5}, "start", "2026-01-31"),
        ({"start": "0001-01-01"}, "start", "from 2010-01-01"),
        ({"end": "2026-01-01"}, "end", "after start"),
        ({"end": "2026-02-30"}, "end", "2026-01-31"),
        ({"start": "2010-01-01", "interval": "1", **strategy(symbols=list(NINE))}, "interval", "too many"),
        ({"interval": "D", "end": "2026-01-01T12:00:00Z"}, "end", "at least a bar"),
        ({"interval": "7"}, "interval", "one of 1, 3"),
        ({"source": "dreams"}, "source", "candles, trades, books"),
        ({"source": "books"}, "recording", "required"),
        ({"recording": "../../etc/passwd"}, "recording", "name"),
        ({"venue": "mtgox"}, "venue", "bybit"),
        ({"balance": 0}, "balance", "from 1 to"),
        ({"balance": True}, "balance", "a number"),
        ({"balance": "１２"}, "balance", "a number"),
        ({"balance": 10**400}, "balance", "a number"),
        ({"balance": float("nan")}, "balance", "a number"),
        ({"costs": {"fee": "0.5"}}, "costs.fee", "from -0.01 to 0.1"),
        ({"costs": {"latency_ms": 1.5}}, "costs.latency_ms", "whole"),
        ({"costs": {"feee": 1}}, "costs.feee", "unknown field"),
        ({"costs": []}, "costs", "an object"),
        ({"limits": {"max_positions": 101}}, "limits.max_positions", "from 1 to 100, or null"),
        ({"exit_rules": {"max_loss_percent": 0}}, "exit_rules.max_loss_percent", "from 0.1"),
        ({"exit_rules": {"partial_exits": [[2, 50], [1, 50]]}}, "exit_rules.partial_exits", "rising"),
        ({"exit_rules": {"partial_exits": [[2]]}}, "exit_rules.partial_exits", "pairs"),
        ({"groups": [5]}, "groups.0", "name and symbols"),
        ({"seed": -1}, "seed", "from 0"),
        ({"strategies": []}, "strategies", "1 to 10"),
        ({"strategies": ["supertrend"]}, "strategies.0", "an object"),
        (strategy(strategy="nonsense"), "strategies.0.strategy", "one of supertrend"),
        (strategy(strategy=["a"]), "strategies.0.strategy", "one of supertrend"),
        (strategy(parameters={"period": 1}), "strategies.0.parameters.period", "from 2 to 200 bars"),
        (strategy(parameters={"perod": 1}), "strategies.0.parameters.perod", "not a parameter"),
        (strategy(parameters=[]), "strategies.0.parameters", "an object"),
        (strategy(symbols=[]), "strategies.0.symbols", "1 to 100"),
        (strategy(symbols=["btc usdt"]), "strategies.0.symbols", "like BTCUSDT"),
        (strategy(symbols=["BTCUSDT", "BTCUSDT"]), "strategies.0.symbols", "once"),
        (strategy(sizing_value=101), "strategies.0.sizing_value", "to 100"),
        (strategy(leverage=51), "strategies.0.leverage", "1 to 50"),
        (strategy(allow_reversal="yes"), "strategies.0.allow_reversal", "true or false"),
        ({"strategies": strategy()["strategies"] * 2}, "strategies", "one name"),
        ({"surprise": 1}, "surprise", "unknown field"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named_with_its_rule(changes: dict[str, Any], field: str, rule: str) -> None:
    assert rule in refused(**changes)[field]


def test_all_that_is_wrong_is_told_at_once() -> None:
    assert set(refused(balance="x", seed="x", costs={"fee": "x"})) == {"balance", "seed", "costs.fee"}
    with pytest.raises(RequestInvalid, match=r"start.*end.*strategies"):
        request_from_json({}, SPECS)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.dictionaries(
        st.sampled_from(
            ["strategies", "start", "end", "source", "balance", "costs", "limits", "exit_rules", "groups", "x"]
        ),
        anything,
    )
)
@settings(max_examples=80, deadline=None)
def test_whatever_is_sent_is_understood_or_refused(changes: dict[str, Any]) -> None:
    for data in (changes, builders.backtest_request(**changes)):
        try:
            request_from_json(data, SPECS)
        except RequestInvalid as error:
            assert all(each.field and each.rule for each in error.violations)
