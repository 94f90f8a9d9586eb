"""The page of TOTAL and its kin in a real browser."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, Route, expect

from marketdata.depth import services
from marketdata.depth.snapshots import DEPTHS, Market
from tests.depth_pages.downloads import csv_of
from tests.depth_pages.rows import last_minutes, store_minutes, tell_book
from tests.marketdata.depth.volumes import volume
from tests.processes import ServerProcess

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def tell(symbol: str, bid: str, ask: str) -> None:
    tell_book(symbol, volumes=[volume(depth, bid, ask, covered=depth <= 50) for depth in DEPTHS])


def test_each_group_is_shown_at_every_depth_as_it_changes_and_as_it_was(page: Page, site: ServerProcess) -> None:
    services.collector_symbols_add(symbols=["BTCUSDT", "ETHUSDT", "SOLUSDT"], source="rest", actor="test")
    for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT"):
        store_minutes(symbol, Market.SPOT, last_minutes(20), depths=[50])
        tell(symbol, "10", "30")
    page.goto(f"{site.url}/depth/total/")
    cards = page.locator(".card-of-group")
    expect(cards.locator(".tag")).to_have_text(["3 symbols", "2 symbols", "1 symbol", "1 symbol"])
    whole = cards.first.locator("tbody tr")
    expect(whole).to_have_count(6)
    expect(whole.nth(2).locator("td")).to_have_text(["3,000", "9,000", "−6,000", "−50.0"])
    expect(whole.nth(3).locator("td").first).to_have_text("≥ 3,000")
    # Bitcoin's bids grow: TOTAL has them, TOTAL1 is without.
    tell("BTCUSDT", "100", "30")
    expect(whole.nth(2).locator("td").first).to_have_text("12,000")
    expect(cards.nth(1).locator("tbody tr").nth(2).locator("td").first).to_have_text("2,000")
    expect(page.locator("#history")).to_have_attribute("data-state", "ready")
    cards.nth(1).get_by_role("button", name="5 %", exact=True).click()
    expect(page).to_have_url(re.compile("group=TOTAL1"))
    expect(page.locator("#history-title")).to_have_text("TOTAL1 within 5 %, Spot")
    expect(page.locator("#history")).to_have_attribute("data-state", "ready")
    rows = csv_of(page.get_by_role("button", name="CSV"))
    assert 20 <= len(rows) <= 22
    assert float(rows[0]["bidUsd"]) - float(rows[0]["askUsd"]) == pytest.approx(float(rows[0]["diffUsd"]))


def test_without_books_and_without_an_answer_the_page_says_what_to_do(page: Page, site: ServerProcess) -> None:
    def refuse(route: Route) -> None:
        route.fulfill(status=503, json={"error": {"message": "the books are away"}})

    page.route("**/groups/history*", refuse)
    page.goto(f"{site.url}/depth/total/?market=FUTURES")
    expect(page.locator("#now")).to_contain_text("No Futures book is collected right now")
    expect(page.locator("#history")).to_contain_text("the books are away")
    page.unroute("**/groups/history*")
    page.locator("#history").get_by_role("button", name="Try again").click()
    expect(page.locator("#history")).to_contain_text("Nothing of TOTAL is stored")
