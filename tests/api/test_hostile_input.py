"""Whatever is sent, the answer is JSON that names field, value and rule; never a crash, never an order."""

from __future__ import annotations

import json
from typing import Any

import pytest

from platform_site.tokens import TokenView
from strategies.models import StrategyConfig
from tests import builders
from tests.api.conftest import Cast
from trading.models import Order

pytestmark = pytest.mark.django_db
ORDER = {"symbol": "BTCUSDT", "side": "Buy", "order_type": "Limit", "quantity": "0.01", "price": "60000.0"}
SURROGATE = "\ud800"
DEEP = "[" * 100_000
NUMBERS = [
    "1e999999999", "1e-999999999", "1e30", "-1e30", "9" * 36, "9" * 40, "0." + "1" * 35, "NaN", "sNaN", "Infinity",
    "-Infinity", "-0.01", "0", "-0", "", " ", "0x10", "１２", "٣", "1_0", "0.01\u0000", SURROGATE, "x" * 100_000,
    True, [], {}, {"a": [1]}, ["0.01"], 10**400, -1, 1.5e300,
]  # fmt: skip


@pytest.fixture
def config(cast: Cast) -> StrategyConfig:
    return builders.strategy(cast.alices)


def silent(client: Any) -> Any:
    """A crash is an answer like any other: the list of all of them says more than the first."""
    client.raise_request_exception = False
    return client


def assert_refused(answer: Any, field: str | None = None) -> None:
    assert 400 <= answer.status_code < 500, answer.content
    assert answer["Content-Type"] == "application/json" and len(answer.content) < 10_000
    error = answer.json()["error"]
    assert error["message"] and error["request_id"]
    if field is not None:
        found = {each["field"].split(".")[0]: each for each in error["fields"]}
        assert found[field]["rule"] and "value" in found[field]


ORDER_VALUES: dict[str, list[Any]] = {
    **dict.fromkeys(("quantity", "price", "take_profit", "stop_loss"), NUMBERS),
    "account": ["x", "１２x", 1.5, True, [], {}, "9" * 2000, 1e300, SURROGATE],
    "symbol": ["", "NOPE", "x" * 10_000, "BTCUSDT\u0000", SURROGATE, True, [], {}, None],
    "side": ["", "buy", SURROGATE, 5, [], {}, None, "x" * 10_000],
    "order_type": ["", "Stop", SURROGATE, [], {}, None],
    "time_in_force": ["", "GTD", SURROGATE, [], {}, None],
    "reduce_only": ["maybe", SURROGATE, [], {}, None, 7],
    "client_order_id": ["", "é", "a b", "\u0000", SURROGATE, [], {}, None, "x" * 10_000],
    "reason": ["x" * 501, "\u0000", SURROGATE, [], {}, None],
    "stop_los": [1],
    "": [1],
    SURROGATE: [1],
    "x" * 10_000: [1],
}


@pytest.mark.parametrize("field", ORDER_VALUES)
def test_a_hostile_value_in_an_order_is_refused_by_field(cast: Cast, field: str) -> None:
    client = silent(cast.client(cast.alice))
    for value in ORDER_VALUES[field]:
        body = json.dumps(ORDER | {field: value})
        answer = client.post("/api/v1/trading/order", body, content_type="application/json")
        # A name that is too long or no text at all is told shortened or replaced.
        assert_refused(answer, field if len(field) < 200 and field != SURROGATE else None)
    assert not Order.objects.exists()


def test_an_order_for_an_account_that_is_not_there_or_anothers_is_not_found(cast: Cast) -> None:
    client = silent(cast.client(cast.bob))
    for account in (0, -1, 10**18, 2**63, 10**30, cast.alices.pk):
        assert_refused(client.post("/api/v1/trading/order", ORDER | {"account": account}, format="json"))


STRATEGY_VALUES: dict[str, list[Any]] = {
    "sizing_value": NUMBERS,
    "leverage": NUMBERS,
    "sizing_mode": ["", "all", SURROGATE, [], {}, None],
    "symbols": [[], {}, "BTCUSDT", None, 5, [5], [[]], [{}], ["\u0000"], [SURROGATE], ["BTCUSDT"] * 201,
                ["BTCUSDT", "BTCUSDT"], ["NOPE"], ["x" * 10_000]],
    "parameters": [[], "x", None, {"nope": 1}, {SURROGATE: 1}, {"\u0000": 1}, {"x" * 10_000: "x" * 10_000},
                   *({"period": value} for value in NUMBERS),
                   *({"timeframe": value} for value in ("7", [], {}, None, SURROGATE, "\u0000", "x" * 100_000))],
    "allow_reversal": ["maybe", [], {}, None],
    "enabled": [True],
    "account": [1],
    SURROGATE: [1],
}  # fmt: skip


@pytest.mark.parametrize("field", STRATEGY_VALUES)
def test_a_hostile_value_in_a_strategy_is_refused_by_field_and_changes_nothing(
    cast: Cast, config: StrategyConfig, field: str
) -> None:
    client = silent(cast.client(cast.alice))
    for value in STRATEGY_VALUES[field]:
        answer = client.put(
            f"/api/v1/strategies/{config.pk}", json.dumps({field: value}), content_type="application/json"
        )
        assert_refused(answer, None if field == SURROGATE else field)
        config.refresh_from_db()
        assert config.version == 1


BODIES: list[str | bytes] = [
    "null", "5", '"text"', "[]", "[1, 2]", "{", "NaN", DEEP, '{"a":' * 50_000, b"\xff\xfe", b"\x00",
    '{"leverage": 1e999999999}', '{"leverage": NaN}', '{"leverage": ' + "9" * 5_000 + "}", '{"a": {"b": [{}]}}',
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), [("post", "trading/order"), ("put", "strategies/trend")])
def test_a_body_that_is_no_request_is_refused(cast: Cast, config: StrategyConfig, method: str, path: str) -> None:
    client = silent(cast.client(cast.alice))
    for body in BODIES:
        assert_refused(getattr(client, method)(f"/api/v1/{path}", body, content_type="application/json"))
    for charset in ("utf-16", "base64", "hex", "rot13", "zip", "nope", "idna", "undefined"):
        kind = f"application/json; charset={charset}"
        assert_refused(getattr(client, method)(f"/api/v1/{path}", b'{"leverage": "x"}', content_type=kind))


NUMBERS_IN_ADDRESSES = ("0", "9" * 30, "9" * 5_000, "²", "%00", "x")
LISTS = ("trading/orders", "trading/fills", "trading/signals", "positions")
ADDRESSES = {
    "orders": [f"trading/order/{value}" for value in (*NUMBERS_IN_ADDRESSES, "1%20")],
    "accounts": [f"accounts/{value}" for value in NUMBERS_IN_ADDRESSES],
    "equity": [f"accounts/{value}/equity" for value in NUMBERS_IN_ADDRESSES],
    "strategies": [f"strategies/{value}" for value in NUMBERS_IN_ADDRESSES],
    "market": [f"market/{what}/{value}" for what in ("ticker", "orderbook", "candles") for value in ("%00", "NO", "²")],
    "depth": [f"market/orderbook/BTCUSDT?depth={value}" for value in NUMBERS_IN_ADDRESSES],
    "limit": [f"market/candles/BTCUSDT?limit={value}" for value in NUMBERS_IN_ADDRESSES],
    "interval": ["market/candles/BTCUSDT?interval=%00", "market/candles/BTCUSDT?interval=1m"],
    "before": [f"market/candles/BTCUSDT?before={each}" for each in ("%00", "2026-01-31", "9999-99-99T00:00:00Z", "x")],
    "account": [f"{what}?account={value}" for what in LISTS for value in ("²", "9" * 5_000, "-1", "1.5", "x", "%00")],
    "symbol": [f"{what}?symbol=%00" for what in LISTS] + ["positions/%00"],
    "page": [f"trading/orders?page={value}" for value in NUMBERS_IN_ADDRESSES] + ["trading/orders?state=%00"],
}  # fmt: skip


@pytest.mark.parametrize("kind", ADDRESSES)
def test_a_hostile_address_is_refused(cast: Cast, kind: str) -> None:
    client = silent(cast.client(cast.alice))
    for path in ADDRESSES[kind]:
        assert_refused(client.get(f"/api/v1/{path}"))


def test_an_odd_address_is_answered_without_a_crash(cast: Cast) -> None:
    client = silent(cast.client(cast.alice))
    for path in (
        "trading/orders?account=" + "9" * 30,
        "trading/orders?limit=²",
        "trading/orders?limit=" + "9" * 5_000,
        "market/candles/BTCUSDT?before=0001-01-01T00:00:00%2B23:59",
        "market/candles/BTCUSDT?before=9999-12-31T23:59:59-23:59",
        "positions/" + "x" * 5_000,
    ):
        assert client.get(f"/api/v1/{path}").status_code in (200, 400, 404), path


def test_a_hostile_login_is_refused(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TokenView, "throttle_classes", ())
    client = silent(cast.client(None))
    for field in ("username", "password"):
        for value in (None, "", [], {}, "\u0000", SURROGATE, "x" * 10_000):
            body = json.dumps({"username": "alice", "password": "guess"} | {field: value})
            assert_refused(client.post("/api/v1/auth/token", body, content_type="application/json"))
