from __future__ import annotations

import gzip
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from audit import selectors
from audit.chain import PLATFORM, Head
from audit.offline_verifier import FORMAT, VERSION, Section, export_line
from audit.services import time_text

# Higher levels take several times as long for a few per cent.
COMPRESSION = 5


class Command(BaseCommand):
    help = "Export audit chains into a file that audit/offline_verifier.py verifies without this deployment."

    def add_arguments(self, parser: ArgumentParser) -> None:
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--account", type=int, metavar="NUMBER", help="the chain of one account")
        which.add_argument("--platform", action="store_true", help="the platform's chain")
        which.add_argument("--all", action="store_true", help="every chain")
        parser.add_argument("--since", help="leave out what is older, like 2026-01-31T00:00:00Z")
        parser.add_argument("file", type=Path, help="JSON lines; compressed when its name ends with .gz")

    def handle(self, *args: Any, **options: Any) -> None:
        since = self._since(options["since"])
        heads = selectors.chain_heads()
        if not options["all"]:
            chain = PLATFORM if options["platform"] else f"account:{options['account']}"
            heads = [head for head in heads if head.chain == chain]
            if not heads:
                raise CommandError(f"nothing was ever recorded on the chain {chain}")
        sections = [section(head, since) for head in heads]
        header = {
            "format": FORMAT,
            "version": VERSION,
            "made_at": time_text(timezone.now()),
            "scope": "all" if options["all"] else heads[0].chain,
            "chains": [{name: getattr(each, name) for name in Section.__slots__} for each in sections],
        }
        # Beside it first: a file with the name is a whole one.
        unfinished = options["file"].with_name(f"{options['file'].name}.unfinished")
        try:
            with opened(unfinished, compressed=options["file"].suffix == ".gz") as file:
                file.write(export_line(header))
                for each in sections:
                    with closing(selectors.exported_rows(each.chain, each.after + 1, each.sequence)) as rows:
                        file.writelines(export_line(row) for row in rows)
            unfinished.replace(options["file"])
        except OSError as error:
            raise CommandError(f"{options['file']} cannot be written: {error}") from error
        finally:
            unfinished.unlink(missing_ok=True)
        for each in sections:
            self.stdout.write(f"{each.sequence - each.after} events, head {each.head}")

    def _since(self, text: str | None) -> datetime | None:
        if text is None:
            return None
        try:
            found = parse_datetime(text) or parse_datetime(f"{text}T00:00:00Z")
        except ValueError:
            found = None
        if found is None:
            raise CommandError(f"--since is {text!r}; expected a time like 2026-01-31 or 2026-01-31T12:00:00Z")
        return found if timezone.is_aware(found) else found.replace(tzinfo=UTC)


def section(head: Head, since: datetime | None) -> Section:
    after = 0 if since is None else min(selectors.first_since(head.chain, since) - 1, head.sequence)
    return Section(head.chain, after, selectors.hash_of(head.chain, after), head.sequence, head.hash)


@contextmanager
def opened(path: Path, *, compressed: bool) -> Iterator[BinaryIO]:
    with path.open("wb", buffering=1 << 20) as plain:
        if not compressed:
            yield plain
            return
        with gzip.GzipFile("", "wb", COMPRESSION, plain) as file:
            yield file  # type: ignore[misc]
