"""Which rule hits which request and which frame: the same seed and the same sequence give the same hits."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random
from typing import Any

import orjson

from trading.simulator.faults.errors import FaultError
from trading.simulator.faults.kinds import SIDE_EFFECTS
from trading.simulator.faults.rules import ANY, Rule

MOST_RULES = 1_000
_FILLED = b'"orderStatus":"Filled"'


@dataclass(slots=True)
class ActiveRule:
    """A rule with its own generator, so that no other rule changes what it does. ``seen`` counts what it could have
    hit, ``hits`` what it did hit."""

    rule: Rule
    generator: Random
    seen: int = 0
    hits: int = 0

    @property
    def is_spent(self) -> bool:
        return self.rule.count is not None and self.hits >= self.rule.count

    def is_due(self, elapsed_ms: int) -> bool:
        """Draw for one more request or frame."""
        rule = self.rule
        if elapsed_ms < rule.from_ms or (rule.until_ms is not None and elapsed_ms >= rule.until_ms):
            return False
        self.seen += 1
        if rule.probability is not None:
            return self.generator.random() < rule.probability
        return rule.every is None or self.seen % rule.every == 0

    def as_row(self) -> dict[str, Any]:
        return {**self.rule.as_row(), "seen": self.seen, "hits": self.hits, "spent": self.is_spent}


@dataclass(slots=True)
class RequestFaults:
    """What happens to one request: delays and skews add up, of the other kinds the first rule's counts."""

    skew_ms: int = 0
    delay_ms: int = 0
    outcome: Rule | None = None


class Faults:
    """The rules of one venue, which starts now by ``clock`` (seconds). ``on_requests`` and ``on_frames`` say cheaply
    that there is something to ask."""

    def __init__(self, seed: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.seed = seed
        self.on_requests = self.on_frames = False
        self._clock, self._started = clock, clock()
        self._rules: list[ActiveRule] = []
        self._by_request: dict[tuple[str, str | None], tuple[ActiveRule, ...]] = {}
        self._by_frame: dict[tuple[str, str, str | None], tuple[ActiveRule, ...]] = {}
        self._restarting: tuple[ActiveRule, ...] = ()
        self._skewing: tuple[ActiveRule, ...] = ()

    def add(self, rules: Iterable[Rule]) -> None:
        """Take rules up, each with its generator at the beginning.

        Raises:
            FaultError: there would be too many.
        """
        rules = list(rules)
        if len(self._rules) + len(rules) > MOST_RULES:
            raise FaultError(f"there would be {len(self._rules) + len(rules)} rules; expected at most {MOST_RULES}")
        for rule in rules:
            twins = sum(active.rule == rule for active in self._rules)
            self._rules.append(ActiveRule(rule, generator_of(self.seed, rule, twins)))
        self._sort_out()

    def clear(self) -> int:
        """Forget every rule; returns how many there were."""
        count = len(self._rules)
        self._rules.clear()
        self._sort_out()
        return count

    def rows(self) -> list[dict[str, Any]]:
        return [active.as_row() for active in self._rules]

    def request(self, endpoint: str, user: str | None) -> RequestFaults | None:
        """What goes wrong with this request; ``user`` is who it claims to be, None for a public one."""
        key = (endpoint, user)
        active = self._by_request.get(key)
        if active is None:
            active = tuple(each for each in self._open() if each.rule.concerns_request(endpoint, user))
            self._by_request[key] = active
        if not active:
            return None
        found: RequestFaults | None = None
        elapsed_ms = self._elapsed_ms()
        for each in active:
            # Every rule draws, also when another one has decided: its sequence is its own.
            due = each.is_due(elapsed_ms)
            if not due or (found is not None and found.outcome is not None and each.rule.kind not in SIDE_EFFECTS):
                continue
            found = found or RequestFaults()
            if each.rule.kind == "delay":
                found.delay_ms += int(each.rule.value or 0)
            elif each.rule.kind == "clock_skew":
                found.skew_ms += int(each.rule.value or 0)
            else:
                found.outcome = each.rule
            self._hit(each)
        return found

    def skew_ms(self) -> int:
        """How far the venue's clock is ahead for one more websocket authentication: rules for every endpoint count."""
        elapsed_ms, skew_ms = self._elapsed_ms(), 0
        for each in self._skewing:
            if each.is_due(elapsed_ms):
                skew_ms += int(each.rule.value or 0)
                self._hit(each)
        return skew_ms

    def frame(self, channel: str, topic: str, user: str | None, message: bytes) -> Rule | None:
        """What goes wrong with this frame on its way to one connection."""
        key = (channel, topic, user)
        active = self._by_frame.get(key)
        if active is None:
            active = tuple(
                each
                for each in self._open()
                if each.rule.kind != "restart_u" and each.rule.concerns_frame(channel, topic, user)
            )
            self._by_frame[key] = active
        return self._first(active, message)

    def restarts(self, topic: str) -> bool:
        """Whether this order book topic starts again instead of its next message."""
        if not self._restarting or not topic.startswith("orderbook."):
            return False
        concerned = tuple(each for each in self._restarting if each.rule.concerns_frame("public", topic, None))
        return self._first(concerned, b"") is not None

    def _first(self, active: Iterable[ActiveRule], message: bytes) -> Rule | None:
        found: Rule | None = None
        elapsed_ms = self._elapsed_ms()
        for each in active:
            if each.rule.kind == "double_filled" and _FILLED not in message:
                continue
            if each.is_due(elapsed_ms) and found is None:
                found = each.rule
                self._hit(each)
        return found

    def _elapsed_ms(self) -> int:
        return int((self._clock() - self._started) * 1000)

    def _hit(self, active: ActiveRule) -> None:
        active.hits += 1
        if active.is_spent:
            self._sort_out()

    def _open(self) -> list[ActiveRule]:
        return [each for each in self._rules if not each.is_spent]

    def _sort_out(self) -> None:
        self._by_request.clear()
        self._by_frame.clear()
        rules = self._open()
        self.on_requests = any(each.rule.endpoint is not None for each in rules)
        self.on_frames = any(each.rule.channel is not None for each in rules)
        self._restarting = tuple(each for each in rules if each.rule.kind == "restart_u")
        self._skewing = tuple(
            each for each in rules if each.rule.kind == "clock_skew" and each.rule.concerns_request(ANY, None)
        )


def generator_of(seed: int, rule: Rule, twins: int) -> Random:
    """The generator of a rule; ``twins`` of it before have others."""
    text = orjson.dumps([seed, twins, rule.as_row()], option=orjson.OPT_SORT_KEYS)
    return Random(int.from_bytes(hashlib.sha256(text).digest()))
