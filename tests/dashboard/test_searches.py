"""The pages of searches in a real browser: asked for, refused, corrected, followed, read, the best one tried."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests import builders
from tests.dashboard.test_backtests import PHONE, alice, open_page
from trading.models import BacktestRun, Search
from trading.services.searches import search_claim, search_end

__all__ = ["alice", "open_page"]
pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_one_is_asked_for_refused_corrected_stopped_and_gone_on_with(
    alice: Any, open_page: Callable[..., Page]
) -> None:
    page = open_page(alice, "backtests/searches/")
    expect(page.locator("#note")).to_contain_text("No searches yet")
    page.keyboard.press("n")
    page.get_by_label("From", exact=True).fill("2026-01-01")
    page.get_by_label("Until").fill("2026-01-11")
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page.locator("#form-error")).to_contain_text("must name at least one parameter that may move")
    page.get_by_role("checkbox", name="Period").check()
    page.get_by_label("Period from").fill("1")
    page.get_by_role("checkbox", name="With walk-forward").check()
    page.get_by_label("Training, days").fill("5")
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page.locator("#f-space-period-low-error")).to_have_text("must be a whole number from 2 to 200")
    page.get_by_label("Period from").fill("5")
    page.get_by_label("Period to").fill("30")
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page.locator("#state")).to_have_text("queued")
    search = Search.objects.get()
    assert search.request["space"] == {"period": {"low": 5, "high": 30, "step": 1}}
    assert (search.owner, search.request["walk_forward"]["train_days"]) == (alice, 5)
    claimed = search_claim(search_id=search.pk, worker="test")
    assert claimed is not None
    expect(page.locator("#counts")).to_have_text("0 of 130 trials")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#state")).to_have_text("stopping")
    search_end(search=claimed)
    expect(page.locator("#words")).to_contain_text("can go on where it was")
    page.get_by_role("button", name="Go on").click()
    expect(page.locator("#state")).to_have_text("queued")


def test_what_was_found_is_shown_with_what_it_is_worth(alice: Any, open_page: Callable[..., Page]) -> None:
    search = builders.search(alice, trials=20, folds=2, walk_forward={"splits": 2, "train_days": 6}, name="how fast")
    page = open_page(alice, "backtests/searches/")
    page.get_by_role("link", name="how fast").click()
    expect(page.locator(".worth")).to_contain_text("Deflated Sharpe ratio")
    expect(page.locator(".worth")).to_contain_text("Probability of overfitting")
    expect(page.locator(".verdict li").first).to_contain_text("20 sets of parameters were tried")
    expect(page.locator(".plot circle.best")).to_be_visible()
    expect(page.get_by_role("region", name="Walk-forward")).to_contain_text("The tests put together")
    best = search.summary["best"]["parameters"]
    expect(page.locator("#trials tbody tr").first).to_contain_text(str(best["period"]))
    page.get_by_role("button", name="Run the best as a backtest").click()
    page.wait_for_url(re.compile(r"/backtests/[0-9]+/$"))
    run = BacktestRun.objects.get()
    assert run.name == "how fast: the best"
    asked = run.request["strategies"][0]["parameters"]
    assert asked == asked | best


def test_a_phone_shows_it_without_scrolling_sideways_and_bob_does_not_see_it(
    alice: Any, open_page: Callable[..., Page]
) -> None:
    search = builders.search(alice, trials=12, folds=2, walk_forward={"splits": 2, "train_days": 6})
    page = open_page(alice, f"backtests/searches/{search.pk}/", PHONE)
    expect(page.locator(".verdict li").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    answer = open_page(builders.user("bob"), "backtests/searches/").goto(page.url)
    assert answer is not None
    assert answer.status == 404
