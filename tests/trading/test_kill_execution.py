"""What a kill switch does on one account, round by round, against the simulator."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest

from audit.models import Alert
from marketdata.instruments import rules_from_bybit
from marketdata.models import Instrument
from marketdata.services import instruments_sync
from tests import builders
from tests.processes import ServerProcess
from tests.trading.test_account_desk import control, unused, venue
from trading.credentials import decrypt
from trading.gateways.base import OrderRequest
from trading.gateways.bybit import BybitEndpoints, BybitGateway
from trading.models import Account, KillSwitchTask, Order
from trading.reports import Submission
from trading.runtime.kill_execution import KillExecution
from trading.runtime.ownership import AccountLease, kept
from trading.services.kill_switch import kill_switch_engage
from trading.simulator.instruments import INSTRUMENTS

pytestmark = pytest.mark.django_db(transaction=True)
__all__ = ["venue"]
D = Decimal


@pytest.fixture
def account(transactional_db: None) -> Account:
    builders.list_instruments()
    return builders.account(builders.user("alice"), key=next(unused))


@pytest.fixture
def lease(account: Account) -> Iterator[AccountLease]:
    lease = AccountLease(account.pk, "test")
    assert lease.acquire()
    with kept(lease):
        yield lease


@pytest.fixture
def gateway(account: Account, venue: ServerProcess, lease: AccountLease) -> BybitGateway:
    endpoints = BybitEndpoints(venue.url, venue.websocket_url)
    return BybitGateway(endpoints, *decrypted(account), fence=lease.refusal, priority="kill")


def decrypted(account: Account) -> tuple[str, str]:
    return decrypt(account.api_key_encrypted), decrypt(account.api_secret_encrypted)


def request(identifier: str, **changes: Any) -> OrderRequest:
    values: dict[str, Any] = {"client_order_id": identifier, "symbol": "BTCUSDT", "side": "Buy"}
    values |= {"order_type": "Market", "time_in_force": "IOC", "quantity": D("0.03"), "price": None}
    return OrderRequest(**(values | {"reduce_only": False, "take_profit": None, "stop_loss": None} | changes))


def open_something(gateway: BybitGateway) -> None:
    """A long, a short, and an order far below the market."""
    assert gateway.submit(request("long")).outcome is Submission.ACCEPTED
    assert gateway.submit(request("short", symbol="ETHUSDT", side="Sell", quantity=D("0.3"))).venue_order_id
    resting = request("resting", order_type="Limit", time_in_force="GTC", price=D("30000.0"), quantity=D("0.001"))
    assert gateway.submit(resting).outcome is Submission.ACCEPTED
    until(lambda: len(held(gateway)) == 2)


def held(gateway: BybitGateway) -> list[str]:
    return sorted(report.symbol for report in gateway.positions() if report.quantity)


def until(question: Callable[[], Any], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < deadline, f"it did not happen within {seconds:g} s"
        time.sleep(0.05)


def carry_out(account: Account, gateway: BybitGateway, lease: AccountLease, seconds: float = 40.0) -> KillSwitchTask:
    execution = KillExecution(account.pk, gateway, lease, "test")
    deadline = time.monotonic() + seconds
    while (pause := execution.step()) is not None:
        assert time.monotonic() < deadline, KillSwitchTask.objects.get().trouble
        time.sleep(pause)
    return KillSwitchTask.objects.get(account=account)


def test_everything_is_cancelled_and_closed_by_orders_with_the_switchs_name(
    account: Account, gateway: BybitGateway, lease: AccountLease
) -> None:
    open_something(gateway)
    switch = kill_switch_engage(account=account, actor="alice", reason="a test")
    task = carry_out(account, gateway, lease)
    assert (task.phase, task.open_orders, task.open_positions, task.trouble) == ("done", 0, 0, "")
    assert held(gateway) == [] and gateway.open_orders() == []
    closing = Order.objects.filter(strategy="kill_switch").order_by("client_order_id")
    assert [(order.client_order_id, order.side, order.state, order.reduce_only) for order in closing] == [
        (f"kill-{switch.pk}-BTCUSDT-1", "Sell", "filled", True),
        (f"kill-{switch.pk}-ETHUSDT-1", "Buy", "filled", True),
    ]
    assert Alert.objects.filter(kind="kill_switch_done", account_id=account.pk).exists()


def test_positions_are_closed_even_while_nobody_can_say_which_orders_are_open(
    account: Account, gateway: BybitGateway, lease: AccountLease, venue: ServerProcess
) -> None:
    open_something(gateway)
    kill_switch_engage(account=account, actor="alice", reason="a test")
    asyncio.run(control(venue, "faults", endpoint="/v5/order/realtime", kind="http_status", value=502, every=1))
    execution = KillExecution(account.pk, gateway, lease, "test")
    until(lambda: execution.step() is not None and held(gateway) == [])
    assert "open orders" in KillSwitchTask.objects.get().trouble
    asyncio.run(control(venue, "faults", method="DELETE"))
    task = carry_out(account, gateway, lease)
    assert task.phase == "done" and task.trouble == ""


def test_what_is_larger_than_one_market_order_is_closed_by_several(
    account: Account, gateway: BybitGateway, lease: AccountLease
) -> None:
    assert gateway.submit(request("long")).outcome is Submission.ACCEPTED
    until(lambda: held(gateway) == ["BTCUSDT"])
    Instrument.objects.filter(symbol="BTCUSDT").update(max_market_quantity=D("0.012"))
    kill_switch_engage(account=account, actor="alice", reason="a test")
    carry_out(account, gateway, lease)
    closing = Order.objects.filter(strategy="kill_switch").order_by("pk")
    assert [order.quantity for order in closing] == [D("0.012"), D("0.012"), D("0.006")]
    assert held(gateway) == []


def test_a_position_in_an_instrument_that_we_do_not_know_is_closed_too(
    transactional_db: None, venue: ServerProcess
) -> None:
    instruments_sync([rules_from_bybit(INSTRUMENTS[0].listing(), "linear")])
    account = builders.account(builders.user("alice"), key=next(unused))
    lease = AccountLease(account.pk, "test")
    assert lease.acquire()
    with kept(lease):
        endpoints = BybitEndpoints(venue.url, venue.websocket_url)
        gateway = BybitGateway(endpoints, *decrypted(account), fence=lease.refusal, priority="kill")
        assert gateway.submit(request("short", symbol="ETHUSDT", side="Sell", quantity=D("0.3"))).venue_order_id
        until(lambda: held(gateway) == ["ETHUSDT"])
        switch = kill_switch_engage(account=account, actor="alice", reason="a test")
        assert carry_out(account, gateway, lease).phase == "done"
        assert held(gateway) == []
        assert gateway.find_order("ETHUSDT", f"kill-{switch.pk}-ETHUSDT-1") is not None


def test_positions_stay_where_only_orders_were_to_be_cancelled(
    account: Account, gateway: BybitGateway, lease: AccountLease
) -> None:
    open_something(gateway)
    kill_switch_engage(account=account, actor="alice", reason="a test", closes_positions=False)
    task = carry_out(account, gateway, lease)
    assert (task.phase, task.open_orders, task.open_positions) == ("done", 0, None)
    assert gateway.open_orders() == [] and held(gateway) == ["BTCUSDT", "ETHUSDT"]


def test_whoever_has_lost_the_account_closes_nothing(
    account: Account, gateway: BybitGateway, lease: AccountLease
) -> None:
    open_something(gateway)
    kill_switch_engage(account=account, actor="alice", reason="a test")
    builders.ownership(account.pk)
    KillExecution(account.pk, gateway, lease, "test").step()
    assert held(gateway) == ["BTCUSDT", "ETHUSDT"]
    assert not Order.objects.filter(strategy="kill_switch").exists()
