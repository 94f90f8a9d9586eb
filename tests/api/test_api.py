"""The REST API: permission by account on every endpoint, and errors that name field, value and rule."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone
from rest_framework.test import APIClient

from audit.models import ComponentHeartbeat
from audit.services import heartbeat_record
from strategies.services import signal_record
from strategies.signals import Signal
from tests import builders
from tests.api.conftest import Cast
from trading.models import EngineSession, Fill, Order, Position
from trading.reports import Submission, SubmissionResult, WalletReport
from trading.services.accounts import wallet_apply
from trading.services.fills import fill_apply
from trading.services.order_commits import order_take
from trading.services.order_outcomes import order_submission_apply

pytestmark = pytest.mark.django_db
D = Decimal
ORDER = {"symbol": "BTCUSDT", "side": "Buy", "order_type": "Limit", "quantity": "0.01", "price": "60000.0"}


def error(answer: Any) -> dict[str, Any]:
    content = answer.json()["error"]
    assert set(content) == {"code", "message", "fields", "request_id"} and content["message"]
    return content


def test_alice_places_reads_lists_and_cancels_her_order(cast: Cast) -> None:
    client = cast.client(cast.alice)
    placed = client.post("/api/v1/trading/order", ORDER, format="json")
    assert placed.status_code == 201
    order = placed.json()
    assert (order["state"], order["quantity"], D(order["price"]), order["account"]) == (
        "new",
        "0.01",
        60000,
        cast.alices.pk,
    )
    assert client.get(f"/api/v1/trading/order/{order['id']}").json()["client_order_id"] == order["client_order_id"]
    assert [row["id"] for row in client.get("/api/v1/trading/orders?state=live").json()["results"]] == [order["id"]]
    assert client.delete(f"/api/v1/trading/order/{order['id']}").json()["state"] == "cancelled"
    again = client.delete(f"/api/v1/trading/order/{order['id']}")
    assert again.status_code == 409 and "has ended" in error(again)["message"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"symbol": "NOPEUSDT"}, "symbol"),
        ({"quantity": "0.0105"}, "quantity"),
        ({"price": "60000.05"}, "price"),
        ({"quantity": "0.001", "price": "100"}, "quantity"),
        ({"quantity": "many"}, "quantity"),
        ({"quantity": "NaN"}, "quantity"),
        ({"side": "Hold"}, "side"),
        ({"stop_los": "1"}, "stop_los"),
        ({"client_order_id": "not allowed!"}, "client_order_id"),
        ({"client_order_id": "x" * 37}, "client_order_id"),
        ({"order_type": "Market"}, "price"),
    ],
)
def test_a_bad_order_is_refused_by_field_value_and_rule(cast: Cast, change: dict[str, str], field: str) -> None:
    answer = cast.client(cast.alice).post("/api/v1/trading/order", ORDER | change, format="json")
    assert answer.status_code == 400
    found = {item["field"]: item for item in error(answer)["fields"]}
    assert found[field]["rule"] and found[field]["value"] == (change.get(field) or ORDER[field])[:200]
    assert not Order.objects.exists()


def test_malformed_bodies_are_refused_in_words(cast: Cast) -> None:
    client = cast.client(cast.alice)
    broken = client.post("/api/v1/trading/order", "{not json", content_type="application/json")
    assert broken.status_code == 400 and "JSON" in error(broken)["message"]
    wrong = client.post("/api/v1/trading/order", "a=1", content_type="application/x-www-form-urlencoded")
    assert wrong.status_code == 415
    listed = client.post("/api/v1/trading/order", [1, 2], format="json")
    assert listed.status_code == 400


def test_a_repeated_client_order_id_is_the_first_order_and_another_body_a_conflict(cast: Cast) -> None:
    client = cast.client(cast.alice)
    body = ORDER | {"client_order_id": "bot-1"}
    first, second = (client.post("/api/v1/trading/order", body, format="json") for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json()["id"] == second.json()["id"] and Order.objects.count() == 1
    other = client.post("/api/v1/trading/order", body | {"quantity": "0.02"}, format="json")
    assert other.status_code == 409 and error(other)["fields"][0]["field"] == "client_order_id"


def test_nobody_sees_or_touches_what_is_another_tenants(cast: Cast) -> None:
    order = cast.client(cast.alice).post("/api/v1/trading/order", ORDER, format="json").json()
    config = builders.strategy(cast.alices)
    fill_apply(account_id=cast.alices.pk, report=builders.fill_report())
    signal_record(
        account_id=cast.alices.pk,
        config_id=config.pk,
        signal=Signal("supertrend", "BTCUSDT", "Buy", 0.5, D(100), D(110), D(95), "why", 10**18),
        outcome="denied",
        verdict={},
        refusals=[],
        trace_id="trace",
    )
    assert Fill.objects.count() == Position.objects.count() == 1
    for stranger in (cast.bob, cast.charlie):
        client = cast.client(stranger)
        own = {cast.bobs.pk} if stranger is cast.bob else set()
        for path in ("trading/orders", "trading/fills", "trading/signals", "positions", "strategies"):
            assert client.get(f"/api/v1/{path}").json()["results"] == []
            assert client.get(f"/api/v1/{path}?account={cast.alices.pk}").json()["results"] == []
        assert {row["id"] for row in client.get("/api/v1/accounts").json()["results"]} == own
        assert client.get("/api/v1/positions/BTCUSDT").json() == []
        for method, path in (
            ("get", f"accounts/{cast.alices.pk}"),
            ("get", f"accounts/{cast.alices.pk}/equity"),
            ("get", f"trading/order/{order['id']}"),
            ("delete", f"trading/order/{order['id']}"),
            ("get", f"strategies/{config.pk}"),
            ("put", f"strategies/{config.pk}"),
            ("post", f"strategies/{config.pk}/enable"),
            ("post", f"strategies/{config.pk}/disable"),
        ):
            answer = getattr(client, method)(f"/api/v1/{path}", {}, format="json")
            assert answer.status_code == 404, path
            assert error(answer)["code"] == "not_found"
        body = ORDER | {"account": cast.alices.pk}
        assert client.post("/api/v1/trading/order", body, format="json").status_code == 404
    assert Order.objects.get().state == "new"


def test_a_viewer_sees_but_neither_trades_nor_configures(cast: Cast) -> None:
    order = cast.client(cast.alice).post("/api/v1/trading/order", ORDER, format="json").json()
    config, client = builders.strategy(cast.alices), cast.client(cast.vera)
    assert client.get(f"/api/v1/trading/order/{order['id']}").status_code == 200
    for answer in (
        client.post("/api/v1/trading/order", ORDER, format="json"),
        client.delete(f"/api/v1/trading/order/{order['id']}"),
        client.post(f"/api/v1/strategies/{config.pk}/enable"),
        client.put(f"/api/v1/strategies/{config.pk}", {"leverage": "5"}, format="json"),
    ):
        assert answer.status_code == 403 and error(answer)["message"]


def test_without_a_login_only_health_answers(cast: Cast) -> None:
    client = cast.client(None)
    for path in ("accounts", "positions", "trading/orders", "strategies", "market/symbols", "market/ticker/BTCUSDT"):
        assert client.get(f"/api/v1/{path}").status_code in (401, 403)
    assert client.get("/api/v1/health").status_code == 200


def test_a_token_logs_a_bot_in_and_a_wrong_password_does_not(cast: Cast) -> None:
    client = APIClient()
    wrong = client.post("/api/v1/auth/token", {"username": "alice", "password": "guess"}, format="json")
    assert wrong.status_code == 400
    given = client.post("/api/v1/auth/token", {"username": "alice", "password": "alice-password"}, format="json")
    client.credentials(HTTP_AUTHORIZATION=f"Token {given.json()['token']}")
    assert [row["id"] for row in client.get("/api/v1/accounts").json()["results"]] == [cast.alices.pk]


def test_strategies_change_whole_or_not_at_all(cast: Cast) -> None:
    config, client = builders.strategy(cast.alices), cast.client(cast.alice)
    bad = client.put(f"/api/v1/strategies/{config.pk}", {"leverage": "5", "parameters": {"period": 1}}, format="json")
    assert bad.status_code == 400 and error(bad)["fields"][0]["field"] == "parameters.period"
    config.refresh_from_db()
    assert (config.leverage, config.version) == (10, 1)
    good = client.put("/api/v1/strategies/trend", {"leverage": "5", "parameters": {"period": 14}}, format="json").json()
    assert (good["leverage"], good["parameters"]["period"], good["version"]) == ("5", 14, 2)
    assert client.post(f"/api/v1/strategies/{config.pk}/enable").json()["enabled"] is True
    assert client.post(f"/api/v1/strategies/{config.pk}/disable").json()["enabled"] is False


def test_positions_and_balances_are_exact_text(cast: Cast) -> None:
    fill_apply(account_id=cast.alices.pk, report=builders.fill_report(price=D("60000.1"), quantity=D("0.015")))
    report = WalletReport(D("100000.123456789"), D(100000), D(99000), D(90), D(4))
    wallet_apply(account_id=cast.alices.pk, report=report, snapshot=True)
    client = cast.client(cast.alice)
    position = client.get("/api/v1/positions").json()["results"][0]
    assert (position["quantity"], position["entry_price"], position["margin"]) == ("0.015", "60000.1", "90.00015000")
    assert client.get(f"/api/v1/accounts/{cast.alices.pk}").json()["equity"] == "100000.123456789"
    assert len(client.get(f"/api/v1/accounts/{cast.alices.pk}/equity").json()) == 1


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("market/candles/BTCUSDT?interval=7", "interval"),
        ("market/candles/BTCUSDT?limit=0", "limit"),
        ("market/candles/BTCUSDT?before=yesterday", "before"),
        ("trading/orders?state=happy", "state"),
        ("trading/orders?account=mine", "account"),
    ],
)
def test_a_wrong_parameter_is_named(cast: Cast, path: str, field: str) -> None:
    answer = cast.client(cast.alice).get(f"/api/v1/{path}")
    assert answer.status_code == 400 and error(answer)["fields"][0]["field"] == field


def test_an_unknown_symbol_or_endpoint_is_not_found_in_json(cast: Cast) -> None:
    client = cast.client(cast.alice)
    for path in ("market/candles/NOPE", "market/ticker/NOPE", "nothing/here"):
        answer = client.get(f"/api/v1/{path}")
        assert answer.status_code == 404 and error(answer)["code"] == "not_found"


def test_a_market_that_no_engine_feeds_says_so(cast: Cast) -> None:
    answer = cast.client(cast.alice).get("/api/v1/market/ticker/BTCUSDT")
    assert answer.status_code == 503 and "no engine feeds" in error(answer)["message"]


def test_lists_ask_the_database_a_fixed_number_of_times(cast: Cast, django_assert_max_num_queries: Any) -> None:
    client = cast.client(cast.alice)
    for number in range(12):
        order = client.post("/api/v1/trading/order", ORDER | {"client_order_id": f"n-{number}"}, format="json").json()
        order_take(
            order_id=order["id"],
            refusals=(),
            receive_window_ms=5000,
            owner=builders.ownership(order["account"]),
        )
        order_submission_apply(order_id=order["id"], result=SubmissionResult(Submission.ACCEPTED, f"v-{number}"))
    with django_assert_max_num_queries(4):
        assert len(client.get("/api/v1/trading/orders").json()["results"]) == 12


def test_health_names_what_is_down(cast: Cast) -> None:
    client = cast.client(None)
    assert client.get("/api/v1/health").json()["components"]["engine"]["status"] == "starting"
    feeds = {"bybit linear": {"connected": True, "books": {"LIVE": 3}}}
    heartbeat_record("engine", detail={"feeds": feeds, "accounts": {}})
    heartbeat_record("worker")
    heartbeat_record("beat")
    health = client.get("/api/v1/health").json()
    assert health["status"] == "ok" and health["components"]["venue"]["status"] == "ok"
    heartbeat_record("engine", detail={"feeds": {"bybit linear": {"connected": False}}, "accounts": {}})
    assert client.get("/api/v1/health").json()["components"]["venue"]["status"] == "degraded"


def test_health_tells_of_a_silent_engine_and_of_symbols_without_one(cast: Cast) -> None:
    client = cast.client(None)
    feeds = {"bybit linear": {"connected": True, "books": {"LIVE": 3}}}
    owner, other = {"7": {"state": "trading"}}, {"7": {"state": "waiting"}}
    heartbeat_record("engine", "1", detail={"feeds": feeds, "accounts": owner})
    heartbeat_record("engine", "2", detail={"feeds": feeds, "accounts": other})
    builders.lease("BTCUSDT")
    health = client.get("/api/v1/health").json()["components"]
    assert health["engine"]["status"] == health["venue"]["status"] == "ok"
    EngineSession.objects.update(ended=True)
    ComponentHeartbeat.objects.filter(instance="2").update(updated_at=timezone.now() - timedelta(seconds=30))
    detail = client.get("/api/v1/health").json()["components"]["engine"]["detail"]
    assert "engine 2: last sign of life 30 s ago" in detail and "no engine follows BTCUSDT" in detail


def test_engines_are_listed_with_their_symbols_and_lease_epochs(cast: Cast) -> None:
    builders.lease("BTCUSDT")
    EngineSession.objects.update(report={"BTCUSDT": ["LIVE", "60000"], "ETHUSDT": ["SYNCING", None]})
    assert cast.client(None).get("/api/v1/engines").status_code == 403
    (engine,) = cast.client(cast.alice).get("/api/v1/engines").json()
    assert engine["symbols"] == [{"symbol": "BTCUSDT", "epoch": 1, "state": "LIVE"}]
    assert (engine["name"], engine["standing_by"]) == ("test", ["ETHUSDT"])


def test_the_schema_is_valid_and_complete() -> None:
    output = StringIO()
    call_command("spectacular", "--validate", "--fail-on-warn", stdout=output)
    for path in ("trading/order:", "market/candles/{symbol}:", "strategies/{key}/enable:", "health:"):
        assert path in output.getvalue()
