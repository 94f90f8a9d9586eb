"""The whole path with real processes: market in, signal, order committed, sent through pybit, filled, booked."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from audit.models import AuditEvent, ComponentHeartbeat
from audit.selectors import chain_break
from marketdata.feeds.recorded import read_recording
from marketdata.models import FeedEvent
from strategies.models import Signal
from strategies.services import strategy_config_create, strategy_disable, strategy_enable
from tests import builders
from tests.processes import ServerProcess, until
from tests.recordings import bybit_session
from trading.lifecycle import OrderState
from trading.models import Account, Fill, Order, Position, PositionExit
from trading.services.leases import account_owned
from trading.services.orders import order_cancel_request, order_place
from trading.simulator.keys import DEMO_KEYS

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]
D = Decimal
Starter = Callable[..., Any]


@pytest.fixture
def account(transactional_db: None) -> Account:
    builders.list_instruments()
    return builders.account(builders.user("alice"), key=DEMO_KEYS["alice"])


def engine_detail() -> dict[str, Any]:
    row = ComponentHeartbeat.objects.filter(component="engine", status="ok").first()
    return row.detail if row is not None else {}


def trades(account: Account) -> bool:
    return engine_detail().get("accounts", {}).get(str(account.pk), {}).get("state") == "trading"


def control(venue: ServerProcess, what: str, **body: Any) -> None:
    request = urllib.request.Request(f"{venue.url}/simulator/control/{what}", data=json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert json.loads(answer.read())["retCode"] == 0


def place(account: Account, identifier: str, **changes: Any) -> Order:
    values: dict[str, Any] = {"symbol": "BTCUSDT", "side": "Buy", "order_type": "Market", "quantity": D("0.01")}
    return order_place(account=account, actor="alice", client_order_id=identifier, **(values | changes))


def state_of(order: Order) -> str:
    return Order.objects.values_list("state", flat=True).get(pk=order.pk)


def test_orders_of_people_and_strategies_reach_the_venue_and_come_back_as_fills(
    account: Account, start_process: Starter, start_simulator: Starter
) -> None:
    venue = start_simulator("--symbols", "3", "--seed", "5")
    start_process("runengine", SIMULATOR_URL=venue.url)
    until(lambda: trades(account), 90)

    bought = place(account, "by-hand")
    until(lambda: state_of(bought) == OrderState.FILLED)
    position = Position.objects.exclude(state="closed").get()
    assert (position.side, position.quantity) == ("Buy", D("0.01"))

    resting = place(account, "resting", order_type="Limit", price=D("50000.0"), quantity=D("0.001"))
    until(lambda: state_of(resting) == OrderState.ACKNOWLEDGED)
    order_cancel_request(order=resting, actor="alice")
    until(lambda: state_of(resting) == OrderState.CANCELLED)

    # The answer is lost after the venue took the order: it must be found, never sent twice.
    control(venue, "faults", endpoint="/v5/order/create", kind="lose_answer")
    lost = place(account, "lost", order_type="Limit", price=D("50000.0"), quantity=D("0.002"))
    until(lambda: state_of(lost) == OrderState.ACKNOWLEDGED)

    config = strategy_config_create(
        account=account,
        name="imbalance",
        strategy="scalping.imbalance",
        symbols=["ETHUSDT", "SOLUSDT"],
        parameters={"threshold": 0.55, "hold_ms": 0, "cooldown_s": 1},
        sizing_mode="fixed_usd",
        sizing_value=D(20),
        leverage=D(10),
        actor="alice",
    )
    strategy_enable(config=config, actor="alice")
    signal = until(lambda: Signal.objects.filter(outcome="ordered").first())
    order = until(lambda: Order.objects.filter(signal=signal, state=OrderState.FILLED).first())
    assert order.trace_id == signal.trace_id and "share" in order.reason
    assert Fill.objects.filter(order=order).exists()
    strategy_disable(config=config, actor="alice")

    # The venue's stream breaks: the account is reconciled anew, a skipped book update leads to a new snapshot.
    control(venue, "disconnect", which="private")
    control(venue, "skip_update", symbol="BTCUSDT")
    until(lambda: engine_detail()["feeds"]["bybit linear"]["gaps"] >= 1)
    until(lambda: FeedEvent.objects.filter(kind="GAP_DETECTED", venue="bybit", symbol="BTCUSDT").exists())
    until(lambda: engine_detail()["feeds"]["binance usdm"]["books"]["LIVE"] == 3)
    until(lambda: engine_detail()["feeds"]["bybit linear"]["books"]["LIVE"] == 3 and trades(account))
    again = place(account, "after-reconnect", side="Sell", reduce_only=True)
    until(lambda: state_of(again) == OrderState.FILLED)
    assert not Position.objects.filter(instrument__symbol="BTCUSDT").exclude(state="closed").exists()
    assert chain_break(f"account:{account.pk}") is None
    assert not AuditEvent.objects.filter(action="order.illegal_transition").exists()


def test_an_engine_that_dies_leaves_orders_and_trailing_levels_to_the_next_one(
    account: Account, start_process: Starter, start_simulator: Starter, tmp_path: Path
) -> None:
    venue = start_simulator("--symbols", "3")
    first = start_process("runengine", SIMULATOR_URL=venue.url, RECORD_DIR=str(tmp_path / "recorded"))
    until(lambda: trades(account), 90)
    bought = place(account, "by-hand")
    until(lambda: state_of(bought) == OrderState.FILLED)
    state = until(lambda: PositionExit.objects.filter(account=account).first())
    resting = place(account, "resting", order_type="Limit", price=D("50000.0"), quantity=D("0.001"))
    until(lambda: state_of(resting) == OrderState.ACKNOWLEDGED)
    first.kill()
    (recorded,) = (tmp_path / "recorded").glob("*.zst")
    assert {"connect", "recv", "http"} <= {line.kind for line in read_recording(recorded)}
    # As if the price had come far, and fallen back while nobody looked.
    PositionExit.objects.filter(pk=state.pk).update(stop_price=state.best_price * 2, best_price=state.best_price * 3)
    # A minute of the dead engine's heartbeat must not pass for the new one's.
    ComponentHeartbeat.objects.all().delete()
    stale = place(account, "while-down", order_type="Limit", price=D("50000.0"), quantity=D("0.001"))
    start_process("runengine", SIMULATOR_URL=venue.url)
    until(lambda: trades(account), 60)
    until(lambda: state_of(stale) in (OrderState.ACKNOWLEDGED, OrderState.EXPIRED))
    assert state_of(resting) == OrderState.ACKNOWLEDGED
    assert account_owned(account.pk)
    until(lambda: Position.objects.get(pk=state.position_id).state == "closed", 90)
    (closed,) = Order.objects.filter(account=account, reduce_only=True)
    assert closed.reason.startswith("trailing_stop:") and closed.actor == "risk"
    assert closed.quantity == D("0.01")
    until(lambda: state_of(closed) == OrderState.FILLED)


@pytest.mark.recording
def test_the_recorded_session_is_a_market_to_trade_on(
    account: Account, start_process: Starter, start_simulator: Starter
) -> None:
    venue = start_simulator("--market", str(bybit_session()))
    start_process("runengine", SIMULATOR_URL=venue.url)
    until(lambda: trades(account), 90)
    until(lambda: engine_detail()["feeds"]["bybit linear"]["books"].get("LIVE") == 2)
    order = place(account, "on-the-recording")
    until(lambda: state_of(order) == OrderState.FILLED)
    before = engine_detail()["feeds"]["bybit linear"]
    until(lambda: engine_detail()["feeds"]["bybit linear"]["book"] > before["book"] + 50)
    after = engine_detail()["feeds"]["bybit linear"]
    assert (after["gaps"], after["refused"], after["unreadable"]) == (0, 0, 0)
