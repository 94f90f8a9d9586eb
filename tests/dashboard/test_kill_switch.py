"""The kill switch on the page: by keyboard, never by accident, with its states, and for those who may."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests import builders
from tests.dashboard.test_dashboard import DESKTOP, PHONE, accounts, log_in, page
from tests.processes import ServerProcess
from trading.models import Account, KillSwitch, KillSwitchTask, Membership
from trading.services.accounts import membership_grant
from trading.services.kill_switch import kill_switch_done, kill_switch_engage, kill_switch_progress

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
__all__ = ["accounts", "page"]


def test_trading_is_stopped_by_keyboard_followed_to_its_end_and_re_armed(
    page: Page, site: ServerProcess, accounts: dict[str, Account], tmp_path: Path
) -> None:
    log_in(page, site, "alice")
    page.locator("#stop").focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Stop trading")
    expect(dialog).to_contain_text("Every order of alice account is cancelled and every position is closed")
    # The focus is in the field of the word: Enter alone, or any other word, stops nothing.
    page.keyboard.press("Enter")
    page.keyboard.type("sto")
    expect(page.locator("#kill-confirm")).to_be_disabled()
    page.keyboard.press("Enter")
    assert not KillSwitch.objects.exists()
    page.keyboard.type("p")
    expect(page.locator("#kill-confirm")).to_be_enabled()
    page.screenshot(path=tmp_path / "dialog.png")
    page.keyboard.press("Enter")
    expect(page.locator("#kill-state")).to_have_text("STOPPING")
    switch = KillSwitch.objects.get()
    assert (switch.account, switch.engaged_by) == (accounts["alice"], "alice")
    expect(page.locator("#stop")).to_be_hidden()

    task = switch.tasks.get()
    kill_switch_progress(
        task_id=task.pk, phase=KillSwitchTask.Phase.CLOSING, closer="test", open_orders=0, open_positions=2
    )
    expect(page.locator("#kill-state")).to_have_text("CLOSING POSITIONS")
    expect(page.locator("#kill-words")).to_contain_text("0 orders, 2 positions left")
    expect(page.locator("#rearm")).to_be_hidden()
    page.screenshot(path=tmp_path / "closing.png")
    kill_switch_done(task_id=task.pk, closer="test")
    expect(page.locator("#kill-state")).to_have_text("STOPPED")
    page.screenshot(path=tmp_path / "done.png")
    page.set_viewport_size(PHONE)
    page.screenshot(path=tmp_path / "phone.png")
    page.set_viewport_size(DESKTOP)

    page.locator("#rearm").click()
    page.locator("#kill-reason").fill("looked at everything")
    page.locator("#kill-word").fill("TRADE")
    page.get_by_role("button", name="Re-arm", exact=True).click()
    expect(page.locator("#kill")).to_be_hidden()
    expect(page.locator("#stop")).to_be_visible()
    switch.refresh_from_db()
    assert switch.rearmed_by == "alice"


def test_escape_leaves_everything_as_it_is_and_a_viewer_has_no_button(
    page: Page, site: ServerProcess, accounts: dict[str, Account]
) -> None:
    vera = builders.user("vera")
    membership_grant(account=accounts["alice"], user=vera, role=Membership.Role.VIEWER, actor="test")
    log_in(page, site, "vera")
    expect(page.locator("#stop")).to_be_hidden()
    kill_switch_engage(account=accounts["alice"], actor="alice", reason="seen by all")
    expect(page.locator("#kill-words")).to_contain_text("by alice: seen by all")
    kill_switch_done(task_id=KillSwitchTask.objects.get().pk, closer="test")
    expect(page.locator("#kill-state")).to_have_text("STOPPED")
    expect(page.locator("#rearm")).to_be_hidden()
    page.context.clear_cookies()
    log_in(page, site, "bob")
    expect(page.locator("#kill")).to_be_hidden()
    page.locator("#stop").click()
    page.locator("#kill-word").fill("STOP")
    page.keyboard.press("Escape")
    expect(page.locator("#kill-dialog")).to_be_hidden()
    assert KillSwitch.objects.count() == 1


def test_an_operator_stops_the_platform_and_needs_somebody_else_to_re_arm_it(
    page: Page, site: ServerProcess, accounts: dict[str, Account]
) -> None:
    for name in ("dora", "emil"):
        builders.user(name, is_staff=True, is_superuser=True)
    log_in(page, site, "dora")
    page.locator("#stop").click()
    page.locator("#kill-scope").select_option("platform")
    expect(page.locator("#kill-consequence")).to_contain_text("EVERY account of the platform")
    page.locator("#kill-word").fill("stop")
    page.get_by_role("button", name="Stop trading now").click()
    expect(page.locator("#kill-state")).to_have_text("PLATFORM STOPPING")
    for task in KillSwitchTask.objects.all():
        kill_switch_done(task_id=task.pk, closer="test")
    expect(page.locator("#kill-state")).to_have_text("PLATFORM STOPPED")
    page.locator("#rearm").click()
    page.locator("#kill-reason").fill("all is well")
    page.locator("#kill-word").fill("trade")
    page.get_by_role("button", name="Re-arm", exact=True).click()
    expect(page.locator("#kill-error")).to_contain_text("a second person")
    assert KillSwitch.objects.get().rearmed_at is None
