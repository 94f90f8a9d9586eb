"""When a position ends next, found by a kernel: exit rules, take-profit and stop-loss of one symbol, in integers that
say to the last digit what Decimal says (trading/backtest/walk.py, which takes what does not fit)."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from marketdata.instruments import InstrumentRules
from risk.exits import ExitRules, ExitState
from trading.backtest.bars import Bars
from trading.backtest.books import Holding
from trading.backtest.compiled_terms import LARGEST_LEVEL, LEVEL_DECIMALS, CompiledUnfit, exit_terms, whole
from trading.backtest.kernels.slots import At, Kind

Ints = NDArray[np.int64]
NOTHING = np.zeros(0)
NOT_YET, QUIET = -2, -1
REASONS = tuple(kind.name.lower() for kind in Kind)
LEVEL_ONE = 10.0**LEVEL_DECIMALS
AGAINST = tuple(int(each) for each in (At.STOP_LOSS, At.MAX_LOSS, At.TRAILING_STOP, At.TRAILING_TAKE))
BAR, LEG, PRICE, PARTIALS, SIDE = (int(each) for each in (At.BAR, At.LEG, At.PRICE, At.PARTIALS, At.SIDE))
BEST, TRAILING_TAKE, TRAILING_STOP = int(At.BEST), int(At.TRAILING_TAKE), int(At.TRAILING_STOP)


@dataclass(slots=True, eq=False)
class Watched:
    """A position as the kernel knows it (``At``): as it was where it was last acted upon, and ``ahead`` of that, where
    something is due next (``kind``; QUIET: nothing is before its bar, NOT_YET: nobody has looked)."""

    state: Ints
    ahead: Ints
    kind: int = NOT_YET


class ExitWatch:
    def __init__(self, rules: ExitRules, bars: Bars, instrument: InstrumentRules) -> None:
        """Raises CompiledUnfit where a figure has too many digits."""
        from trading.backtest.kernels.exits import begin, do_partial, next_exit  # noqa: PLC0415 numba: only who tests needs it

        self._begin, self._do_partial, self._next_exit = begin, do_partial, next_exit
        self._grid, terms = exit_terms(rules, bars.series, instrument)
        self._terms = (*terms, NOTHING)
        factor = 10 ** (self._grid.price - bars.series.price_decimals)
        columns = (bars.opened, bars.high, bars.low, bars.closed)
        self._given = (*self._terms, *(each if factor == 1 else each * factor for each in columns))
        self._largest = instrument.max_market_quantity

    def watch(self, holding: Holding, bar: int) -> Watched | None:
        """A position from the beginning of a bar on; None where it does not fit."""
        book, exact = holding.book, holding.state
        if book.quantity > self._largest:
            return None
        state, side = np.empty(len(At), dtype=np.int64), 1 if holding.is_long else -1
        try:
            entry = best = self._grid.price_units(book.entry_price)
            if exact.best_price != book.entry_price:
                best = self._grid.price_units(exact.best_price)
            venue = _level(holding.take_profit), _level(holding.stop_loss)
            trailing = _level(exact.take_price), _level(exact.stop_price)
        except CompiledUnfit:
            return None
        self._begin(*self._terms, bar, side, entry, best, *venue, *trailing, exact.partials, state)
        return Watched(state, np.empty_like(state))

    def look_ahead(self, watched: Watched, end: int) -> int:
        """The next bar before ``end`` on which something is due, or ``end``."""
        watched.ahead[:] = watched.state
        watched.kind = int(self._next_exit(*self._given, end, watched.ahead))
        return int(watched.ahead[BAR])

    def first_exit(self, watched: Watched, bar: int) -> int:
        """What is due first within a bar (``Kind``), or QUIET: then the position stands at the bar's end."""
        if watched.ahead[BAR] == bar and watched.kind >= 0:
            kind = watched.kind
            watched.state, watched.ahead, watched.kind = watched.ahead, watched.state, NOT_YET
            return kind
        return self.next_exit(watched, bar)

    def next_exit(self, watched: Watched, bar: int) -> int:
        """What is due next within the bar."""
        watched.kind = NOT_YET
        return int(self._next_exit(*self._given, bar + 1, watched.state))

    def reach(self, watched: Watched, bar: int) -> None:
        """Go on to the beginning of a bar, before which nothing is due."""
        watched.kind = NOT_YET
        self._next_exit(*self._given, bar, watched.state)

    def leg(self, watched: Watched) -> int:
        """On which leg of its bar the price is; 0: at the open."""
        return watched.state.item(LEG)

    def price(self, watched: Watched) -> Decimal:
        return Decimal(watched.state.item(PRICE)).scaleb(-self._grid.price)

    def do_partial(self, watched: Watched, partials: int) -> None:
        """So many partial exits are done."""
        self._do_partial(*self._terms, partials, watched.state)

    def exact(self, watched: Watched) -> ExitState:
        """What the exit rules remember of it, as money."""
        state = watched.state
        return ExitState(
            Decimal(state.item(BEST)).scaleb(-self._grid.price),
            _price(state.item(TRAILING_TAKE)),
            _price(state.item(TRAILING_STOP)),
            state.item(PARTIALS),
        )

    def worst_price(self, watched: Watched) -> float | None:
        """The nearest level against it, quote coin; None where there is none."""
        state = watched.state
        levels = [level for slot in AGAINST if (level := state.item(slot))]
        if not levels:
            return None
        return (max(levels) if state.item(SIDE) > 0 else min(levels)) / LEVEL_ONE


def _level(price: Decimal | None) -> int:
    if price is None:
        return 0
    units = whole(price, LEVEL_DECIMALS)
    if units >= LARGEST_LEVEL:
        raise CompiledUnfit(f"a level of {price:f} has too many digits")
    return units


def _price(level: int) -> Decimal | None:
    return Decimal(level).scaleb(-LEVEL_DECIMALS).normalize() if level else None
