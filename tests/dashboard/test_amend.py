"""Changing a working order on the page, and the differences tab: by keyboard, on a phone, and not by a viewer."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect

from tests import builders
from tests.dashboard.test_dashboard import DESKTOP, PHONE, accounts, log_in, page, place
from tests.processes import ServerProcess
from trading.models import Account, Membership, Order, OrderAmendment
from trading.reconciliation import Difference, DifferenceKind
from trading.reports import Submission, SubmissionResult
from trading.services.accounts import membership_grant
from trading.services.fills import fill_apply, order_report_apply
from trading.services.order_commits import order_take
from trading.services.order_outcomes import order_submission_apply
from trading.services.reconciliations import reconciliation_record

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
__all__ = ["accounts", "page"]


def working(account: Account) -> Order:
    """On the venue's book, a part of it filled."""
    order = place(account, client_order_id="order-1")
    owner = builders.ownership(account.pk)
    order_take(order_id=order.pk, refusals=(), receive_window_ms=5000, owner=owner)
    order_submission_apply(order_id=order.pk, result=SubmissionResult(Submission.ACCEPTED, "venue-1"))
    order_report_apply(account_id=account.pk, report=builders.order_report())
    fill_apply(account_id=account.pk, report=builders.fill_report(quantity=Decimal("0.004")))
    return order


def test_an_order_is_changed_by_keyboard_and_what_is_wrong_is_said_at_its_field(
    page: Page, site: ServerProcess, accounts: dict[str, Account], tmp_path: Path
) -> None:
    working(accounts["alice"])
    log_in(page, site, "alice")
    page.get_by_role("tab", name="Open orders").click()
    page.get_by_role("button", name="Edit").press("Enter")
    dialog = page.get_by_role("dialog", name="Change Buy BTCUSDT")
    expect(dialog).to_contain_text("It is 0.01 at 60000.0, of which 0.004 are filled")
    change = dialog.get_by_role("button", name="Change the order")
    price, quantity = dialog.get_by_label("Price"), dialog.get_by_label("Quantity")
    expect(price).to_be_focused()
    expect(change).to_be_disabled()  # nothing is changed yet
    page.screenshot(path=tmp_path / "amend.png")
    price.fill("soon")
    expect(dialog).to_contain_text("must be a number above 0")
    expect(change).to_be_disabled()
    price.fill("59000.05")
    quantity.fill("0.003")
    page.keyboard.press("Enter")
    expect(dialog).to_contain_text("must be a multiple of the tick size")
    expect(dialog).to_contain_text("must be above the 0.004")
    assert price.get_attribute("aria-invalid") == quantity.get_attribute("aria-invalid") == "true"
    page.screenshot(path=tmp_path / "amend-wrong.png")
    page.set_viewport_size(PHONE)
    page.screenshot(path=tmp_path / "amend-phone.png")
    box = dialog.bounding_box()
    assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= PHONE["width"]
    page.set_viewport_size(DESKTOP)
    price.fill("59000.5")
    quantity.fill("0.02")
    page.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    expect(page.locator("#panel")).to_contain_text("pending replace")
    amendment = OrderAmendment.objects.get()
    assert (amendment.price, amendment.quantity, amendment.actor) == (Decimal("59000.5"), Decimal("0.02"), "alice")


def test_a_dialog_that_is_left_changes_nothing(page: Page, site: ServerProcess, accounts: dict[str, Account]) -> None:
    working(accounts["alice"])
    log_in(page, site, "alice")
    page.get_by_role("tab", name="Open orders").click()
    page.get_by_role("button", name="Edit").click()
    page.get_by_label("Quantity").last.fill("0.5")
    page.keyboard.press("Escape")
    expect(page.locator("#amend-dialog")).to_be_hidden()
    assert not OrderAmendment.objects.exists()


def test_a_viewer_is_offered_nothing_that_a_viewer_may_not_do(
    page: Page, site: ServerProcess, accounts: dict[str, Account], tmp_path: Path
) -> None:
    working(accounts["alice"])
    fee = Difference(DifferenceKind.FEE, "execution-1", "1 USDT", "2 USDT", stands=True, amount=Decimal(1))
    reconciliation_record(account_id=accounts["alice"].pk, trigger="test", started_at=timezone.now(), differences=[fee])
    membership_grant(account=accounts["alice"], user=builders.user("vera"), role=Membership.Role.VIEWER, actor="alice")
    log_in(page, site, "vera")
    expect(page.locator("#panel")).to_contain_text("0.004")
    expect(page.get_by_role("button", name="Close", exact=True)).to_have_count(0)
    page.get_by_role("tab", name="Open orders").click()
    expect(page.locator("#panel")).to_contain_text("60000.0")
    for name in ("Edit", "Cancel", "Cancel all"):
        expect(page.get_by_role("button", name=name, exact=True)).to_have_count(0)
    page.get_by_role("tab", name="Differences").click()
    expect(page.locator("#panel")).to_contain_text("execution-1")
    expect(page.locator("#reconcile")).to_be_hidden()
    expect(page.locator("#submit")).to_be_disabled()
    expect(page.locator("#submit")).to_have_text("You may see this account, not trade on it")
    page.screenshot(path=tmp_path / "differences.png")
    page.set_viewport_size(PHONE)
    page.get_by_role("button", name="Account", exact=True).click()
    tab, tabs = page.get_by_role("tab", name="Differences").bounding_box(), page.locator("#tabs").bounding_box()
    assert tab is not None and tabs is not None and tab["x"] + tab["width"] <= tabs["x"] + tabs["width"] + 1
    page.screenshot(path=tmp_path / "differences-phone.png")
