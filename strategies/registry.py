"""Every strategy that can be configured: the built-in ones, and those that users put into a folder, one a file."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from strategies.base import Strategy
from strategies.files import FileProblem, FileRefused, StrategyFile, load_file
from strategies.library import STRATEGIES as BUILT_IN

log = logging.getLogger(__name__)
Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class _Found:
    """What the folder gave at one moment; swapped whole."""

    files: Mapping[str, StrategyFile] = field(default_factory=dict)
    problems: tuple[FileProblem, ...] = ()
    kinds: Mapping[str, type[Strategy]] = field(default_factory=dict)


class Registry(Mapping[str, type[Strategy]]):
    """Strategies by their key. :meth:`refresh` takes up what has changed in the folder; until then nothing changes.

    Files of the folder run with the rights of whoever loads them: the folder's own permissions say who may add one.
    """

    def __init__(self, built_in: Mapping[str, type[Strategy]], folder: Path | None = None) -> None:
        self._built_in, self._folder = MappingProxyType(dict(built_in)), folder
        self._found = _Found(kinds=self._built_in)
        # By file, with what it looked like when it was loaded, or refused.
        self._lock = threading.Lock()
        self._loaded: dict[Path, tuple[Stamp, StrategyFile | FileProblem]] = {}

    def __getitem__(self, key: str) -> type[Strategy]:
        return self._found.kinds[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found.kinds)

    def __len__(self) -> int:
        return len(self._found.kinds)

    @property
    def folder(self) -> Path | None:
        return self._folder

    @property
    def problems(self) -> tuple[FileProblem, ...]:
        """Files of the folder that give no strategy, and why."""
        return self._found.problems

    def file(self, key: str) -> StrategyFile | None:
        """The file that a strategy comes from; None for a built-in one."""
        return self._found.files.get(key)

    def code(self, key: str) -> str:
        """Which version of a strategy's file is loaded, by digest; empty for built-in ones, which the platform's own
        version names, and for unknown ones."""
        found = self.file(key)
        return found.digest if found is not None else ""

    def look_in(self, folder: Path | None) -> Registry:
        """From now on in this folder; None: nowhere."""
        self._folder, self._loaded, self._found = folder, {}, _Found(kinds=self._built_in)
        return self.refresh()

    def refresh(self) -> Registry:
        """Load files that are new or changed, forget those that are gone. A few system calls where nothing is; one that
        cannot be loaded is a problem, told to the log, and hinders no other."""
        with self._lock:
            stamps = {path: _stamp(path) for path in self._paths()}
            if stamps == {path: stamp for path, (stamp, _) in self._loaded.items()}:
                return self
            before, self._loaded = self._loaded, {}
            for path, stamp in stamps.items():
                known = before.get(path)
                self._loaded[path] = known if known is not None and known[0] == stamp else (stamp, _loaded(path))
            self._found = self._merged()
        return self

    def _paths(self) -> list[Path]:
        if self._folder is None:
            return []
        try:
            return sorted(path for path in self._folder.glob("*.py") if not path.name.startswith(("_", ".")))
        except OSError:
            return []

    def _merged(self) -> _Found:
        files: dict[str, StrategyFile] = {}
        problems = []
        for _, found in self._loaded.values():
            if isinstance(found, FileProblem):
                problems.append(found)
                continue
            key = found.kind.name
            other = "a built-in strategy" if key in self._built_in else files[key].path.name if key in files else ""
            if other:
                words = f"is named {key}, and so is {other}; give it a name of its own"
                problems.append(FileProblem(found.path.name, 0, words, found.digest))
            else:
                files[key] = found
        for problem in problems:
            log.error("a file of the strategies folder is left out: %s", problem)
        return _Found(files, tuple(problems), {**self._built_in, **{key: file.kind for key, file in files.items()}})


def _stamp(path: Path) -> Stamp:
    """What changes when a file does; zeros where it has gone meanwhile."""
    try:
        about = path.stat()
    except OSError:
        return (0, 0, 0)
    return (about.st_mtime_ns, about.st_size, about.st_ino)


def _loaded(path: Path) -> StrategyFile | FileProblem:
    try:
        return load_file(path)
    except FileRefused as refused:
        return refused.problem


STRATEGIES = Registry(BUILT_IN)
