"""How time is cut into bars, and how short bars add up to longer ones.

A bar is a row of six columns: prices in ticks, volume in lots, turnover in ticks x lots. Times are whole minutes since
1970, UTC.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MINUTE_MS = 60_000
HOUR_MINUTES, DAY_MINUTES = 60, 1_440
# Columns of a bar.
OPEN, HIGH, LOW, CLOSE, VOLUME, TURNOVER = range(6)
Bars = NDArray[np.float64]
Minutes = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Interval:
    """Bars of equal length, numbered since 1970; the first begins ``offset`` minutes before that."""

    minutes: int
    offset: int = 0

    @property
    def is_hourly(self) -> bool:
        """Whether every bar is made of whole hours."""
        return self.minutes % HOUR_MINUTES == 0

    def number(self, minute: int) -> int:
        """Which bar a minute belongs to."""
        return (minute + self.offset) // self.minutes

    def start(self, number: int) -> int:
        """The first minute of a bar."""
        return number * self.minutes - self.offset


class Months(Interval):
    """Calendar months."""

    def __init__(self) -> None:
        super().__init__(31 * DAY_MINUTES)

    @property
    def is_hourly(self) -> bool:
        return True

    def number(self, minute: int) -> int:
        return int(np.datetime64(minute, "m").astype("datetime64[M]").astype(np.int64))

    def start(self, number: int) -> int:
        return int(np.datetime64(number, "M").astype("datetime64[m]").astype(np.int64))


# 1970 began on a Thursday: its week on the Monday three days before.
WEEK = Interval(7 * DAY_MINUTES, 3 * DAY_MINUTES)
MONTH = Months()


def numbers(
    interval: Interval, oldest: int, newest: int, limit: int, start_ms: int | None, end_ms: int | None, *, first: bool
) -> range:
    """The numbers of at most so many bars that begin from ``start_ms`` to ``end_ms``, of those between the ``oldest``
    minute and the ``newest``: the last of them, or the ``first`` where a start is given and they are wanted."""
    begin, end = interval.number(oldest), interval.number(newest) + 1
    if end_ms is not None:
        end = min(end, interval.number(end_ms // MINUTE_MS) + 1)
    if start_ms is not None:
        begin = max(begin, interval.number(-(-start_ms // MINUTE_MS) - 1) + 1)
    if start_ms is not None and first:
        return range(begin, min(end, begin + limit))
    return range(max(begin, end - limit), end)


def added(times: Minutes, rows: Bars, starts: Minutes) -> Bars:
    """Rows that begin at ``times``, added up to one row from each of ``starts`` on; none of these may be empty."""
    firsts = np.searchsorted(times, starts)
    lasts = np.append(firsts[1:], len(rows)) - 1
    return np.column_stack(
        (
            rows[firsts, OPEN],
            np.maximum.reduceat(rows[:, HIGH], firsts),
            np.minimum.reduceat(rows[:, LOW], firsts),
            rows[lasts, CLOSE],
            np.add.reduceat(rows[:, VOLUME], firsts),
            np.add.reduceat(rows[:, TURNOVER], firsts),
        )
    )
