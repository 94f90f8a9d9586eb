"""Public connections: topics of one category, for everybody."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from trading.simulator import system_status
from trading.simulator.candles import INTERVALS
from trading.simulator.publisher import DEPTHS
from trading.simulator.topics import address
from trading.simulator.venue import Venue
from trading.simulator.websocket_session import ANSWER_SECONDS, StreamSession, texts

CATEGORIES = ("linear", "spot")
BOOK_DEPTHS = frozenset((*map(str, DEPTHS), "full"))
# Topics with nothing but a symbol behind their name.
PLAIN_TOPICS = {
    "linear": ("publicTrade", "tickers", "allLiquidation", "priceLimit"),
    "spot": ("publicTrade", "tickers", "priceLimit"),
}
MOST_SPOT_ARGUMENTS = 10
MOST_CHARACTERS = 21_000


class PublicSession(StreamSession):
    """Subscriptions to one category; its topics together are at most 21,000 characters long."""

    def __init__(self, venue: Venue, category: str) -> None:
        super().__init__(venue)
        self._category = category
        self._topics: set[str] = set()

    def handle(self, operation: str, request_id: str, arguments: list[Any]) -> None:
        if operation == "ping":
            self.answer("ping", request_id, message="pong")
        elif operation == "subscribe":
            self._subscribe(request_id, texts(arguments))
        elif operation == "unsubscribe":
            for topic in texts(arguments):
                self._topics.discard(topic)
                self.venue.hub.unsubscribe(self.client, address(self._category, topic))
            self.answer("unsubscribe", request_id)
        else:
            self.answer(operation, request_id, success=False, message=f"unknown op {operation!r}")

    def _subscribe(self, request_id: str, topics: list[str]) -> None:
        if self._category == "spot" and len(topics) > MOST_SPOT_ARGUMENTS:
            self.answer("subscribe", request_id, success=False, message=f"args size >{MOST_SPOT_ARGUMENTS}")
            return
        wrong = [topic for topic in topics if not self._exists(topic)]
        if wrong:
            self.refuse_topics(request_id, wrong)
            return
        wanted = self._topics.union(topics)
        if len(orjson.dumps(list(wanted))) > MOST_CHARACTERS:
            sentence = f"args of this connection are longer than {MOST_CHARACTERS} characters"
            self.answer("subscribe", request_id, success=False, message=sentence)
            return
        self._topics = wanted
        asyncio.get_running_loop().call_later(ANSWER_SECONDS, self._begin, request_id, topics)

    def _begin(self, request_id: str, topics: list[str]) -> None:
        hub = self.venue.hub
        if self.client not in hub.clients:
            return  # it left meanwhile
        self.answer("subscribe", request_id, message="subscribe" if self._category == "spot" else "")
        for topic in topics:
            if topic not in self._topics:
                continue  # it was unsubscribed meanwhile
            name = address(self._category, topic)
            first = self.venue.first_message(name)
            hub.subscribe(self.client, name)
            if first is not None:
                hub.deliver(self.client, name, first)

    def _exists(self, topic: str) -> bool:
        kind, _, rest = topic.partition(".")
        detail, _, symbol = rest.rpartition(".")
        exchange, player = self.venue.exchange, self.venue.player
        if self._category == "spot" and player is not None and symbol in player.symbols("spot"):
            return True
        if symbol not in (exchange.markets if self._category == "linear" else exchange.spot):
            return False
        if kind == "orderbook":
            return detail in BOOK_DEPTHS
        if kind == "kline":
            return detail in INTERVALS
        return kind in PLAIN_TOPICS[self._category] and not detail


class StatusSession(PublicSession):
    """The channel of announced maintenance, with its one topic."""

    def __init__(self, venue: Venue) -> None:
        super().__init__(venue, system_status.CATEGORY)

    def _exists(self, topic: str) -> bool:
        return topic == system_status.TOPIC
