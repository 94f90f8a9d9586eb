"""Scenarios injected into a market: orders over its book, trades between its messages, and a bent price path.

Each scenario says what a detector should find, or that it should find nothing. A scenario is placed only where the
market lets it stand: an order that the price would reach is not a spoof.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from marketdata.engine.detectors.kinds import DetectionKind
from tests.marketdata.labelled.streams import BookChange, MarketStream, MarketTrade

BID, ASK = 0, 1
SIDE_NAMES = ("bid", "ask")
WARM_UP_MS = 15_000
# Whoever trades much at one price, or rests much near it, also makes these, truly.
TRADES_TOO = (DetectionKind.HOT_SPOT, DetectionKind.ABSORPTION, DetectionKind.TOXICITY)
RESTS_TOO = (DetectionKind.VOLUME_CLUSTER, DetectionKind.CLUSTER_GONE, DetectionKind.IMBALANCE)

Levels = dict[tuple[int, int], int]


@dataclass(frozen=True, slots=True)
class Label:
    """What is true. ``side`` None: either. Ticks are those of the injected stream."""

    kind: DetectionKind
    side: str | None
    begin_ms: int
    end_ms: int
    low: int | None = None
    high: int | None = None
    end: int | None = None  # how a large level ended


@dataclass(slots=True)
class Scenario:
    """``orders`` gives the levels added at a time, from the best bid and ask; ``trades`` are (ms, side that is hit,
    tick or None for its best, lots); ``shift`` moves the whole book by so many ticks, from its mid price."""

    name: str
    begin_ms: int
    end_ms: int
    labels: tuple[Label, ...] = ()
    orders: Callable[[int, int, int], Levels] | None = None
    trades: list[tuple[int, int, int | None, int]] = field(default_factory=list)
    shift: Callable[[int, int], int] | None = None
    # Kinds that this is, too, or may be: neither right nor wrong.
    also: tuple[DetectionKind, ...] = ()


class Market:
    """What a scenario may look at: the market's own future."""

    def __init__(self, stream: MarketStream) -> None:
        self.stream = stream
        self.times: list[int] = []
        self.bids: list[int] = []
        self.asks: list[int] = []
        self._sides: tuple[dict[int, int], dict[int, int]] = ({}, {})
        sizes: list[int] = []
        zones: list[int] = []
        spans = self.span = 0
        self.trades = [item for item in stream.items if isinstance(item, MarketTrade)]
        for item in stream.items:
            if isinstance(item, MarketTrade):
                continue
            apply(self._sides, item)
            self.times.append(item.ms)
            self.bids.append(max(self._sides[BID]))
            self.asks.append(min(self._sides[ASK]))
            if len(self.times) % 20 == 0:
                for side, sign in ((BID, -1), (ASK, 1)):
                    nearest = sorted(self._sides[side], key=lambda tick, sign=sign: sign * tick)
                    sizes += [self._sides[side][tick] for tick in nearest[:50]]
                    # A zone is a 32nd of what is known, or two basis points: what a dense one is compared with.
                    width = self.zone = max(1, int(min(self.span / 32 if spans else 1e9, 2e-4 * nearest[0])))
                    volumes: dict[int, int] = dict.fromkeys(range(nearest[0] // width + 1, nearest[0] // width + 24), 0)
                    if side == BID:
                        volumes = dict.fromkeys(range(nearest[0] // width - 24, nearest[0] // width), 0)
                    for tick in nearest:
                        if tick // width in volumes:
                            volumes[tick // width] += self._sides[side][tick]
                    zones += volumes.values()
                    span = abs(nearest[-1] - nearest[0])
                    self.span = min(span, self.span) if spans else span
                    spans += 1
                    self.near_span = abs(nearest[min(len(nearest), 50) - 1] - nearest[0])
        sizes.sort()
        self.wall = max(1, sizes[int(0.98 * len(sizes))] * 2)
        self.usual = max(1, sizes[len(sizes) // 2])
        self.mean = sum(sizes) // len(sizes)
        self.dense = max(sorted(zones)[int(0.98 * len(zones))], 1)
        self.density = self.mean * 50 / max(self.near_span, 1)
        seconds = max(stream.seconds, 1.0)
        self.traded_a_second = sum(trade.lots for trade in self.trades) / seconds

    def quotes(self, begin_ms: int, end_ms: int) -> tuple[list[int], list[int]]:
        first = max(bisect.bisect_right(self.times, begin_ms) - 1, 0)
        last = bisect.bisect_right(self.times, end_ms)
        return self.bids[first:last], self.asks[first:last]

    def best(self, side: int, ms: int) -> int:
        place = max(bisect.bisect_right(self.times, ms) - 1, 0)
        return (self.bids if side == BID else self.asks)[place]

    def untouched(self, side: int, tick: int, begin_ms: int, end_ms: int) -> bool:
        bids, asks = self.quotes(begin_ms, end_ms)
        return tick < min(bids) if side == BID else tick > max(asks)

    def stands_still(self, side: int, begin_ms: int, end_ms: int) -> bool:
        bids, asks = self.quotes(begin_ms, end_ms)
        return len(set(bids if side == BID else asks)) == 1


def apply(sides: tuple[dict[int, int], dict[int, int]], item: BookChange) -> None:
    for side, changes in zip(sides, (item.bids, item.asks), strict=True):
        if item.is_snapshot:
            side.clear()
        for tick, lots in changes:
            if lots:
                side[tick] = lots
            else:
                side.pop(tick, None)


def inject(stream: MarketStream, scenarios: list[Scenario]) -> MarketStream:
    """The stream with all scenarios in it."""
    made = MarketStream(stream.name, stream.tick_size, stream.lot_size)
    trades = sorted((trade for each in scenarios for trade in each.trades), key=lambda trade: trade[0])
    base: tuple[dict[int, int], dict[int, int]] = ({}, {})
    told: tuple[dict[int, int], dict[int, int]] = ({}, {})
    over: Levels = {}
    shift = next_trade = 0
    own_best = [0, 0]
    for item in stream.items:
        while next_trade < len(trades) and trades[next_trade][0] <= item.ms and told[0]:
            ms, side, tick, lots = trades[next_trade]
            best = max(told[BID]) if side == BID else min(told[ASK])
            made.items.append(MarketTrade(ms, best if tick is None else tick, max(lots, 1), side == ASK))
            next_trade += 1
        if isinstance(item, MarketTrade):
            made.items.append(MarketTrade(item.ms, item.tick + shift, item.lots, item.is_bought))
            continue
        apply(base, item)
        own_best = [max(base[BID]), min(base[ASK])]
        active = [each for each in scenarios if each.begin_ms <= item.ms < each.end_ms]
        before = shift
        for each in active:
            if each.shift is not None:
                shift = each.shift(item.ms, (own_best[BID] + own_best[ASK]) // 2)
        wanted: Levels = {}
        for each in active:
            if each.orders is not None:
                for (side, tick), lots in each.orders(item.ms, own_best[BID] + shift, own_best[ASK] + shift).items():
                    crosses = tick >= own_best[ASK] + shift if side == BID else tick <= own_best[BID] + shift
                    if not crosses and tick > 0:
                        wanted[side, tick] = wanted.get((side, tick), 0) + lots
        changes: list[list[tuple[int, int]]] = []
        for side, own in ((BID, item.bids), (ASK, item.asks)):
            touched = {tick + shift for tick, _ in own}
            touched.update(tick for (where, tick) in {**wanted, **over} if where == side)
            if item.is_snapshot or shift != before:
                touched.update(tick + shift for tick in base[side])
                touched.update(told[side])
            rows = []
            for tick in sorted(touched, reverse=side == BID):
                lots = base[side].get(tick - shift, 0) + wanted.get((side, tick), 0)
                if lots != told[side].get(tick, 0) or item.is_snapshot:
                    if lots or not item.is_snapshot:
                        rows.append((tick, lots))
                    if lots:
                        told[side][tick] = lots
                    else:
                        told[side].pop(tick, None)
            changes.append(rows)
        over = wanted
        made.items.append(BookChange(item.ms, changes[0], changes[1], item.is_snapshot))
    return made


Maker = Callable[[Market, Random, int], Scenario | None]


def _standing(levels: Levels, begin_ms: int, end_ms: int) -> Callable[[int, int, int], Levels]:
    return lambda ms, bid, ask: levels if begin_ms <= ms < end_ms else {}


def _spread_trades(
    random: Random, begin_ms: int, end_ms: int, side: int, lots: int, number: int, tick: int | None = None
) -> list[tuple[int, int, int | None, int]]:
    times = sorted(random.randint(begin_ms, max(begin_ms, end_ms)) for _ in range(number))
    return [(ms, side, tick, max(1, lots // number)) for ms in times]


def _lifetime(side: int, tick: int, born: int, ended: int, end: int) -> Label:
    return Label(DetectionKind.LEVEL_LIFETIME, SIDE_NAMES[side], ended, ended + 3_500, tick, tick, end)


def _behind(side: int, best: int, distance: int) -> int:
    return best - distance if side == BID else best + distance


def _distance(market: Market, random: Random) -> int:
    return random.randint(2, max(3, market.near_span // 2))


def spoof(market: Market, random: Random, at_ms: int) -> Scenario | None:
    """Large, behind the best, withdrawn within seconds, while its owner sells into the demand it suggests."""
    side, life = random.choice((BID, ASK)), int(300 * 30 ** random.random())
    tick = _behind(side, market.best(side, at_ms), _distance(market, random))
    if not market.untouched(side, tick, at_ms - 200, at_ms + life + 300):
        return None
    lots = int(market.wall * random.uniform(1.0, 6.0))
    genuine = int(lots * random.uniform(0.05, 0.5))
    trades = _spread_trades(random, at_ms + 100, at_ms + life + 200, 1 - side, genuine, random.randint(1, 6))
    labels = [Label(DetectionKind.SPOOFING, SIDE_NAMES[side], at_ms, at_ms + life + 3_500, tick, tick)]
    if life >= 1_200:
        labels.append(_lifetime(side, tick, at_ms, at_ms + life, 0))
    orders = _standing({(side, tick): lots}, at_ms, at_ms + life)
    return Scenario(
        "spoof", at_ms, at_ms + life + 1_500, tuple(labels), orders, trades,
        also=TRADES_TOO + RESTS_TOO,
    )  # fmt: skip


def layering(market: Market, random: Random, at_ms: int) -> Scenario | None:
    """A ladder of several orders, placed and withdrawn nearly together."""
    side, life = random.choice((BID, ASK)), int(800 * 10 ** random.random())
    number, gap = random.randint(3, 6), random.randint(1, 4)
    first = _behind(side, market.best(side, at_ms), random.randint(2, max(3, market.near_span // 4)))
    ticks = [_behind(side, first, gap * index) for index in range(number)]
    if not market.untouched(side, first, at_ms - 200, at_ms + life + 800):
        return None
    sizes = [int(market.wall * random.uniform(0.45, 1.2)) for _ in ticks]
    placed = [at_ms + random.randint(0, 1_500) * (life > 2_000) for _ in ticks]
    pulled = [at_ms + life + random.randint(0, 400) for _ in ticks]

    def orders(ms: int, bid: int, ask: int) -> Levels:
        rows = zip(ticks, sizes, placed, pulled, strict=True)
        return {(side, tick): lots for tick, lots, begin, end in rows if begin <= ms < end}

    genuine = int(sum(sizes) * random.uniform(0.05, 0.4))
    trades = _spread_trades(random, at_ms + 100, at_ms + life + 300, 1 - side, genuine, random.randint(1, 6))
    labels = [Label(DetectionKind.LAYERING, SIDE_NAMES[side], at_ms, at_ms + life + 4_000, min(ticks), max(ticks))]
    return Scenario(
        "layering", at_ms, at_ms + life + 2_000, tuple(labels), orders, trades,
        # A ladder of which only one level is large enough to be told is told as a spoof.
        also=(DetectionKind.SPOOFING, *TRADES_TOO, *RESTS_TOO),
    )  # fmt: skip


def honest_cancel(market: Market, random: Random, at_ms: int) -> Scenario | None:
    """A large order that its owner withdraws; nobody gains from it."""
    side, life = random.choice((BID, ASK)), int(1_300 * 20 ** random.random())
    tick = _behind(side, market.best(side, at_ms), _distance(market, random))
    if not market.untouched(side, tick, at_ms - 200, at_ms + life + 300):
        return None
    lots = int(market.wall * random.uniform(1.2, 6.0))
    orders = _standing({(side, tick): lots}, at_ms, at_ms + life)
    labels = (_lifetime(side, tick, at_ms, at_ms + life, 0),)
    also = RESTS_TOO
    return Scenario("honest cancel", at_ms, at_ms + life + 1_500, labels, orders, also=also)


def honest_fill(market: Market, random: Random, at_ms: int) -> Scenario | None:
    """A large order at the best that takers fill, showing less and less."""
    side, life = random.choice((BID, ASK)), random.randint(1_500, 6_000)
    if not market.stands_still(side, at_ms - 200, at_ms + life + 500):
        return None
    tick, lots = market.best(side, at_ms), int(market.wall * random.uniform(1.2, 4.0))
    trades = _spread_trades(random, at_ms + 300, at_ms + life - 100, side, lots, random.randint(4, 20), tick)

    def orders(ms: int, bid: int, ask: int) -> Levels:
        left = lots - sum(each[3] for each in trades if each[0] <= ms)
        return {(side, tick): left} if at_ms <= ms < at_ms + life and left > 0 else {}

    # The trades may round to a little less than the order; the last of it goes with them.
    ended = trades[-1][0]
    labels = (_lifetime(side, tick, at_ms, ended - 3_000, 1),)
    also = (DetectionKind.HOT_SPOT, DetectionKind.TOXICITY, *RESTS_TOO)
    return Scenario("honest fill", at_ms, at_ms + life + 1_500, labels, orders, trades, also=also)


def re_peg(market: Market, random: Random, at_ms: int) -> Scenario | None:
    """A large order that follows the price, a step now and then, while both sides trade."""
    side, steps, every = random.choice((BID, ASK)), random.randint(2, 5), random.randint(700, 2_500)
    start = _behind(side, market.best(side, at_ms), _distance(market, random))
    lots = int(market.wall * random.uniform(1.2, 4.0))
    ticks = [_behind(side, start, -random.randint(1, 2) * index) for index in range(steps)]
    moved_ms, end_ms = at_ms + steps * every, at_ms + steps * every + 16_000
    if not all(market.untouched(side, tick, at_ms - 200, end_ms + 200) for tick in ticks):
        return None

    def orders(ms: int, bid: int, ask: int) -> Levels:
        return {(side, ticks[min((ms - at_ms) // every, steps - 1)]): lots}

    # At the end it stands long enough to be an order that is wanted.
    trades = _spread_trades(random, at_ms, moved_ms, 1 - side, int(0.1 * lots), 5)
    also = TRADES_TOO + RESTS_TOO
    return Scenario("re-peg", at_ms, end_ms + 1_500, (), orders, trades, also=also)


def quote_fading(market: Market, random: Random, at_ms: int) -> Scenario | None:
    """Makers' levels that vanish together when takers come at them: they flee, they do not lure."""
    side, life, number = random.choice((BID, ASK)), random.randint(2_000, 9_000), random.randint(3, 6)
    first = _behind(side, market.best(side, at_ms), random.randint(2, max(3, market.near_span // 4)))
    ticks = [_behind(side, first, index) for index in range(number)]
    if not market.untouched(side, first, at_ms - 200, at_ms + life + 600):
        return None
    sizes = [int(market.wall * random.uniform(0.45, 1.5)) for _ in ticks]
    placed = [at_ms + random.randint(0, life // 2) for _ in ticks]
    pulled = [at_ms + life + random.randint(0, 400) for _ in ticks]

    def orders(ms: int, bid: int, ask: int) -> Levels:
        rows = zip(ticks, sizes, placed, pulled, strict=True)
        return {(side, tick): lots for tick, lots, begin, end in rows if begin <= ms < end}

    burst = int(market.wall * random.uniform(0.1, 0.6))
    trades = _spread_trades(random, at_ms + life - 500, at_ms + life + 300, side, burst, 5)
    also = TRADES_TOO + RESTS_TOO
    return Scenario("quote fading", at_ms, at_ms + life + 2_000, (), orders, trades, also=also)


def absorption(market: Market, random: Random, at_ms: int) -> Scenario | None:
    """An iceberg at the best: takers hit it for several times what it shows, and it stays."""
    side, life = random.choice((BID, ASK)), random.randint(3_000, 12_000)
    if not market.stands_still(side, at_ms - 300, at_ms + life):
        return None
    tick = market.best(side, at_ms)
    shown = int(market.wall * random.uniform(0.1, 1.0))
    levels = _shown(market, side, tick, at_ms, at_ms + life)
    traded = int(max(levels + shown, market.usual) * random.uniform(3.5, 10.0))
    number = random.randint(8, 40)
    trades = _spread_trades(random, at_ms + 200, at_ms + life - 1_600, side, traded, number, tick)
    label = Label(DetectionKind.ABSORPTION, SIDE_NAMES[side], at_ms, at_ms + life + 1_000, tick, tick)
    orders = _standing({(side, tick): shown}, at_ms, at_ms + life)
    also = (DetectionKind.HOT_SPOT, DetectionKind.TOXICITY, *RESTS_TOO)
    return Scenario("absorption", at_ms, at_ms + life, (label,), orders, trades, also=also)


def _shown(market: Market, side: int, tick: int, begin_ms: int, end_ms: int) -> int:
    """The most that the market itself shows at a level in a time."""
    most = now = 0
    for item in market.stream.items:
        if isinstance(item, MarketTrade):
            continue
        if item.ms > end_ms:
            break
        if item.is_snapshot:
            now = 0
        for each, lots in item.bids if side == BID else item.asks:
            now = lots if each == tick else now
        most = max(most, now) if item.ms >= begin_ms - 200 else now
    return most


def cluster(market: Market, random: Random, at_ms: int) -> Scenario | None:
    """Many orders in a narrow range behind the best, for a while."""
    side, life = random.choice((BID, ASK)), random.randint(6_000, 30_000)
    width = market.zone
    distance = random.randint(2 * width + 1, 14 * width + 2)
    first = _behind(side, market.best(side, at_ms), distance)
    if not market.untouched(side, _behind(side, first, -2 * width), at_ms, at_ms + life + 3_000):
        return None
    total = int(market.dense * random.uniform(1.2, 4.0))
    ticks = sorted({_behind(side, first, random.randint(0, width - 1)) for _ in range(random.randint(3, 8))})
    levels = {(side, tick): max(1, total // len(ticks)) for tick in ticks}
    name = SIDE_NAMES[side]
    labels = (
        Label(DetectionKind.VOLUME_CLUSTER, name, at_ms, at_ms + life, min(ticks), max(ticks)),
        Label(DetectionKind.CLUSTER_GONE, name, at_ms + life - 1_000, at_ms + life + 5_000, min(ticks), max(ticks)),
    )
    also = (DetectionKind.IMBALANCE,)
    orders = _standing(levels, at_ms, at_ms + life)
    return Scenario("cluster", at_ms, at_ms + life + 4_000, labels, orders, also=also)


def flicker(market: Market, random: Random, at_ms: int) -> Scenario | None:
    """A dense range for a moment only."""
    side, life = random.choice((BID, ASK)), random.randint(200, 1_800)
    width = market.zone
    first = _behind(side, market.best(side, at_ms), random.randint(2 * width + 1, 14 * width + 2))
    total = int(market.dense * random.uniform(1.2, 4.0))
    levels = {(side, _behind(side, first, index % width)): max(1, total // 4) for index in range(4)}
    orders = _standing(levels, at_ms, at_ms + life)
    return Scenario("flicker", at_ms, at_ms + life + 1_500, (), orders, also=(DetectionKind.IMBALANCE,))


def hot_spot(market: Market, random: Random, at_ms: int) -> Scenario | None:
    """A burst of trades of both sides at one price."""
    life = random.randint(2_000, 8_000)
    if not (market.stands_still(BID, at_ms, at_ms + life) and market.stands_still(ASK, at_ms, at_ms + life)):
        return None
    lots = int(60 * market.traded_a_second * random.uniform(3.0, 10.0)) + market.usual
    trades: list[tuple[int, int, int | None, int]] = []
    for side in (BID, ASK):
        trades += _spread_trades(random, at_ms, at_ms + life, side, lots // 2, random.randint(5, 15))
    low, high = market.best(BID, at_ms), market.best(ASK, at_ms)
    label = Label(DetectionKind.HOT_SPOT, None, at_ms, at_ms + life + 1_000, low, high)
    also = (DetectionKind.ABSORPTION, DetectionKind.TOXICITY)
    return Scenario("hot spot", at_ms, at_ms + life, (label,), None, trades, also=also)


def imbalance(market: Market, random: Random, at_ms: int) -> Scenario | None:
    """One side's best ten levels become several times as heavy as the other's."""
    side, life, factor = random.choice((BID, ASK)), random.randint(2_500, 10_000), random.uniform(3.0, 12.0)
    each = int(factor * max(market.mean, market.wall // 10))

    def orders(ms: int, bid: int, ask: int) -> Levels:
        best = bid if side == BID else ask
        return {(side, _behind(side, best, index)): each for index in range(10)}

    label = Label(DetectionKind.IMBALANCE, SIDE_NAMES[side], at_ms, at_ms + life + 500)
    also = tuple(set(DetectionKind) - {DetectionKind.IMBALANCE, DetectionKind.EXPLOSION, DetectionKind.TOXICITY})
    return Scenario("imbalance", at_ms, at_ms + life, (label,), orders, also=also)


def toxic_flow(market: Market, random: Random, at_ms: int) -> Scenario | None:
    """For a minute or two nearly all takers are on one side, and there are many."""
    side, life, purity = random.choice((BID, ASK)), random.randint(60_000, 150_000), random.uniform(0.9, 0.98)
    lots = max(int(market.traded_a_second * random.uniform(3.0, 6.0)), 20)
    trades: list[tuple[int, int, int | None, int]] = []
    for second in range(life // 1_000):
        begin = at_ms + 1_000 * second
        trades += _spread_trades(random, begin, begin + 999, side, int(lots * purity), 3)
        trades += _spread_trades(random, begin, begin + 999, 1 - side, int(lots * (1 - purity)), 1)
    name = "ask" if side == BID else "bid"
    label = Label(DetectionKind.TOXICITY, name, at_ms, at_ms + life + 5_000)
    also = (DetectionKind.ABSORPTION, DetectionKind.HOT_SPOT)
    return Scenario("toxic flow", at_ms, at_ms + life, (label,), None, trades, also=also)


def busy_flow(market: Market, random: Random, at_ms: int) -> Scenario | None:
    """As many takers, on both sides."""
    life = random.randint(60_000, 120_000)
    lots = max(int(market.traded_a_second * random.uniform(3.0, 6.0)), 20)
    trades: list[tuple[int, int, int | None, int]] = []
    for second in range(life // 1_000):
        for side in (BID, ASK):
            begin = at_ms + 1_000 * second
            trades += _spread_trades(random, begin, begin + 999, side, lots // 2, 3)
    also = (DetectionKind.ABSORPTION, DetectionKind.HOT_SPOT)
    return Scenario("busy flow", at_ms, at_ms + life, (), None, trades, also=also)


def _ramp(market: Market, random: Random, at_ms: int, move: float, volume: float) -> Scenario:
    up, life = random.random() < 0.5, random.randint(4_000, 45_000)
    start = (market.best(BID, at_ms) + market.best(ASK, at_ms)) // 2
    goal = start * (1 + move if up else 1 / (1 + move))

    def shift(ms: int, own_mid: int) -> int:
        share = min(1.0, (ms - at_ms) / life)
        return round(start + (goal - start) * share) - start

    lots = int(market.traded_a_second * volume * life / 1_000) + 1
    side = ASK if up else BID
    trades = _spread_trades(random, at_ms, at_ms + life, side, lots, max(10, life // 500))
    # Everything else is unsettled by such a move, and nobody can say what is right.
    also = tuple(set(DetectionKind) - {DetectionKind.EXPLOSION})
    return Scenario("", at_ms, at_ms + life + 2_000, (), None, trades, shift, also)


def explosion(market: Market, random: Random, at_ms: int) -> Scenario | None:
    """The price runs away on several times the volume."""
    move, volume = random.uniform(0.033, 0.10), random.uniform(3.5, 10.0)
    made = _ramp(market, random, at_ms, move, volume)
    made.name = "explosion"
    # Bought if the takers hit asks.
    side = "bid" if made.trades[0][1] == ASK else "ask"
    made.labels = (Label(DetectionKind.EXPLOSION, side, at_ms, made.end_ms + 60_000),)
    return made


def thin_drift(market: Market, random: Random, at_ms: int) -> Scenario | None:
    """As far a move on the usual volume, or a smaller one on a large volume."""
    far = random.random() < 0.5
    move = random.uniform(0.033, 0.06) if far else random.uniform(0.010, 0.027)
    made = _ramp(market, random, at_ms, move, 0.3 if far else random.uniform(3.5, 10.0))
    made.name = "thin drift"
    return made


def support(market: Market, random: Random, at_ms: int) -> Scenario | None:
    """The price turns two to four times at a wall, with trades at it."""
    side, turns = random.choice((BID, ASK)), random.randint(2, 4)
    quotes = [sum(pair) / 2 for pair in zip(*market.quotes(at_ms - 60_000, at_ms), strict=True)]
    every = max(1, len(quotes) // 60)
    changes = [b - a for a, b in zip(quotes[::every], quotes[every::every], strict=False)] or [1.0]
    deviation = max((sum(change**2 for change in changes) / len(changes)) ** 0.5, 0.5)
    amplitude = max(8, int(deviation * random.uniform(14.0, 30.0)))
    leg = random.randint(5_000, 12_000)
    start = (market.best(BID, at_ms) + market.best(ASK, at_ms)) // 2
    place = start - amplitude if side == BID else start + amplitude
    sign = 1 if side == BID else -1
    tops = [sign * amplitude * random.uniform(0.75, 1.1) for _ in range(turns)]
    legs = 2 * turns

    def path(ms: int) -> int:
        index, share = divmod(ms - at_ms, leg)
        share /= leg
        if index >= legs:
            return round(place + tops[-1])
        if index % 2 == 0:
            begin = start if index == 0 else place + tops[index // 2 - 1]
            return round(begin + (place - begin) * share)
        return round(place + tops[index // 2] * share)

    def shift(ms: int, own_mid: int) -> int:
        return path(ms) - start

    lots = int(market.density * amplitude * random.uniform(0.5, 2.0)) + market.wall
    wall = {(side, _behind(side, place, 2 + index)): lots // 3 for index in range(3)}
    trades: list[tuple[int, int, int | None, int]] = []
    for turn in range(turns):
        touch = at_ms + (2 * turn + 1) * leg
        trades += _spread_trades(random, touch - 600, touch + 600, side, int(5 * market.traded_a_second) + 5, 5)
    kind = DetectionKind.SUPPORT if side == BID else DetectionKind.RESISTANCE
    end = at_ms + legs * leg
    half = max(4, amplitude // 4)
    label = Label(kind, SIDE_NAMES[side], at_ms + leg, end + 5_000, place - half, place + half)
    also = tuple(set(DetectionKind) - {DetectionKind.EXPLOSION, DetectionKind.TOXICITY})
    return Scenario("support", at_ms, end + 1_000, (label,), _standing(wall, at_ms, end), trades, shift, also)


def one_turn(market: Market, random: Random, at_ms: int) -> Scenario | None:
    """The price falls to a place once and comes back: no support yet."""
    leg, sign = random.randint(5_000, 12_000), random.choice((1, -1))
    amplitude = max(20, market.span // 6)

    def shift(ms: int, own_mid: int) -> int:
        share = (ms - at_ms) / leg
        return round(sign * amplitude * max(0.0, min(share, 2.0 - share)))

    also = tuple(
        set(DetectionKind)
        - {DetectionKind.EXPLOSION, DetectionKind.TOXICITY, DetectionKind.SUPPORT, DetectionKind.RESISTANCE}
    )
    return Scenario("one turn", at_ms, at_ms + 2 * leg + 500, (), None, [], shift, also)


LEVEL_SCENARIOS: tuple[Maker, ...] = (
    spoof,
    layering,
    honest_cancel,
    honest_fill,
    re_peg,
    quote_fading,
    absorption,
    flicker,
)
SLOW_SCENARIOS: tuple[Maker, ...] = (cluster, hot_spot, imbalance)
FLOW_SCENARIOS: tuple[Maker, ...] = (toxic_flow, busy_flow)
PATH_SCENARIOS: tuple[Maker, ...] = (support, one_turn)
EXPLOSIVE_SCENARIOS: tuple[Maker, ...] = (explosion, thin_drift)


def plan(
    market: Market, random: Random, makers: tuple[Maker, ...], gap_ms: tuple[int, int], first_ms: int = WARM_UP_MS
) -> list[Scenario]:
    """One scenario after the other, of random kinds, with pauses, wherever the market lets one stand."""
    scenarios: list[Scenario] = []
    now, end = market.times[0] + first_ms, market.times[-1]
    while now < end:
        maker, found = random.choice(makers), None
        for attempt in range(12):
            found = maker(market, random, now + 300 * attempt)
            if found is not None:
                break
        if found is None:
            now += 1_000
            continue
        if found.end_ms > end:
            break
        scenarios.append(found)
        now = found.end_ms + random.randint(*gap_ms)
    return scenarios
