"""The newest of depth analytics in Valkey: two hours of minutes, and every book as it is now.

Valkey is a help, never the truth: each question may be asked of PostgreSQL (minutes) or answered by "not now" (books).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import orjson
import redis

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
        found: list[tuple[int, DepthVolume]] | None = None
        if start >= now - KEPT_SECONDS:
            members: Any = self._redis.zrangebyscore(self._key(symbol, market, depth), start, end)
            found = _complete([_volume(member, depth) for member in members], start, min(end, int(now) - UNDER_WAY))
        self._redis.hincrby(self._reads, "misses" if found is None else "hits", 1)
        return found

    def reads(self) -> dict[str, int]:
        """``hits`` and ``misses`` so far."""
        counted: Any = self._redis.hgetall(self._reads)
        return {name: int(counted.get(name.encode(), 0)) for name in ("hits", "misses")}

    def latest_put(self, books: Mapping[tuple[Market, str], Mapping[str, Any]]) -> None:
        """Keep each book as it is now, plain JSON, until a newer one comes."""
        by_market: dict[Market, list[str | bytes]] = {}
        for (market, symbol), book in books.items():
            by_market.setdefault(market, []).extend((symbol, orjson.dumps(book)))
        if by_market:
            pipeline = self._redis.pipeline(transaction=False)
            for market, items in by_market.items():
                pipeline.hset(self._latest(market), items=items)
                pipeline.expire(self._latest(market), LATEST_SECONDS)
            pipeline.execute()

    def latest(self, market: Market, symbol: str) -> dict[str, Any] | None:
        body: Any = self._redis.hget(self._latest(market), symbol)
        return None if body is None else orjson.loads(body)

    def latest_bodies(self, books: Sequence[tuple[Market, str]]) -> list[bytes | None]:
        """Each of these books as it is now, as JSON, in one question; None where there is none."""
        by_market: dict[Market, list[str]] = {}
        for market, symbol in books:
            by_market.setdefault(market, []).append(symbol)
        pipeline = self._redis.pipeline(transaction=False)
        for market, symbols in by_market.items():
            pipeline.hmget(self._latest(market), symbols)
        found = {
            (market, symbol): body
            for (market, symbols), bodies in zip(by_market.items(), pipeline.execute(), strict=True)
            for symbol, body in zip(symbols, bodies, strict=True)
        }
        return [found[book] for book in books]

    def all_latest(self, market: Market) -> dict[str, dict[str, Any]]:
        """Every book of a market, by symbol."""
        rows: Any = self._redis.hgetall(self._latest(market))
        return {name.decode(): orjson.loads(body) for name, body in rows.items()}

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


def _complete(
    rows: Sequence[tuple[int, DepthVolume]], start: int, last_sure: int
) -> list[tuple[int, DepthVolume]] | None:
    """Each minute once; None where one is missing that must be there."""
    by_minute: dict[int, DepthVolume] = {}
    for minute, volume in rows:
        by_minute.setdefault(minute, volume)
    first = -(-start // MINUTE) * MINUTE
    if any(minute not in by_minute for minute in range(first, last_sure + 1, MINUTE)):
        return None
    return list(by_minute.items())
