"""Where a replay keeps what it knows: the columns of its tables and the places in its array of int64."""

from __future__ import annotations

from enum import IntEnum, IntFlag


class Event(IntEnum):
    """A row of a feed. ``SIDE``: 1 bids (of a trade: the taker bought), -1 asks. ``UPDATE``: the venue's number of the
    message, 0 where it has none."""

    TIME = 0  # of the exchange, nanoseconds since 1970
    RECEIVED = 1  # here
    KIND = 2
    SIDE = 3
    TICK = 4
    LOTS = 5
    UPDATE = 6


class EventKind(IntEnum):
    """Rows of one message of a book stand together: a ``SNAPSHOT`` first where everything that is not told again is
    gone, its levels, and ``END``. In between a book is neither one thing nor the other."""

    LEVEL = 0  # so many lots rest at this tick now; 0: none
    TRADE = 1
    END = 2
    SNAPSHOT = 3


class Order(IntEnum):
    """A row of the orders. ``TICK`` of a market order: the worst that it may trade at."""

    ID = 0
    SIDE = 1  # 1 buys, -1 sells
    FORCE = 2
    TICK = 3
    LOTS = 4
    LEFT = 5
    STATUS = 6
    AHEAD = 7  # while it rests: lots of others that trade before it at its price


class Force(IntEnum):
    """How long an order works. Market orders are IOC without a limit."""

    GTC = 0
    IOC = 1
    FOK = 2
    POST_ONLY = 3


class Status(IntEnum):
    """What became of an order."""

    UNDERWAY = 0
    RESTS = 1
    FILLED = 2
    CANCELLED = 3  # as asked
    WOULD_TAKE = 4  # PostOnly, and there was somebody to trade with
    NO_LIQUIDITY = 5  # the rest of what takes at once or not at all


class Request(IntEnum):
    """A row of what is on its way to the exchange, the first to arrive first."""

    TIME = 0
    WHAT = 1
    ORDER = 2
    TICK = 3
    LOTS = 4


class Asked(IntEnum):
    NEW = 0
    CANCEL = 1
    AMEND = 2


class Report(IntEnum):
    """A row of what happened to own orders: a fill (``WHAT`` 0 taker, 1 maker), or how an order went on
    (``STATUS_BASE`` and its status). ``LEFT`` after it."""

    TIME = 0
    ORDER = 1
    WHAT = 2
    SIDE = 3
    TICK = 4
    LOTS = 5
    LEFT = 6


TAKER, MAKER, STATUS_BASE = 0, 1, 16


class Place(IntEnum):
    """Where a replay stands. Two places in a row are of bids and asks."""

    NOW = 0
    NEXT = 1  # row of the feed
    SERIAL = 2  # of the snapshot that is being told; levels that it told have this stamp
    IN_SNAPSHOT = 3
    LAST_TICK = 4
    LAST_SIDE = 5
    REQUESTS_FROM = 6
    REQUESTS_END = 7
    NEXT_ORDER = 8
    REPORTS = 9
    WATCH_LOW = 10
    WATCH_HIGH = 11
    WATCH_BY = 12
    STOP = 13
    OWN = 14  # own orders that rest
    BASE = 16  # the key of index 0: ticks of bids, negative ticks of asks
    BEST = 18  # the index of the best level of others, -1 for none
    LEVELS = 20  # how many levels of others
    MADE = 22  # 1: there are only trades, and the book is made of the last one
    HALF_SPREAD = 23  # billionths of the last price; of a made book
    ASIDE = 24  # the same with slippage: what takers pay
    ASSUMED = 25  # lots that are taken to stand before an order that rests; in a made book
    STOPS_AT = 26  # the reasons that end a move; others are only told
    PLACES = 27


class Why(IntFlag):
    """Why a replay stopped; several may be true at one instant."""

    TIME = 1  # everything up to the time that was asked for has happened
    FILLED = 2  # an own order, at least in part
    ENDED = 4  # an own order without being filled whole: what it would have taken is not there, or PostOnly
    WATCHED = 8  # a watched price was met
    END = 16  # the feed is over; requests that arrive later are never carried out
    FULL = 32  # inside only: tables must grow


class Watched(IntEnum):
    """The price that is watched."""

    LAST = 0  # of trades
    BID = 1
    ASK = 2
