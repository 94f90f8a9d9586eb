"""Other libraries on the same frames. Each takes every frame, checks that updates follow each other where the library
leaves that to its user, and reads the best bid and ask after every message.

A peer is a function that is given the frames and returns what is timed: a function that replays them all from the
snapshot on and returns the best bid and ask. One whose library is not installed is named as absent.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Best = tuple[float, float]
Run = Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Peer:
    """``share``: of the frames, as a fraction, for those that would take too long for all of them."""

    name: str
    distribution: str
    prepare: Callable[[list[bytes]], Run]
    share: float = 1.0

    @property
    def version(self) -> str:
        """What is installed, or an empty text."""
        try:
            return importlib.metadata.version(self.distribution) if self.distribution else "3.11"
        except importlib.metadata.PackageNotFoundError:
            return ""


class Gap(AssertionError):
    """An update did not follow the one before it: the stream or the peer is wrong."""


def _follow(known: int, message: Any) -> int:
    update: int = message["data"]["u"]
    if message["type"] != "snapshot" and update != known + 1:
        raise Gap(f"update {update} after {known}")
    return update


# Parsers alone.


def _parse_with(load: Callable[[bytes], Any], frames: list[bytes]) -> Run:
    def run() -> None:
        for frame in frames:
            load(frame)

    return run


def parse_orjson(frames: list[bytes]) -> Run:
    import orjson

    return _parse_with(orjson.loads, frames)


def float_decoder() -> Any:
    """msgspec's fastest way to levels that can be computed with."""
    import msgspec

    data = msgspec.defstruct(
        "Data",
        [("s", str), ("b", list[tuple[float, float]]), ("a", list[tuple[float, float]]), ("u", int), ("seq", int)],
        gc=False,
    )
    fields = [("topic", str), ("type", str), ("ts", int), ("data", data), ("cts", int)]
    return msgspec.json.Decoder(msgspec.defstruct("Message", fields, gc=False), strict=False)


def parse_msgspec(frames: list[bytes]) -> Run:
    return _parse_with(float_decoder().decode, frames)


def parse_simdjson(frames: list[bytes]) -> Run:
    """The document tree alone: nothing of it becomes a Python object."""
    import simdjson

    parse = simdjson.Parser().parse

    def run() -> None:
        for frame in frames:
            document = parse(frame)
            del document  # a parser is free for the next frame when nothing refers to the last

    return run


# Books.


def msgspec_ccxt(frames: list[bytes]) -> Run:
    """The fastest way from bytes to a book that Python packages offer: msgspec's floats into ccxt's sorted sides."""
    from ccxt.async_support.base.ws.order_book import OrderBook

    decode = float_decoder().decode

    def run() -> Best:
        book, update = OrderBook(), 0
        best = (0.0, 0.0)
        for frame in frames:
            message = decode(frame)
            data = message.data
            if message.type == "snapshot":
                book.reset({"bids": [list(level) for level in data.b], "asks": [list(level) for level in data.a]})
            else:
                if data.u != update + 1:
                    raise Gap(f"update {data.u} after {update}")
                store_bid, store_ask = book["bids"].storeArray, book["asks"].storeArray
                for price, quantity in data.b:
                    store_bid([price, quantity])
                for price, quantity in data.a:
                    store_ask([price, quantity])
            update = data.u
            best = book["bids"][0][0], book["asks"][0][0]
        return best

    return run


def _mapping_book(frames: list[bytes], make: Callable[[], Any], best_of: Callable[[Any, Any], Best]) -> Run:
    import orjson

    def run() -> Best:
        bids, asks, update = make(), make(), 0
        best = (0.0, 0.0)
        for frame in frames:
            message = orjson.loads(frame)
            update = _follow(update, message)
            if message["type"] == "snapshot":
                bids.clear()
                asks.clear()
            for side, levels in ((bids, message["data"]["b"]), (asks, message["data"]["a"])):
                for price, quantity in levels:
                    if quantity == "0":
                        side.pop(float(price), None)
                    else:
                        side[float(price)] = float(quantity)
            best = best_of(bids, asks)
        return best

    return run


def plain_dict(frames: list[bytes]) -> Run:
    return _mapping_book(frames, dict, lambda bids, asks: (max(bids), min(asks)))


def sorted_dict(frames: list[bytes]) -> Run:
    from sortedcontainers import SortedDict

    return _mapping_book(frames, SortedDict, lambda bids, asks: (bids.peekitem(-1)[0], asks.peekitem(0)[0]))


def order_book(frames: list[bytes]) -> Run:
    import orjson
    from order_book import OrderBook

    def run() -> Best:
        book, update = OrderBook(), 0
        best = (0.0, 0.0)
        for frame in frames:
            message = orjson.loads(frame)
            update = _follow(update, message)
            if message["type"] == "snapshot":
                book = OrderBook()
            for side, levels in ((book.bids, message["data"]["b"]), (book.asks, message["data"]["a"])):
                for text, quantity in levels:
                    price = float(text)
                    if quantity != "0":
                        side[price] = float(quantity)
                    elif price in side:
                        del side[price]
            best = book.bids.index(0)[0], book.asks.index(0)[0]
        return best

    return run


class _Channel:
    """What ccxt and cryptofeed ask of the connection that a message came through."""

    url = address = "wss://stream.bybit.com/v5/public/linear"
    uuid = "benchmark"

    def resolve(self, *_: Any) -> None: ...


def ccxt_pro(frames: list[bytes]) -> Run:
    import ccxt.pro
    import orjson

    exchange, channel = ccxt.pro.bybit(), _Channel()

    def run() -> Best:
        exchange.orderbooks = {}
        best = (0.0, 0.0)
        for frame in frames:
            exchange.handle_order_book(channel, orjson.loads(frame))
            book = next(iter(exchange.orderbooks.values()))
            best = book["bids"][0][0], book["asks"][0][0]
        return best

    return run


def cryptofeed_handler(symbols: dict[str, str], on_book: Callable[[Any], None]) -> Any:
    """cryptofeed's own Bybit feed without its connection: its ``message_handler`` is called as its connection would.

    ``symbols``: the venue's to cryptofeed's own; ``on_book`` gets each book after each message.
    """
    from cryptofeed.defines import L2_BOOK
    from cryptofeed.exchanges.bybit import Bybit

    async def callback(book: Any, _received: float) -> None:
        on_book(book)

    feed = object.__new__(Bybit)
    feed._l2_book, feed.max_depth, feed.cross_check = {}, 0, False
    feed.exchange_symbol_mapping = symbols
    feed.normalized_symbol_mapping = {name: symbol for symbol, name in symbols.items()}
    feed.callbacks = {L2_BOOK: [callback]}
    return feed


def cryptofeed_bybit(frames: list[bytes]) -> Run:
    best = [0.0, 0.0]

    def read(book: Any) -> None:
        best[0], best[1] = book.book.bids.index(0)[0], book.book.asks.index(0)[0]

    symbol = frames[0].split(b'"', 4)[3].decode().rsplit(".", 1)[1]
    feed, channel = cryptofeed_handler({symbol: "BTC-USDT-PERP"}, read), _Channel()
    texts = [frame.decode() for frame in frames]

    def run() -> Best:
        feed._l2_book = {}
        for text in texts:
            handling = feed.message_handler(text, channel, 0.0)
            try:
                handling.send(None)
            except StopIteration:
                continue
            raise AssertionError("cryptofeed's handler waits for something")
        return float(best[0]), float(best[1])

    return run


def nautilus_bybit(frames: list[bytes]) -> Run:
    """nautilus_trader's own Bybit adapter: its schema, its deltas, its book."""
    import msgspec
    from nautilus_trader.adapters.bybit.schemas.ws import BybitWsOrderbookDepthMsg
    from nautilus_trader.model.book import OrderBook
    from nautilus_trader.model.enums import BookType
    from nautilus_trader.model.identifiers import InstrumentId

    instrument = InstrumentId.from_str("BTCUSDT-LINEAR.BYBIT")
    decode = msgspec.json.Decoder(BybitWsOrderbookDepthMsg).decode
    places = len(frames[0].split(b'["', 2)[1].split(b'"')[0].partition(b".")[2])

    def run() -> Best:
        book, update = OrderBook(instrument, BookType.L2_MBP), 0
        bid = ask = None
        for frame in frames:
            message = decode(frame)
            is_snapshot = message.type == "snapshot"
            if not is_snapshot and message.data.u != update + 1:
                raise Gap(f"update {message.data.u} after {update}")
            update = message.data.u
            book.apply_deltas(
                message.data.parse_to_deltas(
                    instrument_id=instrument,
                    price_precision=places,
                    size_precision=3,
                    ts_event=message.ts * 1_000_000,
                    ts_init=0,
                    snapshot=is_snapshot,
                )
            )
            bid, ask = book.best_bid_price(), book.best_ask_price()
        return float(bid), float(ask)  # type: ignore[arg-type]

    return run


def hftbacktest_events(levels: Any) -> Any:
    """Levels (columns: first of a snapshot, side 0 or 1, price, quantity, venue ms) as hftbacktest's local events."""
    from hftbacktest import (
        BUY_EVENT,
        DEPTH_EVENT,
        DEPTH_SNAPSHOT_EVENT,
        LOCAL_EVENT,
        SELL_EVENT,
        event_dtype,
    )

    events = np.zeros(len(levels), event_dtype)
    kind = np.where(levels[:, 0] == 1, DEPTH_SNAPSHOT_EVENT, DEPTH_EVENT).astype(np.uint64)
    side = np.where(levels[:, 1] == 0, BUY_EVENT, SELL_EVENT).astype(np.uint64)
    events["ev"] = kind | side | np.uint64(LOCAL_EVENT)
    events["exch_ts"] = levels[:, 4].astype(np.int64) * 1_000_000
    events["local_ts"] = events["exch_ts"] + 1_000
    events["px"], events["qty"] = levels[:, 2], levels[:, 3]
    return events


def hftbacktest_depth(levels: Any, tick_size: float, lot_size: float) -> Callable[[], Run]:
    """hftbacktest's fastest book (ROIVectorMarketDepth), local side alone, run to the end of ready-made events.

    A run uses its backtest up: what is returned makes the next one, untimed.
    """
    from hftbacktest import BacktestAsset, ROIVectorMarketDepthBacktest
    from numba import njit

    @njit
    def to_the_end(backtest: Any) -> Any:
        backtest.elapse(10_000_000_000_000_000)
        depth = backtest.depth(0)
        return depth.best_bid, depth.best_ask

    events = hftbacktest_events(levels)
    lowest, highest = float(levels[:, 2].min()) * 0.99, float(levels[:, 2].max()) * 1.01

    def fresh() -> Run:
        asset = (
            BacktestAsset()
            .data(events)
            .linear_asset(1.0)
            .constant_order_latency(0, 0)
            .risk_adverse_queue_model()
            .no_partial_fill_exchange()
            .trading_value_fee_model(0.0, 0.0)
            .tick_size(tick_size)
            .lot_size(lot_size)
            .roi_lb(lowest)
            .roi_ub(highest)
        )
        backtest = ROIVectorMarketDepthBacktest([asset])
        return lambda: to_the_end(backtest)

    return fresh


BOOKS = (
    Peer("msgspec (floats) + ccxt OrderBook", "ccxt", msgspec_ccxt),
    Peer("orjson + dict, max / min", "", plain_dict),
    Peer("orjson + sortedcontainers SortedDict", "sortedcontainers", sorted_dict),
    Peer("orjson + order_book", "order-book", order_book, 0.5),
    Peer("ccxt.pro bybit.handle_order_book", "ccxt", ccxt_pro, 0.5),
    Peer("nautilus_trader Bybit adapter", "nautilus_trader", nautilus_bybit, 0.25),
    Peer("cryptofeed Bybit.message_handler", "cryptofeed", cryptofeed_bybit, 0.25),
)
PARSERS = (
    Peer("pysimdjson, document tree alone", "pysimdjson", parse_simdjson),
    Peer("msgspec, floats, parse alone", "msgspec", parse_msgspec),
    Peer("orjson, parse alone", "orjson", parse_orjson),
)
