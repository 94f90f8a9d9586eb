"""The servers, the venue and the engines that the order path is measured in; all of it of a folder that is thrown
away. PostgreSQL is durable: a commit waits for the disk."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet

from benchmarks.own_servers import create_database
from platform_site.supervisor.ports import free_port
from tests import services
from tests.processes import REPOSITORY
from tests.services import TestServices

HERE = Path(__file__).resolve().parent
START_SECONDS = 60.0
ANSWER_SECONDS = 300.0


class DurableServices(TestServices):
    def _start_postgres(self) -> str:
        made = services.EmbeddedPostgres

        def durable(*arguments: Any, **_: Any) -> Any:
            return made(*arguments, durable=True)

        services.EmbeddedPostgres = durable  # type: ignore[misc, assignment]
        try:
            return super()._start_postgres()
        finally:
            services.EmbeddedPostgres = made  # type: ignore[misc]


def children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [child, *children(child)]
    return found


class DrivenEngine:
    def __init__(self, name: str, folder: Path) -> None:
        self.started = time.time()
        self._log = (folder / f"engine-{name}.log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "driven_engine.py"), name],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def say(self, what: str, **options: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": what, **options}) + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        assert self.process.stdout is not None
        while True:
            if not select.select([self.process.stdout], [], [], ANSWER_SECONDS)[0]:
                raise SystemExit("the engine does not answer")
            line = self.process.stdout.readline()
            if not line:
                raise SystemExit(f"the engine ended: {Path(self._log.name).read_text()[-3000:]}")
            if line.startswith("{"):
                return json.loads(line)

    def ask(self, what: str, **options: Any) -> Any:
        self.say(what, **options)
        return self.answer()

    def kill(self) -> float:
        """As a crash does; when."""
        self.process.kill()
        at = time.time()
        self.process.wait()
        return at


class OrderDeployment:
    """``accounts`` of one user each, on a venue of ``symbols``."""

    def __init__(self, accounts: int, symbols: int, *, realtime: bool = False) -> None:
        self.accounts, self.symbols, self._realtime = accounts, symbols, realtime
        self.services = DurableServices()
        self.folder = self.services.folder
        self.engines: list[DrivenEngine] = []
        self._venue: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> OrderDeployment:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for engine in self.engines:
            if engine.process.poll() is None:
                engine.kill()
        if self._venue is not None:
            self._venue.kill()
            self._venue.wait()
        self.services.stop()

    def start_engine(self, name: str) -> DrivenEngine:
        self.engines.append(DrivenEngine(name, self.folder))
        return self.engines[-1]

    def hurry(self, measured: bool) -> None:
        """Let the measured processes, the servers' too, run before everybody else's on this machine, or no more."""
        if not self._realtime:
            return
        policy = os.SCHED_RR if measured else os.SCHED_OTHER
        parents = [process.pid for process, _ in self.services._running]
        parents += [engine.process.pid for engine in self.engines if engine.process.poll() is None]
        parents += [self._venue.pid] if self._venue is not None else []
        for pid in [each for parent in parents for each in (parent, *children(parent))]:
            with suppress(OSError):
                for thread in Path(f"/proc/{pid}/task").iterdir():
                    os.sched_setscheduler(int(thread.name), policy, os.sched_param(os.sched_get_priority_min(policy)))

    def _start(self) -> None:
        self.services.start()
        port = free_port()
        os.environ.update(
            {
                **self.services.environment,
                "BALLAST_SECRET_KEY": "a-key-for-benchmarks-" + "x" * 40,
                "BALLAST_MASTER_KEY": Fernet.generate_key().decode(),
                "EXCHANGE": "simulator",
                "SIMULATOR_URL": f"http://127.0.0.1:{port}",
                "BINANCE_SYMBOLS": ",",
                "DJANGO_SETTINGS_MODULE": "platform_site.settings",
            }
        )
        users = [f"user{number}" for number in range(self.accounts)]
        keys = [{"user": u, "api_key": f"{u}-key", "api_secret": f"{u}-secret", "balance": "1000000"} for u in users]
        (self.folder / "keys.json").write_text(json.dumps(keys))
        with (self.folder / "venue.log").open("wb") as log:
            self._venue = subprocess.Popen(
                [
                    sys.executable, "-m", "benchmarks.orders.open_venue", "--port", str(port), "--keys",
                    str(self.folder / "keys.json"), "--symbols", str(self.symbols), "--liveliness", "0.2",
                ],
                cwd=REPOSITORY, stdout=log, stderr=log,
            )  # fmt: skip
        prepare_database(users)
        self._until_venue_answers(port)

    def _until_venue_answers(self, port: int) -> None:
        import urllib.request

        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/v5/market/time", timeout=2).close()
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise SystemExit((self.folder / "venue.log").read_text()) from None
                time.sleep(0.1)


def prepare_database(users: list[str]) -> None:
    import django

    create_database()
    django.setup()
    from django.core.management import call_command

    from tests import builders
    from trading.services.accounts import account_create

    call_command("migrate", interactive=False, verbosity=0)
    for user in users:
        account_create(
            owner=builders.user(user), name=f"{user} account", environment="simulator", api_key=f"{user}-key",
            api_secret=f"{user}-secret", actor="benchmark",
        )  # fmt: skip
