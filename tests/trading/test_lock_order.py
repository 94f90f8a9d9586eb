"""Whoever tells of an alert and writes the trail locks the alert first: nobody waits for whom waits for them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, transaction

from audit.models import Alert
from audit.services import alert_raise, record
from tests import builders
from tests.trading.test_exposures import wallet
from trading.models import Account, Fill, KillSwitch
from trading.services.loss_alarms import loss_alarm_raise
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


def waiting_for_a_lock() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return bool(cursor.fetchone()[0])


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


def acknowledge_while(work: Callable[[], Any], alert: Alert) -> None:
    with transaction.atomic():
        Alert.objects.select_for_update().get(pk=alert.pk)
        thread, raised = in_a_thread(work)
        deadline = time.monotonic() + 20
        while not waiting_for_a_lock():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        # As an acknowledgement goes on: the trail comes after the alert.
        record(actor="alice", action="alert.acknowledged", subject=f"alert:{alert.pk}", account_id=alert.account_id)
    thread.join(20)
    assert not raised
