"""The pages of backtests in a real browser: asked for, followed, read, compared, taken home as a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from playwright.sync_api import Browser, Page, expect

from tests import builders
from tests.processes import ServerProcess
from trading.models import BacktestRun
from trading.services.backtests import backtest_claim, backtest_end, backtest_progress

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
DESKTOP, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture
def alice(transactional_db: None) -> Any:
    builders.list_instruments()
    return builders.user("alice")


@pytest.fixture
def open_page(browser: Browser, site: ServerProcess) -> Iterator[Callable[..., Page]]:
    """A page of somebody, at an address: ``open_page(alice, "backtests/")``; none of its scripts may break."""
    contexts, broken = [], []

    def begin(user: Any, address: str, viewport: Any = DESKTOP) -> Page:
        client = Client()
        client.force_login(user)
        context = browser.new_context(viewport=viewport, accept_downloads=True)
        contexts.append(context)
        session = client.cookies[settings.SESSION_COOKIE_NAME].value
        context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": session, "url": site.url}])
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("pageerror", lambda error: broken.append(str(error)))
        page.goto(f"{site.url}/{address}")
        return page

    yield begin
    for context in contexts:
        context.close()
    assert not broken


def test_one_is_asked_for_refused_corrected_followed_and_read(alice: Any, open_page: Callable[..., Page]) -> None:
    page = open_page(alice, "backtests/?strategy=momentum.breakout")
    expect(page.get_by_label("Strategy")).to_have_value("momentum.breakout")
    page.keyboard.press("Escape")
    expect(page.locator("#note")).to_contain_text("No backtests yet")
    page.locator("h1").click()
    page.keyboard.press("n")
    page.get_by_label("Strategy").select_option("supertrend")
    page.get_by_label("Period").fill("1")
    page.get_by_label("Balance, USDT").fill("-5")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.locator("[id='f-balance-error']")).to_have_text("must be a number from 1 to 1000000000000")
    expect(page.get_by_label("Period")).to_be_focused()
    page.get_by_label("Period").fill("14")
    page.get_by_label("Balance, USDT").fill("5000")
    page.get_by_label("From").fill("2026-01-01")
    page.get_by_label("Until").fill("2026-01-11")
    page.get_by_label("Bars").select_option("5")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.locator("#state")).to_have_text("queued")
    run = BacktestRun.objects.get()
    asked = run.request["strategies"][0]
    assert (run.owner, run.request["balance"], asked["parameters"]["period"]) == (alice, "5000", 14)
    claimed = backtest_claim(run_id=run.pk, worker="test")
    assert claimed is not None
    backtest_progress(run=claimed, progress=0.42, events=1_234, words="testing")
    expect(page.locator("#counts")).to_contain_text("42 % · 1,234 bars")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#state")).to_have_text("stopping")
    backtest_end(run=claimed)
    expect(page.locator("#state")).to_have_text("stopped")
    expect(page.locator("#words")).to_contain_text("It was stopped")


def test_the_report_shows_what_was_found_beside_another_and_goes_home_as_a_file(
    alice: Any, open_page: Callable[..., Page], browser: Browser, tmp_path: Path
) -> None:
    run, other = builders.backtest_run(alice, name="one"), builders.backtest_run(alice, name="two")
    page = open_page(alice, f"backtests/{run.pk}/")
    expect(page.locator(".strip")).to_contain_text("+2.89 %")
    expect(page.locator(".equity-chart canvas").first).to_be_visible()
    trades = page.get_by_role("region", name="Trades", exact=True).last
    expect(trades.locator("tbody tr")).to_have_count(25)
    trades.get_by_role("button", name="Net profit").click()
    expect(trades.locator("tbody tr").first).to_contain_text("+170.50")
    trades.get_by_role("button", name="Net profit").click()
    expect(trades.locator("tbody tr").first).to_contain_text("−160.50")
    trades.get_by_role("button", name="Next").click()
    expect(trades.locator(".pager")).to_contain_text("26 – 50 of 60")
    trades.locator("tbody tr").first.press("Enter")
    expect(page.get_by_role("region", name="Trades on the price").locator("canvas").first).to_be_visible()
    expect(page.get_by_role("region", name="Signals that did not")).to_contain_text("at most 1 may be")
    page.locator("#with").select_option(str(other.pk))
    expect(page.locator("table.comparison")).to_contain_text(f"#{other.pk} two")
    with page.expect_download() as download:
        page.get_by_role("link", name="HTML").click()
    download.value.save_as(tmp_path / "report.html")
    context = browser.new_context(offline=True, viewport=DESKTOP)
    alone, asked = context.new_page(), []
    alone.on("request", lambda request: asked.append(request.url))
    alone.goto((tmp_path / "report.html").as_uri())
    expect(alone.locator(".strip")).to_contain_text("+2.89 %")
    expect(alone.locator(".price-chart canvas").first).to_be_visible()
    expect(alone.locator(".paged tbody tr").first).to_be_visible()
    assert not [url for url in asked if not url.startswith(("file:", "blob:", "data:"))]
    context.close()


def test_a_phone_shows_states_without_scrolling_sideways_and_bob_sees_nothing(
    alice: Any, open_page: Callable[..., Page]
) -> None:
    run = builders.backtest_run(alice)
    failed = backtest_claim(run_id=builders.backtest_run(alice, done=False).pk, worker="test")
    assert failed is not None
    backtest_end(run=failed, error="there are no bars")
    page = open_page(alice, "backtests/", PHONE)
    expect(page.locator("#runs tbody tr")).to_have_count(2)
    expect(page.locator("#runs .state").first).to_be_in_viewport(ratio=1)
    for address in (f"/backtests/{failed.pk}/", f"/backtests/{run.pk}/"):
        page.goto(page.url.split("/backtests/")[0] + address)
        expect(page.locator("#state")).to_have_text("failed" if str(failed.pk) in address else "done")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
    bobs = open_page(builders.user("bob"), "backtests/")
    expect(bobs.locator("#note")).to_contain_text("No backtests yet")
    assert bobs.goto(bobs.url + f"{run.pk}/").status == 404  # type: ignore[union-attr]


def test_what_was_live_stands_beside_the_test_signal_for_signal(alice: Any, open_page: Callable[..., Page]) -> None:
    run = builders.backtest_run(alice)
    difference = {"time": "2026-01-02T10:00:00Z", "symbol": "BTCUSDT", "field": "side", "recorded": "Buy",
                  "tested": "Sell", "why": "the code has changed"}  # fmt: skip
    counts = {"recorded": 9, "tested": 9, "same": 8, "only_recorded": 0, "only_tested": 0, "different": 1}
    stretch = {
        **counts, "compared": True, "version": 3, "symbols": ["BTCUSDT"], "begun": "2026-01-02T09:00:00Z", "why": "",
        "until": "2026-01-02T12:00:00Z", "missing": {"BTCUSDT": 2}, "differences": [difference],
    }  # fmt: skip
    run.summary["live"] = {
        **counts, "is_true": False, "judged_otherwise": 4, "configuration": "trend", "notes": [], "stretches": [stretch]
    }  # fmt: skip
    run.save()

    page = open_page(alice, f"backtests/{run.pk}/")

    truth = page.get_by_role("region", name="Live and tested, signal for signal")
    expect(truth).to_contain_text("The test did not decide as trend did: 0 signals were only live")
    expect(truth).to_contain_text("the archive lacks 2 bars of BTCUSDT")
    expect(truth).to_contain_text("4 of the same signals had another outcome")
    expect(truth.locator("tbody tr")).to_have_text(["2026-01-02T10:00:00ZBTCUSDTsideBuySellthe code has changed"])
