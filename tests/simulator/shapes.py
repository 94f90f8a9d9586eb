"""The official examples of Bybit's documentation, and how an answer's shape differs from one: in keys and JSON types,
never in values."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests import recordings

NAMES = {dict: "object", list: "list", str: "text", bool: "boolean", int: "number", float: "number", type(None): "null"}
# Objects whose keys are coins: their values are compared, not the coin that the example happens to have.
BY_COIN = frozenset({"cumFeeDetail"})


@dataclass(frozen=True, slots=True)
class Example:
    """One documented JSON body. ``name`` is a REST path or a websocket topic."""

    file: str
    name: str
    tab: str
    section: str
    body: Any


@dataclass(slots=True)
class Difference:
    """``missing`` and ``mistyped`` say what the example has there, ``extra`` what the answer has."""

    missing: dict[str, str] = field(default_factory=dict)
    mistyped: dict[str, str] = field(default_factory=dict)
    extra: dict[str, str] = field(default_factory=dict)
    empty: list[str] = field(default_factory=list)


def official_examples() -> list[Example]:
    """All parsed examples of the documentation; skips the test where the recorded data is absent."""
    found = sorted((recordings.FOLDER / "rest" / "bybit-docs-examples").glob("*.jsonl.gz"))
    if not found:
        pytest.skip(f"needs Bybit's official examples under {recordings.FOLDER} (set MARKET_DATA_DIR)")
    with gzip.open(found[0], "rt") as lines:
        return [example for line in lines for example in _examples(json.loads(line))]


def _examples(row: dict[str, Any]) -> Iterator[Example]:
    if row["kind"] == "json":
        body = row["body"]
    elif row["kind"] == "unparsed_json":
        try:
            body = _repaired(row["text"])
        except ValueError:
            return  # who needs this one is told that there is no example
    else:
        return
    name = str(row["path"] or row["topic"] or "")
    yield Example(row["file"], name, str(row["tab"]), str(row["section"]).strip(), body)


def _repaired(text: str) -> Any:
    """The first JSON value of a documented text that has comments around it or dots for what it leaves out."""
    text = re.sub(r",?\s*\.{3,}", "", text[text.index("{") :])
    return json.JSONDecoder().raw_decode(text)[0]


def compare(example: Any, answer: Any, path: str, difference: Difference) -> None:
    """Note where ``answer`` has not the shape of ``example``."""
    if NAMES[type(example)] != NAMES[type(answer)]:
        difference.mistyped[path] = f"{json.dumps(example)[:60]} in the example, {json.dumps(answer)[:60]} here"
    elif isinstance(example, dict):
        _compare_objects(example, answer, path, difference)
    elif isinstance(example, list) and example:
        if not answer and not isinstance(example[0], str):
            difference.empty.append(path)
        for each in answer:
            compare(example[0], each, f"{path}[]", difference)


def _compare_objects(example: dict[str, Any], answer: dict[str, Any], path: str, difference: Difference) -> None:
    if path.rpartition(".")[2] in BY_COIN:
        example = dict.fromkeys(answer, next(iter(example.values())))
    for key, value in example.items():
        where = f"{path}.{key}".lstrip(".")
        if key in answer:
            compare(value, answer[key], where, difference)
        else:
            difference.missing[where] = json.dumps(value)[:80]
    for key in answer.keys() - example.keys():
        difference.extra[f"{path}.{key}".lstrip(".")] = json.dumps(answer[key])[:80]
