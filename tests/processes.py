"""The platform's processes, started by tests as the supervisor starts them."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from platform_site.supervisor.child import ChildSpec, spawn
from platform_site.supervisor.ports import free_port
from tests.services import ServiceDidNotStart, wait_until_ready

REPOSITORY = Path(__file__).resolve().parent.parent
START_SECONDS = 60.0
STOP_SECONDS = 10.0


@dataclass(slots=True)
class RunningProcess:
    """A process that ends with its test at the latest; its output is in ``log``."""

    process: subprocess.Popen[bytes]
    log: Path
    was_asked: bool = False

    @classmethod
    def start(cls, command: Sequence[str], environment: Mapping[str, str], log: Path) -> Self:
        """Starts this Python with ``command`` in the repository; does not wait for anything."""
        environment = {**environment, "PYTHONUNBUFFERED": "1"}
        return cls(spawn(ChildSpec(log.stem, (sys.executable, *command), environment, REPOSITORY, log)), log)

    def ask_to_stop(self) -> None:
        """Once, as the supervisor does."""
        if not self.was_asked and self.process.poll() is None:
            self.was_asked = True
            self.process.send_signal(signal.SIGTERM)

    def stop(self) -> int:
        """Ends it as the supervisor does; its exit code."""
        self.ask_to_stop()
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """Ends it as a crash does."""
        self.process.kill()
        return self.process.wait()


@dataclass(slots=True)
class ServerProcess:
    """A process that answers HTTP (and websockets) on a port of its own."""

    running: RunningProcess
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def websocket_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def stop(self) -> int:
        return self.running.stop()

    def kill(self) -> int:
        return self.running.kill()

    def answers(self, path: str) -> bool:
        """Whether it answers, whatever the status."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", path)
            return connection.getresponse().status < http.HTTPStatus.INTERNAL_SERVER_ERROR
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def start_server(
    command: Sequence[str], environment: Mapping[str, str], log: Path, path: str, fixed_port: int | None = None
) -> ServerProcess:
    """Starts ``command``, in which "{port}" is replaced, and returns when it answers ``path``.

    A port found free can be taken before it is used: then another one is tried, twice.
    """
    for attempts_left in (2, 1, 0):
        port = fixed_port or free_port()
        running = RunningProcess.start([word.format(port=port) for word in command], environment, log)
        server = ServerProcess(running, port)
        try:
            wait_until_ready(running.process, lambda: server.answers(path), log, START_SECONDS)  # noqa: B023
        except ServiceDidNotStart:
            running.kill()
            if not attempts_left or "address already in use" not in log.read_text(errors="replace").lower():
                raise
        else:
            break
    return server


def start_simulator(log: Path, arguments: Sequence[str] = ()) -> ServerProcess:
    """An exchange simulator; its ``url`` is what SIMULATOR_URL takes, and the websockets are on the same port."""
    command = ("manage.py", "runsimulator", "--host", "127.0.0.1", "--port", "{port}", *arguments)
    return start_server(command, os.environ, log, "/v5/market/time")


def start_site(log: Path, environment: Mapping[str, str], port: int | None = None) -> ServerProcess:
    """The web process, as production runs it; on a given port when it comes back after an end."""
    command = ("-m", "daphne", "-b", "127.0.0.1", "-p", "{port}", "platform_site.asgi:application")
    return start_server(command, environment, log, "/api/v1/health", port)


def until(question: Callable[[], Any], seconds: float = 40.0) -> Any:
    """The first true answer to a question about what other processes do. Raises AssertionError when none comes."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = question()
        if answer:
            return answer
        time.sleep(0.02)  # other processes write: the database can only be asked again
    raise AssertionError(f"it did not happen within {seconds:g} s")
