"""Private topics: their names, and who is sent which rows in which messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import orjson

from trading.simulator.hub import Hub

Row = dict[str, Any]

# Topics for all categories at once; each of the first four also exists as ``order.linear`` and so on.
CATEGORISED = ("order", "execution", "execution.fast", "position")
PRIVATE_TOPICS = (*CATEGORISED, "wallet")
CATEGORIES = ("linear", "spot", "inverse", "option")
# To subscribe these is to ask for disconnected-cancel-all of a product; nothing is ever told there.
DCP_TOPICS = {"dcp.future": "linear", "dcp.spot": "spot", "dcp.option": "option"}
NAMES = frozenset(
    {*PRIVATE_TOPICS, *DCP_TOPICS, "greeks"}
    | {f"{topic}.{category}" for topic in CATEGORISED for category in CATEGORIES}
)

_FAST_FIELDS = (
    *("category", "symbol", "execId", "execPrice", "execQty"),
    *("orderId", "isMaker", "orderLinkId", "side", "execTime", "seq"),
)
# What a row is about: two rows about the same thing are two messages.
_SUBJECTS = {
    "order": ("orderId",),
    "execution": ("execId",),
    "position": ("symbol", "positionIdx"),
    "wallet": ("accountType",),
}


def mixed(topics: Iterable[str]) -> list[str]:
    """The topics of a request that ask for all categories and for one of them."""
    asked = set(topics)
    return [topic for topic in CATEGORISED if topic in asked and any(f"{topic}.{name}" in asked for name in CATEGORIES)]


def publish(hub: Hub, outbox: Iterable[tuple[str, str, Row]], now_ms: int, new_id: Callable[[], str]) -> None:
    """Tell users the rows of one instant: those of a topic together. ``new_id`` names a message."""

    def tell(user: str, topic: str, rows: list[Row]) -> None:
        _send(hub, user, topic, rows, now_ms, new_id)
        for category in CATEGORIES if topic in CATEGORISED else ():
            if hub.wanted(f"{user}/{topic}.{category}"):
                chosen = [row for row in rows if row["category"] == category]
                _send(hub, user, f"{topic}.{category}", chosen, now_ms, new_id)

    for user, topic, rows in gathered(outbox):
        tell(user, topic, rows)
        if topic == "execution":
            fast = [fast_execution(row) for row in rows if row["category"] != "spot" and row["execType"] == "Trade"]
            tell(user, "execution.fast", fast)


def gathered(outbox: Iterable[tuple[str, str, Row]]) -> list[tuple[str, str, list[Row]]]:
    """The rows of each user and topic in their order, in as few messages as have each thing once. What a thing was
    told as a moment before is not told again."""
    messages: list[tuple[str, str, dict[tuple[Any, ...], Row]]] = []
    open_messages: dict[tuple[str, str], dict[tuple[Any, ...], Row]] = {}
    for user, topic, row in outbox:
        subject = tuple(row.get(name) for name in _SUBJECTS[topic])
        told = open_messages.get((user, topic), {})
        if told.get(subject) == row:
            continue
        if not told or subject in told:
            told = open_messages[user, topic] = {}
            messages.append((user, topic, told))
        told[subject] = row
    return [(user, topic, list(rows.values())) for user, topic, rows in messages]


def fast_execution(row: Row) -> Row:
    """The row of ``execution.fast``: fewer fields, and a maker's fill does not tell its link id."""
    fast = {name: row[name] for name in _FAST_FIELDS}
    return {**fast, "orderLinkId": ""} if row["isMaker"] else fast


def _send(hub: Hub, user: str, topic: str, rows: list[Row], now_ms: int, new_id: Callable[[], str]) -> None:
    name = f"{user}/{topic}"
    if not rows or not hub.wanted(name):
        return
    message = {"topic": topic, "creationTime": now_ms, "data": rows}
    if not topic.startswith("execution.fast"):
        message = {"id": new_id(), **message}
    hub.publish(name, orjson.dumps(message))
