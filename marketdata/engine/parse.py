"""One Bybit order-book frame, strictly: bytes to keys and lots, or a reason. Nothing here touches a book.

msgspec refuses whatever is not valid JSON or not of these types, in any key order (linear and spot differ in it).
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from marketdata.engine.grid import Grid, GridError


class FrameError(ValueError):
    """A frame that cannot be believed; the message says why."""


class _Book(msgspec.Struct):
    s: str
    u: int
    seq: int
    b: list[tuple[str, str]]
    a: list[tuple[str, str]]


class _Frame(msgspec.Struct):
    topic: str
    type: str
    ts: int
    data: _Book
    cts: int = 0


_DECODER = msgspec.json.Decoder(_Frame)


@dataclass(frozen=True, slots=True)
class ParsedFrame:
    """Keys ascend from the best level outwards: ticks for asks, minus ticks for bids; lots 0 removes a level."""

    is_snapshot: bool
    symbol: str
    update_id: int
    sequence: int
    venue_ns: int
    bid_keys: NDArray[np.int64]
    bid_lots: NDArray[np.int64]
    ask_keys: NDArray[np.int64]
    ask_lots: NDArray[np.int64]


def parse_frame(frame: bytes, prices: Grid, quantities: Grid) -> ParsedFrame:
    """Read one frame of ``orderbook.N.SYMBOL``.

    ``venue_ns`` is the matching engine's time (``cts``) where the frame has it, else the sending time.

    Raises:
        FrameError: not JSON, not an order-book frame, or a level off the instrument's grid.
    """
    if not frame.isascii():
        # Bybit's frames are; msgspec would pass broken UTF-8 in fields that it skips.
        raise FrameError("not an order-book frame: it holds bytes that are not ASCII")
    try:
        message = _DECODER.decode(frame)
    except msgspec.DecodeError as error:
        raise FrameError(f"not an order-book frame: {error}") from None
    if message.type not in ("snapshot", "delta"):
        raise FrameError(f"type is {message.type!r}; expected snapshot or delta")
    if not message.topic.endswith(f".{message.data.s}"):
        raise FrameError(f"topic {message.topic!r} carries symbol {message.data.s!r}")
    if message.data.u < 1 or message.ts < 0:
        raise FrameError(f"u is {message.data.u}, ts is {message.ts}; expected positive numbers")
    try:
        bid_keys, bid_lots = _levels(message.data.b, prices, quantities, -1)
        ask_keys, ask_lots = _levels(message.data.a, prices, quantities, 1)
    except GridError as error:
        raise FrameError(str(error)) from None
    return ParsedFrame(
        is_snapshot=message.type == "snapshot",
        symbol=message.data.s,
        update_id=message.data.u,
        sequence=message.data.seq,
        venue_ns=(message.cts or message.ts) * 1_000_000,
        bid_keys=bid_keys,
        bid_lots=bid_lots,
        ask_keys=ask_keys,
        ask_lots=ask_lots,
    )


def _levels(
    levels: list[tuple[str, str]], prices: Grid, quantities: Grid, sign: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    keys = np.array([sign * prices.units(price) for price, _ in levels], dtype=np.int64)
    lots = np.array([quantities.units(quantity) for _, quantity in levels], dtype=np.int64)
    if len(keys) and not keys.all():
        raise GridError("a level has price 0")
    return keys, lots
