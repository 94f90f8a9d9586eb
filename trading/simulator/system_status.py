"""Announced maintenance: ``/v5/system/status`` and the topic ``system.status``, which have the same rows."""

from __future__ import annotations

import uuid
from typing import Any

import orjson

from trading.simulator.hub import Hub
from trading.simulator.topics import address

CATEGORY, TOPIC = "misc/status", "system.status"
STATES = ("scheduled", "ongoing", "completed", "canceled")
MOST_TOLD = 100


class SystemStatus:
    """Maintenance, newest first. Nothing that is over within ten seconds is announced: a restart is not."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._rows: dict[str, dict[str, Any]] = {}

    def announce(
        self, title: str, state: str, begin_ms: int, end_ms: int, now_ms: int, status_id: str | None = None
    ) -> dict[str, Any]:
        """Tell of a maintenance, or that the one with this id has another state now.

        Raises:
            ValueError: no such state.
        """
        if state not in STATES:
            raise ValueError(f"state must be one of {', '.join(STATES)}")
        name = status_id or str(uuid.uuid4())
        row: dict[str, Any] = {
            "id": name,
            "title": title,
            "state": state,
            "begin": str(begin_ms),
            "end": str(end_ms),
            "href": "",
            "serviceTypes": [1, 2, 3, 4, 5],
            "product": [1, 2],
            "uidSuffix": [],
            "maintainType": 1,
            "env": 1,
        }
        self._rows[name] = row
        self._hub.publish(address(CATEGORY, TOPIC), orjson.dumps({"topic": TOPIC, "ts": now_ms, "data": [row]}))
        return row

    def rows(self, status_id: str = "", state: str = "") -> list[dict[str, Any]]:
        """Newest first, of one id or one state where that is asked for."""
        wanted = {"id": status_id, "state": state}
        rows = [
            row for row in self._rows.values() if all(not value or row[name] == value for name, value in wanted.items())
        ]
        return sorted(rows, key=lambda row: int(row["begin"]), reverse=True)[:MOST_TOLD]
