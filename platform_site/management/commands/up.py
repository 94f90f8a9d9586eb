"""``manage.py up``: starts the whole platform on this machine and supervises it until Ctrl-C."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand

from platform_site.supervisor.command import main


class Command(BaseCommand):
    help = "Starts PostgreSQL, Valkey, the simulator, web, engine, worker and beat; Ctrl-C stops them all."
    # The database does not run yet, and the children check their own settings.
    requires_system_checks = []

    def handle(self, *arguments: Any, **options: Any) -> None:
        sys.exit(main())
