"""The pages of strategies in a real browser, at a desk and on a phone."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from strategies.models import StrategyConfig
from strategies.services import strategy_enable, strategy_stop
from tests import builders
from tests.processes import ServerProcess
from trading.models import Account

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
PHONE = {"width": 390, "height": 844}


@pytest.fixture
def alices(transactional_db: None) -> Account:
    builders.list_instruments()
    return builders.account(builders.user("alice"))


def shot(page: Page, name: str) -> None:
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)


def fits(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


def shows_its_trade(page: Page) -> bool:
    """A chart that came, as wide as its words can be read."""
    image = page.locator(".documentation img")
    if not image.count():
        return False
    image.evaluate("image => image.decode()")
    return image.evaluate("image => image.naturalWidth > 0 && image.clientWidth >= 600")


def test_a_strategy_is_found_added_corrected_enabled_and_disabled(
    log_in: Callable[..., Page], site: ServerProcess, alices: Account
) -> None:
    page = log_in(alices.owner)
    page.goto(f"{site.url}/strategies/")
    expect(page.get_by_role("region", name="Files that are left out")).to_contain_text("broken.py:1")
    shot(page, "list")
    page.get_by_role("link", name="SuperTrend").click()
    expect(page.get_by_role("heading", name="SuperTrend")).to_be_visible()
    assert shows_its_trade(page)
    expect(page.locator(".documentation")).to_contain_text("Read this as in-sample")
    page.get_by_label("Account", exact=True).select_option(label="alice account")
    page.get_by_label("Name", exact=True).fill("flips")
    page.get_by_label("Symbols").fill("BTCUSDT ETHUSDT")
    page.get_by_label("Period bars").fill("1")
    page.get_by_label("Leverage", exact=True).fill("80")
    page.get_by_role("button", name="Add, not enabled yet").click()
    expect(page.get_by_role("alert").filter(has_text="Nothing is saved yet")).to_be_visible()
    expect(page.locator(".field", has=page.get_by_label("Period bars")).get_by_role("alert")).to_contain_text("2")
    expect(page.get_by_label("Name", exact=True)).to_have_value("flips")
    shot(page, "refused")
    page.get_by_label("Period bars").fill("12")
    page.get_by_role("button", name="Add, not enabled yet").click()
    expect(page.locator(".field", has=page.get_by_label("Leverage", exact=True)).get_by_role("alert")).to_contain_text(
        "must be 1 to 50"
    )
    page.get_by_label("Leverage", exact=True).fill("8")
    page.get_by_role("button", name="Add, not enabled yet").click()
    expect(page.get_by_role("status")).to_contain_text("flips is saved; it is not enabled")
    page.get_by_role("button", name="Enable flips").click()
    expect(page.get_by_role("status")).to_contain_text("flips is enabled")
    config = StrategyConfig.objects.get()
    assert config.enabled and config.parameters["period"] == 12
    shot(page, "detail")
    page.get_by_role("button", name="Disable flips").click()
    expect(page.get_by_role("status")).to_contain_text("flips is disabled")
    page.get_by_role("link", name="flips").click()
    expect(page.get_by_role("button", name="Save flips")).to_be_visible()
    expect(page.get_by_label("Period bars")).to_have_value("12")


def test_on_a_phone_nothing_scrolls_sideways_and_a_stopped_strategy_says_why(
    log_in: Callable[..., Page], site: ServerProcess, alices: Account
) -> None:
    config = strategy_enable(config=builders.strategy(alices), actor="alice")
    why = "ZeroDivisionError: division by zero (mine.py:3 in on_candle), on BTCUSDT"
    strategy_stop(config_id=config.pk, actor="engine:1", reason=why)
    page = log_in(alices.owner)
    page.set_viewport_size(PHONE)
    for path in ("", "supertrend/", "scalping.imbalance/", "own.mine/"):
        page.goto(f"{site.url}/strategies/{path}")
        expect(page.locator("main h2").first).to_be_visible()
        assert shows_its_trade(page) == (path in ("supertrend/", "scalping.imbalance/"))
        assert fits(page), path
        shot(page, f"phone-{path.strip('/') or 'list'}")
    page.goto(f"{site.url}/strategies/")
    expect(page.locator("tr[data-state=stopped]")).to_contain_text(why)
