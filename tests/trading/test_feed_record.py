"""What ``feed_record`` writes of a venue, and that the same books come of it whoever reads it."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from marketdata.feeds.recorded import read_header, read_recording
from tests.processes import REPOSITORY, ServerProcess
from tests.trading.markets import Heard, rules
from trading.runtime.market_plane import MarketPlane
from trading.runtime.plane_replay import SilentFeed, grids, replay

pytestmark = pytest.mark.slow
SYMBOLS = ("BTCUSDT", "ETHUSDT")
VENUES = ("bybit", "binance-spot", "binance-usdm")


def recording(simulator: ServerProcess, folder: Path, venue: str, *arguments: str) -> subprocess.Popen[str]:
    command = ["manage.py", "feed_record", "--venue", venue, "--symbols", ",".join(SYMBOLS), "--dir", str(folder)]
    return subprocess.Popen(
        [sys.executable, *command, *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "SIMULATOR_URL": simulator.url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def files_of(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.jsonl.zst"))


def dumped(files: list[Path]) -> tuple[dict[str, Any], dict[str, int]]:
    """The last row of each book, and the summary."""
    out = io.StringIO()
    call_command("book_dump", *files, stdout=out)
    *rows, summary = map(json.loads, out.getvalue().splitlines())
    return {row["symbol"]: row for row in rows}, summary


def replayed(files: list[Path], venue: str) -> MarketPlane:
    """The plane that an engine would have, after the recording."""
    known = grids(read_header(files[0]))
    heard = Heard()
    plane = MarketPlane(
        [each for each in rules() if each.symbol in known],
        on_book=heard.book,
        on_trade=heard.trade,
        on_candle=heard.candle,
    )
    if venue == "bybit":
        plane.follow_bybit(SilentFeed("bybit linear"))
    else:
        plane.follow_binance(SilentFeed(venue.replace("-", " ")), SYMBOLS)
    replay(plane, (line for file in files for line in read_recording(file)))
    return plane


@pytest.fixture(scope="module")
def recorded(simulator: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, str]]:
    """Six seconds of each venue, at the same time: where, and what was said of it."""
    folders = {venue: tmp_path_factory.mktemp(venue) / "recorded" for venue in VENUES}
    running = {venue: recording(simulator, folder, venue, "--seconds", "6") for venue, folder in folders.items()}
    made = {}
    for venue, process in running.items():
        said, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        made[venue] = folders[venue], said
    return made


@pytest.mark.parametrize("venue", VENUES)
def test_a_recording_gives_the_same_books_to_book_dump_and_to_an_engine(
    venue: str, recorded: dict[str, tuple[Path, str]]
) -> None:
    folder, said = recorded[venue]
    assert " 0 lost" in said and said.rstrip().endswith("books at the end: 2 LIVE")
    files = files_of(folder)
    rows, summary = dumped(files)
    assert summary["gaps"] == summary["refused"] == 0 and summary["messages"] > 20
    (books,) = replayed(files, venue).venues.values()
    assert set(rows) == set(books.streams) == set(SYMBOLS)
    for symbol, stream in books.streams.items():
        (bid, bid_size), (ask, ask_size) = (side[0] for side in stream.book.ladder(1))
        row = rows[symbol]
        assert (row["u"], row["state"]) == (stream.book.update_id, "LIVE")
        ours = [bid, bid_size, ask, ask_size]
        assert [Decimal(row[name]) for name in ("bid", "bid_size", "ask", "ask_size")] == list(map(Decimal, ours))
        assert (row["levels_bid"], row["levels_ask"]) == stream.book.level_counts()


def test_bybits_trades_tickers_and_candles_are_recorded_too(recorded: dict[str, tuple[Path, str]]) -> None:
    folder, _ = recorded["bybit"]
    lines = [line for file in files_of(folder) for line in read_recording(file)]
    kinds = {
        line.data[10:].split(b".")[0] for line in lines if line.kind == "recv" and line.data.startswith(b'{"topic')
    }
    assert kinds >= {b"orderbook", b"publicTrade", b"tickers", b"kline"}
    assert {line.category for line in lines} == {"linear"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_whole_files(number: int, simulator: ServerProcess, tmp_path: Path) -> None:
    process = recording(simulator, tmp_path, "bybit", "--file-megabytes", "0.005")
    deadline = time.monotonic() + 60
    while len(files_of(tmp_path)) < 3:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)  # another process writes
    process.send_signal(number)
    said, errors = process.communicate(timeout=60)
    assert process.returncode == 0 and "Traceback" not in errors
    files = files_of(tmp_path)
    read = sum(1 for file in files for _ in read_recording(file))
    assert said.startswith(f"{read} lines, 0 lost, ") and f" in {len(files)} files of " in said
    assert dumped(files)[1]["gaps"] == 0


def refused(*arguments: str) -> str:
    with pytest.raises(CommandError) as error:
        call_command("feed_record", *arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_cannot_be_recorded_is_refused_with_one_sentence(
    simulator: ServerProcess, tmp_path: Path, settings: Any
) -> None:
    folder = ("--dir", str(tmp_path / "recorded"))
    settings.SIMULATOR_URL = simulator.url
    assert refused("--venue", "bybit", "--symbols", "BTCUSDT,NOSUCH", *folder) == (
        "bybit cannot be recorded: it does not list NOSUCH"
    )
    assert "does not list NOSUCH" in refused("--venue", "binance-usdm", "--symbols", "NOSUCH", *folder)
    assert "--venue" in refused("--venue", "kraken", "--symbols", "X", *folder)
    assert "names no symbol" in refused("--venue", "bybit", "--symbols", ",", *folder)
    assert "not a number above 0" in refused("--venue", "bybit", "--symbols", "X", "--seconds", "-1", *folder)
    blocked = tmp_path / "file"
    blocked.write_text("")
    message = refused("--venue", "bybit", "--symbols", "BTCUSDT", "--dir", str(blocked))
    assert message.startswith(f"{blocked} cannot be written to")
    settings.SIMULATOR_URL = "http://127.0.0.1:1"
    assert "bybit cannot be recorded: /v5/market/instruments-info" in refused(
        "--venue", "bybit", "--symbols", "X", *folder
    )
    assert not (tmp_path / "recorded").exists()
