"""Recorded events through a matching book, with own orders in its queues (docs/backtest.md).

The rules are those of a followed market in the simulator (``trading/simulator/playing.py`` and ``book.py``), and tests
compare both event by event. What differs is where levels are kept. A feed is known from its first to its last price, so
that each tick has its place, and nothing is searched. And a queue need not be kept: others are told apart by nobody,
so that all there is to know is how much of theirs stands before each own order.

Both sides are alike: a key is the tick for bids and its negative for asks, so that the larger one is the better. Index
0 of a side is its lowest key.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from marketdata.engine.compiled import inlined
from trading.backtest.kernels.decorators import inner, kernel
from trading.backtest.kernels.exact import BILLION, ceiling_ratio, floor_ratio
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
ID, SIDE, FORCE, TICK, LOTS, LEFT, STATUS, AHEAD = (int(column) for column in Order)
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
REPORTS, OWN, BASE, BEST, LEVELS = (
    int(Place.REPORTS),
    int(Place.OWN),
    int(Place.BASE),
    int(Place.BEST),
    int(Place.LEVELS),
)
WATCH_LOW, WATCH_HIGH, WATCH_BY, STOP, STOPS_AT = (
    int(Place.WATCH_LOW),
    int(Place.WATCH_HIGH),
    int(Place.WATCH_BY),
    int(Place.STOP),
    int(Place.STOPS_AT),
)
MADE, HALF_SPREAD, ASIDE, ASSUMED = (
    int(Place.MADE),
    int(Place.HALF_SPREAD),
    int(Place.ASIDE),
    int(Place.ASSUMED),
)
WHY_TIME, WHY_FILLED, WHY_ENDED, WHY_WATCHED, WHY_END, WHY_FULL = (int(why) for why in Why)

BIDS, ASKS = 0, 1
# Reports that one event or one request makes at most, beyond those of orders and levels.
ROOM = 4
FAR = 1 << 62
# Ticks of one count of levels: what is skipped at once where there are none.
BLOCK_BITS = 8
BLOCK = 1 << BLOCK_BITS


class Tables(NamedTuple):
    """What a replay knows: places; orders (a ring: its row is an order's id modulo its length); requests; reports; and
    of both sides (first dimension) the rows of own orders that rest, the best last, of one price the oldest last; the
    lots of others at each index; how many levels of theirs are in each block; which snapshot told a level last."""

    at: Ints
    orders: Ints
    requests: Ints
    reports: Ints
    own: Ints
    lots: Ints
    blocks: Ints
    stamps: Ints


# Levels of others.


@inner
def level_below(tables: Tables, side: int, index: int) -> int:
    """The best level of others at or below an index; -1 where there is none."""
    lots, blocks, block = tables.lots, tables.blocks, index >> BLOCK_BITS
    for each in range(index, (block << BLOCK_BITS) - 1, -1):
        if lots[side, each] > 0:
            return each
    for each_block in range(block - 1, -1, -1):
        if blocks[side, each_block] > 0:
            start = each_block << BLOCK_BITS
            for each in range(start + BLOCK - 1, start - 1, -1):
                if lots[side, each] > 0:
                    return each
    return -1


@inlined
def put_lots(tables: Tables, side: int, index: int, lots: int) -> None:
    """So many lots of others are at a level."""
    at, before = tables.at, tables.lots[side, index]
    tables.lots[side, index] = lots
    if before == 0 and lots > 0:
        at[LEVELS + side] += 1
        tables.blocks[side, index >> BLOCK_BITS] += 1
        at[BEST + side] = max(at[BEST + side], index)
    elif before > 0 and lots == 0:
        at[LEVELS + side] -= 1
        tables.blocks[side, index >> BLOCK_BITS] -= 1
        if index == at[BEST + side]:
            at[BEST + side] = level_below(tables, side, index) if at[LEVELS + side] > 0 else -1


@inlined
def show(tables: Tables, side: int, index: int, lots: int) -> None:
    """The feed says how much of others is at a level: more came to the back of the queue, less went from its back."""
    at, orders = tables.at, tables.orders
    if at[OWN + side] > 0 and lots < tables.lots[side, index]:
        key = at[BASE + side] + index
        for position in range(at[OWN + side] - 1, -1, -1):
            row = tables.own[side, position]
            own = (1 - 2 * side) * orders[row, TICK]
            if own < key:
                break
            if own == key:
                orders[row, AHEAD] = min(orders[row, AHEAD], lots)
    put_lots(tables, side, index, lots)


@inner
def move_up(tables: Tables, side: int, key: int, lots: int) -> None:
    """So many lots less stand before each own order at a key; not more than stand before the first."""
    at, orders = tables.at, tables.orders
    for position in range(at[OWN + side] - 1, -1, -1):
        row = tables.own[side, position]
        own = (1 - 2 * side) * orders[row, TICK]
        if own < key:
            break
        if own == key:
            orders[row, AHEAD] -= lots


@inner
def eat(tables: Tables, side: int, key: int, lots: int) -> None:
    """Lots of others are gone from the front of the queue at a key; not more than stand before the first own order."""
    index = key - tables.at[BASE + side]
    put_lots(tables, side, index, tables.lots[side, index] - lots)
    move_up(tables, side, key, lots)


@inlined
def lots_of_others(tables: Tables, side: int, key: int) -> int:
    index = key - tables.at[BASE + side]
    if index < 0 or index >= tables.lots.shape[1]:
        return 0
    return int(tables.lots[side, index])


@inlined
def others_key(tables: Tables, side: int) -> int:
    """The best key of others; below all keys where there is none."""
    at = tables.at
    if at[BEST + side] < 0:
        return -FAR
    return int(at[BASE + side] + at[BEST + side])


@inlined
def own_key(tables: Tables, side: int) -> int:
    """The key of the best own order that rests; below all keys where none does."""
    count = tables.at[OWN + side]
    if count == 0:
        return -FAR
    return int((1 - 2 * side) * tables.orders[tables.own[side, count - 1], TICK])


@inlined
def best_key(tables: Tables, side: int) -> int:
    return max(others_key(tables, side), own_key(tables, side))


@inner
def front(tables: Tables, side: int) -> tuple[int, int, int]:
    """Who trades next with a taker, at the best key: the key, the row of an own order or -1 for others, and how many
    lots. There must be somebody."""
    mine, theirs = own_key(tables, side), others_key(tables, side)
    if mine < theirs:
        return theirs, -1, lots_of_others(tables, side, theirs)
    row = tables.own[side, tables.at[OWN + side] - 1]
    if mine == theirs and tables.orders[row, AHEAD] > 0:
        return theirs, -1, tables.orders[row, AHEAD]
    return mine, row, tables.orders[row, LEFT]


@inner
def most_fronts(tables: Tables) -> int:
    """More than can stand behind each other on one side."""
    return int(tables.lots.shape[1] + 2 * tables.own.shape[1])


# What is reported.


@inner
def report(tables: Tables, time: int, row: int, what: int, tick: int, lots: int) -> None:
    """Note what happened to an order. Fills of one order at one price and one time that follow each other are one."""
    at, reports, orders = tables.at, tables.reports, tables.orders
    count = at[REPORTS]
    for back in range(1, 3):
        # A taker that meets an own order is reported by turns with it.
        if what >= STATUS_BASE or back > count:
            break
        last = reports[count - back]
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
def filled(tables: Tables, time: int, row: int, what: int, tick: int, lots: int) -> None:
    """Book a fill of an order."""
    orders = tables.orders
    orders[row, LEFT] -= lots
    if orders[row, LEFT] == 0:
        if orders[row, STATUS] == RESTS:
            unrest(tables, row)
        orders[row, STATUS] = FILLED
    report(tables, time, row, what, tick, lots)
    tables.at[STOP] |= WHY_FILLED


# Own orders in the queues.


@inner
def side_of(tables: Tables, row: int) -> int:
    """The side that an order rests on."""
    return BIDS if tables.orders[row, SIDE] > 0 else ASKS


@inner
def unrest(tables: Tables, row: int) -> None:
    """Take an order out of its queue."""
    side, own, found = side_of(tables, row), tables.own, False
    count = tables.at[OWN + side]
    for position in range(count):
        if found:
            own[side, position - 1] = own[side, position]
        elif own[side, position] == row:
            found = True
    if found:
        tables.at[OWN + side] = count - 1


@inner
def rest(tables: Tables, time: int, row: int) -> None:
    """Queue an order behind everything at its price."""
    orders, own, side = tables.orders, tables.own, side_of(tables, row)
    sign, tick = 1 - 2 * side, orders[row, TICK]
    if tables.at[MADE] != 0:
        orders[row, AHEAD] = tables.at[ASSUMED]
    else:
        orders[row, AHEAD] = lots_of_others(tables, side, sign * tick)
    orders[row, STATUS] = RESTS
    position = count = tables.at[OWN + side]
    for _ in range(count):
        if sign * orders[own[side, position - 1], TICK] < sign * tick:
            break
        own[side, position] = own[side, position - 1]
        position -= 1
    own[side, position] = row
    tables.at[OWN + side] = count + 1
    report(tables, time, row, STATUS_BASE + RESTS, tick, orders[row, LEFT])


# What the feed does to them.


@inner
def traded(tables: Tables, side: int, time: int, tick: int, lots: int) -> None:
    """A recorded trade took from a side: it went through own orders at better prices, and at its own price it takes
    from the front of the queue. How much is left there the feed's book says, before the trade or after it: what is
    taken before own orders comes back behind them."""
    at, orders = tables.at, tables.orders
    key = (1 - 2 * side) * tick
    for _ in range(at[OWN + side]):
        best = own_key(tables, side)
        if best < key or lots == 0:
            break
        row = tables.own[side, at[OWN + side] - 1]
        if best > key:
            filled(tables, time, row, MAKER, orders[row, TICK], orders[row, LEFT])
            continue
        before = min(lots, orders[row, AHEAD])
        if before > 0:
            move_up(tables, side, key, before)
            lots -= before
        if lots > 0:
            taken = min(lots, orders[row, LEFT])
            lots -= taken
            filled(tables, time, row, MAKER, tick, taken)


@inner
def cross(tables: Tables, side: int, time: int) -> None:
    """After the feed moved the book: own orders that it crosses now trade at their own price with others, and what they
    took is gone until the feed speaks of that level again."""
    at, orders, other = tables.at, tables.orders, 1 - side
    position = at[OWN + side]
    for _ in range(at[OWN + side]):
        position -= 1
        row = tables.own[side, position]
        limit = -(1 - 2 * side) * orders[row, TICK]
        for _ in range(most_fronts(tables)):
            if best_key(tables, other) < limit:
                return
            key, own, lots = front(tables, other)
            if own >= 0 or orders[row, LEFT] == 0:
                break
            lots = min(lots, orders[row, LEFT])
            eat(tables, other, key, lots)
            filled(tables, time, row, MAKER, orders[row, TICK], lots)


@inner
def drop_untold(tables: Tables, side: int) -> None:
    """A snapshot is over: levels of others that it did not tell are gone."""
    at, stamps = tables.at, tables.stamps
    index = at[BEST + side]
    for _ in range(at[LEVELS + side]):
        if index < 0:
            break
        if stamps[side, index] != at[SERIAL]:
            show(tables, side, index, 0)
        index = level_below(tables, side, index - 1) if index > 0 else -1


@inlined
def message_ends(tables: Tables, time: int) -> None:
    at = tables.at
    if at[IN_SNAPSHOT] != 0:
        drop_untold(tables, BIDS)
        drop_untold(tables, ASKS)
        at[IN_SNAPSHOT] = 0
    if at[OWN + BIDS] > 0 and own_key(tables, BIDS) >= -best_key(tables, ASKS):
        cross(tables, BIDS, time)
    if at[OWN + ASKS] > 0 and own_key(tables, ASKS) >= -best_key(tables, BIDS):
        cross(tables, ASKS, time)


# What own orders do.


@inner
def limit_of(tables: Tables, row: int) -> int:
    """The lowest key of the opposite side that an order trades at."""
    return int(-tables.orders[row, SIDE] * tables.orders[row, TICK])


@inner
def take(tables: Tables, time: int, row: int) -> None:
    """Trade with what rests within an order's limit, best prices and oldest entries first."""
    orders, side, limit = tables.orders, 1 - side_of(tables, row), limit_of(tables, row)
    for _ in range(most_fronts(tables)):
        best = best_key(tables, side)
        if orders[row, LEFT] == 0 or best < limit or best == -FAR:
            return
        key, own, lots = front(tables, side)
        lots = min(lots, orders[row, LEFT])
        if own < 0:
            eat(tables, side, key, lots)
        else:
            filled(tables, time, own, MAKER, orders[own, TICK], lots)
        filled(tables, time, row, TAKER, (1 - 2 * side) * key, lots)


@inner
def made_tick(at: Ints, sign: int, billionths: int) -> int:
    """What buying (1) or selling (-1) costs so far from the last price: on the tick grid, rounded against who takes."""
    last = at[LAST_TICK]
    if sign > 0:
        return ceiling_ratio(last, BILLION + billionths, BILLION)
    return max(floor_ratio(last, BILLION - billionths, BILLION)[0], 1)


@inner
def would_take(tables: Tables, row: int) -> bool:
    """Whether an order would trade at once."""
    at, orders = tables.at, tables.orders
    if at[MADE] == 0:
        best = best_key(tables, 1 - side_of(tables, row))
        return bool(best != -FAR and best >= limit_of(tables, row))
    if at[LAST_TICK] == 0:
        return False
    sign = orders[row, SIDE]
    return bool(sign * orders[row, TICK] >= sign * made_tick(at, sign, at[HALF_SPREAD]))


@inner
def take_made(tables: Tables, time: int, row: int) -> None:
    """Trade all of an order, at the last price and what trading costs, but not beyond its limit."""
    at, orders = tables.at, tables.orders
    if would_take(tables, row):
        sign = orders[row, SIDE]
        tick = sign * min(sign * made_tick(at, sign, at[ASIDE]), sign * orders[row, TICK])
        filled(tables, time, row, TAKER, tick, orders[row, LEFT])


@inner
def execute(tables: Tables, time: int, row: int) -> None:
    """Match an order, and let what is left rest or end."""
    orders = tables.orders
    if tables.at[MADE] != 0:
        take_made(tables, time, row)
    else:
        take(tables, time, row)
    if orders[row, LEFT] == 0:
        return
    if orders[row, FORCE] == IOC or orders[row, FORCE] == FOK:
        end_order(tables, time, row, NO_LIQUIDITY)
    else:
        rest(tables, time, row)


@inner
def fits(tables: Tables, row: int) -> bool:
    """Whether all of an order can trade at once."""
    if tables.at[MADE] != 0:
        return would_take(tables, row)
    at, orders, side, limit = tables.at, tables.orders, 1 - side_of(tables, row), limit_of(tables, row)
    missing, index = orders[row, LEFT], at[BEST + side]
    for position in range(at[OWN + side]):
        own = tables.own[side, position]
        if (1 - 2 * side) * orders[own, TICK] >= limit:
            missing -= orders[own, LEFT]
    for _ in range(at[LEVELS + side]):
        if missing <= 0 or index < 0 or at[BASE + side] + index < limit:
            break
        missing -= tables.lots[side, index]
        index = level_below(tables, side, index - 1) if index > 0 else -1
    return bool(missing <= 0)


@inner
def amend(tables: Tables, time: int, row: int, tick: int, lots: int) -> None:
    """Another price or quantity; only a smaller quantity keeps the place. ``lots``: with what is filled."""
    orders = tables.orders
    change = lots - orders[row, LOTS]
    if orders[row, LEFT] + change <= 0 or (change == 0 and tick == orders[row, TICK]):
        return
    keeps_place = tick == orders[row, TICK] and change < 0
    if not keeps_place:
        unrest(tables, row)
        orders[row, STATUS] = UNDERWAY
    orders[row, LOTS], orders[row, LEFT], orders[row, TICK] = lots, orders[row, LEFT] + change, tick
    if keeps_place:
        report(tables, time, row, STATUS_BASE + RESTS, tick, orders[row, LEFT])
    else:
        execute(tables, time, row)


@inner
def carry_out(tables: Tables, number: int) -> None:
    """A request has arrived."""
    request, orders = tables.requests[number], tables.orders
    row = request[R_ORDER] % orders.shape[0]
    if orders[row, ID] != request[R_ORDER]:
        return
    time, what, status = request[R_TIME], request[R_WHAT], orders[row, STATUS]
    if what == ASKED_NEW:
        if orders[row, FORCE] == POST_ONLY and would_take(tables, row):
            end_order(tables, time, row, WOULD_TAKE)
        elif orders[row, FORCE] == FOK and not fits(tables, row):
            end_order(tables, time, row, NO_LIQUIDITY)
        else:
            execute(tables, time, row)
    elif status == RESTS and what == ASKED_CANCEL:
        unrest(tables, row)
        end_order(tables, time, row, CANCELLED)
    elif status == RESTS:
        amend(tables, time, row, request[R_TICK], request[R_LOTS])


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
    made[STATUS], made[AHEAD] = UNDERWAY, 0
    return int(number)


# The way through time.


@inlined
def has_room(tables: Tables) -> bool:
    """Whether what comes next fits: a report for each own order and each level, and one more own order."""
    at = tables.at
    own, levels = at[OWN + BIDS] + at[OWN + ASKS], max(at[LEVELS + BIDS], at[LEVELS + ASKS])
    is_short = max(at[OWN + BIDS], at[OWN + ASKS]) >= tables.own.shape[1]
    return bool(not is_short and at[REPORTS] + 2 * own + levels + ROOM <= tables.reports.shape[0])


@inner
def touch(tables: Tables, side: int) -> int:
    """The best tick of others on a side; 0 where nobody stands."""
    at = tables.at
    if at[MADE] != 0:
        return made_tick(at, 2 * side - 1, at[HALF_SPREAD]) if at[LAST_TICK] != 0 else 0
    return (1 - 2 * side) * others_key(tables, side) if at[BEST + side] >= 0 else 0


@inner
def is_watched(tables: Tables) -> bool:
    """Whether a watched price is met."""
    at = tables.at
    if at[WATCH_BY] == BY_LAST:
        tick = at[LAST_TICK]
    elif at[WATCH_BY] == BY_BID:
        tick = touch(tables, BIDS)
    else:
        tick = touch(tables, ASKS)
    if tick == 0:
        return False
    return bool(tick <= at[WATCH_LOW] or tick >= at[WATCH_HIGH])


@inner
def play(events: Ints, tables: Tables, until: int) -> None:
    """Let events happen up to a time, or until something stops it."""
    at = tables.at
    bid_base, ask_base = at[BASE + BIDS], at[BASE + ASKS]
    watches = at[WATCH_LOW] > -FAR or at[WATCH_HIGH] < FAR
    first = at[ROW]
    at[ROW] = events.shape[0]
    for row in range(first, events.shape[0]):
        time = events[row, E_TIME]
        if time > until:
            at[ROW] = row
            break
        kind, sign, tick, lots = events[row, E_KIND], events[row, E_SIDE], events[row, E_TICK], events[row, E_LOTS]
        if kind == IS_LEVEL:
            if sign > 0:
                side, index = BIDS, tick - bid_base
            else:
                side, index = ASKS, -tick - ask_base
            show(tables, side, index, lots)
            if at[IN_SNAPSHOT] != 0:
                tables.stamps[side, index] = at[SERIAL]
            continue
        if at[OWN + BIDS] + at[OWN + ASKS] > 0 and not has_room(tables):
            at[STOP] |= WHY_FULL
            at[ROW] = row
            break
        if kind == IS_TRADE:
            at[LAST_TICK], at[LAST_SIDE] = tick, sign
            traded(tables, ASKS if sign > 0 else BIDS, time, tick, lots)
        elif kind == IS_END:
            message_ends(tables, time)
        else:
            at[SERIAL] += 1
            at[IN_SNAPSHOT] = 1
            continue
        if watches and is_watched(tables):
            at[STOP] |= WHY_WATCHED
            at[WATCH_LOW], at[WATCH_HIGH] = -FAR, FAR
        if at[STOP] & at[STOPS_AT] != 0:
            at[NOW], at[ROW] = time, row + 1
            break


@inner
def move(events: Ints, tables: Tables, until: int) -> int:
    """Go on to a time, or until something stops it; why it stopped. What the market did at an instant comes before
    requests that arrive at that instant."""
    at, requests = tables.at, tables.requests
    at[STOP] = 0
    for _ in range(requests.shape[0] + 1):
        first = at[REQUESTS_FROM]
        due = requests[first, R_TIME] if first < at[REQUESTS_END] else FAR
        play(events, tables, min(due, until))
        if at[STOP] & at[STOPS_AT] != 0:
            return int(at[STOP])
        if due > until:
            break
        at[NOW] = max(at[NOW], due)
        if not has_room(tables):
            at[STOP] |= WHY_FULL
            return int(at[STOP])
        at[REQUESTS_FROM] = first + 1
        carry_out(tables, first)
        if at[STOP] & at[STOPS_AT] != 0:
            return int(at[STOP])
    at[NOW] = max(at[NOW], until)
    at[STOP] |= WHY_TIME
    if at[ROW] == events.shape[0]:
        at[STOP] |= WHY_END
    return int(at[STOP])


_TABLES = ", ".join(["int64[::1]", *["int64[:, ::1]"] * 7])


@kernel(f"int64(int64[:, ::1], {_TABLES}, int64)")
def advance(
    events: Ints,
    at: Ints,
    orders: Ints,
    requests: Ints,
    reports: Ints,
    own: Ints,
    lots: Ints,
    blocks: Ints,
    stamps: Ints,
    until: int,
) -> int:
    """:func:`move` for Python."""
    return move(events, Tables(at, orders, requests, reports, own, lots, blocks, stamps), until)


@inner
def _asking(at: Ints, orders: Ints, requests: Ints) -> Tables:
    """The tables that asking needs; the others are not looked at."""
    return Tables(at, orders, requests, requests, requests, requests, requests, requests)


@kernel("int64(int64[::1], int64[:, ::1], int64[:, ::1], int64, int64, int64, int64, int64)")
def submit(at: Ints, orders: Ints, requests: Ints, time: int, side: int, force: int, tick: int, quantity: int) -> int:
    """:func:`send_order` for Python."""
    return send_order(_asking(at, orders, requests), time, side, force, tick, quantity)


@kernel("boolean(int64[::1], int64[:, ::1], int64[:, ::1], int64, int64, int64, int64, int64)")
def change(at: Ints, orders: Ints, requests: Ints, time: int, what: int, order: int, tick: int, quantity: int) -> bool:
    """:func:`ask` for Python."""
    return ask(_asking(at, orders, requests), time, what, order, tick, quantity)


@kernel("int64(int64[::1], int64[:, ::1], int64[:, ::1], int64, int64[:, ::1])")
def levels(at: Ints, lots: Ints, blocks: Ints, side: int, rows: Ints) -> int:
    """Write the best levels of others (tick, lots), best first, as many as there is room for; how many."""
    tables = Tables(at, lots, lots, lots, lots, lots, blocks, lots)
    index, written = at[BEST + side], 0
    for _ in range(min(rows.shape[0], at[LEVELS + side])):
        if index < 0:
            break
        rows[written, 0] = (1 - 2 * side) * (at[BASE + side] + index)
        rows[written, 1] = lots[side, index]
        written += 1
        index = level_below(tables, side, index - 1) if index > 0 else -1
    return written


@kernel("int64(int64[::1], int64)")
def made_touch(at: Ints, side: int) -> int:
    """The best tick of a side of a made book; 0 before the first trade."""
    return made_tick(at, 2 * side - 1, at[HALF_SPREAD]) if at[LAST_TICK] != 0 else 0


@kernel(f"int64(int64[:, ::1], {_TABLES}, int64[::1])")
def crossed(
    events: Ints,
    at: Ints,
    orders: Ints,
    requests: Ints,
    reports: Ints,
    own: Ints,
    lots: Ints,
    blocks: Ints,
    stamps: Ints,
    found: Ints,
) -> int:
    """Write the rows after which bid and ask meet, as many as there is room for; how many there are."""
    tables, count = Tables(at, orders, requests, reports, own, lots, blocks, stamps), 0
    for row in range(events.shape[0]):
        at[ROW] = 0
        play(events[row : row + 1], tables, FAR)
        bid, asked = touch(tables, BIDS), touch(tables, ASKS)
        if events[row, E_KIND] == IS_END and bid >= asked > 0:
            if count < found.shape[0]:
                found[count] = row
            count += 1
    return count
