"""What the person at the terminal sees: lifecycle lines only, everything else is in the logs."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TextIO


class Console:
    """Writes lines until the terminal is gone; ``is_gone`` then says so, because nobody can press Ctrl-C any more."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.is_gone = False

    def event(self, name: str, text: str) -> None:
        """One timed line about one process."""
        self.lines([f"{time.strftime('%H:%M:%S')}  {name:<10} {text}"])

    def lines(self, lines: Iterable[str]) -> None:
        if self.is_gone:
            return
        try:
            self._stream.write("".join(f"{line}\n" for line in lines))
            self._stream.flush()
        except (OSError, ValueError):
            self.is_gone = True
