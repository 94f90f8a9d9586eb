"""The position of a compiled backtest: what fills and funding do to it, and the levels that end it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trading.backtest.kernels.decorators import inner
from trading.backtest.kernels.exact import BILLION, ceiling_ratio, floor_ratio, nearest_ratio, share_of
from trading.backtest.kernels.slots import Ask, At, Filled, Kind

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
IMPACT_ONE = 1e12
# Beyond any price; levels that would be there are none.
FARTHEST = 2.0**60


class Given(NamedTuple):
    """What does not change in a run. ``take_shares`` over ``take_ones``: how far behind the best price the trailing
    take-profit stays after so many steps, shares of the entry price; ``stop_steps``: profit and distance by turns, and
    ``partials``: profits, all in the precision of ``Ask.PERCENT_ONE``. ``volume`` in base coin."""

    ask: Ints
    partials: Ints
    take_shares: Ints
    take_ones: Ints
    stop_steps: Ints
    impact: float
    quantity_one: float
    volume: Floats


TICK, LOT, LEVEL_SCALE, TICK_LEVEL = int(Ask.TICK), int(Ask.LOT), int(Ask.LEVEL_SCALE), int(Ask.TICK_LEVEL)
COST, COST_ONE, FEE = int(Ask.COST), int(Ask.COST_ONE), int(Ask.FEE)
MAINTENANCE, MAINTENANCE_ONE = int(Ask.MAINTENANCE), int(Ask.MAINTENANCE_ONE)
EXITS, PERCENT_ONE = int(Ask.EXITS), int(Ask.PERCENT_ONE)
MIN_PROFIT, LARGEST_LOSS = int(Ask.MIN_PROFIT), int(Ask.MAX_LOSS)
TAKES, TAKE_FROM, TAKE_STEP = int(Ask.TRAILING_TAKE), int(Ask.TAKE_FROM), int(Ask.TAKE_STEP)
STOPS, STOP_FROM = int(Ask.TRAILING_STOP), int(Ask.STOP_FROM)

CASH, CASH_BILLIONTHS, SIDE, QUANTITY, ENTRY = (
    int(At.CASH),
    int(At.CASH_BILLIONTHS),
    int(At.SIDE),
    int(At.QUANTITY),
    int(At.ENTRY),
)
BEST, TAKE_PROFIT, STOP_LOSS, MAX_LOSS = int(At.BEST), int(At.TAKE_PROFIT), int(At.STOP_LOSS), int(At.MAX_LOSS)
TRAILING_TAKE, TRAILING_STOP, LIQUIDATION = int(At.TRAILING_TAKE), int(At.TRAILING_STOP), int(At.LIQUIDATION)
PARTIAL, PARTIALS, KEPT = int(At.PARTIAL), int(At.PARTIALS), int(At.KEPT)
LOWEST, HIGHEST = int(At.LOWEST), int(At.HIGHEST)
FILLS, ANSWER = int(At.FILLS), int(At.ANSWER)

F_BAR, F_KIND, F_SIDE, F_PRICE, F_QUANTITY = (
    int(Filled.BAR),
    int(Filled.KIND),
    int(Filled.SIDE),
    int(Filled.PRICE),
    int(Filled.QUANTITY),
)
F_CASH, F_CASH_BILLIONTHS, F_FEE, F_FEE_BILLIONTHS = (
    int(Filled.CASH),
    int(Filled.CASH_BILLIONTHS),
    int(Filled.FEE),
    int(Filled.FEE_BILLIONTHS),
)
F_HELD, F_LOWEST, F_HIGHEST = int(Filled.HELD), int(Filled.LOWEST), int(Filled.HIGHEST)
FUNDING = int(Kind.FUNDING)


@inner
def add_cash(state: Ints, units: int, billionths: int) -> None:
    billionths += state[CASH_BILLIONTHS]
    state[CASH] += units + billionths // BILLION
    state[CASH_BILLIONTHS] = billionths % BILLION


@inner
def market_price(given: Given, price: int, side: int, quantity: int, bar: int) -> int:
    """What a market order pays where the price is: costs added, on the tick grid, rounded against the order."""
    ask = given.ask
    one, cost, tick = ask[COST_ONE], ask[COST], ask[TICK]
    if given.impact != 0.0:
        volume = given.volume[bar]
        share = (quantity / given.quantity_one) / volume if volume > 0.0 else 1.0
        cost += np.int64(np.rint(given.impact * np.sqrt(share) * IMPACT_ONE))
    if side > 0:
        return ceiling_ratio(price, one + cost, one * tick) * tick
    return max(floor_ratio(price, one - cost, one * tick)[0], 1) * tick


@inner
def fill(given: Given, state: Ints, fills: Ints, bar: int, kind: int, side: int, price: int, quantity: int) -> None:
    """Trade at a price (costs not in it yet) as a taker: position, balance, and the row of it. What is larger than an
    opposite position turns it."""
    ask = given.ask
    paid = market_price(given, price, side, quantity, bar)
    fee, fee_billionths = share_of(paid * quantity, ask[FEE])
    held, realised = state[SIDE] * state[QUANTITY], 0
    if held * side < 0:
        realised = (paid - state[ENTRY]) * state[SIDE] * min(state[QUANTITY], quantity)
    add_cash(state, realised - fee - 1, BILLION - fee_billionths)
    after = held + side * quantity
    row = fills[state[FILLS]]
    state[FILLS] += 1
    row[F_BAR], row[F_KIND], row[F_SIDE], row[F_PRICE], row[F_QUANTITY] = bar, kind, side, paid, quantity
    row[F_CASH], row[F_CASH_BILLIONTHS], row[F_FEE], row[F_FEE_BILLIONTHS] = realised, 0, fee, fee_billionths
    row[F_LOWEST], row[F_HIGHEST], row[F_HELD] = state[LOWEST], state[HIGHEST], after
    if after == 0:
        close_position(state)
        return
    if held == 0 or held * after < 0:
        open_position(ask, state, after, paid, price)
    else:
        state[QUANTITY] = abs(after)
    set_levels(given, state)


@inner
def close_position(state: Ints) -> None:
    state[SIDE] = state[QUANTITY] = state[ENTRY] = 0
    state[TAKE_PROFIT] = state[STOP_LOSS] = state[LIQUIDATION] = 0
    state[MAX_LOSS] = state[TRAILING_STOP] = state[TRAILING_TAKE] = state[PARTIAL] = state[KEPT] = 0


@inner
def open_position(ask: Ints, state: Ints, held: int, paid: int, price: int) -> None:
    close_position(state)
    side = 1 if held > 0 else -1
    state[SIDE], state[QUANTITY], state[ENTRY], state[BEST], state[PARTIALS] = side, abs(held), paid, paid, 0
    state[LOWEST] = state[HIGHEST] = price
    set_fixed_levels(ask, state)


@inner
def set_fixed_levels(ask: Ints, state: Ints) -> None:
    """Those that depend on the entry only."""
    if ask[EXITS] != 0:
        state[MAX_LOSS] = level_beyond(ask, state, -ask[LARGEST_LOSS])
        if ask[TAKES] != 0 and ask[MIN_PROFIT] >= ask[TAKE_FROM]:
            # A profit that shall be kept at least, but is not reached: the position ends where trailing begins.
            state[KEPT] = level_beyond(ask, state, ask[TAKE_FROM])


@inner
def set_levels(given: Given, state: Ints) -> None:
    """Those that depend on how much is held and on the balance."""
    state[LIQUIDATION] = liquidation_level(given.ask, state)
    set_partial(given, state)


@inner
def set_partial(given: Given, state: Ints) -> None:
    """Where the next partial exit is due."""
    ask, partials = given.ask, given.partials
    state[PARTIAL] = 0
    if ask[EXITS] != 0 and state[PARTIALS] < len(partials):
        state[PARTIAL] = level_beyond(ask, state, partials[state[PARTIALS]])


@inner
def level_beyond(ask: Ints, state: Ints, percent: int) -> int:
    """The first level at which the position has gained so much, or lost it (below 0)."""
    side = state[SIDE]
    entry, share = state[ENTRY] * ask[LEVEL_SCALE], ask[PERCENT_ONE] + side * percent
    if side * percent > 0:
        return ceiling_ratio(entry, share, ask[PERCENT_ONE])
    return max(floor_ratio(entry, share, ask[PERCENT_ONE])[0], 0)


@inner
def gained(ask: Ints, state: Ints, price: int) -> int:
    """The profit at a price, rounded down to the precision of the rules' percents."""
    return floor_ratio(state[SIDE] * (price - state[ENTRY]), ask[PERCENT_ONE], state[ENTRY])[0]


@inner
def liquidation_level(ask: Ints, state: Ints) -> int:
    """The first level at which equity is not above the maintenance margin; 0: nowhere."""
    side, quantity, one = state[SIDE], state[QUANTITY], ask[MAINTENANCE_ONE]
    # Where cash + side * (price - entry) * quantity is price * quantity * maintenance.
    worth = state[ENTRY] * quantity - side * state[CASH]
    per_price = quantity * (one - side * ask[MAINTENANCE])
    scale = ask[LEVEL_SCALE] * one
    if side < 0 and worth <= 0:
        return 1
    if not 0.0 < float(worth) * float(scale) < float(per_price) * FARTHEST:
        return 0
    finer = floor_ratio(scale, state[CASH_BILLIONTHS], BILLION)[0]
    quotient, rest = floor_ratio(worth, scale, per_price)
    rest -= side * finer
    quotient += rest // per_price
    # A price meets it from beyond: the first level that does.
    if side < 0 and rest % per_price != 0:
        quotient += 1
    return max(quotient, 0)


@inner
def trail(given: Given, state: Ints, price: int) -> None:
    """Trailing levels follow a price, in the position's favour only."""
    ask, take_shares, take_ones, stop_steps = given.ask, given.take_shares, given.take_ones, given.stop_steps
    side = state[SIDE]
    if side * (price - state[BEST]) > 0:
        state[BEST] = price
    peak = gained(ask, state, state[BEST])
    if ask[TAKES] != 0 and peak >= ask[TAKE_FROM]:
        steps = min((peak - ask[TAKE_FROM]) // ask[TAKE_STEP], len(take_shares) - 1)
        level = behind(ask, state, take_shares[steps], take_ones[steps])
        least = min(side * state[BEST] * ask[LEVEL_SCALE], side * kept_level(ask, state))
        level = side * max(side * level, least)
        if state[TRAILING_TAKE] == 0 or side * (level - state[TRAILING_TAKE]) > 0:
            state[TRAILING_TAKE] = level
    if ask[STOPS] != 0 and peak >= ask[STOP_FROM]:
        distance = stop_steps[1]
        for step in range(0, len(stop_steps), 2):
            if stop_steps[step] <= peak:
                distance = stop_steps[step + 1]
        level = behind(ask, state, distance, ask[PERCENT_ONE])
        if state[TRAILING_STOP] == 0 or side * (level - state[TRAILING_STOP]) > 0:
            state[TRAILING_STOP] = level


@inner
def kept_level(ask: Ints, state: Ints) -> int:
    """Where the position has gained the least profit that a trailing take-profit keeps."""
    share = ask[PERCENT_ONE] + state[SIDE] * ask[MIN_PROFIT]
    return nearest_ratio(state[ENTRY] * ask[LEVEL_SCALE], share, ask[PERCENT_ONE])


@inner
def behind(ask: Ints, state: Ints, share: int, one: int) -> int:
    """So large a share of the entry price behind the best price."""
    best, entry = state[BEST] * ask[LEVEL_SCALE], state[ENTRY] * ask[LEVEL_SCALE]
    quotient, rest = floor_ratio(entry, share, one)
    if rest == 0:
        return best - state[SIDE] * quotient
    if state[SIDE] > 0:
        quotient, rest = best - quotient - 1, one - rest
    else:
        quotient += best
    if 2 * rest > one or (2 * rest == one and quotient % 2 != 0):
        quotient += 1
    return quotient


@inner
def pay_funding(given: Given, state: Ints, fills: Ints, bar: int, price: int, rate: int) -> None:
    """``rate`` in billionths; longs pay what is above 0."""
    side = state[SIDE]
    units, billionths = share_of(price * state[QUANTITY], -side * rate)
    add_cash(state, units, billionths)
    row = fills[state[FILLS]]
    state[FILLS] += 1
    row[F_BAR], row[F_KIND], row[F_SIDE], row[F_PRICE], row[F_QUANTITY] = bar, FUNDING, side, price, state[QUANTITY]
    row[F_CASH], row[F_CASH_BILLIONTHS], row[F_FEE], row[F_FEE_BILLIONTHS] = units, billionths, 0, 0
    row[F_LOWEST], row[F_HIGHEST], row[F_HELD] = state[LOWEST], state[HIGHEST], side * state[QUANTITY]
    set_levels(given, state)
