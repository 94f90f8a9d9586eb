"""How much may be asked of a venue now, counted for all processes that use the same key and address.

A token comes back one window after the *answer* to its call, not after the call left: the venue counted the call at
some moment before it answered, so its own rolling window has forgotten it by then, however slow the way there was.
That is why nothing here needs a safety factor. A call that never tells its end holds its token for ``HOLD_MS``.
"""

from __future__ import annotations

import hashlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

log = logging.getLogger(__name__)

Priority = Literal["normal", "cancel", "kill"]

MOST_WAIT_SECONDS = 5.0
# Longer than any call takes to end: its timeout and a window.
HOLD_MS = 12_000
MARGIN_MS = 5
# Of each bucket, who may use how much: the rest is kept for cancels, and for the kill switch.
SHARES: Mapping[Priority, float] = {"normal": 0.8, "cancel": 0.9, "kill": 1.0}
# A bucket that only cancels use keeps its reserve for those of the kill switch.
CANCEL_SHARES: Mapping[Priority, float] = {"normal": 0.8, "cancel": 0.8, "kill": 1.0}
# Without Valkey: how long until it is asked again, and how many processes there are if nobody ever said.
LOCAL_SECONDS = 1.0
ASSUMED_PROCESSES = 4
PROCESS_LIFETIME_MS = 60_000
# After an outage the others may not have noticed yet that the shared buckets are back.
SETTLING_MS = int(LOCAL_SECONDS * 1_000) + 1_500
VALKEY_TIMEOUT_SECONDS = 0.5
SHORTEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.005, 0.25


@dataclass(frozen=True, slots=True)
class Bucket:
    """``limit`` calls in any ``window_ms``; the venue's own limit takes its place when its headers say another."""

    name: str
    limit: int
    window_ms: int = 1_000
    shares: Mapping[Priority, float] = field(default_factory=lambda: SHARES)

    def capacity(self, limit: int, priority: Priority, processes: int = 1) -> int:
        """How many tokens may be out for a call of this priority to be let through."""
        return max(1, int(limit * self.shares[priority]) // processes)


@dataclass(frozen=True, slots=True)
class Allowance:
    """What the venue said of a bucket in its answer: calls a window, how many remain of them, and for how many ms
    nothing more is let through (0: it is), ``everywhere``: by none of the call's buckets, not by this one alone."""

    limit: int | None = None
    remaining: int | None = None
    blocked_ms: int = 0
    everywhere: bool = False


NOTHING_SAID = Allowance()


@dataclass(frozen=True, slots=True)
class Permit:
    identifier: str
    buckets: tuple[Bucket, ...]
    shared: bool


class BudgetExhausted(Exception):
    """No token within the time that the call may wait: it was not made."""


class RateBudget(Protocol):
    def take(self, buckets: tuple[Bucket, ...], priority: Priority, wait_seconds: float) -> Permit:
        """Wait for a token of every bucket, at most ``wait_seconds``.

        Raises:
            BudgetExhausted: there was none.
        """

    def settle(self, permit: Permit, said: Allowance = NOTHING_SAID) -> None:
        """The call has ended; ``said`` is what the venue's headers say of the first bucket."""

    def status(self) -> dict[str, Any]: ...


class LocalBudget:
    """Buckets of this process alone: ``processes`` of them share the venue's limits evenly."""

    def __init__(self, processes: int = 1, clock: Callable[[], float] = time.monotonic) -> None:
        self.processes = processes
        self._clock = clock
        self._lock = threading.Lock()
        self._tokens: dict[str, dict[str, float]] = {}
        self._limits: dict[str, int] = {}
        self._blocked_until: dict[str, float] = {}
        self._taken = 0

    def take(self, buckets: tuple[Bucket, ...], priority: Priority, wait_seconds: float) -> Permit:
        return _waiting(lambda: self.try_take(buckets, priority), buckets, min(wait_seconds, MOST_WAIT_SECONDS))

    def try_take(self, buckets: tuple[Bucket, ...], priority: Priority) -> Permit | float:
        """The permit, or in how many seconds there may be one."""
        now = self._clock()
        with self._lock:
            wait = max((self._wait(bucket, priority, now) for bucket in buckets), default=0.0)
            if wait > 0:
                return wait
            self._taken += 1
            permit = Permit(f"local:{self._taken}", buckets, shared=False)
            for bucket in buckets:
                self._tokens.setdefault(bucket.name, {})[permit.identifier] = now + HOLD_MS / 1_000
            return permit

    def settle(self, permit: Permit, said: Allowance = NOTHING_SAID) -> None:
        now = self._clock()
        with self._lock:
            for bucket in permit.buckets:
                self._live(bucket, now)[permit.identifier] = now + (bucket.window_ms + MARGIN_MS) / 1_000
            if permit.buckets:
                name = permit.buckets[0].name
                if said.limit:
                    self._limits[name] = said.limit
                if said.blocked_ms:
                    for bucket in permit.buckets if said.everywhere else permit.buckets[:1]:
                        self._blocked_until[bucket.name] = now + said.blocked_ms / 1_000

    def block(self, seconds: float) -> None:
        """Let nothing through for so long: what others have used just now is not known here."""
        with self._lock:
            self._blocked_until[""] = self._clock() + seconds

    def status(self) -> dict[str, Any]:
        return {"mode": "local", "processes": self.processes}

    def _wait(self, bucket: Bucket, priority: Priority, now: float) -> float:
        tokens = self._live(bucket, now)
        capacity = bucket.capacity(self._limits.get(bucket.name, bucket.limit), priority, self.processes)
        blocked = max(self._blocked_until.get(bucket.name, 0.0), self._blocked_until.get("", 0.0)) - now
        if len(tokens) < capacity:
            return max(0.0, blocked)
        return max(blocked, sorted(tokens.values())[len(tokens) - capacity] - now, 0.001)

    def _live(self, bucket: Bucket, now: float) -> dict[str, float]:
        tokens = self._tokens.setdefault(bucket.name, {})
        for identifier in [each for each, until in tokens.items() if until <= now]:
            del tokens[identifier]
        return tokens


# Expired tokens are kept a while longer: an answer that was long on its way tells of a moment when they still counted.
KEPT_MS = 1_000
# Ways to take: as always; the first time after an outage; record what our own bucket let through.
NORMAL, RETURNING, RECORD = 0, 1, 2

TAKE = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local processes, settling = KEYS[1], KEYS[2]
local process, identifier, way = ARGV[1], ARGV[2], tonumber(ARGV[3])
redis.call('ZADD', processes, now + tonumber(ARGV[4]), process)
redis.call('ZREMRANGEBYSCORE', processes, '-inf', now)
if way == 1 then
    redis.call('SET', settling, '1', 'PX', ARGV[5], 'NX')
end
local unsettled = redis.call('PTTL', settling)
local wait = 0
for i = 3, #KEYS, 2 do
    local tokens, said = KEYS[i], redis.call('HMGET', KEYS[i + 1], 'limit', 'blocked')
    local share = tonumber(ARGV[i + 6])
    local limit = tonumber(said[1] or '') or tonumber(ARGV[i + 5])
    local capacity = math.max(1, math.floor(limit * share + 0.000001))
    redis.call('ZREMRANGEBYSCORE', tokens, '-inf', now - tonumber(ARGV[7]))
    local out = redis.call('ZCOUNT', tokens, '(' .. now, '+inf')
    if out >= capacity then
        local freed = redis.call('ZRANGEBYSCORE', tokens, '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', out - capacity, 1)
        wait = math.max(wait, tonumber(freed[2]) - now, 1)
    end
    wait = math.max(wait, (tonumber(said[2] or '') or 0) - now)
end
if way == 2 or (wait == 0 and unsettled <= 0) then
    for i = 3, #KEYS, 2 do
        redis.call('ZADD', KEYS[i], now + tonumber(ARGV[6]), identifier)
        redis.call('PEXPIRE', KEYS[i], tonumber(ARGV[6]) + 60000)
    end
end
return {wait, redis.call('ZCARD', processes), math.max(unsettled, 0)}
"""

SETTLE = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.ceil(time[2] / 1000)
local identifier = ARGV[1]
for i = 1, #KEYS, 2 do
    redis.call('ZADD', KEYS[i], now + tonumber(ARGV[5 + (i + 1) / 2]), identifier)
end
local limit, remaining, blocked = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local tokens, said, window = KEYS[1], KEYS[2], tonumber(ARGV[6])
if limit >= 0 then
    redis.call('HSET', said, 'limit', limit)
    redis.call('PEXPIRE', said, 3600000)
end
if blocked > 0 then
    for i = 2, ARGV[5] == '1' and #KEYS or 2, 2 do
        redis.call('HSET', KEYS[i], 'blocked', now + blocked)
        redis.call('PEXPIRE', KEYS[i], 3600000)
    end
end
if limit >= 0 and remaining >= 0 then
    local unknown = limit - remaining - redis.call('ZCARD', tokens)
    for i = 1, unknown do
        redis.call('ZADD', tokens, now + window, 'others:' .. identifier .. ':' .. i)
    end
end
return 1
"""


class SharedBudget:
    """Buckets in Valkey, for every process with the same ``prefix``. While Valkey is away this process goes on with
    its share of them, and nothing waits for Valkey longer than its timeout."""

    def __init__(self, url: str, prefix: str, clock: Callable[[], float] = time.monotonic) -> None:
        # One try: a retry of the client's would keep a call waiting for what our own bucket can answer at once.
        self._valkey = redis.Redis.from_url(
            url,
            socket_timeout=VALKEY_TIMEOUT_SECONDS,
            socket_connect_timeout=VALKEY_TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        self._prefix, self._clock = prefix, clock
        self._take = self._valkey.register_script(TAKE)
        self._settle = self._valkey.register_script(SETTLE)
        self._local = LocalBudget(ASSUMED_PROCESSES, clock)
        self._lock = threading.Lock()
        self._away_since: float | None = None
        self._ask_again_at = 0.0
        self._taken = 0
        self._reason = ""
        self._counts = {"taken": 0, "exhausted": 0, "outages": 0}

    def take(self, buckets: tuple[Bucket, ...], priority: Priority, wait_seconds: float) -> Permit:
        try:
            permit = _waiting(lambda: self._try_take(buckets, priority), buckets, min(wait_seconds, MOST_WAIT_SECONDS))
        except BudgetExhausted:
            self._counts["exhausted"] += 1
            raise
        self._counts["taken"] += 1
        return permit

    def settle(self, permit: Permit, said: Allowance = NOTHING_SAID) -> None:
        self._local.settle(permit, said)
        if not permit.shared or not permit.buckets:
            return
        windows = [bucket.window_ms + MARGIN_MS for bucket in permit.buckets]
        limit = -1 if said.limit is None else said.limit
        remaining = -1 if said.remaining is None else said.remaining
        try:
            self._settle(
                keys=self._keys(permit.buckets),
                args=[permit.identifier, limit, remaining, said.blocked_ms, int(said.everywhere), *windows],
            )
        except (redis.RedisError, OSError) as error:
            self._went_away(error)

    def status(self) -> dict[str, Any]:
        with self._lock:
            away = self._away_since
            shown: dict[str, Any] = {"mode": "shared" if away is None else "local"}
            shown["processes"] = self._local.processes
            if away is not None:
                shown |= {"seconds": round(self._clock() - away, 1), "reason": self._reason}
            return {**shown, **self._counts}

    def _try_take(self, buckets: tuple[Bucket, ...], priority: Priority) -> Permit | float:
        with self._lock:
            away = self._away_since is not None
            if away and self._clock() < self._ask_again_at:
                return self._local.try_take(buckets, priority)
            self._taken += 1
            permit = Permit(f"{self._process()}:{self._taken}", buckets, shared=True)
        try:
            wait_ms, processes, unsettled_ms = self._ask(permit, priority, RETURNING if away else NORMAL)
            self._came_back(int(processes))
            if not unsettled_ms:
                return wait_ms / 1_000 if wait_ms else permit
            # Some may not have noticed yet that the shared buckets are back: our share, and told to all.
            taken = self._local.try_take(buckets, priority)
            if isinstance(taken, Permit):
                self._ask(permit, priority, RECORD)
                taken = permit
            return taken
        except (redis.RedisError, OSError) as error:
            self._went_away(error)
            return self._local.try_take(buckets, priority)

    def _ask(self, permit: Permit, priority: Priority, way: int) -> Any:
        limits: list[float] = []
        for bucket in permit.buckets:
            limits += [bucket.limit, bucket.shares[priority]]
        names = [f"{self._prefix}:rate:processes", f"{self._prefix}:rate:settling"]
        settings = [PROCESS_LIFETIME_MS, SETTLING_MS, HOLD_MS, KEPT_MS]
        return self._take(
            keys=[*names, *self._keys(permit.buckets)],
            args=[self._process(), permit.identifier, way, *settings, *limits],
        )

    def _keys(self, buckets: tuple[Bucket, ...]) -> list[str]:
        return [f"{self._prefix}:rate:{part}:{bucket.name}" for bucket in buckets for part in ("tokens", "said")]

    def _process(self) -> str:
        return f"{socket.gethostname()}:{os.getpid()}"

    def _went_away(self, error: Exception) -> None:
        with self._lock:
            now = self._clock()
            self._ask_again_at = now + LOCAL_SECONDS
            # Not its text, which names the server: the reason is on the public health page.
            self._reason = f"Valkey does not answer ({type(error).__name__})"
            if self._away_since is not None:
                return
            self._away_since = now
            self._counts["outages"] += 1
        # What all of us took in the last second is still counted at the venue.
        self._local.block(1.0)
        log.warning("the shared rate budget is away, this process goes on with its share: %s", error)

    def _came_back(self, processes: int) -> None:
        with self._lock:
            self._local.processes = max(1, processes)
            if self._away_since is not None:
                log.warning("the shared rate budget is back after %.1f s", self._clock() - self._away_since)
                self._away_since = None


def _waiting(attempt: Callable[[], Permit | float], buckets: tuple[Bucket, ...], wait_seconds: float) -> Permit:
    deadline = time.monotonic() + wait_seconds
    while True:
        taken = attempt()
        if isinstance(taken, Permit):
            return taken
        left = deadline - time.monotonic()
        if left <= 0:
            names = ", ".join(bucket.name for bucket in buckets)
            raise BudgetExhausted(
                f"the rate budget of {names} has no room for {max(taken, 0.0):.2f} s more; "
                f"waited at most {wait_seconds:.1f} s"
            )
        # Not longer at once: a token may come back sooner, when the answer to a call that hangs arrives.
        time.sleep(min(max(taken, SHORTEST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS, max(left, 0.001)))


def key_name(api_key: str) -> str:
    """A short name of a key that does not tell the key."""
    return hashlib.sha256(api_key.encode()).hexdigest()[:16]
