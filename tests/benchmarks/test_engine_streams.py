"""The engine's benchmark: its streams are valid, and whatever peers are installed end on the same best prices."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from benchmarks.engine import numpy_features, ours, peers, streams
from benchmarks.engine.streams import BTCUSDT, Stream
from marketdata.engine.book import SymbolBook
from marketdata.engine.process import Work
from marketdata.engine.sync import BookOutcome

MESSAGES = 400


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "CACHE", tmp_path)


@pytest.fixture
def bybit() -> Stream:
    return streams.stream("bybit", BTCUSDT, MESSAGES, 3)


def test_a_stream_is_the_same_every_time_and_from_the_cache(bybit: Stream) -> None:
    assert streams.stream("bybit", BTCUSDT, MESSAGES, 3).data == bybit.data
    assert b"".join(streams.write_bybit(BTCUSDT, MESSAGES, 3)) == bybit.data
    assert streams.stream("bybit", BTCUSDT, MESSAGES, 4).data != bybit.data


def test_bybit_frames_follow_each_other_and_show_at_most_200_levels_a_side(bybit: Stream) -> None:
    sides: tuple[dict[str, str], dict[str, str]] = ({}, {})
    for number, frame in enumerate(bybit.frames()):
        message = json.loads(frame)
        assert (message["type"] == "snapshot") == (number == 0)
        assert message["data"]["u"] == json.loads(bybit.frames(1)[0])["data"]["u"] + number
        for side, name in zip(sides, "ba", strict=True):
            for price, quantity in message["data"][name]:
                if quantity == "0":
                    del side[price]
                else:
                    side[price] = quantity
        assert [len(side) for side in sides] == [200, 200]
        assert max(map(float, sides[0])) < min(map(float, sides[1]))


@pytest.mark.parametrize("venue", ["bybit", "binance"])
def test_the_engine_takes_every_frame_in_batches_as_one_by_one(venue: str) -> None:
    stream = streams.stream(venue, BTCUSDT, MESSAGES, 5)
    book = ours.book_of(stream, venue)
    assert all(book.on_frame(frame, 1) is BookOutcome.DELTA for frame in stream.frames()[1:])
    assert ours.batched(stream, Work.FEATURES, venue=venue)() == ours.best_of(book)
    # Nothing was left to the general parser: batched() would have said so.


@pytest.mark.parametrize("peer", [*peers.BOOKS], ids=lambda peer: peer.distribution or "dict")
def test_a_peer_ends_on_the_same_best_prices(peer: peers.Peer, bybit: Stream) -> None:
    if not peer.version:
        pytest.skip(f"{peer.distribution} is not installed: it is one of requirements/bench.txt")
    best = peer.prepare(bybit.frames())()
    expected = ours.batched(bybit, Work.BOOK)()
    assert all(math.isclose(*pair) for pair in zip(best, expected, strict=True))


def test_every_feature_of_every_message_equals_a_computation_in_numpy(bybit: Stream) -> None:
    book, other = SymbolBook("BTCUSDT", *map(Decimal, ("0.10", "0.001"))), numpy_features.NumpyFeatures(0.1)
    for frame in bybit.frames():
        book.on_frame(frame, 1)
        np.testing.assert_allclose(book.features(), other.take(frame), 1e-9, 1e-9)
