"""Minutes on their way to the database, in files that a crash cannot take them from.

One line a minute of something, its checksum before it; a write is on the disk when :meth:`Journal.append` returns.
Files are only appended to, and removed when all of their lines are stored. A line that a crash cut off is at the end of
a file, and was never promised to anybody.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import BinaryIO, Generic, Protocol, TypeVar

import orjson

from marketdata.depth.heat import HeatMinute
from marketdata.depth.snapshots import DepthSnapshot, DepthVolume, Market

log = logging.getLogger(__name__)

FILE_BYTES = 8 * 2**20
# Some days of a hundred symbols. What comes after that is refused, and counted.
MOST_BYTES = 2**30
SUFFIX = ".journal"
CHECKSUM_DIGITS = 8


Item = TypeVar("Item")


class LineForm(Protocol[Item]):
    """How something is one line of text, without a line's end."""

    def text(self, item: Item) -> bytes: ...

    def item(self, text: bytes) -> Item:
        """Raises ValueError or InvalidOperation: not such a text."""


class SnapshotLines:
    """Minutes of depths."""

    def text(self, item: DepthSnapshot) -> bytes:
        volume = item.volume
        row = [item.symbol, item.market.value, item.minute, volume.depth]
        return orjson.dumps([*row, *(f"{each:f}" for each in volume.volumes), volume.bid_covered, volume.ask_covered])

    def item(self, text: bytes) -> DepthSnapshot:
        symbol, market, minute, depth, bid, ask, bid_usd, ask_usd, bid_covered, ask_covered = orjson.loads(text)
        volumes = (Decimal(bid), Decimal(ask), Decimal(bid_usd), Decimal(ask_usd))
        return DepthSnapshot(symbol, Market(market), minute, DepthVolume(depth, *volumes, bid_covered, ask_covered))


class HeatLines:
    """Minutes of heatmaps."""

    def text(self, item: HeatMinute) -> bytes:
        return orjson.dumps([item.symbol, item.market.value, item.minute, b64encode(item.body).decode()])

    def item(self, text: bytes) -> HeatMinute:
        symbol, market, minute, body = orjson.loads(text)
        return HeatMinute(symbol, Market(market), minute, b64decode(body, validate=True))


class JournalTaken(Exception):
    """Another process writes to this folder."""


class JournalFull(Exception):
    """There is no room left: in the journal's own bound, or on the disk."""


class Journal(Generic[Item]):
    """The files of one folder, which no other process may use meanwhile. One thread may append while another reads.

    Args:
        folder: made when it is not there.
        form: of its lines.
        most_bytes: of all files together.

    Raises:
        JournalTaken: another process has it.
        OSError: the folder cannot be made or read.
    """

    def __init__(
        self, folder: Path, form: LineForm[Item], *, file_bytes: int = FILE_BYTES, most_bytes: int = MOST_BYTES
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._form = form
        self._folder, self._file_bytes, self._most_bytes = folder, file_bytes, most_bytes
        self._lock = (folder / "lock").open("ab")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise JournalTaken(f"another process writes to {folder}") from None
        self.counts = {"appended": 0, "refused": 0, "damaged": 0}
        self._sizes = {int(path.stem): path.stat().st_size for path in folder.glob(f"[0-9]*{SUFFIX}")}
        # Never appended to what a crash may have cut off.
        self._newest = max(self._sizes, default=0)
        self._file: BinaryIO | None = None
        self._mutex = threading.Lock()
        self._read_at = 0
        self._taken = self._damaged = 0
        self.waiting = sum(self._lines_of(number) for number in self._sizes)

    @property
    def size(self) -> int:
        return sum(self._sizes.values())

    def append(self, items: Iterable[Item]) -> None:
        """Write them down, and wait until the disk has them.

        Raises:
            JournalFull: none of them is written.
        """
        lines = [_line(self._form.text(each)) for each in items]
        if not lines:
            return
        text = b"".join(lines)
        with self._mutex:
            self._write(text, len(lines))

    def _write(self, text: bytes, lines: int) -> None:
        if self.size + len(text) > self._most_bytes:
            self.counts["refused"] += lines
            raise JournalFull(f"{self.size} bytes wait in {self._folder}; {self._most_bytes} are allowed")
        try:
            file = self._open_file()
            file.write(text)
            os.fsync(file.fileno())
        except OSError as error:
            # What it may hold of this is cut off: the next lines go to another file.
            self._close_file()
            self.counts["refused"] += lines
            raise JournalFull(f"{self._folder} cannot be written: {error}") from error
        self._sizes[self._newest] += len(text)
        self.counts["appended"] += lines
        self.waiting += lines
        if self._sizes[self._newest] >= self._file_bytes:
            self._close_file()

    def read(self, most: int) -> list[Item]:
        """The oldest that are not stored yet, in the order in which they came; :meth:`stored` goes on behind them."""
        found: list[Item] = []
        with self._mutex:
            self._taken = self._damaged = 0
            while self._sizes and not found:
                oldest = min(self._sizes)
                self._read_file(oldest, most, found)
                if not found:
                    self._pass_damaged()
                    self._forget(oldest)
        return found

    def stored(self, count: int) -> None:
        """What was read last is in the database: go on behind it."""
        with self._mutex:
            self._read_at += self._taken
            self._taken = 0
            self.waiting -= count
            self._pass_damaged()
            oldest = min(self._sizes, default=0)
            if self._sizes and self._read_at >= self._sizes[oldest]:
                self._forget(oldest)

    def close(self) -> None:
        self._close_file()
        self._lock.close()

    def _read_file(self, number: int, most: int, found: list[Item]) -> None:
        with self._path(number).open("rb") as file:
            file.seek(self._read_at)
            for line in file:
                if len(found) >= most:
                    break
                self._taken += len(line)
                try:
                    found.append(self._form.item(_text(line)))
                except (ValueError, InvalidOperation) as error:
                    self._damaged += 1
                    log.error("a line of the journal in %s is damaged: %s", self._folder, error)

    def _pass_damaged(self) -> None:
        """Damaged lines are counted once they are behind us: until then each reading comes across them again."""
        self.counts["damaged"] += self._damaged
        self.waiting -= self._damaged
        self._damaged = 0

    def _forget(self, number: int) -> None:
        """Remove a file that was read to its end."""
        if number == self._newest:
            self._close_file()
        self._path(number).unlink(missing_ok=True)
        del self._sizes[number]
        self._read_at = self._taken = 0

    def _open_file(self) -> BinaryIO:
        if self._file is None:
            self._newest += 1
            # Without a buffer of ours: what is written is the kernel's at once.
            self._file = self._path(self._newest).open("xb", buffering=0)
            self._sizes[self._newest] = 0
            folder = os.open(self._folder, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        return self._file

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:012d}{SUFFIX}"

    def _lines_of(self, number: int) -> int:
        with self._path(number).open("rb") as file:
            return sum(1 for _ in file)


def _line(text: bytes) -> bytes:
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _text(line: bytes) -> bytes:
    checksum, text = line[:CHECKSUM_DIGITS], line[CHECKSUM_DIGITS + 1 : -1]
    if b"%08x" % zlib.crc32(text) != checksum:
        raise ValueError(f"its checksum is not that of {text[:80]!r}")
    return text
