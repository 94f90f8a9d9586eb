"""Bars with the units that their numbers are in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from marketdata.candles.exact_numbers import fewest_decimals, rescaled
from marketdata.candles.packing import Bars, joined, no_bars, pack_bars, pack_rates, unpack_bars, unpack_rates
from marketdata.candles.series import CandleSeries
from marketdata.candles.series_key import SeriesKey

Numbers = NDArray[np.int64]

# Hours between two zones are whole or half ones, and days do not lie further apart.
ZONE_SHIFTS_MS = [half * 1_800_000 for half in range(-28, 29) if half]
FEWEST_COMPARED = 20
ALIKE_SHARE = 0.95


class DigitsError(ValueError):
    """Numbers too large to be kept with as many decimals as others beside them need."""


@dataclass(frozen=True, slots=True)
class Priced:
    """Prices in units of ``10 ** -price_decimals``, volumes of ``10 ** -volume_decimals``; times in milliseconds."""

    bars: Bars
    price_decimals: int = 0
    volume_decimals: int = 0

    def __len__(self) -> int:
        return len(self.bars)

    def between(self, start_ms: int, end_ms: int) -> Priced:
        """Those that start in ``[start_ms, end_ms)``."""
        first, last = np.searchsorted(self.bars.start, [start_ms, end_ms]).tolist()
        if first == 0 and last == len(self.bars):
            return self
        return Priced(self.bars.rows(slice(first, last)), self.price_decimals, self.volume_decimals)

    def scaled(self, price_decimals: int, volume_decimals: int) -> Priced:
        """The same with more decimals. Raises DigitsError where there is no room for them."""
        if (price_decimals, volume_decimals) == (self.price_decimals, self.volume_decimals):
            return self
        bars = self.bars
        columns = [rescaled(each, price_decimals - self.price_decimals) for each in bars.columns[1:5]]
        columns.append(rescaled(bars.volume, volume_decimals - self.volume_decimals))
        fitting = [each for each in columns if each is not None]
        if len(fitting) < len(columns):
            raise DigitsError(
                f"prices of {price_decimals} and volumes of {volume_decimals} decimals leave no room for the largest"
            )
        return Priced(Bars(bars.start, *fitting), price_decimals, volume_decimals)

    def fewest(self) -> Priced:
        """With as few decimals as they need: the same bars are the same numbers, wherever they came from."""
        bars = self.bars
        prices, price_decimals = fewest_decimals(bars.columns[1:5], self.price_decimals)
        volumes, volume_decimals = fewest_decimals([bars.volume], self.volume_decimals)
        return Priced(Bars(bars.start, *prices, *volumes), price_decimals, volume_decimals)

    def series(self, key: SeriesKey) -> CandleSeries:
        found = self.fewest()
        decimals = found.price_decimals, found.volume_decimals
        return CandleSeries(key.venue, key.symbol, key.interval, *decimals, *found.bars.columns)


def priced_together(parts: Sequence[Priced]) -> Priced:
    """One after the other, in one unit."""
    if not parts:
        return Priced(no_bars())
    prices = max(part.price_decimals for part in parts)
    volumes = max(part.volume_decimals for part in parts)
    return Priced(joined([part.scaled(prices, volumes).bars for part in parts]), prices, volumes)


def packed(key: SeriesKey, bars: Bars) -> bytes:
    return pack_rates(bars) if key.is_funding else pack_bars(bars, key.step_ms)


def unpacked(key: SeriesKey, body: bytes) -> Bars:
    return unpack_rates(body) if key.is_funding else unpack_bars(body, key.step_ms)


def month_of(times: Numbers) -> Numbers:
    """Calendar months (UTC) since 1970."""
    return times.astype("datetime64[ms]").astype("datetime64[M]").astype(np.int64)


@dataclass(frozen=True, slots=True)
class Merged:
    """``all``: old and new; how many of the new ones were not there, were there as they are, and contradict."""

    all: Priced
    new: int
    unchanged: int
    contradictions: Numbers

    @property
    def is_changed(self) -> bool:
        return bool(self.new or len(self.contradictions))


def merged(old: Priced, new: Priced, *, keeps_old: bool) -> Merged:
    """``contradictions``: places in ``new`` of what the old ones have otherwise; one of the two stays."""
    decimals = max(old.price_decimals, new.price_decimals), max(old.volume_decimals, new.volume_decimals)
    was, comes = old.scaled(*decimals).bars, new.scaled(*decimals).bars
    is_known, place = _places(was.start, comes.start)
    differs = is_known.copy()
    differs[is_known] = np.any(
        [ours[place[is_known]] != theirs[is_known] for ours, theirs in zip(was.columns, comes.columns, strict=True)],
        axis=0,
    )
    contradictions = np.flatnonzero(differs)
    taken = ~is_known if keeps_old else ~is_known | differs
    kept = np.ones(len(was), dtype=np.bool_)
    if not keeps_old:
        kept[place[differs]] = False
    found = joined([was.rows(kept), comes.rows(taken)])
    found = found.rows(np.argsort(found.start, kind="stable"))
    unchanged = int(np.count_nonzero(is_known)) - len(contradictions)
    return Merged(Priced(found, *decimals), int(np.count_nonzero(~is_known)), unchanged, contradictions)


def zone_shift_ms(old: Priced, new: Priced) -> int | None:
    """By how much the times of the new bars are off, where moved by some hours they are the old ones; else None."""
    decimals = max(old.price_decimals, new.price_decimals)
    was, comes = (each.scaled(decimals, each.volume_decimals).bars for each in (old, new))
    for shift in ZONE_SHIFTS_MS:
        is_known, place = _places(was.start, comes.start - shift)
        if np.count_nonzero(is_known) < FEWEST_COMPARED:
            continue
        alike = was.close[place[is_known]] == comes.close[is_known]
        alike &= was.open[place[is_known]] == comes.open[is_known]
        if np.mean(alike) >= ALIKE_SHARE:
            return shift
    return None


def _places(known: Numbers, asked: Numbers) -> tuple[NDArray[np.bool_], Numbers]:
    """Whether each time is known, and where."""
    if not len(known):
        return np.zeros(len(asked), dtype=np.bool_), np.zeros(len(asked), dtype=np.int64)
    place = np.minimum(np.searchsorted(known, asked), len(known) - 1)
    return known[place] == asked, place
