"""What is wrong with the times of staged rows: their unit, their grid, their order, what is there twice and what is
missing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from marketdata.candles.findings import Findings, Gap, ImportOptions, Kind, Repair, time_text
from marketdata.candles.staging import EARLIEST_MS, LATEST_MS, Staging, unit_of

Numbers = NDArray[np.int64]

HOUR_MS = 3_600_000
QUARTER_MS = HOUR_MS // 4
# Funding is paid at least this often; venues write its time some milliseconds late.
LONGEST_FUNDING_MS = 8 * HOUR_MS
FUNDING_SLACK_MS = 60_000
COMPARED_ROWS = 50_000


@dataclass(frozen=True, slots=True)
class Inspected:
    """Places of the staged rows that are good, oldest first, and their times in milliseconds; ``gaps`` between them."""

    places: Numbers
    times: Numbers
    gaps: list[Gap]


def inspect(
    staging: Staging, step_ms: int | None, options: ImportOptions, findings: Findings, *, now_ms: int, has_volume: bool
) -> Inspected:
    """``step_ms``: the interval of bars, None for funding. What is found goes to ``findings``."""
    times = staging.times + int(options.shift_hours * HOUR_MS)
    if options.shift_hours:
        findings.note(Kind.GRID, f"all times were moved by {options.shift_hours} h", handled="moved")
    if not len(times):
        findings.add(Kind.FILE, 0, "it has no rows that could be read" if staging.read else "it has no rows")
        return Inspected(times, times, [])
    _check_unit(staging, times, findings)
    if step_ms is not None and not findings.has(Kind.TIME_UNIT):
        _check_grid(staging.rows, times, step_ms, findings)
    kept = _finished(staging.rows, times, step_ms or 0, options, findings, now_ms)
    kept = _ordered(staging.rows, times, kept, options, findings)
    kept = _once(staging, times, kept, options, findings)
    gaps: list[Gap] = []
    is_timely = not findings.has(Kind.TIME_UNIT) and not any(
        finding.kind is Kind.GRID and not finding.handled for finding in findings.all
    )
    if is_timely:
        gaps = gaps_between(times[kept], step_ms)
    if is_timely and (not staging.lost or Repair.DROP_BAD_ROWS in options):
        _tell_gaps(staging.rows[kept], times[kept], gaps, options, findings)
    if has_volume and len(kept) > options.most_zero_bars:
        _check_volumes(staging, kept, options, findings)
    return Inspected(kept, times[kept], gaps)


def gaps_between(times: Numbers, step_ms: int | None) -> list[Gap]:
    """What is missing between times that rise; without a step they are of funding."""
    longest = step_ms if step_ms is not None else LONGEST_FUNDING_MS + FUNDING_SLACK_MS
    steps = np.diff(times)
    found = []
    for place in np.flatnonzero(steps > longest).tolist():
        before, after = int(times[place]), int(times[place + 1])
        if step_ms is None:
            found.append(Gap(before, after, (after - before) // LONGEST_FUNDING_MS))
        else:
            found.append(Gap(before + step_ms, after, (after - before) // step_ms - 1))
    return found


def _check_unit(staging: Staging, times: Numbers, findings: Findings) -> None:
    outside = (times < EARLIEST_MS) | (times > LATEST_MS)
    if not np.any(outside):
        return
    places = np.flatnonzero(outside)
    raw = staging.times
    findings.add_rows(
        Kind.TIME_UNIT,
        staging.rows[places],
        lambda at: f"time {raw[places[at]]} is no time in milliseconds between 2005 and 2100",
    )
    if np.all(outside):
        unit = unit_of(raw)
        if unit != "ms":
            names = {"s": "seconds", "us": "microseconds", "ns": "nanoseconds"}
            findings.note(Kind.TIME_UNIT, f"all times look like {names[unit]}: --time-unit {unit}")


def _check_grid(rows: Numbers, times: Numbers, step_ms: int, findings: Findings) -> None:
    offsets = times % step_ms
    places = np.flatnonzero(offsets)
    if not len(places):
        return
    findings.add_rows(
        Kind.GRID,
        rows[places],
        lambda at: f"{time_text(int(times[places[at]]))} is no multiple of {step_ms // 60_000} minutes",
    )
    if len(places) < len(times) or np.any(offsets != offsets[0]):
        return
    offset = int(offsets[0])
    # The nearer way back to the grid: 16 hours after midnight is 8 hours before the next.
    offset -= step_ms if offset > step_ms // 2 else 0
    side = "after" if offset > 0 else "before"
    if offset % QUARTER_MS == 0:
        text = (
            f"all rows are {abs(offset) / HOUR_MS:g} h {side} a multiple of the interval: the wrong timezone? "
            f"--shift-hours {-offset / HOUR_MS:g}"
        )
    else:
        text = f"all rows are {abs(offset)} ms {side} a multiple of the interval: are these the times when bars end?"
    findings.note(Kind.GRID, text)


def _finished(
    rows: Numbers, times: Numbers, step_ms: int, options: ImportOptions, findings: Findings, now_ms: int
) -> Numbers:
    """Places of what is over."""
    unfinished = times + step_ms > now_ms
    places = np.flatnonzero(unfinished & (times <= LATEST_MS))
    if not len(places):
        return np.arange(len(times))
    is_dropped = Repair.DROP_UNFINISHED in options
    handled = "left out" if is_dropped else ""
    findings.add_rows(
        Kind.UNFINISHED,
        rows[places],
        lambda at: f"{time_text(int(times[places[at]]))} ends after now, {time_text(now_ms // 1000 * 1000)}",
        handled=handled,
    )
    ahead = int(times.max()) - now_ms
    if ahead > 0:
        text = f"the newest one begins {ahead / HOUR_MS:.2g} h after now: the wrong timezone?"
        findings.note(Kind.UNFINISHED, text, handled=handled)
    return np.flatnonzero(~unfinished) if is_dropped else np.arange(len(times))


def _ordered(rows: Numbers, times: Numbers, kept: Numbers, options: ImportOptions, findings: Findings) -> Numbers:
    chosen = times[kept]
    early = np.flatnonzero(np.diff(chosen) < 0) + 1
    if not len(early):
        return kept
    handled = "sorted" if Repair.SORT in options else ""
    findings.add_rows(
        Kind.DISORDER,
        rows[kept[early]],
        lambda at: (
            f"{time_text(int(chosen[early[at]]))} comes after {time_text(int(chosen[early[at] - 1]))} of the row before"
        ),
        handled=handled,
    )
    if len(early) == len(kept) - 1:
        findings.note(Kind.DISORDER, "all rows are in order, the newest first", handled=handled)
    # Stable: of rows of one time the first stays the first.
    return kept[np.argsort(chosen, kind="stable")]


def _once(staging: Staging, times: Numbers, kept: Numbers, options: ImportOptions, findings: Findings) -> Numbers:
    """Each time once."""
    chosen = times[kept]
    again = np.flatnonzero(np.diff(chosen) == 0) + 1
    if not len(again):
        return kept
    # Of each time, which row is its first.
    begins = np.concatenate(([True], np.diff(chosen) != 0))
    first_of = np.maximum.accumulate(np.where(begins, np.arange(len(kept)), 0))
    differs = np.zeros(len(again), dtype=np.bool_)
    for begin in range(0, len(again), COMPARED_ROWS):
        some = again[begin : begin + COMPARED_ROWS]
        ours, theirs = staging.values(kept[some]), staging.values(kept[first_of[some]])
        differs[begin : begin + len(some)] = np.any(
            [one != other for one, other in zip(ours, theirs, strict=True)], axis=0
        )
    rows = staging.rows[kept]

    def told(places: Numbers, kind: Kind, handled: str, what: str) -> None:
        findings.add_rows(
            kind,
            rows[places],
            lambda at: f"{time_text(int(chosen[places[at]]))} {what} row {int(rows[first_of[places[at]]])}",
            handled=handled,
        )

    told(again[~differs], Kind.DUPLICATE, "one kept" if Repair.DROP_DUPLICATES in options else "", "is also in")
    keeps_last = Repair.KEEP_LAST in options
    decided = "the last kept" if keeps_last else "the first kept" if Repair.KEEP_FIRST in options else ""
    told(again[differs], Kind.CONTRADICTION, decided, "has other values in")
    if keeps_last:
        return kept[np.concatenate((begins[1:], [True]))]
    return kept[begins]


def _tell_gaps(rows: Numbers, times: Numbers, gaps: list[Gap], options: ImportOptions, findings: Findings) -> None:
    handled = "filled with flat bars" if Repair.FILL_GAPS in options else ""
    handled = handled or ("accepted" if Repair.ACCEPT_GAPS in options else "")
    for gap in gaps:
        row = int(rows[np.searchsorted(times, gap.end_ms)])
        findings.add(Kind.GAP, row, f"before it {gap}", handled=handled)


def _check_volumes(staging: Staging, kept: Numbers, options: ImportOptions, findings: Findings) -> None:
    zero = np.empty(len(kept), dtype=np.bool_)
    for begin in range(0, len(kept), COMPARED_ROWS):
        some = kept[begin : begin + COMPARED_ROWS]
        zero[begin : begin + len(some)] = staging.values(some)[-1] == 0
    edges = np.flatnonzero(np.diff(np.concatenate(([False], zero, [False])).astype(np.int8)))
    handled = "accepted" if Repair.ACCEPT_ZERO_VOLUME in options else ""
    for begin, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        if end - begin > options.most_zero_bars:
            row = int(staging.rows[kept[begin]])
            findings.add(Kind.ZERO_VOLUME, row, f"{end - begin} bars without volume begin", handled=handled)
