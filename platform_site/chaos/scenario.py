"""What happens in each run: seeded, pure, and the same for the same seed, so that a violation can be seen again."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from decimal import Decimal
from random import Random
from typing import Any

from trading.crash_points import POINTS

USERS = ("alice", "bob")
SYMBOLS = ("BTCUSDT", "ETHUSDT")
LOAD_SECONDS = 2.0
# The most that one market order of the load buys or sells, and how far from the price its limits rest (%).
MOST_LOTS, FAR_PERCENT = 5, (Decimal(2), Decimal(8))
# Where positions end at the venue (%), and how far the price moves in a run: that is beyond near exits, and less than
# the loss at which the account's own rules act. Far stops are beyond that loss.
NEAR_PERCENT, BEYOND_PERCENT = (Decimal("0.2"), Decimal("0.8")), (Decimal(8), Decimal(12))
MOVE_PERCENT = (Decimal("1.0"), Decimal("1.8"))
# How long after its order an amendment is wanted, s, and what share of the amended orders is never cancelled.
AMEND_AFTER, STAYS = (0.1, 0.9), 0.3
# A run that is watched for its label must pass it: the label's n-th passage, by how often a run passes it.
OFTEN = ("order.", "api.", "intent.")
# What a run may fail to come by: it hangs on a price, on an order that still works, or on the other engine.
SELDOM = ("exit.", "amend.", "cancel.", "lease.", "kill.")


@dataclass(frozen=True, slots=True)
class Blow:
    """What is done to the deployment. ``target``: engine, engines, web, worker, valkey, postgres, simulator, private,
    public or nothing. ``action``: kill (SIGKILL), stop (paused until its leases are gone), cut (connections).

    With a ``label`` it happens at the ``passage``-th time that the process of ``target`` reaches that point, else
    ``after`` seconds. An engine is the owner of ``user``'s account.
    """

    target: str
    action: str = "kill"
    label: str = ""
    passage: int = 1
    after: float = 0.0
    user: str = USERS[0]

    @property
    def name(self) -> str:
        return f"{self.target} {self.action}" + (f" at {self.label}" if self.label else "")

    @property
    def needs_kill_switch(self) -> bool:
        return self.label.startswith("kill.")

    @property
    def needs_price_move(self) -> bool:
        return self.label == "exit.ordered"


@dataclass(frozen=True, slots=True)
class PlannedOrder:
    """One request of a user: ``kind`` is market, limit, reduce, or amend or cancel (of ``client_order_id``, placed
    before; an amendment names its symbol and side again).

    ``lots`` are lot sizes; ``percent`` is how far a limit rests from the price, on its side; ``take`` and ``stop`` are
    how far its take-profit and stop-loss are from its own price, in percent, 0 for none. ``at``: seconds."""

    at: float
    user: str
    kind: str
    client_order_id: str
    symbol: str = ""
    side: str = ""
    lots: int = 0
    percent: Decimal = Decimal(0)
    take: Decimal = Decimal(0)
    stop: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class PriceMove:
    """A jump of a symbol's price by ``percent``, ``at`` seconds after the load began: exits at the venue fire."""

    at: float
    symbol: str
    percent: Decimal


@dataclass(frozen=True, slots=True)
class Plan:
    seed: int
    number: int
    blow: Blow
    faults: tuple[dict[str, Any], ...]
    orders: tuple[PlannedOrder, ...]
    runs_strategy: bool
    move: PriceMove | None

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready, for whoever has to see it again."""
        percents = ("percent", "take", "stop")
        orders = [{**asdict(each), **{name: f"{getattr(each, name):f}" for name in percents}} for each in self.orders]
        return {
            "seed": self.seed,
            "run": self.number,
            "blow": asdict(self.blow),
            "faults": list(self.faults),
            "orders": orders,
            "runs_strategy": self.runs_strategy,
            "move": None if self.move is None else {**asdict(self.move), "percent": f"{self.move.percent:f}"},
        }


def _at(target: str, *names: str, action: str = "kill") -> list[Blow]:
    return [Blow(target, action, label) for label in POINTS if any(label.startswith(name) for name in names)]


# Each is drawn once before any is drawn again, see _deck.
BLOWS: tuple[Blow, ...] = (
    *_at("engine", "order.", "fill.", "exit.", "reconciliation.", "lease."),
    *_at("engine", "amend.committed", "amend.bytes_left", "amend.answered", "amend.booked"),
    *_at("engine", "cancel.taken", "cancel.bytes_left", "cancel.answered", "cancel.booked"),
    *_at("engine", "kill.begun", "kill.cancelled", "kill.closed", "kill.verified", "kill.done"),
    *_at("web", "intent.", "api.", "amend.requested", "cancel.requested", "kill.engaging"),
    *_at("worker", "reconciliation.orders", "reconciliation.positions"),
    *_at("engine", "order.before_commit", "order.in_transaction", "order.committed", action="stop"),
    *_at("engine", "order.bytes_left", "order.answered", "fill.booking", "lease.renewed", "kill.closed", action="stop"),
    *([Blow("engine")] * 3),
    *([Blow("engine", "stop")] * 2),
    Blow("engines"),
    *([Blow("web")] * 2),
    *([Blow("worker")] * 2),
    *([Blow("valkey")] * 2),
    *([Blow("postgres")] * 3),
    Blow("simulator"),
    *([Blow("private", "cut")] * 2),
    Blow("public", "cut"),
    *([Blow("nothing", "none")] * 2),
)

_CREATE, _AMEND, _CANCEL = "/v5/order/create", "/v5/order/amend", "/v5/order/cancel"


def _faults(draw: Random) -> tuple[dict[str, Any], ...]:
    """At most one of those that a breaker counts: three in 30 s would stop the orders of the runs that follow."""
    counted: list[dict[str, Any]] = [
        {"endpoint": _CREATE, "kind": "lose_answer"},
        {"endpoint": _CREATE, "kind": "lose_request"},
        {"endpoint": _CREATE, "kind": "http_status", "value": draw.choice((500, 502, 503, 504))},
        {"endpoint": _CREATE, "kind": "ret_code", "value": draw.choice((10000, 10016))},
        {"endpoint": _CREATE, "kind": "garbage", "value": draw.choice(("truncated", "html", "empty"))},
        {"endpoint": _AMEND, "kind": "lose_answer"},
        {"endpoint": _AMEND, "kind": "lose_request"},
        {"endpoint": _CANCEL, "kind": "lose_answer"},
        {"endpoint": _CANCEL, "kind": "http_status", "value": 502},
        {"endpoint": "/v5/order/realtime", "kind": "http_status", "value": 503},
        {"endpoint": "/v5/execution/list", "kind": "lose_answer"},
    ]
    others: list[dict[str, Any]] = [
        {"endpoint": _CREATE, "kind": "delay", "value": draw.randint(100, 1200), "count": 2},
        {"endpoint": _CREATE, "kind": "ret_code", "value": 10006},
        {"endpoint": _CREATE, "kind": "duplicate_delivery", "value": draw.choice(("first", "second")), "count": 2},
        {"endpoint": _CREATE, "kind": "answer_after_private", "value": draw.randint(0, 300), "count": 4},
        {"endpoint": _AMEND, "kind": "delay", "value": draw.randint(100, 1000), "count": 2},
        {"endpoint": _AMEND, "kind": "answer_after_private", "value": draw.randint(0, 300), "count": 2},
        {"endpoint": _CANCEL, "kind": "delay", "value": draw.randint(100, 1000)},
        {"endpoint": "*", "kind": "clock_skew", "value": draw.choice((-700, -300, 400, 900)), "count": 20},
        {"channel": "private", "topic": "*", "kind": "repeat", "every": draw.randint(1, 3), "count": 10},
        {"channel": "private", "topic": "*", "kind": "reorder", "every": draw.randint(2, 4), "count": 5},
        {"channel": "private", "topic": "execution", "kind": "drop", "every": draw.randint(1, 3), "count": 2},
        {"channel": "private", "topic": "order", "kind": "drop", "every": draw.randint(1, 3), "count": 2},
        {"channel": "private", "topic": "*", "kind": "delay", "value": draw.randint(50, 600), "every": 4, "count": 3},
        {"channel": "private", "topic": "*", "kind": "truncate", "every": draw.randint(2, 6), "count": 1},
        {"channel": "private", "topic": "order", "kind": "double_filled", "every": 1, "count": 2},
        {"channel": "private", "topic": "*", "kind": "disconnect", "every": draw.randint(2, 8), "count": 1},
    ]
    chosen = [draw.choice(counted)] if draw.random() < 0.5 else []
    return (*chosen, *draw.sample(others, draw.randint(0, 2)))


def _orders(draw: Random, seed: int, number: int, user: str) -> list[PlannedOrder]:
    """From a market order to a cancel: every way once at least. The first limit rests, and is amended before it is
    cancelled; the others' cancels may come first."""
    kinds = ["market", "limit", "limit", *draw.choices(("market", "limit", "reduce"), k=3), "reduce"]
    times = sorted(round(draw.uniform(0.0, LOAD_SECONDS), 3) for _ in kinds)
    orders = []
    for index, (at, kind) in enumerate(zip(times, kinds, strict=True)):
        name = f"c{seed}-{number}-{user}-{index}"
        percent = _tenths(draw, *FAR_PERCENT)
        if kind == "limit" and index > 1 and draw.random() < 0.25:
            percent = Decimal(0)  # at the price: it may fill at any time
        lots = draw.randint(1, MOST_LOTS)
        take = _tenths(draw, *NEAR_PERCENT) if kind != "reduce" and draw.random() < 0.4 else Decimal(0)
        stops = _tenths(draw, *draw.choice((NEAR_PERCENT, BEYOND_PERCENT)))
        stop = stops if kind != "reduce" and draw.random() < 0.4 else Decimal(0)
        symbol, side = draw.choice(SYMBOLS), draw.choice(("Buy", "Sell"))
        orders.append(PlannedOrder(at, user, kind, name, symbol, side, lots, percent, take, stop))
    for each in [each for each in orders if each.kind == "limit" and each.percent]:
        amended = round(each.at + draw.uniform(*AMEND_AFTER), 3)
        percent = Decimal(0) if draw.random() < 0.1 else _tenths(draw, *FAR_PERCENT)
        lots = draw.randint(1, MOST_LOTS)
        orders.append(PlannedOrder(amended, user, "amend", each.client_order_id, each.symbol, each.side, lots, percent))
        if draw.random() >= STAYS:
            at = round(each.at + draw.uniform(0.2, 1.2), 3)
            if each is orders[1]:
                at = max(at, round(amended + 0.4, 3))
            orders.append(PlannedOrder(at, user, "cancel", each.client_order_id))
    return sorted(orders, key=lambda each: each.at)


def _tenths(draw: Random, least: Decimal, most: Decimal) -> Decimal:
    return Decimal(draw.randint(int(least * 10), int(most * 10))) / 10


def _deck(seed: int, deal: int) -> list[Blow]:
    """Shuffled anew each time it has been dealt. Every label comes in its first part once; those that a run may miss
    come first of all, and so twice in a little more than one deal."""
    deck = list(BLOWS)
    Random(f"{seed} deck {deal}").shuffle(deck)
    first = {blow.label: blow for blow in reversed(deck) if blow.label}
    return sorted(deck, key=lambda blow: (blow is not first.get(blow.label), not blow.label.startswith(SELDOM)))


def _blow(seed: int, number: int) -> Blow:
    deal, place = divmod(number, len(BLOWS))
    chosen = _deck(seed, deal)[place]
    draw = Random(f"{seed} blow {number}")
    often = chosen.label.startswith(OFTEN) and chosen.action == "kill" and deal > 0
    return Blow(
        chosen.target,
        chosen.action,
        chosen.label,
        draw.randint(1, 3) if often else 1,
        0.0 if chosen.label else round(draw.uniform(0.1, LOAD_SECONDS), 3),
        draw.choice(USERS),
    )


def _move(draw: Random) -> PriceMove | None:
    """In half of the runs, when the load has opened positions."""
    percent = _tenths(draw, *MOVE_PERCENT) * draw.choice((1, -1))
    move = PriceMove(round(draw.uniform(LOAD_SECONDS / 2, LOAD_SECONDS), 3), draw.choice(SYMBOLS), percent)
    return move if draw.random() < 0.5 else None


def plan(seed: int, number: int) -> Plan:
    """The ``number``-th run (from 0) of a seed."""
    draw = Random(f"{seed} run {number}")
    blow = _blow(seed, number)
    orders = [each for user in USERS for each in _orders(draw, seed, number, user)]
    return Plan(seed, number, blow, _faults(draw), tuple(orders), draw.random() < 0.5, _move(draw))
