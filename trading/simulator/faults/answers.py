"""What a fault rule does to the answer of a request."""

from __future__ import annotations

from aiohttp import web

from trading.simulator.faults.kinds import STATUS_TEXTS

HTML = b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body></body>\r\n</html>\r\n"


def lost(request: web.Request) -> web.Response:
    """The connection closes and nothing is said."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)


def bare_status(status: int) -> web.Response:
    """What a proxy in front of the exchange says by itself: no envelope."""
    return web.Response(status=status, text=STATUS_TEXTS[status])


def garbage(how: str, body: bytes) -> web.Response:
    """Status 200 and a body that is no answer."""
    if how == "html":
        return web.Response(body=HTML, content_type="text/html")
    spoilt = {"truncated": body[: len(body) // 2], "binary": bytes(reversed(body)) + b"\xff\x00\xfe", "empty": b""}
    return web.Response(body=spoilt[how], content_type="application/json")
