"""The memory of one book: made, filled with its source and grid, and made anew larger or on a finer grid."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from marketdata.engine import layout
from marketdata.engine.grid import written_decimals
from marketdata.engine.ladder import block_words
from marketdata.engine.sources import BookSource

RING_SIZE = 1 << 13
OVERFLOW_ROOM = 1 << 11
# A prices's text may have more decimals than its grid; those that frames were seen with are read fast.
MOST_DECIMALS = 12
_CACHE_LINE = 64


class BookBlock:
    """``words`` are its int64 words, ``floats`` the same memory as float64, ``address`` what kernels are given."""

    def __init__(self, ring_size: int = RING_SIZE, overflow_room: int = OVERFLOW_ROOM) -> None:
        number = block_words(ring_size, overflow_room)
        memory: NDArray[np.int64] = np.zeros(number + _CACHE_LINE // 8, dtype=np.int64)
        skipped = -(memory.ctypes.data // 8) % (_CACHE_LINE // 8)
        self.words = memory[skipped : skipped + number]
        self.floats: NDArray[np.float64] = self.words.view(np.float64)
        self.address = int(self.words.ctypes.data)
        self.words[layout.RING_MASK] = ring_size - 1
        self.words[layout.OVERFLOW_ROOM] = overflow_room
        self.words[layout.BEST : layout.BEST + 2] = layout.NO_BID, layout.NO_ASK
        self.words[layout.WORST : layout.WORST + 2] = layout.NO_BID, layout.NO_ASK
        # Of no second is anything known.
        self.floats[layout.SECOND_STATISTICS : layout.TOXICITY_FILLED] = np.nan

    def set_source(self, source: BookSource) -> None:
        words = self.words
        words[layout.FORMAT], words[layout.RULE] = int(source.format), int(source.rule)
        words[layout.DEPTH_LIMIT], words[layout.SNAPSHOT_LIMIT] = source.depth_limit, source.snapshot_limit
        self._set_text(layout.HEAD, layout.HEAD_LENGTH, source.head)
        self._set_text(layout.DATA, layout.DATA_LENGTH, source.data)

    def set_grid(self, tick_size: Decimal, lot_size: Decimal) -> None:
        self.floats[layout.TICK_SIZE], self.floats[layout.LOT_SIZE] = float(tick_size), float(lot_size)
        # A venue writes its steps as it writes its levels: "0.10" goes with "65114.20".
        self.set_price_decimals(written_decimals(tick_size), tick_size)
        self.set_quantity_decimals(written_decimals(lot_size), lot_size)

    def set_price_decimals(self, decimals: int, tick_size: Decimal) -> None:
        unit = int(tick_size.scaleb(decimals))
        self.words[layout.PRICE_DECIMALS], self.words[layout.PRICE_UNIT] = decimals, unit
        self.floats[layout.PRICE_INVERSE] = 1.0 / unit

    def set_quantity_decimals(self, decimals: int, lot_size: Decimal) -> None:
        unit = int(lot_size.scaleb(decimals))
        self.words[layout.QUANTITY_DECIMALS], self.words[layout.QUANTITY_UNIT] = decimals, unit
        self.floats[layout.QUANTITY_INVERSE] = 1.0 / unit

    def copy_history(self, old: BookBlock, tick_factor: int, lot_factor: int) -> None:
        """Everything of the header but the levels, from a block whose ticks and lots were so many times larger."""
        kept = slice(layout.STATE, layout.HEADER_WORDS)
        self.words[kept] = old.words[kept]
        words = self.words
        words[layout.REACH] *= tick_factor
        if words[layout.REACH + layout.ASK] < layout.NO_ASK:
            words[layout.REACH + layout.ASK] *= tick_factor
        words[layout.BANDS_READY] = 0
        for place in layout.LOT_WORDS:
            words[place] *= lot_factor
        words[layout.TRADED_NOTIONAL_SUM_60] *= tick_factor * lot_factor
        for first, seconds in ((layout.RUNNING, 1), (layout.HISTORY, layout.SERIES_SECONDS)):
            sums = words[first : first + seconds * layout.SERIES].reshape(seconds, layout.SERIES)
            sums[:, layout.LOT_SERIES] *= lot_factor
            sums[:, layout.TRADED_NOTIONAL_SERIES] *= tick_factor * lot_factor
        for side in range(layout.SIDES):
            ticks = layout.BEFORE_LEVELS + 2 * layout.FLOW_LEVELS * side
            words[ticks : ticks + layout.FLOW_LEVELS] *= tick_factor
            words[ticks + layout.FLOW_LEVELS : ticks + 2 * layout.FLOW_LEVELS] *= lot_factor

    def _set_text(self, first: int, length: int, text: bytes) -> None:
        room = 8 * layout.TEMPLATE_WORDS
        if len(text) > room:
            raise ValueError(f"{text!r} is longer than the {room} bytes that a book keeps of it")
        self.words[length] = len(text)
        self.words[first : first + layout.TEMPLATE_WORDS] = np.frombuffer(text.ljust(room, b"\0"), dtype=np.int64)
