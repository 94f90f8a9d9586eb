"""Recordings of public sessions: zstd-compressed JSON lines, each one frame as it came."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson
import zstandard


class RecordingError(ValueError):
    """A file that is not such a recording; the message names the line."""


@dataclass(frozen=True, slots=True)
class RecordedFrame:
    """``kind`` is recv, send, http or connect; ``data`` is the raw frame or body; ``category`` the public channel."""

    receive_ns: int
    connection: str
    kind: str
    category: str | None
    data: bytes
    url: str | None


def read_recording(path: Path) -> Iterator[RecordedFrame]:
    """Every line after the header, in the order of arrival.

    Raises:
        RecordingError: not zstd, not JSON, or a line without its fields.
    """
    categories: dict[str, str] = {}
    with path.open("rb") as compressed:
        try:
            lines = io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(compressed))
            for number, line in enumerate(lines, start=1):
                frame = _frame(path, number, line, categories)
                if frame is not None:
                    yield frame
        except zstandard.ZstdError as error:
            raise RecordingError(f"{path.name} is not a zstd recording: {error}") from None


def _frame(path: Path, number: int, line: bytes, categories: dict[str, str]) -> RecordedFrame | None:
    try:
        row = orjson.loads(line)
        kind = row["t"]
        if kind == "header":
            return None
        connection, receive_ns = row["conn"], int(float(row["ts"]) * 1_000_000) * 1_000
        url = row.get("url") or row.get("addr")
        data = row.get("data") or ""
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise RecordingError(f"{path.name}, line {number}: {type(error).__name__}: {error}") from None
    for category in ("linear", "spot"):
        if url and (f"/public/{category}" in url or f"category={category}" in url):
            categories[connection] = category
    text = data if isinstance(data, str) else orjson.dumps(data).decode()
    return RecordedFrame(receive_ns, connection, kind, categories.get(connection), text.encode(), url)
