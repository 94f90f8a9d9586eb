"""Paper on the page: nobody takes it for real, and nobody trades for real by accident."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests import builders
from tests.dashboard.test_dashboard import PHONE, accounts, log_in, page, place
from tests.processes import ServerProcess
from trading.lifecycle import OrderState
from trading.models import Account, Membership, Order
from trading.services.account_modes import account_mode_set
from trading.services.accounts import membership_grant

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
__all__ = ["accounts", "page"]


def test_paper_says_so_everywhere_and_trading_for_real_takes_the_accounts_name(
    page: Page, site: ServerProcess, accounts: dict[str, Account], tmp_path: Path
) -> None:
    Account.objects.filter(pk=accounts["alice"].pk).update(environment="live")
    real = place(accounts["alice"])
    Order.objects.filter(pk=real.pk).update(state=OrderState.CANCELLED)
    log_in(page, site, "alice")
    badge, strip = page.locator("#environment"), page.locator("#paper-strip")
    expect(badge).to_have_text("LIVE")
    expect(strip).to_be_hidden()
    expect(page.locator("#submit")).to_contain_text("LIVE: Buy")
    page.screenshot(path=tmp_path / "live.png")

    page.get_by_label("Menu").click()
    page.locator("#mode-switch").click()
    page.get_by_role("button", name="Trade on paper", exact=True).click()
    expect(badge).to_have_text("PAPER")
    expect(strip).to_contain_text("PAPER")
    expect(page.locator("#submit")).to_contain_text("PAPER: Buy")
    assert page.locator("#account option").all_text_contents() == ["[PAPER] alice account"]
    page.screenshot(path=tmp_path / "paper.png")
    page.locator("#stop").click()
    expect(page.locator("#kill-badge")).to_have_text("PAPER")
    expect(page.locator("#kill-consequence")).to_contain_text("[PAPER] alice account")
    page.keyboard.press("Escape")
    page.set_viewport_size(PHONE)
    expect(badge).to_be_visible()
    expect(strip).to_be_visible()
    page.screenshot(path=tmp_path / "paper-phone.png")

    page.set_viewport_size({"width": 1440, "height": 900})
    page.get_by_label("Menu").click()
    page.locator("#mode-switch").click()
    confirm = page.get_by_role("button", name="Trade for real", exact=True)
    expect(confirm).to_be_disabled()
    page.locator("#mode-name").fill("alice")
    page.keyboard.press("Enter")
    expect(confirm).to_be_disabled()
    page.screenshot(path=tmp_path / "confirm.png")
    page.locator("#mode-name").fill("alice account")
    page.keyboard.press("Enter")
    expect(badge).to_have_text("LIVE")
    expect(strip).to_be_hidden()


def test_a_viewer_sees_the_switch_of_somebody_else_at_once_and_has_none(
    page: Page, site: ServerProcess, accounts: dict[str, Account]
) -> None:
    vera = builders.user("vera")
    membership_grant(account=accounts["alice"], user=vera, role=Membership.Role.VIEWER, actor="test")
    log_in(page, site, "vera")
    page.get_by_label("Menu").click()
    expect(page.locator("#mode-switch")).to_be_hidden()
    account_mode_set(account=accounts["alice"], mode="paper", actor="alice")
    expect(page.locator("#environment")).to_have_text("PAPER")
