"""Where a book could be wrong without a sound: sizes, limits and moments that no ordinary stream shows."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest

from marketdata.engine import sources
from marketdata.engine.batch import FrameBatch
from marketdata.engine.book import SymbolBook
from marketdata.engine.feature_table import feature_index
from marketdata.engine.process import Work
from marketdata.engine.scratch import CHANGES_ROOM
from marketdata.engine.sync import BookOutcome, BookState
from tests.builders import book_frame
from tests.marketdata.engine.dict_book import engine_bands, engine_levels
from tests.marketdata.engine.streams import STREAMS, SYMBOL, BybitStream, Rows

BIDS, ASKS = [["100.0", "1"], ["99.9", "2"]], [["100.1", "3"], ["100.2", "1"]]


def new_book(tick: str = "0.1", lot: str = "0.001", form: str = "bybit-linear") -> SymbolBook:
    return SymbolBook(SYMBOL, Decimal(tick), Decimal(lot), source=STREAMS[form].source())


def live_book(tick: str = "0.1", lot: str = "0.001") -> SymbolBook:
    book = new_book(tick, lot)
    book.on_frame(BybitStream().snapshot(10, BIDS, ASKS, 10_000), 1)
    return book


def take_all(book: SymbolBook, frames: list[bytes], work: Work) -> list[BookOutcome]:
    batch = FrameBatch(len(frames), work)
    assert all(batch.add(book, frame, 1) for frame in frames)
    return [outcome for _, outcome in batch.take()]


def rows(first: int, number: int, size: str = "1") -> Rows:
    return [[f"{tick / 10:.1f}", size] for tick in range(first, first + number)]


def test_a_book_with_more_levels_than_a_message_can_carry_keeps_them_all() -> None:
    book, form, number = new_book(form="binance-spot"), STREAMS["binance-spot"], 1_000
    book.on_frame(form.snapshot(10, [["9000.0", "5"]], [["9000.1", "5"]]), 1)
    added = 0
    for update in range(70):
        bids = rows(1 + update * number, number) if update < 40 else []
        asks = [] if update < 40 else rows(100_000 + update * number, number, "2")
        added += number
        book.on_frame(form.update(10 + update, 11 + update, bids, asks), 2)
    assert added > 2 * CHANGES_ROOM
    bids, asks = book.bids(), book.asks()
    assert [tick for tick, _ in bids] == [90_000, *range(40_000, 0, -1)]
    assert [tick for tick, _ in asks] == [90_001, *range(140_000, 170_000)]
    assert {lots for _, lots in bids[1:]} == {1_000} and {lots for _, lots in asks[1:]} == {2_000}
    book.on_frame(form.update(80, 81, [["8999.95", "1"]], []), 3)
    assert book.tick_size == Decimal("0.05") and book.level_counts() == (40_002, 30_001)


@pytest.mark.parametrize("levels", [[["0.000000000000000001", "1"], ["100000000000", "1"]], [["9" * 18, "9" * 18]]])
def test_numbers_of_any_length_are_refused_and_never_an_error(levels: Rows) -> None:
    book = live_book("0.000000000001", "0.000000000001")
    assert book.on_frame(book_frame("delta", 11, levels, []), 2) is BookOutcome.REFUSED
    assert "too large" in book.state_reason


@pytest.mark.parametrize("update_id", [10**18, 2**63, 2**64, 10**30])
def test_an_update_id_of_more_than_eighteen_digits_is_refused(update_id: int) -> None:
    book = live_book()
    assert book.on_frame(book_frame("delta", 11, [], []).replace(b'"u":11', b'"u":%d' % update_id), 2) == 4


def test_a_price_without_its_dot_is_not_taken_for_a_small_one() -> None:
    # 18446745 * 10**12 is a little above 2**64.
    book = new_book("0.000000000001")
    book.on_frame(BybitStream().snapshot(10, [["0.9", "1"]], [["1.0", "1"]]), 1)
    assert book.on_frame(book_frame("delta", 11, [["18446745", "1"]], []), 2) is BookOutcome.REFUSED


def test_a_price_beyond_every_other_is_refused_by_the_fast_parser_too() -> None:
    book = new_book("0.00000001", "1")
    book.on_frame(BybitStream().snapshot(10, [["0.9", "1"]], [["1.0", "1"]]), 1)
    assert book.on_frame(book_frame("delta", 11, [], [["99999999.0", "1"]]), 2) is BookOutcome.REFUSED
    assert "too large" in book.state_reason


def test_a_name_twice_in_one_object_is_refused() -> None:
    book = live_book()
    frame = book_frame("delta", 11, [["99.8", "1"]], []).replace(b'"u":11', b'"u":12,"u":11')
    assert book.on_frame(frame, 2) is BookOutcome.REFUSED
    assert "appears twice" in book.state_reason


def test_a_frame_of_another_depth_is_refused() -> None:
    book = live_book()
    frame = book_frame("snapshot", 11, [["99.8", "1"]], [["101.0", "1"]]).replace(b"orderbook.200.", b"orderbook.1.")
    assert book.on_frame(frame, 2) is BookOutcome.REFUSED
    assert "topic is orderbook.1.BTCUSDT" in book.state_reason


def test_a_frame_of_more_bytes_than_any_buffer_is_refused() -> None:
    book = live_book()
    assert book.on_frame(memoryview(bytes((1 << 26) + 1)), 2) is BookOutcome.REFUSED
    assert book.state is BookState.SYNCING


@pytest.mark.parametrize(
    ("name", "frame"),
    [
        ("binance-spot", b'{"lastUpdateId":0,"bids":[["1.0","1"]],"asks":[["2.0","1"]]}'),
        ("binance-spot", b'{"e":"depthUpdate","E":1,"s":"BTCUSDT","U":0,"u":5,"b":[],"a":[]}'),
    ],
)
def test_update_ids_of_zero_are_refused(name: str, frame: bytes) -> None:
    assert new_book(form=name).on_frame(frame, 1) is BookOutcome.REFUSED


def test_a_time_of_zero_is_the_time_of_sending() -> None:
    book, form = new_book(form="binance-futures"), STREAMS["binance-futures"]
    book.on_frame(form.snapshot(10, BIDS, ASKS), 1)
    frame = form.update(10, 14, [["99.0", "1"]], [], 5_000).replace(b'"T":4997', b'"T":0')
    assert book.on_frame(frame, 2) is BookOutcome.DELTA
    assert book.venue_ns == 5_000_000_000


def test_bands_are_right_after_messages_that_were_taken_without_them() -> None:
    book, form = live_book(), BybitStream()
    book.bands()
    take_all(book, [form.update(10, 11, [["99.8", "50"]], [])], Work.BOOK)
    take_all(book, [form.update(11, 12, [["99.7", "7"]], [])], Work.FEATURES)
    assert engine_bands(book)[0][2] == Decimal("60")


def test_many_messages_cannot_carry_a_sum_beyond_an_integer() -> None:
    book, form = new_book("0.00000001", "0.00000001"), BybitStream()
    book.on_frame(form.snapshot(10, [["0.5", "1"]], [["0.6", "1"]]), 1)
    for update in range(11, 99):
        book.on_frame(form.update(update - 1, update, [[f"0.4{update}", "9"]], []), 2)
        if book.state is not BookState.LIVE:
            break
    assert (book.state, book.state_reason) == (BookState.BROKEN, "its sums are too large for its steps")
    total = sum(price * size for price, size in engine_levels(book)[0])
    assert engine_bands(book)[5][3] == total


def test_a_price_that_left_the_snapshot_behind_is_known_no_further() -> None:
    book = SymbolBook(SYMBOL, Decimal("0.1"), Decimal("0.001"), source=sources.binance_spot(SYMBOL, snapshot_limit=2))
    form = STREAMS["binance-spot"]
    book.on_frame(form.snapshot(10, BIDS, ASKS), 1)
    book.on_frame(form.update(10, 11, [["100.0", "0"], ["99.9", "0"], ["98.0", "1"]], [["98.1", "1"]]), 2)
    assert book.features()[feature_index("reach_bid")] == 0.0
    assert book.features()[feature_index("reach_ask")] == pytest.approx((100.2 - 98.1) / 98.1)


def test_a_trade_between_two_steps_makes_the_grid_finer() -> None:
    book = live_book()
    book.on_trade(11_000_000_000, Decimal("100.05"), Decimal("0.0005"), "Buy")
    assert (book.tick_size, book.lot_size) == (Decimal("0.05"), Decimal("0.0005"))
    book.on_frame(BybitStream().update(10, 11, [["99.0", "1"]], [], 11_500), 2)
    assert book.features()[feature_index("bought_10s")] == pytest.approx(0.0005)
    assert book.features()[feature_index("trade_vwap_60s")] == pytest.approx(100.05)


def test_a_trade_that_cannot_be_is_left_out() -> None:
    book = live_book()
    book.on_trade(1_000_000_000, Decimal("1e30"), Decimal("1e-30"), "Buy")
    assert book.tick_size == Decimal("0.1")


def test_features_do_not_depend_on_how_frames_are_batched() -> None:
    form = BybitStream()
    far = [[f"{price}.0", "1"] for price in range(9_000, 9_100)]
    frames = [form.snapshot(10, [["10000.0", "1"], *far], [["10000.1", "1"]], 10_000)]
    for update in range(11, 60):
        size = "0" if update % 3 == 0 else "1"
        frames.append(form.update(update - 1, update, [["9050.5", size], ["9999.0", size]], [], 100 * update + 10_000))
    alone, together = new_book(), new_book()
    batch = FrameBatch(len(frames))
    assert all(batch.add(together, frame, 1) for frame in frames)
    for (place, _), frame in zip(batch.take(), frames, strict=True):
        alone.on_frame(frame, 1)
        np.testing.assert_array_equal(batch.rows[place], alone.features())
    assert alone.features()[feature_index("lifetime_bid_60s")] > 0


def test_levels_that_a_book_has_seen_appear_keep_their_age_when_its_grid_gets_finer() -> None:
    book, form = live_book(), BybitStream()
    book.on_frame(form.update(10, 11, [["99.0", "1"]], [], 20_000), 2)
    book.on_frame(form.update(11, 12, [["99.05", "1"]], [], 21_000), 2)
    book.on_frame(form.update(12, 13, [["99.0", "0"]], [], 23_000), 2)
    assert book.features()[feature_index("lifetime_bid_60s")] == pytest.approx(3.0)


def test_a_level_that_appears_and_vanishes_in_one_millisecond_has_lived_no_time() -> None:
    book, form = live_book(), BybitStream()
    book.on_frame(form.update(10, 11, [["99.0", "1"]], [], 20_003), 2)
    book.on_frame(form.update(11, 12, [["99.0", "0"]], [], 20_003), 2)
    assert book.features()[feature_index("lifetime_bid_60s")] == 0.0


def test_a_young_book_does_not_call_its_first_trade_toxic() -> None:
    book, form = live_book(), BybitStream()
    book.on_trade(20_000_000_000, Decimal(100), Decimal(5), "Buy")
    book.on_frame(form.update(10, 11, [["99.0", "1"]], [], 20_500), 2)
    assert np.isnan(book.features()[feature_index("toxicity")])
