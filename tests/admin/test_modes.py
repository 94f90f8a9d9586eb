"""Paper and real in the admin: the label wherever an account is named, and the switch with its confirmation."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client

from tests import builders
from trading.models import Account, Membership
from trading.services.accounts import membership_grant

pytestmark = pytest.mark.django_db
LIST = "/admin/trading/account/"


@pytest.fixture
def root(client: Client) -> Client:
    client.force_login(builders.user("root", is_staff=True, is_superuser=True))
    return client


@pytest.fixture
def live(db: None) -> Account:
    """An account of a real venue, which begins on paper."""
    return builders.account(builders.user("alice"), environment="live")


def act(client: Client, action: str, *accounts: Account, **more: Any) -> Any:
    rows = [account.pk for account in accounts]
    return client.post(LIST, {"action": action, "_selected_action": rows, **more}, follow=True)


def mode_of(account: Account) -> str:
    return Account.objects.values_list("mode", flat=True).get(pk=account.pk)


def test_to_trade_for_real_asks_for_the_name_and_says_what_is_wrong(root: Client, live: Account) -> None:
    asked = act(root, "trade_for_real", live)
    assert "Type the account's name to confirm" in asked.content.decode()
    assert mode_of(live) == "paper"
    wrong = act(root, "trade_for_real", live, confirming="yes", confirm_name="alice")
    assert "is expected" in wrong.content.decode() and mode_of(live) == "paper"
    done = act(root, "trade_for_real", live, confirming="yes", confirm_name=live.name)
    assert "[LIVE] alice account: from now on" in done.content.decode() and mode_of(live) == "real"
    act(root, "trade_on_paper", live)
    assert mode_of(live) == "paper"


def test_two_accounts_are_not_let_trade_for_real_at_once(root: Client, live: Account) -> None:
    other = builders.account(builders.user("bob"), environment="live")
    answer = act(root, "trade_for_real", live, other)
    assert "Choose one account" in answer.content.decode()
    assert mode_of(live) == mode_of(other) == "paper"


def test_staff_who_may_not_manage_an_account_do_not_switch_it(client: Client, live: Account) -> None:
    staff = builders.user("staff", is_staff=True)
    staff.user_permissions.add(*Permission.objects.filter(codename__in=["change_account", "view_account"]))
    client.force_login(staff)
    act(client, "trade_for_real", live, confirming="yes", confirm_name=live.name)
    assert mode_of(live) == "paper"
    membership_grant(account=live, user=staff, role=Membership.Role.TRADER, actor="alice")
    answer = act(client, "trade_for_real", live, confirming="yes", confirm_name=live.name)
    assert "only a manager of" in answer.content.decode()
    assert mode_of(live) == "paper"


def test_lists_forms_and_choices_say_paper(root: Client, live: Account) -> None:
    for path in (LIST, f"{LIST}{live.pk}/change/", "/admin/trading/killswitch/add/", "/admin/trading/order/"):
        page = root.get(path).content.decode()
        if path != "/admin/trading/order/":
            assert "PAPER" in page, path
    assert 'class="badge" data-badge="PAPER"' in root.get(LIST).content.decode()
    assert "css/badge.css" in root.get(LIST).content.decode()


def test_order_lists_show_the_books_of_the_accounts_mode_unless_asked_for_others(root: Client) -> None:
    builders.list_instruments()
    for path in ("order", "fill", "position", "reconciliationrun"):
        for books in ("", "?books=paper", "?books=real", "?books=all"):
            assert root.get(f"/admin/trading/{path}/{books}").status_code == 200, (path, books)


def test_a_new_account_of_a_real_venue_needs_no_keys_and_begins_on_paper(root: Client) -> None:
    owner = builders.user("carol")
    form = {
        "name": "new one",
        "owner": owner.pk,
        "venue": "bybit",
        "environment": "testnet",
        "memberships-TOTAL_FORMS": 0,
        "memberships-INITIAL_FORMS": 0,
    }
    root.post(f"{LIST}add/", form)
    assert Account.objects.get().mode == "paper"
    refused = root.post(f"{LIST}add/", {**form, "name": "another", "environment": "simulator"})
    assert "needs its key and its secret" in refused.content.decode()
