"""A result as compressed bytes, one for each kind of row, so that a page reads only what it shows; and as JSON."""

from __future__ import annotations

import csv
import io
import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from decimal import Decimal
from typing import Any, TypeVar

import numpy as np
import orjson
from numpy.typing import NDArray

from trading.backtest.result import BacktestFill, BacktestResult, BacktestSignal, BacktestTrade

ROWS: Mapping[str, type[Any]] = {"signals": BacktestSignal, "fills": BacktestFill, "trades": BacktestTrade}
LEVEL = 6
Row = TypeVar("Row")


def pack_rows(rows: Sequence[Any]) -> bytes:
    """Rows of one dataclass; money as text."""
    names = [field.name for field in fields(rows[0])] if rows else []
    return zlib.compress(orjson.dumps([[text(getattr(row, name)) for name in names] for row in rows]), LEVEL)


def unpack_rows(kind: str, packed: bytes) -> list[Any]:
    """The rows as they were packed; ``kind`` is one of :data:`ROWS`."""
    of = ROWS[kind]
    decimals = [str(field.type) == "Decimal" for field in fields(of)]
    return [
        of(*(Decimal(value) if exact else value for value, exact in zip(row, decimals, strict=True)))
        for row in orjson.loads(zlib.decompress(packed))
    ]


def json_rows(kind: str, packed: bytes) -> list[dict[str, Any]]:
    """The rows as JSON objects, money as text."""
    names = [field.name for field in fields(ROWS[kind])]
    return [dict(zip(names, row, strict=True)) for row in orjson.loads(zlib.decompress(packed))]


def pack_equity(result: BacktestResult) -> bytes:
    arrays = (result.equity_ms.astype("<i8"), result.equity.astype("<f8"), result.exposed.astype("<f8"))
    return zlib.compress(b"".join(array.tobytes() for array in arrays), LEVEL)


def unpack_equity(packed: bytes) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    raw = zlib.decompress(packed)
    third = len(raw) // 3
    return (
        np.frombuffer(raw[:third], dtype="<i8"),
        np.frombuffer(raw[third : 2 * third], dtype="<f8"),
        np.frombuffer(raw[2 * third :], dtype="<f8"),
    )


def text(value: Any) -> Any:
    return f"{value:f}" if isinstance(value, Decimal) else value


def as_json(value: Any) -> Any:
    """Values and dataclasses as plain JSON: money as text, floats that are none (infinite, NaN) as null."""
    if is_dataclass(value) and not isinstance(value, type):
        return as_json(asdict(value))
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, np.generic | np.ndarray):
        return as_json(value.tolist())
    if isinstance(value, Mapping):
        return {str(name): as_json(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(each) for each in value]
    return value


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table. A cell that a spreadsheet would take for a formula gets an apostrophe before it."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([guarded(value) for value in row])
    return out.getvalue()


def guarded(value: Any) -> Any:
    is_formula = isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r")
    return f"'{value}" if is_formula and not value[1:2].isdigit() else value
