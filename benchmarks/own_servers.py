"""PostgreSQL and Valkey of a benchmark's own, thrown away with it, and Django on them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from tests.services import TestServices


@contextmanager
def own_servers() -> Iterator[None]:
    """Models can be imported within, and their tables are there. A server that the environment names is used as it
    is."""
    services = TestServices()
    try:
        services.start()
        os.environ.update(services.environment)
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "platform_site.settings")
        os.environ.setdefault("BALLAST_SECRET_KEY", "a-key-for-a-benchmark-" + "x" * 40)
        if "DATABASE_URL" in services.environment:
            create_database()
        import django

        django.setup()
        from django.core.management import call_command

        call_command("migrate", interactive=False, verbosity=0)
        yield
    finally:
        services.stop()


def create_database() -> None:
    """The one that DATABASE_URL names, on its server."""
    server, _, name = os.environ["DATABASE_URL"].rpartition("/")
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
