"""``manage.py up``: starts the whole platform on this machine and supervises it until Ctrl-C."""

from __future__ import annotations

import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from platform_site.supervisor.configuration import read_configuration
from platform_site.supervisor.console import Console
from platform_site.supervisor.launch import Launch
from platform_site.supervisor.refusals import StartRefused

REFUSED = 2


class Command(BaseCommand):
    help = "Starts PostgreSQL, Valkey, the simulator, web, engine, worker and beat; Ctrl-C stops them all."
    # The database does not run yet, and the children check their own settings.
    requires_system_checks = []

    def handle(self, *arguments: Any, **options: Any) -> None:
        try:
            Launch(read_configuration(settings.BASE_DIR), Console(sys.stdout)).run()
        except StartRefused as error:
            self.stderr.write(f"Ballast cannot start: {error}")
            sys.exit(REFUSED)
