"""What the collector was told to collect, and a small file of it for a start without the database."""

from __future__ import annotations

import logging
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

log = logging.getLogger(__name__)

SYMBOL = re.compile(r"[A-Z0-9]{5,20}")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What shall be collected, from where. Nothing while it does not run."""

    running: bool
    rest: frozenset[str]
    stream: frozenset[str]


class WantedFile:
    """The newest word of the database. Only the process that collects keeps it: one that lost its lease forgets it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept: Wanted | None = None

    def keep(self, wanted: Wanted) -> None:
        """Raises OSError: it cannot be written."""
        if wanted == self._kept:
            return
        rows = {"running": wanted.running, "rest": sorted(wanted.rest), "stream": sorted(wanted.stream)}
        new = self._path.with_suffix(".new")
        with new.open("wb") as file:
            file.write(orjson.dumps(rows))
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._path)
        self._kept = wanted

    def read(self) -> Wanted | None:
        """None where there is none, or none that can be read."""
        try:
            rows = orjson.loads(self._path.read_bytes())
            return Wanted(rows["running"] is True, _symbols(rows["rest"]), _symbols(rows["stream"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.error("%s does not say what was collected last: %s", self._path, error)
            return None

    def forget(self) -> None:
        self._kept = None
        with suppress(FileNotFoundError):
            self._path.unlink()


def _symbols(names: Any) -> frozenset[str]:
    if not isinstance(names, list) or not all(isinstance(name, str) and SYMBOL.fullmatch(name) for name in names):
        raise ValueError("a list of symbols is expected")
    return frozenset(names)
