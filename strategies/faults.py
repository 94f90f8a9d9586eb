"""Where in a strategy's own file an error came from: what its author wants to know, not where the library noticed."""

from __future__ import annotations

import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import FrameType


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a file; ``line`` 0 where none is known."""

    file: str
    line: int
    function: str = ""

    def __str__(self) -> str:
        line = f":{self.line}" if self.line else ""
        return f"{Path(self.file).name}{line}{f' in {self.function}' if self.function else ''}"


def file_of(kind: type) -> str:
    return str(getattr(sys.modules.get(kind.__module__), "__file__", None) or "")


def place_of(error: BaseException, file: str) -> Place:
    """The innermost line of ``file`` on the error's way; of another file's where it has no part in it."""
    if isinstance(error, SyntaxError) and error.filename == file:
        return Place(file, error.lineno or 0)
    steps = [Place(step.filename, step.lineno or 0, step.name) for step in traceback.extract_tb(error.__traceback__)]
    own = [step for step in steps if step.file == file]
    return (own or steps or [Place(file, 0)])[-1]


def place_of_frame(frame: FrameType | None, file: str) -> Place:
    """The same of code that runs now."""
    steps = []
    while frame is not None:
        steps.append(Place(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name))
        frame = frame.f_back
    own = [step for step in steps if step.file == file]
    return (own or steps or [Place(file, 0)])[0]


def words_of(error: BaseException) -> str:
    """An error in one line."""
    text = str(error).strip().split("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
