"""How fast the depth charts page is in a real browser, on generated rows; run by ``bench_depth.py --pages``.

The page tells its own times: the browser's clock from the navigation, or from a choice, until the chart is drawn.
"""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

OPEN_MS, SWITCH_MS, YEAR_MS = 1_500, 300, 200
CHROMIUM = "/usr/bin/chromium"
COINS = 24
DRAWN = "performance.getEntriesByName('depth:{name}').length > {count}"


def report(name: str, took: Sequence[float], goal: float | None = None) -> None:
    ordered = sorted(took)
    worst = ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))]
    asked = f"; goal {goal:.0f} ms" if goal else ""
    middle = statistics.median(ordered)
    print(f"{name}: least {ordered[0]:.0f} ms, median {middle:.0f}, p95 {worst:.0f} of {len(ordered)}{asked}")


def put_rows(names: Sequence[str]) -> None:
    from marketdata.depth import services
    from marketdata.depth.models import DepthDay
    from marketdata.depth.snapshots import DEPTHS, Market
    from tests.depth_pages.rows import last_minutes, store_aggregates, store_minutes

    services.collector_symbols_add(symbols=names, source="rest", actor="bench")
    for name in names:
        store_minutes(name, Market.SPOT, last_minutes(180), depths=[50])
    for depth in DEPTHS:
        store_aggregates(names[0], Market.SPOT, depth, DepthDay, 366)


def keep_telling(names: Sequence[str], stop: threading.Event) -> None:
    """Every book once, the first one anew each second."""
    from tests.depth_pages.rows import tell_book

    for name in names:
        tell_book(name)
    while not stop.wait(1):
        tell_book(names[0])


def pages(rounds: int) -> None:
    """Needs Django set up on an empty, migrated database."""
    from django.conf import settings
    from django.contrib.auth import get_user_model
    from django.test import Client
    from playwright.sync_api import Page, sync_playwright

    from marketdata.depth.snapshots import DEPTH_TEXTS
    from tests.processes import start_site

    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"  # playwright keeps an event loop in this thread
    names = ["BTCUSDT", *(f"COIN{number:02}USDT" for number in range(COINS))]
    put_rows(names)
    client = Client()
    client.force_login(get_user_model().objects.create_user("charts", password="bench-password"))
    site = start_site(Path(os.environ["BALLAST_DATA_DIR"]) / "pages.log", {**os.environ, "DEPTH_API_RATE": "1000000"})
    stop = threading.Event()
    teller = threading.Thread(target=keep_telling, args=(names, stop))
    teller.start()

    def choose(page: Page, act: Callable[[], None]) -> float:
        """Milliseconds from a choice to its chart."""
        count = page.evaluate("performance.getEntriesByName('depth:change').length")
        act()
        page.wait_for_function(DRAWN.format(name="change", count=count))
        return float(page.evaluate("performance.getEntriesByName('depth:change').at(-1).duration"))

    def choose_symbol(page: Page, name: str) -> None:
        page.keyboard.press("/")
        page.keyboard.type(name)
        page.keyboard.press("Enter")

    try:
        with sync_playwright() as playwright:
            flags = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
            context = browser.new_context(viewport={"width": 1440, "height": 900})
            cookie = settings.SESSION_COOKIE_NAME
            context.add_cookies([{"name": cookie, "value": client.cookies[cookie].value, "url": site.url}])
            page = context.new_page()
            charts, lives = [], []
            for _ in range(rounds + 1):
                page.goto(f"{site.url}/depth/?symbol=BTCUSDT")
                page.wait_for_function(DRAWN.format(name="live", count=0))
                time.sleep(1)  # what goes on behind the first chart is not part of the next round
                for name, took in (("chart", charts), ("live", lives)):
                    took.append(float(page.evaluate(f"performance.getEntriesByName('depth:{name}')[0].startTime")))
            # The first one fills the browser's and the server's caches.
            report("charts page opened, first chart", charts[1:])
            report("charts page opened, first live point", lives[1:], OPEN_MS)
            fresh = [choose(page, lambda name=name: choose_symbol(page, name)) for name in names[1:]]
            report("symbol switched, never seen before", fresh, SWITCH_MS)
            known = [choose(page, lambda name=name: choose_symbol(page, name)) for name in names[1:]]
            report("symbol switched, seen before", known, SWITCH_MS)
            choose(page, lambda: choose_symbol(page, names[0]))
            years = [choose(page, page.locator("#spans").get_by_text("1 y").click)]
            for depth in DEPTH_TEXTS.values():
                if depth != "5":
                    years.append(choose(page, page.locator(f'#depths button[value="{depth}"]').click))
            report("a year of days, never asked before", years, YEAR_MS)
            browser.close()
    finally:
        stop.set()
        teller.join()
        site.stop()
