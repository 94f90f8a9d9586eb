"""Streams of order-book frames: made by a seeded simulation, written as the venues write them, and kept in a cache.

``bybit``: ``orderbook.200.SYMBOL``, the true difference between one view of the best 200 levels and the next; its sizes
follow the recording of linear BTCUSDT (541 bytes and 19.6 changed levels a message). ``binance``: USD-M diff depth of a
book of about 5,000 levels a side, 32 changed levels a message, begun by a REST snapshot.
"""

from __future__ import annotations

import gzip
import hashlib
import os
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
REPOSITORY = Path(__file__).resolve().parents[2]
CACHE = REPOSITORY / "var" / "benchmarks"
DATA = Path(os.environ.get("MARKET_DATA_DIR") or REPOSITORY.parent / "shared" / "data")
FIRST_MS = 1_786_310_818_000
MESSAGE_MS = 100
DEPTH = 200
WIDE_LEVELS = 8_000
MOST_CHANGES = 4_096


@dataclass(frozen=True, slots=True)
class Listing:
    """An instrument: its price is ``middle`` ticks of ``tick_units`` / 10**``price_decimals``; quantities are written
    with ``quantity_decimals``."""

    symbol: str
    middle: int
    tick_units: int
    price_decimals: int
    quantity_decimals: int

    @property
    def tick_size(self) -> str:
        return f"{self.tick_units * 10**-self.price_decimals:.{self.price_decimals}f}"

    @property
    def lot_size(self) -> str:
        return f"{10**-self.quantity_decimals:.{self.quantity_decimals}f}"


BTCUSDT = Listing("BTCUSDT", 651_140, 10, 2, 3)


def alike(index: int) -> Listing:
    """Another instrument of the same form."""
    return Listing(f"C{index:03d}USDT", BTCUSDT.middle, 10, 2, 3)


@dataclass(frozen=True, slots=True)
class Stream:
    """Frames back to back: number ``n`` is ``data[offsets[n] : offsets[n + 1]]``. The first is the snapshot.
    ``changes``: levels named by all frames but the first."""

    listing: Listing
    data: bytes
    offsets: Integers
    changes: int

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def frames(self, number: int | None = None) -> list[bytes]:
        places = self.offsets[: None if number is None else number + 1].tolist()
        return [self.data[start:stop] for start, stop in pairwise(places)]

    def bytes_a_message(self) -> float:
        """Without the snapshot."""
        return float(self.offsets[-1] - self.offsets[1]) / (len(self) - 1)

    def changes_a_message(self) -> float:
        return self.changes / (len(self) - 1)


@numba.njit(cache=True)
def _size(distance: int) -> int:
    return max(1, int((0.15 + 0.004 * min(distance, 500)) * np.exp(np.random.normal(0.0, 1.4)) * 1000.0))


@numba.njit(cache=True)
def _distance(furthest: int, wide: bool) -> int:
    kind = np.random.random()
    if kind < 0.6:
        return int(np.random.exponential(7.0))
    if kind < 0.9:
        return int(np.random.exponential(250.0 if wide else 45.0))
    return int(np.exp(np.random.random() * np.log(furthest))) if wide else int(np.random.random() * furthest)


@numba.njit(cache=True)
def _put(lots: Any, side: int, tick: int, quantity: int, touched: Any, count: int) -> int:
    lots[side, tick] = quantity
    touched[count, 0], touched[count, 1] = side, tick
    return count + 1


@numba.njit(cache=True)
def _move_price(lots: Any, best: Any, touched: Any, count: int) -> int:
    """One side loses its best levels, the other follows into the gap."""
    loser = int(np.random.random() < 0.5)
    away = 1 if loser else -1
    steps = 1 + int(np.random.exponential(2.5))
    if np.random.random() < 0.01:
        steps += int(np.random.exponential(25.0))
    old = best[loser]
    for step in range(steps):
        if lots[loser, old + away * step]:
            count = _put(lots, loser, old + away * step, 0, touched, count)
    while lots[loser, best[loser]] == 0:
        best[loser] += away
    follower = 1 - loser
    newest = old + away * (steps - 1)
    tick = best[follower] + away
    while (newest - tick) * away >= 0:
        if tick == newest or np.random.random() < 0.9:
            count = _put(lots, follower, tick, _size(abs(newest - tick)), touched, count)
        tick += away
    best[follower] = newest
    return count


@numba.njit(cache=True)
def _trade_levels(lots: Any, best: Any, touched: Any, count: int, events: int, furthest: int, wide: bool) -> int:
    """Orders come and go: each event changes one level, or two."""
    for _ in range(events):
        side = int(np.random.random() < 0.5)
        away = 1 if side else -1
        distance = _distance(furthest, wide)
        tick = best[side] + away * distance
        if wide and distance > 1_000:
            # Far levels are sparse: as many vanish as appear.
            if np.random.random() < 0.5:
                count = _put(lots, side, tick, _size(distance), touched, count)
                continue
            for _step in range(20_000):
                if lots[side, tick]:
                    gone = np.random.random() < 0.8
                    count = _put(lots, side, tick, 0 if gone else _size(distance), touched, count)
                    break
                tick -= away
        elif lots[side, tick] == 0 or np.random.random() < 0.68:
            count = _put(lots, side, tick, _size(distance), touched, count)
        elif tick != best[side] or np.random.random() < 0.3:
            count = _put(lots, side, tick, 0, touched, count)
            other = best[side] + away * _distance(furthest, wide)
            if np.random.random() < 0.5 and lots[side, other] == 0:
                count = _put(lots, side, other, _size(abs(other - best[side])), touched, count)
    for side in range(2):
        while lots[side, best[side]] == 0:
            best[side] += 1 if side else -1
    if best[1] - best[0] > 1 and np.random.random() < 0.6:
        side = int(np.random.random() < 0.5)
        best[side] += -1 if side else 1
        count = _put(lots, side, best[side], _size(0), touched, count)
    return count


@numba.njit(cache=True)
def _view(lots: Any, side: int, best: int, depth: int, view: Any) -> int:
    """The best levels of a side into ``view``."""
    found, tick = 0, best
    while found < depth and 0 < tick < lots.shape[1] - 1:
        if lots[side, tick]:
            view[found, 0], view[found, 1] = tick, lots[side, tick]
            found += 1
        tick += 1 if side else -1
    return found


@numba.njit(cache=True)
def _difference(old: Any, olds: int, new: Any, news: int, sign: int, changes: Any, place: int) -> int:
    """What leads from one view to the next, best first, from ``changes[place]`` on."""
    i = j = 0
    while i < olds or j < news:
        if j == news or (i < olds and old[i, 0] * sign < new[j, 0] * sign):
            changes[place, 0], changes[place, 1] = old[i, 0], 0
            place, i = place + 1, i + 1
        elif i == olds or new[j, 0] * sign < old[i, 0] * sign:
            changes[place, 0], changes[place, 1] = new[j, 0], new[j, 1]
            place, j = place + 1, j + 1
        else:
            if old[i, 1] != new[j, 1]:
                changes[place, 0], changes[place, 1] = new[j, 0], new[j, 1]
                place += 1
            i, j = i + 1, j + 1
    return place


@numba.njit(cache=True)
def simulate_views(seed: int, messages: int, middle: int, ends: Any, changes: Any) -> int:
    """Bybit: ``changes`` (tick, lots), bids before asks; message ``n`` ends its bids at ``ends[n, 0]`` and its asks at
    ``ends[n, 1]``. Message 0 is the snapshot. Returns the number of changes."""
    np.random.seed(seed)
    reach = 20_000
    lots = np.zeros((2, 2 * middle), np.int64)
    best = np.array([middle, middle + 1])
    for distance in range(reach):
        full = 0.92 if distance < 20 else (0.75 if distance < 120 else 0.55)
        for side in range(2):
            if distance == 0 or np.random.random() < full:
                lots[side, best[side] + (distance if side else -distance)] = _size(distance)
    touched = np.empty((MOST_CHANGES, 2), np.int64)
    old, new = np.empty((2, DEPTH, 2), np.int64), np.empty((2, DEPTH, 2), np.int64)
    olds, news = np.zeros(2, np.int64), np.zeros(2, np.int64)
    place = 0
    for message in range(messages):
        before = place
        while place == before:
            if message:
                if np.random.random() < 0.22:
                    _move_price(lots, best, touched, 0)
                _trade_levels(lots, best, touched, 0, 8 + int(np.random.random() * 21), 420, False)
            for side in range(2):
                news[side] = _view(lots, side, best[side], DEPTH, new[side])
                sign = 1 if side else -1
                place = _difference(old[side], olds[side], new[side], news[side], sign, changes, place)
                old[side], olds[side] = new[side], news[side]
                ends[message, side] = place
    return place


@numba.njit(cache=True)
def simulate_differences(seed: int, messages: int, middle: int, levels: int, ends: Any, changes: Any) -> int:
    """Binance: the same, but every level that changed is named, however far."""
    np.random.seed(seed)
    furthest = middle * 35 // 100
    lots = np.zeros((2, 2 * middle), np.int64)
    best = np.array([middle, middle + 1])
    for side in range(2):
        away = 1 if side else -1
        lots[side, best[side]] = _size(0)
        for _ in range(levels):
            kind = np.random.random()
            if kind < 0.5:
                distance = int(np.random.random() * 2_500)
            else:
                distance = int(np.exp(np.random.random() * np.log(furthest)))
            lots[side, best[side] + away * distance] = _size(distance)
    touched = np.empty((MOST_CHANGES, 2), np.int64)
    view = np.empty((20 * levels, 2), np.int64)
    seen = np.zeros((2, 2 * middle), np.int32)
    place = 0
    for side in range(2):
        found = _view(lots, side, best[side], 2 * levels, view)
        changes[place : place + found] = view[:found]
        place += found
        ends[0, side] = place
    for message in range(1, messages):
        count = _move_price(lots, best, touched, 0) if np.random.random() < 0.22 else 0
        count = _trade_levels(lots, best, touched, count, 20 + int(np.random.random() * 33), furthest, True)
        for side in range(2):
            first = place
            for index in range(count):
                tick = touched[index, 1]
                if touched[index, 0] == side and seen[side, tick] != message:
                    seen[side, tick] = message
                    changes[place, 0], changes[place, 1] = tick, lots[side, tick]
                    place += 1
            # Binance names bids and asks from the lowest or the best on; either is read alike.
            order = np.argsort(changes[first:place, 0])
            changes[first:place] = changes[first:place][order]
            ends[message, side] = place
    return place


class _Writer:
    """The texts of levels."""

    def __init__(self, listing: Listing) -> None:
        self._listing = listing
        self._prices: dict[int, str] = {}

    def levels(self, levels: Integers) -> str:
        return ",".join([self._level(tick, lots) for tick, lots in levels.tolist()])

    def _level(self, tick: int, lots: int) -> str:
        price = self._prices.get(tick)
        if price is None:
            listing = self._listing
            price = self._prices[tick] = _decimal(tick * listing.tick_units, listing.price_decimals)
        return f'["{price}","{_decimal(lots, self._listing.quantity_decimals) if lots else "0"}"]'


def _decimal(value: int, decimals: int) -> str:
    whole, fraction = divmod(value, 10**decimals)
    return f"{whole}.{fraction:0{decimals}d}" if decimals else str(whole)


def _simulate(simulation: Any, messages: int, room: int, *arguments: int) -> tuple[Integers, Integers]:
    ends = np.zeros((messages, 2), np.int64)
    changes = np.zeros((room, 2), np.int64)
    used = simulation(*arguments, ends, changes)
    if used > room:
        raise AssertionError(f"{used} changes in room for {room}")
    return ends, changes


def write_bybit(listing: Listing, messages: int, seed: int) -> list[bytes]:
    """A snapshot and ``messages`` - 1 deltas."""
    ends, changes = _simulate(simulate_views, messages, 60 * messages + 2_000, seed, messages, listing.middle)
    writer, symbol, topic = _Writer(listing), listing.symbol, f"orderbook.{DEPTH}.{listing.symbol}"
    frames, start, sequence = [], 0, 753_843_911_359
    for number, (bids, asks) in enumerate(ends.tolist()):
        kind, now = "delta" if number else "snapshot", FIRST_MS + MESSAGE_MS * number
        sequence += 1 + (number * 7_919) % 4_999
        frames.append(
            f'{{"topic":"{topic}","type":"{kind}","ts":{now},"data":{{"s":"{symbol}","b":['
            f'{writer.levels(changes[start:bids])}],"a":[{writer.levels(changes[bids:asks])}],'
            f'"u":{15_076_952 + number},"seq":{sequence}}},"cts":{now - 2}}}'.encode()
        )
        start = asks
    return frames


def write_binance(listing: Listing, messages: int, seed: int) -> list[bytes]:
    """A REST snapshot and ``messages`` - 1 events."""
    room = 80 * messages + 4 * WIDE_LEVELS
    ends, changes = _simulate(simulate_differences, messages, room, seed, messages, listing.middle, WIDE_LEVELS)
    writer, start, update, frames = _Writer(listing), 0, 5_217_000_000_000, []
    for number, (bids, asks) in enumerate(ends.tolist()):
        now = FIRST_MS + MESSAGE_MS * number
        levels = (writer.levels(changes[start:bids]), writer.levels(changes[bids:asks]))
        if number == 0:
            head, body = f'{{"lastUpdateId":{update},"E":{now},"T":{now - 4}', '"bids":[{}],"asks":[{}]}}'
        else:
            first, before, update = update + 1, update, update + 1 + (number * 7_919) % 997
            head = f'{{"e":"depthUpdate","E":{now},"T":{now - 4},"s":"{listing.symbol}"'
            head += f',"U":{first},"u":{update},"pu":{before}'
            body = '"b":[{}],"a":[{}]}}'
        frames.append(f"{head},{body.format(*levels)}".encode())
        start = asks
    return frames


def _collect(listing: Listing, frames: list[bytes]) -> Stream:
    offsets = np.concatenate([[0], np.cumsum([len(frame) for frame in frames])]).astype(np.int64)
    return Stream(listing, b"".join(frames), offsets, sum(frame.count(b'["') for frame in frames[1:]))


def stream(venue: str, listing: Listing, messages: int, seed: int) -> Stream:
    """``venue`` is bybit or binance; made once, then read from the cache."""
    write = {"bybit": write_bybit, "binance": write_binance}[venue]
    sources = hashlib.sha256(Path(__file__).read_bytes() + repr((venue, listing, messages, seed)).encode()).hexdigest()
    kept = CACHE / f"{venue}-{listing.symbol}-{sources[:16]}.gz"
    if kept.exists():
        frames = gzip.decompress(kept.read_bytes()).split(b"\n")
    else:
        frames = write(listing, messages, seed)
        CACHE.mkdir(parents=True, exist_ok=True)
        unfinished = kept.with_suffix(f".{os.getpid()}")
        unfinished.write_bytes(gzip.compress(b"\n".join(frames), compresslevel=1))
        unfinished.replace(kept)
    return _collect(listing, frames)


def first(stream: Stream, messages: int) -> Stream:
    """The beginning of a stream."""
    offsets = stream.offsets[: messages + 1]
    data = stream.data[: offsets[-1]]
    return Stream(stream.listing, data, offsets, data[offsets[1] :].count(b'["'))
