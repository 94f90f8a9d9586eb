"""Recorded events through the simulator's matching book, with own orders in its queues (docs/backtest.md).

The rules are those of a followed market in the simulator (``trading/simulator/playing.py``), and so is the book: only
what Python does there event by event is done here in one go.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trading.backtest.kernels.decorators import inner, kernel
from trading.backtest.kernels.replay_slots import (
    MAKER,
    STATUS_BASE,
    TAKER,
    Asked,
    Event,
    EventKind,
    Force,
    Order,
    Place,
    Report,
    Request,
    Status,
    Watched,
    Why,
)
from trading.simulator.book_kernels import (
    BACKGROUND,
    ENTRY_LOTS,
    FREE_ENTRIES,
    FREE_LEVELS,
    HEAD,
    LEVELS,
    NEXT,
    NONE,
    OWNER,
    append_entry,
    available,
    find,
    reduce_entry,
    set_background,
)

Ints = NDArray[np.int64]

E_TIME, E_KIND, E_SIDE, E_TICK, E_LOTS = (
    int(Event.TIME),
    int(Event.KIND),
    int(Event.SIDE),
    int(Event.TICK),
    int(Event.LOTS),
)
IS_LEVEL, IS_TRADE, IS_END, IS_SNAPSHOT = (
    int(EventKind.LEVEL),
    int(EventKind.TRADE),
    int(EventKind.END),
    int(EventKind.SNAPSHOT),
)
ID, SIDE, FORCE, TICK, LOTS, LEFT, STATUS, ENTRY = (int(column) for column in Order)
R_TIME, R_WHAT, R_ORDER, R_TICK, R_LOTS = (int(column) for column in Request)
T_TIME, T_ORDER, T_WHAT, T_SIDE, T_TICK, T_LOTS, T_LEFT = (int(column) for column in Report)
UNDERWAY, RESTS, FILLED, CANCELLED, WOULD_TAKE, NO_LIQUIDITY = (int(status) for status in Status)
GTC, IOC, FOK, POST_ONLY = (int(force) for force in Force)
ASKED_NEW, ASKED_CANCEL, ASKED_AMEND = (int(asked) for asked in Asked)
BY_LAST, BY_BID, BY_ASK = (int(price) for price in Watched)
NOW, ROW, SERIAL, IN_SNAPSHOT, LAST_TICK, LAST_SIDE = (
    int(Place.NOW),
    int(Place.NEXT),
    int(Place.SERIAL),
    int(Place.IN_SNAPSHOT),
    int(Place.LAST_TICK),
    int(Place.LAST_SIDE),
)
REQUESTS_FROM, REQUESTS_END, NEXT_ORDER = int(Place.REQUESTS_FROM), int(Place.REQUESTS_END), int(Place.NEXT_ORDER)
REPORTS, OWN_BIDS, OWN_ASKS = int(Place.REPORTS), int(Place.OWN_BIDS), int(Place.OWN_ASKS)
WATCH_LOW, WATCH_HIGH, WATCH_BY, STOP = (
    int(Place.WATCH_LOW),
    int(Place.WATCH_HIGH),
    int(Place.WATCH_BY),
    int(Place.STOP),
)
WHY_TIME, WHY_FILLED, WHY_ENDED, WHY_WATCHED, WHY_END, WHY_FULL = (int(why) for why in Why)

# Levels and entries of a side that one event or one request may use up.
ROOM = 4
FAR = 1 << 62


class Ladder(NamedTuple):
    """One side of the book: the arrays of ``trading.simulator.book.Side.state``."""

    keys: Ints
    slots: Ints
    levels: Ints
    entries: Ints
    free: Ints
    meta: Ints


class Tables(NamedTuple):
    """What a replay knows: places, orders (a ring: its row is an order's id modulo its length), requests, reports, the
    resting own orders of both sides (rows of orders, the best last, of one price the oldest last), and which snapshot
    told a level last (by its row on each side)."""

    at: Ints
    orders: Ints
    requests: Ints
    reports: Ints
    own: Ints
    stamps: Ints


@inner
def shrink(side: Ladder, key: int, entry: int, lots: int) -> None:
    reduce_entry(side.keys, side.slots, side.levels, side.entries, side.free, side.meta, key, entry, lots)


@inner
def append(side: Ladder, key: int, lots: int, owner: int) -> int:
    made = append_entry(side.keys, side.slots, side.levels, side.entries, side.free, side.meta, key, lots, owner)
    return int(made)


@inner
def show(side: Ladder, key: int, lots: int) -> None:
    set_background(side.keys, side.slots, side.levels, side.entries, side.free, side.meta, key, lots)


@inner
def own_key(tables: Tables, sign: int) -> int:
    """The key of the best own order that rests on a side (1 bids, -1 asks); below all keys where none does."""
    index = 0 if sign > 0 else 1
    count = tables.at[OWN_BIDS + index]
    if count == 0:
        return -FAR
    return int(sign * tables.orders[tables.own[index, count - 1], TICK])


@inner
def best_key(side: Ladder) -> int:
    count = side.meta[LEVELS]
    if count == 0:
        return -FAR
    return int(side.keys[count - 1])


@inner
def report(tables: Tables, time: int, row: int, what: int, tick: int, lots: int) -> None:
    """Note what happened to an order. Fills of one order at one price and one time are one."""
    at, reports, orders = tables.at, tables.reports, tables.orders
    count = at[REPORTS]
    if count > 0 and what < STATUS_BASE:
        last = reports[count - 1]
        same = last[T_ORDER] == orders[row, ID] and last[T_WHAT] == what
        if same and last[T_TIME] == time and last[T_TICK] == tick:
            last[T_LOTS] += lots
            last[T_LEFT] = orders[row, LEFT]
            return
    at[REPORTS] = count + 1
    made = reports[count]
    made[T_TIME], made[T_ORDER], made[T_WHAT], made[T_SIDE] = time, orders[row, ID], what, orders[row, SIDE]
    made[T_TICK], made[T_LOTS], made[T_LEFT] = tick, lots, orders[row, LEFT]


@inner
def end_order(tables: Tables, time: int, row: int, status: int) -> None:
    tables.orders[row, STATUS] = status
    report(tables, time, row, STATUS_BASE + status, tables.orders[row, TICK], tables.orders[row, LEFT])
    if status in (WOULD_TAKE, NO_LIQUIDITY):
        tables.at[STOP] |= WHY_ENDED


@inner
def forget_own(tables: Tables, row: int) -> None:
    """Take an order from those that rest."""
    index = 0 if tables.orders[row, SIDE] > 0 else 1
    own, count, found = tables.own, tables.at[OWN_BIDS + index], False
    for position in range(count):
        if found:
            own[index, position - 1] = own[index, position]
        elif own[index, position] == row:
            found = True
    if found:
        tables.at[OWN_BIDS + index] = count - 1


@inner
def rest(tables: Tables, side: Ladder, time: int, row: int) -> None:
    """Queue an order behind everything at its price."""
    orders = tables.orders
    sign, tick = orders[row, SIDE], orders[row, TICK]
    key = sign * tick
    orders[row, ENTRY] = append(side, key, orders[row, LEFT], row + 1)
    orders[row, STATUS] = RESTS
    index = 0 if sign > 0 else 1
    own, count = tables.own, tables.at[OWN_BIDS + index]
    position = count
    for _ in range(count):
        if sign * orders[own[index, position - 1], TICK] < key:
            break
        own[index, position] = own[index, position - 1]
        position -= 1
    own[index, position] = row
    tables.at[OWN_BIDS + index] = count + 1
    report(tables, time, row, STATUS_BASE + RESTS, tick, orders[row, LEFT])


@inner
def filled(tables: Tables, time: int, row: int, what: int, tick: int, lots: int) -> None:
    """Book a fill of an order; its lots are off the book."""
    orders = tables.orders
    orders[row, LEFT] -= lots
    if orders[row, LEFT] == 0:
        if orders[row, STATUS] == RESTS:
            forget_own(tables, row)
        orders[row, STATUS] = FILLED
    report(tables, time, row, what, tick, lots)
    tables.at[STOP] |= WHY_FILLED


@inner
def fill_resting(tables: Tables, side: Ladder, time: int, row: int, lots: int) -> None:
    """A resting order trades at its price."""
    orders = tables.orders
    key = orders[row, SIDE] * orders[row, TICK]
    shrink(side, key, orders[row, ENTRY], lots)
    filled(tables, time, row, MAKER, orders[row, TICK], lots)


@inner
def traded(tables: Tables, side: Ladder, sign: int, time: int, tick: int, lots: int) -> None:
    """A recorded trade took from a side: it went through own orders at better prices, and at its own price it takes
    from the front of the queue."""
    orders, key = tables.orders, sign * tick
    index = 0 if sign > 0 else 1
    for _ in range(tables.at[OWN_BIDS + index]):
        if own_key(tables, sign) <= key:
            break
        row = tables.own[index, tables.at[OWN_BIDS + index] - 1]
        fill_resting(tables, side, time, row, orders[row, LEFT])
    count = side.meta[LEVELS]
    found = find(side.keys, count, key)
    if found == count or side.keys[found] != key:
        return
    entry = side.levels[side.slots[found], HEAD]
    for _ in range(side.entries.shape[0]):
        if entry == NONE or lots == 0:
            break
        after, owner = side.entries[entry, NEXT], side.entries[entry, OWNER]
        taken = min(lots, side.entries[entry, ENTRY_LOTS])
        lots -= taken
        if owner == 0:
            shrink(side, key, entry, taken)
        else:
            fill_resting(tables, side, time, owner - 1, taken)
        entry = after


@inner
def cross(tables: Tables, mine: Ladder, theirs: Ladder, sign: int, time: int) -> None:
    """After the feed moved the book: own orders that it crosses now trade at their own price with background, and what
    they took is gone until the feed speaks of that level again."""
    orders = tables.orders
    index = 0 if sign > 0 else 1
    position = tables.at[OWN_BIDS + index]
    for _ in range(tables.at[OWN_BIDS + index]):
        position -= 1
        row = tables.own[index, position]
        key = sign * orders[row, TICK]
        for _ in range(theirs.entries.shape[0]):
            count = theirs.meta[LEVELS]
            if count == 0 or theirs.keys[count - 1] < -key:
                return
            entry = theirs.levels[theirs.slots[count - 1], HEAD]
            if theirs.entries[entry, OWNER] != 0 or orders[row, LEFT] == 0:
                break
            lots = min(orders[row, LEFT], theirs.entries[entry, ENTRY_LOTS])
            shrink(theirs, theirs.keys[count - 1], entry, lots)
            fill_resting(tables, mine, time, row, lots)


@inner
def drop_untold(tables: Tables, side: Ladder, sign: int) -> None:
    """A snapshot is over: background that it did not tell is gone."""
    stamps, serial = tables.stamps[0 if sign > 0 else 1], tables.at[SERIAL]
    count = side.meta[LEVELS]
    for index in range(count - 1, -1, -1):
        slot = side.slots[index]
        if stamps[slot] != serial and side.levels[slot, BACKGROUND] > 0:
            show(side, side.keys[index], 0)


@inner
def set_level(tables: Tables, side: Ladder, sign: int, tick: int, lots: int) -> None:
    key = sign * tick
    show(side, key, lots)
    if tables.at[IN_SNAPSHOT] != 0:
        count = side.meta[LEVELS]
        found = find(side.keys, count, key)
        if found < count and side.keys[found] == key:
            tables.stamps[0 if sign > 0 else 1, side.slots[found]] = tables.at[SERIAL]


@inner
def message_ends(tables: Tables, bids: Ladder, asks: Ladder, time: int) -> None:
    at = tables.at
    if at[IN_SNAPSHOT] != 0:
        drop_untold(tables, bids, 1)
        drop_untold(tables, asks, -1)
        at[IN_SNAPSHOT] = 0
    if at[OWN_BIDS] != 0 and own_key(tables, 1) >= -best_key(asks):
        cross(tables, bids, asks, 1, time)
    if at[OWN_ASKS] != 0 and own_key(tables, -1) >= -best_key(bids):
        cross(tables, asks, bids, -1, time)


# Own orders.


@inner
def take(tables: Tables, theirs: Ladder, mine: Ladder, time: int, row: int) -> None:
    """Trade with what rests within an order's limit, best prices and oldest entries first."""
    orders = tables.orders
    limit = -orders[row, SIDE] * orders[row, TICK]
    for _ in range(theirs.entries.shape[0]):
        count = theirs.meta[LEVELS]
        if orders[row, LEFT] == 0 or count == 0 or theirs.keys[count - 1] < limit:
            return
        key = theirs.keys[count - 1]
        entry = theirs.levels[theirs.slots[count - 1], HEAD]
        lots = min(orders[row, LEFT], theirs.entries[entry, ENTRY_LOTS])
        owner = theirs.entries[entry, OWNER]
        if owner == 0:
            shrink(theirs, key, entry, lots)
        else:
            fill_resting(tables, theirs, time, owner - 1, lots)
        filled(tables, time, row, TAKER, -orders[row, SIDE] * key, lots)


@inner
def execute(tables: Tables, mine: Ladder, theirs: Ladder, time: int, row: int) -> None:
    """Match an order, and let what is left rest or end."""
    orders = tables.orders
    take(tables, theirs, mine, time, row)
    if orders[row, LEFT] == 0:
        return
    if orders[row, FORCE] == IOC or orders[row, FORCE] == FOK:
        end_order(tables, time, row, NO_LIQUIDITY)
    else:
        rest(tables, mine, time, row)


@inner
def work(tables: Tables, mine: Ladder, theirs: Ladder, time: int, row: int) -> None:
    """An order reaches the exchange."""
    orders = tables.orders
    limit, force = -orders[row, SIDE] * orders[row, TICK], orders[row, FORCE]
    if force == POST_ONLY and best_key(theirs) >= limit:
        end_order(tables, time, row, WOULD_TAKE)
    elif (
        force == FOK
        and available(theirs.keys, theirs.slots, theirs.levels, theirs.meta[LEVELS], limit) < orders[row, LEFT]
    ):
        end_order(tables, time, row, NO_LIQUIDITY)
    else:
        execute(tables, mine, theirs, time, row)


@inner
def unrest(tables: Tables, mine: Ladder, row: int) -> None:
    orders = tables.orders
    shrink(mine, orders[row, SIDE] * orders[row, TICK], orders[row, ENTRY], orders[row, LEFT])
    forget_own(tables, row)


@inner
def amend(tables: Tables, mine: Ladder, theirs: Ladder, time: int, row: int, tick: int, lots: int) -> None:
    """Another price or quantity; only a smaller quantity keeps the place in the queue. ``lots``: with what is filled."""
    orders = tables.orders
    change = lots - orders[row, LOTS]
    if orders[row, LEFT] + change <= 0 or (change == 0 and tick == orders[row, TICK]):
        return
    if tick == orders[row, TICK] and change < 0:
        shrink(mine, orders[row, SIDE] * tick, orders[row, ENTRY], -change)
        orders[row, LOTS], orders[row, LEFT] = lots, orders[row, LEFT] + change
        report(tables, time, row, STATUS_BASE + RESTS, tick, orders[row, LEFT])
        return
    unrest(tables, mine, row)
    orders[row, STATUS] = UNDERWAY
    orders[row, LOTS], orders[row, LEFT], orders[row, TICK] = lots, orders[row, LEFT] + change, tick
    execute(tables, mine, theirs, time, row)


@inner
def carry_out(tables: Tables, bids: Ladder, asks: Ladder, number: int) -> None:
    """A request has arrived."""
    request, orders = tables.requests[number], tables.orders
    row = request[R_ORDER] % orders.shape[0]
    if orders[row, ID] != request[R_ORDER]:
        return
    if orders[row, SIDE] > 0:
        carry_out_on(tables, bids, asks, number, row)
    else:
        carry_out_on(tables, asks, bids, number, row)


@inner
def carry_out_on(tables: Tables, mine: Ladder, theirs: Ladder, number: int, row: int) -> None:
    request = tables.requests[number]
    time, what, status = request[R_TIME], request[R_WHAT], tables.orders[row, STATUS]
    if what == ASKED_NEW:
        work(tables, mine, theirs, time, row)
    elif status == RESTS and what == ASKED_CANCEL:
        unrest(tables, mine, row)
        end_order(tables, time, row, CANCELLED)
    elif status == RESTS:
        amend(tables, mine, theirs, time, row, request[R_TICK], request[R_LOTS])


@inner
def ask(tables: Tables, time: int, what: int, order: int, tick: int, lots: int) -> bool:
    """Send a request that arrives at a time; False where there is no room for it."""
    at, requests = tables.at, tables.requests
    first, end = at[REQUESTS_FROM], at[REQUESTS_END]
    if end == requests.shape[0]:
        if first == 0:
            return False
        for number in range(first, end):
            for column in range(requests.shape[1]):
                requests[number - first, column] = requests[number, column]
        first, end = 0, end - first
    position = end
    for _ in range(end - first):
        if requests[position - 1, R_TIME] <= time:
            break
        for column in range(requests.shape[1]):
            requests[position, column] = requests[position - 1, column]
        position -= 1
    made = requests[position]
    made[R_TIME], made[R_WHAT], made[R_ORDER], made[R_TICK], made[R_LOTS] = time, what, order, tick, lots
    at[REQUESTS_FROM], at[REQUESTS_END] = first, end + 1
    return True


@inner
def send_order(tables: Tables, time: int, side: int, force: int, tick: int, lots: int) -> int:
    """Send an order that arrives at a time; its id, or -1 where there is no room for it."""
    at, orders = tables.at, tables.orders
    number = at[NEXT_ORDER]
    made = orders[number % orders.shape[0]]
    if made[ID] > 0 and made[STATUS] <= RESTS:
        return -1
    if not ask(tables, time, ASKED_NEW, number, tick, lots):
        return -1
    at[NEXT_ORDER] = number + 1
    made[ID], made[SIDE], made[FORCE], made[TICK] = number, side, force, tick
    made[LOTS] = made[LEFT] = lots
    made[STATUS], made[ENTRY] = UNDERWAY, NONE
    return int(number)


# The way through time.


@inner
def has_room(tables: Tables, bids: Ladder, asks: Ladder) -> bool:
    """Whether whatever comes next fits: it may add some entries, and a report for each own order and each level."""
    at = tables.at
    if min(bids.meta[FREE_LEVELS], bids.meta[FREE_ENTRIES]) < ROOM:
        return False
    if min(asks.meta[FREE_LEVELS], asks.meta[FREE_ENTRIES]) < ROOM:
        return False
    own = max(at[OWN_BIDS], at[OWN_ASKS])
    most = at[REPORTS] + at[OWN_BIDS] + at[OWN_ASKS] + max(bids.meta[LEVELS], asks.meta[LEVELS]) + ROOM
    return bool(own < tables.own.shape[1] and most <= tables.reports.shape[0])


@inner
def is_watched(at: Ints, bids: Ladder, asks: Ladder) -> bool:
    """Whether a watched price is met."""
    if at[WATCH_BY] == BY_LAST:
        tick = at[LAST_TICK]
    elif at[WATCH_BY] == BY_BID:
        tick = best_key(bids)
    else:
        tick = -best_key(asks)
    if abs(tick) == FAR or tick == 0:
        return False
    return bool(tick <= at[WATCH_LOW] or tick >= at[WATCH_HIGH])


@inner
def play(events: Ints, tables: Tables, bids: Ladder, asks: Ladder, until: int) -> None:
    """Let events happen up to a time, or until something stops it."""
    at = tables.at
    watches = at[WATCH_LOW] > -FAR or at[WATCH_HIGH] < FAR
    for row in range(at[ROW], events.shape[0]):
        time = events[row, E_TIME]
        if time > until:
            break
        if not has_room(tables, bids, asks):
            at[STOP] |= WHY_FULL
            break
        kind, sign, tick, lots = events[row, E_KIND], events[row, E_SIDE], events[row, E_TICK], events[row, E_LOTS]
        at[ROW] = row + 1
        if kind == IS_LEVEL:
            if sign > 0:
                set_level(tables, bids, 1, tick, lots)
            else:
                set_level(tables, asks, -1, tick, lots)
            continue
        if kind == IS_TRADE:
            at[LAST_TICK], at[LAST_SIDE] = tick, sign
            if sign > 0:
                traded(tables, asks, -1, time, tick, lots)
            else:
                traded(tables, bids, 1, time, tick, lots)
        elif kind == IS_END:
            message_ends(tables, bids, asks, time)
        else:
            at[SERIAL] += 1
            at[IN_SNAPSHOT] = 1
        if watches and is_watched(at, bids, asks):
            at[STOP] |= WHY_WATCHED
            at[WATCH_LOW], at[WATCH_HIGH] = -FAR, FAR
        if at[STOP] != 0:
            at[NOW] = time
            break


@inner
def move(events: Ints, tables: Tables, bids: Ladder, asks: Ladder, until: int) -> int:
    """Go on to a time, or until something stops it; why it stopped. What the market did at an instant comes before
    requests that arrive at that instant."""
    at, requests = tables.at, tables.requests
    at[STOP] = 0
    for _ in range(requests.shape[0] + 1):
        first = at[REQUESTS_FROM]
        due = requests[first, R_TIME] if first < at[REQUESTS_END] else FAR
        play(events, tables, bids, asks, min(due, until))
        if at[STOP] != 0:
            return int(at[STOP])
        if due > until:
            break
        at[NOW] = max(at[NOW], due)
        if not has_room(tables, bids, asks):
            at[STOP] = WHY_FULL
            return WHY_FULL
        at[REQUESTS_FROM] = first + 1
        carry_out(tables, bids, asks, first)
        if at[STOP] != 0:
            return int(at[STOP])
    at[NOW] = max(at[NOW], until)
    if at[ROW] == events.shape[0]:
        return WHY_TIME | WHY_END
    return WHY_TIME


_TABLES = ", ".join(["int64[::1]", *["int64[:, ::1]"] * 5])
_SIDE = "int64[::1], int64[::1], int64[:, ::1], int64[:, ::1], int64[:, ::1], int64[::1]"


@kernel(f"int64(int64[:, ::1], {_TABLES}, {_SIDE}, {_SIDE}, int64)")
def advance(
    events: Ints,
    at: Ints,
    orders: Ints,
    requests: Ints,
    reports: Ints,
    own: Ints,
    stamps: Ints,
    bid_keys: Ints,
    bid_slots: Ints,
    bid_levels: Ints,
    bid_entries: Ints,
    bid_free: Ints,
    bid_meta: Ints,
    ask_keys: Ints,
    ask_slots: Ints,
    ask_levels: Ints,
    ask_entries: Ints,
    ask_free: Ints,
    ask_meta: Ints,
    until: int,
) -> int:
    """:func:`move` for Python."""
    tables = Tables(at, orders, requests, reports, own, stamps)
    bids = Ladder(bid_keys, bid_slots, bid_levels, bid_entries, bid_free, bid_meta)
    asks = Ladder(ask_keys, ask_slots, ask_levels, ask_entries, ask_free, ask_meta)
    return move(events, tables, bids, asks, until)


@kernel(f"int64({_TABLES}, int64, int64, int64, int64, int64)")
def submit(
    at: Ints,
    orders: Ints,
    requests: Ints,
    reports: Ints,
    own: Ints,
    stamps: Ints,
    time: int,
    side: int,
    force: int,
    tick: int,
    lots: int,
) -> int:
    """:func:`send_order` for Python."""
    return send_order(Tables(at, orders, requests, reports, own, stamps), time, side, force, tick, lots)


@kernel(f"boolean({_TABLES}, int64, int64, int64, int64, int64)")
def change(
    at: Ints,
    orders: Ints,
    requests: Ints,
    reports: Ints,
    own: Ints,
    stamps: Ints,
    time: int,
    what: int,
    order: int,
    tick: int,
    lots: int,
) -> bool:
    """:func:`ask` for Python."""
    return ask(Tables(at, orders, requests, reports, own, stamps), time, what, order, tick, lots)
