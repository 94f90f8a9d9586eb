"""Private connections: nothing but ``auth`` and ``ping`` before authentication, then the user's own topics."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import orjson

from trading.simulator.dead_man import DeadManSwitch
from trading.simulator.errors import ApiError
from trading.simulator.private_topics import DCP_TOPICS, NAMES, mixed
from trading.simulator.signatures import Authority
from trading.simulator.venue import Venue
from trading.simulator.websocket_session import ANSWER_SECONDS, StreamSession, texts


class PrivateSession(StreamSession):
    """One user's connection; which dcp topics it subscribed to is told to the dead man's switch."""

    channel = "private"

    def __init__(self, venue: Venue, authority: Authority, switch: DeadManSwitch) -> None:
        super().__init__(venue)
        self._authority, self._switch = authority, switch
        self._dcp: set[str] = set()

    def handle(self, operation: str, request_id: str, arguments: list[Any]) -> None:
        user = self.client.user
        if operation == "auth":
            self._authenticate(request_id, arguments)
        elif operation == "ping":
            now = str(self.venue.clock())
            body = {"req_id": request_id, "op": "pong", "args": [now], "conn_id": self.connection_id}
            self.client.send(orjson.dumps(body))
        elif user is None:
            self.answer(operation, request_id, success=False, message="Request not authorized")
        elif operation == "subscribe":
            self._subscribe(user, request_id, texts(arguments))
        elif operation == "unsubscribe":
            for topic in texts(arguments):
                self._dcp.discard(topic)
                self.venue.hub.unsubscribe(self.client, f"{user}/{topic}")
            self.answer("unsubscribe", request_id)
        else:
            self.answer(operation, request_id, success=False, message=f"unknown op {operation!r}")

    def ended(self) -> None:
        if self.client.user is not None:
            for topic in self._dcp:
                self._switch.left(self.client.user, topic)

    def _authenticate(self, request_id: str, arguments: list[Any]) -> None:
        now = self.venue.clock() + self.venue.faults.skew_ms()
        try:
            user = self._authority.user_of_websocket(arguments, now)
        except ApiError as error:
            self.answer("auth", request_id, success=False, message=error.message)
            return
        if self.client.user not in (None, user):
            self.answer("auth", request_id, success=False, message="the connection is another user's already")
            return
        self.client.user = user
        self.answer("auth", request_id)

    def _subscribe(self, user: str, request_id: str, topics: list[str]) -> None:
        wrong = [topic for topic in topics if topic not in NAMES] or mixed(topics)
        if wrong:
            self.refuse_topics(request_id, wrong)
            return
        for topic in topics:
            self.venue.hub.subscribe(self.client, f"{user}/{topic}")
            if topic in DCP_TOPICS:
                self._dcp.add(topic)
                self._switch.subscribed(user, topic)
        asyncio.get_running_loop().call_later(ANSWER_SECONDS, partial(self.answer, "subscribe", request_id))
