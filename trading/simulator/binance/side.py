"""Binance's side of a venue: its instruments, streams and endpoints, in one application with the rest."""

from __future__ import annotations

from aiohttp import web

from trading.simulator.binance.endpoints import FUTURES_ENDPOINTS, SPOT_ENDPOINTS
from trading.simulator.binance.feed import Feed
from trading.simulator.binance.instrument import Instrument
from trading.simulator.binance.ledger import BookLedger
from trading.simulator.binance.products import Futures, Pace, Spot
from trading.simulator.binance.rest import RestApi
from trading.simulator.binance.tape import Tape
from trading.simulator.binance.websockets import Websockets
from trading.simulator.binance.weights import RequestWeights
from trading.simulator.limits import AddressLimit
from trading.simulator.venue import Venue


class BinanceSide:
    """Offers every market of a venue as spot and as USD-M futures.

    Args:
        spot_weights, futures_weights: how much REST weight an address has; Binance's limits where None.
        pace: of every websocket; that of its product where None.
        connections: how many websockets an address may begin; Binance's limit where None.
    """

    def __init__(
        self,
        venue: Venue,
        *,
        spot_weights: RequestWeights | None = None,
        futures_weights: RequestWeights | None = None,
        pace: Pace | None = None,
        connections: AddressLimit | None = None,
    ) -> None:
        self.venue, started_ms = venue, venue.started_ms
        self.instruments = {
            symbol: Instrument(market, venue.candles[symbol], BookLedger(market.book), Tape(market.grids, started_ms))
            for symbol, market in venue.exchange.markets.items()
        }
        # Ids go on rising over restarts: no symbol changes more levels a millisecond than these factors allow.
        spot = Spot(self.instruments, started_ms * 10, venue.seed)
        futures = Futures(self.instruments, started_ms * 10 * Futures.ID_STRIDE, venue.seed)
        self.products = {Spot.NAME: spot, Futures.NAME: futures}
        self.feed = Feed(self.products, self.instruments, venue.hub)
        spot_weights = spot_weights or RequestWeights(Spot.WEIGHT_LIMIT)
        futures_weights = futures_weights or RequestWeights(Futures.WEIGHT_LIMIT)
        self._rest = (
            RestApi(spot, SPOT_ENDPOINTS, spot_weights, venue.faults, venue.clock),
            RestApi(futures, FUTURES_ENDPOINTS, futures_weights, venue.faults, venue.clock),
        )
        self._websockets = Websockets(self.feed, venue.hub, venue.clock, pace=pace, connections=connections)
        venue.followers.append(self.feed)

    def register(self, application: web.Application) -> None:
        for rest in self._rest:
            rest.register(application)
        self._websockets.register(application)

    def announce_shutdown(self) -> int:
        """Tell every spot connection that the server is about to shut down; returns how many there are."""
        return self._websockets.announce_shutdown(self.venue.clock())
