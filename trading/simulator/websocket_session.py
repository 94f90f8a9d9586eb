"""What every websocket connection does: read requests, answer each of them, end none."""

from __future__ import annotations

import uuid
from typing import Any

import orjson

from trading.simulator.hub import Client
from trading.simulator.venue import Venue

LARGEST_REQUEST_ID = 2**63
# No exchange answers at once, and pybit relies on it: it notes a subscription or an order after it has sent it.
ANSWER_SECONDS = 0.01


class Session:
    """One connection. ``client`` is there before its first message."""

    client: Client
    channel = "public"

    def __init__(self, venue: Venue) -> None:
        self.venue = venue
        self.connection_id = uuid.uuid4().hex

    def receive(self, data: str | bytes) -> None:
        try:
            request = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            self.malformed(f"the message is not JSON: {error}")
            return
        if not isinstance(request, dict):
            self.malformed("the message must be a JSON object")
            return
        self.take(request)

    def take(self, request: dict[str, Any]) -> None:
        """Answer one request."""
        raise NotImplementedError

    def malformed(self, sentence: str) -> None:
        """Answer what is no request."""
        raise NotImplementedError

    def ended(self) -> None:
        """The connection is gone."""


class StreamSession(Session):
    """A connection that subscribes: ``op``, ``req_id`` and ``args`` come in, an envelope with ``success`` goes out."""

    def take(self, request: dict[str, Any]) -> None:
        operation, request_id, arguments = request.get("op", ""), request.get("req_id", ""), request.get("args", [])
        # Some clients number their requests; Bybit tells the number again as a text.
        if isinstance(request_id, int) and abs(request_id) < LARGEST_REQUEST_ID:
            request_id = str(request_id)
        # Only texts are told again: to write out whatever else came can cost more than it is worth.
        if not isinstance(operation, str) or not isinstance(request_id, str):
            self.malformed("op and req_id must be texts")
        elif not isinstance(arguments, list):
            self.answer(operation, request_id, success=False, message="args must be a list")
        else:
            self.handle(operation, request_id, arguments)

    def handle(self, operation: str, request_id: str, arguments: list[Any]) -> None:
        """Do one well-formed request."""
        raise NotImplementedError

    def malformed(self, sentence: str) -> None:
        self.answer("", "", success=False, message=sentence)

    def answer(self, operation: str, request_id: str, *, success: bool = True, message: str = "") -> None:
        body = {
            "success": success,
            "ret_msg": message,
            "conn_id": self.connection_id,
            "req_id": request_id,
            "op": operation,
        }
        self.client.send(orjson.dumps(body))

    def refuse_topics(self, request_id: str, topics: list[str]) -> None:
        sentence = f"error:handler not found,topic:{','.join(topics)}"
        self.answer("subscribe", request_id, success=False, message=sentence)


def texts(arguments: list[Any]) -> list[str]:
    """The topics of a request; what is no text becomes one that no topic has."""
    return [argument if isinstance(argument, str) else "" for argument in arguments]
