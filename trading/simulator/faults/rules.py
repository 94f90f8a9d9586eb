"""Fault rules as people write them, read strictly: a typing error is a sentence and never a rule that sleeps."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import orjson

from trading.simulator.faults.errors import FaultError, wrong
from trading.simulator.faults.kinds import FRAME_KINDS, REQUEST_KINDS, RET_MESSAGES, Value

ANY = "*"
CHANNELS = ("public", "private", "trade")
MOST = 1_000_000_000_000
_COMMON = ("kind", "user", "probability", "every", "count", "from_ms", "until_ms", "value")
_REQUEST_FIELDS = ("endpoint", *_COMMON, "message")
_FRAME_FIELDS = ("channel", "topic", *_COMMON)


@dataclass(frozen=True, slots=True)
class Rule:
    """``endpoint`` is set for REST, ``channel`` and ``topic`` for websocket frames.

    At most one of ``probability`` and ``every`` is set; ``count`` is the most hits, None for no end. Times are ms since
    the simulator started, ``until_ms`` excluded.
    """

    kind: str
    endpoint: str | None
    channel: str | None
    topic: str
    user: str
    probability: float | None
    every: int | None
    count: int | None
    from_ms: int
    until_ms: int | None
    value: Value
    message: str

    def as_row(self) -> dict[str, Any]:
        """The rule as it may be given again: what was left out stays out, except a ``value`` with a default."""
        place = {"endpoint": self.endpoint} if self.endpoint is not None else {"channel": self.channel}
        row = {
            "kind": self.kind,
            **place,
            "topic": self.topic if self.channel is not None else None,
            "user": self.user,
            "probability": self.probability,
            "every": self.every,
            "count": self.count,
            "from_ms": self.from_ms or None,
            "until_ms": self.until_ms,
            "value": self.value,
            "message": self.message or None,
        }
        return {name: value for name, value in row.items() if value is not None}

    def concerns_request(self, endpoint: str, user: str | None) -> bool:
        return self.endpoint in (endpoint, ANY) and self.user in (user, ANY)

    def concerns_frame(self, channel: str, topic: str, user: str | None) -> bool:
        return self.channel == channel and self.user in (user, ANY) and fnmatchcase(topic, self.topic)


@dataclass(frozen=True, slots=True)
class Known:
    """What a rule may name besides "*"."""

    endpoints: Collection[str]
    users: Collection[str]


def read_rules(path: Path, known: Known) -> list[Rule]:
    """The rules of a JSON file: a list of objects.

    Raises:
        FaultError: not readable, not JSON, or a rule that cannot be; the sentence says which.
    """
    try:
        content = orjson.loads(path.read_bytes())
    except OSError as error:
        raise FaultError(f"{path} cannot be read: {error.strerror}") from None
    except orjson.JSONDecodeError as error:
        raise FaultError(f"{path} is not JSON: {error}") from None
    try:
        return rules_of(content, known)
    except FaultError as error:
        raise FaultError(f"{path}: {error}") from None


def rules_of(content: object, known: Known) -> list[Rule]:
    """One rule or a list of them, all valid or none taken.

    Raises:
        FaultError: which rule, its field, the value and what is allowed.
    """
    if isinstance(content, Mapping):
        return [rule_of(content, known)]
    if not isinstance(content, list):
        raise FaultError(f"faults are {type(content).__name__}; expected a rule or a list of rules")
    rules = []
    for number, each in enumerate(content, 1):
        try:
            rules.append(rule_of(each, known))
        except FaultError as error:
            raise FaultError(f"rule {number}: {error}") from None
    return rules


def rule_of(content: object, known: Known) -> Rule:
    if not isinstance(content, Mapping):
        raise FaultError(f"a rule is {type(content).__name__}; expected an object")
    if ("endpoint" in content) == ("channel" in content):
        raise FaultError("a rule has either endpoint (a REST path or *) or channel (public, private or trade)")
    of_request = "endpoint" in content
    allowed = _REQUEST_FIELDS if of_request else _FRAME_FIELDS
    for name in content:
        if name not in allowed:
            raise wrong("a field", name, f"one of {', '.join(allowed)}")
    kinds = REQUEST_KINDS if of_request else FRAME_KINDS
    kind = _word(content, "kind", kinds, required=True)
    value = kinds[kind].check(content.get("value"))
    probability, every = _probability(content), _whole(content, "every", 1)
    if probability is not None and every is not None:
        raise FaultError("probability and every are both given; expected one of them")
    count = _whole(content, "count", 1)
    if count is None and probability is None and every is None:
        count = 1  # no word about when means the next time, once
    from_ms, until_ms = _whole(content, "from_ms", 0) or 0, _whole(content, "until_ms", 1)
    if until_ms is not None and until_ms <= from_ms:
        raise wrong("until_ms", until_ms, f"above from_ms, which is {from_ms}")
    user = _word(content, "user", (ANY, *sorted(known.users)), default=ANY)
    if kind == "restart_u" and user != ANY:
        raise wrong("user", user, "* for restart_u: a book starts again for everyone")
    return Rule(
        kind=kind,
        endpoint=_word(content, "endpoint", (ANY, *sorted(known.endpoints)), required=True) if of_request else None,
        channel=None if of_request else _word(content, "channel", CHANNELS, required=True),
        topic="" if of_request else _topic(content),
        user=user,
        probability=probability,
        every=every,
        count=count,
        from_ms=from_ms,
        until_ms=until_ms,
        value=value,
        message=_message(content, kind, value),
    )


def _word(
    content: Mapping[str, Any], name: str, allowed: Collection[str], *, required: bool = False, default: str = ""
) -> str:
    if name not in content and not required:
        return default
    value = content.get(name)
    if not isinstance(value, str) or value not in allowed:
        raise wrong(name, value, f"one of {', '.join(allowed)}")
    return value


def _whole(content: Mapping[str, Any], name: str, lowest: int) -> int | None:
    value = content.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= MOST:
        raise wrong(name, value, f"a whole number from {lowest}")
    return value


def _probability(content: Mapping[str, Any]) -> float | None:
    value = content.get("probability")
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
        raise wrong("probability", value, "a number from 0 to 1")
    return float(value)


def _topic(content: Mapping[str, Any]) -> str:
    value = content.get("topic", ANY)
    if not isinstance(value, str) or not 1 <= len(value) <= 100:
        raise wrong("topic", value, "a topic or a pattern such as orderbook.*.BTCUSDT")
    return value


def _message(content: Mapping[str, Any], kind: str, value: Value) -> str:
    given = content.get("message")
    if given is not None and kind != "ret_code":
        raise wrong("message", given, "no message except with ret_code")
    if given is not None and not isinstance(given, str):
        raise wrong("message", given, "a text")
    if kind != "ret_code":
        return ""
    if given is None and value not in RET_MESSAGES:
        raise wrong("value", value, f"a message with it, or one of {', '.join(map(str, RET_MESSAGES))}")
    return given if given is not None else RET_MESSAGES[value]  # type: ignore[index]
