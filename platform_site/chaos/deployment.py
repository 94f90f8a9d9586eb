"""A whole deployment of a lane's own: servers, simulator, two engines, web and worker, in a folder that is thrown away.

Processes are started from the main thread alone: the kernel ends a child with the *thread* that started it. They are
ended by their process ids, and found by nothing else.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from cryptography.fernet import Fernet

from platform_site.chaos.scenario import SYMBOLS
from platform_site.supervisor import embedded, postgres, valkey
from platform_site.supervisor.child import Child, ChildSpec, last_lines
from platform_site.supervisor.health import answers, ask_health
from platform_site.supervisor.ports import free_port
from platform_site.supervisor.privileges import postgres_identity
from trading.crash_points import REACHED_SUFFIX, VARIABLE

Answer = TypeVar("Answer")

REPOSITORY = Path(__file__).resolve().parents[2]
MARK = "chaos-lane"
START_SECONDS = 90.0
STOP_SECONDS = 8.0
POLL_SECONDS = 0.05
CONTROL_SECONDS = 30.0
ENGINES = ("engine-1", "engine-2")
APPLICATION = (*ENGINES, "web", "worker")


class ChaosError(Exception):
    """The run cannot go on; the message says which part did not come up, and its last words."""


@dataclass(frozen=True, slots=True)
class LanePlan:
    """What a lane is told: where it lives, which runs are its own. ``numbers``: the runs' numbers, in their order."""

    lane: int
    seed: int
    numbers: tuple[int, ...]
    folder: str
    postgres_port: int
    valkey_port: int
    simulator_port: int
    web_port: int
    postgres_password: str
    valkey_password: str
    secret_key: str
    master_key: str
    lease_seconds: int

    @classmethod
    def make(cls, lane: int, seed: int, numbers: tuple[int, ...], folder: Path, lease_seconds: int) -> LanePlan:
        ports: set[int] = set()
        while len(ports) < 4:
            ports.add(free_port())
        return cls(
            lane,
            seed,
            numbers,
            str(folder),
            ports.pop(),
            ports.pop(),
            ports.pop(),
            ports.pop(),
            postgres_password=secrets.token_urlsafe(24),
            valkey_password=secrets.token_urlsafe(24),
            secret_key=secrets.token_urlsafe(50),
            master_key=Fernet.generate_key().decode(),
            lease_seconds=lease_seconds,
        )

    @classmethod
    def read(cls, path: Path) -> LanePlan:
        content = json.loads(path.read_text())
        return cls(**{**content, "numbers": tuple(content["numbers"])})

    def write(self) -> Path:
        """Readable by its owner alone: passwords are in it."""
        path = Path(self.folder) / "lane.json"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(asdict(self), file)
        return path

    def environment(self) -> dict[str, str]:
        """What the lane and every process of its deployment read. Nothing of ours points to another deployment."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("BALLAST_")}
        return {
            **own,
            "BALLAST_DATA_DIR": self.folder,
            "BALLAST_SECRET_KEY": self.secret_key,
            "BALLAST_MASTER_KEY": self.master_key,
            "BALLAST_PORT": str(self.web_port),
            "BALLAST_LEASE_SECONDS": str(self.lease_seconds),
            "BALLAST_LEASE_RENEWAL_SECONDS": "1",
            # The load is no abuse; how users are held back is tested elsewhere.
            "BALLAST_USER_RATE": "100000/min",
            "DATABASE_URL": f"postgres://ballast:{self.postgres_password}@127.0.0.1:{self.postgres_port}/ballast",
            "REDIS_URL": f"redis://:{self.valkey_password}@127.0.0.1:{self.valkey_port}/0",
            "EXCHANGE": "simulator",
            "SIMULATOR_URL": f"http://127.0.0.1:{self.simulator_port}",
            "SYMBOLS": ",".join(SYMBOLS),
            "BINANCE_SYMBOLS": "",
            "DETECTORS": "",
            "RECORD_DIR": "",
            "PYTHONUNBUFFERED": "1",
        }


class Deployment:
    """``start`` everything, ``kill`` and ``revive`` parts of it, ``stop`` everything whatever has happened."""

    def __init__(self, plan: LanePlan) -> None:
        self.plan = plan
        self.folder = Path(plan.folder)
        self.state = self.folder / "simulator.sqlite"
        self.children: dict[str, Child] = {}
        self._simulator_lives = 0
        identity = postgres_identity()
        home = postgres.choose_home(self.folder, identity)
        self._postgres = postgres.EmbeddedPostgres(
            postgres.find_programs(identity), home, plan.postgres_port, plan.postgres_password, identity
        )
        self._valkey = valkey.EmbeddedValkey(
            valkey.find_program(), self.folder / "valkey", plan.valkey_port, plan.valkey_password
        )
        self.outside_folder = home if home.parent != self.folder else None

    # Start and end.

    def start_servers(self) -> None:
        self._postgres.prepare()
        self._valkey.prepare()
        for name in ("postgres", "valkey", "simulator"):
            self._spawn(name)
        for name in ("postgres", "valkey", "simulator"):
            self.await_ready(name)
        self._postgres.create_database(embedded.DATABASE)

    def start_application(self) -> None:
        for name in APPLICATION:
            self._spawn(name)
        self.await_ready("web")

    def stop(self) -> None:
        """Whatever is left is ended, politely first; paused processes too."""
        for name in (*APPLICATION, "simulator", "valkey", "postgres"):
            child = self.children.get(name)
            if child is not None:
                child.signal_process(signal.SIGCONT)
                child.signal_process(child.spec.stop_signal)
        deadline = time.monotonic() + STOP_SECONDS
        for child in self.children.values():
            if child.process is not None:
                with contextlib.suppress(Exception):
                    child.process.wait(max(0.1, deadline - time.monotonic()))
                child.kill_group()
                child.process.wait()

    # Parts.

    def pid(self, name: str) -> int:
        process = self.children[name].process
        return process.pid if process is not None else 0

    def is_dead(self, name: str) -> bool:
        return self.children[name].has_exited()

    def kill(self, name: str) -> None:
        """As a crash does; a worker goes with its pool, as its machine would take both."""
        child = self.children[name]
        if name == "worker":
            child.kill_group()
        else:
            child.signal_process(signal.SIGKILL)
        if child.process is not None:
            child.process.wait()

    def pause(self, name: str) -> None:
        self.children[name].signal_process(signal.SIGSTOP)

    def resume(self, name: str) -> None:
        self.children[name].signal_process(signal.SIGCONT)

    def revive(self) -> list[str]:
        """Start again what has died; their names. The servers first, and awaited: nothing starts without them."""
        dead = [name for name in ("postgres", "valkey", "simulator", *APPLICATION) if self.is_dead(name)]
        for name in dead:
            if name == "worker":
                self.children[name].kill_group()
            self._spawn(name)
        for name in dead:
            if name not in APPLICATION:
                self.await_ready(name)
        return dead

    def await_ready(self, name: str) -> None:
        """Until it answers; a server that refuses to start (its memory is not free yet, say) is started again."""
        deadline = time.monotonic() + START_SECONDS
        while not self._is_ready(name):
            if time.monotonic() > deadline:
                lines = "\n".join(last_lines(self.children[name].spec.log))
                raise ChaosError(f"{name} did not answer within {START_SECONDS:g} s; its last words:\n{lines}")
            if self.is_dead(name):
                self._spawn(name)
            time.sleep(POLL_SECONDS)

    # Labelled points.

    def arm(self, name: str, point: str) -> None:
        """Set a process's trap, whose file is swapped whole: it is read at every labelled point."""
        file = self._trap(name)
        self.reached_file(name).unlink(missing_ok=True)
        fresh = file.with_suffix(".new")
        fresh.write_text(point)
        fresh.replace(file)

    def disarm(self) -> None:
        for name in APPLICATION:
            self._trap(name).unlink(missing_ok=True)

    def was_reached(self, name: str) -> bool:
        return self.reached_file(name).exists()

    def reached_file(self, name: str) -> Path:
        return self.folder / f"trap-{name}{REACHED_SUFFIX}"

    def _trap(self, name: str) -> Path:
        return self.folder / f"trap-{name}"

    # The simulator's control interface, and questions to it that anybody may ask.

    def control(self, what: str, body: Any = None, method: str = "POST") -> Mapping[str, Any]:
        """Raises OSError when it does not answer, ChaosError when it refuses."""
        url = f"http://127.0.0.1:{self.plan.simulator_port}/simulator/control/{what}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data=data, method=method)
        with urllib.request.urlopen(request, timeout=CONTROL_SECONDS) as answer:  # noqa: S310
            content = json.loads(answer.read())
        if content["retCode"] != 0:
            raise ChaosError(f"the simulator refused {what} {body}: {content['retMsg']}")
        return dict(content["result"])

    # How each is started.

    def _spawn(self, name: str) -> None:
        child = self.children[name] = Child(self._spec(name))
        child.start()

    def _spec(self, name: str) -> ChildSpec:
        log = self.folder / "logs" / f"{name}.log"
        if name == "postgres":
            return self._postgres.child(log)
        if name == "valkey":
            return self._valkey.child(log)
        environment = self.plan.environment()
        if name in APPLICATION:
            environment[VARIABLE] = f"@{self._trap(name)}"
        return ChildSpec(name, (sys.executable, *self._command(name)), environment, REPOSITORY, log)

    def _command(self, name: str) -> tuple[str, ...]:
        plan = self.plan
        if name == "simulator":
            self._simulator_lives += 1
            market = ("--seed", str(plan.seed % 2**31), "--symbols", str(len(SYMBOLS)), "--liveliness", "0.3")
            place = ("--host", "127.0.0.1", "--port", str(plan.simulator_port), "--state", str(self.state))
            faults = ("--fault-seed", str(plan.seed % 2**31 + self._simulator_lives))
            return ("manage.py", "runsimulator", *place, *market, *faults)
        if name == "web":
            application = "platform_site.asgi:application"
            return ("-m", "daphne", "-b", "127.0.0.1", "-p", str(plan.web_port), application)
        if name == "worker":
            options = ("--loglevel", "info", "--concurrency", "1", "--without-mingle", "--without-gossip")
            return ("-m", "celery", "-A", "platform_site", "worker", *options)
        return ("manage.py", "runengine", "--name", name)

    def _is_ready(self, name: str) -> bool:
        if name == "postgres":
            return self._postgres.is_ready()
        if name == "valkey":
            return self._valkey.is_ready()
        if name == "simulator":
            return answers(self.plan.simulator_port, "/v5/market/time")
        # Whatever it says of its components: that it answers is enough.
        return ask_health(self.plan.web_port).answered


def until(question: Callable[[], Answer], seconds: float, pause: float = POLL_SECONDS) -> Answer | None:
    """The first true answer, None when there is none in time. An OSError of a server that is away is no answer."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError):
            answer = question()
            if answer:
                return answer
        if time.monotonic() > deadline:
            return None
        time.sleep(pause)
