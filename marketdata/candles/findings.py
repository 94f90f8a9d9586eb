"""What is wrong with past bars that somebody brings, row by row, and what may be done about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROWS_TOLD = 20
GAPS_TOLD = 200


class Kind(StrEnum):
    FILE = "file"
    COLUMNS = "columns"
    NUMBER = "number"
    PRECISION = "precision"
    NEGATIVE = "negative"
    RANGE = "range"
    OUTSIDE = "outside"
    TIME_UNIT = "time_unit"
    GRID = "grid"
    UNFINISHED = "unfinished"
    DISORDER = "disorder"
    DUPLICATE = "duplicate"
    CONTRADICTION = "contradiction"
    GAP = "gap"
    ZERO_VOLUME = "zero_volume"
    STORED = "stored"


class Repair(StrEnum):
    """What the importer may be told to do; nothing of it happens by itself."""

    SORT = "sort"
    DROP_DUPLICATES = "drop_duplicates"
    KEEP_FIRST = "keep_first"
    KEEP_LAST = "keep_last"
    DROP_BAD_ROWS = "drop_bad_rows"
    WIDEN = "widen"
    DROP_UNFINISHED = "drop_unfinished"
    FILL_GAPS = "fill_gaps"
    ACCEPT_GAPS = "accept_gaps"
    ACCEPT_ZERO_VOLUME = "accept_zero_volume"
    REPLACE = "replace"
    KEEP_STORED = "keep_stored"


REPAIR_HELP = {
    Repair.SORT: "put the rows in the order of their times",
    Repair.DROP_DUPLICATES: "of equal rows of one time, keep one",
    Repair.KEEP_FIRST: "of contradicting rows of one time, keep the first",
    Repair.KEEP_LAST: "of contradicting rows of one time, keep the last",
    Repair.DROP_BAD_ROWS: "leave out rows that are no bars (bad numbers, high below low, wrong column count)",
    Repair.WIDEN: "where open or close lie outside, let high and low reach to them",
    Repair.DROP_UNFINISHED: "leave out bars that are not over yet",
    Repair.FILL_GAPS: "put flat bars (the last close, no volume) where bars are missing",
    Repair.ACCEPT_GAPS: "store what is there; the gaps are told by every list of the archive",
    Repair.ACCEPT_ZERO_VOLUME: "take long runs of bars without volume as they are",
    Repair.REPLACE: "where the archive has another bar of that time, replace it",
    Repair.KEEP_STORED: "where the archive has another bar of that time, keep that one",
}
_REMEDIES = {
    Kind.FILE: "repair or fetch the file again",
    Kind.COLUMNS: "--drop-bad-rows leaves such rows out",
    Kind.NUMBER: "--drop-bad-rows leaves such rows out",
    Kind.PRECISION: "--round-decimals N rounds",
    Kind.NEGATIVE: "--drop-bad-rows leaves such rows out",
    Kind.RANGE: "--drop-bad-rows leaves such rows out",
    Kind.OUTSIDE: "--widen lets high and low reach to them, --drop-bad-rows leaves such rows out",
    Kind.TIME_UNIT: "--time-unit says what times are in (s, ms, us, ns)",
    Kind.GRID: "--shift-hours N moves all times",
    Kind.UNFINISHED: "--drop-unfinished leaves them out; --shift-hours N moves all times",
    Kind.DISORDER: "--sort puts them in order",
    Kind.DUPLICATE: "--drop-duplicates keeps one of each",
    Kind.CONTRADICTION: "--keep-first or --keep-last decides",
    Kind.GAP: "--accept-gaps stores what is there, --fill-gaps flat puts flat bars there",
    Kind.ZERO_VOLUME: "--accept-zero-volume takes them as they are",
    Kind.STORED: "--replace takes the new ones, --keep-stored the old ones",
}


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """How a file is read and what may be repaired. ``time_unit`` of numbers: s, ms, us, ns or auto;
    ``round_decimals``: of prices and volumes alike; ``most_zero_bars``: how many bars without volume may follow on each
    other."""

    repairs: frozenset[Repair] = frozenset()
    time_unit: str = "ms"
    shift_hours: Decimal = Decimal(0)
    round_decimals: int | None = None
    most_zero_bars: int = 1_440

    def __contains__(self, repair: Repair) -> bool:
        return repair in self.repairs


@dataclass(slots=True)
class Finding:
    """``handled`` says what was done about it; while it is empty the whole is refused."""

    kind: Kind
    count: int = 0
    rows: list[tuple[int, str]] = field(default_factory=list)
    handled: str = ""
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind.value,
            "count": self.count,
            "rows": [{"row": row, "problem": text} for row, text in self.rows],
            "handled": self.handled,
            "note": self.note,
            "remedy": "" if self.handled else _REMEDIES[self.kind],
        }

    def lines(self) -> Iterable[str]:
        outcome = self.handled or f"refused; {_REMEDIES[self.kind]}"
        yield f"{self.kind.value.replace('_', ' ')}: {self.count} ({outcome})"
        if self.note:
            yield f"  {self.note}"
        for row, text in self.rows:
            yield f"  row {row}: {text}" if row else f"  {text}"
        if self.count > len(self.rows) > 0:
            yield f"  and {self.count - len(self.rows)} more"


@dataclass(frozen=True, slots=True)
class Gap:
    """Bars that are missing: those that start in ``[start_ms, end_ms)``; of funding, how long there was none."""

    start_ms: int
    end_ms: int
    missing: int

    def as_json(self) -> dict[str, Any]:
        return {"from": time_text(self.start_ms), "to": time_text(self.end_ms), "missing": self.missing}

    def __str__(self) -> str:
        return f"{time_text(self.start_ms)} to {time_text(self.end_ms)}: {self.missing} missing"


class Findings:
    """Gathered while rows are read."""

    def __init__(self) -> None:
        self._found: dict[tuple[Kind, str], Finding] = {}

    def add(self, kind: Kind, row: int, problem: str, *, handled: str = "", count: int = 1) -> None:
        finding = self._found.setdefault((kind, handled), Finding(kind, handled=handled))
        finding.count += count
        if len(finding.rows) < ROWS_TOLD:
            finding.rows.append((row, problem))

    def add_rows(
        self, kind: Kind, rows: NDArray[np.int64], problem: Callable[[int], str], *, handled: str = ""
    ) -> None:
        """``rows``: their numbers in the file; ``problem`` is asked with places in ``rows``."""
        if not len(rows):
            return
        finding = self._found.setdefault((kind, handled), Finding(kind, handled=handled))
        finding.count += len(rows)
        told = min(len(rows), ROWS_TOLD - len(finding.rows))
        finding.rows += [(int(rows[place]), problem(place)) for place in range(told)]

    def note(self, kind: Kind, text: str, *, handled: str = "") -> None:
        self._found.setdefault((kind, handled), Finding(kind, handled=handled)).note = text

    @property
    def all(self) -> list[Finding]:
        return sorted(self._found.values(), key=lambda finding: (bool(finding.handled), list(Kind).index(finding.kind)))

    @property
    def refused(self) -> bool:
        return any(not finding.handled for finding in self._found.values())

    def has(self, *kinds: Kind) -> bool:
        return any(finding.kind in kinds for finding in self._found.values())


@dataclass(slots=True)
class Report:
    """What came of an import. ``rows`` were read; of the bars ``stored`` are new, ``replaced`` were others before,
    ``unchanged`` were there already; ``filled`` are flat bars of the importer's own. ``gaps`` are those of the whole
    stored line after it (of a refused import: those of the file)."""

    series: str
    source: str
    rows: int = 0
    stored: int = 0
    replaced: int = 0
    unchanged: int = 0
    filled: int = 0
    first_ms: int | None = None
    last_ms: int | None = None
    findings: list[Finding] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    refused: bool = False

    def as_json(self) -> dict[str, Any]:
        return {
            "series": self.series,
            "source": self.source,
            "refused": self.refused,
            "rows": self.rows,
            "stored": self.stored,
            "replaced": self.replaced,
            "unchanged": self.unchanged,
            "filled": self.filled,
            "from": None if self.first_ms is None else time_text(self.first_ms),
            "to": None if self.last_ms is None else time_text(self.last_ms),
            "findings": [finding.as_json() for finding in self.findings],
            "gaps": [gap.as_json() for gap in self.gaps[:GAPS_TOLD]],
            "gap_count": len(self.gaps),
            "missing": sum(gap.missing for gap in self.gaps),
        }

    def lines(self) -> Iterable[str]:
        """As people read it."""
        if self.refused:
            yield f"{self.series}: REFUSED, nothing of {self.source} is stored ({self.rows} rows read)"
        else:
            counts = f"{self.stored} stored, {self.replaced} replaced, {self.unchanged} unchanged"
            filled = f", {self.filled} filled in" if self.filled else ""
            yield f"{self.series}: {self.rows} rows of {self.source}: {counts}{filled}"
        for finding in self.findings:
            yield from finding.lines()
        if self.gaps:
            yield f"gaps: {len(self.gaps)}, {sum(gap.missing for gap in self.gaps)} missing"
            yield from (f"  {gap}" for gap in self.gaps[:ROWS_TOLD])
        elif not self.refused:
            yield "gaps: none"


class ImportRefused(Exception):
    """Nothing was stored; the report says why, by row."""

    def __init__(self, report: Report) -> None:
        super().__init__(f"{report.source}: {', '.join(f.kind.value for f in report.findings if not f.handled)}")
        self.report = report


def time_text(at_ms: int) -> str:
    """ISO 8601, to the second where that is exact."""
    try:
        moment = datetime.fromtimestamp(at_ms / 1000, tz=UTC)
    except (ValueError, OverflowError, OSError):
        return str(at_ms)
    return moment.isoformat(timespec="milliseconds" if at_ms % 1000 else "seconds").replace("+00:00", "Z")
