"""The dashboard in a real browser, served by the real web process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from audit import bus
from marketdata.services import LatestFrames
from tests import builders
from tests.processes import ServerProcess, start_site
from trading.models import Account, Order
from trading.services.fills import fill_apply
from trading.services.orders import order_place

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
expect.set_options(timeout=30_000)  # five seconds are little for a page beside the other worker's tests
DESKTOP, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture
def accounts(transactional_db: None) -> dict[str, Account]:
    builders.list_instruments()
    return {name: builders.account(builders.user(name)) for name in ("alice", "bob")}


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport=DESKTOP)
    page = context.new_page()
    page.set_default_timeout(30_000)
    yield page
    context.close()


def log_in(page: Page, site: ServerProcess, name: str) -> None:
    page.goto(site.url)
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(f"{name}-password")
    page.get_by_role("button", name="Log in").click()
    expect(page.locator("#connection")).to_have_text("live")


def place(account: Account, **changes: Any) -> Order:
    values: dict[str, Any] = {"symbol": "BTCUSDT", "side": "Buy", "order_type": "Limit"}
    values |= {"quantity": Decimal("0.01"), "price": Decimal("60000.0")}
    return order_place(account=account, actor="test", **(values | changes))


def test_a_wrong_password_says_so_and_the_right_one_opens_the_desk(
    page: Page, site: ServerProcess, accounts: dict[str, Account]
) -> None:
    page.goto(f"{site.url}/")
    page.get_by_label("Name").fill("alice")
    page.get_by_label("Password").fill("guess")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_contain_text("wrong")
    log_in(page, site, "alice")
    expect(page.locator("#environment")).to_have_text("SIMULATOR")
    expect(page.locator("#panel")).to_contain_text("No open positions")


def test_a_user_sees_only_their_own_account_and_what_happens_on_it_without_a_reload(
    page: Page, site: ServerProcess, accounts: dict[str, Account]
) -> None:
    place(accounts["bob"], symbol="ETHUSDT", price=Decimal("3000.00"))
    log_in(page, site, "alice")
    assert page.locator("#account option").all_text_contents() == ["alice account"]
    page.get_by_role("tab", name="Open orders").click()
    expect(page.locator("#panel")).to_contain_text("No open orders")
    place(accounts["alice"])
    expect(page.locator("#panel")).to_contain_text("60000.0")
    assert "ETHUSDT" not in page.locator("#panel").inner_text()
    fill_apply(account_id=accounts["alice"].pk, report=builders.fill_report(client_order_id="", venue_order_id=""))
    page.get_by_role("tab", name="Positions").click()
    expect(page.locator("#panel tbody tr")).to_have_count(1)
    page.get_by_role("tab", name="Fills").click()
    expect(page.locator("#panel tbody tr")).to_contain_text("60000.0")


def test_the_ticket_explains_the_grid_before_it_sends_and_places_what_is_right(
    page: Page, site: ServerProcess, accounts: dict[str, Account]
) -> None:
    log_in(page, site, "alice")
    page.locator("#price").fill("60000.05")
    page.locator("#quantity").fill("0.0105")
    page.locator("#submit").click()
    expect(page.locator('[data-error="price"]')).to_have_text("must be a multiple of 0.1")
    expect(page.locator('[data-error="quantity"]')).to_have_text("must be a multiple of 0.001")
    assert not Order.objects.exists()
    page.locator("#price").fill("60000.0")
    page.locator("#quantity").fill("0.01")
    page.locator("#submit").click()
    page.get_by_role("tab", name="Open orders").click()
    expect(page.locator("#panel tbody tr")).to_have_count(1)
    page.get_by_role("button", name="Cancel", exact=True).click()
    expect(page.locator("#panel")).to_contain_text("No open orders")
    assert Order.objects.get().state == "cancelled"


def test_market_frames_fill_the_ladder_and_an_unproven_book_is_named(
    page: Page, site: ServerProcess, accounts: dict[str, Account]
) -> None:
    log_in(page, site, "alice")
    frame(["100.0", "1"], ["100.5", "2"], "LIVE", "")
    expect(page.locator(".level.bid").first).to_contain_text("100.0")
    expect(page.locator(".level.ask").last).to_contain_text("100.5")
    frame(["100.0", "1"], ["100.5", "2"], "SYNCING", "gap: update 12 after 10")
    expect(page.locator("#book-state")).to_have_text("book syncing: gap: update 12 after 10")
    page.locator(".level.bid").first.click()
    expect(page.locator("#price")).to_have_value("100.0")


def spoof(seconds_ago: float, **changes: Any) -> dict[str, Any]:
    """One detection as a market frame has it."""
    at = int(1000 * (time.time() - seconds_ago))
    values: dict[str, Any] = {"kind": "SPOOFING", "side": "bid", "low": "99.0", "high": "99.0", "begin": at, "t": at}
    values |= {"score": 0.73, "reason": "a bid of 100 at 99.0 was withdrawn", "evidence": {"opposite_volume": 8.0}}
    return values | changes


def test_detections_are_shown_with_their_evidence_and_news_disturb_nobody_who_reads(
    page: Page, site: ServerProcess, accounts: dict[str, Account]
) -> None:
    log_in(page, site, "alice")
    frame(["100.0", "1"], ["100.5", "2"], "LIVE", "", detections=[])
    flow = page.get_by_role("group", name="Order flow")
    expect(flow).to_contain_text("Nothing unusual now")
    old = spoof(75)
    frame(["100.0", "1"], ["100.5", "2"], "LIVE", "", detections=[old])
    rows = flow.locator("details")
    expect(rows).to_have_count(1)
    for text in ("Spoofing?", "bid", "99.0", "1 min"):
        expect(rows.first).to_contain_text(text)
    rows.first.locator("summary").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text("a bid of 100 at 99.0 was withdrawn")).to_be_visible()
    expect(page.get_by_text("opposite volume")).to_be_visible()
    toxic = spoof(1, kind="TOXICITY", side="ask", low="100.0", high="100.5", evidence={"vpin": 0.6})
    frame(["100.0", "1"], ["100.5", "2"], "LIVE", "", detections=[toxic])
    expect(rows.first).to_contain_text("sellers")
    # The older one is not among the newest any more, but somebody reads it.
    expect(page.get_by_text("opposite volume")).to_be_visible()
    frame(["100.0", "1"], ["100.5", "2"], "LIVE", "")
    expect(rows).to_have_count(2)


def frame(bid: list[str], ask: list[str], state: str, reason: str, **changes: Any) -> None:
    """What an engine publishes, published here: kept for pages that subscribe later, told to those that have."""
    body = builders.market_frame(bids=[bid], asks=[ask], state=state, state_reason=reason, **changes)
    LatestFrames().store({"BTCUSDT": body}, None)
    bus.BUS.ring("market.BTCUSDT", {"type": "market.frame", "symbol": "BTCUSDT", "body": body})


@pytest.fixture
def mortal_site(process_environment: dict[str, str], tmp_path: Path) -> Iterator[ServerProcess]:
    """A web process of the test's own, which it may kill."""
    server = start_site(tmp_path / "web.log", process_environment)
    yield server
    server.stop()


def test_a_restart_of_the_server_is_survived_and_what_was_missed_is_there(
    page: Page,
    mortal_site: ServerProcess,
    accounts: dict[str, Account],
    process_environment: dict[str, str],
    tmp_path: Path,
) -> None:
    site = mortal_site
    log_in(page, site, "alice")
    page.get_by_role("tab", name="Open orders").click()
    expect(page.locator("#panel")).to_contain_text("No open orders")
    site.kill()
    expect(page.locator("#connection")).to_contain_text("reconnecting")
    place(accounts["alice"])
    again = start_site(tmp_path / "web-again.log", process_environment, port=site.port)
    try:
        expect(page.locator("#connection")).to_have_text("live")
        expect(page.locator("#panel tbody tr")).to_have_count(1)
    finally:
        again.stop()


def test_on_a_phone_every_view_is_a_tap_away_and_nothing_scrolls_sideways(
    page: Page, site: ServerProcess, accounts: dict[str, Account]
) -> None:
    page.set_viewport_size(PHONE)
    log_in(page, site, "alice")
    for name, visible in (
        ("Book", "#ladder"),
        ("Flow", "#flow"),
        ("Trade", "#ticket"),
        ("Account", "#panel"),
        ("Chart", "#chart"),
    ):
        page.get_by_role("navigation").get_by_role("button", name=name).click()
        expect(page.locator(visible)).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_instrument_switcher_opens_by_key_and_narrows(
    page: Page, site: ServerProcess, accounts: dict[str, Account]
) -> None:
    log_in(page, site, "alice")
    page.keyboard.press("/")
    page.get_by_label("Search instruments").fill("sol")
    page.keyboard.press("Enter")
    expect(page.locator("#symbol-name")).to_have_text("SOLUSDT")


def test_somebody_without_an_account_is_told_what_to_do(
    page: Page, site: ServerProcess, transactional_db: None
) -> None:
    builders.list_instruments()
    builders.user("charlie")
    log_in(page, site, "charlie")
    expect(page.locator("#panel")).to_contain_text("You have no account yet")
