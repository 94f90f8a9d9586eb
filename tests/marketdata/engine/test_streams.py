"""Whatever a stream brings, the book equals a dict after every message, or says why it is unusable."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from decimal import Decimal, localcontext

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketdata.engine.book import SymbolBook
from tests.marketdata.engine.dict_book import DictBook, engine_bands, engine_levels
from tests.marketdata.engine.streams import STREAMS, SYMBOL, Rows, StreamMaker

# The long run: BALLAST_STREAMS=200 makes so many streams of each form.
STREAMS_EACH = int(os.environ.get("BALLAST_STREAMS", "3"))
MESSAGES = 250


def compare(book: SymbolBook, expected: DictBook, outcome: str, expected_outcome: str) -> None:
    assert outcome == expected_outcome
    assert (book.state.name, book.update_id) == (expected.state, expected.update_id)
    levels = expected.levels()
    assert engine_levels(book) == levels
    assert book.level_counts() == (len(levels[0]), len(levels[1]))
    best = [side[0][0] if side else None for side in levels]
    ticks = (book.best_bid_ticks, book.best_ask_ticks)
    assert [None if tick is None else tick * book.tick_size for tick in ticks] == best
    assert engine_bands(book) == expected.bands(book.tick_size)


def play(form: str, number: int, messages: int) -> Iterator[SymbolBook]:
    """The book after each message of a made stream, compared with a dict."""
    seed = f"{form}-{number}"
    maker = StreamMaker(random.Random(seed).getrandbits(32), STREAMS[form])
    market = maker.market
    ring_size = random.Random(seed).choice([128, 512, 8_192])
    book = SymbolBook(SYMBOL, market.tick, market.lot, source=STREAMS[form].source(), ring_size=ring_size)
    expected = STREAMS[form].reference()
    with localcontext(prec=60):
        for count, frame in enumerate(maker.frames(messages)):
            expected_outcome = expected.apply(frame)
            outcome = book.on_frame(frame, count).name
            maker.lost = book.needs_snapshot
            try:
                compare(book, expected, outcome, expected_outcome)
            except AssertionError as error:
                raise AssertionError(f"seed {seed}, message {count}: {frame[:300]!r}: {book.state_reason}") from error
            yield book


@pytest.mark.parametrize("form", STREAMS)
@pytest.mark.parametrize("number", range(STREAMS_EACH))
def test_a_made_stream_gives_the_same_book_as_a_dict_after_every_message(form: str, number: int) -> None:
    assert sum(1 for _ in play(form, number, MESSAGES)) > MESSAGES * 0.9


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(STREAMS)), st.integers(0, 2**32))
def test_any_made_stream_gives_the_same_book_as_a_dict(form: str, number: int) -> None:
    assert sum(1 for _ in play(form, number, 40)) > 0  # play compares after every message


def test_thousands_of_levels_are_the_same_as_in_a_dict_while_the_price_runs_through_them() -> None:
    form, rng = STREAMS["binance-spot"], random.Random(5)
    book = SymbolBook(SYMBOL, Decimal("0.01"), Decimal("0.001"), source=form.source(), ring_size=1_024)
    expected = form.reference()
    levels: list[dict[int, int]] = [{99_999: 1_000}, {100_000: 1_000}]
    frames = [form.snapshot(10, *(texts(side) for side in levels))]
    price = 100_000
    for update in range(10, 50):
        price += rng.randint(-400, 400)
        changes = []
        for side, sign in enumerate((-1, 1)):
            passed = {ticks: 0 for ticks in levels[side] if (ticks - price) * sign <= 0}
            added = {price + sign * rng.randint(1, 6_000): rng.randint(1, 9_999) for _ in range(300)}
            changes.append(passed | added)
            levels[side] = {ticks: lots for ticks, lots in (levels[side] | changes[side]).items() if lots}
        frames.append(form.update(update, update + 1, *(texts(side) for side in changes)))
    for number, frame in enumerate(frames):
        expected_outcome = expected.apply(frame)
        compare(book, expected, book.on_frame(frame, number).name, expected_outcome)
    assert min(book.level_counts()) > 2_000


def texts(side: dict[int, int]) -> Rows:
    return [[f"{ticks / 100:.2f}", f"{lots / 1000:.3f}"] for ticks, lots in side.items()]
