"""Whatever a stream brings, the book equals a dict after every message, or says why it is unusable."""

from __future__ import annotations

import os
import random
from decimal import localcontext

import pytest

from marketdata.engine.book import SymbolBook
from tests.marketdata.engine.dict_book import DictBook, engine_bands, engine_levels
from tests.marketdata.engine.streams import STREAMS, SYMBOL, StreamMaker

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


@pytest.mark.parametrize("form", STREAMS)
@pytest.mark.parametrize("number", range(STREAMS_EACH))
def test_a_made_stream_gives_the_same_book_as_a_dict_after_every_message(form: str, number: int) -> None:
    seed = f"{form}-{number}"
    maker = StreamMaker(random.Random(seed).getrandbits(32), STREAMS[form])
    market = maker.market
    ring_size = random.Random(seed).choice([128, 512, 8_192])
    book = SymbolBook(SYMBOL, market.tick, market.lot, source=STREAMS[form].source(), ring_size=ring_size)
    expected = STREAMS[form].reference()
    with localcontext(prec=60):
        for count, frame in enumerate(maker.frames(MESSAGES)):
            expected_outcome = expected.apply(frame)
            outcome = book.on_frame(frame, count).name
            maker.lost = book.needs_snapshot
            try:
                compare(book, expected, outcome, expected_outcome)
            except AssertionError as error:
                raise AssertionError(f"seed {seed}, message {count}: {frame[:300]!r}: {book.state_reason}") from error
