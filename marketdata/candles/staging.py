"""Rows of a table as whole numbers, in a temporary file: a file of any size takes little memory, and nothing of it is
stored before all of it was seen."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marketdata.candles.exact_numbers import Units, rescaled, rounded_text, units_of_floats, units_of_texts
from marketdata.candles.findings import Findings, ImportOptions, Kind, Repair
from marketdata.candles.packing import LARGEST, Bars, rate_bars
from marketdata.candles.tables import PRICES, RATE, TIME, VOLUME, Block, Column, TableError

Numbers = NDArray[np.int64]

# Of one file: eleven years of minutes. Times are kept in memory and compared there: some 60 bytes a row.
MOST_ROWS = 6_000_000
# A rate beyond this is no rate of funding.
MOST_RATE = 1.0
TIME_UNITS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
_NS_A_MS = 1_000_000
# Milliseconds of 2005 and of 2100: what is outside is of another unit, or no time.
EARLIEST_MS, LATEST_MS = 1_104_537_600_000, 4_102_444_800_000


@dataclass(slots=True)
class _Part:
    """Rows of one block, and in which units they are."""

    first: int
    count: int
    price_decimals: int
    volume_decimals: int


class Staging:
    """``append`` blocks, then ``finish``, then read. ``rates``: of funding, which have one column of numbers."""

    def __init__(
        self, options: ImportOptions, findings: Findings, *, rates: bool = False, most_rows: int = MOST_ROWS
    ) -> None:
        self._options, self._findings, self._most_rows = options, findings, most_rows
        self._names = (RATE,) if rates else (*PRICES, VOLUME)
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - until close
        self._parts: list[_Part] = []
        self._times: list[Numbers] = []
        self._rows: list[Numbers] = []
        self._unit = options.time_unit
        self.read = 0
        # Rows that have no place in time.
        self.lost = 0
        self.price_decimals = self.volume_decimals = 0
        self.times: Numbers = np.empty(0, dtype=np.int64)
        self.rows: Numbers = np.empty(0, dtype=np.int64)

    def close(self) -> None:
        self._file.close()

    def append(self, block: Block) -> None:
        """Take over what can be read, and find what cannot."""
        self.read += len(block.rows) + len(block.bad)
        if self.read > self._most_rows:
            raise TableError(f"it has more than {self._most_rows} rows; import it in parts")
        dropped = self._dropped
        self.lost += len(block.bad)
        for row, problem in block.bad:
            self._findings.add(Kind.COLUMNS, row, problem, handled=dropped)
        if not len(block.rows):
            return
        times, good = self._times_of(block)
        timely = good.copy()
        self.lost += int(np.count_nonzero(~good))
        columns, decimals = self._columns_of(block, good)
        if self._names[0] != RATE:
            self._check_bars(block, columns, good)
        # What is refused anyway stays in its place: else there would seem to be gaps.
        kept = good if dropped else timely
        values = np.column_stack([column[kept] for column in columns])
        first = self._parts[-1].first + self._parts[-1].count if self._parts else 0
        self._parts.append(_Part(first, len(values), *decimals))
        self._file.write(values.tobytes())
        self._times.append(times[kept])
        self._rows.append(block.rows[kept])

    def finish(self) -> None:
        """No more rows come: ``times`` (milliseconds, as they stand in the file) and ``rows`` are there now."""
        self._file.flush()
        self.times = np.concatenate(self._times) if self._times else self.times
        self.rows = np.concatenate(self._rows) if self._rows else self.rows
        self._times, self._rows = [], []
        self.price_decimals = self._fit("price", slice(0, -1 if len(self._names) > 1 else 1), "price_decimals")
        if len(self._names) > 1:
            self.volume_decimals = self._fit("volume", slice(len(self._names) - 1, None), "volume_decimals")

    def values(self, places: Numbers) -> list[Numbers]:
        """The columns of rows by their places, in units of the whole file's decimals."""
        found = np.empty((len(places), len(self._names)), dtype=np.int64)
        part_of = np.searchsorted([part.first for part in self._parts], places, side="right") - 1
        for number in np.unique(part_of).tolist():
            part, chosen = self._parts[number], part_of == number
            block = self._block(part)[places[chosen] - part.first]
            prices = slice(0, -1) if len(self._names) > 1 else slice(0, 1)
            _scale(block[:, prices], self.price_decimals - part.price_decimals)
            if len(self._names) > 1:
                _scale(block[:, -1], self.volume_decimals - part.volume_decimals)
            found[chosen] = block
        return [np.ascontiguousarray(column) for column in found.T]

    def bars(self, places: Numbers, times: Numbers) -> Bars:
        """Those rows, at these times; of funding as :func:`rate_bars` has them."""
        values = self.values(places)
        return Bars(times, *values) if len(values) > 1 else rate_bars(times, values[0])

    @property
    def _dropped(self) -> str:
        return "left out" if Repair.DROP_BAD_ROWS in self._options else ""

    def _block(self, part: _Part) -> Numbers:
        """A copy of one block's rows."""
        width = len(self._names)
        self._file.seek(part.first * width * 8)
        raw = self._file.read(part.count * width * 8)
        return np.frombuffer(raw, dtype=np.int64).reshape(part.count, width).copy()

    def _fit(self, name: str, columns: slice, attribute: str) -> int:
        """As many decimals as the finest block needs, where the largest number has room for them."""
        finest = max((getattr(part, attribute) for part in self._parts), default=0)
        fits = True
        for part in self._parts:
            fits &= rescaled(self._block(part)[:, columns].ravel(), finest - getattr(part, attribute)) is not None
        if fits:
            return int(finest)
        for part in self._parts:
            if getattr(part, attribute) == finest:
                block = self._block(part)[:, columns]
                rows = self.rows[part.first : part.first + part.count][np.any(block % 10, axis=1)]
                self._findings.add_rows(
                    Kind.PRECISION,
                    rows,
                    lambda place: f"a {name} has {finest} decimals, more than can be kept beside the largest one",
                )
            setattr(part, attribute, 0)
        return 0

    def _times_of(self, block: Block) -> tuple[Numbers, NDArray[np.bool_]]:
        """Milliseconds; of what is no time 0, and False."""
        column, good = block.columns[TIME], np.ones(len(block.rows), dtype=np.bool_)
        if isinstance(column, np.ndarray):
            units = _units_of_array(column)
        elif _is_calendar(column):
            return self._moments(block.rows, column, good)
        else:
            units = units_of_texts(column)
        for place, problem in units.bad:
            self._findings.add(Kind.NUMBER, int(block.rows[place]), f"time {problem}", handled=self._dropped)
            good[place] = False
        if block.is_time_ms:
            return units.numbers, good
        return self._in_ms(units), good

    def _in_ms(self, units: Units) -> Numbers:
        if self._unit == "auto":
            self._unit = unit_of(units.numbers // 10**units.decimals)
        nanoseconds = TIME_UNITS[self._unit]
        # Never through nanoseconds: those of 2300 do not fit.
        if nanoseconds >= _NS_A_MS:
            return units.numbers * (nanoseconds // _NS_A_MS) // 10**units.decimals
        return units.numbers // (10**units.decimals * (_NS_A_MS // nanoseconds))

    def _moments(
        self, rows: Numbers, texts: Sequence[str], good: NDArray[np.bool_]
    ) -> tuple[Numbers, NDArray[np.bool_]]:
        """Calendar times; without a zone they are UTC."""
        times = np.zeros(len(texts), dtype=np.int64)
        for place, text in enumerate(texts):
            try:
                moment = datetime.fromisoformat(text.strip())
                moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
                seconds = (moment - _EPOCH).total_seconds()
            except (ValueError, OverflowError):
                problem = f"time is {text[:40]!r}; expected a number or an ISO 8601 time" if text else "time is empty"
                self._findings.add(Kind.NUMBER, int(rows[place]), problem, handled=self._dropped)
                good[place] = False
                continue
            times[place] = round(seconds * 1_000)
        return times, good

    def _columns_of(self, block: Block, good: NDArray[np.bool_]) -> tuple[list[Numbers], tuple[int, int]]:
        """In one unit for all prices, and one for volume; ``good`` loses the rows with bad numbers."""
        found: list[Units] = []
        for name in self._names:
            column = block.columns.get(name)
            units = Units(np.zeros(len(block.rows), dtype=np.int64), 0) if column is None else self._units(column)
            for place, problem in units.bad:
                kind = Kind.PRECISION if "more" in problem else Kind.NUMBER
                self._findings.add(kind, int(block.rows[place]), f"{name} {problem}", handled=self._dropped)
                good[place] = False
            found.append(units)
        prices, volume = (found[:-1], found[-1]) if len(found) > 1 else (found, Units(found[0].numbers, 0))
        decimals = max(units.decimals for units in prices)
        columns = []
        for name, units in zip(self._names, prices, strict=False):
            scaled = rescaled(units.numbers, decimals - units.decimals)
            if scaled is None:
                places = np.flatnonzero(np.abs(units.numbers) >= LARGEST // 10 ** (decimals - units.decimals))
                problem = f"{name} is too large to be kept with {decimals} decimals"
                for row in block.rows[places].tolist():
                    self._findings.add(Kind.PRECISION, row, problem)
                scaled = units.numbers
            columns.append(scaled)
        return columns + ([volume.numbers] if len(found) > 1 else []), (decimals, volume.decimals)

    def _units(self, column: Column) -> Units:
        rounding = self._options.round_decimals
        if isinstance(column, np.ndarray):
            if rounding is None or column.dtype.kind != "f":
                return _units_of_array(column)
            column = [repr(value) for value in column.tolist()]
        if rounding is not None:
            column = [rounded_text(text, rounding) for text in column]
        return units_of_texts(column)

    def _check_bars(self, block: Block, columns: list[Numbers], good: NDArray[np.bool_]) -> None:
        opened, high, low, close, volume = columns
        rows, dropped = block.rows, self._dropped

        def refuse(kind: Kind, wrong: NDArray[np.bool_], problem: Callable[[int], str], handled: str) -> None:
            places = np.flatnonzero(wrong & good)
            self._findings.add_rows(kind, rows[places], lambda place: problem(int(places[place])), handled=handled)
            good[places] = False

        def cells(names: Sequence[str]) -> Callable[[int], str]:
            return lambda place: ", ".join(f"{name} {_cell(block.columns, name, place)}" for name in names)

        below = np.minimum.reduce([opened, high, low, close]) <= 0
        refuse(Kind.NEGATIVE, below, lambda at: f"{cells(PRICES)(at)}; expected prices above 0", dropped)
        refuse(Kind.NEGATIVE, volume < 0, lambda at: f"{cells([VOLUME])(at)}; expected 0 or more", dropped)
        refuse(Kind.RANGE, high < low, lambda at: f"{cells(['high', 'low'])(at)}: high is below low", dropped)
        top, bottom = np.maximum(opened, close), np.minimum(opened, close)
        outside = ((top > high) | (bottom < low)) & good
        if not np.any(outside):
            return
        if Repair.WIDEN in self._options:
            places = np.flatnonzero(outside)
            handled, told = "high and low reach to them now", cells(PRICES)
            self._findings.add_rows(Kind.OUTSIDE, rows[places], lambda at: told(int(places[at])), handled=handled)
            np.maximum(high, top, out=high, where=outside)
            np.minimum(low, bottom, out=low, where=outside)
        else:
            text = "open or close lies outside of high and low"
            refuse(Kind.OUTSIDE, outside, lambda at: f"{cells(PRICES)(at)}: {text}", dropped)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def unit_of(times: Numbers) -> str:
    """Which unit makes times of our century of them; ms where none does."""
    if not len(times):
        return "ms"
    middle = int(np.median(times))
    for name, nanoseconds in TIME_UNITS.items():
        if EARLIEST_MS <= middle * nanoseconds // _NS_A_MS <= LATEST_MS:
            return name
    return "ms"


def _scale(numbers: Numbers, places: int) -> None:
    """In place; that there is room was seen before. Zeros stay, whatever the places."""
    if places and np.any(numbers):
        numbers *= 10**places


def _units_of_array(column: NDArray[Any]) -> Units:
    return units_of_floats(column) if column.dtype.kind == "f" else Units(column.astype(np.int64), 0)


def _is_calendar(texts: Sequence[str]) -> bool:
    """Whether times are written as dates: 2026-01-31."""
    sample = next((text for text in texts if text.strip()), "")
    return "-" in sample.strip()[1:] and "e" not in sample.lower()


def _cell(columns: Mapping[str, Column], name: str, place: int) -> str:
    column = columns.get(name)
    return "" if column is None else str(column[place])[:40]
