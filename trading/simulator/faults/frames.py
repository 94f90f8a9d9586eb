"""What a fault rule does to a frame on its way to one connection."""

from __future__ import annotations

from typing import Protocol

import orjson

from trading.simulator.faults.rules import Rule


class Connection(Protocol):
    """What of a connection a fault needs."""

    def send(self, message: bytes) -> None: ...
    def hold(self, message: bytes) -> None: ...
    def pause(self, milliseconds: int) -> None: ...
    def stall(self, most_waiting: int) -> None: ...
    def drop(self) -> None: ...


def spoil(connection: Connection, rule: Rule, message: bytes) -> None:
    """Send the frame as the rule has it."""
    value = int(rule.value or 0)
    match rule.kind:
        case "disconnect":
            connection.drop()
        case "drop":
            pass  # it is lost, the connection stays
        case "repeat":
            connection.send(message)
            connection.send(message)
        case "reorder":
            connection.hold(message)
        case "truncate":
            connection.send(message[: value or len(message) // 2])
        case "delay":
            connection.pause(value)
            connection.send(message)
        case "slow_consumer":
            connection.stall(value)
            connection.send(message)
        case "double_filled":
            connection.send(message)
            connection.send(cancelled_too_late(message))


def cancelled_too_late(message: bytes) -> bytes:
    """The second "Filled" of an order whose cancel lost the race."""
    content = orjson.loads(message)
    filled = [row for row in content["data"] if row["orderStatus"] == "Filled"]
    for row in filled:
        row.update(cancelType="CancelByUser", rejectReason="EC_OrigClOrdIDDoesNotExist")
    return orjson.dumps(content | {"id": f"{content['id']}-2", "data": filled})
