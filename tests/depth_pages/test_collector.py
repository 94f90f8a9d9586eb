"""The collector page in a real browser: staff say what is collected, others read."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from audit.models import AuditEvent
from audit.services import heartbeat_record
from marketdata.depth import selectors, services
from marketdata.models import DepthSymbol
from tests.processes import ServerProcess, until

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
GREEN, AMBER = "rgb(47, 191, 138)", "rgb(240, 169, 59)"
PHONE = {"width": 390, "height": 844}


@pytest.fixture
def collected() -> None:
    """Two symbols, and a process that told of itself: one of them fails on futures."""
    services.collector_symbols_add(symbols=["BTCUSDT"], source="stream", actor="test")
    services.collector_symbols_add(symbols=["XRPUSDT"], source="rest", actor="test")
    now = time.time()
    market = {"requests": 620, "ok": 618, "failed": 2, "symbols": 1, "used_weight": 85, "unlisted": [], "began": now}
    market |= {"last_collection": now, "latency_ms": 81.5}
    stream = {"connected": True, "books": {"BTCUSDT": "LIVE"}, "unlisted": [], "gaps": 3, "last_update": now}
    detail = {
        "running": True,
        "requests": {"requests": 1_240, "ok": 1_236, "failed": 4},
        "last_collection": now,
        "rest": {
            "SPOT": {**market, "failing": {}},
            "FUTURES": {**market, "failing": {"XRPUSDT": "the venue answered 500"}},
        },
        "streams": {"SPOT": stream, "FUTURES": stream | {"connected": False}},
        "writer": {"waiting": 24, "journal_bytes": 2_048, "breaker": "closed", "stored": 51_200, "dropped": 0},
        "snapshots": 51_224,
    }
    heartbeat_record(selectors.HEARTBEAT, "1", "ok", detail)


def test_everybody_reads_how_collecting_goes_and_finds_symbols_but_only_staff_may_change_it(
    page: Page, site: ServerProcess, collected: None
) -> None:
    page.goto(f"{site.url}/depth/collector/")
    expect(page.locator("#state")).to_have_text("Collecting")
    for words in ("1,240 in all, 1,236 ok, 4 failed", "24 rows wait, 2 KiB", "Spot connected, 1 of 1 live"):
        expect(page.locator("#summary")).to_contain_text(words)
    expect(page.locator("#failing")).to_have_text("Futures XRPUSDT: the venue answered 500")
    page.get_by_label("Search symbols").fill("xrp")
    expect(page.locator("#rows tr")).to_have_count(1)
    expect(page.locator("#rows")).to_contain_text("the venue answered 500")
    expect(page.locator("main")).to_contain_text("Staff start and stop collecting")
    expect(page.locator("main button").filter(has_text="Remove")).to_have_count(0)
    refused = page.evaluate("""async () => {
      const token = document.querySelector("[name=csrfmiddlewaretoken]").value;
      const answer = await fetch("/api/v1/collector", {method: "DELETE", headers: {"X-CSRFToken": token}});
      return answer.status;
    }""")
    assert refused == 403 and selectors.collector().is_running


def test_staff_stop_start_add_and_remove_and_are_told_what_is_wrong(
    log_in: Callable[..., Page], site: ServerProcess, collected: None
) -> None:
    page = log_in("sam", is_staff=True)
    page.goto(f"{site.url}/depth/collector/")
    page.get_by_role("button", name="Stop collecting").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("None of the 2 symbols is collected")
    dialog.get_by_role("button", name="Leave it").click()
    assert selectors.collector().is_running
    page.get_by_role("button", name="Stop collecting").click()
    dialog.get_by_role("button", name="Stop collecting").click()
    expect(page.locator("#state")).to_contain_text("Stopped")
    assert not selectors.collector().is_running
    page.get_by_role("button", name="Start collecting").click()
    until(lambda: selectors.collector().is_running)
    names = page.get_by_label("Symbols to add")
    names.fill("ETHUSDT, no")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_role("alert").filter(has_text="NO")).to_contain_text("5 to 20 letters and digits")
    names.fill("ethusdt, solusdt")
    page.get_by_label("Source", exact=True).first.select_option("rest")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.locator("#rows tr")).to_have_count(4)
    page.get_by_role("button", name="Remove XRPUSDT").click()
    expect(dialog).to_contain_text("Its history stays")
    dialog.get_by_role("button", name="Remove").click()
    expect(page.locator("#rows tr")).to_have_count(3)
    assert list(DepthSymbol.objects.values_list("symbol", flat=True)) == ["BTCUSDT", "ETHUSDT", "SOLUSDT"]
    assert {
        "depth_collector.stopped",
        "depth_collector.started",
        "depth_collector.symbols_added",
        "depth_collector.symbols_removed",
    } <= set(AuditEvent.objects.filter(actor="sam").values_list("action", flat=True))


def test_the_status_page_shows_each_part_green_or_red_and_when_it_was_heard_of(
    page: Page, site: ServerProcess, collected: None
) -> None:
    page.set_viewport_size(PHONE)
    page.goto(f"{site.url}/status")
    part = page.get_by_role("region", name="Depth analytics")
    good, bad = (part.locator("tr").filter(has_text=name) for name in ("spot stream", "futures stream"))
    expect(good.locator("td").nth(1)).to_have_css("color", GREEN)
    expect(bad.locator("td").nth(1)).to_have_css("color", AMBER)
    expect(bad).to_contain_text("not connected")
    expect(good).to_contain_text(re.compile(r"\d\d:\d\d:\d\d, \d+ s ago"))
    expect(part.locator("tr").filter(has_text="spot rest")).to_contain_text("81.5 ms")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_on_a_phone_none_of_the_pages_scrolls_sideways(page: Page, site: ServerProcess, collected: None) -> None:
    page.set_viewport_size(PHONE)
    for name, ready in (
        ("total", "#now[data-state=empty]"),
        ("spread", "#history[data-state=empty]"),
        ("correlation", "#matrix[data-state=empty]"),
        ("heatmap", "#heat[data-state=empty]"),
        ("collector", "#symbols[data-state=ready]"),
    ):
        page.goto(f"{site.url}/depth/{name}/")
        expect(page.locator(ready)).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
