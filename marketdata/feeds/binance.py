"""Binance's public order books, spot or USD-M: diff depth by combined streams, snapshots by REST."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from marketdata.events import FeedEventKind
from marketdata.feeds.binance_rest import BinanceRest
from marketdata.feeds.connection import Connection
from marketdata.feeds.pool import SYMBOLS_A_CONNECTION, Member, PooledFeed
from marketdata.feeds.protocol import FeedListener, Heartbeat, Tap, VenueBest

log = logging.getLogger(__name__)

SHUTDOWN = b'"serverShutdown"'
HOUR_SECONDS = 3_600.0


def depth_stream(symbol: str) -> str:
    return f"{symbol.lower()}@depth@100ms"


class BinanceFeed(PooledFeed):
    """``url`` is where combined streams are served (``.../stream``). Binance ends every connection after 24 hours: one
    is replaced before, and when the server says that it will shut down."""

    # Its server pings, and is answered by the websocket itself; ours find out whether it still listens.
    HEARTBEAT = Heartbeat(message=None, life=23 * HOUR_SECONDS)
    MARKER = b'"stream":"'

    def __init__(
        self,
        url: str,
        symbols: Sequence[str],
        rest: BinanceRest,
        *,
        symbols_a_connection: int = SYMBOLS_A_CONNECTION,
        tap: Tap | None = None,
    ) -> None:
        self._url, self._rest = url, rest
        super().__init__(f"binance {rest.market.name}", symbols, symbols_a_connection=symbols_a_connection, tap=tap)

    async def run(self, listener: FeedListener) -> None:
        try:
            await super().run(listener)
        finally:
            await self._rest.close()

    async def best_prices(self, symbol: str) -> VenueBest:
        return await self._rest.best_prices(symbol)

    def message(self, member: Member, frame: bytes, receive_ns: int) -> None:
        # A combined connection gets it wrapped like data.
        if len(frame) < 200 and SHUTDOWN in frame:
            member.replace("the server says that it will shut down")
            return
        super().message(member, frame, receive_ns)

    def _address(self, symbols: Sequence[str]) -> str:
        return f"{self._url}?streams={'/'.join(depth_stream(symbol) for symbol in symbols)}"

    def _subscribe(self, member: Member, connection: Connection) -> None:
        """The address names the streams."""

    def _changed(self, member: Member, added: Sequence[str], removed: Sequence[str]) -> None:
        member.url = self._address(member.symbols)
        if self._running.get(member) is not None:
            member.replace("it carries other symbols now")

    def _answered(self, member: Member, frame: bytes) -> None:
        text = frame.decode(errors="replace")[:500]
        log.error("unexpected message of %s: %s", self.name, text)
        self.tell(FeedEventKind.ERROR, f"unexpected message: {text}", member)

    async def _ask(self, symbol: str) -> None:
        body = await self._rest.snapshot(symbol)
        receive_ns = time.time_ns()
        if self.tap is not None:
            self.tap(self._by_symbol[symbol].meter.name, "http", body, receive_ns, self._rest.snapshot_url(symbol))
        if self._listener is not None:
            self._listener.on_snapshot(symbol, body, receive_ns)
