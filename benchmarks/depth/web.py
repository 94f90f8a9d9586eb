"""One web process under load: 50 users, 200 requests a second, whether it keeps up or not."""

from __future__ import annotations

import io
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from benchmarks.depth.report import Report
from tests.processes import ServerProcess, start_server, start_site

CLIENT = Path(__file__).with_name("client.py")
USERS, RATE, SECONDS, WARM_SECONDS = 50, 200, 10, 2
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class Site:
    """Running web processes; ``headers``: one line for each user."""

    servers: Sequence[ServerProcess]
    headers: Sequence[str]

    def load(self, report: Report, name: str, paths: Sequence[str], goal: str, seconds: float = SECONDS) -> None:
        """Tell how long answers take, from the moment that a request was due, and what they cost the web process."""
        self._ask(paths, WARM_SECONDS)
        before = self._processor_seconds()
        found = self._ask(paths, seconds)
        spent = self._processor_seconds() - before
        took = found["milliseconds"]
        at = {share: took[min(len(took) - 1, int(len(took) * share / 100))] for share in (50, 95, 99)}
        times = ", ".join(f"p{share} {value:.1f}" for share, value in at.items())
        failed = f"; {found['failed']} FAILED" if found["failed"] else ""
        report.say(
            f"{name}: {times} ms at {found['rate']:.0f} requests/s ({len(took)}), "
            f"{spent / len(took) * 1e3:.2f} ms of the web's processor each{failed}{goal and '; goal '}{goal}"
        )

    def _ask(self, paths: Sequence[str], seconds: float) -> dict:  # type: ignore[type-arg]
        ports = [server.port for server in self.servers]
        plan = {"ports": ports, "rate": RATE, "seconds": seconds, "users": self.headers, "paths": paths}
        command = [sys.executable, str(CLIENT), json.dumps(plan)]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=seconds * 6 + 60, check=True)
        return json.loads(answer.stdout)  # type: ignore[no-any-return]

    def _processor_seconds(self) -> float:
        spent = 0
        for server in self.servers:
            words = Path(f"/proc/{server.running.process.pid}/stat").read_text().rpartition(")")[2].split()
            spent += int(words[11]) + int(words[12])
        return spent / TICKS


def cost(paths: Sequence[str], header: str, rounds: int = 7, requests: int = 100) -> tuple[float, float]:
    """Milliseconds of processor that our stack takes for a request, middleware to view, without the server: the least
    of some rounds, and their median."""
    from django.conf import settings

    from platform_site.http_handler import WholeRequestHandler

    # One user asks as fast as can be.
    settings.DEPTH_API_RATE = 10**6
    handler = WholeRequestHandler()
    headers = [(b"host", b"127.0.0.1"), (b"authorization", header.partition(": ")[2].encode())]
    following = cycle(paths)
    found = []
    for _ in range(rounds):
        began = time.thread_time()
        for path in islice(following, requests):
            address, _, query = path.partition("?")
            scope = {
                "type": "http",
                "method": "GET",
                "path": address,
                "query_string": query.encode(),
                "headers": headers,
            }
            answer = handler._answer(scope, io.BytesIO())
            if answer.status_code != 200:
                raise AssertionError(f"{path}: {answer.status_code}")
        found.append((time.thread_time() - began) / requests * 1e3)
    return min(found), statistics.median(found)


@contextmanager
def floor() -> Iterator[Site]:
    """The same server with an application that does nothing."""
    log = Path(os.environ["BALLAST_DATA_DIR"]) / "floor.log"
    command = ("-m", "daphne", "-b", "127.0.0.1", "-p", "{port}", "benchmarks.depth.floor:application")
    server = start_server(command, os.environ, log, "/")
    try:
        yield Site([server], [f"X-User: {number}" for number in range(USERS)])
    finally:
        server.stop()


def users(count: int = USERS, name: str = "bench") -> list[str]:
    """Users with a token each: their header lines."""
    from django.contrib.auth import get_user_model
    from rest_framework.authtoken.models import Token

    headers = []
    for number in range(count):
        user, _ = get_user_model().objects.get_or_create(username=f"{name}-{number}")
        headers.append(f"Authorization: Token {Token.objects.get_or_create(user=user)[0].key}")
    return headers


@contextmanager
def site(processes: int = 1) -> Iterator[Site]:
    """Web processes as production runs them, and fifty users with a token each."""
    headers, folder = users(), Path(os.environ["BALLAST_DATA_DIR"])
    with ExitStack() as ends:
        servers = []
        for _ in range(processes):
            server = start_site(folder / f"web-{time.monotonic_ns()}.log", os.environ)
            ends.callback(server.stop)
            servers.append(server)
        yield Site(servers, headers)
