"""A month of bars in a few bytes each, and back, exactly.

Within a bar prices lie close together, and one bar begins near where the one before ended: kept are the close as its
distance from the close before, the open as its distance from the close before, high and low as theirs from open and
close. Prices are counted in their largest common unit, times in intervals. Of each column the lowest bytes of all
numbers come first, then the second bytes, and so on, as many as the largest number needs; zstd packs them together.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
import zstandard
from numpy.typing import NDArray

VERSION = 1
LEVEL = 3
# What is kept of a number: prices and volumes below this leave room for their differences.
LARGEST = 2**61
# Version, how many columns, how many rows, the first time, the common units of prices and volumes, a checksum of the
# rest. The widths of the columns follow, a byte each.
_HEADER = struct.Struct("<BBIqqqI")
_BYTE_BITS, _MOST_BYTES = 8, 8

Numbers = NDArray[np.int64]


class PackError(ValueError):
    """Bytes that are no pack of this version, or damaged."""


@dataclass(frozen=True, slots=True)
class Bars:
    """Columns of one length, int64. ``start`` rises; in whatever unit they were packed with."""

    start: Numbers
    open: Numbers
    high: Numbers
    low: Numbers
    close: Numbers
    volume: Numbers

    def __len__(self) -> int:
        return len(self.start)

    @property
    def columns(self) -> tuple[Numbers, ...]:
        return self.start, self.open, self.high, self.low, self.close, self.volume

    def rows(self, chosen: NDArray[np.bool_] | slice | Numbers) -> Bars:
        return Bars(*(column[chosen] for column in self.columns))


def no_bars() -> Bars:
    return Bars(*(np.empty(0, dtype=np.int64) for _ in range(6)))


def joined(parts: Sequence[Bars]) -> Bars:
    """One after the other."""
    if not parts:
        return no_bars()
    return Bars(*(np.concatenate(columns) for columns in zip(*(part.columns for part in parts), strict=True)))


def pack_bars(bars: Bars, step: int) -> bytes:
    """``step``: milliseconds of an interval; every start is the first one plus a multiple of it."""
    if not len(bars):
        return _pack([], 0, 0, 1, 1)
    first = int(bars.start[0])
    unit = _common([bars.open, bars.high, bars.low, bars.close])
    volume_unit = _common([bars.volume])
    opened, high, low, close = (column // unit for column in (bars.open, bars.high, bars.low, bars.close))
    before = np.concatenate((close[:1] * 0, close[:-1]))
    columns = [
        np.diff((bars.start - first) // step, prepend=np.int64(-1)) - 1,
        close - before,
        opened - before,
        high - np.maximum(opened, close),
        np.minimum(opened, close) - low,
        bars.volume // volume_unit,
    ]
    return _pack(columns, len(bars), first, unit, volume_unit)


def unpack_bars(body: bytes, step: int) -> Bars:
    """What :func:`pack_bars` was given.

    Raises:
        PackError: damaged, or of another version.
    """
    columns, first, unit, volume_unit = _unpack(body, 6)
    if not columns:
        return no_bars()
    steps, closes, opens, highs, lows, volume = columns
    close = np.cumsum(closes)
    opened = opens
    opened[1:] += close[:-1]
    high = highs + np.maximum(opened, close)
    low = np.minimum(opened, close) - lows
    prices = (opened, high, low, close)
    if unit != 1:
        for price in prices:
            price *= unit
    if volume_unit != 1:
        volume *= volume_unit
    start = np.cumsum(steps + 1) - 1
    start *= step
    start += first
    return Bars(start, *prices, volume)


def rate_bars(times: Numbers, rates: Numbers) -> Bars:
    """Funding rates as bars are kept and merged: the rate is in ``open``, all else is 0."""
    zeros = np.zeros(len(times), dtype=np.int64)
    return Bars(times, rates, zeros, zeros, zeros, zeros)


def pack_rates(rates: Bars) -> bytes:
    """Funding (:func:`rate_bars`): times in milliseconds, rising, and rates in any unit."""
    if not len(rates):
        return _pack([], 0, 0, 1, 1)
    first = int(rates.start[0])
    return _pack([np.diff(rates.start, prepend=np.int64(first)), rates.open], len(rates), first, 1, 1)


def unpack_rates(body: bytes) -> Bars:
    """What :func:`pack_rates` was given. Raises as :func:`unpack_bars`."""
    columns, first, _, _ = _unpack(body, 2)
    if not columns:
        return no_bars()
    return rate_bars(np.cumsum(columns[0]) + first, columns[1])


def _common(columns: Sequence[Numbers]) -> int:
    """The largest number that divides all; 1 where all are 0."""
    return int(np.gcd.reduce([int(np.gcd.reduce(column)) for column in columns])) or 1


def _pack(columns: Sequence[Numbers], count: int, first: int, unit: int, volume_unit: int) -> bytes:
    widths, planes = bytearray(), []
    for column in columns:
        folded = ((column << 1) ^ (column >> 63)).view(np.uint64)
        width = -(-int(folded.max()).bit_length() // _BYTE_BITS)
        widths.append(width)
        planes.append(folded.astype("<u8").view(np.uint8).reshape(-1, _MOST_BYTES)[:, :width].T.tobytes())
    rest = bytes(widths) + zstandard.ZstdCompressor(level=LEVEL).compress(b"".join(planes))
    return _HEADER.pack(VERSION, len(columns), count, first, unit, volume_unit, crc32(rest)) + rest


def _unpack(body: bytes, expected: int) -> tuple[list[Numbers], int, int, int]:
    try:
        version, number, count, first, unit, volume_unit, checksum = _HEADER.unpack_from(body)
        rest = body[_HEADER.size :]
        if version != VERSION:
            raise PackError(f"version {version}; expected {VERSION}")
        if crc32(rest) != checksum:
            raise PackError("its checksum is wrong: it is damaged")
        if number not in (0, expected):
            raise PackError(f"{number} columns; expected {expected}")
        widths = rest[:number]
        raw = zstandard.ZstdDecompressor().decompress(rest[number:], max_output_size=sum(widths) * count)
    except (struct.error, zstandard.ZstdError) as error:
        raise PackError(f"it cannot be read: {error}") from None
    columns, at = [], 0
    for width in widths:
        planes = np.frombuffer(raw, dtype=np.uint8, count=width * count, offset=at).reshape(width, count)
        at += width * count
        columns.append(_unfolded(planes, count))
    return columns, first, unit, volume_unit


def _unfolded(planes: NDArray[np.uint8], count: int) -> Numbers:
    spread = np.zeros((count, _MOST_BYTES), dtype=np.uint8)
    for place, plane in enumerate(planes):
        spread[:, place] = plane
    folded = spread.view("<u8").reshape(count)
    one = np.uint64(1)
    return (folded >> one).view(np.int64) ^ -(folded & one).view(np.int64)
