from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest
from typing import Any

import numpy as np
from django.db.models import F, Func, IntegerField, Max, Min, Q, QuerySet

from marketdata.candles.aggregation import longer_bars
from marketdata.candles.findings import Gap
from marketdata.candles.inspection import gaps_between
from marketdata.candles.models import ArchiveImport, ArchiveMonth, ArchiveSeries
from marketdata.candles.packing import PackError, no_bars
from marketdata.candles.priced import Priced, priced_together, unpacked
from marketdata.candles.series import INTERVALS, CandleSeries, FundingSeries, interval_ms
from marketdata.candles.series_key import FUNDING, PriceOf, SeriesKey
from marketdata.candles.tables import BLOCK_ROWS, PRICES, TIME, VOLUME, Block
from marketdata.models import Candle


def candle_series(
    venue: str, symbol: str, interval: str, start_ms: int, end_ms: int, *, market: str = PriceOf.LINEAR
) -> CandleSeries:
    """The bars that start in ``[start_ms, end_ms)``: as they were stored, and where none are, made of shorter ones that
    are complete. Empty where there is nothing.

    Raises:
        ValueError: what is asked for cannot be.
        PackError: what is stored is damaged.
    """
    key = SeriesKey(venue, symbol, interval, market)
    step_ms = key.step_ms
    lines = {
        line.interval: line
        for line in ArchiveSeries.objects.filter(venue=venue, market=market, symbol=symbol).exclude(interval=FUNDING)
    }
    found = stored(lines[interval], start_ms, end_ms) if interval in lines else Priced(no_bars())
    shorter = [line for name, line in lines.items() if step_ms > interval_ms(name) and not step_ms % interval_ms(name)]
    for line in sorted(shorter, key=lambda line: -line.key.step_ms):
        found = _completed(found, line, step_ms, start_ms, end_ms)
    return found.series(key)


def funding_series(
    venue: str, symbol: str, start_ms: int, end_ms: int, *, market: str = PriceOf.LINEAR
) -> FundingSeries:
    """The rates of ``[start_ms, end_ms)``; empty where there are none. Raises as :func:`candle_series`."""
    line = archive_series(SeriesKey(venue, symbol, FUNDING, market))
    found = Priced(no_bars()) if line is None else stored(line, start_ms, end_ms)
    return FundingSeries(venue, symbol, found.bars.start, found.bars.open / 10.0**found.price_decimals)


def archive_series(key: SeriesKey) -> ArchiveSeries | None:
    return ArchiveSeries.objects.filter(
        venue=key.venue, market=key.market, symbol=key.symbol, interval=key.interval
    ).first()


def stored(line: ArchiveSeries, start_ms: int, end_ms: int) -> Priced:
    """What one line has of ``[start_ms, end_ms)``."""
    rows = line.months.filter(last_ms__gte=start_ms, first_ms__lt=end_ms).order_by("month")
    return priced_together(_unpacked(line.key, rows)).between(start_ms, end_ms)


def stored_months(line: ArchiveSeries, start_ms: int, end_ms: int) -> Iterator[Priced]:
    """The same a month at a time: of whatever length, it takes little memory."""
    rows = line.months.filter(last_ms__gte=start_ms, first_ms__lt=end_ms).order_by("month")
    for month in list(rows.values_list("month", flat=True)):
        yield from (each.between(start_ms, end_ms) for each in _unpacked(line.key, rows.filter(month=month)))


def _unpacked(key: SeriesKey, rows: QuerySet[ArchiveMonth]) -> list[Priced]:
    found = []
    for month, body, prices, volumes in rows.values_list("month", "body", "price_decimals", "volume_decimals"):
        try:
            found.append(Priced(unpacked(key, bytes(body)), prices, volumes))
        except PackError as error:
            raise PackError(f"{key}, {month:%Y-%m}: {error}; import it again with --replace") from None
    return found


def _completed(found: Priced, line: ArchiveSeries, step_ms: int, start_ms: int, end_ms: int) -> Priced:
    """With bars made of a shorter line's, where there are none."""
    part_ms = line.key.step_ms
    ends = line.months.aggregate(first=Min("first_ms"), last=Max("last_ms"))
    if ends["first"] is None:
        return found
    first = -(-max(start_ms, ends["first"]) // step_ms) * step_ms
    # A bar is asked for by its start; its parts may lie behind the end.
    end = min(-(-end_ms // step_ms) * step_ms, (ends["last"] + part_ms) // step_ms * step_ms)
    lacking = np.setdiff1d(np.arange(first, end, step_ms, dtype=np.int64), found.bars.start, assume_unique=True)
    if not len(lacking):
        return found
    parts = stored(line, int(lacking[0]), int(lacking[-1]) + step_ms)
    made = longer_bars(parts.bars, part_ms, step_ms)
    made = made.rows(np.isin(made.start, lacking, assume_unique=True))
    if not len(made):
        return found
    both = priced_together([found, Priced(made, parts.price_decimals, parts.volume_decimals)])
    order = np.argsort(both.bars.start, kind="stable")
    return Priced(both.bars.rows(order), both.price_decimals, both.volume_decimals)


@dataclass(frozen=True, slots=True)
class Coverage:
    """What there is of a line, and what is missing between its first and its last bar. ``size``: bytes stored."""

    key: SeriesKey
    first_ms: int
    last_ms: int
    bars: int
    size: int
    gaps: list[Gap]

    @property
    def missing(self) -> int:
        return sum(gap.missing for gap in self.gaps)


def archive_lines(**fields: str) -> QuerySet[ArchiveSeries]:
    """Lines by venue, market, symbol, interval, in this order."""
    return ArchiveSeries.objects.filter(**fields)


def coverage(key: SeriesKey) -> Coverage | None:
    """None where nothing is stored."""
    line = archive_series(key)
    found = [] if line is None else coverages([line])
    return found[0] if found else None


def coverages(lines: Iterable[ArchiveSeries]) -> list[Coverage]:
    """Of each line that holds something. Months are unpacked only where bars are missing within."""
    lines = list(lines)
    facts: dict[int, list[Any]] = defaultdict(list)
    # PostgreSQL knows the length of a body without reading it.
    size = Func(F("body"), function="octet_length", output_field=IntegerField())
    rows = ArchiveMonth.objects.filter(series__in=lines).order_by("series_id", "month").annotate(size=size)
    for row in rows.values("series_id", "month", "first_ms", "last_ms", "count", "size"):
        facts[row["series_id"]].append(row)
    holed = Q(missing__gt=0) | Q(series__interval=FUNDING)
    times: dict[tuple[int, Any], Any] = {}
    keys = {line.pk: line.key for line in lines}
    bodies = ArchiveMonth.objects.filter(holed, series__in=lines).values_list("series_id", "month", "body")
    for series_id, month, body in bodies:
        times[series_id, month] = unpacked(keys[series_id], bytes(body)).start
    return [_coverage(line, facts[line.pk], times) for line in lines if facts[line.pk]]


def _coverage(line: ArchiveSeries, months: Sequence[Any], times: Any) -> Coverage:
    key = line.key
    step_ms = None if key.is_funding else key.step_ms
    gaps: list[Gap] = []
    for month, following in zip_longest(months, months[1:]):
        # Only months with holes were unpacked.
        gaps += gaps_between(times.get((line.pk, month["month"]), np.empty(0)), step_ms)
        if following is not None:
            gaps += gaps_between(np.array([month["last_ms"], following["first_ms"]]), step_ms)
    bars, size = (sum(month[name] for month in months) for name in ("count", "size"))
    return Coverage(key, months[0]["first_ms"], months[-1]["last_ms"], bars, size, gaps)


def stored_ends(lines: Iterable[ArchiveSeries]) -> tuple[int, int]:
    """When the first bar of these lines begins, and when the last one does; 0 and 0 where none is stored."""
    ends = ArchiveMonth.objects.filter(series__in=lines).aggregate(first=Min("first_ms"), last=Max("last_ms"))
    return ends["first"] or 0, ends["last"] or 0


def missing_spans(key: SeriesKey, start_ms: int, end_ms: int) -> list[tuple[int, int]]:
    """What of ``[start_ms, end_ms)`` is not stored, oldest first: what a download has to ask for."""
    found = coverage(key)
    if found is None:
        return [(start_ms, end_ms)] if start_ms < end_ms else []
    # Funding has no grid: what follows on the last rate is asked for from the next millisecond on.
    after = found.last_ms + (1 if key.is_funding else key.step_ms)
    gaps = [] if key.is_funding else [(gap.start_ms, gap.end_ms) for gap in found.gaps]
    spans = [(start_ms, min(end_ms, found.first_ms)), *gaps, (max(start_ms, after), end_ms)]
    clipped = [(max(start_ms, first), min(end_ms, last)) for first, last in spans]
    return [(first, last) for first, last in clipped if first < last]


def imports() -> QuerySet[ArchiveImport]:
    """The newest first."""
    return ArchiveImport.objects.all()


def live_bars(symbols: Sequence[str], intervals: Sequence[str]) -> Iterator[tuple[SeriesKey, Iterator[Block]]]:
    """The closed bars that engines stored, line by line, each oldest first; without names, all."""
    rows = Candle.objects.filter(interval__in=intervals or INTERVALS)
    if symbols:
        rows = rows.filter(instrument__symbol__in=symbols)
    lines = rows.values_list(
        "instrument_id", "instrument__venue", "instrument__category", "instrument__symbol", "interval"
    )
    for instrument_id, venue, category, symbol, interval in lines.order_by("instrument__symbol", "interval").distinct():
        if category in PriceOf.__members__.values():
            own = rows.filter(instrument_id=instrument_id, interval=interval).order_by("start")
            yield SeriesKey(venue, symbol, interval, category), _live_blocks(own)


def _live_blocks(rows: QuerySet[Candle]) -> Iterator[Block]:
    names = (*PRICES, VOLUME)
    found = rows.values_list("start", *names).iterator(chunk_size=BLOCK_ROWS)
    first = 1
    while some := list(islice(found, BLOCK_ROWS)):
        columns = list(zip(*some, strict=True))
        times = np.array([round(start.timestamp() * 1_000) for start in columns[0]], dtype=np.int64)
        texts = {name: [f"{each:f}" for each in column] for name, column in zip(names, columns[1:], strict=True)}
        yield Block(np.arange(first, first + len(some)), {TIME: times, **texts}, is_time_ms=True)
        first += len(some)
