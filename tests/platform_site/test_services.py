"""The servers under every test: real, this run's own, and apart from each other's workers."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.core.cache import cache
from django.db import connection
from playwright.sync_api import Browser

from tests.processes import RunningProcess


@pytest.mark.django_db
def test_the_test_database_is_the_run_s_own_postgresql_18() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_database(), current_setting('server_version_num')::int / 10000")
        name, major = cursor.fetchone()
    assert name.startswith("test_ballast")
    assert major == 18
    assert connection.settings_dict["PORT"] != "54329"


def test_each_worker_has_its_own_valkey_database_and_prefix() -> None:
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    number = int(worker.removeprefix("gw")) + 1 if worker else 0
    assert f"/{number}" == "/" + settings.REDIS_URL.rpartition("/")[2]
    assert (f"test-{worker}" if worker else "test") == settings.REDIS_PREFIX


def test_the_cache_is_a_server_that_keeps_what_it_is_given(clean_cache: None) -> None:
    cache.set("answer", 42, timeout=5)
    assert cache.get("answer") == 42


def test_a_process_started_by_a_test_sees_the_test_s_committed_rows(
    start_process: Callable[..., RunningProcess], django_user_model: type[User]
) -> None:
    django_user_model.objects.create_user("alice")
    code = "from django.contrib.auth.models import User; print(*User.objects.values_list('username', flat=True))"
    process = start_process("shell", "--no-imports", "-c", code)
    assert process.process.wait(30) == 0
    assert "alice" in process.log.read_text()


@pytest.mark.browser
def test_the_browser_opens_a_page(browser: Browser) -> None:
    page = browser.new_page()
    page.set_content("<h1>Ballast</h1>")
    assert page.inner_text("h1") == "Ballast"


@pytest.mark.django_db
def test_tests_may_empty_the_audit_table_and_nothing_else_of_its_protection_is_lifted() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT tgname FROM pg_trigger WHERE tgrelid = 'audit_auditevent'::regclass AND NOT tgisinternal"
        )
        triggers = {name for (name,) in cursor.fetchall()}
    assert triggers
    assert "audit_event_no_truncate" not in triggers
