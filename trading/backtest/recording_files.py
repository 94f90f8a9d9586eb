"""The recordings of a folder: which there are, when each begins and ends. Nothing outside of it is looked at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from marketdata.recording_names import INDEX_SUFFIX, SUFFIX
from trading.backtest.errors import BacktestError

NS = 1_000_000
PACKED = (".zst", ".gz")
TRADES = (".csv", ".csv.gz")


@dataclass(frozen=True, slots=True)
class RecordingFile:
    """``first_ms`` and ``last_ms``: when its first and last line came, None where it has no index."""

    name: str
    bytes: int
    first_ms: int | None
    last_ms: int | None


def recordings_in(folder: Path) -> list[RecordingFile]:
    """The recordings of a folder and the folders in it, by name."""
    if not folder.is_dir():
        return []
    return [_described(folder, path) for path in sorted(folder.rglob("*")) if _is_recording(path)]


def _is_recording(path: Path) -> bool:
    return path.name.endswith((*PACKED, *TRADES)) and path.is_file()


def _described(folder: Path, path: Path) -> RecordingFile:
    rows = _index_of(path)
    return RecordingFile(
        name=path.relative_to(folder).as_posix(),
        bytes=path.stat().st_size,
        first_ms=rows[0]["first_ns"] // NS if rows else None,
        last_ms=rows[-1]["last_ns"] // NS if rows else None,
    )


def _index_of(path: Path) -> list[dict[str, Any]]:
    index = path.with_name(path.name.removesuffix(SUFFIX) + INDEX_SUFFIX)
    if index == path or not index.is_file():
        return []
    return [orjson.loads(line) for line in index.read_bytes().splitlines() if line.endswith(b"}")]


def recording_at(folder: Path, name: str) -> Path:
    """A recording of the folder by its name.

    Raises:
        BacktestError: there is none.
    """
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()) or not _is_recording(path):
        raise BacktestError(f"there is no recording {name!r} here")
    return path


def described(folder: Path, name: str) -> RecordingFile:
    """
    Raises:
        BacktestError: there is none.
    """
    recording_at(folder, name)
    return _described(folder, folder / name)
