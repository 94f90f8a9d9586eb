"""A LIVE account that a person opted out is still stopped with the platform while something is open there."""

from __future__ import annotations

from typing import Any

import pytest

from audit.models import Alert
from tests import builders
from tests.trading.test_exposures import hold
from trading.models import Account
from trading.services.account_modes import account_mode_set
from trading.services.accounts import account_live_opt_in_set
from trading.services.kill_switch import kill_switch_engage

pytestmark = pytest.mark.django_db


def live(owner: Any, name: str) -> Account:
    made = builders.account(owner, name=name, environment="live")
    account_mode_set(account=made, mode="real", confirm_name=name, actor="alice")
    return account_live_opt_in_set(account=made, opted_in=True, actor="alice")


def test_the_platforms_stop_closes_what_an_opted_out_account_still_holds(alice: Any, settings: Any) -> None:
    settings.EXCHANGE = "bybit"
    trading, left, never = live(alice, "trading"), live(alice, "left"), live(alice, "never traded")
    hold(left)
    for account in (left, never):
        account_live_opt_in_set(account=account, opted_in=False, actor="alice")
    switch = kill_switch_engage(account=None, actor="dora", reason="a test")
    assert set(switch.tasks.values_list("account", flat=True)) == {trading.pk, left.pk}
    # Nobody looks after it from now on: that is said, and of the other there is nothing to say.
    alert = Alert.objects.get(kind="account_left_open")
    assert (alert.level, alert.account_id, alert.detail) == ("critical", left.pk, {"positions": 1, "orders": 0})
