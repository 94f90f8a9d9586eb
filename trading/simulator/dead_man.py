"""Disconnected-cancel-all: who asked for it and is gone for too long has no open orders any more."""

from __future__ import annotations

import asyncio

from trading.simulator.private_topics import DCP_TOPICS
from trading.simulator.venue import Venue


class DeadManSwitch:
    """Waits from the moment when the last connection of a user that subscribed to a dcp topic is gone."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue
        self._timers: dict[tuple[str, str], asyncio.TimerHandle] = {}

    def subscribed(self, user: str, topic: str) -> None:
        """Somebody is there (again)."""
        timer = self._timers.pop((user, topic), None)
        if timer is not None:
            timer.cancel()

    def left(self, user: str, topic: str) -> None:
        """A connection that had subscribed is gone, and no longer listens in the hub."""
        if self._venue.hub.wanted(f"{user}/{topic}"):
            return
        self.subscribed(user, topic)
        seconds = self._venue.exchange.accounts[user].dcp_seconds / self._venue.speed
        loop = asyncio.get_running_loop()
        self._timers[user, topic] = loop.call_later(seconds, self._cancel_all, user, topic)

    def _cancel_all(self, user: str, topic: str) -> None:
        del self._timers[user, topic]
        self._venue.exchange.cancel_disconnected(user, self._venue.clock(), DCP_TOPICS[topic])
        self._venue.settle()
