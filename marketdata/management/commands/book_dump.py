from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
from django.core.management.base import CommandParser

from marketdata.engine.book import SymbolBook
from marketdata.feeds.book_replay import Replay
from marketdata.management.recording_command import RecordingCommand, require_books


class Command(RecordingCommand):
    help = "Replay a recording through the order-book engine: one JSON line after every book message, then a summary."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--format", choices=["jsonl"], default="jsonl")

    def lines(self, replay: Replay, frames: Any, options: dict[str, Any]) -> Iterator[str]:
        for step in replay.run(frames):
            yield orjson.dumps(book_row(step.book)).decode()
        require_books(replay, options)
        counts = replay.counts
        summary = {name: getattr(counts, name) for name in ("messages", "applied", "refused", "gaps", "resyncs")}
        yield orjson.dumps(summary).decode()


def book_row(book: SymbolBook) -> dict[str, Any]:
    """The book as it stands. Prices and sizes are decimal texts, None on an empty side."""
    bids, asks = book.ladder(1)
    bid, bid_size = bids[0] if bids else (None, None)
    ask, ask_size = asks[0] if asks else (None, None)
    levels_bid, levels_ask = book.level_counts()
    return {
        "symbol": book.symbol,
        "u": book.update_id,
        "bid": bid,
        "bid_size": bid_size,
        "ask": ask,
        "ask_size": ask_size,
        "levels_bid": levels_bid,
        "levels_ask": levels_ask,
        "state": book.state.name,
    }
