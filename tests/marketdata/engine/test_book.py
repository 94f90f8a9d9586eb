"""The book equals an independent reconstruction after every message, or says that it is unusable."""

from __future__ import annotations

import ctypes
import json
import os
import random
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketdata.engine.book import SymbolBook
from marketdata.engine.memory import BYTES_LENGTH, BYTES_TEXT
from marketdata.engine.sync import BookOutcome, BookState
from marketdata.feeds.recorded import read_recording
from tests.builders import book_frame
from tests.recordings import bybit_session

GRIDS = {
    ("linear", "BTCUSDT"): ("0.1", "0.001"),
    ("linear", "SOLUSDT"): ("0.01", "0.1"),
    ("spot", "BTCUSDT"): ("0.1", "0.000001"),
}


class DictBook:
    """The same book by the plainest means: two dicts and json."""

    def __init__(self) -> None:
        self.bids: dict[Decimal, Decimal] = {}
        self.asks: dict[Decimal, Decimal] = {}

    def apply(self, frame: bytes) -> None:
        message = json.loads(frame)
        if message["type"] == "snapshot":
            self.bids, self.asks = {}, {}
        for side, name in ((self.bids, "b"), (self.asks, "a")):
            for price, quantity in message["data"][name]:
                side[Decimal(price)] = Decimal(quantity)
                if Decimal(quantity) == 0:
                    del side[Decimal(price)]

    def levels(self) -> tuple[list[tuple[Decimal, Decimal]], list[tuple[Decimal, Decimal]]]:
        return sorted(self.bids.items(), reverse=True), sorted(self.asks.items())


def levels_of(book: SymbolBook, tick: str, lot: str) -> tuple[list, list]:
    def values(levels: list[tuple[int, int]]) -> list[tuple[Decimal, Decimal]]:
        return [(Decimal(tick) * ticks, Decimal(lot) * lots) for ticks, lots in levels]

    return values(book.bids()), values(book.asks())


def new_book() -> SymbolBook:
    return SymbolBook("BTCUSDT", Decimal("0.1"), Decimal("0.001"), 200)


def live_book() -> SymbolBook:
    book = new_book()
    book.on_frame(book_frame("snapshot", 10, [["100.0", "1"], ["99.9", "2"]], [["100.1", "3"]]), 1)
    return book


@pytest.mark.recording
def test_on_the_recorded_session_the_book_equals_a_reconstruction_after_every_message() -> None:
    books = {key: SymbolBook(key[1], Decimal(tick), Decimal(lot), 200) for key, (tick, lot) in GRIDS.items()}
    expected = {key: DictBook() for key in GRIDS}
    messages = mismatches = 0
    for frame in read_recording(bybit_session()):
        if frame.kind != "recv" or b'"topic":"orderbook' not in frame.data:
            continue
        key = (str(frame.category), json.loads(frame.data)["data"]["s"])
        outcome = books[key].on_frame(frame.data, frame.receive_ns)
        expected[key].apply(frame.data)
        messages += 1
        exact = levels_of(books[key], *GRIDS[key]) == expected[key].levels()
        if outcome > BookOutcome.DELTA or books[key].state is not BookState.LIVE or not exact:
            mismatches += 1
    assert (messages, mismatches) == (1097, 0)


PRICES = st.integers(1, 400)
CHANGES = st.lists(st.tuples(PRICES, st.integers(0, 5)), max_size=8)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["delta"] * 6 + ["snapshot"]), CHANGES, CHANGES), min_size=1, max_size=25))
def test_any_valid_stream_gives_the_same_book_as_a_dict(stream: list) -> None:
    book, expected, update_id = new_book(), DictBook(), 0
    for number, (kind, bids, asks) in enumerate(stream):
        kind = "snapshot" if number == 0 else kind
        update_id += 1 if update_id else 5
        # Bids stay below 1000 ticks and asks above, some very far away, so that the book is never crossed.
        bid_rows = [[f"{tick / 10:.1f}", str(size)] for tick, size in dict(bids).items()]
        ask_rows = [[f"{(1000 + tick**4) / 10:.1f}", str(size)] for tick, size in dict(asks).items()]
        frame = book_frame(kind, update_id, bid_rows, ask_rows)
        expected_state = book.state
        outcome = book.on_frame(frame, number)
        if kind == "delta" and expected_state is BookState.BROKEN:
            assert outcome is BookOutcome.IGNORED
            return
        clean = json.loads(frame)
        if clean["type"] == "snapshot":
            expected.bids, expected.asks = {}, {}
        for side, name in ((expected.bids, "b"), (expected.asks, "a")):
            for price, size in clean["data"][name]:
                side[Decimal(price)] = Decimal(size)
                if Decimal(size) == 0:
                    del side[Decimal(price)]
        assert levels_of(book, "0.1", "0.001") == expected.levels()


@pytest.mark.parametrize("frame", [b"", b"x", book_frame("delta", 11, [["99.8", "1"]], [])])
def test_a_frame_lies_in_memory_where_the_kernels_read_it(frame: bytes) -> None:
    # take_frame is given the id of a bytes object: another Python may lay one out in another way.
    length = ctypes.c_ssize_t.from_address(id(frame) + 8 * BYTES_LENGTH).value
    assert ctypes.string_at(id(frame) + BYTES_TEXT, length) == frame


def test_a_gap_makes_the_book_wait_for_a_snapshot() -> None:
    book = live_book()
    assert book.on_frame(book_frame("delta", 12, [["99.8", "1"]], []), 2) is BookOutcome.GAP
    assert (book.state, book.state_reason) == (BookState.SYNCING, "gap: update 12 after 10")
    assert book.on_frame(book_frame("delta", 13, [["99.7", "1"]], []), 3) is BookOutcome.IGNORED
    assert book.on_frame(book_frame("snapshot", 20, [["50.0", "1"]], [["51.0", "1"]]), 4) is BookOutcome.SNAPSHOT
    assert book.state is BookState.LIVE and book.bids() == [(500, 1000)]


def test_a_repeated_update_changes_nothing() -> None:
    book = live_book()
    before = (book.bids(), book.asks())
    assert book.on_frame(book_frame("delta", 10, [["99.9", "0"]], []), 2) is BookOutcome.IGNORED
    assert (book.bids(), book.asks()) == before


def test_update_one_is_a_snapshot_after_a_restart_of_the_service() -> None:
    book = live_book()
    assert book.on_frame(book_frame("delta", 1, [["90.0", "1"]], [["91.0", "1"]]), 2) is BookOutcome.SNAPSHOT
    assert book.bids() == [(900, 1000)]


def test_a_crossed_book_is_broken_until_a_snapshot() -> None:
    book = live_book()
    book.on_frame(book_frame("delta", 11, [["100.2", "1"]], []), 2)
    assert book.state is BookState.BROKEN
    assert book.on_frame(book_frame("delta", 12, [["100.2", "0"]], []), 3) is BookOutcome.IGNORED
    book.on_frame(book_frame("snapshot", 30, [["100.0", "1"]], [["100.1", "1"]]), 4)
    assert book.state is BookState.LIVE


def test_silence_makes_a_book_stale_and_the_next_update_proves_it_again() -> None:
    book = live_book()
    book.mark_stale("no update for 5 s")
    assert book.state is BookState.STALE
    book.on_frame(book_frame("delta", 11, [["99.8", "1"]], []), 2)
    assert book.state is BookState.LIVE


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"{", "not an order-book frame"),
        (book_frame("delta", 11, [["100.0", "9" * 18]], []), "too large"),
        (book_frame("delta", 11, [["0." + 17 * "0" + "1", "1"]], []), "too fine"),
        (book_frame("delta", 11, [["-1.0", "1"]], []), "not a plain number"),
        (book_frame("delta", 11, [["1e2", "1"]], []), "not a plain number"),
        (book_frame("delta", 11, [["0.0", "1"]], []), "price 0"),
        (book_frame("other", 11, [], []), "expected snapshot or delta"),
        (book_frame("delta", 11, [], [], symbol="ETHUSDT"), "this is the book of BTCUSDT"),
    ],
)
def test_a_frame_that_cannot_be_believed_is_refused_and_leaves_every_level(frame: bytes, reason: str) -> None:
    book = live_book()
    before = (book.bids(), book.asks(), book.update_id)
    assert book.on_frame(frame, 2) is BookOutcome.REFUSED
    assert (book.bids(), book.asks(), book.update_id) == before
    assert reason in book.state_reason and book.state is BookState.SYNCING


def test_a_price_or_a_quantity_between_two_steps_makes_the_grid_finer() -> None:
    book = live_book()
    assert book.on_frame(book_frame("delta", 11, [["100.05", "1"]], [["100.1", "0.0005"]]), 2) is BookOutcome.DELTA
    assert (book.tick_size, book.lot_size) == (Decimal("0.05"), Decimal("0.0005"))
    assert book.ladder(3) == (
        [["100.05", "1.0000"], ["100.00", "1.0000"], ["99.90", "2.0000"]],
        [["100.10", "0.0005"]],
    )
    book.on_frame(book_frame("delta", 12, [["100.05", "0"]], []), 3)
    assert book.ladder(1)[0] == [["100.00", "1.0000"]]


def test_mutated_frames_never_crash_and_are_never_accepted_when_they_are_not_json() -> None:
    rng = random.Random(11)
    frame = book_frame("delta", 11, [["99.8", "1.5"], ["99.7", "0"]], [["100.2", "2"]])
    accepted = 0
    for _ in range(4_000):
        mutated = bytearray(frame)
        for _ in range(rng.randint(1, 3)):
            mutated[rng.randrange(len(mutated))] = rng.randrange(256)
        book = live_book()
        if book.on_frame(bytes(mutated), 2) is BookOutcome.DELTA:
            accepted += 1
            json.loads(bytes(mutated).decode())
    assert accepted < 4_000


def test_levels_beyond_the_first_capacity_are_all_kept() -> None:
    book = new_book()
    bids = [[f"{tick / 10:.1f}", "1"] for tick in range(1, 3_000)]
    book.on_frame(book_frame("snapshot", 5, bids, [["900.0", "1"]]), 1)
    assert len(book.bids()) == 2_999 and book.best_bid_ticks == 2_999


EXACTNESS = """
import hashlib
import sys
from tests.marketdata.engine.streams import STREAMS
from tests.marketdata.engine.test_streams import play
digest, messages = hashlib.sha256(), 0
for form in STREAMS:
    for number in range(5):
        for book in play(form, number, 100):
            digest.update(book.features().tobytes())
            messages += 1
sys.stdout.write(f"{messages} {digest.hexdigest()}")
"""


@pytest.mark.long
def test_kernels_are_exact_with_a_cold_and_with_a_warm_compile_cache(tmp_path: Path) -> None:
    # An unbounded loop once ran when freshly compiled and failed when loaded from the cache.
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    outputs = [
        subprocess.run(
            [sys.executable, "-c", EXACTNESS], env=environment, check=True, capture_output=True, text=True
        ).stdout
        for _ in ("cold", "warm")
    ]
    # Each message was compared with a dict; the features are the same to the last bit.
    assert outputs[0] == outputs[1]
    assert int(outputs[0].split()[0]) > 3_500
