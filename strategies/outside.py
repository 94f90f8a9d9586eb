"""What a strategy's file uses besides the data that it is told: read from its text, before anything runs."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

_CLOCK = "a strategy reads no clock: time comes with the data, so that a replay decides as the live run did"
_CHANCE = "random numbers make a replay decide otherwise than the live run did"
_REST = "a strategy decides by the data that it is told, and nothing else"
MODULES = {
    "time": _CLOCK,
    "random": _CHANCE,
    "secrets": _CHANCE,
    "uuid": _CHANCE,
    **dict.fromkeys(("requests", "urllib", "http", "socket", "aiohttp", "websockets", "redis", "subprocess"), _REST),
    **dict.fromkeys(("sqlite3", "psycopg", "django", "ccxt", "pybit", "threading", "asyncio"), _REST),
}
NOW = ("now", "utcnow", "today")


def reads_outside(file: str) -> Iterator[tuple[int, str]]:
    """Line and words of everything suspicious in the file."""
    try:
        tree = ast.parse(Path(file).read_text())
    except (OSError, SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        words = _of_import(node) or _of_call(node)
        if words:
            yield getattr(node, "lineno", 0), words


def _of_import(node: ast.AST) -> str:
    names: list[str] = []
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.level == 0:
        names = [node.module or ""]
    for name in names:
        if name.split(".")[0] in MODULES:
            return f"imports {name}: {MODULES[name.split('.')[0]]}"
    return ""


def _of_call(node: ast.AST) -> str:
    if not isinstance(node, ast.Call):
        return ""
    if isinstance(node.func, ast.Name) and node.func.id == "open":
        return f"opens a file: {_REST}"
    if isinstance(node.func, ast.Attribute):
        if node.func.attr in NOW and _name(node.func.value) in ("datetime", "date"):
            return f"calls {_name(node.func.value)}.{node.func.attr}: {_CLOCK}"
        if _name(node.func.value) == "random":
            return f"calls random.{node.func.attr}: {_CHANCE}"
    return ""


def _name(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
