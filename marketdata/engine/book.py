"""The order book of one symbol: proven right, or declared unusable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from marketdata.engine import layout, sources
from marketdata.engine.bands import count_sides
from marketdata.engine.batch import FrameBatch, own_batch
from marketdata.engine.block import MOST_DECIMALS, OVERFLOW_ROOM, RING_SIZE, BookBlock
from marketdata.engine.compiled import without_dispatch
from marketdata.engine.feature_table import FEATURES
from marketdata.engine.grid import Grid, decimals_of, finer_step
from marketdata.engine.ladder import (
    LARGEST_RING,
    MOST_FAR_LEVELS,
    copy_births,
    list_levels,
    set_levels,
    window_around,
)
from marketdata.engine.memory import LARGEST_UNITS, PADDING
from marketdata.engine.parse_json import BookMessage, FrameError, read_binance, read_binance_snapshot, read_bybit
from marketdata.engine.process import (
    CONTROL_BOOK,
    CONTROL_ROW,
    CONTROL_SCRATCH,
    CONTROL_TEXT,
    CONTROL_TEXT_ROOM,
    CONTROL_WORDS,
    CONTROL_WORK,
    NEEDS_ROOM,
    UNUSUAL_FORM,
    FrameFormat,
    Work,
    take_frame,
    take_message,
)
from marketdata.engine.scratch import (
    ALL_CHANGES,
    BID_CHANGES,
    CHANGES_ROOM,
    DELTA,
    FIRST_ID,
    KIND,
    LOTS,
    PREVIOUS_ID,
    SNAPSHOT,
    TICKS,
    new_scratch,
)
from marketdata.engine.scratch import SENT_MS as MESSAGE_SENT_MS
from marketdata.engine.scratch import SEQUENCE as MESSAGE_SEQUENCE
from marketdata.engine.scratch import UPDATE_ID as MESSAGE_UPDATE_ID
from marketdata.engine.scratch import VENUE_MS as MESSAGE_VENUE_MS
from marketdata.engine.sources import BookSource
from marketdata.engine.sync import BookOutcome, BookState, Reason
from marketdata.engine.windows import note_trade
from marketdata.events import BookView

# Of all books, for frames that come one by one: see take_frame. A longer frame takes the way of unusual ones.
_SCRATCH = new_scratch()
_TEXT: NDArray[np.uint8] = np.zeros((1 << 18) + PADDING, dtype=np.uint8)
_take_frame = without_dispatch(take_frame)
_DELTA = BookOutcome.DELTA
LARGEST_NOTIONAL = 1 << 60
# Of one side, in one call of a kernel.
LEVELS_AT_ONCE = CHANGES_ROOM // 2
# Steps and numbers have up to 18 decimals and 18 digits before them: everything that is computed of them is exact.
EXACT_DIGITS = 96


@dataclass(frozen=True, slots=True)
class BandVolume:
    """Resting volume of one side within one band. ``covered``: every level that could be in it is known."""

    percent: float
    side: str
    quantity: Decimal
    notional: Decimal
    covered: bool


class SymbolBook:
    """Feed it every frame of one book's stream. Only while ``state`` is LIVE do its levels mean anything;
    ``state_reason`` says in words why it is not. ``work``: how much :meth:`on_frame` does for a message.

    Steps finer than the given ones are taken on as frames show them: no price is ever off the grid.
    """

    def __init__(
        self,
        symbol: str,
        tick_size: Decimal,
        lot_size: Decimal,
        depth: int = 200,
        *,
        source: BookSource | None = None,
        ring_size: int = RING_SIZE,
        work: Work = Work.FEATURES,
    ) -> None:
        self.symbol = symbol
        self.source = source or sources.bybit(symbol, depth)
        self._told = "no snapshot yet"
        self._prices, self._quantities = Grid(tick_size), Grid(lot_size)
        self._block = BookBlock(ring_size, OVERFLOW_ROOM)
        self._block.set_source(self.source)
        self._block.set_grid(tick_size, lot_size)
        self._words = self._block.words
        self._words[layout.REASON] = Reason.TOLD
        self._row: NDArray[np.float64] = np.full(len(FEATURES), np.nan)
        self._work = work
        self._control: NDArray[np.int64] = np.zeros(CONTROL_WORDS, dtype=np.int64)
        self._control[CONTROL_BOOK], self._control[CONTROL_ROW] = self._block.address, self._row.ctypes.data
        self._control[CONTROL_SCRATCH], self._control[CONTROL_TEXT] = _SCRATCH.ctypes.data, _TEXT.ctypes.data
        self._control[CONTROL_TEXT_ROOM], self._control[CONTROL_WORK] = len(_TEXT) - PADDING, int(work)
        self._control_address = int(self._control.ctypes.data)
        # Kernels follow addresses into other books: those are kept alive, and tell when they move.
        self._compared: dict[int, SymbolBook | None] = {}
        self._compared_by: WeakSet[SymbolBook] = WeakSet()

    # In.

    def on_frame(self, frame: bytes | memoryview, receive_ns: int) -> BookOutcome:
        """Take one frame. A refused one changes no level; after GAP or REFUSED the caller asks for a new snapshot."""
        if type(frame) is not bytes:
            frame = bytes(frame)
        outcome = _take_frame(self._control_address, id(frame), receive_ns)
        return _DELTA if outcome == _DELTA else self._not_a_delta(frame, receive_ns, outcome)

    def _not_a_delta(self, frame: bytes, receive_ns: int, taken: int) -> BookOutcome:
        if taken >= UNUSUAL_FORM:
            batch = own_batch()
            batch.work = self._work
            outcome = self.take_unusual(frame, receive_ns, batch, int(self._row.ctypes.data))
        else:
            outcome = BookOutcome(taken)
        if outcome is BookOutcome.SNAPSHOT:
            self.fit_window()
        return outcome

    def on_trade(self, venue_ns: int, price: Decimal, quantity: Decimal, side: str) -> None:
        """One trade of the market, ``side`` is the taker's: what the features of flow and toxicity are made of.

        One that is too large for this book's steps is left out.
        """
        with localcontext(prec=EXACT_DIGITS):
            try:
                self._take_finer_steps([(price, quantity)])
            except FrameError:
                return
            ticks, lots = int(price / self.tick_size), int(quantity / self.lot_size)
        note_trade(self.address, venue_ns // 1_000_000, ticks, lots, int(side == "Buy"))

    def take_unusual(self, frame: bytes, receive_ns: int, batch: FrameBatch, row: int) -> BookOutcome:
        """Judge a frame that the kernels left: of another form, on a finer grid, or in need of room."""
        with localcontext(prec=EXACT_DIGITS):
            try:
                message = self._read(frame)
                if message.symbol != self.symbol:
                    raise FrameError(f"symbol is {message.symbol}; this is the book of {self.symbol}")
                if message.topic != self.source.topic:
                    raise FrameError(f"topic is {message.topic}; this is the book of {self.source.topic}")
                levels = [*message.bids, *message.asks]
                self._take_finer_steps(levels)
                self._learn_decimals(levels)
                self._write(message, batch.scratch)
            except FrameError as error:
                return self._refuse(str(error))
            scratch = int(batch.scratch.ctypes.data)
            outcome = take_message(self.address, scratch, receive_ns, int(batch.work), row)
            if outcome == NEEDS_ROOM:
                self._make_room(batch)
                self._write(message, batch.scratch)
                outcome = take_message(self.address, scratch, receive_ns, int(batch.work), row)
        return BookOutcome(outcome)

    def fit_window(self) -> None:
        """After a snapshot: a window that most of its levels lie in. Far levels are right, but slow."""
        size = int(self._words[layout.RING_MASK]) + 1
        far = int(self._words[layout.OVERFLOW_COUNT : layout.OVERFLOW_COUNT + layout.SIDES].max())
        if far <= MOST_FAR_LEVELS or size >= LARGEST_RING:
            return
        distances = []
        for levels in (self.bids(), self.asks()):
            if levels:
                distances.append(abs(levels[max(len(levels) - MOST_FAR_LEVELS, 1) - 1][0] - levels[0][0]))
        # The price may move a quarter of the window before it follows.
        while size < LARGEST_RING and size < 4 * max(distances):
            size *= 2
        self._rebuild(size, int(self._words[layout.OVERFLOW_ROOM]), 1, 1)

    def mark_disconnected(self, reason: str) -> None:
        self._wait(f"disconnected: {reason}")

    def mark_stale(self, reason: str) -> None:
        """Silent for too long; the next contiguous update makes it LIVE again."""
        if self.state is BookState.LIVE:
            self._mark(BookState.STALE, reason)

    def mark_broken(self, reason: str) -> None:
        """Something outside of it contradicts it; only a snapshot makes it LIVE again."""
        self._mark(BookState.BROKEN, reason)

    def compare_with(self, reference: SymbolBook | None, other_venue: SymbolBook | None) -> None:
        """Books that the features of correlation and of the spread between venues look at."""
        self._compared = {layout.REFERENCE_BOOK: reference, layout.OTHER_VENUE_BOOK: other_venue}
        for other in (reference, other_venue):
            if other is not None:
                other._compared_by.add(self)
        self._point_at_compared()

    def observe_with(self, detectors: int, on_message: int, on_trade: int) -> None:
        """From now on the detectors whose block is at an address look at it, through two functions' addresses; 0: none
        do. Who owns the block keeps it for as long (see ``marketdata.engine.detectors.symbol``)."""
        self._words[layout.DETECTORS] = detectors
        self._words[layout.OBSERVE_MESSAGE], self._words[layout.OBSERVE_TRADE] = on_message, on_trade

    # Out.

    @property
    def address(self) -> int:
        return self._block.address

    @property
    def state(self) -> BookState:
        return BookState(self._words[layout.STATE])

    @property
    def needs_snapshot(self) -> bool:
        """Whether only a snapshot can make it LIVE: updates that arrive until then are of use only after it."""
        state = self.state
        waits = state is BookState.SYNCING and not self._words[layout.FRESH_SNAPSHOT]
        return bool(waits or state is BookState.BROKEN)

    @property
    def state_reason(self) -> str:
        reason = Reason(self._words[layout.REASON])
        if reason is Reason.TOLD:
            return self._told
        if reason is Reason.GAP:
            return f"gap: update {self._words[layout.MISSED_ID]} after {self.update_id}"
        return _REASONS[reason]

    @property
    def update_id(self) -> int:
        return int(self._words[layout.UPDATE_ID])

    @property
    def sequence(self) -> int:
        return int(self._words[layout.SEQUENCE])

    @property
    def sent_ms(self) -> int:
        """The venue's clock when it sent the newest message."""
        return int(self._words[layout.SENT_MS])

    @property
    def venue_ns(self) -> int:
        return int(self._words[layout.VENUE_MS]) * 1_000_000

    @property
    def receive_ns(self) -> int:
        return int(self._words[layout.RECEIVE_NS])

    @property
    def tick_size(self) -> Decimal:
        return self._prices.step

    @property
    def lot_size(self) -> Decimal:
        return self._quantities.step

    @property
    def best_bid_ticks(self) -> int | None:
        return int(self._words[layout.BEST + layout.BID]) if self._words[layout.LEVEL_COUNT + layout.BID] else None

    @property
    def best_ask_ticks(self) -> int | None:
        return int(self._words[layout.BEST + layout.ASK]) if self._words[layout.LEVEL_COUNT + layout.ASK] else None

    def price_of(self, ticks: int) -> Decimal:
        return self._prices.value(ticks)

    def counts(self) -> dict[str, int]:
        """What became of the messages so far."""
        return {name: int(self._words[place]) for name, place in _COUNTERS.items()}

    def level_counts(self) -> tuple[int, int]:
        return int(self._words[layout.LEVEL_COUNT]), int(self._words[layout.LEVEL_COUNT + 1])

    def bids(self, levels: int | None = None) -> list[tuple[int, int]]:
        """The best bids first, as ticks and lots; all of them without a number."""
        return self._levels(layout.BID, levels)

    def asks(self, levels: int | None = None) -> list[tuple[int, int]]:
        """The best asks first, as ticks and lots; all of them without a number."""
        return self._levels(layout.ASK, levels)

    def level_arrays(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """All bids and all asks, best first, ``(n, 2)`` ticks and lots each: copies."""
        return self._level_array(layout.BID, None), self._level_array(layout.ASK, None)

    def ladder(self, levels: int) -> tuple[list[list[str]], list[list[str]]]:
        """The best bids and asks as price and quantity texts."""
        price, quantity = self._prices.text, self._quantities.text
        return (
            [[price(ticks), quantity(lots)] for ticks, lots in self.bids(levels)],
            [[price(ticks), quantity(lots)] for ticks, lots in self.asks(levels)],
        )

    def bands(self) -> list[BandVolume]:
        """The volume of all bands of both sides, nearest first, exact."""
        if self._words[layout.BANDS_READY] == 0:
            count_sides(self.address)
        volumes = []
        for side, name in ((layout.BID, "bid"), (layout.ASK, "ask")):
            lots = notional = 0
            reach = self._reach(side)
            for band, per_mille in enumerate(layout.BAND_PER_MILLE):
                lots += int(self._words[layout.BAND_LOTS + side * layout.BUCKETS + band])
                notional += int(self._words[layout.BAND_NOTIONAL + side * layout.BUCKETS + band])
                limit = int(self._words[layout.BAND_LIMIT + side * layout.BANDS + band])
                volumes.append(
                    BandVolume(
                        percent=per_mille / 10,
                        side=name,
                        quantity=lots * self.lot_size,
                        notional=notional * self.tick_size * self.lot_size,
                        covered=reach <= limit if side == layout.BID else reach >= limit,
                    )
                )
        return volumes

    def reach(self) -> tuple[Decimal, Decimal]:
        """The furthest bid and the furthest ask price up to which every level is known; a bid of 0, and an ask beyond
        any price, mean all of them."""
        bid, ask = (self._reach(side) for side in (layout.BID, layout.ASK))
        return self._prices.value(bid), self._prices.value(ask)

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

    # Its insides.

    def _levels(self, side: int, levels: int | None) -> list[tuple[int, int]]:
        return [(ticks, lots) for ticks, lots in self._level_array(side, levels).tolist()]

    def _level_array(self, side: int, levels: int | None) -> NDArray[np.int64]:
        count = int(self._words[layout.LEVEL_COUNT + side])
        wanted = count if levels is None else min(levels, count)
        pairs: NDArray[np.int64] = np.zeros((wanted, 2), dtype=np.int64)
        list_levels(self.address, side, wanted, int(pairs.ctypes.data))
        return pairs

    def _reach(self, side: int) -> int:
        limit = int(self._words[layout.DEPTH_LIMIT])
        if limit == 0:
            return int(self._words[layout.REACH + side])
        if self._words[layout.LEVEL_COUNT + side] < limit:
            return 0 if side == layout.BID else layout.NO_ASK
        return int(self._words[layout.WORST + side])

    def _read(self, frame: bytes) -> BookMessage:
        if self.source.format is FrameFormat.BYBIT:
            return read_bybit(frame)
        if b'"lastUpdateId"' in frame:
            return read_binance_snapshot(frame, self.symbol)
        return read_binance(frame)

    def _refuse(self, reason: str) -> BookOutcome:
        self._words[layout.REFUSED] += 1
        self._words[layout.MESSAGES] += 1
        self._wait(f"refused a frame: {reason}")
        return BookOutcome.REFUSED

    def _take_finer_steps(self, levels: Sequence[tuple[Decimal, Decimal]]) -> None:
        """Take on finer steps where a price or a quantity needs them.

        Raises:
            FrameError: too large for them, or the book would be.
        """
        tick, lot = self.tick_size, self.lot_size
        for price, quantity in levels:
            tick = tick if not price % tick else finer_step(tick, price)
            lot = lot if not quantity % lot else finer_step(lot, quantity)
        weight = 0
        for price, quantity in levels:
            ticks, lots = int(price / tick), int(quantity / lot)
            weight += ticks * lots
            if max(ticks, lots) > LARGEST_UNITS or weight > LARGEST_NOTIONAL:
                raise FrameError(f"a level of {quantity:f} at {price:f} is too large for steps of {lot:f} and {tick:f}")
        if (tick, lot) != (self.tick_size, self.lot_size):
            self._regrid(tick, lot)

    def _learn_decimals(self, levels: Sequence[tuple[Decimal, Decimal]]) -> None:
        """Read the number of decimals that these are written with fast from now on."""
        tick, lot = self.tick_size, self.lot_size
        for place, setter, step, values in (
            (layout.PRICE_DECIMALS, self._block.set_price_decimals, tick, [price for price, _ in levels]),
            (layout.QUANTITY_DECIMALS, self._block.set_quantity_decimals, lot, [size for _, size in levels]),
        ):
            written = max((-int(value.as_tuple().exponent) for value in values), default=0)
            if int(self._words[place]) < written <= MOST_DECIMALS + decimals_of(step):
                setter(written, step)

    def _write(self, message: BookMessage, scratch: NDArray[np.int64]) -> None:
        levels = [*message.bids, *message.asks]
        if len(levels) > CHANGES_ROOM:
            raise FrameError(f"{len(levels)} levels in one message; at most {CHANGES_ROOM} are believed")
        scratch[KIND] = SNAPSHOT if message.is_snapshot else DELTA
        scratch[MESSAGE_SENT_MS], scratch[MESSAGE_VENUE_MS] = message.sent_ms, message.venue_ms
        scratch[FIRST_ID], scratch[MESSAGE_UPDATE_ID] = message.first_id, message.update_id
        scratch[PREVIOUS_ID], scratch[MESSAGE_SEQUENCE] = message.previous_id, message.sequence
        scratch[BID_CHANGES], scratch[ALL_CHANGES] = len(message.bids), len(levels)
        for index, (price, quantity) in enumerate(levels):
            scratch[TICKS + index] = int(price / self.tick_size)
            scratch[LOTS + index] = int(quantity / self.lot_size)

    def _make_room(self, batch: FrameBatch) -> None:
        """Twice the room for far levels, or as much as the message in the scratch asks for."""
        asked = int(batch.scratch[ALL_CHANGES]) + sum(self.level_counts())
        ring_size = int(self._words[layout.RING_MASK]) + 1
        self._rebuild(ring_size, max(2 * int(self._words[layout.OVERFLOW_ROOM]), asked), 1, 1)

    def _regrid(self, tick_size: Decimal, lot_size: Decimal) -> None:
        tick_factor, lot_factor = int(self.tick_size / tick_size), int(self.lot_size / lot_size)
        highest = int(self._words[layout.WORST + layout.ASK]) if self.best_ask_ticks else 0
        largest = max((lots for _, lots in [*self.bids(), *self.asks()]), default=0)
        if highest * tick_factor > LARGEST_UNITS or largest * lot_factor > LARGEST_UNITS:
            raise FrameError(f"steps of {tick_size:f} and {lot_size:f} are too fine for this book")
        self._prices, self._quantities = Grid(tick_size), Grid(lot_size)
        ring_size = int(self._words[layout.RING_MASK]) + 1
        self._rebuild(ring_size, int(self._words[layout.OVERFLOW_ROOM]), tick_factor, lot_factor)

    def _rebuild(self, ring_size: int, overflow_room: int, tick_factor: int, lot_factor: int) -> None:
        """The same book in a new block."""
        old, bids, asks = self._block, self.bids(), self.asks()
        self._block = BookBlock(ring_size, overflow_room)
        self._block.set_grid(self.tick_size, self.lot_size)
        self._block.copy_history(old, tick_factor, lot_factor)
        # The decimals that its frames were seen to have.
        written = max(int(old.words[layout.PRICE_DECIMALS]), decimals_of(self.tick_size))
        self._block.set_price_decimals(written, self.tick_size)
        written = max(int(old.words[layout.QUANTITY_DECIMALS]), decimals_of(self.lot_size))
        self._block.set_quantity_decimals(written, self.lot_size)
        self._words = self._block.words
        self._control[CONTROL_BOOK] = self._block.address
        low = int(old.words[layout.WINDOW_LOW])
        if tick_factor > 1 or ring_size > int(old.words[layout.RING_MASK]) + 1:
            nearest = [levels[0][0] * tick_factor for levels in (bids, asks) if levels]
            low = window_around(self.address, sum(nearest) // max(len(nearest), 1))
        self._words[layout.WINDOW_LOW] = low
        scratch = own_batch().scratch
        for start in range(0, max(len(bids), len(asks)), LEVELS_AT_ONCE):
            stop = start + LEVELS_AT_ONCE
            levels = np.array([*bids[start:stop], *asks[start:stop]], dtype=np.int64).reshape(-1, 2)
            scratch[BID_CHANGES], scratch[ALL_CHANGES] = len(bids[start:stop]), len(levels)
            scratch[TICKS : TICKS + len(levels)] = levels[:, 0] * tick_factor
            scratch[LOTS : LOTS + len(levels)] = levels[:, 1] * lot_factor
            set_levels(self.address, int(scratch.ctypes.data))
        copy_births(old.address, self.address, tick_factor)
        for other in self._compared_by:
            other._point_at_compared()

    def _point_at_compared(self) -> None:
        for place, other in self._compared.items():
            self._words[place] = 0 if other is None else other.address

    def _mark(self, state: BookState, reason: str) -> None:
        self._words[layout.STATE], self._words[layout.REASON] = state, Reason.TOLD
        self._told = reason

    def _wait(self, reason: str) -> None:
        self._mark(BookState.SYNCING, reason)
        self._words[layout.FRESH_SNAPSHOT] = 0


_REASONS = {
    Reason.NONE: "",
    Reason.EMPTY_SIDE: "a side is empty",
    Reason.CROSSED: "crossed: the best bid is not below the best ask",
    Reason.TOO_LARGE: "its sums are too large for its steps",
    Reason.NOT_BRIDGED: "a snapshot was loaded; waiting for the update that bridges it",
}
_COUNTERS = {
    "messages": layout.MESSAGES,
    "snapshots": layout.SNAPSHOTS,
    "deltas": layout.DELTAS,
    "ignored": layout.IGNORED,
    "gaps": layout.GAPS,
    "refused": layout.REFUSED,
}
