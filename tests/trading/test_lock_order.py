"""Whoever tells of an alert and writes the trail locks the alert first: nobody waits for whom waits for them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from django.db import connection, transaction

from audit.models import Alert
from audit.services import alert_raise, record
from tests import builders
from trading.models import Account, Fill
from trading.services.reports import reports_apply

pytestmark = pytest.mark.django_db(transaction=True)
KEY = "outside:BTCUSDT"


def in_a_thread(work: Callable[[], None]) -> tuple[threading.Thread, list[BaseException]]:
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
    with transaction.atomic():
        Alert.objects.select_for_update().get(pk=alert.pk)
        thread, raised = in_a_thread(lambda: reports_apply(account_id=account.pk, reports=[report]))
        deadline = time.monotonic() + 20
        while not waiting_for_a_lock():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        # As an acknowledgement goes on: the trail comes after the alert.
        record(actor="alice", action="alert.acknowledged", subject=f"alert:{alert.pk}", account_id=account.pk)
    thread.join(20)
    assert not raised and Fill.objects.filter(account=account).count() == 1
