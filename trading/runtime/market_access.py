"""Public market REST behind the same breakers, and the same budget of this address, as the accounts' requests."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from marketdata.feeds.protocol import Question, RestAnswer, VenueError
from trading.gateways.binance_limits import binance_ending, binance_endpoint
from trading.gateways.bybit_limits import market_ending, market_endpoint
from trading.resilience.guard import CallGuard, Ending, Endpoint, NotSent
from trading.runtime.venue_access import venue_guard


class GuardedGate:
    """See :class:`marketdata.feeds.protocol.RestGate`."""

    def __init__(self, guard: CallGuard, endpoint: Endpoint, read: Callable[[RestAnswer | Exception], Ending]) -> None:
        self._guard, self._endpoint, self._read = guard, endpoint, read

    async def ask(self, question: Question) -> RestAnswer:
        try:
            return await self._guard.ask(self._endpoint, question, self._read)
        except NotSent as error:
            raise VenueError(f"not asked: {error}") from None


def bybit_gate(rest_url: str) -> GuardedGate:
    return GuardedGate(venue_guard(rest_url), market_endpoint(urlsplit(rest_url).netloc), market_ending)


def binance_gate(rest_url: str) -> GuardedGate:
    # A name of its own: the simulator is both venues at one address.
    guard = venue_guard(rest_url, prefix="binance ")
    return GuardedGate(guard, binance_endpoint(urlsplit(rest_url).netloc), binance_ending)
