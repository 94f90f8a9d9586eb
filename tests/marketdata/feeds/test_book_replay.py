"""Recordings through the production engine: every comparison with what the venues said themselves is equal."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import zstandard
from django.core.management import CommandError, call_command

from marketdata.engine.book import SymbolBook
from marketdata.engine.feature_table import FEATURES
from marketdata.engine.sync import BookOutcome, BookState
from marketdata.feeds import book_replay
from marketdata.feeds.book_replay import Replay
from marketdata.feeds.recorded import RecordedFrame, RecordingError, read_recording
from tests.marketdata.engine.dict_book import DictBook, engine_levels
from tests.marketdata.engine.streams import STREAMS
from tests.recordings import bybit_session, recording

RAW, SESSIONS = "binance-raw", "binance-sessions"
# Files, and how many updates have a bookTicker of the same id: in all, and of how many symbols.
ORACLES = {
    "spot": (RAW, ["spot_btcusdt_20240808.gz", "spot_btcusdt_20240809.gz"], 1_072, 1),
    "coin-m": (RAW, ["cm_btcusd_perp_20240808.gz", "cm_btcusd_perp_20240809.gz"], 1_885, 1),
    "usd-m btc": (RAW, ["usdm_btcusdt_20240808.gz"], 629, 1),
    "usd-m eth": (RAW, ["usdm_ethusdt_20240808.gz"], 551, 1),
    "coin-m 2021": (SESSIONS, ["coinm_2021-07-22.ws.zst"], 212, 10),
    "usd-m 2021-07": (SESSIONS, ["usdm_2021-07-22.ws.zst"], 50, 4),
    "usd-m 2021-04": (SESSIONS, ["usdm_2021-04-05.mixed.zst"], 215, 5),
    "spot 2021-10": (SESSIONS, ["spot_2021-10-12.ws.zst"], 26, 3),
    "spot 2021-04": (SESSIONS, ["spot_2021-04-05.mixed.zst"], 1_152, 10),
    "spot 2021-04, without tickers": (SESSIONS, ["spot_2021-04-04_btc-eth-dot.mixed.zst"], 0, 0),
    "us 2021-10": (SESSIONS, ["us_2021-10-12.ws.zst"], 56, 4),
    "us 2021-04": (SESSIONS, ["us_2021-04-05.mixed.zst"], 743, 10),
}
MOST_UNUSUAL = 3


class CountedBook(SymbolBook):
    """Counts the frames that the strict parser left to the general one."""

    unusual = 0

    def take_unusual(self, *arguments: Any) -> BookOutcome:
        self.unusual += 1
        return super().take_unusual(*arguments)


def tickers_seen(
    frames: Iterator[RecordedFrame], into: dict[tuple[str, int], list[Decimal]]
) -> Iterator[RecordedFrame]:
    for frame in frames:
        if b"@bookTicker" in frame.data[:64]:
            data = json.loads(frame.data)["data"]
            into[data["s"], data["u"]] = [Decimal(data[name]) for name in ("b", "B", "a", "A")]
        yield frame


@pytest.mark.recording
@pytest.mark.parametrize("name", ORACLES)
def test_the_top_of_the_book_equals_every_book_ticker_of_the_same_update(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, files, comparisons, symbols = ORACLES[name]
    monkeypatch.setattr(book_replay, "SymbolBook", CountedBook)
    playing, tickers, tops = Replay(), {}, {}
    for path in [recording(folder, file) for file in files]:
        for step in playing.run(tickers_seen(read_recording(path), tickers)):
            if step.book.state is BookState.LIVE:
                bids, asks = step.book.ladder(1)
                tops[step.book.symbol, step.book.update_id] = [Decimal(text) for text in bids[0] + asks[0]]
    both = tickers.keys() & tops.keys()
    assert (len(both), len({symbol for symbol, _ in both})) == (comparisons, symbols)
    assert [key for key in both if tickers[key] != tops[key]] == []
    counts = playing.counts
    assert (counts.gaps, counts.refused, counts.resyncs, playing.waiting) == (0, 0, 0, 0)
    # A first snapshot of coin-M, more decimals and finer steps than the first message showed; the rest is read fast.
    assert max(book.unusual for book in playing.books if isinstance(book, CountedBook)) <= MOST_UNUSUAL


@pytest.mark.recording
def test_the_bybit_session_equals_a_reconstruction_after_every_message_and_is_read_fast(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(book_replay, "SymbolBook", CountedBook)
    playing, expected = Replay(), {}
    for frame in read_recording(bybit_session()):
        for step in playing.take(frame):
            reference = expected.setdefault(id(step.book), DictBook("bybit", depth_limit=200))
            assert reference.apply(frame.data) == step.outcome.name
            assert engine_levels(step.book) == reference.levels()
            assert step.book.state is BookState.LIVE
    counts = playing.counts
    assert (counts.messages, counts.applied, counts.gaps, len(playing.books)) == (1_097, 1_097, 0, 3)
    assert sum(book.unusual for book in playing.books if isinstance(book, CountedBook)) == 0


@pytest.mark.recording
def test_a_stream_of_snapshots_alone_makes_live_books() -> None:
    playing = Replay()
    steps = list(playing.run(read_recording(recording("bybit-v5-level1", "BYBIT_2025-06-13_linear.ws.zst"))))
    assert len(steps) == playing.counts.applied == 198
    assert {book.state for book in playing.books} == {BookState.LIVE} and len(playing.books) == 4


# Sessions of a few messages, made here.

FORM = STREAMS["binance-futures-combined"]
BIDS, ASKS = [["100.0", "1"], ["99.9", "2"]], [["100.1", "3"]]
FIRST_NS = 1_723_161_255_000_000_000


def session(path: Path, frames: list[bytes]) -> Path:
    with gzip.open(path, "wb") as stream:
        for number, frame in enumerate(frames):
            stream.write(b"%d %s\n" % (FIRST_NS + number * 1_000_000, frame))
    return path


def dumped(command: str, *arguments: Any, **options: Any) -> list[dict[str, Any]]:
    out = io.StringIO()
    call_command(command, *arguments, stdout=out, **options)
    return [json.loads(line) for line in out.getvalue().splitlines()]


def binance_frames() -> list[bytes]:
    return [
        FORM.update(80, 90, [["50.0", "9"]], []),  # older than the snapshot
        FORM.update(95, 105, [["99.8", "4"]], []),  # bridges it
        FORM.update(105, 110, [["100.0", "2"]], []),
        FORM.snapshot(100, BIDS, ASKS),
        FORM.update(110, 120, [], [["100.1", "5"]]),
    ]


def test_updates_wait_for_their_snapshot_then_the_old_are_dropped_and_the_first_bridges(tmp_path: Path) -> None:
    *rows, summary = dumped("book_dump", session(tmp_path / "session.gz", binance_frames()))
    assert [(row["u"], row["state"]) for row in rows] == [
        (100, "SYNCING"),
        (100, "SYNCING"),
        (105, "LIVE"),
        (110, "LIVE"),
        (120, "LIVE"),
    ]
    assert rows[-1] == {
        "symbol": "BTCUSDT",
        "u": 120,
        "bid": "100.0",
        "bid_size": "2",
        "ask": "100.1",
        "ask_size": "5",
        "levels_bid": 3,
        "levels_ask": 1,
        "state": "LIVE",
    }
    assert summary == {"messages": 5, "applied": 4, "refused": 0, "gaps": 0, "resyncs": 0}


def test_a_gap_is_counted_and_the_next_snapshot_makes_the_book_live_again(tmp_path: Path) -> None:
    lost = [
        FORM.update(125, 130, [["99.0", "1"]], []),
        FORM.update(130, 140, [["99.1", "1"]], []),
        FORM.snapshot(135, BIDS, ASKS),
        FORM.update(140, 150, [["99.2", "1"]], []),
    ]
    *rows, summary = dumped("book_dump", session(tmp_path / "session.gz", binance_frames() + lost))
    assert (rows[-1]["u"], rows[-1]["state"], rows[-1]["levels_bid"]) == (150, "LIVE", 4)
    assert (summary["gaps"], summary["resyncs"]) == (1, 1)


def test_a_snapshot_that_nobody_needs_changes_nothing(tmp_path: Path) -> None:
    frames = [*binance_frames(), FORM.snapshot(112, [["1.0", "1"]], [["2.0", "1"]])]
    *rows, _ = dumped("book_dump", session(tmp_path / "session.gz", frames))
    assert (rows[-1]["u"], rows[-1]["state"]) == (120, "LIVE")


def test_features_are_dumped_with_the_trades_before_them(tmp_path: Path) -> None:
    trade = b'{"stream":"btcusdt@trade","data":{"e":"trade","E":1,"T":1786310818000,"s":"BTCUSDT","t":1,"p":"100.1",'
    trade += b'"q":"0.5","X":"MARKET","m":false}}'
    frames = binance_frames()
    path = session(tmp_path / "session.gz", [*frames[:4], trade, frames[4]])
    rows = dumped("features_dump", path)
    assert len(rows) == 4 and [row["bought_10s"] for row in rows[-2:]] == [0.0, 0.5]
    assert set(rows[0]) == {"symbol", "u", "venue_ms", "receive_ns", "state", *(spec.name for spec in FEATURES)}
    assert rows[-1]["return_60s"] is None and rows[-1]["reach_ask"] == "inf"
    out = io.StringIO()
    call_command("features_dump", path, stdout=out, format="csv")
    header, *lines = out.getvalue().splitlines()
    assert header.startswith("symbol,u,venue_ms") and len(lines) == 4
    assert {line.count(",") for line in lines} == {header.count(",")}


def zipped(content: bytes) -> bytes:
    """Without the time of day: the bytes are in the names of tests, which must be the same for every worker."""
    return gzip.compress(content, mtime=0)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"not compressed", "compressed neither with gzip nor with zstd"),
        (b"", "holds no order-book message"),
        (zipped(b"hello\n"), "line 1: expected a time and a frame"),
        (zipped(b'1723161255000000000 {"e":"depthUpdate"\n')[:30], "cannot be read"),
        (zipped(b'1723161255000000000 {"e":"dep'), "breaks off in the middle of a frame"),
        (zipped(b'1723161255000000000 {"id":1}\n'), "holds no order-book message"),
        (zstandard.compress(b'{"t":"recv","ts":"x"}\n'), "line 1: KeyError"),
    ],
)
@pytest.mark.parametrize("command", ["book_dump", "features_dump"])
def test_a_bad_file_is_refused_with_one_sentence(command: str, content: bytes, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.gz"
    path.write_bytes(content)
    with pytest.raises(CommandError, match=sentence) as refused:
        call_command(command, path, stdout=io.StringIO())
    assert refused.value.returncode == 2 and "\n" not in str(refused.value)


def test_a_missing_file_is_refused_with_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"nowhere\.gz cannot be read: .*No such file"):
        call_command("book_dump", tmp_path / "nowhere.gz", stdout=io.StringIO())


def test_answers_in_a_file_of_their_own_are_read_where_they_arrived(tmp_path: Path) -> None:
    frames = binance_frames()
    lines = b"".join(b"%d.5: %s\n" % (1_626_992_741 + n, frame) for n, frame in enumerate(frames) if n != 3)
    (tmp_path / "x.ws.zst").write_bytes(zstandard.compress(b"wss://venue/stream <-> 1626992740.1\n" + lines))
    answer = b"https://venue/depth?symbol=BTCUSDT&limit=1000 -> 1626992744.1: %s\n\n" % frames[3]
    (tmp_path / "x.http.zst").write_bytes(zstandard.compress(answer))
    kinds = [frame.kind for frame in read_recording(tmp_path / "x.ws.zst")]
    assert kinds == ["connect", "recv", "recv", "recv", "http", "recv"]
    assert dumped("book_dump", tmp_path / "x.ws.zst")[-1]["applied"] == 4


def test_a_line_without_its_parts_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.zst"
    path.write_bytes(zstandard.compress(b"1626992741.5: {}\n1626992742.5:\n"))
    with pytest.raises(RecordingError, match="line 2: no frame after its time"):
        list(read_recording(path))
