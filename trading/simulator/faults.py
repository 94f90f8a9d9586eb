"""Faults that a test asks for: the next requests to an endpoint go wrong in a named way."""

from __future__ import annotations

from dataclasses import dataclass

KINDS = ("lose_answer", "delay", "http_status", "ret_code")


class FaultError(ValueError):
    """A fault that does not exist; the message names those that do."""


@dataclass(slots=True)
class Fault:
    """``lose_answer``: done, but the connection closes without an answer. ``delay``: done, answered ``value`` seconds
    later. ``http_status`` and ``ret_code``: not done, answered with ``value``."""

    endpoint: str
    kind: str
    value: float = 0.0
    count: int = 1


class Faults:
    def __init__(self) -> None:
        self._waiting: list[Fault] = []

    def add(self, fault: Fault) -> None:
        if fault.kind not in KINDS:
            raise FaultError(f"kind is {fault.kind!r}; expected one of {', '.join(KINDS)}")
        if fault.count < 1:
            raise FaultError(f"count is {fault.count}; expected 1 or more")
        self._waiting.append(fault)

    def clear(self) -> None:
        self._waiting.clear()

    def next(self, endpoint: str) -> Fault | None:
        """The fault for this request, if one waits for it; it is used up."""
        for fault in self._waiting:
            if fault.endpoint == endpoint:
                fault.count -= 1
                if fault.count == 0:
                    self._waiting.remove(fault)
                return fault
        return None
