"""Minutes as a chart draws them: from Valkey's newest two hours, from an answer that was kept, or from PostgreSQL."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import orjson
import redis
from django.conf import settings
from redis.client import Pipeline
from rest_framework.request import Request

from marketdata.api.depth.answers import side_of
from marketdata.api.depth.parameters import choice_of, depth_of, known, market_of, span_of, symbol_text
from marketdata.depth import selectors
from marketdata.depth.hot import KEPT_SECONDS, point
from marketdata.depth.selectors import Point
from marketdata.depth.snapshots import MINUTE, Market
from marketdata.selectors import valkey

SIDES = ("bid", "ask", "both")
LONGEST = timedelta(days=7)
# Of what is older than Valkey's two hours. The newest minutes of such a chart may still be on their way.
ANSWER_SECONDS, NEW_ANSWER_SECONDS = 30, 5
NEW_SECONDS = 3 * MINUTE


@dataclass(frozen=True, slots=True)
class ChartQuestion:
    """``first`` and ``last`` are seconds since 1970, both included."""

    symbol: str
    market: Market
    depth: int
    side: str
    first: int
    last: int
    now: float

    @classmethod
    def of(cls, request: Request) -> Self:
        """Raises ValidationError for what cannot be asked."""
        symbol, depth, market = symbol_text(request), depth_of(request), market_of(request) or Market.SPOT
        side = choice_of(request, "type", SIDES, "both")
        start, end = span_of(request, LONGEST)
        return cls(symbol, market, depth, side, int(start.timestamp()), int(end.timestamp()), time.time())

    def ask(self, pipeline: Pipeline) -> None:
        """Put what Valkey may know into a round trip that is made anyway."""
        if self._is_recent:
            selectors.hot().ask_minutes(pipeline, self.symbol, self.market, self.depth, self.first, self.last)
        else:
            pipeline.get(self._name)

    def body(self, told: Any | None) -> bytes:
        """The answer, as JSON; ``told`` is Valkey's answer to :meth:`ask`, None where it is away.

        Raises:
            Http404: there is nothing of the symbol at all.
        """
        if self._is_recent:
            members = None if told is None else selectors.hot().complete(told, self.first, self.last, self.now)
            if members is not None:
                return self._drawn(map(point, members))
            rows = selectors.minutes_again(self.symbol, self.market, self.depth, *self._moments)
            return self._drawn((minute, float(row.bid_volume), float(row.ask_volume)) for minute, row in rows)
        selectors.hot().count(was_hit=told is not None)
        return told or self._kept(
            self._drawn(selectors.stored_points(self.symbol, self.market, self.depth, *self._moments))
        )

    def _drawn(self, points: Iterable[Point]) -> bytes:
        drawn = [{"time": minute, "value": side_of(bid, ask, self.side)} for minute, bid, ask in points]
        if not drawn:
            known(self.symbol)
        return orjson.dumps(drawn)

    def _kept(self, body: bytes) -> bytes:
        seconds = NEW_ANSWER_SECONDS if self.last > self.now - NEW_SECONDS else ANSWER_SECONDS
        try:
            valkey().set(self._name, body, ex=seconds)
        except redis.RedisError:
            return body
        return body

    @property
    def _is_recent(self) -> bool:
        return self.first >= self.now - KEPT_SECONDS

    @property
    def _moments(self) -> tuple[datetime, datetime]:
        return datetime.fromtimestamp(self.first, tz=UTC), datetime.fromtimestamp(self.last, tz=UTC)

    @property
    def _name(self) -> str:
        """Spans with the same minutes in them have the same answer."""
        minutes = f"{-(-self.first // MINUTE)}:{self.last // MINUTE}"
        return f"{settings.REDIS_PREFIX}:depth:chart:{self.symbol}:{self.market}:{self.depth}:{self.side}:{minutes}"
