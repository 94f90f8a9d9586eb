"""The least that a web process can do: what the same server and the same client take without our code."""

from __future__ import annotations

from typing import Any

BODY = b"x" * 2_000


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        headers = [(b"content-length", b"%d" % len(BODY))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": BODY})
