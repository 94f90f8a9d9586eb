"""The kill switch's rules: what it stops, whom it asks, who may let trade again, and what it remembers."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

import orjson
import pytest
from django.contrib.auth.models import Permission
from django.db import connection, transaction
from django.utils import timezone
from hypothesis import HealthCheck, given
from hypothesis import settings as profile
from hypothesis import strategies as st

from audit.models import Alert, AuditEvent
from audit.selectors import chain_break
from tests import builders
from trading.lifecycle import OrderState
from trading.models import Account, DeadManWatch, EngineSession, KillSwitch, KillSwitchTask, Order
from trading.runtime import emergency
from trading.runtime.kill_execution import closing_id
from trading.services.kill_switch import (
    KillSwitchRefused,
    dead_man_look,
    dead_man_set,
    kill_switch_done,
    kill_switch_engage,
    kill_switch_progress,
    kill_switch_rearm,
)
from trading.services.leases import Holder, LeaseLost, LeaseToken, account_leases_take, lease_confirm, sessions_renew
from trading.services.order_commits import order_close_intend, order_intend, order_send_again, order_take
from trading.services.order_refusals import KillSwitchEngaged
from trading.services.orders import order_place

D = Decimal
pytestmark = pytest.mark.django_db


@pytest.fixture
def bobs(instruments: None) -> Account:
    return builders.account(builders.user("bob"))


def place(account: Account, **changes: Any) -> Order:
    values: dict[str, Any] = {"symbol": "BTCUSDT", "side": "Buy", "order_type": "Limit", "quantity": D("0.01")}
    return order_place(account=account, actor="test", **(values | {"price": D("60000.0")} | changes))


def engage(account: Account | None, **changes: Any) -> KillSwitch:
    return kill_switch_engage(**({"account": account, "actor": "alice", "reason": "a test"} | changes))


def finish(switch: KillSwitch) -> None:
    for task in switch.tasks.all():
        kill_switch_done(task_id=task.pk, closer="test")


def operator(name: str) -> Any:
    user = builders.user(name, is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="operate_platform_kill_switch"))
    return user


def test_a_stopped_account_takes_no_new_risk_and_others_trade_on(account: Account, bobs: Account) -> None:
    recorded = place(account)
    owner = builders.ownership(account.pk)
    engage(account)
    with pytest.raises(KillSwitchEngaged, match="stopped by the kill switch"):
        place(account)
    taken = order_take(order_id=recorded.pk, refusals=(), receive_window_ms=5000, owner=owner)
    assert taken is not None and taken.state == OrderState.DENIED and "kill switch" in taken.refusal
    with pytest.raises(KillSwitchEngaged), transaction.atomic():
        order_intend(
            account_id=account.pk, intent=builders.intent(), signal_id=None, receive_window_ms=5000, owner=owner
        )
    reducing = place(account, side="Sell", reduce_only=True)
    passed = order_take(order_id=reducing.pk, refusals=(), receive_window_ms=5000, owner=owner)
    assert passed is not None and passed.state == OrderState.PENDING_SUBMIT
    assert place(bobs).state == OrderState.NEW


def test_a_stopped_platform_stops_every_account_those_too_that_come_later(account: Account, bobs: Account) -> None:
    switch = engage(None)
    assert {task.account for task in switch.tasks.all()} == {account, bobs}
    later = builders.account(builders.user("charlie"))
    for stopped in (account, bobs, later):
        with pytest.raises(KillSwitchEngaged, match="whole platform"):
            place(stopped)


def test_engaging_is_told_once_and_changes_nothing_the_second_time(account: Account) -> None:
    first, second = engage(account), engage(account, actor="bob", reason="me too")
    assert first == second and first.engaged_by == "alice"
    assert Alert.objects.filter(kind="kill_switch_engaged", level="critical", account_id=account.pk).count() == 1
    event = AuditEvent.objects.get(action="kill_switch.engaged")
    assert (event.actor, event.reason, event.chain) == ("alice", "a test", f"account:{account.pk}")
    assert chain_break(f"account:{account.pk}") is None


def test_a_stop_that_left_positions_open_can_still_become_one_that_closes_them(account: Account) -> None:
    switch = engage(account, closes_positions=False)
    finish(switch)
    again = engage(account, closes_positions=True)
    assert again == switch and again.closes_positions
    assert again.tasks.get().phase == KillSwitchTask.Phase.ENGAGED


def test_a_stop_without_a_reason_is_refused(account: Account) -> None:
    with pytest.raises(KillSwitchRefused, match="a reason is needed"):
        engage(account, reason="  ")


def test_an_account_is_re_armed_once_everything_is_proven_closed_or_by_force(account: Account) -> None:
    switch = engage(account)
    with pytest.raises(KillSwitchRefused, match="not everything is closed yet: alice account"):
        kill_switch_rearm(account=account, actor="alice", reason="now")
    finish(switch)
    rearmed = kill_switch_rearm(account=account, actor="alice", reason="checked")
    assert rearmed.rearmed_by == "alice" and place(account).state == OrderState.NEW
    with pytest.raises(KillSwitchRefused, match="is not stopped"):
        kill_switch_rearm(account=account, actor="alice", reason="again")
    engage(account)
    kill_switch_rearm(account=account, actor="alice", reason="the key is revoked", force=True)
    assert AuditEvent.objects.filter(action="kill_switch.rearmed", parameters__forced=True).count() == 1


def test_the_platform_is_re_armed_by_a_second_person_where_there_is_one(account: Account) -> None:
    operator("dora")
    builders.user("clerk", is_staff=True)
    finish(engage(None, actor="dora"))
    kill_switch_rearm(actor="dora", reason="she is the only one")
    operator("emil")
    finish(engage(None, actor="dora"))
    with pytest.raises(KillSwitchRefused, match=r"a second person .* emil"):
        kill_switch_rearm(actor="dora", reason="in a hurry")
    assert kill_switch_rearm(actor="emil", reason="looked at it").rearmed_by == "emil"


def test_progress_is_kept_with_what_went_wrong(account: Account) -> None:
    task = engage(account).tasks.get()
    phase = KillSwitchTask.Phase.CLOSING
    for trouble in ("HTTP 502", "HTTP 502", ""):
        kill_switch_progress(task_id=task.pk, phase=phase, closer="test", open_orders=0, trouble=trouble)
    task.refresh_from_db()
    assert (task.phase, task.open_orders, task.open_positions, task.rounds) == ("closing", 0, None, 3)
    # One event when it began, one when the trouble was over: not one a round.
    assert AuditEvent.objects.filter(action="kill_switch.closing").count() == 2


@pytest.mark.django_db(transaction=True)
def test_no_order_slips_in_between_the_commit_of_a_stop_and_its_own(account: Account) -> None:
    """The one that is committing keeps the stop waiting and is seen by it; the next one sees the stop."""
    order, late = place(account), place(account)
    owner = builders.ownership(account.pk)
    confirmed, engaged = threading.Event(), threading.Event()

    def stop() -> None:
        confirmed.wait(20)
        engage(account)
        engaged.set()
        connection.close()

    stopping = threading.Thread(target=stop)
    stopping.start()
    with transaction.atomic():
        taken = order_take(order_id=order.pk, refusals=(), receive_window_ms=5000, owner=owner)
        confirmed.set()
        assert not engaged.wait(0.5)
    assert engaged.wait(20)
    stopping.join()
    assert taken is not None and taken.state == OrderState.PENDING_SUBMIT
    refused = order_take(order_id=late.pk, refusals=(), receive_window_ms=5000, owner=owner)
    assert refused is not None and refused.state == OrderState.DENIED


# Closing orders.


def test_a_closing_order_of_unknown_fate_is_sent_again_under_its_name_by_the_owner_only(account: Account) -> None:
    first = builders.ownership(account.pk)
    values: dict[str, Any] = {"symbol": "BTCUSDT", "side": "Sell", "quantity": D("0.01"), "strategy": "kill_switch"}
    values |= {"account_id": account.pk, "client_order_id": "kill-1-BTCUSDT-1", "actor": "kill_switch:1"}
    order = order_close_intend(**values, reason="a test", receive_window_ms=5000, owner=first)
    assert (order.state, order.reduce_only, order.order_type) == (OrderState.PENDING_SUBMIT, True, "Market")
    second = builders.ownership(account.pk)
    with pytest.raises(LeaseLost):
        order_send_again(order_id=order.pk, owner=first)
    again = order_send_again(order_id=order.pk, owner=second)
    assert again is not None and again.client_order_id == order.client_order_id and again.sent_at > order.sent_at


@given(
    switch=st.integers(1, 10**9),
    symbol=st.from_regex(r"[A-Z0-9]{2,32}", fullmatch=True),
    attempts=st.lists(st.integers(1, 9_999), min_size=2, max_size=5, unique=True),
)
def test_the_name_of_a_closing_order_fits_the_venue_and_is_one_for_each_attempt(
    switch: int, symbol: str, attempts: Sequence[int]
) -> None:
    names = [closing_id(f"kill-{switch}", symbol, attempt) for attempt in attempts]
    assert len(set(names)) == len(attempts)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,36}", name) for name in names)
    assert names == [closing_id(f"kill-{switch}", symbol, attempt) for attempt in attempts]


# The lease.

STEPS = st.lists(st.tuples(st.sampled_from(["take", "evict", "renew", "expire"]), st.integers(0, 2)), max_size=12)
_resources = iter(range(10_000_000, 10**12))


@profile(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_whatever_happens_at_most_one_owner_can_commit_and_epochs_only_grow(
    db: None, steps: Sequence[tuple[str, int]]
) -> None:
    account_id = next(_resources)
    holdings: dict[int, tuple[int, LeaseToken]] = {}
    epochs = [0]
    for step, who in steps:
        if step in ("take", "evict"):
            before = able(holdings)
            why = "why" if step == "evict" else ""
            taken = account_leases_take(
                holders={account_id: Holder(str(who))}, seconds=60, evict_reason=why
            ).get(account_id)  # fmt: skip
            # Taken exactly when nobody could commit, or by force.
            assert (taken is not None) == (step == "evict" or not before)
            if taken is not None:
                holdings[who] = taken
                epochs.append(taken[1].epoch)
        elif who in holdings:
            session = EngineSession.objects.filter(pk=holdings[who][0])
            if step == "expire":
                session.update(expires_at=timezone.now() - timedelta(seconds=1))
            else:
                mine, able_before = holdings[who][0], able(holdings)
                renewed, ended = sessions_renew(session_ids=[mine], seconds=60)
                assert (renewed, ended) == (({mine}, set()) if who in able_before else (set(), {mine}))
        assert len(able(holdings)) <= 1
    assert epochs == sorted(set(epochs))


def able(holdings: dict[int, tuple[int, LeaseToken]]) -> list[int]:
    """Who could commit an order now."""
    found = []
    for who, (_, token) in holdings.items():
        try:
            with transaction.atomic():
                lease_confirm(token)
            found.append(who)
        except LeaseLost:
            pass
    return found


# Nobody looks after an account.


def look(watch: DeadManWatch, owned: bool, later: float) -> str:
    """One look, ``later`` seconds after the one before."""
    back = timedelta(seconds=later)
    watch.refresh_from_db()
    for name in ("watched_at", "missing_since"):
        value = getattr(watch, name)
        setattr(watch, name, None if value is None else value - back)
    watch.save()
    return dead_man_look(watch_id=watch.pk, owned=owned)


def test_an_account_without_an_engine_is_stopped_after_the_time_and_not_before(account: Account) -> None:
    watch = dead_man_set(account=account, policy="close", venue_seconds=None, actor="alice")
    assert look(watch, owned=True, later=0) == "watched"
    assert [look(watch, owned=False, later=20) for _ in range(3)] == ["missing"] * 3
    assert not KillSwitch.objects.exists()
    assert look(watch, owned=False, later=20) == "engaged"
    switch = KillSwitch.objects.get()
    assert (switch.account, switch.engaged_by, switch.closes_positions) == (account, "dead-man", True)


def test_a_platform_that_slept_as_a_whole_gives_its_engines_their_time(account: Account) -> None:
    watch = dead_man_set(account=account, policy="close", venue_seconds=None, actor="alice")
    look(watch, owned=True, later=0)
    assert look(watch, owned=False, later=7_200) == "missing"
    assert look(watch, owned=True, later=20) == "watched"
    assert look(watch, owned=False, later=20) == "missing"
    assert not KillSwitch.objects.exists()


def test_a_policy_that_only_alerts_stops_nothing(account: Account) -> None:
    watch = dead_man_set(account=account, policy="alert", venue_seconds=None, actor="alice")
    for _ in range(6):
        look(watch, owned=False, later=20)
    alert = Alert.objects.get(kind="dead_man")
    assert (alert.level, alert.account_id) == ("critical", account.pk) and alert.count >= 2
    assert not KillSwitch.objects.exists()


# The emergency journal.


def entry(account: Account, number: int, step: str) -> dict[str, Any]:
    about = {"actor": "command line:ops", "reason": "the database is away", "at": "2026-11-21T10:00:00+00:00"}
    return {"id": f"id-{number}", "run": "e1", "step": step, "account_id": account.pk, "detail": {}} | about


def test_a_journal_is_booked_once_and_leaves_its_account_stopped(
    account: Account, bobs: Account, settings: Any, tmp_path: Any
) -> None:
    settings.DATA_DIR = tmp_path
    folder = emergency.folder()
    folder.mkdir()
    lines = [orjson.dumps(entry(account, number, step)) for number, step in enumerate(("begun", "close", "done"))]
    for _ in range(2):
        # The second time as after a crash between the commit and the renaming; the last line is torn.
        (folder / "journal.jsonl").write_bytes(b"\n".join(lines) + b'\n{"id": "to')
        assert emergency.import_journal()
    booked = AuditEvent.objects.filter(action__startswith="kill_switch.emergency_", chain=f"account:{account.pk}")
    assert booked.count() == 3
    assert KillSwitch.objects.get().account == account
    assert place(bobs).state == OrderState.NEW


def test_nobody_takes_an_account_while_an_emergency_close_runs(settings: Any, tmp_path: Any) -> None:
    settings.DATA_DIR = tmp_path
    assert emergency.import_journal()
    with emergency.journal("ops", "why"):
        assert not emergency.import_journal()
        with pytest.raises(emergency.EmergencyError, match="another emergency close"), emergency.journal("b", "why"):
            pass
    assert emergency.import_journal()


def test_accounts_are_left_for_an_emergency_with_their_keys_still_encrypted(
    account: Account, settings: Any, tmp_path: Any
) -> None:
    settings.DATA_DIR = tmp_path
    with pytest.raises(emergency.EmergencyError, match="is not there"):
        emergency.stored_accounts()
    emergency.export_accounts([account])
    path = emergency.folder() / "accounts.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert b'secret"' in path.read_bytes() and b': "secret"' not in path.read_bytes()
    (stored,) = emergency.stored_accounts()
    assert (stored.account_id, stored.name) == (account.pk, account.name)
    assert stored.key.encode() == bytes(account.api_key_encrypted)
