"""A new strategy of a user's own: a file that works, to be changed."""

from __future__ import annotations

import keyword
import re
from collections.abc import Collection
from pathlib import Path
from string import Template

from strategies.contract import KEY_LENGTH

NAME = re.compile(r"[a-z][a-z0-9_]*")
TEMPLATES = Path(__file__).parent / "new"


class NewFileRefused(ValueError):
    """Why no file is written; the message says what to do."""


def write_new(folder: Path, name: str, *, of_books: bool, taken: Collection[str]) -> Path:
    """Write the file of a strategy called ``name``, which nobody else has (``taken``), and return its path.

    Raises:
        NewFileRefused: a name that cannot be or is taken, a file that is there, a folder that cannot be written to.
    """
    if not NAME.fullmatch(name) or keyword.iskeyword(name) or len(name) > KEY_LENGTH:
        raise NewFileRefused(
            f"{name!r} cannot be the name of a strategy; expected up to {KEY_LENGTH} small letters, digits and "
            "underscores that begin with a letter and are no word of Python, as in my_average_cross"
        )
    path = folder / f"{name}.py"
    if name in taken:
        raise NewFileRefused(f"there is a strategy {name} already; choose another name")
    source = Template((TEMPLATES / ("books.txt" if of_books else "candles.txt")).read_text()).substitute(
        name=name,
        title=name.replace("_", " ").capitalize(),
        class_name="".join(part.capitalize() for part in name.split("_")),
    )
    try:
        if not folder.is_dir():
            folder.mkdir(parents=True)
        with path.open("x") as file:
            file.write(source)
    except OSError as error:
        if path.exists():
            raise NewFileRefused(f"{path} is there already; remove it, or choose another name") from None
        raise NewFileRefused(
            f"{path} cannot be written: {error.strerror}; let STRATEGIES_DIR name another folder"
        ) from error
    return path
