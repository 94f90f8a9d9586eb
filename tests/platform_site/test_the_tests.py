"""What every test in this repository owes."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
# What counts as a judgement besides the statement itself: pytest.raises, Playwright's expect, shared helpers that fail.
JUDGES = ("raises", "warns", "fail", "expect", "assert", "judge", "until")


def functions_of(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield node


def judges(node: ast.AST) -> bool:
    if isinstance(node, ast.Assert):
        return True
    if not isinstance(node, ast.Call):
        return False
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    return name.startswith(JUDGES)


def test_every_test_asserts_something() -> None:
    silent = [
        f"{path.relative_to(TESTS)}::{test.name}"
        for path in sorted(TESTS.rglob("test_*.py"))
        for test in functions_of(path)
        if not any(judges(node) for node in ast.walk(test))
    ]
    assert silent == []
