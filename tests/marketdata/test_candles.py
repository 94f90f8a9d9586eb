"""Candles on their way into the database."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from marketdata import services
from marketdata.events import Candle
from marketdata.models import Candle as CandleRow
from marketdata.models import Instrument
from marketdata.services import candles_store
from tests import builders

pytestmark = pytest.mark.django_db
D = Decimal
START_MS = 1_795_000_020_000


@pytest.fixture
def ids() -> dict[str, int]:
    builders.list_instruments()
    return dict(Instrument.objects.values_list("symbol", "pk"))


def candle(number: int = 0, *, symbol: str = "BTCUSDT", closed: bool = True) -> Candle:
    return Candle(
        symbol=symbol,
        interval="1",
        start_ms=START_MS + 60_000 * number,
        open=D("60000.1"),
        high=D("60010"),
        low=D("59990.5"),
        close=D("60000.000000000001"),
        volume=D("1.234"),
        turnover=D("74040.12345678"),
        closed=closed,
    )


def test_closed_candles_of_known_instruments_are_stored_exactly(ids: dict[str, int]) -> None:
    told = [candle(0), candle(1, closed=False), candle(2, symbol="NOBODYUSDT"), candle(3, symbol="ETHUSDT")]
    assert candles_store(told, ids) == 2
    stored = CandleRow.objects.get(instrument_id=ids["BTCUSDT"])
    assert stored.start.timestamp() * 1000 == START_MS
    assert (stored.open, stored.high, stored.low, stored.close) == (
        told[0].open,
        told[0].high,
        told[0].low,
        told[0].close,
    )
    assert (stored.volume, stored.turnover) == (told[0].volume, told[0].turnover)


def test_the_venues_latest_word_replaces_what_is_stored(ids: dict[str, int]) -> None:
    candles_store([candle()], ids)
    assert candles_store([replace(candle(), close=D(5)), replace(candle(), close=D(6))], ids) == 1
    assert CandleRow.objects.get().close == D(6)


def test_a_long_past_is_stored_whole(ids: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "CANDLES_A_STATEMENT", 100)
    assert candles_store((candle(number) for number in range(250)), ids) == 250
    assert CandleRow.objects.count() == 250


def test_nothing_is_stored_of_no_candles(ids: dict[str, int]) -> None:
    assert candles_store([], ids) == 0
    assert not CandleRow.objects.exists()
