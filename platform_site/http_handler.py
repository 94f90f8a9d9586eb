"""How HTTP requests run: each whole, in one thread, and threads live on from one request to the next.

Django's own ASGI handler goes back and forth between its event loop and a thread for each middleware, and makes that
thread anew for each request, with a new connection to the database. All our middleware and views are synchronous, so
that was most of what a request cost.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import IO, Any, cast

from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.core import signals
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, get_script_prefix
from django.http import FileResponse, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import set_script_prefix

# So many requests are worked on at once; more threads would only wait for each other. One that waited this long for its
# turn has it anyway: nobody shall wait for the end of some slow request.
TURNS = 6
LONGEST_WAIT_SECONDS = 0.25

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]


class WholeRequestHandler(ASGIHandler):
    """Django for ASGI, all middleware and the view of a request in one visit to a thread."""

    def __init__(self) -> None:
        self.load_middleware(is_async=False)
        self._turns = asyncio.Semaphore(TURNS)
        # The one that was used last is taken first: its connection to the database is the likeliest to be open.
        self._idle: list[ThreadPoolExecutor] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise ValueError(f"this serves HTTP alone, not {scope['type']}")
        try:
            body = await self.read_body(receive)
        except RequestAborted:
            return
        with body:
            async with self._turn(), self._thread():
                response = await sync_to_async(self._answer)(scope, body)
            if response.streaming:
                # It may take as long as its reader likes: in a thread of its own.
                async with ThreadSensitiveContext():
                    await self._stream(response, receive, send)
            else:
                await self.send_response(response, send)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        is_mine = True
        try:
            async with asyncio.timeout(LONGEST_WAIT_SECONDS):
                await self._turns.acquire()
        except TimeoutError:
            is_mine = False
        try:
            yield
        finally:
            if is_mine:
                self._turns.release()

    @asynccontextmanager
    async def _thread(self) -> AsyncIterator[None]:
        thread = self._idle.pop() if self._idle else ThreadPoolExecutor(1, thread_name_prefix="request")
        is_free = False
        try:
            async with ThreadSensitiveContext(executor=thread):
                yield
            is_free = True
        finally:
            # One whose request was given up may still be at work.
            if is_free and len(self._idle) < TURNS:
                self._idle.append(thread)
            else:
                thread.shutdown(wait=False)

    def _answer(self, scope: Scope, body: IO[bytes]) -> HttpResponseBase:
        set_script_prefix(get_script_prefix(scope))
        signals.request_started.send(sender=self.__class__, scope=scope)
        request, refusal = self.create_request(scope, body)
        response: HttpResponseBase = cast(HttpResponse, refusal) if request is None else self.get_response(request)
        # Whom the end of the request is told in the name of.
        response._handler_class = self.__class__  # type: ignore[attr-defined]
        if isinstance(response, FileResponse):
            response.block_size = self.chunk_size
        if not response.streaming:
            # Its content is at hand: what the request held is given back here, not in another visit to the thread.
            response.close()
        return response

    async def _stream(self, response: HttpResponseBase, receive: Receive, send: Send) -> None:
        """Until its end, or until nobody listens any more."""
        sending = asyncio.create_task(self.send_response(response, send))
        leaving = asyncio.create_task(self.listen_for_disconnect(receive))
        try:
            await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            for task in (sending, leaving):
                task.cancel()
                with suppress(asyncio.CancelledError, RequestAborted):
                    await task
            await sync_to_async(response.close)()
