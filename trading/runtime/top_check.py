"""Whether the best prices of a book are those that its venue tells by REST.

The two are never of the same moment by themselves. The venue's number says where in the stream its answer belongs;
where our book stood at that number, both must agree exactly. Between two of our messages the venue's book passed
through states that no message shows, so there its prices only have to lie within what the messages around it show, and
one difference proves nothing.
"""

from __future__ import annotations

import asyncio
from enum import Enum
from math import isclose

from marketdata.feeds.protocol import VenueBest

# How many messages before and after the venue's answer make the range.
AROUND = 3
MOST_TOPS = 200
# Prices are compared as floats of at most 16 digits.
TOLERANCE = 1e-9

Top = tuple[int, float, float]


class Finding(Enum):
    AGREES = "agrees"
    UNCLEAR = "unclear"
    DIFFERS = "differs"
    CONTRADICTS = "contradicts"


class TopCheck:
    """Note the book's best prices while the question is under way, then judge."""

    def __init__(self) -> None:
        self._tops: list[Top] = []
        self._changed = asyncio.Event()

    def note(self, number: int, bid: float, ask: float) -> None:
        if len(self._tops) < MOST_TOPS:
            self._tops.append((number, bid, ask))
            self._changed.set()

    async def passed(self, number: int) -> None:
        """Until the book is beyond a number, or too much was noted."""
        while not self._tops or (self._tops[-1][0] <= number and len(self._tops) < MOST_TOPS):
            self._changed.clear()
            await self._changed.wait()

    def judge(self, best: VenueBest) -> Finding:
        bid, ask = float(best.bid), float(best.ask)
        for number, our_bid, our_ask in self._tops:
            if number == best.number:
                same = isclose(bid, our_bid, rel_tol=TOLERANCE) and isclose(ask, our_ask, rel_tol=TOLERANCE)
                return Finding.AGREES if same else Finding.CONTRADICTS
        before = [top for top in self._tops if top[0] < best.number][-AROUND:]
        after = [top for top in self._tops if top[0] > best.number][:AROUND]
        if not before or not after:
            return Finding.UNCLEAR
        around = [*before, *after]
        # A spread's width more: the states in between may reach a little further.
        slack = max(our_ask - our_bid for _, our_bid, our_ask in around)
        for price, ours in ((bid, [top[1] for top in around]), (ask, [top[2] for top in around])):
            if not min(ours) - slack <= price <= max(ours) + slack:
                return Finding.DIFFERS
        return Finding.AGREES
