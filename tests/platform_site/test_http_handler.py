"""Requests run whole in threads that live on; slow ones and long streams keep nobody else waiting."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path

from platform_site.http_handler import TURNS, WholeRequestHandler

go_on = threading.Event()
waiting = threading.Semaphore(0)
closed = threading.Event()


def which_thread(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(threading.get_ident()))


def slow(request: HttpRequest) -> HttpResponse:
    waiting.release()
    go_on.wait(30)
    return HttpResponse("at last")


def broken(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("as a view may")


def endless(request: HttpRequest) -> StreamingHttpResponse:
    async def pieces() -> AsyncIterator[str]:
        while True:
            yield await sync_to_async(lambda: "again ")()

    answer = StreamingHttpResponse(pieces())
    answer._resource_closers.append(closed.set)  # type: ignore[attr-defined]
    return answer


urlpatterns = [path(f"{view.__name__}/", view) for view in (which_thread, slow, broken, endless)]


@pytest.fixture
def handler(settings: Any) -> Iterator[WholeRequestHandler]:
    settings.ROOT_URLCONF = __name__
    go_on.clear()
    closed.clear()
    yield WholeRequestHandler()
    go_on.set()


def asked(handler: WholeRequestHandler, address: str) -> ApplicationCommunicator:
    scope = {
        "type": "http",
        "method": "GET",
        "path": address,
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1")],
    }
    return ApplicationCommunicator(handler, scope)


async def answer(handler: WholeRequestHandler, address: str) -> tuple[int, bytes]:
    client = asked(handler, address)
    await client.send_input({"type": "http.request", "body": b""})
    start = await client.receive_output(20)
    body = await client.receive_output(20)
    return start["status"], body["body"]


async def test_one_request_after_the_other_runs_in_the_same_thread(handler: WholeRequestHandler) -> None:
    threads = {(await answer(handler, "/which_thread/"))[1] for _ in range(5)}
    assert len(threads) == 1 and str(threading.get_ident()).encode() not in threads


async def test_slow_requests_keep_nobody_else_waiting(handler: WholeRequestHandler) -> None:
    slow_ones = [asyncio.create_task(answer(handler, "/slow/")) for _ in range(2 * TURNS)]
    for _ in slow_ones:
        assert await asyncio.to_thread(waiting.acquire, timeout=20)
    assert (await answer(handler, "/which_thread/"))[0] == 200
    go_on.set()
    assert await asyncio.gather(*slow_ones) == [(200, b"at last")] * len(slow_ones)
    assert len(handler._idle) <= TURNS


async def test_an_error_of_a_view_is_an_answer_and_the_next_request_goes_on(handler: WholeRequestHandler) -> None:
    assert (await answer(handler, "/broken/"))[0] == 500
    assert (await answer(handler, "/which_thread/"))[0] == 200


async def test_a_stream_ends_when_its_reader_leaves(handler: WholeRequestHandler) -> None:
    client = asked(handler, "/endless/")
    await client.send_input({"type": "http.request", "body": b""})
    assert (await client.receive_output(20))["status"] == 200
    assert (await client.receive_output(20))["body"] == b"again "
    assert (await answer(handler, "/which_thread/"))[0] == 200
    await client.send_input({"type": "http.disconnect"})
    await client.wait(20)
    assert closed.is_set()


async def test_a_reader_who_leaves_before_the_request_is_whole_is_not_answered(handler: WholeRequestHandler) -> None:
    client = asked(handler, "/which_thread/")
    await client.send_input({"type": "http.request", "body": b"half", "more_body": True})
    await client.send_input({"type": "http.disconnect"})
    await client.wait(20)
    assert client.output_queue.empty()
