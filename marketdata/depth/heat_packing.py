"""Minutes of an hour of one book's rows in a few bytes a minute, and back, exactly.

Minutes of one step and unit make a block: where each of them begins and ends, and, of bids and of asks, a matrix of
volumes by minute and row. What is kept of it is how far each is from the minute before, which is mostly 0, in planes of
bytes, which zstd then finds the rest in.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from decimal import Decimal

import numpy as np
import zstandard
from numpy.typing import NDArray

from marketdata.depth.heat import HeatMinute, HeatRows, HeatSide
from marketdata.depth.packing import PackError, from_planes, planes
from marketdata.depth.snapshots import HOUR, MINUTE, Market

VERSION = 1
# One minute is packed as it comes, on the collector's way; an hour later, and once.
QUICK_LEVEL, BEST_LEVEL = 3, 19
MOST_BYTES = 2**26
_HEADER = struct.Struct("<BB")
_BLOCK = struct.Struct("<BbbB")
_WIDTH = struct.Struct("<I")
_SIDE_COLUMNS = (("first", "<i8"), ("rows", "<u2"), ("edge", "<i8"))
_COLUMN = np.dtype([("minute", "u1"), ("bids", list(_SIDE_COLUMNS)), ("asks", list(_SIDE_COLUMNS))])


def pack(minutes: Sequence[tuple[int, HeatRows]], level: int = BEST_LEVEL) -> bytes:
    """``(minute of the hour, its rows)``, each minute once."""
    blocks: list[list[tuple[int, HeatRows]]] = []
    for minute, rows in sorted(minutes, key=lambda each: each[0]):
        if not blocks or _unit(blocks[-1][-1][1]) != _unit(rows):
            blocks.append([])
        blocks[-1].append((minute, rows))
    parts = [_HEADER.pack(VERSION, len(blocks)), *map(_block, blocks)]
    return zstandard.ZstdCompressor(level=level, write_content_size=True, write_checksum=True).compress(b"".join(parts))


def packed_minute(symbol: str, market: Market, minute: int, rows: HeatRows) -> HeatMinute:
    return HeatMinute(symbol, market, minute, pack([(minute % HOUR // MINUTE, rows)], QUICK_LEVEL))


def unpack(body: bytes) -> list[tuple[int, HeatRows]]:
    """What was packed, the earliest first.

    Raises:
        PackError: damaged, or of another version.
    """
    try:
        # What is damaged in the header, no checksum may be there to tell, nor room for what it promises.
        frame = zstandard.get_frame_parameters(body)
        if not frame.has_checksum or frame.content_size > MOST_BYTES:
            raise PackError("a damaged header")
        return list(_unpack(zstandard.ZstdDecompressor().decompress(body)))
    except (zstandard.ZstdError, struct.error, ValueError, IndexError) as error:
        raise PackError(f"packed rows cannot be read: {error}") from None


def _unit(rows: HeatRows) -> tuple[Decimal, int]:
    return rows.step, rows.exponent


def _block(minutes: Sequence[tuple[int, HeatRows]]) -> bytes:
    step, exponent = _unit(minutes[0][1])
    digits = step.normalize()
    step_exponent = int(digits.as_tuple().exponent)
    columns = np.array(
        [(minute, _side(rows.bids), _side(rows.asks)) for minute, rows in minutes],
        dtype=_COLUMN,
    )
    header = _BLOCK.pack(int(digits.scaleb(-step_exponent)), step_exponent, exponent, len(minutes))
    sides = ([rows.bids for _, rows in minutes], [rows.asks for _, rows in minutes])
    return b"".join([header, columns.tobytes(), *map(_matrix, sides)])


def _side(side: HeatSide) -> tuple[int, int, int]:
    return side.first, len(side.volumes), side.edge


def _matrix(sides: Sequence[HeatSide]) -> bytes:
    first = min(side.first for side in sides)
    width = max(side.first + len(side.volumes) for side in sides) - first
    matrix = np.zeros((len(sides), width), dtype=np.int64)
    for row, side in zip(matrix, sides, strict=True):
        row[side.first - first : side.first - first + len(side.volumes)] = side.volumes
    # By price, and within a price by time: what does not change stands together.
    steps = np.diff(matrix, axis=0, prepend=np.int64(0)).T
    body = planes(np.ascontiguousarray(steps).reshape(-1))
    return _WIDTH.pack(width) + body


def _unpack(raw: bytes) -> Iterator[tuple[int, HeatRows]]:
    version, blocks = _HEADER.unpack_from(raw)
    if version != VERSION:
        raise PackError(f"version {version}; expected {VERSION}")
    at = _HEADER.size
    for _ in range(blocks):
        digits, step_exponent, exponent, count = _BLOCK.unpack_from(raw, at)
        at += _BLOCK.size
        columns = np.frombuffer(raw, dtype=_COLUMN, count=count, offset=at)
        at += columns.nbytes
        bids, at = _read_sides(raw, at, columns["bids"])
        asks, at = _read_sides(raw, at, columns["asks"])
        step = Decimal(digits).scaleb(step_exponent)
        for minute, bid, ask in zip(columns["minute"].tolist(), bids, asks, strict=True):
            yield minute, HeatRows(step, exponent, bid, ask)


def _read_sides(raw: bytes, at: int, columns: NDArray[np.void]) -> tuple[list[HeatSide], int]:
    (width,) = _WIDTH.unpack_from(raw, at)
    at += _WIDTH.size
    size = 8 * width * len(columns)
    steps = from_planes(raw[at : at + size], width * len(columns)).reshape(width, len(columns))
    matrix = np.cumsum(steps.T, axis=0)
    low = int(columns["first"].min())
    sides = [
        HeatSide(first, row[first - low : first - low + rows], edge)
        for row, (first, rows, edge) in zip(matrix, columns.tolist(), strict=True)
    ]
    return sides, at + size
