"""``manage.py prepare_database``: what a start needs of the database, in one process: its tables and the demo users."""

from __future__ import annotations

from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand


class Command(BaseCommand):
    help = "Brings the database up to date: migrate, then seed_demo."

    def handle(self, *arguments: Any, **options: Any) -> None:
        call_command("migrate", interactive=False, skip_checks=True, stdout=self.stdout)
        call_command("seed_demo", skip_checks=True, stdout=self.stdout)
