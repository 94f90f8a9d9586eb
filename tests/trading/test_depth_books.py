"""What engines tell depth analytics of the books that they keep."""

from __future__ import annotations

from decimal import Decimal

from marketdata.depth import heat_packing, selectors
from marketdata.depth.current import volumes_of
from marketdata.depth.snapshots import DEPTHS, Market
from marketdata.engine.book import SymbolBook
from marketdata.engine.sync import BookState
from marketdata.events import Ticker
from marketdata.services import LatestFrames
from tests import builders
from trading.runtime.market_frames import SymbolMarket


def test_an_engine_tells_the_depths_of_a_proven_book_alone() -> None:
    selectors.hot()._redis.flushdb()
    book = SymbolBook("BTCUSDT", Decimal("0.1"), Decimal("0.001"))
    market = SymbolMarket("BTCUSDT", book, Ticker("BTCUSDT"))
    assert market.depth_book(1_000) is None
    bids, asks = [["100.0", "1"], ["98.5", "2"], ["98.4", "4"]], [["101.0", "1"], ["130.0", "8"]]
    book.on_frame(builders.book_frame("snapshot", 1, bids, asks), 1)
    market.state = book.state
    assert market.state is BookState.LIVE
    told = market.depth_book(1_000)
    assert told is not None
    LatestFrames().store({}, None, {(Market.BYBIT, "BTCUSDT"): told})
    kept = selectors.hot().latest(Market.BYBIT, "BTCUSDT")
    assert kept == told and kept["type"] == "bybit" and kept["bestBid"] == "100.0"
    volumes = volumes_of(kept)
    assert [each.depth for each in volumes] == list(DEPTHS)
    assert (volumes[0].bid_volume, volumes[1].bid_volume, volumes[5].ask_volume) == (3, 7, 9)
    # Fewer levels than the stream shows at most: the whole book is known.
    assert volumes[5].ask_covered and kept["knownReachPercent"] == {"bid": "100.0000", "ask": "100.0000"}


def test_an_engine_tells_what_rests_at_which_price_once_a_minute() -> None:
    selectors.hot()._redis.flushdb()
    book = SymbolBook("BTCUSDT", Decimal("0.1"), Decimal("0.001"))
    market = SymbolMarket("BTCUSDT", book, Ticker("BTCUSDT"))
    assert market.heat_minute(60_000) is None
    bids, asks = [["100.0", "1"], ["98.5", "2"], ["94.0", "4"]], [["101.0", "1"], ["130.0", "8"]]
    book.on_frame(builders.book_frame("snapshot", 1, bids, asks), 1)
    market.state = book.state
    told = market.heat_minute(119_999)
    assert told is not None and market.heat_minute(60_000) is None and market.heat_minute(120_000) is not None
    LatestFrames().store({}, None, heats=[told])
    assert selectors.hot().heat() == [told] and (told.market, told.minute) == (Market.BYBIT, 60)
    ((minute, rows),) = heat_packing.unpack(told.body)
    # Rows of a tick: two bids of three lie within 5 %, of which all is known.
    assert (minute, rows.step, len(rows.bids.volumes)) == (1, Decimal("0.1"), 51)
    assert rows.bids.volumes.sum() == 3_000 and rows.bids.volumes[-16] == 2_000 and rows.asks.volumes.sum() == 1_000
