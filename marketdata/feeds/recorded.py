"""Recordings of public sessions, whatever wrote them: each frame and each REST answer in the order of arrival.

Three forms are read, compressed with zstd or gzip:

* JSON lines ``{"t":"recv"|"send"|"http"|"connect","conn","ts","data"}``. Ours (``marketdata.feeds.recorder``) add
  ``ns``, the time of receipt exactly, tell bytes that are no text as ``base64``, and end where the process ended
* text lines ``<nanoseconds> <frame>``, REST answers among them
* text lines ``<seconds>: <frame>``, with ``<url> -> <seconds>: <answer>`` for REST; where the answers were written to a
  file of their own (``x.ws.zst`` and ``x.http.zst``), both are merged by time.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import heapq
import io
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import orjson
import zstandard

log = logging.getLogger(__name__)

RECEIVED, SENT, HTTP, CONNECTED = "recv", "send", "http", "connect"
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_STREAM, _ANSWERS = ".ws.zst", ".http.zst"
# `url -> time: body` is an answer, `url <- time: body` was sent, `url <-> time` is a connection.
_TEXT_LINE = re.compile(
    rb"(?:(?P<url>[a-z]+://\S+) (?P<arrow>->|<-|<->) )?"
    rb"(?P<time>[0-9]{10,19}(?:\.[0-9]+)?):?(?: (?P<body>.*))?",
    re.DOTALL,
)
_ARROWS = {None: RECEIVED, b"->": HTTP, b"<-": SENT, b"<->": CONNECTED}
_CONFIGURATION = b"configuration: "


class RecordingError(ValueError):
    """A file that is not such a recording; the message names the line."""


@dataclass(frozen=True, slots=True)
class RecordedFrame:
    """``kind`` is recv, send, http, connect, or in our own: mark (what took a book out of trade) and lost (a hole);
    ``data`` is the raw frame or body; ``category`` the public channel of Bybit; ``url`` where a connection or an answer
    came from."""

    receive_ns: int
    connection: str
    kind: str
    category: str | None
    data: bytes
    url: str | None


def read_recording(path: Path) -> Iterator[RecordedFrame]:
    """Every frame in the order of arrival, without headers and configurations.

    Raises:
        RecordingError: cannot be read, is of none of the forms, or a line without its parts.
    """
    answers = path.with_name(path.name.removesuffix(_STREAM) + _ANSWERS)
    if path.name.endswith(_STREAM) and answers.exists():
        yield from heapq.merge(_read_file(path), _read_file(answers), key=lambda frame: frame.receive_ns)
    else:
        yield from _read_file(path)


def read_header(path: Path) -> dict[str, Any]:
    """What the recorder wrote about itself; empty where it wrote nothing.

    Raises:
        RecordingError: cannot be read, or its first line is not JSON.
    """
    try:
        with path.open("rb") as file:
            line = _decompressed(path, file).readline()
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise RecordingError(f"{path.name}, line 1: {error}") from None
    except (OSError, EOFError, zstandard.ZstdError) as error:
        raise RecordingError(f"{path.name} cannot be read: {error}") from None
    return row if isinstance(row, dict) and row.get("t") == "header" else {}


def _read_file(path: Path) -> Iterator[RecordedFrame]:
    categories: dict[str, str] = {}
    read = None
    try:
        with path.open("rb") as file:
            for number, line in enumerate(_decompressed(path, file), start=1):
                if not line.strip() or line.startswith(_CONFIGURATION):
                    continue
                if read is None:
                    read = _json_line if line.startswith(b"{") else _text_line
                frame = read(path, number, line, categories)
                if frame is not None:
                    yield frame
    except (OSError, EOFError, zstandard.ZstdError) as error:
        raise RecordingError(f"{path.name} cannot be read: {error}") from None


def _decompressed(path: Path, file: BinaryIO) -> BinaryIO:
    magic = file.read(4)
    file.seek(0)
    if magic.startswith(_GZIP):
        return io.BufferedReader(gzip.GzipFile(fileobj=file))
    if len(magic) < len(_ZSTD) and _ZSTD.startswith(magic):
        return io.BytesIO()  # ours, whose process ended before its first frame was written
    if magic == _ZSTD:
        # Ours are many zstd frames behind each other.
        return io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True))
    raise RecordingError(f"{path.name} is no recording: it is compressed neither with gzip nor with zstd")


def _json_line(path: Path, number: int, line: bytes, categories: dict[str, str]) -> RecordedFrame | None:
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
        if not line.endswith(b"\n"):
            log.warning("%s ends in the middle of a line", path.name)
            return None
        raise RecordingError(f"{path.name}, line {number}: {type(error).__name__}: {error}") from None
    category = _category(url) if url else None
    if category is not None:
        categories[connection] = category
    return RecordedFrame(receive_ns, connection, kind, categories.get(connection), data, url)


def _data(row: dict[str, Any]) -> bytes:
    if "base64" in row:
        return base64.b64decode(row["base64"], validate=True)
    data = row.get("data") or ""
    return data.encode() if isinstance(data, str) else orjson.dumps(data)


def _text_line(path: Path, number: int, line: bytes, categories: dict[str, str]) -> RecordedFrame:
    found = _TEXT_LINE.fullmatch(line.rstrip(b"\r\n"))
    if found is None:
        raise RecordingError(f"{path.name}, line {number}: expected a time and a frame, found {line[:40]!r}")
    url = found["url"].decode() if found["url"] else None
    kind, body = _ARROWS[found["arrow"]], found["body"] or b""
    if not body and kind in (RECEIVED, HTTP):
        raise RecordingError(f"{path.name}, line {number}: no frame after its time")
    if not line.endswith(b"\n") and not _is_json(body):
        raise RecordingError(f"{path.name}, line {number}: the recording breaks off in the middle of a frame")
    if kind == CONNECTED and url is not None:
        categories.pop("", None)
        category = _category(url)
        if category is not None:
            categories[""] = category
    return RecordedFrame(_nanoseconds(found["time"]), "", kind, categories.get(""), body, url)


def _is_json(text: bytes) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def _nanoseconds(text: bytes) -> int:
    if len(text) == 19 and b"." not in text:
        return int(text)
    seconds, _, fraction = text.partition(b".")
    return int(seconds) * 1_000_000_000 + int(fraction[:9].ljust(9, b"0"))


def _category(url: str) -> str | None:
    for category in ("linear", "spot", "inverse"):
        if f"/public/{category}" in url or f"category={category}" in url:
            return category
    return None
