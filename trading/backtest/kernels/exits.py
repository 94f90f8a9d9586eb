"""How one position of the full path ends: from bar to bar, stopping at every price where something is due. Python
carries that out and goes on from there.

Levels and the way of the price are those of compiled runs (trading/backtest/kernels/simulation.py). Of the account
nothing is known here: bars on which it could be liquidated are not given to this kernel.
"""

from __future__ import annotations

from trading.backtest.kernels.decorators import inner, kernel
from trading.backtest.kernels.position import (
    BEST,
    ENTRY,
    EXITS,
    PARTIALS,
    SIDE,
    STOP_LOSS,
    TAKE_PROFIT,
    TRAILING_STOP,
    TRAILING_TAKE,
    Floats,
    Given,
    Ints,
    set_fixed_levels,
    set_partial,
)
from trading.backtest.kernels.simulation import (
    BAR,
    IS_PARTIAL,
    due_whole,
    next_target,
    partials_reached,
    quiet_until,
)
from trading.backtest.kernels.slots import At

LEG, PRICE = int(At.LEG), int(At.PRICE)
LEGS = 4


@kernel(
    "void(int64[::1], int64[::1], int64[::1], int64[::1], int64[::1], float64[::1], "
    "int64, int64, int64, int64, int64, int64, int64, int64, int64, int64[::1])"
)
def begin(
    ask: Ints,
    partials: Ints,
    take_shares: Ints,
    take_ones: Ints,
    stop_steps: Ints,
    nothing: Floats,
    bar: int,
    side: int,
    entry: int,
    best: int,
    take_profit: int,
    stop_loss: int,
    trailing_take: int,
    trailing_stop: int,
    partials_done: int,
    state: Ints,
) -> None:
    """A position as it is at the beginning of a bar; levels of 0: there is none."""
    state[:] = 0
    state[BAR], state[LEG], state[SIDE], state[PARTIALS] = bar, -1, side, partials_done
    state[ENTRY], state[BEST], state[TAKE_PROFIT], state[STOP_LOSS] = entry, best, take_profit, stop_loss
    state[TRAILING_TAKE], state[TRAILING_STOP] = trailing_take, trailing_stop
    set_fixed_levels(ask, state)
    set_partial(Given(ask, partials, take_shares, take_ones, stop_steps, 0.0, 1.0, nothing), state)


@kernel("void(int64[::1], int64[::1], int64[::1], int64[::1], int64[::1], float64[::1], int64, int64[::1])")
def do_partial(
    ask: Ints,
    partials: Ints,
    take_shares: Ints,
    take_ones: Ints,
    stop_steps: Ints,
    nothing: Floats,
    partials_done: int,
    state: Ints,
) -> None:
    """So many partial exits are done."""
    state[PARTIALS] = partials_done
    set_partial(Given(ask, partials, take_shares, take_ones, stop_steps, 0.0, 1.0, nothing), state)


@inner
def due_now(given: Given, state: Ints, price: int) -> int:
    kind = due_whole(given, state, price)
    if kind < 0 and given.ask[EXITS] != 0 and partials_reached(given, state, price) > state[PARTIALS]:
        return IS_PARTIAL
    return kind


@inner
def end_of(leg: int, rises: bool, open_: int, high: int, low: int, close: int) -> int:
    """Where a leg ends: a bar that rises goes by way of its low first."""
    if leg == 0:
        return open_
    if leg >= LEGS - 1:
        return close
    return low if rises == (leg == 1) else high


@kernel(
    "int64(int64[::1], int64[::1], int64[::1], int64[::1], int64[::1], float64[::1], "
    "int64[::1], int64[::1], int64[::1], int64[::1], int64, int64[::1])"
)
def next_exit(
    ask: Ints,
    partials: Ints,
    take_shares: Ints,
    take_ones: Ints,
    stop_steps: Ints,
    nothing: Floats,
    open_: Ints,
    high: Ints,
    low: Ints,
    close: Ints,
    end: int,
    state: Ints,
) -> int:
    """On from where the state is (``At.BAR``, ``LEG``, ``PRICE``) to the next price at which something is due: its
    ``Kind``, or -1 at the beginning of bar ``end``. Called again it asks at the same price first."""
    given = Given(ask, partials, take_shares, take_ones, stop_steps, 0.0, 1.0, nothing)
    bar, leg, price = state[BAR], state[LEG], state[PRICE]
    while bar < end:
        if leg < 0:
            bar += quiet_until(given, state, low[bar:end], high[bar:end])
            if bar == end:
                break
            leg, price = 0, open_[bar]
        rises = close[bar] > open_[bar]
        while leg < LEGS:
            kind = due_now(given, state, price)
            if kind >= 0:
                state[BAR], state[LEG], state[PRICE] = bar, leg, price
                return kind
            target = end_of(leg, rises, open_[bar], high[bar], low[bar], close[bar])
            if price == target:
                leg += 1
                target = end_of(leg, rises, open_[bar], high[bar], low[bar], close[bar])
            price = next_target(ask, state, price, target)
        bar, leg = bar + 1, -1
    state[BAR], state[LEG], state[PRICE] = bar, leg, price
    return -1
