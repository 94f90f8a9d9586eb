"""The depth charts page in a real browser, served by the real web process: rows from PostgreSQL, books from Valkey."""

from __future__ import annotations

import csv
import itertools
import json
import re
import time
from decimal import Decimal
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, Route, WebSocketRoute, expect

from marketdata.depth import services
from marketdata.depth.models import DepthDay, DepthHour
from marketdata.depth.snapshots import DEPTHS, DepthSnapshot, DepthVolume, Market
from marketdata.views import PAGES
from tests import builders
from tests.depth_pages.downloads import file_of
from tests.depth_pages.rows import last_minutes, store_aggregates, store_minutes, tell_book
from tests.marketdata.depth.volumes import volume
from tests.processes import ServerProcess

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
PHONE = {"width": 390, "height": 844}
PRESS_LEFT = """
(chart, times) => { while (times--) chart.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowLeft"})); }
"""


@pytest.fixture
def minutes() -> list[DepthSnapshot]:
    """Half an hour of bitcoin's 5 %, on spot, until now; ether is collected too."""
    services.collector_symbols_add(symbols=["BTCUSDT"], source="stream", actor="test")
    services.collector_symbols_add(symbols=["ETHUSDT"], source="rest", actor="test")
    return store_minutes("BTCUSDT", Market.SPOT, last_minutes(30), depths=[50])


def some_volumes(bid: str, ask: str) -> list[DepthVolume]:
    """Of all six depths; wider than 5 % not all is known."""
    return [volume(depth, bid, ask, covered=depth <= 50) for depth in DEPTHS]


def shown(number: Decimal) -> str:
    """As the legend shows a volume from 1,000 to 9,999."""
    return f"{number:,.1f}".removesuffix(".0")


def legend(page: Page, key: str = "BTCUSDT:SPOT:5", side: str = "bid") -> str:
    return f'#legend li[data-series="{key}"] [data-side="{side}"]'


def pressed(page: Page, group: str) -> str:
    return page.locator(f"#{group} [aria-pressed=true]").inner_text()


def shown_until(address: str) -> float:
    """The time at the right edge, as the address has it; infinite for now."""
    return float(parse_qs(urlsplit(address).query).get("to", ["inf"])[0])


def test_strangers_log_in_first_and_get_the_view_that_they_asked_for(stranger: Page, site: ServerProcess) -> None:
    for name in PAGES:
        stranger.goto(f"{site.url}/depth/{'' if name == 'charts' else f'{name}/'}?symbol=ETHUSDT&depth=3")
        assert urlsplit(stranger.url).path == "/login", name
    stranger.goto(f"{site.url}/depth/?symbol=ETHUSDT&depth=3")
    builders.user("bob")
    stranger.get_by_label("Name").fill("bob")
    stranger.get_by_label("Password").fill("bob-password")
    stranger.get_by_role("button", name="Log in").click()
    expect(stranger.locator("#symbol-name")).to_have_text("ETHUSDT")
    assert pressed(stranger, "depths") == "3 %"
    navigation = stranger.get_by_role("navigation", name="Depth analytics")
    assert navigation.get_by_role("link").all_inner_texts() == list(PAGES.values())
    expect(navigation.locator("[aria-current=page]")).to_have_text("Charts")


def test_what_is_stored_and_the_book_now_are_shown_with_how_far_they_are_known(
    page: Page, site: ServerProcess, minutes: list[DepthSnapshot]
) -> None:
    tell_book(volumes=some_volumes("700", "900"), price=50_000)
    page.goto(f"{site.url}/depth/")
    # The newest is the book's own; the crosshair shows what was stored.
    expect(page.locator(legend(page))).to_have_text("700")
    expect(page.locator(legend(page, side="ask"))).to_have_text("900")
    box = page.locator("#chart").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 200)
    values = {shown(row.volume.bid_volume) for row in minutes}
    expect(page.locator(legend(page))).not_to_have_text("700")
    assert page.locator(legend(page)).inner_text() in values
    expect(page.locator(".level")).to_have_count(40)
    assert page.locator(".level.bid span:nth-of-type(1)").first.inner_text() == "49999.75"
    assert page.locator(".level.ask span:nth-of-type(1)").last.inner_text() == "50000.25"
    expect(page.locator(".mid")).to_contain_text("spread 0.50")
    cards = page.locator(".difference")
    expect(cards).to_have_count(6)
    expect(cards.first).to_contain_text("−12.5 %")
    expect(cards.first).to_have_class(re.compile("down"))
    expect(cards.nth(2)).not_to_contain_text("≥")
    expect(cards.nth(3)).to_contain_text("≥ bids, asks")
    expect(page.locator("#book-status")).to_have_text("live")


def test_live_points_arrive_and_a_polled_or_a_stale_book_says_so(
    page: Page, site: ServerProcess, minutes: list[DepthSnapshot]
) -> None:
    tell_book(volumes=some_volumes("700", "900"))
    page.goto(f"{site.url}/depth/")
    expect(page.locator("#connection")).to_have_text("live")
    expect(page.locator(legend(page))).to_have_text("700")
    tell_book(volumes=some_volumes("800", "600"), status="POLLED")
    expect(page.locator(legend(page))).to_have_text("800")
    expect(page.locator(".difference").first).to_contain_text("+14.3 %")
    expect(page.locator("#book-status")).to_contain_text("polled")
    tell_book("ETHUSDT", age=400)
    page.goto(f"{site.url}/depth/?symbol=ETHUSDT")
    expect(page.locator("#book-status")).to_have_text(re.compile(r"stale, \d+ min ago"))
    expect(page.locator("#chart-pane")).to_have_attribute("data-state", "empty")
    expect(page.locator("#chart-pane")).to_contain_text("Nothing is stored of ETHUSDT Spot 5 % yet")


def test_another_symbol_is_a_few_keys_away_and_the_back_button_returns(
    page: Page, site: ServerProcess, minutes: list[DepthSnapshot]
) -> None:
    store_minutes("SOLUSDT", Market.FUTURES, last_minutes(1), depths=[50])
    others = store_minutes("ETHUSDT", Market.SPOT, last_minutes(5), depths=[50], coins=5_000)
    page.goto(f"{site.url}/depth/")
    expect(page.locator(legend(page))).to_have_text(shown(minutes[-1].volume.bid_volume))
    page.keyboard.press("/")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("button")).to_have_text(["BTCUSDTlive", "ETHUSDTeach minute", "SOLUSDThistory"])
    page.keyboard.type("eth")
    expect(dialog.get_by_role("button")).to_have_count(1)
    page.keyboard.press("Enter")
    expect(page.locator(legend(page, "ETHUSDT:SPOT:5"))).to_have_text(shown(others[-1].volume.bid_volume))
    expect(page.locator("#ladder-pane")).to_contain_text("not collected right now")
    assert parse_qs(urlsplit(page.url).query) == {"symbol": ["ETHUSDT"]}
    page.go_back()
    expect(page.locator(legend(page))).to_have_text(shown(minutes[-1].volume.bid_volume))
    expect(page.locator("#symbol-name")).to_have_text("BTCUSDT")


def test_series_are_compared_in_percent_and_taken_away_again(
    page: Page, site: ServerProcess, minutes: list[DepthSnapshot]
) -> None:
    store_minutes("ETHUSDT", Market.FUTURES, last_minutes(10), depths=[30], coins=5_000)
    page.goto(f"{site.url}/depth/?side=bid")
    expect(page.locator(legend(page))).to_have_text(re.compile(r"\d"))
    page.keyboard.press("c")
    page.get_by_label("Symbol", exact=True).fill("DOGEUSDT")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_role("alert").filter(has_text="DOGEUSDT")).to_contain_text("choose one of the list")
    page.get_by_label("Symbol", exact=True).fill("ethusdt")
    page.locator("#compare-market").select_option("FUTURES")
    page.locator("#compare-depth").select_option("3")
    page.get_by_role("button", name="Add", exact=True).click()
    page.mouse.move(0, 0)  # no crosshair: the newest values
    expect(page.locator("#legend li")).to_have_count(2)
    expect(page.locator(legend(page, "ETHUSDT:FUTURES:3"))).to_contain_text(re.compile(r"^[\d,.]+ [+−]?[\d.]+ %$"))
    assert pressed(page, "scales") == "%"
    assert parse_qs(urlsplit(page.url).query)["with"] == ["ETHUSDT:FUTURES:3"]
    page.get_by_label("Remove ETHUSDT Futures 3 %").click()
    expect(page.locator("#legend li")).to_have_count(1)
    assert pressed(page, "scales") == "Amount"


def test_an_address_restores_its_view_and_wide_spans_show_hours_and_days(page: Page, site: ServerProcess) -> None:
    services.collector_symbols_add(symbols=["BTCUSDT"], source="rest", actor="test")
    store_aggregates("BTCUSDT", Market.SPOT, 15, DepthHour, 800)
    store_aggregates("BTCUSDT", Market.SPOT, 15, DepthDay, 400)
    newest = DepthHour.objects.order_by("-start")[0]
    page.goto(f"{site.url}/depth/?symbol=BTCUSDT&depth=1.5&side=mean&unit=usd&span=30d&with=BTCUSDT:FUTURES:5")
    millions = (newest.bid_volume_usd_sum + newest.ask_volume_usd_sum) / 120 / 1_000_000
    expect(page.locator(legend(page, "BTCUSDT:SPOT:1.5", "mean"))).to_have_text(f"$ {millions:.2f}M")
    groups = ("markets", "depths", "sides", "units", "spans", "scales")
    assert [pressed(page, group) for group in groups] == ["Spot", "1.5 %", "Mean", "$", "30 d", "Amount"]
    expect(page.locator("#legend li").nth(1)).to_contain_text("nothing stored")
    expect(page.locator("#interval")).to_have_text("1 h mean")
    page.locator("#spans").get_by_text("1 y").click()
    expect(page.locator("#interval")).to_have_text("1 d mean")
    expect(page.locator("#legend time")).to_have_text(f"{DepthDay.objects.latest('start').start:%Y-%m-%d}")
    # What an address may not say is told and left out.
    page.goto(f"{site.url}/depth/?symbol=BTCUSDT&depth=7")
    expect(page.locator("#toasts")).to_contain_text("depth=7")
    assert pressed(page, "depths") == "5 %"


def test_scrolling_back_loads_what_is_older_and_the_address_follows(page: Page, site: ServerProcess) -> None:
    services.collector_symbols_add(symbols=["BTCUSDT"], source="rest", actor="test")
    rows = store_minutes("BTCUSDT", Market.SPOT, last_minutes(600), depths=[50])
    page.goto(f"{site.url}/depth/?side=bid")
    expect(page.locator(legend(page))).to_have_text(shown(rows[-1].volume.bid_volume))
    page.locator("#chart").focus()
    deadline = time.monotonic() + 60
    # A key that repeats on a busy machine: of presses between two frames, twelve minutes each, none is lost.
    page.locator("#chart").evaluate(PRESS_LEFT, 6)
    while shown_until(page.url) > rows[-50].minute:
        assert time.monotonic() < deadline
        page.wait_for_timeout(50)
    # The view stops where rows end until older ones have come, and the address follows a view that rests.
    while shown_until(page.url) >= rows[360].minute and time.monotonic() < deadline:
        before, patience = shown_until(page.url), time.monotonic() + 2
        for _ in range(4):
            page.keyboard.press("ArrowLeft")
        while shown_until(page.url) == before and time.monotonic() < patience:
            page.wait_for_timeout(50)
    expect(page.get_by_role("button", name="To now")).to_be_visible()
    box = page.locator("#chart").bounding_box()
    assert box is not None
    older = "|".join(re.escape(shown(row.volume.bid_volume)) for row in rows[:420])
    deadline = time.monotonic() + 20
    # What is older comes when it comes: the crosshair reads what is under it by then.
    for step in itertools.count():
        page.mouse.move(box["x"] + 300 + step % 2, box["y"] + 200)
        if re.fullmatch(older, page.locator(legend(page)).inner_text()) or time.monotonic() > deadline:
            break
        page.wait_for_timeout(50)
    expect(page.locator(legend(page))).to_have_text(re.compile(f"^({older})$"))
    page.wait_for_url(lambda url: rows[200].minute < shown_until(url) < rows[-60].minute)
    address = page.url
    # Somebody else opens that address.
    page.goto(address)
    expect(page.locator(legend(page))).to_have_text(re.compile(r"\d"))
    page.get_by_role("button", name="To now").click()
    expect(page.locator(legend(page))).to_have_text(shown(rows[-1].volume.bid_volume))


def test_files_have_exactly_what_the_chart_shows(page: Page, site: ServerProcess, minutes: list[DepthSnapshot]) -> None:
    page.goto(f"{site.url}/depth/")
    expect(page.locator(legend(page))).to_have_text(shown(minutes[-1].volume.bid_volume))
    export = page.locator(".export")
    export.locator("summary").click()
    name, text = file_of(export.locator("[data-shown=csv]"))
    assert name == "BTCUSDT-SPOT-5.csv"
    rows = list(csv.DictReader(text.splitlines()))
    assert [Decimal(row["bidVolume"]) for row in rows] == [row.volume.bid_volume for row in minutes]
    assert [Decimal(row["askVolume"]) for row in rows] == [row.volume.ask_volume for row in minutes]
    page.locator("#units").get_by_text("$").click()
    page.locator("#sides").get_by_text("Asks").click()
    export.locator("summary").click()
    first = json.loads(file_of(export.locator("[data-shown=json]"))[1])[0]
    assert Decimal(first["askVolumeUsd"]) == minutes[0].volume.ask_volume_usd and "bidVolumeUsd" not in first
    export.locator("summary").click()
    assert file_of(export.locator("[data-server=csv]"))[1].startswith("timestamp,bidVolume,askVolume")


def test_an_api_that_fails_is_told_and_asked_again(
    page: Page, site: ServerProcess, minutes: list[DepthSnapshot]
) -> None:
    failing = re.compile("/api/v1/snapshots")
    page.route(failing, lambda route: route.fulfill(status=500, json={"error": {"message": "the disk is full"}}))
    page.goto(f"{site.url}/depth/")
    pane = page.locator("#chart-pane")
    expect(pane).to_have_attribute("data-state", "error")
    expect(pane).to_contain_text("the disk is full")
    page.unroute(failing)
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(legend(page))).to_have_text(shown(minutes[-1].volume.bid_volume))
    held: list[Route] = []
    page.route(failing, lambda route: held.append(route))
    page.locator("#depths").get_by_text("3 %", exact=True).click()
    expect(pane).to_have_attribute("data-state", "loading")
    for route in held:
        route.abort()


def test_a_lost_connection_is_told_and_what_was_missed_is_there_afterwards(
    page: Page, site: ServerProcess, minutes: list[DepthSnapshot]
) -> None:
    refused, sockets = [False], []

    def through(socket: WebSocketRoute) -> None:
        if refused[0]:
            socket.close()
        else:
            sockets.append(socket)
            socket.connect_to_server()

    page.route_web_socket(re.compile("/ws/v1/stream/"), through)
    tell_book(volumes=some_volumes("700", "900"))
    page.goto(f"{site.url}/depth/")
    expect(page.locator(legend(page))).to_have_text("700")
    expect(page.locator("#connection")).to_have_text("live")
    refused[0] = True
    sockets[0].close()
    expect(page.locator("#connection")).to_contain_text("reconnecting")
    expect(page.locator("#banner")).to_contain_text("you see what was known at")
    tell_book(volumes=some_volumes("750", "850"))
    refused[0] = False
    expect(page.locator("#connection")).to_have_text("live")
    expect(page.locator("#banner")).to_be_hidden()
    expect(page.locator(legend(page))).to_have_text("750")


def test_on_a_phone_everything_is_there_and_nothing_scrolls_sideways(
    page: Page, site: ServerProcess, minutes: list[DepthSnapshot]
) -> None:
    tell_book(volumes=some_volumes("700", "900"))
    page.set_viewport_size(PHONE)
    for name in PAGES:
        page.goto(f"{site.url}/depth/{'' if name == 'charts' else f'{name}/'}")
        expect(page.locator(".depth-nav [aria-current=page]")).to_be_in_viewport()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
    page.goto(f"{site.url}/depth/?with=ETHUSDT:SPOT:5,BTCUSDT:FUTURES:30")
    expect(page.locator(legend(page))).to_contain_text("700 −")
    for visible in ("#chart", "#differences", "#ladder", "#share"):
        page.locator(visible).scroll_into_view_if_needed()
        expect(page.locator(visible)).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
