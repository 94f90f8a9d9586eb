"""What a class must have to be a strategy that can be configured: checked before anybody runs it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from strategies.base import ParameterError, ParameterSpec, parse_parameters
from strategies.candle_strategy import INTERVALS, CandleStrategy

KEY = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*")
KEY_LENGTH = 40
KINDS = ("int", "float", "choice")
HOOKS = ("on_book", "on_trade", "on_candle")


def is_strategy(candidate: Any) -> bool:
    """Whether a class means to be a strategy: it has the hooks and can be created."""
    return isinstance(candidate, type) and all(
        callable(getattr(candidate, name, None)) for name in (*HOOKS, "create", "__init__")
    )


def violations(kind: type) -> list[str]:
    """What is wrong with a strategy's class, in words; empty where nothing is."""
    return [*_names(kind), *_parameters(kind), *_candles(kind)]


def _names(kind: type) -> Iterator[str]:
    name, title = getattr(kind, "name", None), getattr(kind, "title", None)
    if not isinstance(name, str) or len(name) > KEY_LENGTH or not KEY.fullmatch(name):
        yield (
            f"name is {name!r}; expected up to {KEY_LENGTH} small letters, digits and underscores, parts of it "
            "separated by dots, as in scalping.imbalance"
        )
    if not isinstance(title, str) or not title.strip():
        yield f"title is {title!r}; expected words for people, as in Order-book imbalance"


def _parameters(kind: type) -> Iterator[str]:
    specs = getattr(kind, "parameters", None)
    if not isinstance(specs, tuple) or not all(isinstance(spec, ParameterSpec) for spec in specs):
        yield "parameters must be a tuple of ParameterSpec"
        return
    names = [spec.name for spec in specs]
    for spec in specs:
        found = list(_specification(spec, names.count(spec.name)))
        yield from (f"parameter {spec.name!r} {words}" for words in found)
        if not found:
            try:
                parse_parameters([spec], {})
            except ParameterError as error:
                yield f"parameter {spec.name!r} has the default {error.value!r}, which {error.rule}"


def _specification(spec: ParameterSpec, times: int) -> Iterator[str]:
    if not isinstance(spec.name, str) or not spec.name.isidentifier():
        yield "has a name that is no identifier"
    if times > 1:
        yield "is there more than once"
    if not spec.help:
        yield "has no help: say in a few words what it does"
    if spec.kind not in KINDS:
        yield f"has the kind {spec.kind!r}; expected one of {', '.join(KINDS)}"
    elif spec.kind == "choice":
        if not spec.choices or not all(isinstance(choice, str) and choice for choice in spec.choices):
            yield "is a choice without choices (a tuple of texts)"
    elif not (_is_number(spec.minimum) and _is_number(spec.maximum)) or spec.minimum > spec.maximum:  # type: ignore[operator]
        yield f"has the range {spec.minimum!r} to {spec.maximum!r}; expected a minimum and a maximum"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _candles(kind: type) -> Iterator[str]:
    if not issubclass(kind, CandleStrategy):
        return
    for method in ("kernel", "reason"):
        if getattr(getattr(kind, method), "__isabstractmethod__", False):
            yield f"is a CandleStrategy without {method}()"
    specs = getattr(kind, "parameters", ())
    timeframes = [spec for spec in specs if isinstance(spec, ParameterSpec) and spec.name == "timeframe"]
    if not timeframes or not set(timeframes[0].choices) <= set(INTERVALS) or timeframes[0].kind != "choice":
        yield f"is a CandleStrategy: it needs a choice parameter timeframe, of {', '.join(INTERVALS)}"
