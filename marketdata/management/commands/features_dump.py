from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from typing import Any

import orjson
from django.core.management.base import CommandParser

from marketdata.engine.feature_table import FEATURES
from marketdata.engine.sync import BookOutcome
from marketdata.feeds.book_replay import Replay
from marketdata.management.recording_command import RecordingCommand, require_books

NAMES = [spec.name for spec in FEATURES]
COLUMNS = ["symbol", "u", "venue_ms", "receive_ns", "state", *NAMES]


class Command(RecordingCommand):
    help = (
        "Replay a recording, its trades too, through the order-book engine: the features after every message that was "
        "applied. What is not known is null (an empty field in CSV)."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--format", choices=["jsonl", "csv"], default="jsonl")

    def lines(self, replay: Replay, frames: Any, options: dict[str, Any]) -> Iterator[str]:
        as_csv = options["format"] == "csv"
        if as_csv:
            yield ",".join(COLUMNS)
        for step in replay.run(frames):
            if step.outcome <= BookOutcome.DELTA:
                book = step.book
                head = [book.symbol, book.update_id, book.venue_ns // 1_000_000, book.receive_ns, book.state.name]
                yield (csv_line if as_csv else json_line)(head, book.features().tolist())
        require_books(replay, options)


def json_line(head: list[Any], values: list[float]) -> str:
    # JSON has no infinity: a reach without an end is the text "inf".
    known = [repr(value) if math.isinf(value) else value for value in values]
    return orjson.dumps(dict(zip(COLUMNS, head + known, strict=True))).decode()


def csv_line(head: list[Any], values: list[float]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(head + ["" if math.isnan(value) else repr(value) for value in values])
    return line.getvalue()
