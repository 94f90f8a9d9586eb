"""What is made of depth volumes: groups of symbols, spot against futures, correlation. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext

import numpy as np
from numpy.typing import NDArray

from marketdata.depth.snapshots import MOST_DIGITS, PERCENT_DECIMALS, DepthVolume, difference, difference_percent

# How many of the largest symbols besides the two are "others".
OTHERS = 10
QUOTES = ("USDT", "USDC", "FDUSD", "BUSD", "TUSD", "USD")
LEAST_POINTS = 3


def base_coin(symbol: str) -> str:
    """BTC of BTCUSDT; of a symbol in a coin that is no dollar, the whole symbol."""
    for quote in QUOTES:
        if symbol.endswith(quote) and len(symbol) > len(quote):
            return symbol[: -len(quote)]
    return symbol


@dataclass(frozen=True, slots=True)
class GroupVolume:
    """A group's resting value in dollars: coins of different kinds add up only by their value."""

    name: str
    depth: int
    symbols: int
    bid_usd: Decimal
    ask_usd: Decimal
    covered: bool

    @property
    def diff_usd(self) -> Decimal:
        return difference(self.bid_usd, self.ask_usd)

    @property
    def percentage(self) -> Decimal:
        return difference_percent(self.bid_usd, self.ask_usd)


def _total(symbols: Sequence[str]) -> Sequence[str]:
    return symbols


def _total1(symbols: Sequence[str]) -> Sequence[str]:
    return [symbol for symbol in symbols if base_coin(symbol) != "BTC"]


def _total2(symbols: Sequence[str]) -> Sequence[str]:
    return [symbol for symbol in symbols if base_coin(symbol) not in ("BTC", "ETH")]


def _others(symbols: Sequence[str]) -> Sequence[str]:
    return _total2(symbols)[:OTHERS]


# Each takes the symbols with the largest first. TOTAL: all; TOTAL1: without BTC; TOTAL2: without BTC and ETH; OTHERS:
# the largest of the rest.
GROUPS: Mapping[str, Callable[[Sequence[str]], Sequence[str]]] = {
    "TOTAL": _total,
    "TOTAL1": _total1,
    "TOTAL2": _total2,
    "OTHERS": _others,
}


def group_volumes(volumes: Mapping[str, DepthVolume]) -> list[GroupVolume]:
    """TOTAL, TOTAL1, TOTAL2 and OTHERS of one depth, given that depth's volume by symbol."""
    by_size = sorted(volumes, key=lambda symbol: (-_value(volumes[symbol]), symbol))
    return [_group(name, [volumes[symbol] for symbol in choose(by_size)]) for name, choose in GROUPS.items()]


def _value(volume: DepthVolume) -> Decimal:
    with localcontext(prec=4 * MOST_DIGITS):
        return volume.bid_volume_usd + volume.ask_volume_usd


def _group(name: str, members: Sequence[DepthVolume]) -> GroupVolume:
    with localcontext(prec=4 * MOST_DIGITS):
        return GroupVolume(
            name=name,
            depth=members[0].depth if members else 0,
            symbols=len(members),
            bid_usd=sum((each.bid_volume_usd for each in members), Decimal(0)),
            ask_usd=sum((each.ask_volume_usd for each in members), Decimal(0)),
            covered=all(each.bid_covered and each.ask_covered for each in members),
        )


def market_difference_percent(spot: Decimal, futures: Decimal) -> Decimal | None:
    """How much more rests on futures than on spot, in percent of spot; None where spot has nothing."""
    if not spot:
        return None
    with localcontext(prec=4 * MOST_DIGITS):
        return ((futures - spot) / spot * 100).quantize(Decimal(1).scaleb(-PERCENT_DECIMALS))


def average(volumes: Iterable[Decimal]) -> Decimal | None:
    """The mean; None of nothing."""
    values = list(volumes)
    if not values:
        return None
    with localcontext(prec=4 * MOST_DIGITS):
        return sum(values, Decimal(0)) / len(values)


def correlations(series: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pearson's correlation of each pair of rows, from the columns that both rows have (NaN: not there).

    Args:
        series: ``(symbols, minutes)``.

    Returns:
        ``(symbols, symbols)``, NaN where a pair has fewer than three common columns or one of it never changes.
    """
    known = np.isfinite(series)
    filled = np.where(known, series, 0.0)
    # Around each row's own mean: sums of squares of large volumes would lose the digits that matter.
    counts = known.sum(axis=1, keepdims=True)
    filled = np.where(known, filled - filled.sum(axis=1, keepdims=True) / np.maximum(counts, 1), 0.0)
    ones = known.astype(float)
    number = ones @ ones.T
    with np.errstate(divide="ignore", invalid="ignore"):
        sums, squares, products = filled @ ones.T, (filled**2) @ ones.T, filled @ filled.T
        covariance = products - sums * sums.T / number
        variance = squares - sums**2 / number
        # What is left of rounding, where a row does not change.
        variance = np.where(variance <= 1e-12 * squares, 0.0, variance)
        found = covariance / np.sqrt(variance * variance.T)
    return np.where((number >= LEAST_POINTS) & np.isfinite(found), np.clip(found, -1.0, 1.0), np.nan)


def rolling_correlations(series: NDArray[np.float64], window: int, step: int = 1) -> NDArray[np.float64]:
    """:func:`correlations` of each window of so many columns: ``(windows, symbols, symbols)``, the oldest first."""
    starts = range(0, series.shape[1] - window + 1, step)
    found = [correlations(series[:, start : start + window]) for start in starts]
    return np.stack(found) if found else np.zeros((0, len(series), len(series)))
