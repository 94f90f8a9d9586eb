"""The compiled half of the order flow: what one symbol's anonymous traders do in one step.

Sides are the arrays of :mod:`book_kernels`; a key is the tick for bids and minus the tick for asks, so that both run
the same code. Nothing is ever placed at or beyond the best level of the other side, whoever rests there.

Random numbers are splitmix64 on a uint64 array of one. Trap: numba makes float64 of int64 with uint64, so every operand
there is a uint64. Every loop is bounded (see :mod:`book_kernels`).

Trap: numba's cache of a kernel does not see that a kernel of another file changed which it calls. What lives step by
step and what lives many steps at once must never differ, so both are in this file.
"""

from __future__ import annotations

import math

import numba as nb
import numpy as np
from numpy.typing import NDArray

from trading.simulator.book_kernels import (
    BACKGROUND,
    FREE_ENTRIES,
    FREE_LEVELS,
    LEVELS,
    LOTS,
    Table,
    Vector,
    available,
    find,
    set_background,
    take,
)

Random = NDArray[np.uint64]
Numbers = NDArray[np.float64]

# What changes from step to step: the fair price in ticks, the logarithm of how lively it is, its drift, the tick of the
# best bid that the flow quotes, how far the fair price may leave that before quotes follow, the logarithm of how busy
# these tenths of a second are, the ticks of the last move that quotes have not followed yet (above 0: upwards), and the
# logarithms of how lively these hours and these days are, which all symbols have in common.
FAIR, REGIME, TREND, QUOTED, PATIENCE, BUSTLE, OPENED, HOURS, DAYS, MOOD = range(10)
# What does not (see orderflow.parameters_of).
(
    VOLATILITY,
    PATIENCE_SCALE,
    LEVEL_LOTS,
    LEVEL_SPREAD,
    FIRST_LOTS,
    DENSITY,
    CHANGES,
    FAR_SHARE,
    REACH,
    NEAR_SCALE,
    NEAR_POWER,
    TAKERS,
    TAKER_LOTS,
    TAKER_SPREAD,
    TAKER_MOST,
    LARGE_SHARE,
    LARGE_LOTS,
    LARGE_SPREAD,
    DEPTH,
    PARAMETERS,
) = range(20)

# Columns of a trade that :func:`live` writes down: the step, the taker's side (1 buys, -1 sells), the tick, the lots.
STEP, DIRECTION, TICK, TRADED, TRADE = range(5)

MOST_TAKERS = 6
# How many levels and entries one step may add to a side.
ROOM = 400
FILLED_A_STEP = 8
# How much of a move is that of all symbols, and how much of what changes the regime.
CORRELATION, COMMON_REGIME = 0.92, 0.84
# Volatility comes in clusters of minutes, hours and days: each forgets so much a step and is stirred so much.
REGIME_PULL, HOURS_PULL, DAYS_PULL = 0.0001, 1 / 180_000, 1 / 21_600_000
REGIME_NOISE, HOURS_NOISE, DAYS_NOISE = 0.0065, 0.00129, 0.000152
# The stationary variance of the three together, which the same common moves stir, and of the first alone.
MINUTES_VARIANCE = REGIME_NOISE**2 / (2.0 * REGIME_PULL)
REGIME_VARIANCE = (
    MINUTES_VARIANCE
    + HOURS_NOISE**2 / (2.0 * HOURS_PULL)
    + DAYS_NOISE**2 / (2.0 * DAYS_PULL)
    + 2.0 * COMMON_REGIME * REGIME_NOISE * HOURS_NOISE / (REGIME_PULL + HOURS_PULL)
    + 2.0 * COMMON_REGIME * REGIME_NOISE * DAYS_NOISE / (REGIME_PULL + DAYS_PULL)
    + 2.0 * HOURS_NOISE * DAYS_NOISE / (HOURS_PULL + DAYS_PULL)
)
# Jumps and trends add a quarter to the variance of the rest: the logarithm of what makes up for that.
BESIDES = 0.11
# A market begins as volatile as it is in the root mean square.
FIRST_HOURS = 0.2
FIRST_DAYS = REGIME_VARIANCE + BESIDES - MINUTES_VARIANCE - FIRST_HOURS
MOST_VOLATILE = 2.2
BUSTLE_PULL, BUSTLE_NOISE = 0.12, 0.45
TREND_PULL, TREND_NOISE, TREND_WEIGHT = 0.0002, 0.0045, 0.012
# A jump of one symbol comes about once a day. A common one comes with a common move beyond JUMP_AT standard deviations,
# three times in two days; how far beyond falls off exponentially, by JUMP_EXCESS on average.
JUMPS, JUMP_SIZE = 1 / 4_320_000, 8 * math.sqrt(3_000)
JUMP_AT, JUMP_EXCESS, COMMON_JUMP_SIZE = 5.1, 0.19, 6 * math.sqrt(3_000)
FIRST_SPREAD, REFRESHED = 0.5, 0.024
KEPT_IN_THE_WAY = 0.01
LARGEST_LOTS = 1e12
NOWHERE = 2**62
# A taker that fills the table of matches goes on with an empty one, so often.
MATCHING_ROUNDS = 64

_GOLDEN, _FIRST, _SECOND = (
    np.uint64(0x9E3779B97F4A7C15),
    np.uint64(0xBF58476D1CE4E5B9),
    np.uint64(0x94D049BB133111EB),
)
_SHIFT_A, _SHIFT_B, _SHIFT_C, _SHIFT_D = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)
_UNIT = 2.0**-53

_SIDE = "int64[::1], int64[::1], int64[:, ::1], int64[:, ::1], int64[:, ::1], int64[::1]"


@nb.njit("float64(uint64[::1])", cache=True, nogil=True)
def uniform(random: Random) -> float:
    """The next number of [0, 1)."""
    random[0] += _GOLDEN
    mixed = random[0]
    mixed = (mixed ^ (mixed >> _SHIFT_A)) * _FIRST
    mixed = (mixed ^ (mixed >> _SHIFT_B)) * _SECOND
    mixed = mixed ^ (mixed >> _SHIFT_C)
    return float(mixed >> _SHIFT_D) * _UNIT


@nb.njit("float64(uint64[::1])", cache=True, nogil=True)
def normal(random: Random) -> float:
    """A standard normal number (Box and Muller)."""
    radius = math.sqrt(-2.0 * math.log(1.0 - uniform(random)))
    return radius * math.cos(2.0 * math.pi * uniform(random))


@nb.njit("int64(uint64[::1], float64)", cache=True, nogil=True)
def poisson(random: Random, mean: float) -> int:
    """How many of something that happens ``mean`` times on average (Knuth; at most 64)."""
    threshold, product = math.exp(-mean), 1.0
    for count in range(64):
        product *= uniform(random)
        if product <= threshold:
            return count
    return 64


@nb.njit("int64(uint64[::1], float64, float64)", cache=True, nogil=True)
def draw_lots(random: Random, median: float, spread: float) -> int:
    """A lognormal quantity of at least one lot."""
    return int(max(1.0, min(LARGEST_LOTS, median * math.exp(spread * normal(random)))))


@nb.njit("int64(uint64[::1], float64[::1])", cache=True, nogil=True)
def draw_taken(random: Random, parameters: Numbers) -> int:
    """The lots of one taker: small ones and large ones, each lognormal. Who wants too many takes some part of the most:
    many takers of exactly that size would be seen in the tape."""
    if uniform(random) < parameters[LARGE_SHARE]:
        lots = draw_lots(random, parameters[LARGE_LOTS], parameters[LARGE_SPREAD])
    else:
        lots = draw_lots(random, parameters[TAKER_LOTS], parameters[TAKER_SPREAD])
    return lots if lots <= parameters[TAKER_MOST] else 1 + int(uniform(random) * parameters[TAKER_MOST])


@nb.njit("int64(uint64[::1], float64[::1])", cache=True, nogil=True)
def draw_distance(random: Random, parameters: Numbers) -> int:
    """How many ticks behind the best price something happens: evenly over the book, or by a power law near the best."""
    if uniform(random) < parameters[FAR_SHARE]:
        return int(uniform(random) * parameters[REACH])
    stretch = (1.0 - uniform(random)) ** (-1.0 / parameters[NEAR_POWER]) - 1.0
    return int(min(parameters[REACH], parameters[NEAR_SCALE] * stretch))


@nb.njit(f"void({_SIDE}, uint64[::1], float64[::1], int64, int64, int64, int64)", cache=True, nogil=True)
def place(
    keys: Vector,
    slots: Vector,
    levels: Table,
    entries: Table,
    free: Table,
    meta: Vector,
    random: Random,
    parameters: Numbers,
    near: int,
    distance: int,
    barred: int,
    lowest: int,
) -> None:
    """Give the level so many ticks behind ``near`` a fresh quantity, if it is below ``barred`` (the other side)."""
    key = near - distance
    if key >= barred or key < lowest:
        return
    if distance == 0:
        lots = draw_lots(random, parameters[FIRST_LOTS], FIRST_SPREAD)
    else:
        deeper = 1.0 + parameters[DEPTH] * distance / parameters[REACH]
        lots = draw_lots(random, parameters[LEVEL_LOTS] * deeper, parameters[LEVEL_SPREAD])
    set_background(keys, slots, levels, entries, free, meta, key, lots)


@nb.njit(f"void({_SIDE}, uint64[::1], float64[::1], int64, int64, int64, int64, int64, int64)", cache=True, nogil=True)
def fill(
    keys: Vector,
    slots: Vector,
    levels: Table,
    entries: Table,
    free: Table,
    meta: Vector,
    random: Random,
    parameters: Numbers,
    near: int,
    barred: int,
    lowest: int,
    wanted: int,
    most: int,
    opened: int,
) -> None:
    """Let levels arrive: the best, those on ``opened`` ticks behind it, where the price has just been, and then at most
    ``most`` until there are ``wanted``, in holes and behind the worst. Beyond ``wanted`` the worst go, but never a
    user's order."""
    count = meta[LEVELS]
    if count == 0 or keys[count - 1] < near:
        place(keys, slots, levels, entries, free, meta, random, parameters, near, 0, barred, lowest)
    for distance in range(1, min(opened, wanted)):
        if uniform(random) < parameters[DENSITY]:
            place(keys, slots, levels, entries, free, meta, random, parameters, near, distance, barred, lowest)
    for _ in range(min(most, wanted - meta[LEVELS])):
        count = meta[LEVELS]
        behind = near - keys[0] if count > 0 else 0
        if behind * parameters[DENSITY] < count:
            gap = 1
            for _ in range(8):
                if uniform(random) < parameters[DENSITY]:
                    break
                gap += 1
            distance = behind + gap
        else:
            distance = 1 + int(uniform(random) * behind)
            hole = find(keys, count, near - distance)
            if hole < count and keys[hole] == near - distance:
                continue
        place(keys, slots, levels, entries, free, meta, random, parameters, near, distance, barred, lowest)
    index = 0
    for _ in range(meta[LEVELS]):
        if meta[LEVELS] <= wanted or index >= meta[LEVELS]:
            break
        key, slot = keys[index], slots[index]
        if levels[slot, BACKGROUND] < levels[slot, LOTS]:
            index += 1
        else:
            set_background(keys, slots, levels, entries, free, meta, key, 0)


@nb.njit(f"void({_SIDE}, uint64[::1], float64[::1], int64, int64, int64, float64)", cache=True, nogil=True)
def flicker(
    keys: Vector,
    slots: Vector,
    levels: Table,
    entries: Table,
    free: Table,
    meta: Vector,
    random: Random,
    parameters: Numbers,
    near: int,
    barred: int,
    lowest: int,
    activity: float,
) -> None:
    """Orders come, change and go; the more often, the livelier it is."""
    if uniform(random) < REFRESHED * activity:
        place(keys, slots, levels, entries, free, meta, random, parameters, near, 0, barred, lowest)
    for _ in range(poisson(random, parameters[CHANGES] * activity)):
        distance = 1 + draw_distance(random, parameters)
        key = near - distance
        index = find(keys, meta[LEVELS], key)
        present = index < meta[LEVELS] and keys[index] == key
        if uniform(random) >= parameters[DENSITY]:
            if present:
                set_background(keys, slots, levels, entries, free, meta, key, 0)
        elif present and uniform(random) < 0.5:
            before = float(levels[slots[index], BACKGROUND])
            lots = int(min(LARGEST_LOTS, before * math.exp(0.3 * normal(random)))) + 1
            set_background(keys, slots, levels, entries, free, meta, key, lots)
        else:
            place(keys, slots, levels, entries, free, meta, random, parameters, near, distance, barred, lowest)


@nb.njit(f"void({_SIDE}, uint64[::1], float64[::1], int64)", cache=True, nogil=True)
def step_aside(
    keys: Vector,
    slots: Vector,
    levels: Table,
    entries: Table,
    free: Table,
    meta: Vector,
    random: Random,
    parameters: Numbers,
    through: int,
) -> None:
    """The price will go through every level down to the key ``through``: most of what rests in its way is withdrawn
    first, a little is left for the taker, at the last level always."""
    first = find(keys, meta[LEVELS], through)
    for index in range(meta[LEVELS] - 1, first - 1, -1):
        slot = slots[index]
        left = 0
        if index == first or uniform(random) < KEPT_IN_THE_WAY:
            left = draw_taken(random, parameters)
        if left < levels[slot, BACKGROUND]:
            set_background(keys, slots, levels, entries, free, meta, keys[index], left)


@nb.njit("float64(float64[::1])", cache=True, nogil=True)
def regime(mood: Numbers) -> float:
    """The logarithm of how lively it is, over all clusters."""
    return float(mood[REGIME] + mood[HOURS] + mood[DAYS])


@nb.njit("void(uint64[::1], float64[::1], float64[::1], float64, float64)", cache=True, nogil=True)
def walk(random: Random, mood: Numbers, parameters: Numbers, common: float, liveliness: float) -> None:
    """Move the fair price: volatility in clusters, slow trends, a part common to all symbols, rare jumps."""
    # Large common moves make the market livelier. Of variance 1, and the same for every symbol.
    stir = (common * common - 1.0) * math.sqrt(0.5)
    own = math.sqrt(1.0 - COMMON_REGIME**2) * normal(random)
    mood[REGIME] += -REGIME_PULL * mood[REGIME] + REGIME_NOISE * (COMMON_REGIME * stir + own)
    mood[HOURS] += -HOURS_PULL * mood[HOURS] + HOURS_NOISE * stir
    mood[DAYS] += -DAYS_PULL * mood[DAYS] + DAYS_NOISE * stir
    mood[TREND] += -TREND_PULL * mood[TREND] + TREND_NOISE * normal(random)
    # The stationary variance and what comes besides are taken out: the configured volatility is the root mean square.
    sigma = parameters[VOLATILITY] * math.exp(min(MOST_VOLATILE, regime(mood) - REGIME_VARIANCE - BESIDES))
    shock = CORRELATION * common + math.sqrt(1.0 - CORRELATION**2) * normal(random)
    change = sigma * (shock + TREND_WEIGHT * mood[TREND]) * math.sqrt(liveliness)
    if uniform(random) < JUMPS:
        change += JUMP_SIZE * parameters[VOLATILITY] * normal(random)
    beyond = abs(common) - JUMP_AT
    if beyond > 0.0:
        change += math.copysign(beyond / JUMP_EXCESS, common) * COMMON_JUMP_SIZE * parameters[VOLATILITY]
    mood[FAIR] *= math.exp(change)


@nb.njit(
    f"int64({_SIDE}, {_SIDE}, uint64[::1], float64[::1], float64[::1], float64, float64, int64, int64[:, ::1])",
    cache=True,
    nogil=True,
)
def step(
    bid_keys: Vector,
    bid_slots: Vector,
    bid_levels: Table,
    bid_entries: Table,
    bid_free: Table,
    bid_meta: Vector,
    ask_keys: Vector,
    ask_slots: Vector,
    ask_levels: Table,
    ask_entries: Table,
    ask_free: Table,
    ask_meta: Vector,
    random: Random,
    mood: Numbers,
    parameters: Numbers,
    common: float,
    liveliness: float,
    wanted: int,
    takers: Table,
) -> int:
    """One step of one symbol. Orders that rest or vanish are on the book afterwards; those that take are only written
    down, as rows of side (1 buys, -1 sells), lots, limit tick, for whoever knows the users' orders. Returns how many.

    ``common`` is this step's move of all symbols (standard normal), ``wanted`` the levels of each side.
    """
    walk(random, mood, parameters, common, liveliness)
    quoted, opened = int(mood[QUOTED]), int(mood[OPENED])
    mood[OPENED] = 0.0
    away = mood[FAIR] - (quoted + 0.5)
    if abs(away) > mood[PATIENCE]:
        # The side that is left behind is no longer the best: its large first level shrinks like any other.
        if away > 0 and bid_meta[LEVELS] > 0 and bid_keys[bid_meta[LEVELS] - 1] == quoted:
            place(bid_keys, bid_slots, bid_levels, bid_entries, bid_free, bid_meta, random, parameters, quoted + 1, 1,
                  NOWHERE, 1)  # fmt: skip
        elif away < 0 and ask_meta[LEVELS] > 0 and ask_keys[ask_meta[LEVELS] - 1] == -quoted - 1:
            place(ask_keys, ask_slots, ask_levels, ask_entries, ask_free, ask_meta, random, parameters, -quoted, 1,
                  NOWHERE, -NOWHERE)  # fmt: skip
        quoted = max(1, math.floor(mood[FAIR]))
        mood[OPENED] = quoted - mood[QUOTED]
        mood[QUOTED] = float(quoted)
        mood[PATIENCE] = max(0.6, -parameters[PATIENCE_SCALE] * mood[FAIR] * math.log(1.0 - uniform(random)))
        if away > 0:
            step_aside(ask_keys, ask_slots, ask_levels, ask_entries, ask_free, ask_meta, random, parameters, -quoted)
        else:
            step_aside(bid_keys, bid_slots, bid_levels, bid_entries, bid_free, bid_meta, random, parameters, quoted + 1)
    mood[BUSTLE] += -BUSTLE_PULL * mood[BUSTLE] + BUSTLE_NOISE * normal(random)
    bustle = mood[BUSTLE] - BUSTLE_NOISE**2 / (4.0 * BUSTLE_PULL)
    activity = liveliness * math.exp(max(-4.0, min(3.0, 0.5 * (regime(mood) - FIRST_HOURS - FIRST_DAYS) + bustle)))
    barred = -ask_keys[ask_meta[LEVELS] - 1] if ask_meta[LEVELS] > 0 else NOWHERE
    near = min(quoted, barred - 1)
    fill(bid_keys, bid_slots, bid_levels, bid_entries, bid_free, bid_meta, random, parameters, near, barred, 1,
         wanted, FILLED_A_STEP, opened)  # fmt: skip
    flicker(bid_keys, bid_slots, bid_levels, bid_entries, bid_free, bid_meta, random, parameters, near, barred, 1,
            activity)  # fmt: skip
    barred = -bid_keys[bid_meta[LEVELS] - 1] if bid_meta[LEVELS] > 0 else NOWHERE
    near = min(-quoted - 1, barred - 1)
    fill(ask_keys, ask_slots, ask_levels, ask_entries, ask_free, ask_meta, random, parameters, near, barred, -NOWHERE,
         wanted, FILLED_A_STEP, -opened)  # fmt: skip
    flicker(ask_keys, ask_slots, ask_levels, ask_entries, ask_free, ask_meta, random, parameters, near, barred,
            -NOWHERE, activity)  # fmt: skip
    found = 0
    best_bid = bid_keys[bid_meta[LEVELS] - 1] if bid_meta[LEVELS] > 0 else 0
    best_ask = -ask_keys[ask_meta[LEVELS] - 1] if ask_meta[LEVELS] > 0 else NOWHERE
    if best_ask <= quoted:
        lots = available(ask_keys, ask_slots, ask_levels, ask_meta[LEVELS], -quoted)
        takers[found, 0], takers[found, 1], takers[found, 2] = 1, lots, quoted
        found += 1
    elif best_bid > quoted:
        lots = available(bid_keys, bid_slots, bid_levels, bid_meta[LEVELS], quoted + 1)
        takers[found, 0], takers[found, 1], takers[found, 2] = -1, lots, quoted + 1
        found += 1
    for _ in range(min(MOST_TAKERS - found, poisson(random, parameters[TAKERS] * activity))):
        buys = uniform(random) < 0.5 + 0.02 * max(-10.0, min(10.0, mood[TREND]))
        takers[found, 0], takers[found, 1] = 1 if buys else -1, draw_taken(random, parameters)
        takers[found, 2] = max(best_ask, quoted + 1) if buys else min(best_bid, quoted)
        found += 1
    return found


@nb.njit("void(uint64[::1], float64[::1])", cache=True, nogil=True)
def normals(random: Random, numbers: Numbers) -> None:
    """Fill an array with standard normal numbers, in the order in which single calls would give them."""
    for index in range(numbers.shape[0]):
        numbers[index] = normal(random)


@nb.njit(
    f"int64({_SIDE}, {_SIDE}, uint64[::1], float64[::1], float64[::1], int64)",
    cache=True,
    nogil=True,
)
def restock(
    bid_keys: Vector,
    bid_slots: Vector,
    bid_levels: Table,
    bid_entries: Table,
    bid_free: Table,
    bid_meta: Vector,
    ask_keys: Vector,
    ask_slots: Vector,
    ask_levels: Table,
    ask_entries: Table,
    ask_free: Table,
    ask_meta: Vector,
    random: Random,
    mood: Numbers,
    parameters: Numbers,
    wanted: int,
) -> int:
    """Fill both sides at once, as at the beginning and after a jump that left one empty; returns how many levels there
    are."""
    quoted = int(mood[QUOTED])
    # A key of the other side is the negative of one of this side: what is not below it would cross.
    barred = -ask_keys[ask_meta[LEVELS] - 1] if ask_meta[LEVELS] > 0 else NOWHERE
    fill(bid_keys, bid_slots, bid_levels, bid_entries, bid_free, bid_meta, random, parameters,
         min(quoted, barred - 1), barred, 1, wanted, wanted, 0)  # fmt: skip
    barred = -bid_keys[bid_meta[LEVELS] - 1] if bid_meta[LEVELS] > 0 else NOWHERE
    fill(ask_keys, ask_slots, ask_levels, ask_entries, ask_free, ask_meta, random, parameters,
         min(-quoted - 1, barred - 1), barred, -NOWHERE, wanted, wanted, 0)  # fmt: skip
    return int(bid_meta[LEVELS] + ask_meta[LEVELS])


@nb.njit(
    f"int64({_SIDE}, {_SIDE}, uint64[::1], float64[::1], float64[::1], float64[::1], int64, float64, int64, "
    "float64[::1], float64, float64, float64[::1], int64[:, ::1], int64[:, ::1], int64[:, ::1], int64[::1])",
    cache=True,
    nogil=True,
)
def live(
    bid_keys: Vector,
    bid_slots: Vector,
    bid_levels: Table,
    bid_entries: Table,
    bid_free: Table,
    bid_meta: Vector,
    ask_keys: Vector,
    ask_slots: Vector,
    ask_levels: Table,
    ask_entries: Table,
    ask_free: Table,
    ask_meta: Vector,
    random: Random,
    mood: Numbers,
    parameters: Numbers,
    common: Numbers,
    first: int,
    liveliness: float,
    wanted: int,
    leading: Numbers,
    ticks: float,
    discount: float,
    fairs: Numbers,
    takers: Table,
    matches: Table,
    trades: Table,
    written: Vector,
) -> int:
    """What :func:`step` does and what the exchange does with its takers, step after step in one call, for a market that
    nobody watches.

    Live the steps from ``first`` to the end of ``common`` (each step's move of all symbols) or until an array needs
    room; returns the first step that was not lived.

    ``leading`` is empty, or holds the fair price of a leader at each step, which times ``ticks`` and ``discount`` is
    this market's. ``fairs`` gets this one's, ``trades`` a row of each trade; ``written[0]`` counts these.
    """
    for number in range(first, common.shape[0]):
        resting = bid_meta[LEVELS] + ask_meta[LEVELS]
        if (
            min(bid_meta[FREE_LEVELS], bid_meta[FREE_ENTRIES], ask_meta[FREE_LEVELS], ask_meta[FREE_ENTRIES]) < ROOM
            or trades.shape[0] - written[0] < resting + 2 * ROOM + MOST_TAKERS
        ):
            return number
        if leading.shape[0] > 0:
            mood[FAIR] = leading[number] * ticks * discount
        found = step(bid_keys, bid_slots, bid_levels, bid_entries, bid_free, bid_meta,
                     ask_keys, ask_slots, ask_levels, ask_entries, ask_free, ask_meta,
                     random, mood, parameters, common[number], liveliness, wanted, takers)  # fmt: skip
        fairs[number] = mood[FAIR]
        for taker in range(found):
            direction, left, limit = takers[taker, 0], takers[taker, 1], takers[taker, 2]
            for _ in range(MATCHING_ROUNDS):
                # A key is the tick for bids and its negative for asks.
                if direction > 0:
                    matched = take(ask_keys, ask_slots, ask_levels, ask_entries, ask_free, ask_meta, left, -limit,
                                   matches)  # fmt: skip
                else:
                    matched = take(bid_keys, bid_slots, bid_levels, bid_entries, bid_free, bid_meta, left, limit,
                                   matches)  # fmt: skip
                for match in range(matched):
                    row = written[0]
                    trades[row, STEP], trades[row, DIRECTION] = number, direction
                    trades[row, TICK], trades[row, TRADED] = -direction * matches[match, 0], matches[match, 1]
                    left -= matches[match, 1]
                    written[0] = row + 1
                if matched == 0 or left <= 0:
                    break
        if found and (bid_meta[LEVELS] == 0 or ask_meta[LEVELS] == 0):
            restock(bid_keys, bid_slots, bid_levels, bid_entries, bid_free, bid_meta,
                    ask_keys, ask_slots, ask_levels, ask_entries, ask_free, ask_meta,
                    random, mood, parameters, wanted)  # fmt: skip
    return int(common.shape[0])
