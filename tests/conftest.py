"""Fixtures that every test may use: the database, processes started from the repository, the simulator, a browser."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import pytest
from django.conf import settings
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.core.cache import cache
from django.db import connection, transaction
from django.test import TransactionTestCase
from playwright.sync_api import Browser
from pytest_django.plugin import DjangoDbBlocker

from audit.models import AuditEvent
from tests import processes, services_plugin
from tests.chromium import running_chromium
from tests.processes import RunningProcess, ServerProcess, start_site


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest begins first: one that a worker took up at the end would leave the other without work."""
    items.sort(key=lambda item: item.get_closest_marker("first") is None)


@pytest.fixture(scope="session")
def django_db_modify_db_settings(request: pytest.FixtureRequest) -> None:
    """Refuses to touch a database that is not the test run's own."""
    if services_plugin.SERVED not in os.environ:
        pytest.exit(
            "The test services are not running: start pytest with `-p tests.services_plugin`, as `make test` does.",
            returncode=4,
        )
    if request.config.pluginmanager.hasplugin("xdist"):
        request.getfixturevalue("django_db_modify_db_settings_parallel_suffix")


@pytest.fixture(scope="session")
def django_db_keepdb(request: pytest.FixtureRequest) -> bool:
    """The embedded server is thrown away whole: dropping its databases first would only wait for their last users."""
    return os.environ.get(services_plugin.SERVED) == "embedded" or bool(request.config.option.reuse_db)


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Lets tests with real transactions clean up after themselves, and quickly.

    The audit trail refuses TRUNCATE by design. Only that one trigger is dropped: changing and deleting audit rows stay
    forbidden in tests as in production.
    """
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute("SELECT tgrelid::regclass::text FROM pg_trigger WHERE tgname = 'audit_event_no_truncate'")
        for (table,) in cursor.fetchall():
            cursor.execute(f"DROP TRIGGER audit_event_no_truncate ON {table}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", delete_rows)
        yield


def delete_rows(case: TransactionTestCase) -> None:
    """Empties the database: TRUNCATE of every table, which is Django's way, takes 0.3 s and more after each test."""
    audit_trail, kept = AuditEvent._meta.db_table, {ContentType._meta.db_table, Permission._meta.db_table}
    tables = connection.introspection.django_table_names(only_existing=True, include_views=False)
    statements = [f'DELETE FROM "{table}"' for table in tables if table not in {audit_trail, *kept}]
    with transaction.atomic(), connection.cursor() as cursor:  # foreign keys are checked when it commits
        cursor.execute("; ".join([f'TRUNCATE "{audit_trail}"', *statements]))


@pytest.fixture(scope="session", autouse=True)
def quick_passwords() -> Iterator[None]:
    """Passwords in one round of the deployment's own hash, which its processes verify: the usual million take 0.3 s."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PBKDF2PasswordHasher, "iterations", 1)
        yield


@pytest.fixture
def clean_cache() -> Iterator[None]:
    """An empty cache before and after the test."""
    cache.clear()
    yield
    cache.clear()


@pytest.fixture(scope="session")
def worker_environment(django_db_setup: None) -> dict[str, str]:
    """The environment of a process that shall see this worker's database and Valkey."""
    configuration = connection.settings_dict
    parts = urlsplit(os.environ["DATABASE_URL"])
    database_url = urlunsplit(parts._replace(path=f"/{quote(str(configuration['NAME']), safe='')}"))
    return {**os.environ, "DATABASE_URL": database_url, "REDIS_URL": settings.REDIS_URL, "PYTHONUNBUFFERED": "1"}


@pytest.fixture
def process_environment(transactional_db: None, worker_environment: dict[str, str]) -> dict[str, str]:
    """The environment of a process of this test, which sees its rows: they are committed."""
    return worker_environment


@pytest.fixture
def start_process(process_environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., RunningProcess]]:
    """Starts management commands on this test's database: ``start_process("runengine", SIMULATOR_URL=...)``."""
    running: list[RunningProcess] = []

    def start(*arguments: str, **settings: str) -> RunningProcess:
        log = tmp_path / f"{arguments[0]}-{len(running)}.log"
        process = RunningProcess.start(["manage.py", *arguments], {**process_environment, **settings}, log)
        running.append(process)
        return process

    yield start
    for process in running:
        process.ask_to_stop()
    for process in running:
        process.stop()


@pytest.fixture(scope="session")
def site(worker_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The real web process on the worker's database, with pages and websockets, for tests that do not end it.

    Of the session: it does nothing unless it is asked, and takes seconds to start.
    """
    server = start_site(tmp_path_factory.mktemp("site") / "web.log", worker_environment)
    yield server
    server.stop()


@pytest.fixture
def start_simulator(tmp_path: Path) -> Iterator[Callable[..., ServerProcess]]:
    """Starts exchange simulators with the arguments given to it (``"--seed", "7"``); they end with the test."""
    running: list[ServerProcess] = []

    def start(*arguments: str) -> ServerProcess:
        simulator = processes.start_simulator(tmp_path / f"simulator-{len(running)}.log", arguments)
        running.append(simulator)
        return simulator

    yield start
    for simulator in running:
        simulator.stop()


@pytest.fixture
def fresh_simulator(start_simulator: Callable[..., ServerProcess]) -> ServerProcess:
    """A simulator of this test's own: nobody else's orders, and it may be killed."""
    return start_simulator("--symbols", "3")


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One simulator for a module's tests, for those that do not mind what others did to it."""
    server = processes.start_simulator(tmp_path_factory.mktemp("simulator") / "simulator.log", ("--symbols", "3"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real Chromium, through Playwright's blocking interface.

    Of one module, not of the session: while it is open an event loop runs in this thread, and asyncio tests cannot
    start theirs.
    """
    with running_chromium() as chromium:
        yield chromium
