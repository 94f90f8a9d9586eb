"""The heatmap page in a real browser: what rests is painted, read by pointer and keys, moved, and goes on with time."""

from __future__ import annotations

import re
import time

import pytest
from playwright.sync_api import Page, expect

from marketdata.depth import services
from marketdata.depth.snapshots import MINUTE, Market, minute_of
from tests.depth_pages.downloads import csv_of
from tests.depth_pages.heat import store_heat
from tests.depth_pages.rows import tell_book
from tests.marketdata.depth.volumes import heat_minute
from tests.processes import ServerProcess

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

PAINTED = """() => {
  const canvas = document.getElementById("map"), context = canvas.getContext("2d");
  const pixels = context.getImageData(0, 0, canvas.width - 90, canvas.height - 40).data, seen = new Set();
  for (let at = 0; at < pixels.length; at += 4 * 97) seen.add(pixels[at] + "," + pixels[at + 1] + "," + pixels[at + 2]);
  return seen.size;
}"""


def test_what_rests_is_painted_read_by_keys_zoomed_and_exported(page: Page, site: ServerProcess) -> None:
    services.collector_symbols_add(symbols=["BTCUSDT"], source="stream", actor="test")
    store_heat("BTCUSDT", Market.SPOT, 90)
    tell_book(price=84_000)
    page.goto(f"{site.url}/depth/heatmap/")
    expect(page.locator("#heat")).to_have_attribute("data-state", "ready")
    expect(page.locator("#book-state")).to_have_text("live book")
    expect(page.locator("#legend-high")).to_have_text(re.compile(r"≥ [\d.]+ coins a row of (50|100)"))
    page.wait_for_function(f"({PAINTED})() > 20")
    log_legend = page.locator("#legend-middle").inner_text()
    page.get_by_role("button", name="Linear").click()
    expect(page.locator("#legend-middle")).not_to_have_text(log_legend)
    surface = page.get_by_role("application", name="Heatmap of resting volume")
    surface.focus()
    page.keyboard.press("Alt+ArrowUp")
    spoken = page.locator("#spoken")
    expect(spoken).to_have_text(re.compile(r"\d\d:\d\d · \d{5} – \d{5} · (bids|asks) [\d.]+$"))
    before = spoken.inner_text()
    page.keyboard.press("Alt+ArrowUp")
    expect(spoken).not_to_have_text(before)
    for key in ("+", "+", "+", "ArrowLeft", "Shift+ArrowUp"):
        page.keyboard.press(key)
    expect(page).to_have_url(re.compile(r"scale=linear&view=\d+,\d+,[\d.]+,[\d.]+"))
    shared = page.url
    part = csv_of(page.get_by_role("button", name="CSV"))
    assert 0 < len(part) < 90 * 200 / 2
    page.goto(shared)
    expect(page.locator("#heat")).to_have_attribute("data-state", "ready")
    page.get_by_role("button", name="Fit").click()
    expect(page).not_to_have_url(re.compile("view="))


def test_new_minutes_join_the_map_and_a_market_without_any_says_so(page: Page, site: ServerProcess) -> None:
    services.collector_symbols_add(symbols=["BTCUSDT"], source="stream", actor="test")
    now = minute_of(time.time())
    services.heat_minutes_store([heat_minute(now - at * MINUTE) for at in range(3, 8)])
    page.clock.install()
    page.goto(f"{site.url}/depth/heatmap/?span=1h")
    expect(page.locator("#heat")).to_have_attribute("data-state", "ready")
    edge = page.locator("#edge")
    before = edge.inner_text()
    assert re.fullmatch(r"minutes to \d\d:\d\d", before)
    services.heat_minutes_store([heat_minute(now - at * MINUTE, bid="20") for at in range(3)])
    # The page asks every ten seconds.
    page.clock.fast_forward(11_000)
    expect(edge).not_to_have_text(before)
    page.get_by_role("button", name="Futures").click()
    expect(page.locator("#heat")).to_contain_text("Nothing of BTCUSDT on Futures is stored")
