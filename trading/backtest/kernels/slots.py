"""Where compiled backtests keep what they know: the places in their arrays of int64."""

from __future__ import annotations

from enum import IntEnum, auto


class _Places(IntEnum):
    @staticmethod
    def _generate_next_value_(name: str, start: int, count: int, last_values: list[int]) -> int:
        return count


class Ask(_Places):
    """What is asked, all of it constant. ``*_ONE``: what the figure beside it is a fraction of; percents are fractions
    of ``PERCENT_ONE``."""

    TICK = auto()
    LOT = auto()
    MIN_QUANTITY = auto()
    MAX_QUANTITY = auto()
    MIN_NOTIONAL = auto()
    LEVEL_SCALE = auto()  # levels are so much finer than prices
    TICK_LEVEL = auto()
    MONEY_ONE = auto()
    COST = auto()
    COST_ONE = auto()
    FEE = auto()  # billionths
    MAINTENANCE = auto()
    MAINTENANCE_ONE = auto()
    SIZING = auto()
    SIZE = auto()
    SIZE_ONE = auto()
    LEVERAGE = auto()
    LEVERAGE_ONE = auto()
    BY_CONFIDENCE = auto()  # sizes are asked of Python
    REVERSAL = auto()
    EXITS = auto()
    PERCENT_ONE = auto()
    MIN_PROFIT = auto()
    MAX_LOSS = auto()
    TRAILING_TAKE = auto()
    TAKE_FROM = auto()
    TAKE_STEP = auto()
    TRAILING_STOP = auto()
    STOP_FROM = auto()
    CALLBACK = auto()


class At(_Places):
    """Where a run stands. Prices and levels of 0: there is none."""

    BAR = auto()
    CASH = auto()
    CASH_BILLIONTHS = auto()
    SIDE = auto()  # 1 long, -1 short, 0 flat
    QUANTITY = auto()
    ENTRY = auto()
    BEST = auto()
    TAKE_PROFIT = auto()
    STOP_LOSS = auto()
    MAX_LOSS = auto()
    TRAILING_TAKE = auto()
    TRAILING_STOP = auto()
    LIQUIDATION = auto()
    PARTIAL = auto()
    PARTIALS = auto()  # how many are done
    KEPT = auto()
    LOWEST = auto()
    HIGHEST = auto()
    ORDER_SIDE = auto()
    ORDER_QUANTITY = auto()
    ORDER_CLOSES = auto()
    ORDER_TAKE_PROFIT = auto()
    ORDER_STOP_LOSS = auto()
    FILLS = auto()
    SIGNALS = auto()
    FUNDING = auto()
    ANSWER = auto()
    LEG = auto()  # within a bar, of the full path: -1 before its open, 0 at it, then its three legs
    PRICE = auto()  # where the price is there


class Filled(_Places):
    """One row of what happened to the position: fills, and payments of funding (``FILL_FUNDING``) whose ``CASH`` was
    received. ``CASH``: the realised PnL before the fee. ``LOWEST`` and ``HIGHEST``: what the price did since the
    position was opened."""

    BAR = auto()
    KIND = auto()
    SIDE = auto()
    PRICE = auto()
    QUANTITY = auto()
    CASH = auto()
    CASH_BILLIONTHS = auto()
    FEE = auto()
    FEE_BILLIONTHS = auto()
    HELD = auto()  # after it, signed
    LOWEST = auto()
    HIGHEST = auto()


class Kind(_Places):
    """Why a fill was, in the order in which levels count that are met at one price."""

    TAKE_PROFIT = auto()
    STOP_LOSS = auto()
    LIQUIDATION = auto()
    MAX_LOSS = auto()
    TRAILING_STOP = auto()
    TRAILING_TAKE_PROFIT = auto()
    PARTIAL = auto()
    SIGNAL = auto()
    END = auto()
    FUNDING = auto()


class Outcome(_Places):
    OPENED = auto()
    CLOSES = auto()
    HELD_ALREADY = auto()
    TOO_SMALL = auto()
    OFF_LIMITS = auto()
    NO_BALANCE = auto()


class Sizing(_Places):
    PERCENT = auto()
    FIXED_USD = auto()
    MINIMUM = auto()


class Question(_Places):
    """What kernels ask of Python, where Decimal rounds in a way of its own."""

    QUANTITY = auto()  # of an order: the price, the number of the signal
    PARTIAL = auto()  # of a partial exit: the price


class Status(_Places):
    DONE = auto()
    FILLS_ARE_FULL = auto()
    BAD_SIGNAL = auto()
    TOO_LARGE = auto()


class Seen(_Places):
    """What a run of a sweep has seen, floats. ``DAY_END``: of the day that is not over yet."""

    PEAK = auto()
    TROUGH = auto()
    DRAWDOWN = auto()
    DAY_END = auto()
    DAY_BEFORE = auto()
    LAST = auto()
    DAYS = auto()
    MEAN = auto()
    SQUARES = auto()
    TRADES = auto()
    HELD = auto()


class Held(_Places):
    """One row of what an account of several symbols holds. Addresses are of int64; ``STEPS`` is 0 where bars follow
    each other without a gap."""

    CLOSE = auto()
    STEPS = auto()
    FIRST = auto()  # the step of the first bar
    LAST = auto()  # the number of the last bar
    AT = auto()  # the kernel's own


class HeldFigure(_Places):
    """Floats beside it, quote coin."""

    SIGNED = auto()
    ENTRY = auto()
    ONE = auto()  # units of a price


class Known(_Places):
    """One symbol of those whose returns are asked for. Addresses are of int64; bars are numbers, -1: none."""

    CLOSE = auto()
    START = auto()
    LENGTH = auto()
    LAST = auto()  # the last bar that is known
    DONE = auto()  # the last bar whose return is in its row
    NEWEST = auto()  # the minute that its row ends with
