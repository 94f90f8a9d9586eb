"""Owners and kill switches with real processes: killed, paused, cut off, at each step; nothing is sent twice."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from audit.models import Alert, AuditEvent, ComponentHeartbeat
from audit.selectors import chain_break
from platform_site.degraded_modes import degraded_modes
from platform_site.health import components
from tests import builders
from tests.processes import RunningProcess, ServerProcess, until
from tests.trading.test_engine import control, place, state_of
from tests.trading.test_shards import database_cut
from trading.gateways.bybit import BybitEndpoints, BybitGateway
from trading.lifecycle import TERMINAL, OrderState
from trading.models import Account, DeadManWatch, EngineSession, KillSwitch, KillSwitchTask, Lease, Order
from trading.runtime.emergency import import_journal
from trading.services.kill_switch import dead_man_set, kill_switch_engage, kill_switch_rearm
from trading.services.leases import account_owned, account_resource
from trading.simulator.keys import DEMO_KEYS
from trading.tasks import carry_out_kill_switch, watch_engines

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True), pytest.mark.timeout(240)]
D = Decimal
Starter = Callable[..., Any]
FAR = D("50000.0")


@pytest.fixture
def account(transactional_db: None) -> Account:
    builders.list_instruments()
    return builders.account(builders.user("alice"), key=DEMO_KEYS["alice"])


@pytest.fixture
def venue(start_simulator: Starter) -> ServerProcess:
    return start_simulator("--symbols", "3", "--seed", "5")


@pytest.fixture
def gateway(venue: ServerProcess) -> BybitGateway:
    """The account seen from outside, by a client of nobody's."""
    return gateway_at(venue, "alice")


def gateway_at(venue: ServerProcess, name: str) -> BybitGateway:
    key = DEMO_KEYS[name]
    return BybitGateway(BybitEndpoints(venue.url, venue.websocket_url), key.api_key, key.api_secret)


@pytest.fixture
def data_folder(tmp_path: Any, settings: Any) -> str:
    settings.DATA_DIR = tmp_path / "data"
    return str(settings.DATA_DIR)


@pytest.fixture
def start_engine(start_process: Starter, venue: ServerProcess, data_folder: str) -> Callable[..., RunningProcess]:
    def start(name: str, **environment: str) -> RunningProcess:
        environment = {"SIMULATOR_URL": venue.url, "BALLAST_DATA_DIR": data_folder} | environment
        return start_process("runengine", "--name", name, **environment)

    return start


@pytest.fixture
def command(start_process: Starter, venue: ServerProcess, data_folder: str) -> Callable[..., RunningProcess]:
    return lambda *words, **environment: start_process(
        "kill_switch", *words, **({"SIMULATOR_URL": venue.url, "BALLAST_DATA_DIR": data_folder} | environment)
    )


def trading_engine(account: Account) -> str:
    for beat in ComponentHeartbeat.objects.filter(component="engine"):
        told = beat.detail.get("accounts", {}).get(str(account.pk), {})
        if told.get("state") == "trading" and timezone.now() - beat.updated_at < timedelta(seconds=4):
            return beat.instance
    return ""


def holder(account: Account) -> str:
    living = Lease.objects.filter(session__ended=False, session__expires_at__gt=timezone.now())
    row = living.filter(resource=account_resource(account.pk)).select_related("session").first()
    return row.session.name.partition(":")[0] if row is not None else ""


def with_a_position_and_an_order(account: Account) -> None:
    bought = place(account, "bought", quantity=D("0.03"))
    resting = place(account, "resting", order_type="Limit", price=FAR, quantity=D("0.001"))
    until(lambda: state_of(bought) == OrderState.FILLED and state_of(resting) == OrderState.ACKNOWLEDGED)


def flat(gateway: BybitGateway) -> bool:
    return not gateway.open_orders() and not [report for report in gateway.positions() if report.quantity]


def done(account: Account) -> bool:
    tasks = KillSwitchTask.objects.filter(account=account)
    return tasks.exists() and not tasks.exclude(phase="done").exists()


def nothing_twice(account: Account, gateway: BybitGateway) -> None:
    """What was bought was sold once: more closing fills than position would have turned it around, or been refused."""
    fills = {fill.execution_id: fill for fill in gateway.fills_since(int((time.time() - 3600) * 1000))}
    bought = sum((fill.quantity for fill in fills.values() if fill.side == "Buy"), D(0))
    sold = sum((fill.quantity for fill in fills.values() if fill.side == "Sell"), D(0))
    assert bought == sold
    names = Counter(order.client_order_id for order in Order.objects.filter(account=account))
    assert max(names.values()) == 1
    assert chain_break(f"account:{account.pk}") is None
    assert not AuditEvent.objects.filter(action="order.illegal_transition").exists()


def seconds_of(account: Account) -> float:
    task = KillSwitchTask.objects.select_related("switch").filter(account=account).latest("pk")
    assert task.done_at is not None
    return round((task.done_at - task.switch.engaged_at).total_seconds(), 2)


# The owner.


@pytest.mark.long
def test_a_killed_owner_is_followed_within_ten_seconds_and_a_paused_one_wakes_up_without_the_account(
    account: Account,
    start_engine: Callable[[str], RunningProcess],
    gateway: BybitGateway,
    record_testsuite_property: Callable[[str, Any], None],
) -> None:
    engines = {name: start_engine(name) for name in ("1", "2")}
    first = until(lambda: trading_engine(account), 90)
    until(lambda: ComponentHeartbeat.objects.filter(component="engine", status="ok").count() == 2, 60)
    other = "2" if first == "1" else "1"

    # Paused with an order in its hands: recorded while it sleeps, sent by whoever is awake.
    engines[first].process.send_signal(signal.SIGSTOP)
    paused = time.monotonic()
    placed = [place(account, f"paused-{n}", order_type="Limit", price=FAR + n, quantity=D("0.001")) for n in range(5)]
    try:
        until(lambda: holder(account) == other, 60)
        taken = round(time.monotonic() - paused, 2)
        record_testsuite_property("account_taken_after_pause_seconds", taken)
        assert taken < 10
        until(lambda: all(state_of(order) == OrderState.ACKNOWLEDGED for order in placed), 30)
        record_testsuite_property("orders_sent_after_pause_seconds", round(time.monotonic() - paused, 2))
        time.sleep(max(0.0, 15 - (time.monotonic() - paused)))  # the pause itself is what is tested
    finally:
        engines[first].process.send_signal(signal.SIGCONT)
    lost = "the account's lease was lost"
    until(lambda: lost in engines[first].log.read_text(errors="replace"))
    assert holder(account) == other
    after = place(account, "after-the-pause", order_type="Limit", price=FAR, quantity=D("0.001"))
    until(lambda: state_of(after) == OrderState.ACKNOWLEDGED)
    assert sorted(order.client_order_id for order in gateway.open_orders()) == sorted(
        ["after-the-pause", *(order.client_order_id for order in placed)]
    )

    # Killed with orders on their way.
    orders = [place(account, f"k-{n}", order_type="Limit", price=FAR + n, quantity=D("0.001")) for n in range(5)]
    until(lambda: Order.objects.filter(client_order_id__startswith="k-").exclude(state="new").exists())
    engines[other].kill()
    killed = time.monotonic()
    until(lambda: holder(account) == first, 60)
    taken = round(time.monotonic() - killed, 2)
    record_testsuite_property("account_taken_after_kill_seconds", taken)
    assert taken < 10
    settled = {OrderState.ACKNOWLEDGED, *TERMINAL}
    until(lambda: all(state_of(order) in settled for order in orders), 40)
    record_testsuite_property("orders_settled_after_kill_seconds", round(time.monotonic() - killed, 2))
    names = [order.client_order_id for order in gateway.open_orders() if order.client_order_id.startswith("k-")]
    assert sorted(names) == sorted(o.client_order_id for o in orders if state_of(o) == OrderState.ACKNOWLEDGED)
    assert chain_break(f"account:{account.pk}") is None


# The switch.


def test_an_engine_stops_its_account_at_once_even_while_orders_are_refused_at_the_venue(
    account: Account,
    start_engine: Callable[[str], RunningProcess],
    venue: ServerProcess,
    gateway: BybitGateway,
    record_testsuite_property: Callable[[str, Any], None],
) -> None:
    start_engine("1")
    until(lambda: trading_engine(account), 90)
    with_a_position_and_an_order(account)
    # The first answers to cancel-all and to the closing order are lost: the venue did it, nobody was told.
    control(venue, "faults", endpoint="/v5/order/cancel-all", kind="http_status", value=502)
    control(venue, "faults", endpoint="/v5/order/create", kind="lose_answer")
    kill_switch_engage(account=account, actor="alice", reason="a test")
    until(lambda: done(account))
    record_testsuite_property("kill_switch_seconds", seconds_of(account))
    assert flat(gateway)
    nothing_twice(account, gateway)
    assert Alert.objects.filter(level="critical", kind="kill_switch_engaged", account_id=account.pk).exists()
    # It stays stopped until it is re-armed; then it trades.
    switch = KillSwitch.objects.get()
    assert switch.rearmed_at is None
    kill_switch_rearm(account=account, actor="alice", reason="checked")
    again = place(account, "again", order_type="Limit", price=FAR, quantity=D("0.001"))
    until(lambda: state_of(again) == OrderState.ACKNOWLEDGED)


@pytest.mark.long
def test_an_open_breaker_and_a_valkey_that_is_away_hold_orders_back_and_not_the_kill_switch(
    account: Account, start_engine: Callable[..., RunningProcess], venue: ServerProcess, gateway: BybitGateway
) -> None:
    start_engine("1", REDIS_URL="redis://127.0.0.1:9/0")  # nobody's port
    until(lambda: trading_engine(account), 90)
    with_a_position_and_an_order(account)
    control(venue, "faults", endpoint="/v5/order/create", kind="http_status", value=502, count=3)
    lost = [place(account, f"lost-{n}", order_type="Limit", price=FAR, quantity=D("0.001")) for n in range(3)]
    until(lambda: all(state_of(order) not in (OrderState.NEW, OrderState.PENDING_SUBMIT) for order in lost))
    held_back = place(account, "held-back", order_type="Limit", price=FAR, quantity=D("0.001"))
    until(lambda: Alert.objects.filter(kind__contains="breaker").exists())
    kill_switch_engage(account=account, actor="alice", reason="a test")
    until(lambda: done(account))
    assert flat(gateway)
    # The breaker kept it from the venue, the kill switch from being taken up later.
    assert state_of(held_back) in (OrderState.NEW, OrderState.DENIED)
    nothing_twice(account, gateway)


def test_an_engine_that_is_killed_in_the_middle_is_followed_by_the_next_which_doubles_nothing(
    account: Account, start_engine: Callable[[str], RunningProcess], venue: ServerProcess, gateway: BybitGateway
) -> None:
    first = start_engine("1")
    until(lambda: trading_engine(account), 90)
    with_a_position_and_an_order(account)
    # The closing order's answer comes so late that the engine dies before: sent, committed, and not known.
    control(venue, "faults", endpoint="/v5/order/create", kind="lose_answer")
    kill_switch_engage(account=account, actor="alice", reason="a test")
    until(lambda: Order.objects.filter(strategy="kill_switch").exists())
    first.kill()
    assert not done(account)
    start_engine("2")
    until(lambda: done(account), 60)
    assert flat(gateway)
    nothing_twice(account, gateway)


@pytest.mark.long
def test_with_no_engine_the_command_line_and_the_worker_close_everything_themselves(
    account: Account,
    start_engine: Callable[[str], RunningProcess],
    command: Callable[..., RunningProcess],
    venue: ServerProcess,
    gateway: BybitGateway,
    settings: Any,
    record_testsuite_property: Callable[[str, Any], None],
) -> None:
    engine = start_engine("1")
    until(lambda: trading_engine(account), 90)
    with_a_position_and_an_order(account)
    engine.kill()
    # Valkey is away too: the port is nobody's.
    first = command("engage", "--account", account.name, "--reason", "a test", REDIS_URL="redis://127.0.0.1:9/0")
    # The command itself is killed once it has sent its closing order.
    until(lambda: Order.objects.filter(strategy="kill_switch").exists(), 40)
    first.kill()
    settings.SIMULATOR_URL = venue.url
    until(lambda: not account_owned(account.pk), 20)
    assert carry_out_kill_switch(account.pk)
    assert done(account) and flat(gateway)
    nothing_twice(account, gateway)
    record_testsuite_property("kill_switch_by_worker_seconds", seconds_of(account))
    status = command("status")
    assert status.process.wait(60) == 0
    assert "done, 0 orders, 0 positions" in status.log.read_text()


@pytest.mark.long
def test_a_paused_owner_does_not_keep_the_kill_switch_waiting(
    account: Account,
    start_engine: Callable[[str], RunningProcess],
    command: Callable[..., RunningProcess],
    gateway: BybitGateway,
    record_testsuite_property: Callable[[str, Any], None],
) -> None:
    engine = start_engine("1")
    until(lambda: trading_engine(account), 90)
    with_a_position_and_an_order(account)
    engine.process.send_signal(signal.SIGSTOP)
    try:
        stopped = command("engage", "--account", account.name, "--reason", "the owner is paused")
        assert stopped.process.wait(90) == 0, stopped.log.read_text()
        record_testsuite_property("kill_switch_with_paused_owner_seconds", seconds_of(account))
        assert flat(gateway)
    finally:
        engine.process.send_signal(signal.SIGCONT)
    until(lambda: holder(account) == "1", 20)
    # The owner that woke up looks at it again, and knows that nothing is left to reduce.
    refused = place(account, "reducing", side="Sell", reduce_only=True, quantity=D("0.001"))
    until(lambda: state_of(refused) == OrderState.DENIED)
    nothing_twice(account, gateway)


@pytest.mark.long
def test_with_the_database_away_the_emergency_close_does_it_and_is_booked_when_it_is_back(
    account: Account,
    start_engine: Callable[[str], RunningProcess],
    command: Callable[..., RunningProcess],
    gateway: BybitGateway,
    record_testsuite_property: Callable[[str, Any], None],
) -> None:
    engine = start_engine("1")
    until(lambda: trading_engine(account), 90)
    with_a_position_and_an_order(account)
    with database_cut():
        first = command("emergency-close", "--reason", "the database is away")
        journal = first.log.parent / "data" / "emergency" / "journal.jsonl"
        until(lambda: journal.exists() and b'"close"' in journal.read_bytes(), 40)
        first.kill()
        started = time.monotonic()
        again = command("emergency-close", "--reason", "the database is away")
        assert again.process.wait(90) == 0, again.log.read_text()
        record_testsuite_property("emergency_close_seconds", round(time.monotonic() - started, 2))
        assert "an interrupted run goes on" in again.log.read_text()
        assert flat(gateway)
    until(lambda: KillSwitch.objects.filter(account=account, rearmed_at=None).exists(), 30)
    until(lambda: done(account), 30)
    steps = AuditEvent.objects.filter(action__startswith="kill_switch.emergency_", chain=f"account:{account.pk}")
    assert {"kill_switch.emergency_begun", "kill_switch.emergency_close", "kill_switch.emergency_done"} <= set(
        steps.values_list("action", flat=True)
    )
    assert steps.filter(action="kill_switch.emergency_begun").count() == 1
    assert import_journal()
    until(lambda: trading_engine(account))
    nothing_twice(account, gateway)
    assert engine.process.poll() is None


@pytest.mark.long
def test_an_account_that_no_engine_looks_after_is_stopped_by_its_own_policy(
    account: Account, venue: ServerProcess, start_engine: Callable[[str], RunningProcess], settings: Any
) -> None:
    settings.DEAD_MAN_SECONDS, settings.SIMULATOR_URL = 1, venue.url
    dead_man_set(account=account, policy="cancel", venue_seconds=3, actor="alice")
    gateway = gateway_at(venue, "alice")
    engine = start_engine("1")
    until(lambda: trading_engine(account), 90)
    with_a_position_and_an_order(account)
    assert watch_engines() == 0
    engine.kill()
    # The venue's own switch is the first: three seconds after our stream broke.
    until(lambda: not gateway.open_orders(), 20)
    until(lambda: not account_owned(account.pk), 20)
    until(lambda: watch_engines() == 1, 20)
    switch = KillSwitch.objects.get()
    assert (switch.engaged_by, switch.closes_positions) == ("dead-man", False)
    assert carry_out_kill_switch(account.pk) and done(account)
    # Orders only: the position stays, as the account's managers wanted it.
    assert [report.symbol for report in gateway.positions() if report.quantity] == ["BTCUSDT"]
    assert DeadManWatch.objects.get().missing_since is not None
    assert EngineSession.objects.filter(follows_market=False).exists()


@pytest.fixture
def celery(
    process_environment: dict[str, str], venue: ServerProcess, data_folder: str, tmp_path: Path
) -> Iterator[dict[str, RunningProcess]]:
    """Beat and a worker, started as the supervisor starts them."""
    environment = {"SIMULATOR_URL": venue.url, "BALLAST_DATA_DIR": data_folder, "BALLAST_DEAD_MAN_SECONDS": "15"}
    words = {
        "worker": ["worker", "--loglevel", "info", "--concurrency", "1", "--without-mingle", "--without-gossip"],
        "beat": ["beat", "--loglevel", "info", "--pidfile", ""],
    }
    running = {
        name: RunningProcess.start(
            ["-m", "celery", "-A", "platform_site", *arguments],
            process_environment | environment,
            tmp_path / f"{name}.log",
        )
        for name, arguments in words.items()
    }
    yield running
    for process in running.values():
        process.ask_to_stop()
    for process in running.values():
        process.stop()


def modes() -> set[str]:
    return {mode["name"] for mode in degraded_modes(components(), {})}


@pytest.mark.long
def test_beat_and_a_worker_stop_the_account_of_an_engine_that_was_killed(
    account: Account,
    start_engine: Callable[[str], RunningProcess],
    celery: dict[str, RunningProcess],
    gateway: BybitGateway,
    data_folder: str,
    record_testsuite_property: Callable[[str, Any], None],
) -> None:
    dead_man_set(account=account, policy="close", venue_seconds=None, actor="alice")
    engine = start_engine("1")
    until(lambda: trading_engine(account), 120)
    until(lambda: ComponentHeartbeat.objects.filter(component="beat").exists(), 60)
    until(lambda: "worker_away" not in modes() and "beat_away" not in modes(), 30)
    with_a_position_and_an_order(account)
    watched = until(lambda: DeadManWatch.objects.get().watched_at, 40)
    until(lambda: DeadManWatch.objects.get().watched_at > watched, 40)
    assert not KillSwitch.objects.exists()
    engine.kill()
    killed = time.monotonic()
    until(lambda: "engine_away" in modes(), 30)
    until(lambda: KillSwitch.objects.exists(), 90)
    record_testsuite_property("dead_man_engaged_seconds", round(time.monotonic() - killed, 1))
    until(lambda: done(account), 90)
    record_testsuite_property("dead_man_done_seconds", round(time.monotonic() - killed, 1))
    assert flat(gateway)
    nothing_twice(account, gateway)
    switch = KillSwitch.objects.get()
    assert (switch.engaged_by, switch.closes_positions) == ("dead-man", True)
    closing = Order.objects.get(strategy="kill_switch")
    assert closing.trace_id == switch.trace_id
    sent = [line for line in celery["worker"].log.read_text(errors="replace").splitlines() if "order_sent" in line]
    assert len(sent) == 1 and f"[{switch.trace_id}]" in sent[0] and closing.client_order_id in sent[0]
    # The worker has left the accounts where an emergency close would look for them.
    assert account.name in (Path(data_folder) / "emergency" / "accounts.json").read_text()
    celery["beat"].kill()
    celery["worker"].kill()
    until(lambda: {"worker_away", "beat_away"} <= modes(), 60)
