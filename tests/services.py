"""PostgreSQL and Valkey for one test run: real servers, in a folder that is thrown away."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from platform_site.supervisor import valkey
from platform_site.supervisor.child import last_lines, spawn
from platform_site.supervisor.ports import free_port
from platform_site.supervisor.postgres import EmbeddedPostgres, choose_home, find_programs
from platform_site.supervisor.privileges import postgres_identity
from platform_site.supervisor.valkey import EmbeddedValkey

START_SECONDS = 30.0
# A port found free can be taken by somebody else before the server binds it.
START_ATTEMPTS = 3

Server = TypeVar("Server", EmbeddedPostgres, EmbeddedValkey)


class ServiceDidNotStart(Exception):
    """A server of the test run ended or stayed silent; the text holds the end of its log."""


def wait_until_ready(
    process: subprocess.Popen[bytes], is_ready: Callable[[], bool], log: Path, seconds: float = START_SECONDS
) -> None:
    """Polls until ``is_ready``; raises ServiceDidNotStart when the process ends or ``seconds`` have passed."""
    deadline = time.monotonic() + seconds
    while not is_ready():
        try:
            code = process.wait(0.02)
        except subprocess.TimeoutExpired:
            code = None
        if code is not None or time.monotonic() > deadline:
            what = f"ended with {code}" if code is not None else f"was not ready after {seconds:g} s"
            raise ServiceDidNotStart("\n".join([f"{process.args!r} {what}. Its last words:", *last_lines(log)]))


class TestServices:
    """What a test run needs started once; ``environment`` is what the application reads to find it."""

    __test__ = False

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ballast-tests-"))
        # PostgreSQL of root runs as nobody, who must pass through.
        self.folder.chmod(0o711)
        self.environment: dict[str, str] = {}
        self._running: list[tuple[subprocess.Popen[bytes], signal.Signals]] = []
        self._extra_folders: list[Path] = []

    def start(self) -> None:
        data_folder = self.folder / "var"
        data_folder.mkdir()
        self.environment["BALLAST_DATA_DIR"] = str(data_folder)
        try:
            if "DATABASE_URL" not in os.environ:
                self.environment["DATABASE_URL"] = self._start_postgres()
            if "REDIS_URL" not in os.environ:
                self.environment["REDIS_URL"] = self._start_valkey()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        for process, stop_signal in reversed(self._running):
            process.send_signal(stop_signal)
        for process, _ in reversed(self._running):
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._running.clear()
        for folder in (self.folder, *self._extra_folders):
            shutil.rmtree(folder, ignore_errors=True)

    def _start_postgres(self) -> str:
        identity = postgres_identity()
        home = choose_home(self.folder, identity)
        if home.parent != self.folder:
            self._extra_folders.append(home)
        password = secrets.token_urlsafe(24)
        programs = find_programs(identity)

        def server() -> EmbeddedPostgres:
            return EmbeddedPostgres(programs, home, free_port(), password, identity, durable=False)

        server().prepare()
        return self._start(server, self.folder / "postgres.log").url("ballast")

    def _start_valkey(self) -> str:
        program = valkey.find_program()
        password = secrets.token_urlsafe(24)

        def server() -> EmbeddedValkey:
            candidate = EmbeddedValkey(program, self.folder / "valkey", free_port(), password)
            candidate.prepare()
            return candidate

        return self._start(server, self.folder / "valkey.log").url(0)

    def _start(self, make: Callable[[], Server], log: Path, attempts: int = START_ATTEMPTS) -> Server:
        server = make()
        child = server.child(log)
        process = spawn(child)
        try:
            wait_until_ready(process, server.is_ready, log)
        except ServiceDidNotStart:
            process.kill()
            process.wait()
            if attempts == 1:
                raise
            return self._start(make, log, attempts - 1)
        self._running.append((process, child.stop_signal))
        return server
