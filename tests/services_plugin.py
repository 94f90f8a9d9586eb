"""Starts the test run's PostgreSQL and Valkey before Django's settings are read.

Loaded with ``-p tests.services_plugin`` (pyproject's addopts): pytest-django reads the settings before any conftest, so
a conftest would be too late to say where the database is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator
from urllib.parse import urlsplit, urlunsplit

import pytest
from cryptography.fernet import Fernet

from platform_site.supervisor.refusals import StartRefused
from tests.services import ServiceDidNotStart, TestServices

NAME = "tests.services_plugin"
# Set for the workers of xdist and for nested runs: the servers are there already.
SERVED = "BALLAST_TEST_SERVICES"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config, args: list[str]) -> Generator[None]:
    if SERVED in os.environ:
        use_own_share_of_valkey(os.environ.get("PYTEST_XDIST_WORKER", ""))
    elif not {"--help", "-h", "--version", "-V"} & set(args):
        start_services(early_config)
    return (yield)


def start_services(config: pytest.Config) -> None:
    services = TestServices()
    config.add_cleanup(services.stop)
    try:
        services.start()
    except (StartRefused, ServiceDidNotStart) as error:
        raise pytest.UsageError(str(error)) from None
    os.environ.update(services.environment)
    os.environ.setdefault("BALLAST_SECRET_KEY", "a-key-for-tests-" + "x" * 40)
    os.environ.setdefault("BALLAST_MASTER_KEY", Fernet.generate_key().decode())
    os.environ.setdefault("BALLAST_REDIS_PREFIX", "test")
    # "embedded": the database is thrown away with its server.
    os.environ[SERVED] = "embedded" if "DATABASE_URL" in services.environment else "external"
    # xdist's workers do not read addopts; this variable makes them load the plugin as early as here.
    os.environ["PYTEST_PLUGINS"] = ",".join(filter(None, [os.environ.get("PYTEST_PLUGINS"), NAME]))


def use_own_share_of_valkey(worker: str) -> None:
    """Gives each xdist worker a database number, and a prefix because publish/subscribe ignores the number."""
    match = re.fullmatch(r"gw(\d+)", worker)
    if match is None:
        return
    parts = urlsplit(os.environ["REDIS_URL"])
    number = 1 + int(match[1]) % 15
    os.environ["REDIS_URL"] = urlunsplit(parts._replace(path=f"/{number}"))
    os.environ["BALLAST_REDIS_PREFIX"] = f"test-{worker}"
