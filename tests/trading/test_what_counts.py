"""What counts as being at stake, where a price is missing or accounts are of other worlds."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from risk.services import risk_limit_set
from tests import builders
from tests.trading.test_exposures import send, wallet
from trading.lifecycle import OrderEvent
from trading.models import Account
from trading.services.exposures import account_exposure
from trading.services.leases import leases_take, session_open, session_renew, symbol_resource
from trading.services.order_steps import advance

pytestmark = pytest.mark.django_db
D = Decimal


def another_engine_says(symbol: str, price: str) -> None:
    resource = symbol_resource(symbol)
    session = session_open(name="another", seconds=60, resources=[resource])
    assert leases_take(session_id=session, resources=[resource])
    assert session_renew(session_id=session, seconds=60, report={symbol: ["LIVE", price]})


def test_a_market_order_of_unknown_fate_counts_in_an_engine_that_does_not_follow_its_symbol(account: Account) -> None:
    order = send(account, order_type="Market", price=None, stop_loss=D("58000.0"), quantity=D("0.1"))
    advance(order, OrderEvent.LOSE, cause="no answer")
    another_engine_says("BTCUSDT", "60000.0")
    exposure = account_exposure(account.pk, {})
    assert (exposure.notional["BTCUSDT"], exposure.total_risk) == (D(6_000), D(200))


def test_money_of_another_environment_does_not_dilute_the_limits_of_a_user(account: Account, alice: Any) -> None:
    testnet = builders.account(alice, name="play money", environment="testnet")
    wallet(account, 10_000)
    wallet(testnet, 1_000_000)
    risk_limit_set(level="user", user=alice, actor="a", max_daily_loss_percent=D(5))
    risk_limit_set(level="platform", actor="a", max_total_risk_percent=D(5))
    exposure = account_exposure(account.pk)
    assert exposure.user is not None and exposure.user.equity == 0
    assert exposure.platform is not None and exposure.platform.equity == 0
