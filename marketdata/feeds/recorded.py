"""Recordings of public sessions: zstd-compressed JSON lines, each one frame as it came.

A line is ``{"t", "conn", "ts", "data"}``: what it is, the connection, the time of receipt in seconds, the raw text.
Ours (``marketdata.feeds.recorder``) add ``ns``, the same time exactly, and tell bytes that are no text as ``base64``.
"""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import zstandard

log = logging.getLogger(__name__)

CHUNK_BYTES = 1 << 20


class RecordingError(ValueError):
    """A file that is not such a recording; the message names the line."""


@dataclass(frozen=True, slots=True)
class RecordedFrame:
    """``kind`` is recv, send, http, connect, or in our own: mark (what took a book out of trade) and lost (a hole);
    ``data`` is the raw frame or body; ``category`` the public channel."""

    receive_ns: int
    connection: str
    kind: str
    category: str | None
    data: bytes
    url: str | None


def read_recording(path: Path) -> Iterator[RecordedFrame]:
    """Every line after the header, in the order of arrival. A recorder that was killed may have left half a line at
    the end: what is before it counts.

    Raises:
        RecordingError: not zstd, not JSON, or a line without its fields.
    """
    categories: dict[str, str] = {}
    for number, line in enumerate(_lines(path), start=1):
        frame = _frame(path, number, line, categories)
        if frame is not None:
            yield frame


def read_header(path: Path) -> dict[str, Any]:
    """What the recorder wrote about itself; empty where it wrote nothing.

    Raises:
        RecordingError: not zstd, or not JSON.
    """
    for line in _lines(path):
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise RecordingError(f"{path.name}, line 1: {error}") from None
        return row if isinstance(row, dict) and row.get("t") == "header" else {}
    return {}


def _lines(path: Path) -> Iterator[bytes]:
    rest = b""
    with path.open("rb") as compressed:
        # Ours are many zstd frames behind each other.
        reader = zstandard.ZstdDecompressor().stream_reader(compressed, read_across_frames=True)
        try:
            while chunk := reader.read(CHUNK_BYTES):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from lines
        except zstandard.ZstdError as error:
            raise RecordingError(f"{path.name} is not a zstd recording: {error}") from None
    if rest:
        try:
            orjson.loads(rest)
        except orjson.JSONDecodeError:
            log.warning("%s ends in the middle of a line", path.name)
            return
        yield rest


def _frame(path: Path, number: int, line: bytes, categories: dict[str, str]) -> RecordedFrame | None:
    try:
        row = orjson.loads(line)
        kind = row["t"]
        if kind == "header":
            return None
        connection = row["conn"]
        receive_ns = int(row["ns"]) if "ns" in row else int(float(row["ts"]) * 1_000_000) * 1_000
        url = row.get("url") or row.get("addr")
        data = _data(row)
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, binascii.Error) as error:
        raise RecordingError(f"{path.name}, line {number}: {type(error).__name__}: {error}") from None
    for category in ("linear", "spot"):
        if url and (f"/public/{category}" in url or f"category={category}" in url):
            categories[connection] = category
    return RecordedFrame(receive_ns, connection, kind, categories.get(connection), data, url)


def _data(row: dict[str, Any]) -> bytes:
    if "base64" in row:
        return base64.b64decode(row["base64"], validate=True)
    data = row.get("data") or ""
    return data.encode() if isinstance(data, str) else orjson.dumps(data)
