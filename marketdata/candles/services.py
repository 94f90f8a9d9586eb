from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date
from hashlib import sha256
from typing import BinaryIO

import numpy as np
from django.db import transaction

from audit.services import record
from audit.trace import current_trace
from marketdata.candles import selectors
from marketdata.candles.aggregation import flat_filled
from marketdata.candles.findings import Findings, ImportOptions, ImportRefused, Kind, Repair, Report, time_text
from marketdata.candles.inspection import Inspected, inspect
from marketdata.candles.models import ArchiveImport, ArchiveMonth, ArchiveSeries
from marketdata.candles.packing import Bars, PackError, joined, no_bars
from marketdata.candles.priced import (
    DigitsError,
    Merged,
    Numbers,
    Priced,
    merged,
    month_of,
    packed,
    unpacked,
    zone_shift_ms,
)
from marketdata.candles.series_key import SeriesKey
from marketdata.candles.staging import MOST_ROWS, Staging
from marketdata.candles.tables import PRICES, RATE, TIME, VOLUME, Block, TableError, TableForm, read_blocks

# Flat bars that one import may add: 2 years of minutes. More is a file that lacks more than it holds.
MOST_FILLED = 1_051_200
REPORT_SOURCE_LENGTH = 255


def file_import(
    file: BinaryIO,
    *,
    key: SeriesKey,
    form: TableForm,
    options: ImportOptions,
    actor: str,
    source: str,
    most_rows: int = MOST_ROWS,
) -> Report:
    """Bring a table of bars or funding rates into the archive: CSV, plain or gzipped, or Parquet. Bringing it again
    changes nothing.

    Raises:
        ImportRefused: something is wrong that no option repairs; nothing was stored.
    """
    wanted = (TIME, RATE) if key.is_funding else (TIME, *PRICES, *((VOLUME,) if key.has_volume else ()))
    optional = () if key.is_funding or key.has_volume else (VOLUME,)
    blocks = read_blocks(file, form, wanted, optional)
    return blocks_import(blocks, key=key, options=options, actor=actor, source=source, most_rows=most_rows)


def blocks_import(
    blocks: Iterable[Block],
    *,
    key: SeriesKey,
    options: ImportOptions,
    actor: str,
    source: str,
    most_rows: int = MOST_ROWS,
) -> Report:
    """The same of rows that come from elsewhere. What goes wrong while they come is a refusal, too."""
    report, findings = Report(str(key), source), Findings()
    staging = Staging(options, findings, rates=key.is_funding, most_rows=most_rows)
    try:
        try:
            for block in blocks:
                staging.append(block)
            staging.finish()
            inspected = inspect(
                staging,
                None if key.is_funding else key.step_ms,
                options,
                findings,
                now_ms=time.time_ns() // 1_000_000,
                has_volume=key.has_volume,
            )
            report.gaps = inspected.gaps
        except TableError as error:
            findings.add(Kind.FILE, 0, str(error))
        report.rows = staging.read
        if findings.refused:
            raise _refused(report, findings)
        return _store(staging, inspected, key, options, findings, report, actor)
    except ImportRefused as refusal:
        _record(key, refusal.report, actor)
        raise
    finally:
        staging.close()


def _refused(report: Report, findings: Findings) -> ImportRefused:
    report.findings, report.refused = findings.all, True
    report.stored = report.replaced = report.unchanged = report.filled = 0
    return ImportRefused(report)


@transaction.atomic
def _store(
    staging: Staging,
    inspected: Inspected,
    key: SeriesKey,
    options: ImportOptions,
    findings: Findings,
    report: Report,
    actor: str,
) -> Report:
    fills = Repair.FILL_GAPS in options and not key.is_funding
    if fills and (filled := sum(gap.missing for gap in inspected.gaps)) > MOST_FILLED:
        findings.add(Kind.GAP, 0, f"{filled} bars would have to be filled in; at most {MOST_FILLED}")
        raise _refused(report, findings)
    writer = _Writer(key, _locked(key), options)
    try:
        for bars, places in _months(staging, inspected, key, fills=fills):
            report.filled += int(np.count_nonzero(places < 0))
            _tell_contradictions(writer.write(bars), bars, staging.rows[places], options, findings)
    except DigitsError as error:
        findings.add(Kind.PRECISION, 0, f"beside what is stored {error}")
    except PackError as error:
        findings.add(Kind.STORED, 0, str(error))
    if writer.shift_ms is not None and findings.refused:
        hours = writer.shift_ms / 3_600_000
        text = f"moved by {-hours:g} h they are what is stored: the wrong timezone? --shift-hours {-hours:g}"
        findings.note(Kind.STORED, text)
    if findings.refused:
        raise _refused(report, findings)
    report.stored, report.replaced, report.unchanged = writer.stored, writer.replaced, writer.unchanged
    return _finished(key, report, findings, writer, actor)


def _finished(key: SeriesKey, report: Report, findings: Findings, writer: _Writer, actor: str) -> Report:
    writer.series.save(update_fields=["updated_at"])
    report.findings = findings.all
    report.first_ms, report.last_ms = writer.first_ms, writer.last_ms
    found = selectors.coverage(key)
    report.gaps = [] if found is None else found.gaps
    _record(key, report, actor)
    return report


def _tell_contradictions(
    found: Merged, bars: Priced, rows: Numbers, options: ImportOptions, findings: Findings
) -> None:
    handled = "replaced" if Repair.REPLACE in options else "" if Repair.KEEP_STORED not in options else "left out"
    findings.add_rows(
        Kind.STORED,
        rows[found.contradictions],
        lambda at: f"{time_text(int(bars.bars.start[found.contradictions[at]]))} is stored with other values",
        handled=handled,
    )


def _months(staging: Staging, inspected: Inspected, key: SeriesKey, *, fills: bool) -> Iterator[tuple[Priced, Numbers]]:
    """A month at once, with the places of its rows (-1: filled in). Gaps are filled from the last bar before them, be
    it of the month before."""
    months = month_of(inspected.times)
    edges = np.flatnonzero(np.concatenate(([True], np.diff(months) != 0, [True])))
    last: Bars | None = None
    for begin, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        places = inspected.places[begin:end]
        bars = staging.bars(places, inspected.times[begin:end])
        if fills:
            own = bars
            with_last = bars if last is None else joined([last, bars])
            filled, _ = flat_filled(with_last, key.step_ms)
            bars = filled if last is None else filled.rows(slice(1, None))
            last = own.rows(slice(-1, None))
            at = np.minimum(np.searchsorted(own.start, bars.start), len(own) - 1)
            places = np.where(own.start[at] == bars.start, places[at], -1)
            # What was filled in before this month's first bar may be of months without any row.
            own_months = month_of(bars.start)
            for month in np.unique(own_months).tolist():
                chosen = own_months == month
                yield Priced(bars.rows(chosen), staging.price_decimals, staging.volume_decimals), places[chosen]
        else:
            yield Priced(bars, staging.price_decimals, staging.volume_decimals), places


def _locked(key: SeriesKey) -> ArchiveSeries:
    """The line, ours until the transaction ends: two who import into one line take turns."""
    series, _ = ArchiveSeries.objects.get_or_create(
        venue=key.venue, market=key.market, symbol=key.symbol, interval=key.interval
    )
    return ArchiveSeries.objects.select_for_update(no_key=True).get(pk=series.pk)


@dataclass
class _Writer:
    """Merges months into a line that is locked."""

    key: SeriesKey
    series: ArchiveSeries
    options: ImportOptions
    stored: int = 0
    replaced: int = 0
    unchanged: int = 0
    first_ms: int | None = None
    last_ms: int | None = None
    shift_ms: int | None = None
    _has_compared: bool = field(default=False)

    def write(self, bars: Priced) -> Merged:
        """Bars of one month. Of contradictions without an option nothing is written; the caller gives up."""
        replaces = Repair.REPLACE in self.options
        month = _date_of(int(month_of(bars.bars.start[:1])[0]))
        row = ArchiveMonth.objects.filter(series=self.series, month=month).first()
        old = Priced(no_bars())
        try:
            if row is not None:
                old = Priced(unpacked(self.key, bytes(row.body)), row.price_decimals, row.volume_decimals)
        except PackError as error:
            # Only who replaces what is stored may lose what nobody can read any more.
            if not replaces:
                raise PackError(f"what is stored of {month:%Y-%m} is lost ({error})") from None
        found = merged(old, bars, keeps_old=not replaces)
        if len(found.contradictions) and not self._has_compared:
            self._has_compared, self.shift_ms = True, zone_shift_ms(old, bars)
        self.stored += found.new
        self.replaced += len(found.contradictions) if replaces else 0
        self.unchanged += found.unchanged + (0 if replaces else len(found.contradictions))
        ends = int(bars.bars.start[0]), int(bars.bars.start[-1])
        self.first_ms = ends[0] if self.first_ms is None else min(self.first_ms, ends[0])
        self.last_ms = ends[1] if self.last_ms is None else max(self.last_ms, ends[1])
        if found.new or (replaces and len(found.contradictions)):
            self._keep(month, found.all.fewest())
        return found

    def _keep(self, month: date, bars: Priced) -> None:
        start = bars.bars.start
        body = packed(self.key, bars.bars)
        missing = 0 if self.key.is_funding else int(start[-1] - start[0]) // self.key.step_ms + 1 - len(start)
        row = ArchiveMonth(
            series=self.series,
            month=month,
            first_ms=int(start[0]),
            last_ms=int(start[-1]),
            count=len(start),
            missing=missing,
            price_decimals=bars.price_decimals,
            volume_decimals=bars.volume_decimals,
            digest=sha256(body).digest(),
            body=body,
        )
        names = {column.name for column in ArchiveMonth._meta.concrete_fields} - {"pk", "series", "month"}
        ArchiveMonth.objects.bulk_create(
            [row], update_conflicts=True, unique_fields=["series", "month"], update_fields=sorted(names)
        )


@transaction.atomic
def _record(key: SeriesKey, report: Report, actor: str) -> None:
    """The import itself, and the trail. Bringing again what is there already leaves a row, too: it was asked for."""
    changed = report.stored + report.replaced
    ArchiveImport.objects.create(
        actor=actor[:150],
        source=_kept(report.source),
        venue=key.venue,
        market=key.market,
        symbol=key.symbol,
        interval=key.interval,
        outcome=ArchiveImport.Outcome.REFUSED if report.refused else ArchiveImport.Outcome.STORED,
        rows=report.rows,
        bars=changed,
        report=report.as_json(),
        trace_id=current_trace(),
    )
    record(
        actor=actor,
        action="candles.import_refused" if report.refused else "candles.import",
        subject=f"archive:{key}"[:200],
        parameters={
            "source": _kept(report.source),
            "rows": report.rows,
            "stored": report.stored,
            "replaced": report.replaced,
        },
    )


def _kept(text: str) -> str:
    return text.replace("\0", "")[:REPORT_SOURCE_LENGTH]


def _date_of(month: int) -> date:
    return date(1970 + month // 12, month % 12 + 1, 1)


def live_bars_archive(*, symbols: Iterable[str] = (), intervals: Iterable[str] = (), actor: str) -> list[Report]:
    """Take over the bars that engines stored while trading; without names, all. What the archive has already stays as
    it is there."""
    options = ImportOptions(frozenset({Repair.ACCEPT_GAPS, Repair.ACCEPT_ZERO_VOLUME, Repair.KEEP_STORED}))
    reports = []
    for key, blocks in selectors.live_bars(list(symbols), list(intervals)):
        reports.append(blocks_import(blocks, key=key, options=options, actor=actor, source="bars of live trading"))
    return reports
