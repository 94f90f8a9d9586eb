"""The page of spot against futures in a real browser."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from marketdata.depth import services
from marketdata.depth.snapshots import DEPTHS, DepthSnapshot, Market
from tests.depth_pages.downloads import csv_of
from tests.depth_pages.rows import last_minutes, tell_book
from tests.marketdata.depth.volumes import volume
from tests.processes import ServerProcess

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def tell(market: Market, bid: str, ask: str = "8") -> None:
    tell_book(market=market, volumes=[volume(depth, bid, ask) for depth in DEPTHS])


def test_both_markets_and_their_difference_are_shown_now_and_as_they_were(page: Page, site: ServerProcess) -> None:
    services.collector_symbols_add(symbols=["BTCUSDT"], source="stream", actor="test")
    for market, bid in ((Market.SPOT, "10"), (Market.FUTURES, "15")):
        rows = [DepthSnapshot("BTCUSDT", market, minute, volume(30, bid)) for minute in last_minutes(12)]
        services.depth_rows_store(rows)
    tell(Market.SPOT, "10")
    page.goto(f"{site.url}/depth/spread/?depth=3&side=bid&span=1h")
    expect(page.locator("#bid-spot")).to_have_text("10")
    expect(page.locator("#bid-percent")).to_have_text("—")
    expect(page.locator("#books-state")).to_contain_text("Futures: no book now")
    expect(page.locator("#legend")).to_contain_text("Futures over spot +50.00 %")
    tell(Market.FUTURES, "25")
    expect(page.locator("#bid-percent")).to_have_text("+150.00 %")
    expect(page.locator("#ask-percent")).to_have_text("0.00 %")
    expect(page.locator("#legend")).to_contain_text("Futures over spot +150.00 %")
    found = csv_of(page.get_by_role("button", name="CSV"))
    assert {row["futuresOverSpotPercent"] for row in found[:11]} == {"50"}
    assert found[-1]["futures"] == "25" and found[-1]["futuresOverSpotPercent"] == "150"
    page.get_by_role("group", name="Depth").get_by_role("button", name="8 %").click()
    expect(page.locator("#history")).to_contain_text("Nothing of BTCUSDT is stored of both markets")
    page.go_back()
    expect(page.locator("#history")).to_have_attribute("data-state", "ready")
