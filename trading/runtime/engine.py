"""The engine process: its shards of the market, pipeline, account desks, publisher, heartbeats - one asyncio loop."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import secrets
import time
from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import suppress
from decimal import Decimal
from functools import partial
from typing import Any

import numpy as np
import redis
from channels.layers import get_channel_layer
from django.conf import settings
from django.db import DatabaseError, Error
from numpy.typing import NDArray

from audit.engine_memory import EngineMemory
from audit.services import heartbeat_record
from marketdata.depth.snapshots import Market
from marketdata.engine.detectors.detection import Detection
from marketdata.events import Candle, Trade
from marketdata.feeds.bybit_rest import BybitPublicRest
from marketdata.feeds.protocol import VenueError
from marketdata.instruments import InstrumentRules
from marketdata.selectors import as_rules, instruments
from marketdata.services import LatestFrames, instruments_sync
from risk.checks import Refusal
from risk.slippage import BookSide
from trading.gateways.bybit import BybitEndpoints
from trading.models import Account
from trading.pipeline import Outcome, Pipeline, StrategyFault, UnjudgedSignal
from trading.runtime import market_feeds, plane_replay
from trading.runtime.account_desk import AccountDesk
from trading.runtime.account_desks import AccountDesks
from trading.runtime.bar_order import BarOrder
from trading.runtime.cancellation import end_tasks
from trading.runtime.candle_store import CandleStore
from trading.runtime.configuration import (
    ENVIRONMENTS,
    load_accounts,
    load_accounts_to_stop,
    load_configuration,
    stop_changed_strategies,
)
from trading.runtime.database import ask_database
from trading.runtime.detection_store import DetectionStore
from trading.runtime.detection_watch import DetectionWatch
from trading.runtime.emergency import export_accounts
from trading.runtime.exposure_reader import ExposureReader
from trading.runtime.feed_event_store import FeedEventStore
from trading.runtime.market_access import bybit_gate
from trading.runtime.market_frames import SymbolMarket, summary, text
from trading.runtime.market_plane import MarketPlane
from trading.runtime.performance_store import PerformanceStore
from trading.runtime.shards import Shards
from trading.runtime.span_store import SpanStore
from trading.runtime.strategy_watch import StrategyWatch
from trading.runtime.venue_access import venue_access_tell
from trading.runtime.venue_link import stored_keys
from trading.selectors import account_of_order, account_of_signal

log = logging.getLogger(__name__)

FRAME_SECONDS = 0.1
SUMMARY_SECONDS = 1.0
HEARTBEAT_SECONDS = 2.0
CONFIGURATION_SECONDS = 5.0
VENUE_RETRY_SECONDS = 2.0


class Engine:
    """``run`` returns when ``stop`` is called. Doorbells only hurry up what the timers do anyway."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.environment = ENVIRONMENTS[settings.EXCHANGE]
        self.endpoints = BybitEndpoints.of_environment(self.environment, settings.SIMULATOR_URL)
        self._strategies = StrategyWatch(name)
        self.pipeline = Pipeline(
            lambda: secrets.token_hex(16),
            self._book_proven,
            self._may_act,
            self._owns,
            self._book_side,
            self._book_features,
            self._strategies.calls.call,
        )
        self._performances = PerformanceStore(self.pipeline, self._is_holder)
        self.desks = AccountDesks(self.pipeline.reference_prices)
        self._exposures = ExposureReader(self.pipeline.reference_prices)
        self.plane: MarketPlane | None = None
        self.shards: Shards | None = None
        self._rules: dict[str, InstrumentRules] = {}
        self._rest = BybitPublicRest(self.endpoints.rest, bybit_gate(self.endpoints.rest))
        self._candles: CandleStore | None = None
        self._bars = BarOrder(
            lacking=self.pipeline.lacking,
            history=self._history,
            warm=self._warm_up,
            tell=self._tell_candle,
            spawn=self._spawn,
        )
        self._spans = SpanStore(name)
        self._feed_events = FeedEventStore(settings.DATA_DIR / f"feed-events-{name}.jsonl")
        self._watch = DetectionWatch(settings.DETECTORS, self._on_detected, settings.DETECTOR_PARAMETERS)
        self._detections = DetectionStore()
        self._recorder = market_feeds.recorder(name)
        self._frames = LatestFrames()
        self._memory = EngineMemory(settings.REDIS_URL, settings.REDIS_PREFIX)
        self._reload = asyncio.Event()
        self._stopping = asyncio.Event()
        self._background: set[asyncio.Task[Any]] = set()
        self._counts = {"signals": 0, "orders": 0, "handed_over": 0}

    async def run(self) -> None:
        """Until :meth:`stop`, however far the beginning has come by then."""
        beginning = asyncio.create_task(self._begin(), name="beginning")
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({beginning, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if beginning.done():
                beginning.result()
                await stopping
        finally:
            await end_tasks([beginning, stopping])
            await self._shut_down()

    async def _begin(self) -> None:
        await self._list_instruments()
        rules = await ask_database(lambda: [as_rules(row) for row in instruments()])
        identifiers = await ask_database(lambda: dict(instruments().values_list("symbol", "pk")))
        self._rules = {each.symbol: each for each in rules if not settings.SYMBOLS or each.symbol in settings.SYMBOLS}
        self._candles = CandleStore(self._rest, identifiers)
        tap = self._recorder.record if self._recorder is not None else None
        self.plane = MarketPlane(
            (),
            on_book=self._on_book,
            on_trade=self._on_trade,
            on_candle=self._on_candle,
            on_event=self._feed_events.add,
            on_price=self._on_price,
            watch=self._watch,
            tap=tap,
        )
        market_feeds.connect(self.plane, self.endpoints, self._rest, tap)
        if self._recorder is not None:
            grids = {each.symbol: (each.tick_size, each.lot_size) for each in self._rules.values()}
            self._recorder.start(plane_replay.about(grids))
        self._strategies.calls.start()
        self.shards = Shards(self.name, self._rules, self)
        self.pipeline.follow(frozenset())
        await self._configure()
        # What is here now stays: a full collection that looks at it again stops everything for more than 0.1 s.
        gc.collect()
        gc.freeze()
        loops = (
            self.plane.run,
            self.shards.run,
            self._candles.run,
            self._spans.run,
            self._performances.run,
            self._feed_events.run,
            self._watch.run,
            self._detections.run,
            self.desks.keep_leases,
            self.desks.obey_kill_switches,
            self.desks.attend,
            self._publish,
            self._beat,
            self._watch_configuration,
        )
        self._background |= {asyncio.create_task(self._forever(loop), name=loop.__qualname__) for loop in loops}

    def stop(self) -> None:
        self._stopping.set()

    async def _shut_down(self) -> None:
        """Orders stay as they are at the venue; the next start reconciles them."""
        await end_tasks(self._background)
        self._strategies.calls.stop()
        await self._performances.flush()
        if self.shards is not None:
            await self.shards.close()
        await self.desks.close()
        self._exposures.close()
        if self._candles is not None:
            await self._candles.flush()
        await self._feed_events.close()
        await self._detections.flush()
        if self._recorder is not None:
            await asyncio.to_thread(self._recorder.close)
        await self._rest.close()
        with suppress(DatabaseError):
            await ask_database(partial(heartbeat_record, "engine", self.name, "stopped"))

    # What others ask for; called by the consumer.

    def doorbell(self, kind: str, identifier: str) -> None:
        log.info("doorbell: %s %s", kind, identifier)
        if kind in ("leases", "kill_switch"):
            self.desks.look()
        if kind != "leases":
            self._reload.set()
        elif self.shards is not None:
            self.shards.wake()

    def command(self, command: str, identifier: str) -> None:
        """``order_send``, ``order_amend`` and ``order_cancel`` name an order, ``signal_take`` a signal, ``reconcile``
        an account; what is not ours is ignored."""
        number = int(identifier)
        if command in ("order_send", "order_amend", "order_cancel"):
            self._spawn(self._pass_on(account_of_order, number, AccountDesk.take_up))
        elif command == "signal_take":
            self._spawn(self._pass_on(account_of_signal, number, AccountDesk.take_signal))
        elif command == "reconcile" and number in self.desks:
            self.desks[number].reconcile_soon("command")

    async def _pass_on(
        self, account_of: Callable[[int], int | None], number: int, command: Callable[[AccountDesk, int], None]
    ) -> None:
        """To the desk of the account that it is about."""
        try:
            account_id = await ask_database(lambda: account_of(number))
        except DatabaseError as error:
            log.warning("a doorbell is not heeded, the rounds find the same: %s", error)
            return
        desk = None if account_id is None else self.desks.get(account_id)
        if desk is not None and desk.owns:
            command(desk, number)

    # Our share of the symbols; called by the shards.

    def follow(self, symbols: frozenset[str]) -> None:
        if self.plane is None:
            return
        self.plane.remove(set(self.plane.markets) - symbols)
        self.plane.add(self._rules[symbol] for symbol in sorted(symbols))
        self.pipeline.follow(symbols)
        self._spawn(self._warm())

    def begun(self, symbols: Collection[str]) -> None:
        self._spawn(self._backfill(sorted(symbols)))
        self._performances.forget(symbols)
        self._spawn(self._warm())

    async def _backfill(self, symbols: Collection[str]) -> None:
        """Candles that closed while the symbols changed hands may have been nobody's."""
        while self._candles is not None:
            try:
                await self._candles.backfill(symbols)
                return
            except Error as error:
                log.warning("candles are not filled in yet, the database does not answer: %s", error)
                await asyncio.sleep(VENUE_RETRY_SECONDS)

    def is_ready(self, symbol: str) -> bool:
        return self._book_proven(symbol)

    def market_report(self) -> dict[str, list[str | None]]:
        markets = self.plane.markets.values() if self.plane is not None else ()
        return {market.symbol: [market.state.name, text(market.reference_price)] for market in markets}

    def _may_act(self, symbol: str) -> bool:
        return self.shards is not None and self.shards.holds(symbol)

    def _is_holder(self, symbol: str) -> bool:
        return self.shards is not None and self.shards.is_holder(symbol)

    def _owns(self, account_id: int) -> bool:
        desk = self.desks.get(account_id)
        # Without a desk nobody could hand the signal over either.
        return desk is None or desk.owns

    # Market events, in the order of arrival.

    def _on_book(self, market: SymbolMarket) -> None:
        price = market.reference_price
        if price is not None:
            self.pipeline.update_reference_price(market.symbol, price)
        if self.pipeline.listens(market.symbol):
            view = market.book.view()
            self._act(self.pipeline.on_book(view), view.receive_ns)

    def _book_proven(self, symbol: str) -> bool:
        return self.plane is not None and self.plane.proven(symbol)

    def _book_side(self, symbol: str, side: str) -> BookSide | None:
        return self.plane.book_side(symbol, side) if self.plane is not None else None

    def _book_features(self, symbol: str) -> NDArray[np.float64] | None:
        return self.plane.features(symbol) if self.plane is not None else None

    def _on_price(self, symbol: str, price: Decimal, receive_ns: int) -> None:
        self.pipeline.update_reference_price(symbol, price, receive_ns)
        for desk in self.desks.values():
            desk.on_price(symbol, price, receive_ns)

    def _on_trade(self, trade: Trade, receive_ns: int) -> None:
        self._act(self.pipeline.on_trade(trade), receive_ns)

    def _on_candle(self, candle: Candle, receive_ns: int) -> None:
        if candle.closed and self._candles is not None and self._is_holder(candle.symbol):
            self._candles.add(candle)
        self._bars.take(candle, receive_ns)

    def _tell_candle(self, candle: Candle, receive_ns: int, late: Refusal | None) -> None:
        self._act(self.pipeline.on_candle(candle, late=late), receive_ns)
        if candle.closed and self._may_act(candle.symbol):
            self._spans.note(self.pipeline.hearing(candle), candle)

    async def _history(self, symbol: str, interval: str, bars: int) -> list[Candle]:
        """The newest closed bars from the venue; what of them was never heard is stored, too."""
        if self._candles is None:
            return []
        history = await self._candles.history(symbol, interval, bars)
        if self._is_holder(symbol):
            for candle in history:
                self._candles.add(candle)
        return history

    def _on_detected(self, detection: Detection) -> None:
        if self._is_holder(detection.symbol):
            self._detections.add(detection)

    def _act(self, outcomes: list[Outcome], receive_ns: int) -> None:
        for outcome in outcomes:
            if isinstance(outcome, StrategyFault):
                self._note_faults([outcome])
                continue
            self._counts["signals"] += 1
            desk = self.desks.get(outcome.running.account_id)
            lease = self.shards.token(outcome.signal.symbol) if self.shards is not None else None
            if desk is None or lease is None:
                continue
            if isinstance(outcome, UnjudgedSignal):
                self._counts["handed_over"] += 1
                desk.hand_over(outcome, lease)
            elif outcome.approved:
                self._counts["orders"] += 1
                desk.place(outcome, receive_ns, lease)
            else:
                desk.note(outcome, lease)

    # Configuration.

    async def _list_instruments(self) -> None:
        """Ask the venue what it lists; with an answer from an earlier run the engine can start without it."""
        while True:
            try:
                listed = await self._rest.instruments("linear")
                await ask_database(partial(instruments_sync, listed))
                return
            except (VenueError, DatabaseError) as error:
                log.warning("the venue's instruments could not be listed: %s", error)
                await self._beat_once("starting", {"reason": f"waiting for the venue: {error}"})
                await asyncio.sleep(VENUE_RETRY_SECONDS)

    async def _configure(self) -> None:
        await ask_database(partial(stop_changed_strategies, self.environment, f"engine:{self.name}"))
        configuration = await ask_database(partial(load_configuration, self.environment))
        await asyncio.to_thread(self._strategies.prepare, configuration.strategies)
        fresh = self.pipeline.configure(configuration)
        self._note_faults(self.pipeline.take_faults())
        if fresh:
            log.info("running %d strategies, %d new or changed", len(configuration.strategies), len(fresh))
        self._spawn(self._warm())
        await self._open_desks()

    async def _open_desks(self) -> None:
        accounts = await ask_database(partial(load_accounts, self.environment))
        to_stop = await ask_database(partial(load_accounts_to_stop, self.environment))
        try:
            await asyncio.to_thread(export_accounts, to_stop)
        except OSError as error:
            log.error("accounts are not left for an emergency close: %s", error)
        for account in accounts:
            desk = self.desks.get(account.pk)
            if desk is not None and desk.keys != stored_keys(account):
                # A desk signs with the keys that it was opened with, at the venue of its mode.
                await self.desks.remove(account.pk)
            if account.pk not in self.desks:
                self._open_desk(account)
        for account_id in set(self.desks) - {account.pk for account in accounts}:
            await self.desks.remove(account_id)

    def _open_desk(self, account: Account) -> None:
        try:
            desk = AccountDesk(account, self.pipeline, self.endpoints, self._exposures, self.name)
        except Exception as error:  # an account whose keys do not open must not stop the others
            log.error("account %s cannot be opened: %s", account.name, error)
            return
        self.desks.open(desk)

    async def _warm(self) -> None:
        """Past candles for strategies that need them."""
        try:
            await self._performances.restore()
        except DatabaseError as error:
            log.warning("weights are not read yet, the database does not answer: %s", error)
        for (symbol, interval), bars in self.pipeline.cold().items():
            self._bars.fill(symbol, interval, bars)
        self._note_faults(self.pipeline.take_faults())

    def _warm_up(self, history: Iterable[Candle]) -> None:
        self.pipeline.warm(history)
        self._note_faults(self.pipeline.take_faults())

    def _note_faults(self, faults: list[StrategyFault]) -> None:
        if self._strategies.note(faults):
            self._spawn(self._strategies.settle())

    async def _watch_configuration(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(CONFIGURATION_SECONDS):
                    await self._reload.wait()
            self._reload.clear()
            try:
                await self._configure()
            except DatabaseError as error:
                log.warning("configuration stays as it is, the database does not answer: %s", error)

    # Out to pages, bots and the health page.

    async def _publish(self) -> None:
        layer = get_channel_layer()
        next_summary = 0.0
        while self.plane is not None:
            await asyncio.sleep(FRAME_SECONDS)
            now_ms = time.time_ns() // 1_000_000
            # Whoever only stands by for a symbol keeps quiet about it.
            markets = [market for name, market in self.plane.markets.items() if self._is_holder(name)]
            frames, rows, depths, heats = {}, {}, {}, []
            summary_is_due = time.monotonic() >= next_summary
            for market in markets:
                if market.changed:
                    frames[market.symbol] = market.frame(now_ms)
                if summary_is_due:
                    rows[market.symbol] = market.summary_row()
                    if (depth := market.depth_book(now_ms)) is not None:
                        depths[Market.BYBIT, market.symbol] = depth
                    if (heat := market.heat_minute(now_ms)) is not None:
                        heats.append(heat)
                await asyncio.sleep(0)  # books first: the sockets are read between two symbols
            try:
                await asyncio.to_thread(self._frames.store, frames, rows, depths, heats)
                for symbol, body in frames.items():
                    await layer.group_send(f"market.{symbol}", {"type": "market.frame", "symbol": symbol, "body": body})
                if summary_is_due:
                    next_summary = time.monotonic() + SUMMARY_SECONDS
                    # Under a name of its own: a newer summary of one engine must not displace another's.
                    body = summary(rows.values(), now_ms)
                    message = {"type": "market.frame", "symbol": f"*{self.name}", "body": body}
                    await layer.group_send("market.summary", message)
            except (redis.RedisError, OSError) as error:
                log.warning("market frames are not published, the cache is away: %s", error)
                await asyncio.sleep(1.0)

    async def _beat(self) -> None:
        while True:
            await self._beat_once("ok", await self.status())
            await asyncio.sleep(HEARTBEAT_SECONDS)

    async def _beat_once(self, status: str, detail: dict[str, Any]) -> None:
        # Told twice: while one of the two is away, the status page reads the other.
        with suppress(redis.RedisError, OSError):
            await asyncio.to_thread(self._memory.store, self.name, status, detail)
        try:
            await ask_database(partial(heartbeat_record, "engine", self.name, status, detail))
            await ask_database(partial(venue_access_tell, f"engine {self.name}"))
        except DatabaseError as error:
            log.warning("no heartbeat, the database does not answer: %s", error)

    async def status(self) -> dict[str, Any]:
        """What the health page shows of this engine."""
        plane = self.plane
        return {
            "pid": os.getpid(),
            "environment": self.environment,
            "feeds": await plane.status() if plane else {},
            "backlog": plane.backlog.counts if plane else {},
            "bars": dict(self._bars.counts),
            "feed_events": self._feed_events.counts,
            "detections": {**self._watch.counts, **self._detections.counts},
            "recording": self._recorder.status() if self._recorder is not None else None,
            "shards": self.shards.status() if self.shards else {},
            "accounts": {
                str(desk.account_id): {
                    "name": desk.account_name,
                    "mode": desk.mode,
                    "state": desk.state,
                    "reason": desk.reason,
                    "stream": desk.stream_connected,
                    "frame_to_commit": desk.orders.committed.summary(),
                    "frame_to_send": desk.orders.sent.summary(),
                    "answer": desk.orders.answered.summary(),
                    "refused_by_lease": desk.orders.refused_by_lease,
                    "positions": desk.watch.status(self.pipeline.reference_price),
                }
                for desk in self.desks.values()
            },
            **self._counts,
            "faults": self._strategies.count,
        }

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._background.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("background work failed", exc_info=task.exception())

    async def _forever(self, loop: Callable[[], Awaitable[None]]) -> None:
        """A loop of the engine never ends by a mistake of its own: it is reported and started again."""
        while True:
            try:
                await loop()
            except asyncio.CancelledError:
                raise
            except Exception:
                log.exception("%s failed and is started again", loop.__qualname__)
                await asyncio.sleep(1.0)
