"""A day of one series in a few bytes a minute, and back, exactly.

A side is packed as it is, or as what it has beyond the next nearer depth of the same book, whichever is smaller: depths
lie within each other, and where a book is known no further than the nearer depth they are the same. A volume is an
integer of its column's largest common power of ten. What is kept of it is how far it is from what the minute before
lets expect: coins as they were, dollars as the same coins at the last minute's mean price. The lowest bits of that are
chance and are kept as they are, bit by bit; zstd finds the rest in the others. Numbers beyond an int64 are texts.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from math import gcd
from typing import cast
from zlib import crc32

import numpy as np
import zstandard
from numpy.typing import NDArray

from marketdata.depth.snapshots import DAY, MINUTE, MOST_DIGITS, DepthVolume

VERSION = 2
MINUTES = DAY // MINUTE
LEVEL = 19
LARGEST = 2**61
# Columns with finer numbers than this are kept as text.
MOST_DECIMALS = 40
_TEXT, _NUMBERS = 0, 1
# Version, which sides lie beyond the nearer depth (bits), how many minutes, that depth (0: none), and its checksum.
_HEADER = struct.Struct("<BBHHI")
_COLUMN = struct.Struct("<BbBI")
_SIZE, _CHECKSUM = struct.Struct("<H"), struct.Struct("<I")
# Of each side: coins, then their value. What is expected of the second is made of the first.
SIDES = ((0, 2), (1, 3))
_FORMAT = zstandard.FORMAT_ZSTD1_MAGICLESS
_PARAMETERS = zstandard.ZstdCompressionParameters.from_level(LEVEL, format=_FORMAT)

Numbers = NDArray[np.int64]
Minutes = Sequence[tuple[int, DepthVolume]]


class PackError(ValueError):
    """Bytes that are no pack of this version."""


@dataclass(frozen=True, slots=True)
class _Column:
    """Volumes as integers of a power of ten; as they are, where one is too large for that."""

    numbers: Numbers | None
    exponent: int
    texts: Sequence[Decimal] = ()

    def between(self, begin: int, end: int) -> _Column:
        numbers = None if self.numbers is None else self.numbers[begin:end]
        return _Column(numbers, self.exponent, self.texts[begin:end])

    def decimals(self) -> Sequence[Decimal]:
        if self.numbers is None:
            return self.texts
        return [Decimal(number).scaleb(self.exponent) for number in self.numbers.tolist()]

    def floats(self) -> list[float]:
        if self.numbers is None:
            return [float(text) for text in self.texts]
        # Through decimals: 0.1 times a number is not the nearest float to a tenth of it.
        return [float(each) for each in self.decimals()]


@dataclass(frozen=True, slots=True)
class _Day:
    """``minutes``: their places in the day, rising."""

    minutes: Numbers
    covered: tuple[NDArray[np.bool_], NDArray[np.bool_]]
    columns: Sequence[_Column]

    def between(self, first: float, last: float) -> _Day:
        begin = int(np.searchsorted(self.minutes, first / MINUTE))
        end = int(np.searchsorted(self.minutes, last / MINUTE, side="right"))
        covered = self.covered[0][begin:end], self.covered[1][begin:end]
        return _Day(self.minutes[begin:end], covered, [each.between(begin, end) for each in self.columns])


def pack(minutes: Minutes, nearer: Minutes = (), nearer_depth: int = 0) -> bytes:
    """Minutes of one day and one depth, ``(seconds since that day began, volume)``, each once; ``nearer``: those of the
    next nearer depth of that book and its per mille, which :func:`unpack` wants again."""
    day, inner = _day_of(minutes), _day_of(nearer)
    there = np.zeros(MINUTES, dtype=bool)
    there[day.minutes] = True
    # Which of them the nearer depth has now: late rows may give it more.
    known = np.isin(day.minutes, inner.minutes)
    beyond, checksum, bodies = 0, 0, []
    for side, columns in enumerate(SIDES):
        own = _packed_side(*(day.columns[at] for at in columns))
        parts = [_rest(day, inner, known, at) for at in columns] if known.any() else []
        rests = [part for part in parts if part is not None]
        if len(rests) == len(columns):
            further = _packed_side(*(rest for rest, _ in rests))
            if len(further) < len(own):
                own, beyond = further, beyond | 1 << side
                for _, near in rests:
                    checksum = crc32(near.tobytes(), checksum)
        bodies.append(own)
    bits = [np.packbits(each).tobytes() for each in (there, *day.covered, *([known] if beyond else []))]
    bitmaps = _compressed(b"".join(bits))
    header = _HEADER.pack(VERSION, beyond, len(day.minutes), nearer_depth if beyond else 0, checksum)
    body = b"".join([header, _SIZE.pack(len(bitmaps)), bitmaps, *bodies])
    return body + _CHECKSUM.pack(crc32(body))


def unpack(
    bodies: Mapping[int, bytes], depth: int, first: float = 0, last: float = DAY
) -> list[tuple[int, DepthVolume]]:
    """What was packed of a depth from one second of the day to another, both included, the earliest first. ``bodies``:
    the packs of one book's day by depth, this one and all nearer ones.

    Raises:
        PackError: damaged, of another version, or without the nearer ones that it needs.
    """
    day = _read(bodies, depth).between(first, last)
    covered = (each.tolist() for each in day.covered)
    rows = zip(*(column.decimals() for column in day.columns), *covered, strict=True)
    seconds = (day.minutes * MINUTE).tolist()
    return [(second, DepthVolume(depth, *row)) for second, row in zip(seconds, rows, strict=True)]


def unpack_points(
    bodies: Mapping[int, bytes], depth: int, first: float = 0, last: float = DAY
) -> list[tuple[int, float, float]]:
    """The coins of bids and asks alone, for charts: ``(seconds, bids, asks)``. Raises as :func:`unpack`."""
    day = _read(bodies, depth).between(first, last)
    seconds = (day.minutes * MINUTE).tolist()
    return list(zip(seconds, day.columns[0].floats(), day.columns[1].floats(), strict=True))


def _read(bodies: Mapping[int, bytes], depth: int) -> _Day:
    try:
        return _unpacked(bodies, depth)
    except (zstandard.ZstdError, struct.error, ValueError, IndexError, ArithmeticError) as error:
        raise PackError(f"a packed day cannot be read: {error}") from None


def _unpacked(bodies: Mapping[int, bytes], depth: int) -> _Day:
    if depth not in bodies:
        raise PackError(f"the day of depth {depth} is not there")
    raw = bodies[depth]
    version, beyond, count, nearer_depth, checksum = _HEADER.unpack_from(raw)
    if version != VERSION:
        raise PackError(f"version {version}; expected {VERSION}")
    if crc32(raw[: -_CHECKSUM.size]) != _CHECKSUM.unpack(raw[-_CHECKSUM.size :])[0]:
        raise PackError("it is damaged")
    at = _HEADER.size
    (size,) = _SIZE.unpack_from(raw, at)
    at += _SIZE.size
    bits = np.frombuffer(_decompressed(raw[at : at + size]), dtype=np.uint8)
    at += size
    there, bid_covered, ask_covered, known = _bitmaps(bits, (MINUTES, count, count, count if beyond else 0))
    minutes = np.flatnonzero(there)
    inner = _day_of(())
    if beyond:
        if nearer_depth >= depth:
            raise PackError(f"depth {depth} does not lie beyond depth {nearer_depth}")
        inner = _unpacked(bodies, nearer_depth)
    columns: dict[int, _Column] = {}
    found = 0
    for side, (coins, value) in enumerate(SIDES):
        columns[coins], columns[value], at = _read_side(raw, at, count)
        if beyond & 1 << side:
            for each in (coins, value):
                rest = columns[each]
                near = _nearer_numbers(inner, each, minutes, known, rest.exponent)
                if rest.numbers is None or near is None:
                    raise PackError(f"it does not fit that day of depth {nearer_depth}")
                found = crc32(near.tobytes(), found)
                columns[each] = _Column(rest.numbers + near, rest.exponent)
    if found != checksum:
        raise PackError(f"it lies beyond another day of depth {nearer_depth}")
    return _Day(minutes, (bid_covered, ask_covered), [columns[each] for each in range(4)])


def _bitmaps(packed: NDArray[np.uint8], sizes: Sequence[int]) -> list[NDArray[np.bool_]]:
    found, at = [], 0
    for size in sizes:
        whole = -(-size // 8)
        found.append(np.unpackbits(packed[at : at + whole], count=size).astype(bool))
        at += whole
    return found


def _day_of(minutes: Minutes) -> _Day:
    ordered = sorted(minutes, key=lambda each: each[0])
    places = np.array([seconds // MINUTE for seconds, _ in ordered], dtype=np.int64)
    if np.any(np.diff(places) == 0):
        raise PackError("a minute is there twice")
    volumes = [volume for _, volume in ordered]
    covered = (
        np.array([volume.bid_covered for volume in volumes], dtype=bool),
        np.array([volume.ask_covered for volume in volumes], dtype=bool),
    )
    return _Day(places, covered, [_integers([volume.volumes[at] for volume in volumes]) for at in range(4)])


def _integers(column: Sequence[Decimal]) -> _Column:
    with localcontext(prec=4 * MOST_DIGITS):
        numbers = [int(each.scaleb(MOST_DECIMALS)) for each in column]
        # Nothing is below 0: had one been cut, the sum would be less.
        is_exact = sum(numbers) == sum(column, Decimal(0)).scaleb(MOST_DECIMALS)
    places, common = 0, gcd(*numbers)
    while common and common % 10 == 0:
        common //= 10
        places += 1
    units = [number // 10**places for number in numbers] if places else numbers
    if not is_exact or max(units, default=0) >= LARGEST:
        return _Column(None, 0, column)
    return _Column(np.array(units, dtype=np.int64), places - MOST_DECIMALS if common else 0)


# What a depth has beyond the nearer one.


def _rest(day: _Day, inner: _Day, known: NDArray[np.bool_], column: int) -> tuple[_Column, Numbers] | None:
    """One column beyond the nearer depth, and that depth's numbers; None where they are too large."""
    own = day.columns[column]
    if own.numbers is None:
        return None
    exponent = min(own.exponent, inner.columns[column].exponent)
    scaled = _scaled(own.numbers, own.exponent - exponent)
    near = _nearer_numbers(inner, column, day.minutes, known, exponent)
    return None if scaled is None or near is None else (_Column(scaled - near, exponent), near)


def _nearer_numbers(
    inner: _Day, column: int, minutes: Numbers, known: NDArray[np.bool_], exponent: int
) -> Numbers | None:
    """The nearer depth's numbers at these minutes in units of 10**exponent, 0 where it was not known; None where they
    are none. Its own units may be others by now: late rows can be finer than those before."""
    near = inner.columns[column]
    chosen = np.searchsorted(inner.minutes, minutes[known])
    if np.any(chosen >= len(inner.minutes)) or np.any(inner.minutes[chosen] != minutes[known]):
        return None
    if near.numbers is None:
        there = _integers([near.texts[at] for at in chosen.tolist()])
        if there.numbers is None:
            return None
    else:
        there = _Column(near.numbers[chosen], near.exponent)
    scaled = _scaled(cast(Numbers, there.numbers), there.exponent - exponent)
    if scaled is None:
        return None
    found = np.zeros(len(minutes), dtype=np.int64)
    found[known] = scaled
    return found


def _scaled(numbers: Numbers, places: int) -> Numbers | None:
    """Times 10**places; None where the result is too large or no whole number."""
    largest = int(np.abs(numbers).max(initial=0))
    if places >= 0:
        return numbers * np.int64(10**places) if largest * 10**places < LARGEST else None
    if 10**-places > largest:
        return None if largest else numbers
    units, rest = np.divmod(numbers, np.int64(10**-places))
    return None if np.any(rest) else units


# A side as bytes.


def _packed_side(coins: _Column, value: _Column) -> bytes:
    residuals = None if value.numbers is None else _residuals(value.numbers, coins.numbers)
    return _column(coins, None if coins.numbers is None else _steps(coins.numbers)) + _column(value, residuals)


def _read_side(raw: bytes, at: int, count: int) -> tuple[_Column, _Column, int]:
    coins, rests, at = _read_column(raw, at, count)
    numbers = None if rests is None else np.cumsum(rests)
    coins = _Column(numbers, coins.exponent, coins.texts)
    value, rests, at = _read_column(raw, at, count)
    return coins, _Column(None if rests is None else _from_residuals(rests, numbers), value.exponent, value.texts), at


def _column(column: _Column, rests: Numbers | None) -> bytes:
    if rests is None:
        body = _compressed(",".join(f"{each:f}" for each in column.texts).encode())
        return _COLUMN.pack(_TEXT, 0, 0, len(body)) + body
    folded = _folded(rests)
    width = _chance_bits(folded)
    high = _compressed(_planes(folded >> np.uint64(width)))
    return _COLUMN.pack(_NUMBERS, column.exponent, width, len(high)) + _low_bits(folded, width) + high


def _read_column(raw: bytes, at: int, count: int) -> tuple[_Column, Numbers | None, int]:
    kind, exponent, width, size = _COLUMN.unpack_from(raw, at)
    at += _COLUMN.size
    if kind == _TEXT:
        texts = _decompressed(raw[at : at + size]).decode()
        return _Column(None, 0, [Decimal(text) for text in texts.split(",")] if texts else []), None, at + size
    low_size = -(-count * width // 8)
    low = _from_low_bits(raw[at : at + low_size], width, count)
    at += low_size
    high = _from_planes(_decompressed(raw[at : at + size]), count)
    return _Column(None, exponent), _unfolded(high << np.uint64(width) | low), at + size


def planes(numbers: Numbers) -> bytes:
    """The lowest bytes of all numbers, then the second bytes, and so on to the eighth."""
    return _folded(numbers).astype("<u8").view(np.uint8).reshape(-1, 8).T.tobytes()


def from_planes(body: bytes, count: int) -> Numbers:
    """What :func:`planes` was made of."""
    found = np.frombuffer(body, dtype=np.uint8).reshape(8, count)
    return _unfolded(np.ascontiguousarray(found.T).view("<u8").reshape(count))


def _folded(numbers: Numbers) -> NDArray[np.uint64]:
    """Signs at the end of each number: small ones have many zeros in front, whatever their sign."""
    return ((numbers << 1) ^ (numbers >> 63)).view(np.uint64)


def _unfolded(folded: NDArray[np.uint64]) -> Numbers:
    one = np.uint64(1)
    return (folded >> one).view(np.int64) ^ -(folded & one).view(np.int64)


def _chance_bits(folded: NDArray[np.uint64]) -> int:
    """How many of the lowest bits nothing can be found in: what is above them takes a few values only."""
    if not len(folded):
        return 0
    typical = int(np.median(folded))
    return max(0, typical.bit_length() - 3)


def _low_bits(folded: NDArray[np.uint64], width: int) -> bytes:
    bits = (folded[:, None] >> np.arange(width, dtype=np.uint64)) & np.uint64(1)
    return np.packbits(bits.astype(np.uint8)).tobytes()


def _from_low_bits(body: bytes, width: int, count: int) -> NDArray[np.uint64]:
    bits = np.unpackbits(np.frombuffer(body, dtype=np.uint8), count=count * width).reshape(count, width)
    return (bits.astype(np.uint64) << np.arange(width, dtype=np.uint64)).sum(axis=1, dtype=np.uint64)


def _planes(numbers: NDArray[np.uint64]) -> bytes:
    """The lowest bytes of all numbers, then the second bytes, as far as there are any."""
    used = -(-int(numbers.max(initial=0)).bit_length() // 8)
    return numbers.astype("<u8").view(np.uint8).reshape(-1, 8).T[:used].tobytes()


def _from_planes(body: bytes, count: int) -> NDArray[np.uint64]:
    planes = np.zeros((8, count), dtype=np.uint8)
    if count:
        found = np.frombuffer(body, dtype=np.uint8).reshape(-1, count)
        planes[: len(found)] = found
    return np.ascontiguousarray(planes.T).view("<u8").reshape(count)


def _steps(numbers: Numbers) -> Numbers:
    return np.diff(numbers, prepend=np.int64(0))


def _expected(worth: int, coins_before: int, coins: int) -> int:
    """The value of the coins at the price of the minute before, in Python's own integers: it may be a large product."""
    if not coins_before:
        return worth
    found = worth * coins // coins_before
    return found if 0 <= found < LARGEST else worth


def _residuals(worth: Numbers, coins: Numbers | None) -> Numbers:
    if coins is None:
        return _steps(worth)
    values, amounts = worth.tolist(), coins.tolist()
    found = values[:1]
    for at in range(1, len(values)):
        found.append(values[at] - _expected(values[at - 1], amounts[at - 1], amounts[at]))
    return np.array(found, dtype=np.int64)


def _from_residuals(residuals: Numbers, coins: Numbers | None) -> Numbers:
    if coins is None:
        return np.cumsum(residuals)
    rests, amounts = residuals.tolist(), coins.tolist()
    values = rests[:1]
    for at in range(1, len(rests)):
        values.append(rests[at] + _expected(values[at - 1], amounts[at - 1], amounts[at]))
    return np.array(values, dtype=np.int64)


def _compressed(body: bytes) -> bytes:
    return zstandard.ZstdCompressor(compression_params=_PARAMETERS).compress(body)


def _decompressed(body: bytes) -> bytes:
    return zstandard.ZstdDecompressor(format=_FORMAT).decompress(body)
