from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from audit import heads, selectors
from audit.chain import Head


class Command(BaseCommand):
    help = (
        "Verify every audit chain: finds any altered, removed or reordered event; with heads that were noted earlier "
        "(here, and in the file that the worker keeps) also a trail that was cut off or written anew."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--head", action="append", default=[], help="noted earlier: CHAIN#SEQUENCE=HASH")
        parser.add_argument("--heads", action="append", default=[], type=Path, help="a file of heads, one a line")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            noted = [Head.parse(text) for text in options["head"]]
            for file in [settings.AUDIT_HEADS_FILE, *options["heads"]]:
                if file in options["heads"] and not file.exists():
                    raise CommandError(f"{file} is not there")
                noted += heads.kept(file)
        except (OSError, ValueError) as error:
            raise CommandError(str(error)) from error
        broken = 0
        for name, found in selectors.trail_breaks(noted).items():
            if found is None:
                self.stdout.write(f"{name}: unbroken")
            else:
                broken += 1
                self.stdout.write(self.style.ERROR(f"{name}: broken at event {found.sequence}: {found.reason}"))
        for head in selectors.chain_heads()[:1]:
            self.stdout.write(f"head {head}; compared with {len(noted)} that were noted earlier")
        gaps = selectors.unprotected()
        for gap in gaps:
            self.stdout.write(self.style.ERROR(f"the database does not refuse changes of the trail: {gap}"))
        if broken:
            raise CommandError(f"{broken} of the audit chains are broken.")
        if gaps:
            raise CommandError("the chains are unbroken, but the database does not protect them; see above.")
