"""The same book by the plainest means: two dicts, Decimal, json, and the venues' rules as their pages state them."""

from __future__ import annotations

import json
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, localcontext
from typing import Any

from marketdata.engine.book import BandVolume, SymbolBook

PERCENT = ("1.5", "3", "5", "8", "15", "30")
Levels = dict[Decimal, Decimal]


class DictBook:
    """``rule`` is bybit, spot or futures. ``state`` and the outcomes are in the engine's words."""

    def __init__(self, rule: str = "bybit", depth_limit: int = 0, snapshot_limit: int = 1_000) -> None:
        self.rule, self.depth_limit, self.snapshot_limit = rule, depth_limit, snapshot_limit
        self.bids: Levels = {}
        self.asks: Levels = {}
        self.state, self.update_id, self.bridging = "SYNCING", 0, False
        self.reach: tuple[Decimal, Decimal] = (Decimal(0), Decimal(0))

    def apply(self, frame: bytes) -> str:
        message = json.loads(frame)
        if self.rule == "bybit":
            return self._bybit(message)
        if "lastUpdateId" in message:
            self._load(message["bids"], message["asks"], message["lastUpdateId"])
            self.bridging, self.state = True, "SYNCING"
            self.reach = self._edge(self.bids, min, Decimal(0)), self._edge(self.asks, max, Decimal("Infinity"))
            self._check()
            return "SNAPSHOT"
        return self._binance(message.get("data", message))

    def _bybit(self, message: dict[str, Any]) -> str:
        data = message["data"]
        if message["type"] == "snapshot" or data["u"] == 1:
            self._load(data["b"], data["a"], data["u"])
            self.state = "LIVE"
            self._check()
            return "SNAPSHOT"
        if self.state in ("SYNCING", "BROKEN") or data["u"] <= self.update_id:
            return "IGNORED"
        if data["u"] != self.update_id + 1:
            self.state = "SYNCING"
            return "GAP"
        return self._update(data["b"], data["a"], data["u"])

    def _binance(self, event: dict[str, Any]) -> str:
        if self.state == "BROKEN" or (self.state == "SYNCING" and not self.bridging):
            return "IGNORED"
        local, first, last = self.update_id, event["U"], event["u"]
        if self.rule == "spot":
            old, follows = last <= local, first <= local + 1
        elif self.bridging:
            old, follows = last < local, first <= local or event["pu"] == local
        else:
            old, follows = last <= local, event["pu"] == local
        if old:
            return "IGNORED"
        if not follows:
            self.state, self.bridging = "SYNCING", False
            return "GAP"
        self.bridging = False
        return self._update(event["b"], event["a"], last)

    def _load(self, bids: list[list[str]], asks: list[list[str]], update_id: int) -> None:
        self.bids, self.asks = {}, {}
        self._set(bids, asks)
        self.update_id = update_id

    def _update(self, bids: list[list[str]], asks: list[list[str]], update_id: int) -> str:
        self._set(bids, asks)
        self.update_id, self.state = update_id, "LIVE"
        self._check()
        return "DELTA"

    def _set(self, bids: list[list[str]], asks: list[list[str]]) -> None:
        for side, rows in ((self.bids, bids), (self.asks, asks)):
            for price, quantity in rows:
                if Decimal(quantity):
                    side[Decimal(price)] = Decimal(quantity)
                else:
                    side.pop(Decimal(price), None)

    def _check(self) -> None:
        if not self.bids or not self.asks or max(self.bids) >= min(self.asks):
            self.state = "BROKEN"

    def _edge(self, side: Levels, furthest: Any, endless: Decimal) -> Decimal:
        return endless if len(side) < self.snapshot_limit else furthest(side)

    # What is compared.

    def levels(self) -> tuple[list[tuple[Decimal, Decimal]], list[tuple[Decimal, Decimal]]]:
        return sorted(self.bids.items(), reverse=True), sorted(self.asks.items())

    def bands(self, tick: Decimal) -> list[tuple[float, str, Decimal, Decimal, bool]]:
        """Quantity, notional and coverage of each band, from all levels anew. Sides without a level have none.

        Between a limit and the next multiple of ``tick`` no level can be.
        """
        rows = []
        with localcontext(prec=60):
            for name, side in (("bid", self.bids), ("ask", self.asks)):
                if not side:
                    continue
                best = max(side) if name == "bid" else min(side)
                for percent in PERCENT:
                    move = best * Decimal(percent) / 100
                    limit = best - move if name == "bid" else best + move
                    inside = {p: q for p, q in side.items() if (p >= limit if name == "bid" else p <= limit)}
                    notional = sum((p * q for p, q in inside.items()), Decimal(0))
                    rounding = ROUND_CEILING if name == "bid" else ROUND_FLOOR
                    nearest = (limit / tick).to_integral_value(rounding) * tick
                    covered = self._covers(name, side, nearest)
                    rows.append((float(percent), name, sum(inside.values(), Decimal(0)), notional, covered))
        return rows

    def _covers(self, name: str, side: Levels, limit: Decimal) -> bool:
        if self.depth_limit == 0:
            return self.reach[0] <= limit if name == "bid" else self.reach[1] >= limit
        if len(side) < self.depth_limit:
            return True
        return min(side) <= limit if name == "bid" else max(side) >= limit


def engine_levels(book: SymbolBook) -> tuple[list[tuple[Decimal, Decimal]], list[tuple[Decimal, Decimal]]]:
    tick, lot = book.tick_size, book.lot_size
    bids, asks = book.bids(), book.asks()
    return [(tick * t, lot * q) for t, q in bids], [(tick * t, lot * q) for t, q in asks]


def engine_bands(book: SymbolBook) -> list[tuple[float, str, Decimal, Decimal, bool]]:
    counts = dict(zip(("bid", "ask"), book.level_counts(), strict=True))
    with localcontext(prec=60):
        return [_band(volume) for volume in book.bands() if counts[volume.side]]


def _band(volume: BandVolume) -> tuple[float, str, Decimal, Decimal, bool]:
    return volume.percent, volume.side, volume.quantity, volume.notional, volume.covered
