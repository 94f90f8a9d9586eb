"""Parquet files of bars, some rows at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from marketdata.candles.tables import BLOCK_ROWS, TIME, Block, Column, TableError

# What a column of times is usually called.
TIMES = ("ts_ms", "time", "timestamp", "open_time", "start", "date", "datetime", "calc_time")


def read_parquet(
    file: BinaryIO, names: Mapping[str, str], wanted: Sequence[str], optional: Sequence[str], *, is_guessing: bool
) -> Iterator[Block]:
    """See :func:`marketdata.candles.tables.read_blocks`; the first row is 1."""
    try:
        parquet = pq.ParquetFile(file)
        there = {name.lower(): name for name in parquet.schema_arrow.names}
        found = {ours: there[names[ours].lower()] for ours in (*wanted, *optional) if names[ours].lower() in there}
        if TIME in wanted and TIME not in found and is_guessing:
            usual = next((there[name] for name in TIMES if name in there), None)
            found |= {} if usual is None else {TIME: usual}
        missing = [names[ours] for ours in wanted if ours not in found]
        if missing:
            raise TableError(f"it has no column {', '.join(missing)}; it has {', '.join(there)[:200]}")
        row = 1
        for batch in parquet.iter_batches(batch_size=BLOCK_ROWS, columns=list(found.values())):
            columns = {ours: _column(batch.column(name), ours) for ours, name in found.items()}
            rows = np.arange(row, row + batch.num_rows, dtype=np.int64)
            yield Block(rows, columns, is_time_ms=TIME in found and _is_moment(batch.column(found[TIME]).type))
            row += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise TableError(f"the Parquet file is broken: {str(error)[:200]}") from None


def _is_moment(kind: Any) -> bool:
    return pa.types.is_timestamp(kind) or pa.types.is_date(kind)


def _column(array: Any, name: str) -> Column:
    kind = array.type
    if _is_moment(kind):
        # Through microseconds: dates and seconds have no cast to integers of milliseconds.
        moments = array.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
        if not moments.null_count:
            return np.asarray(moments) // 1_000
        return ["" if each is None else str(each // 1_000) for each in moments.to_pylist()]
    if pa.types.is_integer(kind) and not array.null_count:
        return np.asarray(array.cast(pa.int64()))
    if pa.types.is_float64(kind):
        return np.asarray(array.fill_null(float("nan")), dtype=np.float64)
    if pa.types.is_floating(kind):
        # 0.1 in 32 bits is 0.1 to whoever wrote it.
        values = np.asarray(array.cast(pa.float32()).fill_null(float("nan")))
        return [np.format_float_positional(value, unique=True) for value in values]
    if pa.types.is_decimal(kind):
        return ["" if each is None else f"{each:f}" for each in array.to_pylist()]
    if pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return ["" if each is None else str(each) for each in array.to_pylist()]
    raise TableError(f"column {name} is of type {kind}; expected numbers, texts or timestamps")
