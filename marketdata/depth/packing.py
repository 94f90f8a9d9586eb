"""A day of one series in a few bytes a minute, and back, exactly.

Columns: a bitmap of the minutes that are there, one of each side's coverage, and the four volumes. A volume is an
integer of its column's largest common power of ten; what is kept is how far it is from what the minutes before let
expect, in planes of bytes, which zstd then finds the rest in. The expected value in dollars is that of the same coins
at the last minute's mean price. Numbers beyond an int64 are kept as text.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from decimal import Decimal, localcontext

import numpy as np
import zstandard
from numpy.typing import NDArray

from marketdata.depth.snapshots import DAY, MINUTE, MOST_DIGITS, DepthVolume

VERSION = 1
MINUTES = DAY // MINUTE
LEVEL = 19
LARGEST = 2**61
_TEXT, _PLANES = 0, 1
_HEADER = struct.Struct("<BH")
_COLUMN = struct.Struct("<BbI")
# Coins, then their value: what is expected of the second is made of the first.
PAIRS = ((0, 2), (1, 3))


class PackError(ValueError):
    """Bytes that are no pack of this version."""


def pack(minutes: Sequence[tuple[int, DepthVolume]]) -> bytes:
    """Minutes of one day and one depth, ``(seconds since that day began, volume)``, each once."""
    ordered = sorted(minutes, key=lambda each: each[0])
    there = np.zeros(MINUTES, dtype=bool)
    there[[seconds // MINUTE for seconds, _ in ordered]] = True
    if int(there.sum()) != len(ordered):
        raise PackError("a minute is there twice")
    volumes = [volume for _, volume in ordered]
    parts = [_HEADER.pack(VERSION, len(ordered)), np.packbits(there).tobytes()]
    for covered in ([volume.bid_covered for volume in volumes], [volume.ask_covered for volume in volumes]):
        parts.append(np.packbits(np.array(covered, dtype=bool)).tobytes())
    columns = [[volume.volumes[at] for volume in volumes] for at in range(4)]
    for coins, value in PAIRS:
        numbers, exponent = _integers(columns[coins])
        parts.append(_column(columns[coins], exponent, _steps(numbers) if numbers is not None else None))
        worth, worth_exponent = _integers(columns[value])
        residuals = None if worth is None else _residuals(worth, numbers)
        parts.append(_column(columns[value], worth_exponent, residuals))
    return zstandard.ZstdCompressor(level=LEVEL, write_content_size=True, write_checksum=True).compress(b"".join(parts))


def unpack(body: bytes, depth: int) -> list[tuple[int, DepthVolume]]:
    """What was packed, the earliest first.

    Raises:
        PackError: damaged, or of another version.
    """
    try:
        return _unpack(zstandard.ZstdDecompressor().decompress(body), depth)
    except (zstandard.ZstdError, struct.error, ValueError, IndexError) as error:
        raise PackError(f"a packed day cannot be read: {error}") from None


def _unpack(raw: bytes, depth: int) -> list[tuple[int, DepthVolume]]:
    version, count = _HEADER.unpack_from(raw)
    if version != VERSION:
        raise PackError(f"version {version}; expected {VERSION}")
    at = _HEADER.size
    bitmaps = []
    for bits in (MINUTES, count, count):
        size = -(-bits // 8)
        bitmaps.append(np.unpackbits(np.frombuffer(raw, dtype=np.uint8, count=size, offset=at), count=bits))
        at += size
    columns: dict[int, list[Decimal]] = {}
    for coins, value in PAIRS:
        kind, exponent, body, at = _read_column(raw, at)
        numbers = np.cumsum(from_planes(body, count)) if kind == _PLANES else None
        columns[coins] = _decimals(numbers, exponent) if numbers is not None else _texts(body)
        kind, exponent, body, at = _read_column(raw, at)
        if kind == _PLANES:
            columns[value] = _decimals(_from_residuals(from_planes(body, count), numbers), exponent)
        else:
            columns[value] = _texts(body)
    seconds = (np.flatnonzero(bitmaps[0]) * MINUTE).tolist()
    covered = (bitmap.astype(bool).tolist() for bitmap in bitmaps[1:])
    volumes = (DepthVolume(depth, *row) for row in zip(*(columns[each] for each in range(4)), *covered, strict=True))
    return list(zip(seconds, volumes, strict=True))


def _integers(column: Sequence[Decimal]) -> tuple[NDArray[np.int64] | None, int]:
    """The column in units of its power of ten; None where a number is too large."""
    with localcontext(prec=4 * MOST_DIGITS):
        exponent = min((int(each.normalize().as_tuple().exponent) for each in column if each), default=0)
        numbers = [int(each.scaleb(-exponent)) for each in column]
    if max(numbers, default=0) >= LARGEST or not -128 <= exponent < 128:
        return None, 0
    return np.array(numbers, dtype=np.int64), exponent


def _column(column: Sequence[Decimal], exponent: int, numbers: NDArray[np.int64] | None) -> bytes:
    kind = _TEXT if numbers is None else _PLANES
    body = ",".join(f"{each:f}" for each in column).encode() if numbers is None else planes(numbers)
    return _COLUMN.pack(kind, exponent, len(body)) + body


def _read_column(raw: bytes, at: int) -> tuple[int, int, bytes, int]:
    kind, exponent, size = _COLUMN.unpack_from(raw, at)
    at += _COLUMN.size
    return kind, exponent, raw[at : at + size], at + size


def _steps(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.diff(numbers, prepend=np.int64(0))


def _expected(worth: int, coins_before: int, coins: int) -> int:
    """The value of the coins at the price of the minute before, in Python's own integers: it may be a large product."""
    return worth * coins // coins_before if coins_before and 0 <= worth * coins // coins_before < LARGEST else worth


def _residuals(worth: NDArray[np.int64], coins: NDArray[np.int64] | None) -> NDArray[np.int64]:
    if coins is None:
        return _steps(worth)
    values, amounts = worth.tolist(), coins.tolist()
    found = values[:1]
    for at in range(1, len(values)):
        found.append(values[at] - _expected(values[at - 1], amounts[at - 1], amounts[at]))
    return np.array(found, dtype=np.int64)


def _from_residuals(residuals: NDArray[np.int64], coins: NDArray[np.int64] | None) -> NDArray[np.int64]:
    if coins is None:
        return np.cumsum(residuals)
    rests, amounts = residuals.tolist(), coins.tolist()
    values = rests[:1]
    for at in range(1, len(rests)):
        values.append(rests[at] + _expected(values[at - 1], amounts[at - 1], amounts[at]))
    return np.array(values, dtype=np.int64)


def planes(numbers: NDArray[np.int64]) -> bytes:
    """The lowest bytes of all numbers, then the second bytes, and so on; signs at the end of each number."""
    folded = ((numbers << 1) ^ (numbers >> 63)).view(np.uint64)
    return folded.astype("<u8").view(np.uint8).reshape(-1, 8).T.tobytes()


def from_planes(body: bytes, count: int) -> NDArray[np.int64]:
    """What :func:`planes` was made of."""
    folded = np.ascontiguousarray(np.frombuffer(body, dtype=np.uint8).reshape(8, count).T).view("<u8").reshape(count)
    one = np.uint64(1)
    return (folded >> one).view(np.int64) ^ -(folded & one).view(np.int64)


def _decimals(numbers: NDArray[np.int64], exponent: int) -> list[Decimal]:
    return [Decimal(number).scaleb(exponent) for number in numbers.tolist()]


def _texts(body: bytes) -> list[Decimal]:
    return [Decimal(text) for text in body.decode().split(",")] if body else []
