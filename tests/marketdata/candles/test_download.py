"""Past bars fetched from the exchange: a simulator over real sockets, asked through the rate budget."""

from __future__ import annotations

import io
import json
import time
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from marketdata.candles import download, selectors
from marketdata.candles.series import interval_ms
from marketdata.candles.series_key import FUNDING, SeriesKey
from marketdata.feeds.bybit_rest import BybitPublicRest
from marketdata.feeds.protocol import VenueError
from marketdata.models import ArchiveImport
from tests.processes import ServerProcess

pytestmark = pytest.mark.django_db

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
FOREVER = 2**62


@pytest.fixture(autouse=True)
def exchange(simulator: ServerProcess, settings: Any) -> None:
    settings.EXCHANGE, settings.SIMULATOR_URL = "simulator", simulator.url


def text_of(at_ms: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_ms // 1_000))


def fetch(interval: str, start_ms: int, end_ms: int | None = None, **options: Any) -> dict[str, Any]:
    out = io.StringIO()
    ends = {} if end_ms is None else {"to": text_of(end_ms)}
    arguments = {"venue": "bybit", "symbol": "BTCUSDT", "market": "linear", **options}
    flags = [f"--{name}={value}" for name, value in {**arguments, **ends}.items()]
    call_command(
        "candles_import",
        "--download",
        f"--interval={interval}",
        f"--from={text_of(start_ms)}",
        "--json",
        *flags,
        stdout=out,
    )
    return json.loads(out.getvalue().splitlines()[-1])


def hours_ago(hours: int) -> int:
    return int(time.time()) // 3_600 * HOUR - hours * HOUR


def test_minutes_are_fetched_page_by_page_without_a_hole_and_only_once() -> None:
    begin = hours_ago(40)
    report = fetch("1", begin, begin + 38 * HOUR)
    assert (report["stored"], report["gap_count"]) == (38 * 60, 0)
    series = selectors.candle_series("bybit", "BTCUSDT", "1", 0, FOREVER)
    assert (int(series.start_ms[0]), len(series)) == (begin, 38 * 60)
    asked = ArchiveImport.objects.count()
    assert fetch("1", begin, begin + 38 * HOUR)["stored"] == 0
    assert ArchiveImport.objects.count() == asked, "nothing was missing, nothing was asked"
    assert fetch("1", begin - HOUR, begin + 39 * HOUR)["stored"] == 120, "what is before and after it"


def test_a_download_that_was_interrupted_goes_on_where_it_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = hours_ago(70)
    answered = BybitPublicRest.past_klines
    pages = 0

    async def tired(self: BybitPublicRest, *args: Any, **options: Any) -> Any:
        nonlocal pages
        pages += 1
        if pages > 2:
            raise VenueError("the line is cut")
        return await answered(self, *args, **options)

    monkeypatch.setattr(download, "FIRST_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(BybitPublicRest, "past_klines", tired)
    with pytest.raises(CommandError, match=r"the line is cut.*What was fetched is stored"):
        fetch("1", begin, begin + 66 * HOUR)
    kept = selectors.coverage(SeriesKey("bybit", "BTCUSDT", "1"))
    assert kept is not None and (kept.bars, kept.gaps) == (2_000, [])
    monkeypatch.setattr(BybitPublicRest, "past_klines", answered)
    report = fetch("1", begin, begin + 66 * HOUR)
    assert (report["stored"], report["gap_count"]) == (66 * 60 - 2_000, 0)


def test_bars_that_are_not_over_are_not_fetched() -> None:
    fetch("60", hours_ago(30))
    found = selectors.coverage(SeriesKey("bybit", "BTCUSDT", "60"))
    assert found is not None and found.last_ms + HOUR <= time.time() * 1_000 and found.bars in (30, 31)


@pytest.mark.parametrize("line", ["bybit spot", "bybit mark", "binance linear", "binance spot"])
def test_every_market_of_both_venues_can_be_fetched(line: str) -> None:
    venue, market = line.split()
    begin = hours_ago(60)
    report = fetch("15", begin, begin + 50 * HOUR, venue=venue, market=market)
    assert (report["stored"], report["gap_count"]) == (200, 0)
    series = selectors.candle_series(venue, "BTCUSDT", "15", 0, FOREVER, market=market)
    hours = selectors.candle_series(venue, "BTCUSDT", "60", 0, FOREVER, market=market)
    assert (len(series), len(hours)) == (200, 50)
    assert bool(series.volume.any()) == (market != "mark")


@pytest.mark.parametrize("venue", ["bybit", "binance"])
def test_funding_rates_are_fetched_and_only_the_new_ones_again(venue: str) -> None:
    begin = hours_ago(24 * 90)
    first = fetch(FUNDING, begin, begin + 80 * DAY, venue=venue)
    assert first["gap_count"] == 0 and first["stored"] >= 240
    again = fetch(FUNDING, begin, begin + 90 * DAY, venue=venue)
    assert 29 <= again["stored"] <= 31
    series = selectors.funding_series(venue, "BTCUSDT", 0, FOREVER)
    assert len(series.time_ms) == first["stored"] + again["stored"] and abs(series.rate).max() < 0.01


def test_the_venues_longer_bars_are_those_that_are_made_of_its_shorter_ones() -> None:
    begin = hours_ago(60) // DAY * DAY
    fetch("15", begin, begin + DAY)
    made = selectors.candle_series("bybit", "BTCUSDT", "240", begin, begin + DAY)
    fetch("240", begin, begin + DAY)
    assert (
        len(made) == 6
        and made.digest() == selectors.candle_series("bybit", "BTCUSDT", "240", begin, begin + DAY).digest()
    )


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"symbol": "NOBODYUSDT"}, "NOBODYUSDT|symbol"),
        ({"venue": "kraken"}, "venue 'kraken'; expected one of bybit, binance"),
        ({"venue": "binance", "symbol": "NOBODYUSDT"}, "does not list NOBODYUSDT"),
        ({"venue": "binance", "market": "mark"}, "import a file"),
        ({"symbol": "btc/usdt"}, "symbol 'btc/usdt'; expected capital letters"),
    ],
)
def test_what_cannot_be_fetched_is_refused_with_the_reason(options: dict[str, Any], problem: str) -> None:
    began = time.monotonic()
    with pytest.raises(CommandError, match=problem):
        fetch("60", hours_ago(10), **options)
    assert time.monotonic() - began < 8, "a refusal is not asked again and again"


def test_intervals_of_the_venue_are_said_before_it_is_asked() -> None:
    with pytest.raises(CommandError, match="Bybit has no bars of 480 minutes"):
        fetch("8h", hours_ago(100))
    assert interval_ms("480") == 8 * HOUR
