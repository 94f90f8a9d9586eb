"""The running exchange: markets, their source, their streams, and the clock that moves them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from trading.simulator import private_topics
from trading.simulator.accounts import SimulatedAccount
from trading.simulator.binance_recording import BinanceRecording, BinanceReplay, is_binance
from trading.simulator.borrowing import InterestSchedule
from trading.simulator.candles import FIRST_LISTING_MS, INTERVALS, CandleSeries
from trading.simulator.exchange import Exchange
from trading.simulator.faults.engine import Faults
from trading.simulator.followed import FollowedPlayer, FollowedVenue
from trading.simulator.funding import FundingSchedule
from trading.simulator.hub import Hub
from trading.simulator.instruments import DEFAULT_SYMBOLS, INSTRUMENTS
from trading.simulator.intervals import MINUTE_MS
from trading.simulator.journal import Journal
from trading.simulator.keys import ApiKey
from trading.simulator.markets import Liquidation, Market, PublicTrade, market_of
from trading.simulator.notices import Notices
from trading.simulator.orderflow import OrderFlow, levels_traded_a_minute
from trading.simulator.playing import Player
from trading.simulator.publisher import (
    BOOK_STEPS,
    FULL_STEPS,
    BookStream,
    FullBookStream,
    RecentTrades,
    SpotTicker,
    TickerStream,
    kline_message,
    trades_message,
)
from trading.simulator.recording import Recording, RecordingPlayer
from trading.simulator.stretches import Stretch
from trading.simulator.system_status import SystemStatus
from trading.simulator.topics import ALL_SYMBOLS, address

log = logging.getLogger(__name__)

TICK_SECONDS = 0.02
STEPS_A_TICK = 5  # the slower topics are pushed every 100 ms
KLINE_MS = 1_000
HISTORY_DELAY_MS = 1_000
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

    def follow_liquidations(self, liquidations: Sequence[Liquidation]) -> None: ...

    def skip_update(self, symbol: str) -> int: ...

    def symbols(self) -> set[str]:
        """Those whose book it follows."""
        ...


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
        followed: FollowedVenue | None = None,
        state: Path | None = None,
        fault_seed: int | None = None,
        insurance: Decimal = INSURANCE_FUND,
        clock: Callable[[], int] | None = None,
        history_delay_ms: int = HISTORY_DELAY_MS,
    ) -> None:
        self.clock = clock or now_ms
        self.seed, self.started_ms = seed, self.clock()
        # How many seconds of the venue a real one is.
        self.speed = 1.0
        # When the exchange last forgot its recently closed orders, as it does when Bybit's service restarts; 0: never.
        self.restarted_ms = 0
        # The order history follows what happened after this time.
        self.history_delay_ms, self.execution_delay_ms = history_delay_ms, 0
        self.faults = Faults(seed if fault_seed is None else fault_seed, lambda: self.clock() / 1000)
        self.hub = Hub(self.faults, self.restart_book)
        self.system = SystemStatus(self.hub)
        self.journal = Journal(state)
        self.player: Player | None = None
        # What plays besides the clock.
        self._playing: Callable[[], Coroutine[Any, Any, None]] | None = None
        self._following: FollowedPlayer | None = None
        self.flow: OrderFlow | None = None
        # What moves the books at each step; a Bybit recording plays by itself.
        self._source: MarketSource | None = None
        self._listed = {each.symbol: each for each in INSTRUMENTS[:symbols]}
        session = binance = None
        if followed is not None:
            listings = dict(followed.listings)
        elif recording is None:
            listings = {symbol: each.listing() for symbol, each in self._listed.items()}
        elif is_binance(recording):
            binance = BinanceRecording.read(recording)
            listings = binance.listings()
        else:
            session = Recording.read(recording)
            listings = session.listings("linear")
        markets = {symbol: market_of(listing) for symbol, listing in listings.items()}
        for market in markets.values():
            # Rises over restarts: nothing changes a book a thousand times a second.
            market.sequence = self.started_ms
        self.source = f"recording {recording.name}" if recording is not None else f"order flow, seed {seed}"
        if followed is not None:
            self.source = f"the live market of {followed.rest}"
        # A later run must not name its orders and executions as an earlier one did, nor a paper venue as the followed.
        id_seed = f"{seed}/{self.started_ms}" if followed is not None or self.journal.has_orders() else None
        self.exchange = Exchange(markets, keys, seed=seed, id_seed=id_seed, insurance=insurance)
        if followed is not None:
            for user in self.journal.users() - set(keys):
                self.exchange.open_account(ApiKey(user, "", ""))
        self._restore_accounts()
        if followed is not None:
            self.player = self._following = FollowedPlayer(followed, self.exchange, self.hub, self.clock)
            self.exchange.refusal, self._playing = self._following.refusal, self._following.run
        elif session is not None:
            player = RecordingPlayer(session, self.exchange, self.hub)
            self.player, self._playing = player, lambda: player.run(self.clock, self.speed)
        elif binance is not None:
            self._source = BinanceReplay(binance, self.exchange)
        else:
            flow = OrderFlow(self.exchange, seed, liveliness)
            spot = [market_of(each.spot_listing(), "spot") for each in list(self._listed.values())[:MOST_SPOT]]
            self.exchange.spot.update({market.symbol: market for market in spot})
            self._open_flow(flow)
            self._source = self.flow = flow
        self.trades = {symbol: RecentTrades() for symbol in markets}
        self.candles = {market.symbol: self._candles(market, index) for index, market in enumerate(markets.values())}
        self.tickers = {symbol: TickerStream(market, self.candles[symbol]) for symbol, market in markets.items()}
        self.notices = Notices(self.exchange, self.hub, self._follow_liquidations)
        for market in list(self.exchange.spot.values()):
            self.list_spot(market)
        self._books: dict[str, BookStream] = {}
        self._best: dict[str, BookStream] = {}  # those of one level
        self.followers: list[Follower] = []
        self._rest_orders()
        self.funding = FundingSchedule(self.exchange, seed, self.started_ms)
        self._interest = InterestSchedule(self.exchange, self.started_ms)
        self._ticks = 0
        self._next_klines = 0
        self._next_minute_ms = (self.started_ms // MINUTE_MS + 1) * MINUTE_MS
        self._bars_closed = False

    def list_spot(self, market: Market) -> None:
        """Trade and tell a spot market; its candles and trades are those of "spot:SYMBOL"."""
        name = address("spot", market.symbol)
        self.exchange.spot[market.symbol] = market
        market.sequence = self.started_ms
        self.trades[name] = RecentTrades()
        self.candles[name] = self._candles(market, len(self.candles))
        self.notices.spot_tickers[market.symbol] = SpotTicker(market, self.candles[name])

    # Time.

    async def run(self, clock: Coroutine[Any, Any, None] | None = None) -> None:
        """Live until cancelled; ``clock`` moves the market, at the pace of real time where it is None."""
        tasks = [clock or self._tick_in_real_time()]
        if self._playing is not None:
            tasks.append(self._playing())
        await asyncio.gather(*tasks)

    async def _tick_in_real_time(self) -> None:
        next_tick = time.monotonic()
        while True:
            for step in (self.half_tick, self.tick):
                next_tick = max(next_tick + TICK_SECONDS / 2, time.monotonic() - 1.0)
                await asyncio.sleep(max(0.0, next_tick - time.monotonic()))
                step(self.clock())

    def tick(self, now: int) -> None:
        """One 20 ms step of the market; every fifth is told to the slower topics too."""
        self._ticks += 1
        slow = self._ticks % STEPS_A_TICK == 0
        self.open_bars(now)
        if self._source is not None:
            self._source.step(now)
        if slow:
            self.funding.settle(now)
            self._interest.settle(now)
        for follower in self.followers:
            follower.follow_books(now, step=slow)
        self._push_books(now)
        self.settle()
        self.notices.tick(now)
        if slow:
            self._push_tickers(now)
            self._push_klines(now)

    def pass_over(self, ticks: int, tick_ms: int) -> None:
        """Like so many calls of :meth:`half_tick` and :meth:`tick`, ``tick_ms`` apart and within a minute, after the
        whole order flow has lived ahead, nobody listens and nobody owes. The clock is at the last of them."""
        before, self._ticks = self._ticks, self._ticks + ticks
        if self.flow is not None:
            self.flow.pass_over(ticks)
        slow = range((before // STEPS_A_TICK + 1) * STEPS_A_TICK, self._ticks + 1, STEPS_A_TICK)
        times = [self.clock() - (self._ticks - tick) * tick_ms for tick in slow]
        for now in times:
            self.funding.settle(now)
            self._interest.settle(now)
            self._klines_are_due(now)
        self.notices.tick(self.clock())

    def open_bars(self, now: int) -> None:
        """Begin the candles of a new minute, before anything trades in it."""
        if now < self._next_minute_ms:
            return
        self._next_minute_ms = (now // MINUTE_MS + 1) * MINUTE_MS
        closed = []
        for name, series in self.candles.items():
            minute = series.advance(now)
            if minute is not None:
                category, _, symbol = name.rpartition(":")
                last_price = self.exchange.market(symbol, category or "linear").last_price
                closed.append((name, minute, series.minute(minute) or [], last_price))
        self._bars_closed = bool(closed)
        if closed:
            self.journal.write_minute(closed)

    def watched(self) -> set[str]:
        """The symbols with which somebody has anything to do: a stream, an order, a position, a coin."""
        symbols, coins = self.hub.symbols(), set[str]()
        if ALL_SYMBOLS in symbols:
            return {market.symbol for market in (*self.exchange.markets.values(), *self.exchange.spot.values())}
        for follower in self.followers:
            symbols |= follower.symbols()
        for account in self.exchange.accounts.values():
            symbols.update(order.symbol for order in account.working.values())
            symbols.update(position.symbol for position in account.positions.values() if position.quantity)
            coins.update(coin for coin, amount in account.wallets.items() if amount)
        return symbols | {market.symbol for market in self.exchange.markets.values() if market.rules.base_coin in coins}

    def take_in(self, name: str, stretch: Stretch) -> None:
        """What a market traded while it lived ahead."""
        market = stretch.market
        # The steps numbered what they changed of the book.
        market.sequence, market.book.changed = stretch.last_sequence, False
        if not len(stretch):
            return
        market.last_price = market.grids.prices.value(int(stretch.ticks[-1]))
        self.candles[name].trades(stretch.ticks, stretch.lots)
        self.trades[name].add_stretch(stretch)
        if market.category == "linear":
            for follower in self.followers:
                follower.follow_trades(stretch.trades(), self.clock())

    def half_tick(self, now: int) -> None:
        """Between two steps: what has a pace of less than 20 ms. Only users' orders changed a book meanwhile."""
        self.open_bars(now)
        for topic, stream in self._best.items():
            if stream.market.book.changed and self.hub.wanted(topic):
                self._tell(topic, stream, now)
        self.notices.tick(now)

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
            if market is None or not (depth.isdigit() or depth == "full"):
                return None
            first_id = 1 if self.restarted_ms else self.clock() // 10
            stream = FullBookStream(market, first_id) if depth == "full" else BookStream(market, int(depth), first_id)
            self._books[topic] = stream
            if stream.depth == 1:
                self._best[topic] = stream
        return stream

    def full_book(self, topic: str) -> FullBookStream:
        """The stream of an ``orderbook.full`` topic whose market there is."""
        stream = self.book_stream(topic)
        if not isinstance(stream, FullBookStream):
            raise KeyError(topic)
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
            return None if isinstance(stream, FullBookStream) else stream.snapshot(now)
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
        self._best.clear()
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

    def transfer(self, user: str, coin: str, amount: Decimal, *, told: bool) -> None:
        """Move money into (negative: out of) a user's wallet; ``told``: the transaction log has it."""
        self.exchange.ledger.transfer(self.exchange.accounts[user], coin, amount, self.clock(), told=told)
        self.remember()
        self.settle()

    def pay_funding(self, symbol: str) -> None:
        """Settle a contract's funding now, at its rate of this interval."""
        self.exchange.margin.pay_funding(self.exchange.markets[symbol], self.clock())
        self.remember()
        self.settle()

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
            **(self._following.status() if self._following is not None else {}),
        }

    def _push_books(self, now: int) -> None:
        markets = (*self.exchange.markets.values(), *self.exchange.spot.values())
        for market in markets:
            market.sequence += market.book.changed
        for topic, stream in self._books.items():
            steps = BOOK_STEPS.get(stream.depth, FULL_STEPS)
            may_differ = steps > 1 or stream.market.book.changed or stream.repeats(now)
            if may_differ and self._ticks % steps == 0 and self.hub.wanted(topic):
                self._tell(topic, stream, now)
        for market in markets:
            market.book.changed = False

    def _tell(self, topic: str, stream: BookStream, now: int) -> None:
        message = stream.delta(now)
        if message is not None:
            self.hub.publish(topic, message)

    def _follow_liquidations(self, liquidations: Sequence[Liquidation]) -> None:
        for follower in self.followers:
            follower.follow_liquidations(liquidations)

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

    def _push_klines(self, now: int) -> None:
        if not self._klines_are_due(now):
            return
        for name, series in self.candles.items():
            category, _, symbol = name.rpartition(":")
            for interval in INTERVALS:
                topic = f"kline.{interval}.{symbol}"
                named = address(category or "linear", topic)
                if self.hub.wanted(named):
                    for row in series.pushes(interval, now):
                        self.hub.publish(named, kline_message(topic, [row], now))

    def _klines_are_due(self, now: int) -> bool:
        """Every second, and at once when a minute is over; says so once."""
        if not self._bars_closed and now < self._next_klines:
            return False
        self._bars_closed, self._next_klines = False, now + KLINE_MS
        return True

    # Opening.

    def open_account(self, key: ApiKey) -> None:
        """Let a user in whom the venue has not known from the start; what an earlier run knew of them is there."""
        if key.user in self.exchange.accounts:
            return
        account = self.exchange.open_account(key)
        self.journal.load(account)
        self._rest_orders_of(account)
        self.settle()

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
            listed_ms=int(market.listing.get("launchTime") or FIRST_LISTING_MS),
        )
        name = address(market.category, market.symbol)
        series.restore(self.journal.history(name))
        self.journal.write_history(name, *series.history())
        return series

    def _rest_orders(self) -> None:
        """Open orders of an earlier run go back on the book, oldest first; those that would take now are matched."""
        for account in self.exchange.accounts.values():
            self._rest_orders_of(account)
        self.settle()

    def _rest_orders_of(self, account: SimulatedAccount) -> None:
        for order in [order for order in account.orders.values() if order.is_open]:
            if order.symbol in self.exchange.markets:
                account.working[order.order_id] = order
                if self._following is not None and order.status != "Untriggered":
                    self._following.resume(order)
                else:
                    self.exchange.resume(order, self.clock())


def now_ms() -> int:
    return time.time_ns() // 1_000_000
