"""Engines share the symbols, with real processes: one is killed, paused, added, and the database is cut off."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from decimal import ROUND_UP, Decimal
from typing import Any

import psycopg
import psycopg.sql
import pytest
from asgiref.sync import SyncToAsync
from django.conf import settings
from django.db import connection, connections
from django.db.models import Max
from django.utils import timezone

from audit.models import ComponentHeartbeat
from marketdata.models import Instrument
from marketdata.selectors import latest_frame
from strategies.models import Signal
from strategies.services import strategy_config_create, strategy_enable
from tests import builders
from tests.processes import RunningProcess, ServerProcess, until
from trading.lifecycle import OrderState
from trading.models import Account, EngineSession, Lease, Order
from trading.services.order_commits import INTENT_LIFETIME
from trading.services.orders import order_place
from trading.simulator.keys import DEMO_KEYS

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]
D = Decimal
Starter = Callable[..., Any]
SYMBOLS = 6


@pytest.fixture
def account(transactional_db: None) -> Account:
    builders.list_instruments()
    return builders.account(builders.user("alice"), key=DEMO_KEYS["alice"])


@pytest.fixture
def venue(start_simulator: Starter) -> ServerProcess:
    return start_simulator("--symbols", str(SYMBOLS), "--seed", "5")


@pytest.fixture
def start_engine(start_process: Starter, venue: ServerProcess) -> Callable[[str], RunningProcess]:
    return lambda name: start_process("runengine", "--name", name, SIMULATOR_URL=venue.url)


def held() -> dict[str, list[str]]:
    """The symbols of each living engine, those only whose book is LIVE there."""
    found: dict[str, list[str]] = {}
    living = Lease.objects.filter(
        resource__startswith="symbol:", session__ended=False, session__expires_at__gt=timezone.now()
    )
    for lease in living.select_related("session").order_by("resource"):
        symbol = lease.resource.removeprefix("symbol:")
        state, price = lease.session.report.get(symbol, ["", None])
        if state == "LIVE" and price:
            found.setdefault(lease.session.name, []).append(symbol)
    return found


def shares(expected: dict[str, int]) -> bool:
    return {name: len(symbols) for name, symbols in held().items()} == expected


def epochs() -> dict[str, int]:
    return dict(Lease.objects.filter(resource__startswith="symbol:").values_list("resource", "epoch"))


def trade_everywhere(account: Account) -> None:
    """A strategy that signals every second or so on each symbol; the smallest orders that there are."""
    symbols = [resource.removeprefix("symbol:") for resource in epochs()]
    config = strategy_config_create(
        account=account,
        name="imbalance",
        strategy="scalping.imbalance",
        symbols=symbols,
        parameters={"threshold": 0.55, "hold_ms": 0, "cooldown_s": 1},
        sizing_mode="fixed_usd",
        sizing_value=D(20),
        leverage=D(10),
        actor="alice",
    )
    strategy_enable(config=config, actor="alice")


def quantity_worth(symbol: str, usd: Decimal) -> Decimal:
    """The number of whole lots that are worth at least as much, at the price that the symbol's engine reports."""
    instrument = Instrument.objects.get(symbol=symbol)
    price = D(str(Lease.objects.get(resource=f"symbol:{symbol}").session.report[symbol][1]))
    lots = (usd / price / instrument.lot_size).to_integral_value(ROUND_UP)
    return max(lots * instrument.lot_size, instrument.min_quantity)


def owner_of(account: Account) -> str:
    """The engine that owns the account and trades it; empty while there is none."""
    for beat in ComponentHeartbeat.objects.filter(component="engine"):
        told = beat.detail.get("accounts", {}).get(str(account.pk), {})
        if told.get("state") == "trading" and timezone.now() - beat.updated_at < timedelta(seconds=4):
            return beat.instance
    return ""


@pytest.fixture
def two_engines(
    account: Account, start_engine: Callable[[str], RunningProcess]
) -> tuple[RunningProcess, RunningProcess, str, str]:
    """The one that owns the account, and the other; then their names. They have half of the symbols each."""
    started = {name: start_engine(name) for name in ("1", "2")}
    until(lambda: set(held()) == {"1", "2"} and {len(symbols) for symbols in held().values()} == {SYMBOLS // 2}, 90)
    owner = until(lambda: owner_of(account))
    other = "2" if owner == "1" else "1"
    return started[owner], started[other], owner, other


def test_an_engine_takes_over_what_a_killed_one_held_and_keeps_its_books_while_the_database_is_away(
    account: Account,
    two_engines: tuple[RunningProcess, RunningProcess, str, str],
    record_testsuite_property: Callable[[str, Any], None],
) -> None:
    owner, other, owners_name, others_name = two_engines
    shared = held()
    # A person trades a symbol that the account's owner does not follow: risk has its price from the other engine.
    symbol = shared[others_name][0]
    quantity = quantity_worth(symbol, D(50))
    placed = order_place(
        account=account, actor="alice", symbol=symbol, side="Buy", order_type="Market", quantity=quantity
    )
    ended = until(lambda: Order.objects.filter(pk=placed.pk).exclude(state__in=["new", *Order.live_states()]).first())
    assert (ended.state, ended.refusal) == (OrderState.FILLED, "")
    # Strategies trade both engines' symbols on it: the owner judges its own signals, and those left to it.
    trade_everywhere(account)
    handed = Order.objects.filter(signal__symbol__in=shared[others_name], state=OrderState.FILLED)
    local = Order.objects.filter(signal__symbol__in=shared[owners_name], state=OrderState.FILLED)
    until(lambda: handed.exists() and local.exists())
    assert {order.signal.reference_price is None for order in handed.select_related("signal")} == {False}
    assert {order.signal.reference_price is None for order in local.select_related("signal")} == {True}

    before, newest = epochs(), Signal.objects.aggregate(Max("pk"))["pk__max"]
    owner.kill()
    killed = time.monotonic()
    until(lambda: shares({others_name: SYMBOLS}))
    record_testsuite_property("take_over_after_kill_seconds", round(time.monotonic() - killed, 2))
    changed = {resource for resource, epoch in epochs().items() if epoch != before[resource]}
    assert changed == {f"symbol:{symbol}" for symbol in shared[owners_name]}
    taken = Signal.objects.filter(pk__gt=newest, symbol__in=shared[owners_name], outcome="ordered")
    until(taken.exists)
    record_testsuite_property("first_order_seconds", round(time.monotonic() - killed, 2))
    nothing_twice()

    with database_cut():
        frame = until(lambda: latest_frame("BTCUSDT"))
        until(lambda: latest_frame("BTCUSDT")["data"]["u"] > frame["data"]["u"] + 10)
        time.sleep(settings.LEASE_SECONDS)  # nothing can be awaited: that nothing happens is what is wanted
        assert latest_frame("BTCUSDT")["data"]["state"] == "LIVE"
    before, newest = epochs(), Signal.objects.aggregate(Max("pk"))["pk__max"]
    until(lambda: shares({others_name: SYMBOLS}))
    assert epochs() == {resource: epoch + 1 for resource, epoch in before.items()}
    assert "has ended: it was not renewed in time" in log_of(other)
    until(lambda: Signal.objects.filter(pk__gt=newest, outcome="ordered").exists())
    nothing_twice()


def test_a_paused_engine_wakes_up_without_its_symbols_and_a_new_one_gets_its_share_without_a_gap(
    account: Account,
    start_engine: Callable[[str], RunningProcess],
    two_engines: tuple[RunningProcess, RunningProcess, str, str],
    record_testsuite_property: Callable[[str, Any], None],
) -> None:
    _, other, owners_name, others_name = two_engines
    lost = held()[others_name]
    trade_everywhere(account)
    until(Signal.objects.filter(symbol__in=lost, outcome="ordered").exists)

    other.process.send_signal(signal.SIGSTOP)
    paused = time.monotonic()
    try:
        until(lambda: shares({owners_name: SYMBOLS}))
        record_testsuite_property("take_over_after_pause_seconds", round(time.monotonic() - paused, 2))
        newer = [epoch for resource, epoch in epochs().items() if resource.removeprefix("symbol:") in lost]
        until(Signal.objects.filter(symbol__in=lost, lease_epoch__in=newer).exists)
    finally:
        other.process.send_signal(signal.SIGCONT)
    until(lambda: EngineSession.objects.filter(name=others_name).count() == 2)
    assert "has ended: it was not renewed in time" in log_of(other)

    # It gets a share back, and a third engine its own, from those who hold it.
    until(lambda: shares({owners_name: 3, others_name: 3}), 20)
    nothing_twice()
    before = epochs()
    start_engine("3")
    with never_without_an_engine():
        until(lambda: shares(dict.fromkeys("123", SYMBOLS // 3)), 60)
    changed = {resource for resource, epoch in epochs().items() if epoch != before[resource]}
    moved = held()["3"]
    assert changed == {f"symbol:{symbol}" for symbol in moved}
    until(lambda: Signal.objects.filter(symbol__in=moved, lease_epoch__in=epochs().values()).exists())
    nothing_twice()


@contextmanager
def never_without_an_engine() -> Iterator[None]:
    """Asked again and again from a connection of its own, until what is inside ends."""
    stop = threading.Event()

    def ask() -> None:
        with other_connection() as watcher:
            while not stop.is_set():
                row = watcher.execute(
                    "SELECT count(*) FROM trading_lease JOIN trading_enginesession AS session"
                    " ON session.id = session_id WHERE NOT ended AND expires_at > statement_timestamp()"
                    " AND resource LIKE 'symbol:%'"
                ).fetchone()
                assert row is not None
                owned.append(row[0])
                stop.wait(0.005)

    owned: list[int] = []
    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert len(owned) > 20 and set(owned) == {SYMBOLS}


@contextmanager
def database_cut() -> Iterator[None]:
    """Nobody but this test's own connection reaches the database, as when it restarts or the network parts."""
    connection.ensure_connection()
    name = connection.settings_dict["NAME"]
    database = psycopg.sql.Identifier(name)
    with other_connection("postgres") as server:
        server.execute(
            psycopg.sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(psycopg.sql.Identifier(name))
        )
        try:
            # Asynchronous tests before this one left a connection in asgiref's thread: the next would find it dead.
            SyncToAsync.single_thread_executor.submit(connections.close_all).result()
            server.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> %s",
                [name, connection.connection.info.backend_pid],
            )
            yield
        finally:
            server.execute(psycopg.sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(database))


def other_connection(database: str = "") -> psycopg.Connection[Any]:
    place = connection.settings_dict
    return psycopg.connect(
        host=place["HOST"],
        port=place["PORT"],
        user=place["USER"],
        password=place["PASSWORD"],
        dbname=database or place["NAME"],
        autocommit=True,
    )


def log_of(engine: RunningProcess) -> str:
    return engine.log.read_text(errors="replace")


def nothing_twice() -> None:
    """Each order has its own signal, each signal at most one order, and all were made under the lease of their time."""
    assert not Signal.objects.filter(outcome="pending", recorded_at__lt=timezone.now() - INTENT_LIFETIME).exists()
    # In one query: engines go on ordering meanwhile.
    ordered = list(Order.objects.exclude(signal=None).values_list("signal", flat=True))
    assert len(ordered) == len(set(ordered))
    newest = 0
    for symbol in Signal.objects.values_list("symbol", flat=True).distinct():
        rows = Signal.objects.filter(symbol=symbol).order_by("recorded_at").values_list("lease_epoch", flat=True)
        assert list(rows) == sorted(rows), f"{symbol}: a signal of an older lease after one of a newer"
        newest = max(newest, rows.last() or 0)
    assert newest
