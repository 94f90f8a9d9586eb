"""When a position ends: stops and profits that trail the price, partial exits, reversals. Pure: values in, values out.

Percents are of the entry price, before leverage and fees. Prices in quote coin, times in nanoseconds of the data.
Take-profit and stop-loss orders at the venue stay where they are: they are the net below all of this.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from enum import StrEnum
from itertools import pairwise

from marketdata.instruments import InstrumentRules
from risk.exposure import PositionExposure

HUNDRED = Decimal(100)
ONE = Decimal(1)
# Each step divides the distance again; after ten it is nothing that a price would not cross by chance.
MOST_STEPS = 10
# Quotients are not exact: without this a price that is the level would miss it by the 28th digit.
LEVEL_DECIMALS = Decimal("1e-10")
SECOND_NS = 1_000_000_000


class ExitRuleError(ValueError):
    """A rule outside its range: which, what it was, and what is allowed."""

    def __init__(self, field: str, value: object, allowed: str) -> None:
        super().__init__(f"{field} is {value}; expected {allowed}")
        self.field, self.allowed = field, allowed


# Field, smallest and largest value.
RANGES: tuple[tuple[str, Decimal, Decimal], ...] = (
    ("min_profit_percent", Decimal(0), Decimal(100)),
    ("max_loss_percent", Decimal("0.1"), Decimal(100)),
    ("take_profit_activation_percent", Decimal("0.1"), Decimal(1000)),
    ("take_profit_step_percent", Decimal("0.01"), Decimal(100)),
    ("take_profit_acceleration", Decimal(1), Decimal(10)),
    ("trailing_stop_activation_percent", Decimal("0.1"), Decimal(1000)),
    ("reversal_indicators", Decimal(1), Decimal(5)),
    ("reversal_cooldown_seconds", Decimal(0), Decimal(86_400)),
    ("reversal_min_change_percent", Decimal(0), Decimal(100)),
)


@dataclass(frozen=True, slots=True)
class ExitRules:
    """``trailing_stop_distances``: (profit, distance) in percent, by rising profit; the distance of the highest profit
    that was reached counts. ``partial_exits``: (profit, share of the position) in percent, by rising profit.

    Raises:
        ExitRuleError: a value outside its range.
    """

    enabled: bool = True
    min_profit_percent: Decimal = Decimal("0.3")
    max_loss_percent: Decimal = Decimal("2.0")
    trailing_take_profit: bool = True
    take_profit_activation_percent: Decimal = Decimal("1.0")
    take_profit_step_percent: Decimal = Decimal("0.5")
    take_profit_acceleration: Decimal = Decimal("1.5")
    trailing_stop: bool = True
    trailing_stop_activation_percent: Decimal = Decimal("2.0")
    trailing_stop_distances: tuple[tuple[Decimal, Decimal], ...] = (
        (Decimal(2), Decimal("1.0")),
        (Decimal(5), Decimal("1.5")),
        (Decimal(10), Decimal("2.0")),
    )
    partial_exits: tuple[tuple[Decimal, Decimal], ...] = ()
    reversal: bool = True
    reversal_indicators: int = 3
    reversal_cooldown_seconds: int = 60
    reversal_min_change_percent: Decimal = Decimal("0.2")

    def __post_init__(self) -> None:
        for name, least, most in RANGES:
            value = getattr(self, name)
            if not least <= value <= most:
                raise ExitRuleError(name, value, f"{least:f} to {most:f}")
        _check_steps("trailing_stop_distances", self.trailing_stop_distances, Decimal("0.01"))
        _check_steps("partial_exits", self.partial_exits, ONE)
        if self.trailing_stop and not self.trailing_stop_distances:
            raise ExitRuleError("trailing_stop_distances", "empty", "at least one [profit, distance]")


def _check_steps(name: str, steps: Iterable[tuple[Decimal, Decimal]], least: Decimal) -> None:
    steps = tuple(steps)
    for profit, value in steps:
        if not (0 < profit <= 1000 and least <= value <= HUNDRED):
            raise ExitRuleError(
                name, f"[{profit:f}, {value:f}]", f"[profit above 0 up to 1000, value {least:f} to 100] in percent"
            )
    if any(one[0] >= two[0] for one, two in pairwise(steps)):
        raise ExitRuleError(name, [f"{profit:f}" for profit, _ in steps], "rising profits")


def exit_quantity(rules: InstrumentRules, held: Decimal, taken: Decimal, share: Decimal) -> Decimal:
    """What an order shall close of a position of ``held`` base coin, of which ``taken`` is being closed already, when a
    ``share`` of it (above 0 to 1) shall go; 0: nothing now.

    A part leaves nothing that is too small to be ordered: then all goes. A position that is too small itself can only
    be closed whole, by an order that asks the venue for just that, and only while no other order is closing it.
    """
    left = held - taken
    wanted = left if share == ONE else min(left, rules.floor_quantity(held * share))
    if wanted < left and rules.orderable(wanted) and not rules.orderable(left - wanted):
        wanted = left
    wanted = min(wanted, rules.max_market_quantity)
    return wanted if rules.orderable(wanted) or wanted == held else Decimal(0)


class ExitKind(StrEnum):
    MAX_LOSS = "max_loss"
    TRAILING_TAKE_PROFIT = "trailing_take_profit"
    TRAILING_STOP = "trailing_stop"
    PARTIAL = "partial"
    REVERSAL = "reversal"


@dataclass(frozen=True, slots=True)
class ExitState:
    """What must be remembered of a position. ``best_price``: the best it has seen. ``take_price`` and ``stop_price``:
    where trailing take-profit and trailing stop close it, once active; they never move away from the price.
    ``partials``: how many partial exits are done. ``reversal_ns``: when a reversal last closed one in the symbol."""

    best_price: Decimal
    take_price: Decimal | None = None
    stop_price: Decimal | None = None
    partials: int = 0
    reversal_ns: int = 0

    @classmethod
    def of(cls, position: PositionExposure, reversal_ns: int = 0) -> ExitState:
        return cls(best_price=position.entry_price, reversal_ns=reversal_ns)

    def same_levels(self, other: ExitState) -> bool:
        return all(
            getattr(self, field.name) == getattr(other, field.name)
            for field in fields(self)
            if field.name != "best_price"
        )


@dataclass(frozen=True, slots=True)
class Exit:
    """``share`` of the position to close, above 0 to 1."""

    kind: ExitKind
    share: Decimal
    reason: str


def profit_percent(position: PositionExposure, price: Decimal) -> Decimal:
    """What the position has gained at a price, percent of its entry value."""
    if position.entry_price <= 0:
        return Decimal(0)
    return position.unrealised_pnl(price) / (position.entry_price * position.quantity) * HUNDRED


def advance(rules: ExitRules, position: PositionExposure, state: ExitState, price: Decimal) -> ExitState:
    """The state once the position has seen a price: levels follow it, in the position's favour only."""
    best = max(state.best_price, price) if position.side == "Buy" else min(state.best_price, price)
    peak = profit_percent(position, best)
    take, stop = state.take_price, state.stop_price
    if rules.trailing_take_profit and peak >= rules.take_profit_activation_percent:
        steps = int((peak - rules.take_profit_activation_percent) / rules.take_profit_step_percent)
        distance = rules.take_profit_step_percent / rules.take_profit_acceleration ** min(steps, MOST_STEPS)
        kept = max(peak - distance, min(rules.min_profit_percent, peak))
        take = _nearer(position, take, price_at(position, kept))
    if rules.trailing_stop and peak >= rules.trailing_stop_activation_percent:
        reached = [distance for profit, distance in rules.trailing_stop_distances if profit <= peak]
        distance = reached[-1] if reached else rules.trailing_stop_distances[0][1]
        stop = _nearer(position, stop, price_at(position, peak - distance))
    if best == state.best_price and take == state.take_price and stop == state.stop_price:
        return state
    return ExitState(best, take, stop, state.partials, state.reversal_ns)


def judge(
    rules: ExitRules,
    position: PositionExposure,
    state: ExitState,
    price: Decimal,
    time_ns: int,
    against: int = 0,
) -> tuple[ExitState, Exit | None]:
    """The state after a price, and how the position should end now, if it should. ``against``: how many indicators say
    that the market has turned against it.

    The new state of an exit counts it as done: keep it only with the order that carries it out.
    """
    if not rules.enabled or position.quantity <= 0 or price <= 0:
        return state, None
    state = advance(rules, position, state, price)
    profit = profit_percent(position, price)
    if profit <= -rules.max_loss_percent:
        words = f"the loss of {-profit:.2f} % reached {rules.max_loss_percent:f} %"
        return state, Exit(ExitKind.MAX_LOSS, ONE, words)
    if state.stop_price is not None and _beyond(position, price, state.stop_price):
        words = f"the price {price:f} fell back to the trailing stop {state.stop_price:f}"
        return state, Exit(ExitKind.TRAILING_STOP, ONE, words)
    if state.take_price is not None and _beyond(position, price, state.take_price):
        words = f"the price {price:f} fell back to the trailing take-profit {state.take_price:f}"
        return state, Exit(ExitKind.TRAILING_TAKE_PROFIT, ONE, words)
    if rules.reversal and _has_reversed(rules, position, state, price, time_ns, against):
        words = f"{against} indicators turned against it, {_fallen(position, state, price):.2f} % off its best price"
        return replace(state, reversal_ns=time_ns), Exit(ExitKind.REVERSAL, ONE, words)
    return _partial(rules, state, profit)


def _partial(rules: ExitRules, state: ExitState, profit: Decimal) -> tuple[ExitState, Exit | None]:
    due = [share for at, share in rules.partial_exits if max(at, rules.min_profit_percent) <= profit]
    if len(due) <= state.partials:
        return state, None
    done, now = sum(due[: state.partials]), sum(due)
    left = HUNDRED - done
    share = min((now - done) / left, ONE) if left > 0 else ONE
    words = f"the profit of {profit:.2f} % reached partial exit {len(due)}"
    return replace(state, partials=len(due)), Exit(ExitKind.PARTIAL, share, words)


def _has_reversed(
    rules: ExitRules, position: PositionExposure, state: ExitState, price: Decimal, time_ns: int, against: int
) -> bool:
    return (
        against >= rules.reversal_indicators
        and time_ns - state.reversal_ns >= rules.reversal_cooldown_seconds * SECOND_NS
        and _fallen(position, state, price) >= rules.reversal_min_change_percent
    )


def _fallen(position: PositionExposure, state: ExitState, price: Decimal) -> Decimal:
    """How far the price is from the best that the position has seen, percent of it."""
    lost = state.best_price - price if position.side == "Buy" else price - state.best_price
    return lost / state.best_price * HUNDRED if state.best_price > 0 else Decimal(0)


def price_at(position: PositionExposure, profit: Decimal) -> Decimal:
    """The price at which the position has gained a percentage, to 10 decimals."""
    share = profit / HUNDRED
    price = position.entry_price * (ONE + share if position.side == "Buy" else ONE - share)
    return price.quantize(LEVEL_DECIMALS).normalize()


def _nearer(position: PositionExposure, level: Decimal | None, other: Decimal) -> Decimal:
    """Of two levels behind the price, the one that keeps more."""
    if level is None:
        return other
    return max(level, other) if position.side == "Buy" else min(level, other)


def _beyond(position: PositionExposure, price: Decimal, level: Decimal) -> bool:
    return price <= level if position.side == "Buy" else price >= level
