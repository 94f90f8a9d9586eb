"""One strategy in one file of a user's folder: read, compiled and looked at, or refused with line and reason."""

from __future__ import annotations

import ast
import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import cast

from strategies.base import Strategy
from strategies.call_watch import CallWatch, Overrun
from strategies.contract import is_strategy, violations
from strategies.faults import place_of, words_of

IMPORT_SECONDS = 10.0
LARGEST_BYTES = 1_000_000
PACKAGE = "ballast_strategy_files"


@dataclass(frozen=True, slots=True)
class StrategyFile:
    """A strategy of the folder as it was read. ``digest``: SHA-256 of the file, hexadecimal."""

    path: Path
    digest: str
    kind: type[Strategy]


@dataclass(frozen=True, slots=True)
class FileProblem:
    """Why a file gives no strategy; ``line`` 0 where it is about the file as a whole."""

    file: str
    line: int
    words: str
    digest: str = ""

    def __str__(self) -> str:
        return f"{self.file}{f':{self.line}' if self.line else ''}: {self.words}"


class FileRefused(Exception):
    def __init__(self, problem: FileProblem) -> None:
        self.problem = problem
        super().__init__(str(problem))


def load_file(path: Path, seconds: float = IMPORT_SECONDS) -> StrategyFile:
    """The strategy that a file defines. What is compiled is exactly what the digest was made of.

    Raises:
        FileRefused: it cannot be read, does not import, takes longer than ``seconds``, or defines no strategy, several,
            or one that misses something.
    """
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise FileRefused(FileProblem(path.name, 0, f"is larger than {LARGEST_BYTES} bytes"))
        source = path.read_bytes()
    except OSError as error:
        raise FileRefused(FileProblem(path.name, 0, f"cannot be read: {error.strerror}")) from error
    digest = hashlib.sha256(source).hexdigest()
    module = ModuleType(f"{PACKAGE}.{path.stem}_{digest[:12]}")
    module.__file__ = str(path)
    try:
        tree = ast.parse(source, str(path))
        code = compile(tree, str(path), "exec", dont_inherit=True)
        # By that name numba, dataclasses and pickles find what it defines.
        sys.modules[module.__name__] = module
        with CallWatch(seconds) as watch:
            watch.call(path.name, exec, code, module.__dict__)
        return StrategyFile(path, digest, _only_strategy(module, tree, path, digest))
    except KeyboardInterrupt:
        raise
    except FileRefused:
        sys.modules.pop(module.__name__, None)
        raise
    except BaseException as error:
        sys.modules.pop(module.__name__, None)
        words = words_of(error)
        if isinstance(error, Overrun):
            words = f"is still busy {seconds:g} s after its import began; only definitions belong there"
        elif isinstance(error, SystemExit):
            words = "ends the process when it is imported; only definitions belong there"
        place = place_of(error, str(path))
        line = place.line if place.file == str(path) else 0
        raise FileRefused(FileProblem(path.name, line, words, digest)) from error


def _only_strategy(module: ModuleType, tree: ast.Module, path: Path, digest: str) -> type[Strategy]:
    lines = {node.name: node.lineno for node in tree.body if isinstance(node, ast.ClassDef)}
    kinds = [
        found
        for name, found in vars(module).items()
        if name in lines and not name.startswith("_") and is_strategy(found) and found.__module__ == module.__name__
    ]
    if not kinds:
        line = next(iter(lines.values()), 0)
        words = "defines no strategy: a class with create, on_book, on_trade and on_candle (see strategies.base)"
        raise FileRefused(FileProblem(path.name, line, words, digest))
    if len(kinds) > 1:
        words = f"defines {len(kinds)} strategies ({', '.join(kind.__name__ for kind in kinds)}); expected one a file"
        raise FileRefused(FileProblem(path.name, lines[kinds[1].__name__], words, digest))
    if wrong := violations(kinds[0]):
        words = f"{kinds[0].__name__}: {'; '.join(wrong)}"
        raise FileRefused(FileProblem(path.name, lines[kinds[0].__name__], words, digest))
    return cast("type[Strategy]", kinds[0])
