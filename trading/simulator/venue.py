"""The running exchange: markets, their source, their streams, and the clock that moves them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from trading.simulator import private_topics
from trading.simulator.binance_recording import BinanceRecording, BinanceReplay, is_binance
from trading.simulator.borrowing import InterestSchedule
from trading.simulator.candles import INTERVAL_MINUTES, CandleSeries
from trading.simulator.exchange import Exchange
from trading.simulator.faults.engine import Faults
from trading.simulator.funding import FundingSchedule
from trading.simulator.hub import Hub
from trading.simulator.instruments import DEFAULT_SYMBOLS, INSTRUMENTS
from trading.simulator.journal import Journal
from trading.simulator.keys import ApiKey
from trading.simulator.markets import Market, PublicTrade, market_of
from trading.simulator.notices import Notices
from trading.simulator.orderflow import OrderFlow, levels_traded_a_minute
from trading.simulator.publisher import (
    BOOK_STEPS,
    BookStream,
    RecentTrades,
    SpotTicker,
    TickerStream,
    kline_message,
    trades_message,
)
from trading.simulator.recording import Recording, RecordingPlayer
from trading.simulator.topics import address

log = logging.getLogger(__name__)

TICK_SECONDS = 0.02
STEPS_A_TICK = 5  # the slower topics are pushed every 100 ms
KLINE_MS = 1_000
# The first contracts have a spot market beside them, with so much less in its book.
MOST_SPOT = 10
SPOT_SHARE = 0.4
# What the insurance fund has at first, USDT.
INSURANCE_FUND = Decimal(1_000_000)


class MarketSource(Protocol):
    """Moves the books of an exchange: :class:`OrderFlow`, or a recording."""

    def step(self, now_ms: int) -> None: ...

    def move(self, symbol: str, percent: float) -> None: ...


class Follower(Protocol):
    """Another exchange's public side over the same markets."""

    def follow_books(self, now_ms: int, *, step: bool) -> None: ...

    def follow_trades(self, trades: Sequence[PublicTrade], now_ms: int) -> None: ...

    def skip_update(self, symbol: str) -> int: ...


class Venue:
    """Everything but HTTP. ``source`` says where the market comes from; ``clock`` gives ms since 1970.

    Without a running clock of its own, :meth:`tick` is the only thing that moves it: the same seed and the same times
    make the same messages, byte for byte.
    """

    def __init__(
        self,
        keys: Mapping[str, ApiKey],
        *,
        seed: int = 7,
        symbols: int = DEFAULT_SYMBOLS,
        liveliness: float = 1.0,
        recording: Path | None = None,
        state: Path | None = None,
        fault_seed: int | None = None,
        insurance: Decimal = INSURANCE_FUND,
        clock: Callable[[], int] | None = None,
    ) -> None:
        self.clock = clock or now_ms
        self.seed, self.started_ms = seed, self.clock()
        # When the exchange last forgot its recently closed orders, as it does when Bybit's service restarts; 0: never.
        self.restarted_ms = 0
        self.faults = Faults(seed if fault_seed is None else fault_seed)
        self.hub = Hub(self.faults, self.restart_book)
        self.journal = Journal(state)
        self.player: RecordingPlayer | None = None
        # What moves the books at each step; a Bybit recording plays by itself.
        self._source: MarketSource | None = None
        self._listed = {each.symbol: each for each in INSTRUMENTS[:symbols]}
        session = binance = None
        if recording is None:
            listings = {symbol: each.listing() for symbol, each in self._listed.items()}
        elif is_binance(recording):
            binance = BinanceRecording.read(recording)
            listings = binance.listings()
        else:
            session = Recording.read(recording)
            listings = session.listings("linear")
        markets = {symbol: market_of(listing) for symbol, listing in listings.items()}
        self.source = f"recording {recording.name}" if recording is not None else f"order flow, seed {seed}"
        self.exchange = Exchange(markets, keys, seed=seed, insurance=insurance)
        self._restore_accounts()
        if session is not None:
            self.player = RecordingPlayer(session, self.exchange, self.hub)
        elif binance is not None:
            self._source = BinanceReplay(binance, self.exchange)
        else:
            flow = OrderFlow(self.exchange, seed, liveliness)
            spot = [market_of(each.spot_listing(), "spot") for each in list(self._listed.values())[:MOST_SPOT]]
            self.exchange.spot.update({market.symbol: market for market in spot})
            self._open_flow(flow)
            self._source = flow
        self.trades = {symbol: RecentTrades() for symbol in markets}
        self.candles = {market.symbol: self._candles(market, index) for index, market in enumerate(markets.values())}
        self.tickers = {symbol: TickerStream(market, self.candles[symbol]) for symbol, market in markets.items()}
        self.notices = Notices(self.exchange, self.hub)
        for market in list(self.exchange.spot.values()):
            self.list_spot(market)
        self._books: dict[str, BookStream] = {}
        self.followers: list[Follower] = []
        self._rest_orders()
        self._funding = FundingSchedule(self.exchange, seed, self.started_ms)
        self._interest = InterestSchedule(self.exchange, self.started_ms)
        self._ticks = 0
        self._next_klines = 0

    def list_spot(self, market: Market) -> None:
        """Trade and tell a spot market; its candles and trades are those of "spot:SYMBOL"."""
        name = address("spot", market.symbol)
        self.exchange.spot[market.symbol] = market
        self.trades[name] = RecentTrades()
        self.candles[name] = self._candles(market, len(self.candles))
        self.notices.spot_tickers[market.symbol] = SpotTicker(market, self.candles[name])

    # Time.

    async def run(self) -> None:
        tasks = [self._clock()]
        if self.player is not None:
            tasks.append(self.player.run())
        await asyncio.gather(*tasks)

    async def _clock(self) -> None:
        next_tick = time.monotonic()
        while True:
            next_tick = max(next_tick + TICK_SECONDS, time.monotonic() - 1.0)
            await asyncio.sleep(max(0.0, next_tick - time.monotonic()))
            self.tick(self.clock())

    def tick(self, now: int) -> None:
        """One 20 ms step of the market; every fifth is told to the slower topics too."""
        self._ticks += 1
        slow = self._ticks % STEPS_A_TICK == 0
        if self._source is not None:
            self._source.step(now)
        if slow:
            self._funding.settle(now)
            self._interest.settle(now)
        for follower in self.followers:
            follower.follow_books(now, step=slow)
        self._push_books(now, slow=slow)
        self.settle()
        self.notices.tick(now)
        if slow:
            self._push_tickers(now)
            self._advance_candles(now)

    def settle(self) -> None:
        """Tell the outside what happened: trades to everyone, orders and fills to their owners, all to the journal."""
        exchange = self.exchange
        if exchange.trades or exchange.replayed:
            self._push_trades()
        if exchange.dirty or exchange.changed_orders:
            self.remember()
        if exchange.outbox:
            self._push_private()

    def remember(self) -> None:
        """Write what changed; called before a request is answered."""
        exchange = self.exchange
        accounts = [exchange.accounts[user] for user in exchange.dirty]
        self.journal.write(accounts, exchange.changed_orders.values(), exchange.ledger)
        exchange.dirty.clear()
        exchange.changed_orders.clear()

    # Streams.

    def book_stream(self, topic: str) -> BookStream | None:
        """The stream of an ``orderbook.N.SYMBOL`` topic, made when somebody first wants it."""
        stream = self._books.get(topic)
        if stream is None:
            _, depth, symbol = topic.split(".")
            market = (self.exchange.spot if topic.startswith("spot:") else self.exchange.markets).get(symbol)
            if market is None or not depth.isdigit():
                return None
            first_id = 1 if self.restarted_ms else self.clock() // 10
            stream = self._books[topic] = BookStream(market, int(depth), first_update_id=first_id)
        return stream

    def first_message(self, topic: str) -> bytes | None:
        """What a new subscriber is sent at once."""
        now = self.clock()
        category, _, name = topic.rpartition(":")
        kind, _, rest = name.partition(".")
        if kind == "orderbook":
            recorded = self.player.snapshot(name, now, category or "linear") if self.player is not None else None
            stream = self.book_stream(topic) if recorded is None else None
            if stream is None:
                return recorded
            if not self.hub.wanted(topic):
                stream.delta(now)  # nobody heard what happened meanwhile
            return stream.snapshot(now)
        markets = self.exchange.spot if category else self.exchange.markets
        if rest not in markets:
            return None
        if kind == "priceLimit":
            return self.notices.price_limit(markets[rest], now)
        if kind == "tickers":
            return self.notices.spot_tickers[rest].snapshot(now) if category else self.tickers[rest].snapshot(now)
        return None

    def skip_update(self, symbol: str) -> int:
        """Lose one update of every book stream of a symbol; returns how many streams there were."""
        streams = [stream for stream in self._books.values() if stream.market.symbol == symbol]
        for stream in streams:
            stream.skip()
        followed = sum(follower.skip_update(symbol) for follower in self.followers)
        return len(streams) + (self.player.skip(symbol) if self.player is not None else 0) + followed

    def restart(self) -> int:
        """What a restart of Bybit's service shows: every connection is cut (returns how many there were), order book
        streams start at u=1, and recently closed orders are no longer told by ``/v5/order/realtime``."""
        self.restarted_ms = self.clock()
        self._books.clear()
        if self.player is not None:
            self.player.restart_books()
        return self.hub.disconnect_all()

    def restart_book(self, topic: str) -> bytes | None:
        """Start one order book topic again; its snapshot of u=1, None for a topic that is no order book."""
        now = self.clock()
        category, _, name = topic.rpartition(":")
        if self.player is not None and name in self.player.book_topics:
            return self.player.restart_book(name, now, category or "linear")
        stream = self._books.get(topic)
        return stream.restart(now) if stream is not None else None

    def move(self, symbol: str, percent: float) -> None:
        if self._source is not None:
            self._source.move(symbol, percent)

    def status(self) -> dict[str, Any]:
        accounts = self.exchange.accounts.values()
        return {
            "source": self.source,
            "seed": self.seed,
            "symbols": list(self.exchange.markets),
            "clients": len(self.hub.clients),
            "open_orders": sum(len(account.working) for account in accounts),
            "executions": sum(len(account.executions) for account in accounts),
            "started_ms": self.started_ms,
            "restarted_ms": self.restarted_ms,
        }

    def _push_books(self, now: int, *, slow: bool) -> None:
        for topic, stream in self._books.items():
            steps = BOOK_STEPS[stream.depth]
            due = slow or stream.market.book.changed if steps == 1 else self._ticks % steps == 0
            if due and self.hub.wanted(topic):
                message = stream.delta(now)
                if message is not None:
                    self.hub.publish(topic, message)
        for market in (*self.exchange.markets.values(), *self.exchange.spot.values()):
            market.book.changed = False

    def _push_trades(self) -> None:
        by_topic: dict[str, list[Any]] = {}
        every = [*self.exchange.replayed, *self.exchange.trades]
        for trade in every:
            name = address(trade.category, trade.symbol)
            self.trades[name].add(trade)
            grids = self.exchange.market(trade.symbol, trade.category).grids
            self.candles[name].trade(
                grids.prices.units(f"{trade.price:f}"), grids.quantities.units(f"{trade.quantity:f}")
            )
        for follower in self.followers:
            follower.follow_trades([trade for trade in every if trade.category == "linear"], self.clock())
        for trade in self.exchange.trades:
            by_topic.setdefault(address(trade.category, f"publicTrade.{trade.symbol}"), []).append(trade)
        self.exchange.trades.clear()
        self.exchange.replayed.clear()
        for topic, trades in by_topic.items():
            if self.hub.wanted(topic):
                self.hub.publish(topic, trades_message(trades[0].symbol, trades, self.clock()))

    def _push_private(self) -> None:
        outbox, self.exchange.outbox = self.exchange.outbox, []
        private_topics.publish(self.hub, outbox, self.clock(), self.exchange.new_id)

    def _push_tickers(self, now: int) -> None:
        if self.player is not None:
            return  # the recording brings its own
        for stream in self.tickers.values():
            if self.hub.wanted(stream.topic):
                message = stream.delta(now)
                if message is not None:
                    self.hub.publish(stream.topic, message)

    def _advance_candles(self, now: int) -> None:
        closed = []
        for name, series in self.candles.items():
            minute = series.advance(now)
            if minute is not None:
                category, _, symbol = name.rpartition(":")
                last_price = self.exchange.market(symbol, category or "linear").last_price
                closed.append((name, minute, series.minute(minute) or [], last_price))
        if closed:
            self.journal.write_minute(closed)
        if not closed and now < self._next_klines:
            return
        self._next_klines = now + KLINE_MS
        for name, series in self.candles.items():
            category, _, symbol = name.rpartition(":")
            for interval in INTERVAL_MINUTES:
                topic = f"kline.{interval}.{symbol}"
                named = address(category or "linear", topic)
                if self.hub.wanted(named):
                    for row in series.pushes(interval, now):
                        self.hub.publish(named, kline_message(topic, [row], now))

    # Opening.

    def _restore_accounts(self) -> None:
        for account in self.exchange.accounts.values():
            self.journal.load(account)
        self.journal.load_ledger(self.exchange.ledger)

    def _open_flow(self, flow: OrderFlow) -> None:
        for symbol, each in self._listed.items():
            price = self.journal.last_price(symbol) or each.price
            flow.add(self.exchange.markets[symbol], price, each.volatility, each.level_value)
            spot = self.exchange.spot.get(symbol)
            if spot is not None:
                flow.add(spot, price, each.volatility, each.level_value * SPOT_SHARE)

    def _candles(self, market: Market, index: int) -> CandleSeries:
        each = self._listed.get(market.symbol)
        value = each.level_value if each is not None else 9_000.0
        price = market.last_price
        series = CandleSeries(
            market.grids,
            price,
            self.started_ms,
            volatility=each.volatility if each is not None else 0.0005,
            lots_a_minute=value * levels_traded_a_minute(market, price) / float(price) / float(market.rules.lot_size),
            rng=np.random.default_rng([self.seed, index]),
        )
        name = address(market.category, market.symbol)
        series.restore(self.journal.history(name))
        self.journal.write_history(name, *series.history())
        return series

    def _rest_orders(self) -> None:
        """Open orders of an earlier run go back on the book, oldest first; those that would take now are matched."""
        now = self.clock()
        for account in self.exchange.accounts.values():
            for order in [order for order in account.orders.values() if order.is_open]:
                if order.symbol in self.exchange.markets:
                    account.working[order.order_id] = order
                    self.exchange.resume(order, now)
        self.settle()


def now_ms() -> int:
    return time.time_ns() // 1_000_000
