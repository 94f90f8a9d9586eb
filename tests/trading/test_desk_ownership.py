"""What an owner believes of its account ends with its ownership."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tests.trading.lone_desk import LoneDesk
from trading.gateways.bybit import BybitEndpoints
from trading.models import Account, ReconciliationRun
from trading.pipeline import Pipeline
from trading.reports import Submission, SubmissionResult
from trading.runtime import account_desk
from trading.runtime.order_sender import OrderSender
from trading.runtime.ownership import AccountLease

pytestmark = pytest.mark.django_db(transaction=True)
NOWHERE = BybitEndpoints("http://127.0.0.1:1", "ws://127.0.0.1:1")


async def test_a_reconciliation_of_an_earlier_ownership_does_not_make_the_account_known(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = LoneDesk(account, Pipeline(lambda: "trace"), NOWHERE)

    def somebody_else_owns_it_meanwhile(*_: Any) -> ReconciliationRun:
        desk.lease.release()
        other = AccountLease(account.pk, "other")
        assert other.acquire()
        other.release()
        assert desk.lease.acquire()
        return ReconciliationRun(account=account)

    monkeypatch.setattr(account_desk, "reconcile_account", somebody_else_owns_it_meanwhile)
    await desk.threads.on_books(desk.lease.acquire)
    desk.state, desk.stream_connected = "reconciling", True
    await desk._reconcile("connect")
    assert desk.state == "reconciling"
    await desk.stop()


class RecordingGateway:
    def __init__(self) -> None:
        self.set: list[tuple[str, Decimal]] = []

    def set_leverage(self, symbol: str, leverage: Decimal) -> None:
        self.set.append((symbol, leverage))

    def submit(self, request: Any) -> SubmissionResult:
        return SubmissionResult(Submission.ACCEPTED)


def test_leverages_are_set_anew_by_whoever_becomes_the_owner() -> None:
    gateway = RecordingGateway()
    sender = OrderSender(1, "account", gateway)  # type: ignore[arg-type]
    for _ in range(2):
        sender.ensure_leverage("BTCUSDT", Decimal(5))
    sender.forget_leverages()
    sender.ensure_leverage("BTCUSDT", Decimal(5))
    assert gateway.set == [("BTCUSDT", Decimal(5))] * 2
