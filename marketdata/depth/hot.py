"""The newest of depth analytics in Valkey: two hours of minutes, and every book as it is now.

Valkey is a help, never the truth: each question may be asked of PostgreSQL (minutes) or answered by "not now" (books).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from itertools import chain
from typing import Any

import orjson
import redis
from redis.client import Pipeline

from marketdata.depth.heat import HeatMinute
from marketdata.depth.snapshots import DEPTH_TEXTS, HOUR, MINUTE, DepthSnapshot, DepthVolume, Market

KEPT_SECONDS = 2 * HOUR
# The newest minutes may still be on their way.
UNDER_WAY = 2 * MINUTE
LATEST_SECONDS = 10 * MINUTE


class HotDepth:
    """``prefix`` keeps deployments apart: ``<prefix>:snapshot:BTCUSDT:SPOT:5:recent`` is one sorted set, by minute.

    Raises:
        redis.RedisError: from every method, while Valkey is away.
    """

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self._redis, self._prefix = client, prefix
        self._heat = f"{prefix}:depth:heat"
        self._reads = f"{prefix}:depth:reads"
        # Reads that are not counted in Valkey yet: they go along with the next question.
        self._uncounted = {"hits": 0, "misses": 0}

    def put(self, snapshots: Iterable[DepthSnapshot], now: float) -> None:
        """Keep those of the last two hours."""
        oldest = now - KEPT_SECONDS
        pipeline = self._redis.pipeline(transaction=False)
        by_key: dict[str, dict[str, float]] = {}
        for each in snapshots:
            if each.minute >= oldest:
                key = self._key(each.symbol, each.market, each.volume.depth)
                by_key.setdefault(key, {})[_member(each.minute, each.volume)] = each.minute
        for key, members in by_key.items():
            pipeline.zadd(key, members)
            pipeline.zremrangebyscore(key, "-inf", f"({oldest}")
            pipeline.expire(key, KEPT_SECONDS)
        pipeline.execute()

    def read(
        self, symbol: str, market: Market, depth: int, start: int, end: int, now: float
    ) -> list[tuple[int, DepthVolume]] | None:
        """The minutes from ``start`` to ``end``, both included; None unless every one of them is there, the newest two
        perhaps. Counts whether it helped."""
        members: Sequence[bytes] | None = None
        if start >= now - KEPT_SECONDS:
            pipeline = self._redis.pipeline(transaction=False)
            self.ask_minutes(pipeline, symbol, market, depth, start, end)
            members = self.complete(pipeline.execute()[0], start, end, now)
        else:
            self.count(was_hit=False)
        return None if members is None else [_volume(member, depth) for member in members]

    def ask_minutes(self, pipeline: Pipeline, symbol: str, market: Market, depth: int, start: int, end: int) -> None:
        """Put the question for minutes into a round trip that is made anyway; :meth:`complete` judges the answer, which
        is the pipeline's next one."""
        pipeline.zrangebyscore(self._key(symbol, market, depth), start, end)
        self._tell_counts(pipeline)

    def complete(self, members: Sequence[bytes], start: int, end: int, now: float) -> Sequence[bytes] | None:
        """Each minute once, in their order, as :func:`point` reads them; None where one is missing that must be there.
        Counts whether it helped."""
        found = None
        if start >= now - KEPT_SECONDS:
            found = _complete(members, start, min(end, int(now) - UNDER_WAY))
        self.count(was_hit=found is not None)
        return found

    def count(self, *, was_hit: bool) -> None:
        """A read that Valkey helped with, or not."""
        self._uncounted["hits" if was_hit else "misses"] += 1

    def reads(self) -> dict[str, int]:
        """``hits`` and ``misses`` so far; those of other processes since their last question are not in it."""
        pipeline = self._redis.pipeline(transaction=False)
        self._tell_counts(pipeline)
        pipeline.hgetall(self._reads)
        counted: Any = pipeline.execute()[-1]
        return {name: int(counted.get(name.encode(), 0)) for name in ("hits", "misses")}

    def _tell_counts(self, pipeline: Pipeline) -> None:
        for name, count in self._uncounted.items():
            if count:
                # Taken off, not set to 0: another thread may count meanwhile.
                self._uncounted[name] -= count
                pipeline.hincrby(self._reads, name, count)

    def latest_put(self, books: Mapping[tuple[Market, str], Mapping[str, Any]]) -> None:
        """Keep each book as it is now, as the JSON that the API answers, until a newer one comes."""
        rows: dict[Market, dict[str, bytes]] = {}
        for (market, symbol), book in books.items():
            rows.setdefault(market, {})[symbol] = orjson.dumps(book)
        if rows:
            pipeline = self._redis.pipeline(transaction=False)
            for market, bodies in rows.items():
                pipeline.hset(self._latest(market), items=list(chain.from_iterable(bodies.items())))
                pipeline.expire(self._latest(market), LATEST_SECONDS)
            pipeline.execute()

    def latest(self, market: Market, symbol: str) -> dict[str, Any] | None:
        body: Any = self._redis.hget(self._latest(market), symbol)
        return None if body is None else orjson.loads(body)

    def ask_latest(self, pipeline: Pipeline, market: Market, symbol: str) -> None:
        """Put the question for a book's JSON into a round trip that is made anyway."""
        pipeline.hget(self._latest(market), symbol)

    def latest_bodies(self, books: Sequence[tuple[Market, str]]) -> list[bytes | None]:
        """Each of these books as it is now, as JSON, in one question; None where there is none."""
        pipeline = self._redis.pipeline(transaction=False)
        for market, symbol in books:
            self.ask_latest(pipeline, market, symbol)
        return pipeline.execute() if books else []

    def all_latest(self, market: Market) -> dict[str, Any]:
        """Every book of a market, by symbol; None for one that is no JSON. What else one is made of is not looked at:
        one that nobody can read must not cost all others."""
        rows: Any = self._redis.hgetall(self._latest(market))
        return {symbol.decode(): _parsed(body) for symbol, body in rows.items()}

    def heat_put(self, minutes: Iterable[HeatMinute]) -> None:
        """Keep the newest rows of books of engines, for the collector."""
        items: list[str | bytes] = []
        for each in minutes:
            items += [each.symbol, b"%d %s" % (each.minute, each.body)]
        if items:
            self._redis.hset(self._heat, items=items)
            self._redis.expire(self._heat, LATEST_SECONDS)

    def heat(self) -> list[HeatMinute]:
        """What engines put."""
        rows: Any = self._redis.hgetall(self._heat)
        split = [(name, *body.split(b" ", 1)) for name, body in rows.items()]
        return [HeatMinute(name.decode(), Market.BYBIT, int(minute), body) for name, minute, body in split]

    def _latest(self, market: Market) -> str:
        return f"{self._prefix}:depth:latest:{market}"

    def _key(self, symbol: str, market: Market, depth: int) -> str:
        return f"{self._prefix}:snapshot:{symbol}:{market}:{DEPTH_TEXTS[depth]}:recent"


def _member(minute: int, volume: DepthVolume) -> str:
    covered = int(volume.bid_covered) + 2 * int(volume.ask_covered)
    return " ".join([str(minute), *(f"{each:f}" for each in volume.volumes), str(covered)])


def _volume(member: bytes, depth: int) -> tuple[int, DepthVolume]:
    minute, bid, ask, bid_usd, ask_usd, covered = member.decode().split(" ")
    volumes = (Decimal(bid), Decimal(ask), Decimal(bid_usd), Decimal(ask_usd))
    return int(minute), DepthVolume(depth, *volumes, bool(int(covered) & 1), int(covered) > 1)


def point(member: bytes) -> tuple[int, float, float]:
    """A minute and its volumes of bids and asks in coins, as charts draw them."""
    minute, bid, ask, _ = member.split(b" ", 3)
    return int(minute), float(bid), float(ask)


def _complete(members: Sequence[bytes], start: int, last_sure: int) -> list[bytes] | None:
    """Each minute once; None where one is missing that must be there."""
    by_minute: dict[int, bytes] = {}
    for member in members:
        by_minute.setdefault(int(member.partition(b" ")[0]), member)
    first = -(-start // MINUTE) * MINUTE
    if any(minute not in by_minute for minute in range(first, last_sure + 1, MINUTE)):
        return None
    return list(by_minute.values())


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
