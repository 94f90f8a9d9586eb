"""Many steps of the order flow in one call, for markets that nobody watches: what :mod:`flow_kernels` does step by step
and the exchange does with its takers, without leaving compiled code. The same steps give the same books either way.

Every loop is bounded (see :mod:`book_kernels`).
"""

from __future__ import annotations

import numba as nb

from trading.simulator.book_kernels import FREE_ENTRIES, FREE_LEVELS, LEVELS, Table, Vector, take
from trading.simulator.flow_kernels import (
    FAIR,
    MOST_TAKERS,
    NOWHERE,
    QUOTED,
    ROOM,
    Numbers,
    Random,
    fill,
    normal,
    step,
)

# Columns of a trade: which step it was in, the taker's side (1 buys, -1 sells), its tick and its lots.
STEP, DIRECTION, TICK, TRADED, TRADE = range(5)
# A taker that fills the table of matches goes on with an empty one.
_ROUNDS = 64

_SIDE = "int64[::1], int64[::1], int64[:, ::1], int64[:, ::1], int64[:, ::1], int64[::1]"


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
    """Live the steps from ``first`` to the end of ``common`` (each step's move of all symbols) or until an array needs
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
            for _ in range(_ROUNDS):
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
