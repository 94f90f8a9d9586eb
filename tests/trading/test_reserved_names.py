"""The names of the kill switch's closing orders are its own: nobody keeps it from closing by taking them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tests import builders
from tests.processes import ServerProcess
from tests.trading.test_account_desk import venue
from tests.trading.test_kill_execution import account, carry_out, gateway, held, lease, request, until
from trading.gateways.bybit import BybitGateway
from trading.models import Account, KillSwitch, Order
from trading.reports import Submission
from trading.runtime.ownership import AccountLease
from trading.services.fills import order_adopt, order_report_apply
from trading.services.kill_switch import kill_switch_engage
from trading.services.order_refusals import OrderRefused
from trading.services.orders import order_place

pytestmark = pytest.mark.django_db(transaction=True)
__all__ = ["account", "gateway", "lease", "venue"]
D = Decimal


def place(account: Account, identifier: str) -> Order:
    values: dict[str, Any] = {"symbol": "BTCUSDT", "side": "Buy", "order_type": "Limit", "quantity": D("0.001")}
    return order_place(account=account, actor="alice", price=D("30000.0"), client_order_id=identifier, **values)


def test_an_order_of_a_person_under_such_a_name_is_refused(account: Account) -> None:
    with pytest.raises(OrderRefused, match="kill-"):
        place(account, "kill-1-BTCUSDT-1")
    assert place(account, "killer-1").client_order_id == "killer-1"


def test_a_name_that_is_taken_already_keeps_no_position_open(
    account: Account, gateway: BybitGateway, lease: AccountLease, venue: ServerProcess
) -> None:
    assert gateway.submit(request("long")).outcome is Submission.ACCEPTED
    until(lambda: held(gateway) == ["BTCUSDT"])
    switch = kill_switch_engage(account=account, actor="alice", reason="a test")
    taken = taken_elsewhere(account, f"kill-{switch.pk}-BTCUSDT-1")
    task = carry_out(account, gateway, lease)
    assert task.phase == "done" and held(gateway) == []
    assert Order.objects.get(strategy="kill_switch").client_order_id == f"kill-{switch.pk}-BTCUSDT-2"
    assert Order.objects.get(pk=taken.pk).strategy == "external" and KillSwitch.objects.get().rearmed_at is None


def taken_elsewhere(account: Account, identifier: str) -> Order:
    """Taken in from the venue, where anybody may use any name."""
    report = builders.order_report(client_order_id=identifier, venue_order_id="elsewhere")
    order = order_adopt(account_id=account.pk, report=report)
    ended = builders.order_report(client_order_id=identifier, venue_order_id="elsewhere", status="Cancelled")
    order_report_apply(account_id=account.pk, report=ended)
    return order
