"""The correlation page in a real browser."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest
from playwright.sync_api import Page, expect

from marketdata.depth import services
from marketdata.depth.snapshots import DepthSnapshot, DepthVolume, Market
from tests.depth_pages.downloads import csv_of
from tests.depth_pages.rows import last_minutes
from tests.processes import ServerProcess

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
SYMBOLS = ["BTCUSDT", "ETHUSDT", "SOLUSDT"]


@pytest.fixture
def minutes() -> None:
    """Forty minutes in which ether rises with bitcoin; sol falls, and then rises too."""
    services.collector_symbols_add(symbols=SYMBOLS, source="rest", actor="test")
    rows = []
    for at, minute in enumerate(last_minutes(40)):
        for symbol, coins in zip(SYMBOLS, (100 + at, 10 + 3 * at, 500 - at if at < 25 else 400 + at), strict=True):
            each = Decimal(coins)
            rows.append(DepthSnapshot(symbol, Market.SPOT, minute, DepthVolume(50, each, each, each, each)))
    services.depth_rows_store(rows)


def test_the_matrix_is_a_table_that_keys_walk_and_time_moves(page: Page, site: ServerProcess, minutes: None) -> None:
    page.goto(f"{site.url}/depth/correlation/?window=15&span=3h")
    table = page.get_by_role("table", name=re.compile("Correlation of resting volume, spot"))
    expect(table.get_by_role("rowheader")).to_have_text(["BTC", "ETH", "SOL"])
    cells = table.locator("tbody td")
    expect(cells.nth(1)).to_have_text("1.00")
    cells.first.focus()
    for key in ("ArrowRight", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    expect(page.locator("#pair-title")).to_have_text("BTCUSDT with SOLUSDT")
    expect(page).to_have_url(re.compile("pair=BTCUSDT-SOLUSDT"))
    slider = page.get_by_label("Window in time")
    slider.focus()
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    expect(cells.nth(2)).to_have_text("-1.00")
    expect(page).to_have_url(re.compile(r"at=\d{10}"))
    shared = page.url
    rows = csv_of(page.get_by_role("button", name="CSV"))
    assert {row["ETHUSDT"] for row in rows if row["symbol"] == "BTCUSDT"} >= {"1"}
    page.goto(shared)
    expect(cells.nth(2)).to_have_text("-1.00")
    page.get_by_role("button", name="Remove ETHUSDT").click()
    expect(table.get_by_role("rowheader")).to_have_text(["BTC", "SOL"])
    page.get_by_role("button", name="Remove SOLUSDT").click()
    expect(page.locator("#matrix")).to_contain_text("Add at least two symbols")
