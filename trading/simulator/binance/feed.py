"""Runs the streams: makes one when somebody first listens, asks it when it is due, serialises each message once."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson

from trading.simulator.binance.instrument import Instrument
from trading.simulator.binance.products import Product
from trading.simulator.binance.streams import (
    IMMEDIATE,
    DiffDepth,
    ForceOrders,
    Message,
    Stream,
    TimedStream,
    TradeStream,
    catalogue,
    market_catalogue,
)
from trading.simulator.hub import Client, Hub
from trading.simulator.markets import Liquidation, PublicTrade

STEP_MS = 100  # how often the slower streams are looked at
# After which of the 20 ms ticks since a step a change passes that nobody sees: at random, or a client that fetches its
# snapshot always the same time after a message would always meet the book in the same state.
UNSEEN_TICKS = (0, 3)


@dataclass(frozen=True, slots=True)
class Channel:
    """A stream and its two audiences: those who get bare payloads and those who get them wrapped."""

    stream: Stream
    name: str
    raw: str
    combined: str


class Feed:
    """All streams of all products over the same instruments."""

    def __init__(self, products: Mapping[str, Product], instruments: Mapping[str, Instrument], hub: Hub) -> None:
        self._products = products
        self._catalogues = {name: catalogue(product) for name, product in products.items()}
        self._markets = {name: market_catalogue(product) for name, product in products.items()}
        self._instruments, self._hub = instruments, hub
        self._channels: dict[str, Channel] = {}
        self._watched: list[Instrument] = []
        self._random = random.Random(0)
        self._ticks_since_step = self._unseen_tick = 0
        self._last_step_ms = 0

    def listen(self, client: Client, product: str, name: str, *, combined: bool) -> None:
        """Add a listener to a stream. One that does not exist stays silent, as at Binance."""
        address = _address(product, name, combined=combined)
        channel = self._channels.get(_address(product, name, combined=False)) or self._open(product, name)
        if channel is not None:
            self._hub.subscribe(client, address)

    def leave(self, client: Client, product: str, name: str, *, combined: bool) -> None:
        address = _address(product, name, combined=combined)
        if address in client.topics:
            self._hub.unsubscribe(client, address)

    def follow_books(self, now_ms: int, *, step: bool) -> None:
        """Once a tick; ``step`` says that the slower streams are due."""
        if step:
            self._retire()
            self._ticks_since_step, self._unseen_tick = 0, self._random.choice(UNSEEN_TICKS)
        else:
            self._ticks_since_step += 1
        for instrument in self._watched:
            if step or instrument.market.book.changed:
                instrument.ledger.refresh()
        due = self._due(now_ms) if step else {IMMEDIATE}
        for channel in self._channels.values():
            if isinstance(channel.stream, TimedStream) and channel.stream.speed_ms in due:
                for message in channel.stream.messages(now_ms):
                    self._publish(channel, message)
        for instrument in self._watched:
            instrument.ledger.cut(due)
            if self._ticks_since_step == self._unseen_tick:
                instrument.ledger.pass_unseen()

    def follow_trades(self, trades: Sequence[PublicTrade], now_ms: int) -> None:
        """New trades of any symbol, oldest first."""
        by_symbol: dict[str, list[PublicTrade]] = {}
        for trade in trades:
            by_symbol.setdefault(trade.symbol, []).append(trade)
        numbered = {symbol: self._instruments[symbol].tape.add(new) for symbol, new in by_symbol.items()}
        for channel in self._channels.values():
            if isinstance(channel.stream, TradeStream):
                for message in channel.stream.messages(numbered.get(channel.stream.instrument.symbol, ()), now_ms):
                    self._publish(channel, message)

    def follow_liquidations(self, liquidations: Sequence[Liquidation]) -> None:
        """New liquidations of any symbol, oldest first."""
        for channel in self._channels.values():
            if isinstance(channel.stream, ForceOrders):
                for liquidation in liquidations:
                    channel.stream.take(liquidation)

    def skip_update(self, symbol: str) -> int:
        """Lose an update of every depth stream of a symbol; returns how many speeds that hits."""
        instrument = self._instruments.get(symbol)
        return instrument.ledger.lose() if instrument is not None else 0

    def symbols(self) -> set[str]:
        """Those whose book is followed, of a stream that nobody hears any more too."""
        return {instrument.symbol for instrument in self._watched}

    def _open(self, product_name: str, name: str) -> Channel | None:
        product, (symbol, _, kind) = self._products[product_name], name.partition("@")
        factory = self._markets[product_name].get(name)
        if factory is not None:
            instrument = next(iter(self._instruments.values()), None)
        else:
            instrument = self._instruments.get(symbol.upper()) if symbol == symbol.lower() else None
            factory = self._catalogues[product_name].get(kind)
        if instrument is None or factory is None:
            return None
        instrument.ledger.refresh()
        stream = factory(product, instrument)
        raw, combined = (_address(product_name, name, combined=each) for each in (False, True))
        channel = self._channels[raw] = Channel(stream, name, raw, combined)
        if isinstance(stream, DiffDepth):
            instrument.ledger.open(stream.speed_ms)
        self._watch()
        return channel

    def _retire(self) -> None:
        """Forget streams without listeners; a depth window closes with the last product that reads it."""
        silent = [
            channel
            for channel in self._channels.values()
            if not self._hub.wanted(channel.raw) and not self._hub.wanted(channel.combined)
        ]
        if not silent:
            return
        for channel in silent:
            del self._channels[channel.raw]
        kept = {(each.stream.instrument.symbol, each.stream.speed_ms) for each in self._depth_channels()}
        for stream in (channel.stream for channel in silent):
            if isinstance(stream, DiffDepth) and (stream.instrument.symbol, stream.speed_ms) not in kept:
                stream.instrument.ledger.close(stream.speed_ms)
        self._watch()

    def _depth_channels(self) -> list[Channel]:
        return [channel for channel in self._channels.values() if isinstance(channel.stream, DiffDepth)]

    def _watch(self) -> None:
        streams = (channel.stream for channel in self._channels.values())
        watched = {
            stream.instrument.symbol for stream in streams if isinstance(stream, TimedStream) and stream.reads_book
        }
        self._watched = [self._instruments[symbol] for symbol in watched]

    def _due(self, now_ms: int) -> set[int]:
        """Every speed whose next multiple has passed since the step before."""
        before, self._last_step_ms = self._last_step_ms, now_ms
        speeds = {channel.stream.speed_ms for channel in self._channels.values()}
        slow = {speed for speed in speeds if speed > STEP_MS and now_ms // speed != before // speed}
        return {IMMEDIATE, STEP_MS} | slow

    def _publish(self, channel: Channel, message: Message) -> None:
        data = orjson.dumps(message)
        self._hub.publish(channel.raw, data)
        if self._hub.wanted(channel.combined):
            self._hub.publish(channel.combined, b'{"stream":"%s","data":%s}' % (channel.name.encode(), data))


def _address(product: str, name: str, *, combined: bool) -> str:
    """The hub's name of an audience."""
    return f"binance/{product}/{'combined' if combined else 'raw'}/{name}"
