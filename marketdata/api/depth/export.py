"""Minutes as files, a day at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import TypeVar

import orjson
from asgiref.sync import sync_to_async

from marketdata.api.depth.answers import snapshot
from marketdata.depth.selectors import Minutes

COLUMNS = ("timestamp", "bidVolume", "askVolume", "bidVolumeUsd", "askVolumeUsd")
Piece = TypeVar("Piece")


def csv_lines(days: Iterator[Minutes]) -> Iterator[str]:
    yield ",".join(COLUMNS) + "\n"
    for day in days:
        rows = (snapshot(minute, volume) for minute, volume in day)
        if lines := "".join(",".join(row[name] for name in COLUMNS) + "\n" for row in rows):
            yield lines


def json_lines(days: Iterator[Minutes]) -> Iterator[str]:
    """One list."""
    before = "["
    for day in days:
        if day:
            yield before + ",\n".join(orjson.dumps(snapshot(*row)).decode() for row in day)
            before = ",\n"
    yield "[]\n" if before == "[" else "]\n"


FORMATS: dict[str, tuple[str, Callable[[Iterator[Minutes]], Iterator[str]]]] = {
    "csv": ("text/csv; charset=utf-8", csv_lines),
    "json": ("application/json", json_lines),
}


async def streamed(pieces: Iterator[Piece]) -> AsyncIterator[Piece]:
    """For the web process, which would wait for a plain iterator's end before it sends anything."""
    end = object()
    following = sync_to_async(lambda: next(pieces, end))
    while (piece := await following()) is not end:
        yield piece  # type: ignore[misc]
