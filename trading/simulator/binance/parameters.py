"""Query parameters, read as strictly as Binance reads them."""

from __future__ import annotations

import re
from collections.abc import Mapping

import orjson

from trading.simulator.binance.errors import (
    bad_combination,
    illegal_characters,
    invalid_symbol,
    missing,
    not_valid,
)
from trading.simulator.binance.instrument import Instrument

Query = Mapping[str, str]
SYMBOL_RANGE = "^[A-Z0-9-_.]{1,20}$"
SYMBOLS_RANGE = r'^\[("[A-Z0-9-_.]{1,20}"(,"[A-Z0-9-_.]{1,20}"){0,}){0,1}\]$'
NUMBER_RANGE = "^[0-9]{1,20}$"
_SYMBOL = re.compile(r"[A-Z0-9\-_.]{1,20}")
_NUMBER = re.compile(r"[0-9]{1,20}")


def symbol(query: Query, instruments: Mapping[str, Instrument]) -> Instrument:
    """The instrument of the mandatory ``symbol``.

    Raises:
        BinanceError: -1102 without one, -1100 for text that is no symbol, -1121 for one that is not listed.
    """
    text = query.get("symbol", "")
    if not text:
        raise missing("symbol")
    return _listed(text, instruments, "symbol", SYMBOL_RANGE)


def chosen(query: Query, instruments: Mapping[str, Instrument]) -> list[Instrument] | None:
    """The instruments of the optional ``symbol`` or ``symbols`` (a JSON list); None where neither was sent."""
    if "symbol" in query and "symbols" in query:
        raise bad_combination()
    if "symbols" in query:
        try:
            names = orjson.loads(query["symbols"])
        except orjson.JSONDecodeError:
            names = None
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise illegal_characters("symbols", SYMBOLS_RANGE)
        return [_listed(name, instruments, "symbols", SYMBOLS_RANGE) for name in names]
    return [symbol(query, instruments)] if "symbol" in query else None


def number(query: Query, name: str) -> int | None:
    """An optional whole number: a time in milliseconds, an id, a limit."""
    text = query.get(name)
    if text is None:
        return None
    if not text:
        raise missing(name)
    if not _NUMBER.fullmatch(text):
        raise illegal_characters(name, NUMBER_RANGE)
    return int(text)


def limit(query: Query, default: int, largest: int, *, strict: bool) -> int:
    """How many rows; above ``largest`` it is lowered, or refused where ``strict``."""
    value = number(query, "limit")
    if value is None:
        return default
    if value < 1 or (strict and value > largest):
        raise not_valid("limit")
    return min(value, largest)


def limit_for_weight(query: Query, default: int) -> int:
    """The limit as far as it can be read: refused requests weigh, too."""
    text = query.get("limit", "")
    return int(text) if _NUMBER.fullmatch(text) else default


def _listed(text: str, instruments: Mapping[str, Instrument], parameter: str, legal: str) -> Instrument:
    if not _SYMBOL.fullmatch(text):
        raise illegal_characters(parameter, legal)
    instrument = instruments.get(text)
    if instrument is None:
        raise invalid_symbol()
    return instrument
