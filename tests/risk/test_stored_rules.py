"""Stored limits, groups and policies: each level its own, checked when they are set, on the trail, as values."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from audit.models import AuditEvent
from risk.exits import ExitRules
from risk.groups import GroupLimit
from risk.limits import ACCOUNT_DEFAULTS
from risk.models import PositionPolicy, RiskLimit, SymbolGroup
from risk.selectors import TotalsAsked, limits_for, policies, symbol_groups, totals_asked
from risk.services import position_policy_set, risk_limit_set, symbol_group_set
from tests import builders
from trading.models import Account
from trading.runtime.configuration import load_configuration

pytestmark = pytest.mark.django_db
D = Decimal


@pytest.fixture
def account() -> Account:
    builders.list_instruments()
    return builders.account(builders.user("alice"))


def strategy(account: Account, **changes: Any) -> Any:
    return builders.strategy(account, **({"name": "imbalance", "strategy": "scalping.imbalance"} | changes))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("max_positions", 0, "0 is not allowed; expected 1 to 100"),
        ("max_positions", 101, "101 is not allowed; expected 1 to 100"),
        ("max_daily_loss_percent", D("0.9"), "expected 1 to 50"),
        ("max_daily_loss_percent", D("50.1"), "expected 1 to 50"),
        ("max_risk_per_trade_percent", D(0), "expected 0.01 to 100"),
        ("max_total_risk_percent", D(101), "expected 0.01 to 100"),
        ("max_drawdown_percent", D(0), "expected 1 to 100"),
        ("max_correlation", D("1.01"), "expected 0 to 1"),
        ("max_leverage", D(51), "expected 1 to 50"),
        ("max_order_notional", D(-1), "expected 0 or more"),
        ("max_slippage_percent", D(0), "expected 0.01 to 100"),
    ],
)
def test_a_limit_outside_its_range_names_field_and_range_and_changes_nothing(
    account: Account, name: str, value: Any, words: str
) -> None:
    risk_limit_set(level="account", account=account, actor="alice", max_positions=7)
    with pytest.raises(ValidationError) as refused, transaction.atomic():
        risk_limit_set(level="account", account=account, actor="alice", **{name: value})
    assert words in refused.value.message_dict[name][0]
    row = RiskLimit.objects.get()
    assert row.max_positions == 7 and (name == "max_positions" or getattr(row, name) is None)


def test_limits_that_a_level_cannot_have_are_refused(account: Account) -> None:
    config = strategy(account)
    with pytest.raises(ValidationError, match="no equity of its own"), transaction.atomic():
        risk_limit_set(level="strategy", strategy=config, actor="a", max_drawdown_percent=D(10))


def test_an_account_has_the_defaults_and_each_level_its_own(account: Account) -> None:
    assert limits_for(account) == ACCOUNT_DEFAULTS
    config = strategy(account)
    risk_limit_set(level="account", account=account, actor="a", max_positions=3, max_leverage=D(20))
    risk_limit_set(level="user", user=account.owner, actor="a", max_positions=5, max_leverage=D(10))
    risk_limit_set(level="platform", actor="a", max_order_notional=D(1000))
    risk_limit_set(level="strategy", strategy=config, actor="a", max_positions=1)
    limits = limits_for(account, config)
    assert (limits.max_positions, limits.max_leverage, limits.max_order_notional) == (3, D(10), D(1000))
    assert {level: each.max_positions for level, each in limits.other_levels} == {"user": 5, "strategy": 1}
    assert dict(limits_for(account).other_levels).keys() == {"user"}
    # The platform's limit is on single orders: nothing needs to be counted for it.
    assert totals_asked([account])[account.pk] == TotalsAsked(("imbalance",), user=True, platform=False)


def test_limits_of_another_tenant_are_not_mine(account: Account) -> None:
    bob = builders.account(builders.user("bob"))
    risk_limit_set(level="user", user=bob.owner, actor="a", max_positions=1)
    risk_limit_set(level="account", account=bob, actor="a", max_positions=1)
    position_policy_set(account=bob, actor="a", enabled=False)
    assert limits_for(account) == ACCOUNT_DEFAULTS
    asked = totals_asked([bob, account])
    assert asked[bob.pk].user and not asked[account.pk].user
    known = policies()
    assert known.exit_rules(account.pk).enabled and not known.exit_rules(bob.pk).enabled


def test_groups_are_there_and_can_be_changed() -> None:
    assert symbol_groups().together("BTCUSDT", "ETHUSDT") and not symbol_groups().together("BTCUSDT", "UNIUSDT")
    assert {group.name for group in SymbolGroup.objects.all()} == {"majors", "defi", "layer1"}
    symbol_group_set(name="majors", actor="desk", symbols=["BTCUSDT", "SOLUSDT"], max_positions=1)
    (group,) = symbol_groups().of("BTCUSDT")
    assert (group.max_positions, "ETHUSDT" in group.symbols) == (1, False)
    event = AuditEvent.objects.get(action="symbol_group.set")
    assert event.before["symbols"] == ["BTCUSDT", "ETHUSDT"] and event.after["max_positions"] == 1
    with pytest.raises(ValidationError, match="'btc' is no symbol"), transaction.atomic():
        symbol_group_set(name="majors", actor="desk", symbols=["btc"])


def test_each_level_may_limit_a_group_and_others_accounts_are_asked_for_where_one_does(account: Account) -> None:
    bob = builders.account(builders.user("bob"))
    given = {"majors": {"max_positions": 3, "max_notional": "50000.5"}}
    risk_limit_set(level="user", user=account.owner, actor="desk", group_limits=given)
    limits = dict(limits_for(account).other_levels)["user"]
    assert limits.group_limits == {"majors": GroupLimit(3, D("50000.5"))}
    asked = totals_asked([account, bob])
    assert asked[account.pk].user and not asked[bob.pk].user and not limits_for(bob).other_levels
    assert AuditEvent.objects.get(action="risk_limit.set").after["group_limits"] == given


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"nope": {}}, "there is no group 'nope'; there are: defi, layer1, majors"),
        ({"majors": {"max_position": 1}}, "majors.max_position is no limit of a group"),
        ({"majors": {"max_positions": 0}}, "majors.max_positions is 0; expected a whole number, 1 to 100"),
        ({"majors": {"max_positions": True}}, "expected a whole number, 1 to 100"),
        ({"majors": {"max_notional": "NaN"}}, "majors.max_notional is NaN; expected USD, 0 or more"),
        ({"majors": {"max_notional": "-1"}}, "expected USD, 0 or more"),
        ({"majors": 3}, "are no limits of groups"),
        ([1], "are no limits of groups"),
    ],
)
def test_limits_of_groups_that_are_none_are_refused_in_words(account: Account, given: Any, words: str) -> None:
    with pytest.raises(ValidationError) as refused, transaction.atomic():
        risk_limit_set(level="user", user=account.owner, actor="desk", group_limits=given)
    assert words in refused.value.message_dict["group_limits"][0]


def test_a_policy_holds_for_its_account_and_the_default_for_all_others(account: Account) -> None:
    other = builders.account(account.owner, name="second")
    assert policies().exit_rules(account.pk) == ExitRules()
    position_policy_set(actor="desk", max_loss_percent=D(4))
    position_policy_set(account=account, actor="desk", partial_exits=[["1.0", "50"]], leverage_low=D(15))
    known = load_configuration("simulator").policies
    assert known.exit_rules(other.pk) == ExitRules(max_loss_percent=D(4))
    assert known.exit_rules(account.pk).partial_exits == ((D("1.0"), D(50)),)
    assert known.leverage_rules(account.pk).low == D(15)
    assert AuditEvent.objects.filter(action="position_policy.set", actor="desk").count() == 2
    with pytest.raises(IntegrityError), transaction.atomic():
        PositionPolicy.objects.create()


@pytest.mark.parametrize(
    ("values", "field", "words"),
    [
        ({"max_loss_percent": D(0)}, "max_loss_percent", "max_loss_percent is 0; expected 0.1 to 100"),
        ({"partial_exits": [["1", "x"]]}, "partial_exits", "pairs of numbers"),
        ({"partial_exits": [["NaN", "1"]]}, "partial_exits", "finite numbers"),
        ({"partial_exits": 5}, "partial_exits", "pairs of numbers"),
        ({"trailing_stop_distances": [["5", "1"], ["2", "1"]]}, "trailing_stop_distances", "rising profits"),
        ({"leverage_low": D(60)}, "leverage_low", "expected 1 to 50"),
        ({"low_volatility_percent": D(9)}, "low_volatility_percent", "below high_volatility_percent"),
    ],
)
def test_a_policy_outside_its_ranges_names_field_and_range(values: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(ValidationError) as refused, transaction.atomic():
        position_policy_set(actor="desk", **values)
    assert words in refused.value.message_dict[field][0]
    assert not PositionPolicy.objects.exists()


def test_signals_are_combined_for_accounts_whose_policy_says_so_and_for_others_by_the_one_for_all(
    account: Account,
) -> None:
    alice, bob = account, builders.account(builders.user("bob"))
    position_policy_set(actor="root", account=alice, combine_signals=True)
    assert (policies().combines(alice.pk), policies().combines(bob.pk)) == (True, False)
    position_policy_set(actor="root", combine_signals=True)
    position_policy_set(actor="root", account=alice, combine_signals=False)
    assert (policies().combines(alice.pk), policies().combines(bob.pk)) == (False, True)
    after = AuditEvent.objects.filter(action="position_policy.set").latest("pk").after
    assert after["combine_signals"] is False
