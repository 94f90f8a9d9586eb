"""What `manage.py up` was told: ports, folders and switches, read from the environment and checked."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

from platform_site import environment
from platform_site.supervisor.refusals import StartRefused

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Configuration:
    """``database_url`` and ``redis_url`` are empty when the embedded servers are used."""

    repository: Path
    data_folder: Path
    web_port: int
    postgres_port: int
    valkey_port: int
    database_url: str
    redis_url: str
    exchange: str
    simulator_url: str
    paper_url: str
    market: Path | None
    engines: int = 1

    @property
    def simulator_port(self) -> int:
        return urlsplit(self.simulator_url).port or 80

    @property
    def paper_port(self) -> int:
        return urlsplit(self.paper_url).port or 80

    @property
    def runs_simulator(self) -> bool:
        return self.exchange == "simulator"


def read_configuration(repository: Path) -> Configuration:
    """Raises StartRefused naming the variable, its value and what was expected."""
    default_folder = str(repository / "var")
    simulator_url = _local_url("SIMULATOR_URL", "http://127.0.0.1:8900", "simulator")
    beside = f"http://127.0.0.1:{min(65535, (urlsplit(simulator_url).port or 80) + 1)}"
    return Configuration(
        repository=repository,
        data_folder=Path(environment.text("BALLAST_DATA_DIR") or default_folder).absolute(),
        web_port=_port("BALLAST_PORT", 8000),
        postgres_port=_port("BALLAST_POSTGRES_PORT", 54329),
        valkey_port=_port("BALLAST_VALKEY_PORT", 63799),
        database_url=environment.text("DATABASE_URL"),
        redis_url=environment.text("REDIS_URL"),
        exchange=_said(lambda: environment.choice("EXCHANGE", "simulator", ("simulator", "bybit-testnet", "bybit"))),
        simulator_url=simulator_url,
        paper_url=_local_url("PAPER_URL", beside, "paper venue"),
        market=_market(),
        engines=_said(lambda: environment.integer("BALLAST_ENGINES", 1, minimum=1, maximum=16)),
    )


def _port(name: str, default: int) -> int:
    return _said(lambda: environment.integer(name, default, minimum=1, maximum=65535))


def _said(read: Callable[[], Value]) -> Value:
    try:
        return read()
    except ImproperlyConfigured as error:
        raise StartRefused(str(error)) from None


def _local_url(name: str, default: str, what: str) -> str:
    value = environment.text(name) or default
    try:
        parts = urlsplit(value)
        is_local = parts.scheme == "http" and parts.hostname in {"127.0.0.1", "localhost"} and parts.port is not None
    except ValueError:
        is_local = False
    if not is_local:
        raise StartRefused(
            f"{name} is {value!r}; the {what} is started on this machine: expected http://127.0.0.1:PORT."
        )
    return value


def _market() -> Path | None:
    value = environment.text("MARKET")
    if not value:
        return None
    path = Path(value).expanduser().absolute()
    if not path.is_file() or not os.access(path, os.R_OK):
        raise StartRefused(f"MARKET is {value}, which is not a readable file: give the path of a recording.")
    return path
