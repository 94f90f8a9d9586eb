"""The order book of one symbol: proven right, or declared unusable."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from marketdata.engine.features import FEATURES, compute_features, feature_layout
from marketdata.engine.grid import Grid
from marketdata.engine.kernels import apply_changes
from marketdata.engine.parse import FrameError, ParsedFrame, parse_frame
from marketdata.engine.sync import BookOutcome, BookState, judge
from marketdata.events import BookView

FIRST_CAPACITY = 1_024


class _Side:
    """One side's levels, best first, in arrays that grow: nothing is ever dropped for being far away."""

    def __init__(self) -> None:
        self.keys: NDArray[np.int64] = np.zeros(FIRST_CAPACITY, dtype=np.int64)
        self.lots: NDArray[np.int64] = np.zeros(FIRST_CAPACITY, dtype=np.int64)
        self.count = 0

    def apply(self, keys: NDArray[np.int64], lots: NDArray[np.int64]) -> None:
        needed = self.count + len(keys)
        if needed > len(self.keys):
            spare = np.zeros(2 * needed, dtype=np.int64)
            self.keys = np.concatenate((self.keys, spare))
            self.lots = np.concatenate((self.lots, spare))
        self.count = apply_changes(self.keys, self.lots, self.count, keys, lots, len(keys))


class SymbolBook:
    """Feed it every frame of one ``orderbook.N`` topic. Only while ``state`` is LIVE do its levels mean anything;
    ``state_reason`` says in words why it is not."""

    def __init__(self, symbol: str, tick_size: Decimal, lot_size: Decimal, depth: int) -> None:
        self.symbol, self.depth = symbol, depth
        self.state, self.state_reason = BookState.SYNCING, "no snapshot yet"
        self.update_id = self.sequence = self.venue_ns = self.receive_ns = 0
        self._prices, self._quantities = Grid(tick_size), Grid(lot_size)
        self._tick, self._lot = float(tick_size), float(lot_size)
        self._bids, self._asks = _Side(), _Side()
        self._previous_best: NDArray[np.int64] = np.zeros(4, dtype=np.int64)
        self._row: NDArray[np.float64] = np.full(len(FEATURES), np.nan)

    def on_frame(self, frame: bytes, receive_ns: int) -> BookOutcome:
        """Take one frame. A refused one changes no level; after GAP or REFUSED the caller asks for a new snapshot."""
        try:
            parsed = parse_frame(frame, self._prices, self._quantities)
            if parsed.symbol != self.symbol:
                raise FrameError(f"symbol is {parsed.symbol}; this is the book of {self.symbol}")
        except FrameError as error:
            self._wait(f"refused a frame: {error}")
            return BookOutcome.REFUSED
        outcome = judge(
            is_snapshot=parsed.is_snapshot,
            update_id=parsed.update_id,
            book_update_id=self.update_id,
            state=self.state,
        )
        if outcome is BookOutcome.GAP:
            self._wait(f"gap: update {parsed.update_id} after {self.update_id}")
        elif outcome is not BookOutcome.IGNORED:
            self._apply(parsed, receive_ns, reset=outcome is BookOutcome.SNAPSHOT)
        return outcome

    def mark_disconnected(self, reason: str) -> None:
        self._wait(f"disconnected: {reason}")

    def mark_stale(self, reason: str) -> None:
        """Silent for too long; the next contiguous update makes it LIVE again."""
        if self.state is BookState.LIVE:
            self.state, self.state_reason = BookState.STALE, reason

    @property
    def best_bid_ticks(self) -> int | None:
        return -int(self._bids.keys[0]) if self._bids.count else None

    @property
    def best_ask_ticks(self) -> int | None:
        return int(self._asks.keys[0]) if self._asks.count else None

    def bids(self, levels: int | None = None) -> list[tuple[int, int]]:
        """The best bids first, as ticks and lots; all of them without a number."""
        count = self._bids.count if levels is None else min(levels, self._bids.count)
        return list(zip((-self._bids.keys[:count]).tolist(), self._bids.lots[:count].tolist(), strict=True))

    def asks(self, levels: int | None = None) -> list[tuple[int, int]]:
        """The best asks first, as ticks and lots; all of them without a number."""
        count = self._asks.count if levels is None else min(levels, self._asks.count)
        return list(zip(self._asks.keys[:count].tolist(), self._asks.lots[:count].tolist(), strict=True))

    def ladder(self, levels: int) -> tuple[list[list[str]], list[list[str]]]:
        """The best bids and asks as price and quantity texts."""
        price, quantity = self._prices.text, self._quantities.text
        return (
            [[price(ticks), quantity(lots)] for ticks, lots in self.bids(levels)],
            [[price(ticks), quantity(lots)] for ticks, lots in self.asks(levels)],
        )

    def features(self) -> NDArray[np.float64]:
        """The newest feature row (a copy), in the order of ``FEATURES``."""
        return self._row.copy()

    def view(self) -> BookView:
        """The book as strategies see it. ValueError while a side is empty."""
        bid, ask = self.best_bid_ticks, self.best_ask_ticks
        if bid is None or ask is None:
            raise ValueError(f"the book of {self.symbol} has an empty side")
        return BookView(
            symbol=self.symbol,
            state=self.state.name,
            venue_ns=self.venue_ns,
            receive_ns=self.receive_ns,
            update_id=self.update_id,
            best_bid=self._prices.value(bid),
            best_ask=self._prices.value(ask),
            features=self.features(),
        )

    def _apply(self, parsed: ParsedFrame, receive_ns: int, *, reset: bool) -> None:
        if reset:
            self._bids.count = self._asks.count = 0
            self._previous_best[:] = 0
        self._bids.apply(parsed.bid_keys, parsed.bid_lots)
        self._asks.apply(parsed.ask_keys, parsed.ask_lots)
        self.update_id, self.sequence = parsed.update_id, parsed.sequence
        self.venue_ns, self.receive_ns = parsed.venue_ns, receive_ns
        bid, ask = self.best_bid_ticks, self.best_ask_ticks
        if bid is None or ask is None:
            self.state, self.state_reason = BookState.BROKEN, "a side is empty"
        elif bid >= ask:
            self.state, self.state_reason = BookState.BROKEN, "crossed: the best bid is not below the best ask"
        else:
            self.state, self.state_reason = BookState.LIVE, ""
        depths, first_depth = feature_layout()
        compute_features(
            self._bids.keys,
            self._bids.lots,
            self._bids.count,
            self._asks.keys,
            self._asks.lots,
            self._asks.count,
            self._previous_best,
            self._tick,
            self._lot,
            depths,
            first_depth,
            self._row,
        )

    def _wait(self, reason: str) -> None:
        self.state, self.state_reason = BookState.SYNCING, reason
