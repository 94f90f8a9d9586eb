"""What the commands that replay recordings have in common."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from marketdata.feeds.book_replay import Replay
from marketdata.feeds.recorded import RecordingError, read_recording

LINES_AT_ONCE = 512
BAD_FILE = 2


class RecordingCommand(BaseCommand):
    """Replays the files and prints what :meth:`lines` makes of them. A bad file ends it with exit code 2."""

    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", nargs="+", type=Path, help="a recording; several are read as one, in their order")
        parser.add_argument("--symbol", help="only the books of this symbol")
        parser.add_argument("--category", choices=["linear", "spot", "inverse"], help="only this market of Bybit")

    def handle(self, *args: Any, **options: Any) -> None:
        replay = Replay(options["symbol"], options["category"])
        lines = self.lines(replay, chain.from_iterable(map(read_recording, options["file"])), options)
        try:
            while chunk := list(islice(lines, LINES_AT_ONCE)):
                self.stdout.write("\n".join(chunk))
        except RecordingError as error:
            raise CommandError(str(error), returncode=BAD_FILE) from None
        except BrokenPipeError:
            # Whoever read the lines (head, a pager) has seen enough; Python would complain once more at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def lines(self, replay: Replay, frames: Any, options: dict[str, Any]) -> Iterator[str]:
        raise NotImplementedError


def require_books(replay: Replay, options: dict[str, Any]) -> None:
    """Raises RecordingError when no book message was judged."""
    if replay.counts.messages == 0:
        names, symbol = ", ".join(path.name for path in options["file"]), options["symbol"]
        of = f" of {symbol}" if symbol else ""
        waits = f"; {replay.waiting} updates wait for a snapshot that never comes" if replay.waiting else ""
        raise RecordingError(f"{names} holds no order-book message{of} that could be judged{waits}")
