"""A running engine whose Valkey or PostgreSQL is taken away: what must go on goes on, what must stop stops."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import pytest
import redis
from django.conf import settings
from django.db import connection

from audit.engine_memory import EngineMemory
from audit.models import ComponentHeartbeat
from tests import builders
from tests.cut import Wire
from tests.trading.resilience.own_valkey import OwnValkey
from trading.lifecycle import OrderState
from trading.models import Account, Fill, Order
from trading.services.orders import order_place
from trading.simulator.keys import DEMO_KEYS

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]
D = Decimal
Starter = Callable[..., Any]


def until(question: Callable[[], Any], seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := question():
            return answer
        time.sleep(0.1)  # other processes write: they can only be asked again
    raise AssertionError(f"it did not happen within {seconds:g} s")


@pytest.fixture
def account(transactional_db: None) -> Account:
    builders.list_instruments()
    return builders.account(builders.user("alice"), key=DEMO_KEYS["alice"])


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[OwnValkey]:
    server = OwnValkey(tmp_path)
    yield server
    server.kill()


@pytest.fixture
def wire() -> Iterator[Wire]:
    """To the test's database."""
    place = connection.settings_dict
    with Wire((place["HOST"], int(place["PORT"]))) as made:
        yield made


def place(account: Account, identifier: str) -> Order:
    values: dict[str, Any] = {"symbol": "BTCUSDT", "side": "Buy", "order_type": "Market", "quantity": D("0.01")}
    return order_place(account=account, actor="alice", client_order_id=identifier, **values)


def state_of(order: Order) -> str:
    return Order.objects.values_list("state", flat=True).get(pk=order.pk)


def trades(account: Account) -> bool:
    row = ComponentHeartbeat.objects.filter(component="engine", status="ok").first()
    return row is not None and row.detail["accounts"].get(str(account.pk), {}).get("state") == "trading"


def budget() -> dict[str, Any]:
    row = ComponentHeartbeat.objects.filter(component="venue access", instance="engine 1").first()
    return row.detail["budget"] if row is not None else {}


@pytest.mark.long
def test_without_valkey_orders_go_out_fills_are_booked_and_the_engine_says_how_it_goes_on(
    account: Account, start_process: Starter, start_simulator: Starter, own_valkey: OwnValkey
) -> None:
    venue = start_simulator("--symbols", "3")
    start_process("runengine", SIMULATOR_URL=venue.url, REDIS_URL=own_valkey.url)
    until(lambda: trades(account), 90)
    own_valkey.kill()
    began = time.monotonic()
    orders = [place(account, f"without-valkey-{number}") for number in range(3)]
    until(lambda: {state_of(order) for order in orders} == {OrderState.FILLED})
    assert time.monotonic() - began < 30
    assert Fill.objects.filter(order__in=orders).count() >= 3
    until(lambda: budget().get("mode") == "local")
    assert trades(account)
    own_valkey.start_again()
    until(lambda: budget().get("mode") == "shared")
    after = place(account, "with-valkey-again")
    until(lambda: state_of(after) == OrderState.FILLED)


def test_without_postgresql_no_order_goes_out_and_positions_are_watched_from_memory_until_it_is_back(
    account: Account, start_process: Starter, start_simulator: Starter, wire: Wire, process_environment: dict[str, str]
) -> None:
    venue = start_simulator("--symbols", "3")
    parts = urlsplit(process_environment["DATABASE_URL"])
    user = f"{quote(parts.username or '')}:{quote(parts.password or '', safe='')}"
    through_the_wire = urlunsplit(parts._replace(netloc=f"{user}@127.0.0.1:{wire.port}"))
    engine = start_process("runengine", SIMULATOR_URL=venue.url, DATABASE_URL=through_the_wire)
    until(lambda: trades(account), 90)
    bought = place(account, "before")
    until(lambda: state_of(bought) == OrderState.FILLED)
    memory = EngineMemory(settings.REDIS_URL, settings.REDIS_PREFIX)

    def watched() -> list[dict[str, Any]]:
        try:
            return memory.read()["1"]["detail"]["accounts"][str(account.pk)]["positions"]
        except (KeyError, redis.RedisError):
            return []

    until(lambda: [row["quantity"] for row in watched()] == ["0.01"])
    wire.cut()
    cut_at = time.time()
    waiting = place(account, "while-away")
    words = until(lambda: (found := memory.read().get("1")) and found["at"] > cut_at + 5 and found)
    (held,) = words["detail"]["accounts"][str(account.pk)]["positions"]
    assert (held["symbol"], held["side"], held["quantity"]) == ("BTCUSDT", "Buy", "0.01")
    assert words["detail"]["accounts"][str(account.pk)]["state"] != "trading"
    # The mark is the market's, not the one of the moment when the database went.
    first = D(held["mark_price"])
    until(lambda: watched() and D(watched()[0]["mark_price"]) != first)
    assert state_of(waiting) == OrderState.NEW and engine.process.poll() is None
    wire.mend()
    until(lambda: state_of(waiting) in (OrderState.FILLED, OrderState.EXPIRED))
    until(lambda: trades(account))
    again = place(account, "after")
    until(lambda: state_of(again) == OrderState.FILLED)
