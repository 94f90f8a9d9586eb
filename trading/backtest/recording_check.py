"""What is wrong with a recording, line by line, before anything is tested on it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from marketdata.engine.sync import BookOutcome, BookState
from marketdata.feeds.book_replay import BookStep, Replay
from marketdata.feeds.recorded import RecordedFrame
from trading.backtest.recording_lines import lines_of

NS = 1_000_000
CLOCK_SLACK_NS = 1_000 * NS
SHOWN = 10


@dataclass(frozen=True, slots=True)
class RecordingFinding:
    """``line`` counts what the recording holds from 1, without its header."""

    line: int
    words: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.words}"


def check_recording(path: Path, symbols: Collection[str], category: str) -> list[RecordingFinding]:
    """Everything that breaks the books of these symbols: gaps, refused and crossed messages, holes of the recorder, and
    a clock that goes back.

    Raises:
        BacktestError: it cannot be read.
    """
    found: list[RecordingFinding] = []
    replay, last_ns, unreadable = Replay(category=category), 0, 0
    broken: set[str] = set()
    for number, frame in enumerate(lines_of(path), start=1):
        words = [*_of_line(frame, symbols, last_ns)]
        last_ns = max(last_ns, frame.receive_ns)
        for step in replay.take(frame):
            if step.book.symbol in symbols:
                words += _of_book(step, broken)
        if replay.counts.unreadable_trades > unreadable:
            unreadable = replay.counts.unreadable_trades
            words.append("trades that cannot be read")
        found += [RecordingFinding(number, each) for each in words]
    return found


def words_of(path: Path, found: list[RecordingFinding]) -> str:
    more = f"\n… and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    lines = "\n".join(str(each) for each in found[:SHOWN])
    return f"{path.name} has holes or errors (accept_gaps tests on it all the same):\n{lines}{more}"


def _of_line(frame: RecordedFrame, symbols: Collection[str], last_ns: int) -> Iterator[str]:
    if frame.receive_ns < last_ns - CLOCK_SLACK_NS:
        yield f"its clock goes back by {(last_ns - frame.receive_ns) / NS:.0f} ms"
    if frame.kind == "lost":
        yield f"the recorder lost {orjson.loads(frame.data)['lost']} lines here"
    elif frame.kind == "mark":
        told = orjson.loads(frame.data)
        if told.get("symbol") in symbols:
            yield f"the book of {told['symbol']} was {told['mark']}: {told['reason']}"


def _of_book(step: BookStep, broken: set[str]) -> Iterator[str]:
    book = step.book
    is_broken, was_broken = book.state is BookState.BROKEN, book.symbol in broken
    if step.outcome in (BookOutcome.GAP, BookOutcome.REFUSED) or (is_broken and not was_broken):
        yield f"{book.symbol}: {book.state_reason}"
    if is_broken:
        broken.add(book.symbol)
    else:
        broken.discard(book.symbol)
