"""Frames with bytes changed, lost, doubled and swapped: never a crash, never believed when they are not JSON, and what
the fast parser accepts means the same to the general one.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from marketdata.engine import layout
from marketdata.engine.book import SymbolBook
from marketdata.engine.parse_json import BookMessage, read_binance, read_binance_snapshot, read_bybit
from marketdata.engine.sync import BookOutcome
from tests.marketdata.engine.streams import SENT_MS, STREAMS, SYMBOL, BinanceStream, BybitStream, compact

# The long run: BALLAST_MUTATIONS=1000000 makes so many in all.
MUTATIONS = int(os.environ.get("BALLAST_MUTATIONS", "21000"))
SEED = int(os.environ.get("BALLAST_SEED", "11"))
BIDS = [["100.0", "1.5"], ["99.9", "2"], ["42", "10"], ["99.8", "123456.789"]]
ASKS = [["100.1", "3"], ["100.30", "0.001"], ["4000", "1.000"]]
NUMBERS = [b"0", b"1", b"-1", b"00", b"01", b"1.", b".5", b"1e5", b"NaN", b"Infinity", b"null", b"true", b'"7"', b"1.5"]
NUMBERS += [b"9" * digits for digits in (8, 16, 17, 18, 19, 20, 40)]
NUMBERS += [b"0.00000001", b"0.0000000000000000001", b"1_0"]
NUMBERS += [b"18446745", b"4503599627370496", b"1125899906842625", b"9223372036854775808", b"18446744073709551616"]
ODDITIES = [b" ", b"\n", b"\\u0041", b"\\", b'"', b"{", b"}", b"[", b"]", b",", b":"]
ODDITIES += [b"\x00", b"\x7f", b"\xff", b"\xc3\xa9", b"/**/"]
ODDITIES += [b',"x":1', b',"u":5', b',"b":[]', b',"y":[1,{"z":"\\n"}]', b',"k":01', b',"k":"\x01"', b',"k":nul']


class NotJSON(ValueError):
    """What a strict JSON parser refuses."""


def strict_json(frame: bytes) -> Any:
    """RFC 8259 without the freedoms it leaves: no constants beyond it, no name twice in an object.

    Names that appear twice are refused because two readers may believe different ones of them.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in pairs}) != len(pairs):
            raise NotJSON("a name appears twice")
        return dict(pairs)

    def no_constant(name: str) -> Any:
        raise NotJSON(f"{name} is not JSON")

    try:
        return json.loads(frame.decode(), object_pairs_hook=unique, parse_constant=no_constant)
    except (ValueError, RecursionError) as error:
        raise NotJSON(str(error)) from None


def mutate(rng: random.Random, frame: bytes, other: bytes) -> bytes:
    changed = bytearray(frame)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        if not changed:
            break
        at, kind = rng.randrange(len(changed)), rng.randrange(11)
        if kind == 0:
            changed[at] = rng.randrange(256)
        elif kind == 1:
            changed[at] = rng.choice(b'0123456789".,:[]{}-')
        elif kind == 2:
            changed[at:at] = rng.choice(ODDITIES)
        elif kind == 3:
            del changed[at : at + rng.choice([1, 1, 2, 9])]
        elif kind == 4:
            del changed[at:]
        elif kind == 5:
            changed = changed[:at] + other[rng.randrange(len(other)) :]
        elif kind == 6:
            length = rng.choice([1, 3, 12])
            changed[at:at] = changed[max(at - length, 0) : at]
        else:
            replace_number(rng, changed, kind)
    return bytes(changed)


def replace_number(rng: random.Random, frame: bytearray, kind: int) -> None:
    """Swap two numbers, or put an odd one into the place of one."""
    places = numbers_in(frame)
    if not places:
        return
    (start, stop), (second, end) = sorted(rng.choices(places, k=2))
    if kind < 9 and stop <= second:
        frame[start:end] = frame[second:end] + frame[stop:second] + frame[start:stop]
    elif kind == 9:
        digits = rng.randint(1, 18)
        number = str(rng.randrange(10**digits))
        frame[start:stop] = (number if rng.random() < 0.5 else f"{number[:-1]}.{number}").encode()
    else:
        frame[start:stop] = rng.choice(NUMBERS)


def numbers_in(frame: bytearray) -> list[tuple[int, int]]:
    places, start = [], -1
    for index, character in enumerate(frame):
        if character in b"0123456789.":
            start = index if start < 0 else start
        elif start >= 0:
            places.append((start, index))
            start = -1
    return places


class Watched(SymbolBook):
    """Says which frames the fast parser left to the general one."""

    unusual = False

    def take_unusual(self, *arguments: Any) -> BookOutcome:
        self.unusual = True
        return super().take_unusual(*arguments)


def base_frames(form: BybitStream | BinanceStream) -> list[bytes]:
    long = [["99.12345678", "0.123"], ["7.0", "0"], ["1234567.1", "0.00000001"]]
    frames = [
        form.update(1_000, 1_001, [["99.9", "0"], ["99.5", "12.5"]], [["100.2", "7"]], SENT_MS + 1_000),
        form.update(1_000, 1_001, [], [], SENT_MS + 1_000),
        form.update(1_000, 1_001, [["99.90", "1.000"]] * 3, [["101", "1234567890.125"]], SENT_MS + 1_000),
        form.update(1_000, 1_001, long, [["100.20000000", "1.25000000"]], SENT_MS + 1_000),
        form.snapshot(2_000, BIDS, ASKS, SENT_MS + 1_000),
    ]
    return frames + [json.dumps(json.loads(frame), indent=1).encode() for frame in frames[:1]]


def fresh_book(form: BybitStream | BinanceStream) -> Watched:
    book = Watched(SYMBOL, Decimal("0.1"), Decimal("0.001"), source=form.source())
    reset(book, form)
    return book


def reset(book: Watched, form: BybitStream | BinanceStream) -> None:
    book.on_frame(form.snapshot(1_000, BIDS, ASKS, SENT_MS), 1)
    book.unusual = False


def grid_of(book: SymbolBook) -> tuple[Any, ...]:
    words = (layout.PRICE_DECIMALS, layout.QUANTITY_DECIMALS, layout.OVERFLOW_ROOM, layout.RING_MASK)
    return book.tick_size, book.lot_size, *(int(book._words[place]) for place in words)


def meaning(frame: bytes, form: BybitStream | BinanceStream) -> BookMessage:
    if isinstance(form, BybitStream):
        return read_bybit(frame)
    return read_binance_snapshot(frame, SYMBOL) if b'"lastUpdateId"' in frame else read_binance(frame)


def check_meaning(book: Watched, message: BookMessage, outcome: BookOutcome) -> None:
    """The book is what it was, changed by what the general parser read."""
    resets = message.is_snapshot or (bool(message.topic) and message.update_id == 1)
    assert resets == (outcome is BookOutcome.SNAPSHOT)
    sides = []
    for rows, changes in ((BIDS, message.bids), (ASKS, message.asks)):
        levels = {} if resets else {Decimal(price): Decimal(size) for price, size in rows}
        for price, size in changes:
            levels[price] = size
        sides.append({price: size for price, size in levels.items() if size})
    tick, lot = book.tick_size, book.lot_size
    for engine, expected in zip((book.bids(), book.asks()), sides, strict=True):
        assert {ticks * tick: lots * lot for ticks, lots in engine} == expected
    assert (book.update_id, book.sequence) == (message.update_id, message.sequence)
    assert book.venue_ns == message.venue_ms * 1_000_000
    assert int(book._words[layout.SENT_MS]) == message.sent_ms


@pytest.mark.parametrize("name", STREAMS)
def test_mutated_frames_never_crash_and_mean_the_same_to_both_parsers_or_are_refused(
    name: str, record_property: Callable[[str, object], None]
) -> None:
    form, rng = STREAMS[name], random.Random(f"{SEED}-{name}")
    frames, counts = base_frames(form), {"fast": 0, "general": 0, "refused": 0}
    book = fresh_book(form)
    usual = grid_of(book)
    before = (book.bids(), book.asks(), book.update_id)
    for _ in range(MUTATIONS // len(STREAMS)):
        frame = mutate(rng, rng.choice(frames), rng.choice(frames))
        book.unusual = False
        try:
            outcome = book.on_frame(frame, 2)
            if outcome is BookOutcome.REFUSED:
                counts["refused"] += 1
                assert (book.bids(), book.asks(), book.update_id) == before
            else:
                counts["general" if book.unusual else "fast"] += 1
                strict_json(frame)
                message = meaning(frame, form)
                if outcome <= BookOutcome.DELTA:
                    check_meaning(book, message, outcome)
        except Exception as error:
            raise AssertionError(f"{name}: {frame!r}: {type(error).__name__}: {error}") from error
        if grid_of(book) != usual:
            book = fresh_book(form)
        else:
            reset(book, form)
    record_property("frames", counts)
    assert min(counts.values()) > 0


def test_the_frames_that_are_mutated_are_valid_themselves() -> None:
    for form in STREAMS.values():
        for frame in base_frames(form):
            assert strict_json(frame) and fresh_book(form).on_frame(frame, 2) is not BookOutcome.REFUSED


@pytest.mark.parametrize("frame", [b'{"a":NaN}', b'{"a":1,"a":1}', b"[01]", b'{"a":"\x01"}', b"\xff", b"[" * 9_999])
def test_the_strict_parser_that_is_compared_with_is_strict(frame: bytes) -> None:
    with pytest.raises(NotJSON):
        strict_json(frame)


def test_compact_is_how_the_venues_write() -> None:
    assert compact({"b": [["1", "2"]]}) == b'{"b":[["1","2"]]}'
