"""A client that keeps a book exactly by Binance's guides, and refuses everything that they do not allow."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

Side = dict[Decimal, Decimal]


class Gap(Exception):
    """An event that does not follow the one before: the book has to begin anew."""


class StrictBook:
    """``update_id`` is that of the last event or snapshot; prices to quantities in ``bids`` and ``asks``."""

    def __init__(self, product: str) -> None:
        self._product = product
        self._events = 0
        self.update_id = 0
        self.bids: Side = {}
        self.asks: Side = {}

    def begin(self, snapshot: dict[str, Any]) -> None:
        self._events = 0
        self.update_id = snapshot["lastUpdateId"]
        self.bids, self.asks = sides(snapshot)

    def apply(self, event: dict[str, Any]) -> bool:
        """Whether the event counted: what the snapshot knows already does not.

        Raises:
            Gap: the first event does not hold the snapshot's id, or a later one does not follow its predecessor.
        """
        old = event["u"] <= self.update_id if self._product == "spot" else event["u"] < self.update_id
        if not self._events and old:
            return False
        if not self._events:
            follows = event["U"] <= self.update_id <= event["u"]
        elif self._product == "spot":
            follows = event["U"] == self.update_id + 1
        else:
            follows = event["pu"] == self.update_id
        if not follows:
            raise Gap(f"{event['U']} to {event['u']} after {self.update_id}")
        for side, rows in ((self.bids, event["b"]), (self.asks, event["a"])):
            for price, quantity in rows:
                if Decimal(quantity):
                    side[Decimal(price)] = Decimal(quantity)
                else:
                    side.pop(Decimal(price), None)  # one that the snapshot never had may go: that is normal
        self._events += 1
        self.update_id = event["u"]
        return True

    @property
    def best(self) -> tuple[Decimal, Decimal, Decimal, Decimal]:
        """Bid, its quantity, ask, its quantity."""
        bid, ask = max(self.bids), min(self.asks)
        return bid, self.bids[bid], ask, self.asks[ask]


def sides(snapshot: dict[str, Any]) -> tuple[Side, Side]:
    bids, asks = ({Decimal(price): Decimal(size) for price, size in snapshot[side]} for side in ("bids", "asks"))
    return bids, asks


def ticker_best(ticker: dict[str, Any]) -> tuple[Decimal, Decimal, Decimal, Decimal]:
    return Decimal(ticker["b"]), Decimal(ticker["B"]), Decimal(ticker["a"]), Decimal(ticker["A"])
