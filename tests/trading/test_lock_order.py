"""Whoever tells of an alert and writes the trail locks the alert first: nobody waits for whom waits for them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from audit.models import Alert
from audit.services import alert_raise, record
from tests import builders
from tests.trading.test_exposures import wallet
from trading.models import Account, Fill, KillSwitch, ReconciliationRun
from trading.services.leases import lease_confirm
from trading.services.loss_alarms import loss_alarm_raise
from trading.services.modes import mode_held
from trading.services.reconciliations import reconciliation_record
from trading.services.reports import reports_apply

pytestmark = pytest.mark.django_db(transaction=True)
KEY = "outside:BTCUSDT"
DAILY = "max_daily_loss_percent"
D = Decimal


def in_a_thread(work: Callable[[], Any]) -> tuple[threading.Thread, list[BaseException]]:
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread, raised


def wait_for_a_waiting_one() -> None:
    deadline = time.monotonic() + 20
    with connection.cursor() as cursor:
        while True:
            cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
            if cursor.fetchone()[0]:
                return
            assert time.monotonic() < deadline, "nobody waits for a lock"
            time.sleep(0.02)


def test_a_fill_of_somebody_else_is_booked_while_its_alert_is_being_acknowledged(account: Account) -> None:
    alert = alert_raise(level="warning", kind="position_changed_outside", message="m", account_id=account.pk, key=KEY)
    report = builders.fill_report(client_order_id="", venue_order_id="elsewhere")
    acknowledge_while(lambda: reports_apply(account_id=account.pk, reports=[report]), alert)
    assert Fill.objects.filter(account=account).count() == 1


def test_a_loss_stops_the_account_while_its_alert_is_being_acknowledged(account: Account) -> None:
    wallet(account)
    alert = alert_raise(level="critical", kind="loss_limit", message="m", account_id=account.pk, key="loss:" + DAILY)
    loss = {"value": D(5), "percent": D(6), "equity": D(9_400), "message": "6 % is lost"}
    acknowledge_while(lambda: loss_alarm_raise(account_id=account.pk, limit=DAILY, **loss), alert)
    assert KillSwitch.objects.get().account == account


def test_a_loss_stops_the_account_while_an_order_is_being_committed(account: Account) -> None:
    wallet(account)
    owner = builders.ownership(account.pk)
    loss = {"value": D(5), "percent": D(6), "equity": D(9_400), "message": "6 % is lost"}
    with transaction.atomic():
        lease_confirm(owner)
        thread, raised = in_a_thread(lambda: loss_alarm_raise(account_id=account.pk, limit=DAILY, **loss))
        wait_for_a_waiting_one()
        mode_held(account.pk)  # as an order's commit goes on
    thread.join(20)
    assert not raised and KillSwitch.objects.get().account == account


def test_two_reconciliations_of_an_account_end_at_the_same_time(account: Account) -> None:
    results = {"account_id": account.pk, "trigger": "beat", "started_at": timezone.now(), "differences": []}
    with transaction.atomic():
        mode_held(account.pk)
        thread, raised = in_a_thread(lambda: reconciliation_record(**results))
        wait_for_a_waiting_one()
        reconciliation_record(**results)
    thread.join(20)
    assert not raised and ReconciliationRun.objects.filter(account=account, succeeded=True).count() == 2


def acknowledge_while(work: Callable[[], Any], alert: Alert) -> None:
    with transaction.atomic():
        Alert.objects.select_for_update().get(pk=alert.pk)
        thread, raised = in_a_thread(work)
        wait_for_a_waiting_one()
        # As an acknowledgement goes on: the trail comes after the alert.
        record(actor="alice", action="alert.acknowledged", subject=f"alert:{alert.pk}", account_id=alert.account_id)
    thread.join(20)
    assert not raised
