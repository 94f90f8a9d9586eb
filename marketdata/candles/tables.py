"""Tables of past bars as files have them: CSV, plain or gzipped, and Parquet. Read in blocks, whatever the size."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

BLOCK_ROWS = 20_000
LONGEST_LINE = 1_000
GZIP_MAGIC, PARQUET_MAGIC, ZIP_MAGIC = b"\x1f\x8b", b"PAR1", b"PK\x03\x04"
TIME, RATE = "time", "rate"
PRICES = ("open", "high", "low", "close")
VOLUME = "volume"
# Binance's klines have no header in older files: open time, prices, volume, close time, and what is not asked for.
BINANCE_COLUMNS = {TIME: "open_time", **{name: name for name in PRICES}, VOLUME: "volume", RATE: "last_funding_rate"}
BINANCE_ORDER = ("open_time", *PRICES, "volume", "close_time")
BINANCE_KLINE_WIDTH = 12
BINANCE_FUNDING_TIME = "calc_time"
RECORDING_COLUMNS = {TIME: "ts_ms", **{name: name for name in PRICES}, VOLUME: "volume", RATE: "rate"}
FORMATS = ("recording", "binance", "columns", "parquet")

# A column: texts of a CSV file, numbers of a Parquet file.
Column = Sequence[str] | NDArray[np.float64] | NDArray[np.int64]


class TableError(ValueError):
    """The file cannot be read as what it should be."""


@dataclass(frozen=True, slots=True)
class Block:
    """Some rows: their numbers in the file (the first line is 1), and what each column has; ``bad``: rows that have
    another number of columns, with what is wrong. ``is_time_ms``: times are milliseconds, whatever the file's are."""

    rows: NDArray[np.int64]
    columns: Mapping[str, Column]
    bad: Sequence[tuple[int, str]] = ()
    is_time_ms: bool = False


@dataclass(frozen=True, slots=True)
class TableForm:
    """``format`` is one of FORMATS or auto; ``columns`` names the file's columns by ours (time, open, high, low, close,
    volume, rate) where they are called otherwise."""

    format: str = "auto"
    columns: Mapping[str, str] = field(default_factory=dict)
    delimiter: str = ","


def read_blocks(
    file: BinaryIO, form: TableForm, wanted: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[Block]:
    """The wanted columns; of those that are optional, the ones that are there.

    Raises:
        TableError: it is broken, of another format, or lacks a column.
    """
    magic = file.read(4)
    file.seek(0)
    if magic[:4] == PARQUET_MAGIC or form.format == "parquet":
        if magic[:4] != PARQUET_MAGIC:
            raise TableError("it is no Parquet file: it does not begin with PAR1")
        # pyarrow takes as long to load as the rest of a web process's request.
        from marketdata.candles.parquet_tables import read_parquet  # noqa: PLC0415

        names = {**RECORDING_COLUMNS, **form.columns}
        yield from read_parquet(file, names, wanted, optional, is_guessing="time" not in form.columns)
        return
    if magic == ZIP_MAGIC:
        raise TableError("it is a ZIP archive; unpack it first")
    yield from _read_csv(file, form, wanted, optional, is_gzip=magic[:2] == GZIP_MAGIC)


def _read_csv(
    file: BinaryIO, form: TableForm, wanted: Sequence[str], optional: Sequence[str], *, is_gzip: bool
) -> Iterator[Block]:
    raw = gzip.GzipFile(fileobj=file) if is_gzip else file
    # A row is a line here: quoted line ends are refused.
    text = io.TextIOWrapper(raw, encoding="utf-8-sig", errors="replace")
    try:
        lines = _lines(text)
        first = next(lines, None)
        if first is None:
            raise TableError("it is empty")
        header = [name.strip() for name in _split([first], form.delimiter)[0]]
        places, width, has_header = _places(header, form, wanted, optional)
        row = 2 if has_header else 1
        if not has_header:
            lines = _with_first(first, lines)
        while some := list(islice(lines, BLOCK_ROWS)):
            yield _block(some, row, places, width, form.delimiter)
            row += len(some)
    except (OSError, EOFError, zlib.error) as error:
        what = "gzip file" if is_gzip else "file"
        raise TableError(f"the {what} is broken: {error}") from None
    except csv.Error as error:
        raise TableError(f"it is no CSV: {error}") from None
    finally:
        # The file stays its owner's.
        text.detach()


def _lines(text: io.TextIOWrapper) -> Iterator[str]:
    while line := text.readline(LONGEST_LINE):
        if len(line) >= LONGEST_LINE:
            raise TableError(f"a line is longer than {LONGEST_LINE} characters: it is no CSV of bars")
        yield line


def _with_first(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest


def _split(lines: Sequence[str], delimiter: str) -> list[list[str]]:
    if not any('"' in line for line in lines):
        return [line.rstrip("\r\n").split(delimiter) for line in lines]
    return [next(csv.reader([line], delimiter=delimiter, strict=True), [""]) for line in lines]


def _places(
    header: Sequence[str], form: TableForm, wanted: Sequence[str], optional: Sequence[str]
) -> tuple[dict[str, int], int, bool]:
    """Where our columns are, how many there are, and whether the first line is a header."""
    lowered = [name.lower() for name in header]
    chosen = form.format
    if chosen == "auto":
        is_headless = len(header) == BINANCE_KLINE_WIDTH and header[0].isdecimal()
        is_binance = is_headless or "open_time" in lowered or BINANCE_FUNDING_TIME in lowered
        chosen = "columns" if form.columns else "binance" if is_binance else "recording"
    names = {**RECORDING_COLUMNS, **form.columns}
    asked = (*wanted, *optional)
    if chosen == "binance":
        if header[0].isdecimal():
            if len(header) != BINANCE_KLINE_WIDTH:
                raise TableError(f"its first line has {len(header)} columns; Binance's have {BINANCE_KLINE_WIDTH}")
            return {ours: BINANCE_ORDER.index(BINANCE_COLUMNS[ours]) for ours in asked}, len(header), False
        names = {**BINANCE_COLUMNS, **({TIME: BINANCE_FUNDING_TIME} if BINANCE_FUNDING_TIME in lowered else {})}
    found = {ours: lowered.index(names[ours].lower()) for ours in asked if names[ours].lower() in lowered}
    missing = [names[ours] for ours in wanted if ours not in found]
    if missing:
        raise TableError(
            f"it has no column {', '.join(missing)}; its first line is {','.join(header)[:200]!r}. Name the columns "
            "with --columns, like time=timestamp,open=o"
        )
    return found, len(header), True


def _block(lines: Sequence[str], first_row: int, places: Mapping[str, int], width: int, delimiter: str) -> Block:
    split = _split(lines, delimiter)
    rows = np.arange(first_row, first_row + len(lines), dtype=np.int64)
    bad: list[tuple[int, str]] = []
    if any(len(cells) != width for cells in split):
        good = np.fromiter((len(cells) == width for cells in split), dtype=np.bool_, count=len(split))
        for place in np.flatnonzero(~good).tolist():
            found = len(split[place])
            is_blank = found == 1 and not split[place][0].strip()
            # A last line of nothing but its end is how many editors leave a file.
            what = "is empty" if is_blank else f"has {found} columns; expected {width}"
            bad.append((first_row + place, what))
        split, rows = [cells for cells in split if len(cells) == width], rows[good]
    columns = list(zip(*split, strict=True)) if split else [()] * width
    return Block(rows, {ours: columns[place] for ours, place in places.items()}, bad)
