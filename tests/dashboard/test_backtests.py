"""The pages of backtests in a real browser: asked for, followed, read, compared, taken home as a file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from playwright.sync_api import Browser, Page, expect

from tests import builders
from tests.processes import ServerProcess
from tests.trading.backtest.tapes import leaning_tape
from trading.models import BacktestRun
from trading.services.backtests import backtest_claim, backtest_end, backtest_progress

expect.set_options(timeout=30_000)
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


@pytest.fixture
def recorded() -> Iterator[str]:
    """A recording that the deployment has: its name."""
    folder = Path(settings.RECORDINGS_DIR)
    folder.mkdir(parents=True, exist_ok=True)
    before = set(folder.iterdir())
    leaning_tape().written(folder)
    made = set(folder.iterdir()) - before
    yield "tape.jsonl.zst"
    for path in made:
        path.unlink()


def shot(page: Page, name: str) -> None:
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)


def test_one_is_asked_for_refused_corrected_followed_and_read(alice: Any, open_page: Callable[..., Page]) -> None:
    page = open_page(alice, "backtests/?strategy=momentum.breakout")
    expect(page.get_by_label("Strategy", exact=True)).to_have_value("momentum.breakout")
    page.keyboard.press("Escape")
    expect(page.locator("#note")).to_contain_text("No backtests yet")
    page.locator("h1").click()
    page.keyboard.press("n")
    page.get_by_label("Strategy", exact=True).select_option("supertrend")
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


def test_several_strategies_of_one_account_are_asked_for_with_limits_of_groups_and_of_all_else(
    alice: Any, open_page: Callable[..., Page]
) -> None:
    page = open_page(alice, "backtests/?strategy=supertrend")
    shot(page, "backtest-form")
    first, second = (page.get_by_role("region", name=f"Strategy {place}") for place in (1, 2))
    first.get_by_label("Symbols").fill("BTCUSDT, ETHUSDT")
    first.get_by_label("Period").fill("12")
    page.get_by_role("button", name="Add a strategy").press("Enter")
    expect(second.get_by_label("Strategy", exact=True)).to_be_focused()
    expect(second.get_by_label("Name in results")).to_have_value("supertrend-2")
    second.get_by_label("Strategy", exact=True).select_option("momentum.breakout")
    second.get_by_label("Symbols").fill("ETHUSDT")
    second.get_by_label("Lookback").fill("9")
    page.get_by_role("button", name="Add a strategy").click()
    third = page.get_by_role("region", name="Strategy 3")
    third.get_by_label("Lookback").fill("60")
    page.get_by_role("button", name="Remove strategy 2").click()
    expect(third).to_have_count(0)
    expect(second.get_by_label("Lookback")).to_have_value("60")
    expect(first.get_by_label("Period")).to_have_value("12")
    second.get_by_label("Name in results").fill("breaks")
    page.get_by_text("Limits of groups of symbols").click()
    page.get_by_role("button", name="Add a group").click()
    page.get_by_label("Group", exact=True).fill("majors")
    page.get_by_label("Its symbols").fill("BTCUSDT, ETHUSDT")
    page.get_by_label("Positions at most").fill("0")
    page.get_by_text("Risk limits").click()
    page.get_by_label("Max daily loss, %").fill("")
    page.get_by_text("Exit rules").click()
    page.get_by_label("Max loss, %").fill("3")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.locator("#f-groups-0-max_positions-error")).to_contain_text("must be a whole number from 1 to 100")
    shot(page, "backtest-form-refused")
    page.get_by_label("Positions at most").fill("1")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.locator("#state")).to_have_text("queued")
    asked = BacktestRun.objects.get().request
    runs = [(run["strategy"], run["name"], run["symbols"]) for run in asked["strategies"]]
    assert runs == [("supertrend", "", ["BTCUSDT", "ETHUSDT"]), ("momentum.breakout", "breaks", ["ETHUSDT"])]
    assert [run["parameters"].get("lookback") for run in asked["strategies"]] == [None, 60]
    majors = {"name": "majors", "symbols": ["BTCUSDT", "ETHUSDT"], "max_positions": 1, "max_notional": None}
    assert asked["groups"] == [majors]
    assert (asked["limits"]["max_daily_loss_percent"], asked["exit_rules"]["max_loss_percent"]) == (None, "3")
    page.get_by_role("link", name="Run again").click()
    expect(second.get_by_label("Name in results")).to_have_value("breaks")
    page.get_by_text("Limits of groups of symbols").click()
    expect(page.get_by_label("Its symbols")).to_have_value("BTCUSDT, ETHUSDT")


def test_what_was_recorded_is_chosen_and_only_what_it_does_not_say_itself_is_asked(
    alice: Any, open_page: Callable[..., Page], recorded: str
) -> None:
    page = open_page(alice, "backtests/?strategy=scalping.imbalance")
    expect(page.get_by_label("Tested on")).to_have_value("books")
    expect(page.get_by_label("Recording")).to_have_value(recorded)
    expect(page.locator(".field", has=page.get_by_label("Recording"))).to_contain_text("2023-11-15 00:00 UTC")
    for label in ("From", "Until", "Bars", "Venue"):
        expect(page.get_by_label(label, exact=True)).to_be_hidden()
    page.get_by_text("Costs").click()
    expect(page.get_by_label("Slippage", exact=True)).to_be_hidden()
    expect(page.get_by_label("Fee", exact=True)).to_be_visible()
    page.get_by_label("Tested on").select_option("candles")
    expect(page.get_by_label("Strategy", exact=True)).not_to_have_value("scalping.imbalance")
    expect(page.get_by_label("Slippage", exact=True)).to_be_visible()
    expect(page.get_by_label("From", exact=True)).not_to_have_value("")
    page.get_by_label("Tested on").select_option("books")
    page.get_by_label("Strategy", exact=True).select_option("scalping.imbalance")
    page.get_by_label("Symbols").fill("BTCUSDT")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.locator("#state")).to_have_text("queued")
    asked = BacktestRun.objects.get().request
    assert (asked["source"], asked["recording"], asked["costs"]["slippage"]) == ("books", recorded, "0")
    assert asked["start"] == "2023-11-15T00:00:00Z"


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
    prices = page.get_by_role("region", name="Trades on the price")
    expect(prices.locator("canvas").first).to_be_visible()
    expect(prices.get_by_role("status")).to_contain_text("60 trades in sight")
    shot(page, "report")
    trades.locator("tbody tr").first.press("ArrowDown")
    expect(trades.locator("tbody tr").nth(1)).to_be_focused()
    trades.locator("tbody tr").nth(1).press("Enter")
    expect(prices.get_by_role("status")).not_to_contain_text("60 trades in sight")
    expect(prices).to_be_in_viewport()
    shot(page, "report-trade")
    for _ in range(12):
        prices.locator(".price-chart").press("-")
    expect(prices.get_by_role("status")).to_contain_text("60 trades in sight")
    for _ in range(12):
        prices.locator(".price-chart").press("+")
    expect(prices.get_by_role("status")).not_to_contain_text("60 trades in sight")
    prices.get_by_role("button", name="BTCUSDT").click()
    expect(prices.get_by_role("status")).to_contain_text("60 trades in sight")
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
    expect(alone.get_by_role("region", name="Trades on the price").get_by_role("status")).to_contain_text("60 trades")
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
    page.get_by_role("button", name="New backtest").click()
    page.get_by_role("button", name="Add a strategy").click()
    page.locator("#new details:not([open]) > summary").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    shot(page, "phone-form")
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
