from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from strategies.new_file import NewFileRefused, write_new
from strategies.registry import STRATEGIES


class Command(BaseCommand):
    help = "Write a new strategy into the strategies folder: a working one of two moving averages, to be changed."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="small letters, digits and underscores, as in my_average_cross")
        parser.add_argument("--book", action="store_true", help="one of order books instead of candles")

    def handle(self, *args: Any, **options: Any) -> None:
        name = options["name"]
        try:
            path = write_new(settings.STRATEGIES_DIR, name, of_books=options["book"], taken=STRATEGIES)
        except NewFileRefused as refused:
            raise CommandError(str(refused)) from refused
        self.stdout.write(
            f"Written: {path}\n\n"
            f"1. Change its rule, its parameters and its words; the comments say what is what.\n"
            f"2. Check it: manage.py check_strategy {name}\n"
            f"3. It is on the page /strategies/{name}/ now; add it to an account there and enable it.\n"
            "   Engines run the code that was there when it was enabled: after a change, enable it again."
        )
