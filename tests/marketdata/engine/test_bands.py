"""Bands of a wide book equal a count of its levels: kept up message by message, and counted from scratch."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from benchmarks.engine import ours, streams
from marketdata.engine import layout
from marketdata.engine.bands import count_sides
from marketdata.engine.book import SymbolBook


def counted(book: SymbolBook) -> list[tuple[str, float, Decimal, Decimal]]:
    found = []
    for name, levels in (("bid", book.bids()), ("ask", book.asks())):
        best = levels[0][0]
        for per_mille in layout.BAND_PER_MILLE:
            inside = [(ticks, lots) for ticks, lots in levels if abs(ticks - best) * 1000 <= best * per_mille]
            quantity = sum(lots for _, lots in inside) * book.lot_size
            notional = sum(ticks * lots for ticks, lots in inside) * book.tick_size * book.lot_size
            found.append((name, per_mille / 10, quantity, notional))
    return found


def shown(book: SymbolBook) -> list[tuple[str, float, Decimal, Decimal]]:
    return [(band.side, band.percent, band.quantity, band.notional) for band in book.bands()]


@pytest.mark.parametrize("ring_size", [1 << 10, 1 << 13])
def test_bands_of_a_wide_book_equal_a_count_of_its_levels(
    ring_size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "CACHE", tmp_path)
    # Small rings: part of the levels lies in the overflow lists.
    monkeypatch.setattr(SymbolBook, "fit_window", lambda _book: None)
    stream = streams.stream("binance", streams.BTCUSDT, 300, 9)
    listing = stream.listing
    source = ours.source_of(listing, "binance")
    sizes = Decimal(listing.tick_size), Decimal(listing.lot_size)
    book = SymbolBook(listing.symbol, *sizes, source=source, ring_size=ring_size)
    for number, frame in enumerate(stream.frames()):
        book.on_frame(frame, 1)
        if number % 20 == 0:
            assert shown(book) == counted(book)
    kept_up = shown(book)
    count_sides(book.address)
    assert shown(book) == kept_up == counted(book)
