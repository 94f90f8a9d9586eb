"""One account, one symbol, one strategy of closed bars: signals in, fills and equity out, by docs/backtest.md.

Bars on which nothing can happen cost two comparisons: between events the position has a band of prices that no level of
it lies in.
"""

from __future__ import annotations

import numpy as np

from marketdata.engine.memory import call_back
from strategies.candle_strategy import PRICE_DECIMALS, Slot
from trading.backtest.kernels.decorators import inner, kernel
from trading.backtest.kernels.exact import BILLION, ceiling_ratio, floor_ratio, nearest_ratio
from trading.backtest.kernels.position import (
    ANSWER,
    BEST,
    CASH,
    CASH_BILLIONTHS,
    ENTRY,
    EXITS,
    FILLS,
    HIGHEST,
    KEPT,
    LEVEL_SCALE,
    LIQUIDATION,
    LOT,
    LOWEST,
    MAX_LOSS,
    PARTIAL,
    PARTIALS,
    QUANTITY,
    SIDE,
    STOP_FROM,
    STOP_LOSS,
    STOPS,
    TAKE_FROM,
    TAKE_PROFIT,
    TAKES,
    TICK,
    TICK_LEVEL,
    TRAILING_STOP,
    TRAILING_TAKE,
    Floats,
    Given,
    Ints,
    fill,
    gained,
    level_beyond,
    pay_funding,
    trail,
)
from trading.backtest.kernels.slots import Ask, At, Kind, Outcome, Question, Sizing, Status

MIN_QUANTITY, MAX_QUANTITY, MIN_NOTIONAL = int(Ask.MIN_QUANTITY), int(Ask.MAX_QUANTITY), int(Ask.MIN_NOTIONAL)
MONEY_ONE, SIZING, SIZE, SIZE_ONE = int(Ask.MONEY_ONE), int(Ask.SIZING), int(Ask.SIZE), int(Ask.SIZE_ONE)
LEVERAGE, LEVERAGE_ONE = int(Ask.LEVERAGE), int(Ask.LEVERAGE_ONE)
BY_CONFIDENCE, REVERSAL = int(Ask.BY_CONFIDENCE), int(Ask.REVERSAL)
BAR, FUNDING, CALLBACK = int(At.BAR), int(At.FUNDING), int(Ask.CALLBACK)
ORDER_SIDE, ORDER_QUANTITY, ORDER_CLOSES = int(At.ORDER_SIDE), int(At.ORDER_QUANTITY), int(At.ORDER_CLOSES)
ORDER_TAKE_PROFIT, ORDER_STOP_LOSS = int(At.ORDER_TAKE_PROFIT), int(At.ORDER_STOP_LOSS)
IS_TAKE_PROFIT, IS_STOP_LOSS, IS_LIQUIDATION, IS_MAX_LOSS, IS_TRAILING_STOP, IS_TRAILING_TAKE, IS_PARTIAL = (
    int(kind) for kind in list(Kind)[:7]
)
IS_SIGNAL, IS_END = int(Kind.SIGNAL), int(Kind.END)
OPENED, CLOSES, HELD_ALREADY = int(Outcome.OPENED), int(Outcome.CLOSES), int(Outcome.HELD_ALREADY)
TOO_SMALL, OFF_LIMITS, NO_BALANCE = int(Outcome.TOO_SMALL), int(Outcome.OFF_LIMITS), int(Outcome.NO_BALANCE)
PERCENT, FIXED_USD = int(Sizing.PERCENT), int(Sizing.FIXED_USD)
ASK_QUANTITY, ASK_PARTIAL = int(Question.QUANTITY), int(Question.PARTIAL)
DONE, FILLS_ARE_FULL, BAD_SIGNAL, OUT_OF_RANGE = (int(status) for status in Status)
DIRECTION, STRENGTH = int(Slot.DIRECTION), int(Slot.STRENGTH)
SIGNAL_TAKE_PROFIT, SIGNAL_STOP_LOSS = int(Slot.TAKE_PROFIT), int(Slot.STOP_LOSS)
GRID = 10.0**PRICE_DECIMALS
LARGEST_LEVEL = 2.0**62
LARGEST_WORTH, LARGEST_PRICE = 2.0**60, 2.0**59
STRIDE = 32
# What may lie on a way: in the position's favour the first AHEAD, against it the others.
LEVELS = (TAKE_PROFIT, PARTIAL, KEPT, STOP_LOSS, LIQUIDATION, MAX_LOSS, TRAILING_STOP, TRAILING_TAKE)
KINDS = (
    IS_TAKE_PROFIT,
    IS_PARTIAL,
    IS_TRAILING_TAKE,
    IS_STOP_LOSS,
    IS_LIQUIDATION,
    IS_MAX_LOSS,
    IS_TRAILING_STOP,
    IS_TRAILING_TAKE,
)
AHEAD, FIRST_RULE = 3, 5
NOWHERE = 1 << 62
# At one price or on one leg. No position has more: rules have fewer partial exits.
MOST_EXITS = 64
# Of one bar: its legs and what comes before.
MOST_FILLS = 5 * MOST_EXITS + 64


@inner
def due(given: Given, state: Ints, price: int) -> tuple[int, int]:
    """Why the position shall be closed at a price, and how much of it; -1 where nothing is due."""
    kind = due_whole(given, state, price)
    if kind >= 0 or given.ask[EXITS] == 0:
        return kind, state[QUANTITY]
    return due_in_part(given, state, price)


@inner
def due_whole(given: Given, state: Ints, price: int) -> int:
    """Why all of the position shall be closed at a price, which trailing levels follow; -1 where nothing says so."""
    ask = given.ask
    side, level = state[SIDE], price * ask[LEVEL_SCALE]
    if state[TAKE_PROFIT] > 0 and side * (level - state[TAKE_PROFIT]) >= 0:
        return IS_TAKE_PROFIT
    for number in range(AHEAD, FIRST_RULE):
        if state[LEVELS[number]] > 0 and side * (level - state[LEVELS[number]]) <= 0:
            return KINDS[number]
    if ask[EXITS] == 0:
        return -1
    trail(given, state, price)
    for number in range(FIRST_RULE, len(LEVELS)):
        if state[LEVELS[number]] > 0 and side * (level - state[LEVELS[number]]) <= 0:
            return KINDS[number]
    return -1


@inner
def partials_reached(given: Given, state: Ints, price: int) -> int:
    """How many partial exits a price has reached."""
    partials, profit, reached = given.partials, gained(given.ask, state, price), 0
    while reached < len(partials) and partials[reached] <= profit:
        reached += 1
    return reached


@inner
def due_in_part(given: Given, state: Ints, price: int) -> tuple[int, int]:
    """A partial exit, if one is due that can be ordered."""
    partials, reached = given.partials, partials_reached(given, state, price)
    if reached <= state[PARTIALS]:
        return -1, 0
    call_back(given.ask[CALLBACK], ASK_PARTIAL, price, 0, 0)
    quantity = state[ANSWER]
    if quantity <= 0:
        # Too little to be ordered; together with the next one it may be enough.
        further = reached < len(partials)
        state[PARTIAL] = level_beyond(given.ask, state, partials[reached]) if further else 0
        return -1, 0
    state[PARTIALS] = reached
    return IS_PARTIAL, quantity


@inner
def exit_at(given: Given, state: Ints, fills: Ints, bar: int, price: int) -> None:
    """What a position does at one price: whatever is due, until nothing is."""
    for _ in range(MOST_EXITS):
        if state[SIDE] == 0:
            return
        state[LOWEST], state[HIGHEST] = min(state[LOWEST], price), max(state[HIGHEST], price)
        kind, quantity = due(given, state, price)
        if kind < 0:
            return
        fill(given, state, fills, bar, kind, -state[SIDE], price, quantity)


@inner
def go(given: Given, state: Ints, fills: Ints, bar: int, begin: int, end: int) -> None:
    """One leg of a bar: from level to level, each met at the first tick at or beyond it, then its end."""
    for _ in range(MOST_EXITS):
        if state[SIDE] == 0:
            return
        target = next_target(given.ask, state, begin, end)
        exit_at(given, state, fills, bar, target)
        if target == end:
            return
        begin = target


@inner
def next_target(ask: Ints, state: Ints, begin: int, end: int) -> int:
    """The first price of the tick grid on the way to ``end`` that meets a level, or ``end``."""
    scale, tick, tick_level = ask[LEVEL_SCALE], ask[TICK], ask[TICK_LEVEL]
    side, target = state[SIDE], end
    with_it = side * (end - begin) > 0
    for number in range(len(LEVELS)):
        slot = LEVELS[number]
        level = state[slot]
        if level <= 0 or (number < AHEAD) != with_it:
            continue
        if end > begin:
            if level > begin * scale:
                target = min(target, -(-level // tick_level) * tick)
        elif level < begin * scale:
            target = max(target, level // tick_level * tick)
    return target


@inner
def walk(given: Given, state: Ints, fills: Ints, bar: int, open_: int, high: int, low: int, close: int) -> None:
    """The way within a bar: to the extreme against its direction first."""
    first, second = (low, high) if close > open_ else (high, low)
    exit_at(given, state, fills, bar, open_)
    go(given, state, fills, bar, open_, first)
    go(given, state, fills, bar, first, second)
    go(given, state, fills, bar, second, close)


@inner
def band(given: Given, state: Ints) -> tuple[int, int]:
    """Prices: while a bar stays between them, nothing happens to the position."""
    ask = given.ask
    scale, side = ask[LEVEL_SCALE], state[SIDE]
    against, ahead = -NOWHERE, NOWHERE
    for number in range(len(LEVELS)):
        level = state[LEVELS[number]]
        if level <= 0:
            continue
        if number < AHEAD:
            ahead = min(ahead, side * level)
        else:
            against = max(against, side * level)
    if ask[EXITS] != 0:
        best = side * state[BEST] * scale + 1
        if ask[TAKES] != 0:
            ahead = min(ahead, max(best, side * level_beyond(ask, state, ask[TAKE_FROM])))
        if ask[STOPS] != 0:
            ahead = min(ahead, max(best, side * level_beyond(ask, state, ask[STOP_FROM])))
    if side > 0:
        return against // scale, -(-ahead // scale)
    return (-ahead) // scale, -(against // scale)


@inner
def equity_of(state: Ints, price: int) -> int:
    """In units of money, without its billionths."""
    return state[CASH] + (price - state[ENTRY]) * state[SIDE] * state[QUANTITY]


@inner
def sized(ask: Ints, state: Ints, number: int, price: int) -> int:
    """What a signal may open; 0: less than the smallest order."""
    if ask[BY_CONFIDENCE] != 0:
        call_back(ask[CALLBACK], ASK_QUANTITY, price, number, 0)
        return state[ANSWER]
    smallest = max(ask[MIN_QUANTITY], ceiling_ratio(ask[MIN_NOTIONAL], 1, price * ask[LOT]) * ask[LOT])
    divisor = ask[SIZE_ONE] * price * ask[LOT]
    if ask[SIZING] == PERCENT:
        lots, rest = floor_ratio(equity_of(state, price), ask[SIZE], divisor)
        lots += (rest + state[CASH_BILLIONTHS] * ask[SIZE] // BILLION) // divisor
    elif ask[SIZING] == FIXED_USD:
        lots = floor_ratio(ask[MONEY_ONE], ask[SIZE], divisor)[0]
    else:
        return smallest
    quantity = min(lots, ask[MAX_QUANTITY] // ask[LOT]) * ask[LOT]
    return quantity if quantity >= smallest else 0


@inner
def is_a_signal(ask: Ints, row: Floats, close: int) -> bool:
    """Whether strategies.signals.Signal would take it."""
    direction = 1 if row[DIRECTION] > 0 else -1
    entry = close * ask[LEVEL_SCALE]
    take_profit, stop_loss = row[SIGNAL_TAKE_PROFIT] * GRID, row[SIGNAL_STOP_LOSS] * GRID
    if not (0.0 <= row[STRENGTH] <= 1.0 and 0.0 < take_profit < LARGEST_LEVEL and 0.0 < stop_loss < LARGEST_LEVEL):
        return False
    reward = (np.int64(np.rint(take_profit)) - entry) * direction
    risk = (entry - np.int64(np.rint(stop_loss))) * direction
    return risk > 0 and reward > risk and 2 * (reward - risk) >= risk


@inner
def judge(given: Given, state: Ints, row: Floats, number: int, close: int, outcome: Ints) -> None:
    """A signal becomes the order that reaches the market at the next open, or none."""
    ask = given.ask
    direction = 1 if row[DIRECTION] > 0 else -1
    if state[SIDE] == direction:
        outcome[0], outcome[1] = HELD_ALREADY, 0
        return
    closing = state[QUANTITY]
    opening = sized(ask, state, number, close)
    closes, refused = closing > 0 and (ask[REVERSAL] == 0 or opening == 0), -1
    if not closes:
        quantity = closing + opening
        if opening == 0:
            refused = TOO_SMALL
        elif quantity > ask[MAX_QUANTITY] or quantity % ask[LOT] != 0:
            refused = OFF_LIMITS
        elif not affordable(ask, state, quantity, close):
            refused = NO_BALANCE
        if refused >= 0:
            if closing == 0:
                outcome[0], outcome[1] = refused, quantity
                return
            closes = True
    state[ORDER_SIDE], state[ORDER_CLOSES] = direction, 1 if closes else 0
    state[ORDER_QUANTITY] = closing if closes else closing + opening
    tick = ask[TICK_LEVEL]
    state[ORDER_TAKE_PROFIT] = nearest_ratio(np.int64(np.rint(row[SIGNAL_TAKE_PROFIT] * GRID)), 1, tick) * tick
    state[ORDER_STOP_LOSS] = nearest_ratio(np.int64(np.rint(row[SIGNAL_STOP_LOSS] * GRID)), 1, tick) * tick
    outcome[0], outcome[1] = CLOSES if closes else OPENED, state[ORDER_QUANTITY]


@inner
def affordable(ask: Ints, state: Ints, quantity: int, price: int) -> bool:
    """Whether the margin of an order is there: equity less the margin of what is held, all times the leverage."""
    used = state[ENTRY] * state[QUANTITY]
    wanted = (used + quantity * price) * ask[LEVERAGE_ONE]
    has = equity_of(state, price) * ask[LEVERAGE]
    return wanted <= has + state[CASH_BILLIONTHS] * ask[LEVERAGE] // BILLION


@inner
def pay(given: Given, state: Ints, fills: Ints, bar: int, price: int, bars: Ints, rates: Ints) -> None:
    """Funding that is due at the open of a bar."""
    while state[FUNDING] < len(bars) and bars[state[FUNDING]] <= bar:
        if state[SIDE] != 0:
            pay_funding(given, state, fills, bar, price, rates[state[FUNDING]])
        state[FUNDING] += 1


@inner
def arrive(given: Given, state: Ints, fills: Ints, bar: int, price: int) -> None:
    """The order that waits reaches the market. What only closes is cut to what is held."""
    side, quantity, held = state[ORDER_SIDE], state[ORDER_QUANTITY], state[SIDE]
    state[ORDER_SIDE] = 0
    state[LOWEST], state[HIGHEST] = min(state[LOWEST], price), max(state[HIGHEST], price)
    if state[ORDER_CLOSES] != 0:
        quantity = min(quantity, state[QUANTITY]) if held == -side else 0
    if quantity == 0:
        return
    fill(given, state, fills, bar, IS_SIGNAL, side, price, quantity)
    if state[ORDER_CLOSES] == 0 and state[SIDE] == side:
        state[TAKE_PROFIT], state[STOP_LOSS] = state[ORDER_TAKE_PROFIT], state[ORDER_STOP_LOSS]


@inner
def fits(ask: Ints, state: Ints, price: int) -> bool:
    """Whether levels and worths stay far within an int64."""
    if float(price) * float(ask[LEVEL_SCALE]) > LARGEST_PRICE:
        return False
    worth = float(price) * float(state[QUANTITY] + state[ORDER_QUANTITY])
    return worth * ask[LEVERAGE] < LARGEST_WORTH and abs(float(state[CASH])) * ask[LEVERAGE] < LARGEST_WORTH


@inner
def quiet_until(given: Given, state: Ints, low: Ints, high: Ints) -> int:
    """How many bars pass on which nothing happens to the position."""
    bottom, top = band(given, state)
    lowest, highest, count, bar = state[LOWEST], state[HIGHEST], len(low), 0
    while bar < count:
        # A few bars at a time, so that the processor compares several at once.
        end = min(bar + STRIDE, count)
        least, most = low[bar], high[bar]
        for value in low[bar:end]:
            least = min(least, value)
        for value in high[bar:end]:
            most = max(most, value)
        if least <= bottom or most >= top:
            while low[bar] > bottom and high[bar] < top:
                lowest, highest = min(lowest, low[bar]), max(highest, high[bar])
                bar += 1
            break
        lowest, highest, bar = min(lowest, least), max(highest, most), end
    state[LOWEST], state[HIGHEST] = lowest, highest
    return bar


@inner
def note(
    state: Ints, close: Ints, first: int, end: int, base: int, one: float, equity: Floats, exposed: Floats
) -> None:
    """Equity and worth of what is held at the ends of bars."""
    if len(equity) == 0:
        return
    cash = (state[CASH] + state[CASH_BILLIONTHS] / BILLION) / one
    worth, closes, one_way = equity[first - base : end - base], close[first:end], state[QUANTITY] / one
    signed, entry = state[SIDE] * one_way, state[ENTRY]
    if state[SIDE] == 0:
        worth[:] = cash
    else:
        for bar in range(len(closes)):
            worth[bar] = cash + (closes[bar] - entry) * signed
    if len(exposed) != 0:
        at_stake = exposed[first - base : end - base]
        for bar in range(len(closes)):
            at_stake[bar] = closes[bar] * one_way


@kernel(
    "int64(int64[::1], int64[::1], int64[::1], int64[::1], int64[::1], float64, float64, float64[::1], "
    "int64[::1], int64[::1], int64[::1], int64[::1], int64[::1], int64[::1], "
    "int64, int64[::1], float64[:, ::1], int64, int64[::1], int64[:, ::1], int64[:, ::1], "
    "int64, float64[::1], float64[::1])"
)
def simulate(
    ask: Ints,
    partials: Ints,
    take_shares: Ints,
    take_ones: Ints,
    stop_steps: Ints,
    impact: float,
    quantity_one: float,
    volume: Floats,
    funding_bars: Ints,
    funding_rates: Ints,
    open_: Ints,
    high: Ints,
    low: Ints,
    close: Ints,
    end: int,
    signal_at: Ints,
    rows: Floats,
    signals: int,
    state: Ints,
    outcomes: Ints,
    fills: Ints,
    base: int,
    equity: Floats,
    exposed: Floats,
) -> int:
    """Bars from ``state[At.BAR]`` to before ``end``. ``funding_bars``: at the open of which bars funding is paid.
    ``signal_at``: the bars at whose ends signals are, with their ``rows``; ``outcomes`` of them (``Outcome``,
    quantity). ``equity`` and ``exposed`` at the end of bar ``b`` go to place ``b - base``; where they have
    no places, nowhere. A ``Status``: after
    FILLS_ARE_FULL call again with more room and the same signals."""
    given = Given(ask, partials, take_shares, take_ones, stop_steps, impact, quantity_one, volume)
    one = float(ask[MONEY_ONE])
    bar = state[BAR]
    number = np.searchsorted(signal_at[:signals], bar)
    while bar < end:
        asked = signal_at[number] if number < signals else end
        paid = funding_bars[state[FUNDING]] if state[FUNDING] < len(funding_bars) else end
        event, seen, quiet = min(asked, paid, end), False, False
        if state[ORDER_SIDE] == 0 and event > bar:
            stop = event
            if state[SIDE] != 0:
                # A bar with a signal at its end may be as quiet as others.
                reach = event + 1 if asked < min(paid, end) else event
                stop = bar + quiet_until(given, state, low[bar:reach], high[bar:reach])
                seen, quiet = stop < reach, stop > event
                stop = min(stop, event)
            note(state, close, bar, stop, base, one, equity, exposed)
            bar = stop
            if bar == end:
                break
        if state[FILLS] + MOST_FILLS > len(fills):
            state[BAR] = bar
            return FILLS_ARE_FULL
        if not fits(ask, state, high[bar]):
            state[BAR] = bar
            return OUT_OF_RANGE
        pay(given, state, fills, bar, open_[bar], funding_bars, funding_rates)
        if state[ORDER_SIDE] != 0:
            arrive(given, state, fills, bar, open_[bar])
        if not seen and state[SIDE] != 0:
            quiet = quiet or quiet_until(given, state, low[bar : bar + 1], high[bar : bar + 1]) == 1
        if not quiet and state[SIDE] != 0:
            walk(given, state, fills, bar, open_[bar], high[bar], low[bar], close[bar])
        note(state, close, bar, bar + 1, base, one, equity, exposed)
        if number < signals and signal_at[number] == bar:
            if not is_a_signal(ask, rows[number], close[bar]):
                state[BAR] = bar
                return BAD_SIGNAL
            judge(given, state, rows[number], number, close[bar], outcomes[number])
            number += 1
        bar += 1
    state[BAR] = end
    return DONE


@kernel(
    "void(int64[::1], int64[::1], int64[::1], int64[::1], int64[::1], float64, float64, float64[::1], "
    "int64[::1], int64[:, ::1], int64, int64)"
)
def close_out(
    ask: Ints,
    partials: Ints,
    take_shares: Ints,
    take_ones: Ints,
    stop_steps: Ints,
    impact: float,
    quantity_one: float,
    volume: Floats,
    state: Ints,
    fills: Ints,
    bar: int,
    price: int,
) -> None:
    """At the end what is held is closed."""
    given = Given(ask, partials, take_shares, take_ones, stop_steps, impact, quantity_one, volume)
    if state[SIDE] != 0:
        fill(given, state, fills, bar, IS_END, -state[SIDE], price, state[QUANTITY])


@kernel(
    "void(int64[::1], int64[::1], int64[::1], int64[::1], int64[::1], float64, float64, "
    "float64[::1], float64[::1], float64[::1], float64[::1], float64[::1])"
)
def as_floats(
    open_: Ints,
    high: Ints,
    low: Ints,
    close: Ints,
    volume: Ints,
    price_one: float,
    volume_one: float,
    opens: Floats,
    highs: Floats,
    lows: Floats,
    closes: Floats,
    volumes: Floats,
) -> None:
    """Bars in quote and base coin, as strategies read them: divided, which rounds once, as reading their text does."""
    for units, floats in ((open_, opens), (high, highs), (low, lows), (close, closes)):
        for bar in range(len(units)):
            floats[bar] = units[bar] / price_one
    for bar in range(len(volume)):
        volumes[bar] = volume[bar] / volume_one
