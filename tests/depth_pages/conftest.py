"""What tests of the depth pages share: a browser page that is logged in, on an emptied Valkey."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from django.conf import settings
from django.test import Client
from playwright.sync_api import Browser, Page, expect

from marketdata.depth import selectors
from tests import builders
from tests.chromium import running_chromium
from tests.processes import ServerProcess

expect.set_options(timeout=30_000)
DESKTOP = {"width": 1440, "height": 900}


@pytest.fixture(autouse=True)
def emptied(transactional_db: None) -> Iterator[None]:
    """No books and no minutes of other tests, in the cache neither."""
    selectors.hot()._redis.flushdb()
    yield
    selectors.hot()._redis.flushdb()


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One browser for the tests of all pages: they are many small modules."""
    with running_chromium() as chromium:
        yield chromium


@pytest.fixture
def stranger(browser: Browser) -> Iterator[Page]:
    """A page of somebody who is not logged in."""
    context = browser.new_context(viewport=DESKTOP, accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(30_000)
    yield page
    context.close()


@pytest.fixture
def log_in(stranger: Page, site: ServerProcess) -> Callable[..., Page]:
    """Makes a user and gives the page their session: ``log_in("sam", is_staff=True)``."""

    def begin(name: str, **options: bool) -> Page:
        client = Client()
        client.force_login(builders.user(name, **options))
        session = client.cookies[settings.SESSION_COOKIE_NAME].value
        stranger.context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": session, "url": site.url}])
        return stranger

    return begin


@pytest.fixture
def page(log_in: Callable[..., Page]) -> Page:
    """Alice's page."""
    return log_in("alice")
