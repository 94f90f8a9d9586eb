"""A browser page that is logged in, on a web process that has a strategies folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client
from playwright.sync_api import Browser, Page, expect

from tests.processes import ServerProcess, start_site
from tests.strategies.own import written

expect.set_options(timeout=30_000)
DESKTOP = {"width": 1440, "height": 900}


@pytest.fixture(scope="module")
def own_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("strategies")
    written(folder, "mine")
    (folder / "broken.py").write_text("import nothing_of_that_name\n")
    return folder


@pytest.fixture(scope="module")
def site(
    worker_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory, own_folder: Path
) -> Iterator[ServerProcess]:
    environment = {**worker_environment, "STRATEGIES_DIR": str(own_folder)}
    server = start_site(tmp_path_factory.mktemp("site") / "web.log", environment)
    yield server
    server.stop()


@pytest.fixture
def log_in(browser: Browser, site: ServerProcess) -> Iterator[Callable[..., Page]]:
    """A page with somebody's session: ``log_in(user)``."""
    context = browser.new_context(viewport=DESKTOP)
    page = context.new_page()
    page.set_default_timeout(30_000)

    def begin(user: object) -> Page:
        client = Client()
        client.force_login(user)
        session = client.cookies[settings.SESSION_COOKIE_NAME].value
        context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": session, "url": site.url}])
        return page

    yield begin
    context.close()
