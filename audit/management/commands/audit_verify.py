from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from audit import selectors


class Command(BaseCommand):
    help = "Verify every audit chain: finds any altered, removed or reordered event."

    def handle(self, *args: Any, **options: Any) -> None:
        broken = 0
        for name in selectors.chain_names():
            found = selectors.chain_break(name)
            if found is None:
                self.stdout.write(f"{name}: unbroken")
            else:
                broken += 1
                self.stdout.write(self.style.ERROR(f"{name}: broken at event {found.sequence}: {found.reason}"))
        if broken:
            raise CommandError(f"{broken} of the audit chains are broken.")
