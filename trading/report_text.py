"""The venue's reports as JSON text and back, exactly: for letters that wait until they can be booked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from decimal import Decimal
from typing import Any, get_type_hints

import orjson

from trading.reports import FillReport, OrderReport, PositionReport, WalletReport

Report = OrderReport | FillReport | PositionReport | WalletReport
TYPES: Mapping[str, type[Report]] = {
    each.__name__: each for each in (OrderReport, FillReport, PositionReport, WalletReport)
}


def reports_as_text(reports: Sequence[Report]) -> str:
    rows = [{"type": type(report).__name__, **asdict(report)} for report in reports]
    return orjson.dumps(rows, default=str).decode()


def reports_from_text(text: str) -> list[Report]:
    """Raises ValueError: the text is not what :func:`reports_as_text` makes."""
    try:
        return [_report(row) for row in orjson.loads(text)]
    except (orjson.JSONDecodeError, TypeError, KeyError, ArithmeticError) as error:
        raise ValueError(f"not reports: {type(error).__name__}: {error}") from error


def _report(row: Mapping[str, Any]) -> Report:
    kind = TYPES[row["type"]]
    decimals = {name for name, hint in get_type_hints(kind).items() if hint in (Decimal, Decimal | None)}
    values: dict[str, Any] = {
        name: Decimal(value) if name in decimals and value is not None else value
        for name, value in row.items()
        if name != "type"
    }
    if "coins" in values:
        values["coins"] = {coin: Decimal(amount) for coin, amount in values["coins"].items()}
    return kind(**values)
