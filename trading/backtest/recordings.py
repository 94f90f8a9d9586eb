"""Recordings as files: which there are, what each holds, and one ready to be tested on."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson

from marketdata.feeds.recorded import HTTP, RECEIVED, RecordedFrame, RecordingError, read_header, read_recording
from marketdata.feeds.recorder import INDEX_SUFFIX, SUFFIX
from marketdata.instruments import InstrumentError, InstrumentRules, rules_from_bybit
from trading.backtest.errors import BacktestError
from trading.backtest.feed_files import recorded_feed
from trading.backtest.recorded_run import Recorded
from trading.backtest.request import BacktestRequest
from trading.runtime.market_plane import REFERENCE_SYMBOL
from trading.simulator.instruments import Grids

LINEAR = "linear"
NS = 1_000_000
LISTING = "instruments-info"
SYMBOL_OF_BOOK = re.compile(rb'"topic":"orderbook\.[0-9]+\.([A-Z0-9]{2,32})"')
TOPIC_WITHIN = 64


@dataclass(frozen=True, slots=True)
class RecordingFile:
    """``first_ms`` and ``last_ms``: when its first and last line came, None where it has no index; ``symbols``: those
    that its header names."""

    name: str
    bytes: int
    first_ms: int | None
    last_ms: int | None
    symbols: tuple[str, ...]


def recordings_in(folder: Path) -> list[RecordingFile]:
    """The recordings of a folder, by name."""
    if not folder.is_dir():
        return []
    return [_described(folder, path) for path in sorted(folder.rglob("*.zst")) if path.is_file()]


def _described(folder: Path, path: Path) -> RecordingFile:
    rows = _index_of(path)
    try:
        symbols = tuple(sorted(read_header(path).get("grids", {})))
    except RecordingError:
        symbols = ()
    return RecordingFile(
        name=path.relative_to(folder).as_posix(),
        bytes=path.stat().st_size,
        first_ms=rows[0]["first_ns"] // NS if rows else None,
        last_ms=rows[-1]["last_ns"] // NS if rows else None,
        symbols=symbols,
    )


def _index_of(path: Path) -> list[dict[str, Any]]:
    index = path.with_name(path.name.removesuffix(SUFFIX) + INDEX_SUFFIX)
    if index == path or not index.is_file():
        return []
    return [orjson.loads(line) for line in index.read_bytes().splitlines() if line.endswith(b"}")]


def recording_at(folder: Path, name: str) -> Path:
    """A recording of the folder by its name.

    Raises:
        BacktestError: there is none; nothing outside of the folder is looked at.
    """
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        raise BacktestError(f"there is no recording {name!r} here")
    return path


def span_of(path: Path) -> tuple[int, int]:
    """When its first and last line came, ns.

    Raises:
        BacktestError: it cannot be read, or holds nothing.
    """
    first = last = 0
    for frame in lines_of(path):
        first, last = first or frame.receive_ns, frame.receive_ns
    if not first:
        raise BacktestError(f"{path.name} holds nothing")
    return first, last


def lines_of(path: Path) -> Iterator[RecordedFrame]:
    """
    Raises:
        BacktestError: it cannot be read; with its line.
    """
    try:
        yield from read_recording(path)
    except RecordingError as error:
        raise BacktestError(str(error)) from None


def listed_in(path: Path) -> dict[str, InstrumentRules]:
    """The listings that a recording begins with, where it has them."""
    found: dict[str, InstrumentRules] = {}
    for frame in lines_of(path):
        if frame.kind == HTTP and frame.url and LISTING in frame.url and frame.category == LINEAR:
            found |= _rules_in(frame)
        elif frame.kind == RECEIVED and SYMBOL_OF_BOOK.search(frame.data, 0, TOPIC_WITHIN):
            break
    return found


def _rules_in(frame: RecordedFrame) -> dict[str, InstrumentRules]:
    found = {}
    for row in orjson.loads(frame.data)["result"]["list"]:
        try:
            rules = rules_from_bybit(row, LINEAR)
        except InstrumentError:
            continue
        found[rules.symbol] = rules
    return found


def recorded_of(request: BacktestRequest, path: Path, rules: Mapping[str, InstrumentRules]) -> Recorded:
    """A recording, read and ready. ``rules``: of all symbols that may be in it.

    Raises:
        BacktestError: it cannot be read, or does not hold what is asked for.
    """
    missing = [symbol for symbol in request.symbols if symbol not in rules]
    if missing:
        raise BacktestError(f"{', '.join(missing)}: no listing; import it (start an engine once), or give the listing")
    feeds = {symbol: recorded_feed(path, symbol, _grids(rules[symbol]), category=LINEAR) for symbol in request.symbols}
    followed: Sequence[str] = request.symbols
    if REFERENCE_SYMBOL in rules and REFERENCE_SYMBOL not in request.symbols:
        followed = (*followed, REFERENCE_SYMBOL)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Recorded(
        lines=lambda: lines_of(path),
        feeds=feeds,
        names=((path.name, digest),),
        rules={symbol: rules[symbol] for symbol in followed},
    )


def _grids(rules: InstrumentRules) -> Grids:
    return Grids.of(Decimal(rules.tick_size), Decimal(rules.lot_size))
