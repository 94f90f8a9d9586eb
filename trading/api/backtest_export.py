"""A run as a file: CSV tables, JSON of everything, or one HTML page that opens without a network."""

from __future__ import annotations

import re
import zlib
from dataclasses import fields
from pathlib import Path
from typing import Any

import orjson
from django.contrib.staticfiles import finders
from django.template.loader import render_to_string

from trading.backtest.request_json import iso
from trading.backtest.result_packing import ROWS, csv_text, json_rows, unpack_equity
from trading.models import BacktestRun
from trading.selectors import backtest_part
from trading.serializers import BacktestSerializer

# More would make a page that no browser scrolls; all of them are in the CSV and JSON files.
HTML_ROWS = 10_000
IMPORT = re.compile(r"^import .*;$", re.MULTILINE)


def part(run: BacktestRun, kind: str) -> bytes:
    data = backtest_part(run, kind)
    if data is None:
        raise LookupError(f"backtest {run.pk} has no {kind}")
    return data


def prices_json(packed: bytes) -> bytes:
    return zlib.decompress(packed)


def csv_file(run: BacktestRun, what: str) -> str:
    """One table; times as ISO 8601."""
    if what == "equity":
        curve = zip(*(array.tolist() for array in unpack_equity(part(run, "equity"))), strict=True)
        return csv_text(["time", "equity", "exposed"], ([iso(at), *rest] for at, *rest in curve))
    columns = [field.name for field in fields(ROWS[what])]
    times = [name for name in columns if name.endswith("_ms")]
    rows = json_rows(what, part(run, what))
    for row in rows:
        for name in times:
            row[name] = iso(row[name])
    return csv_text([name.removesuffix("_ms") for name in columns], (tuple(row.values()) for row in rows))


def json_file(run: BacktestRun) -> bytes:
    """What was asked and found, every row of it."""
    times, equity, exposed = unpack_equity(part(run, "equity"))
    found: dict[str, Any] = {
        **BacktestSerializer(run).data,
        "equity": {"time_ms": times.tolist(), "equity": equity.tolist(), "exposed": exposed.tolist()},
        **{kind: json_rows(kind, part(run, kind)) for kind in ROWS},
    }
    return orjson.dumps(found, default=str)


def html_file(run: BacktestRun) -> str:
    """The report page with everything in it: styles, chart library, script and data."""
    rows = {kind: json_rows(kind, part(run, kind)) for kind in ("trades", "signals")}
    rows["signals"] = [row for row in rows["signals"] if row["outcome"] != "approved"]
    data = {
        "run": BacktestSerializer(run).data,
        "prices": orjson.loads(prices_json(part(run, "prices"))),
        "cut": {kind: len(found) for kind, found in rows.items() if len(found) > HTML_ROWS},
        **{kind: found[:HTML_ROWS] for kind, found in rows.items()},
    }
    return render_to_string(
        "backtests/export.html",
        {
            "run": run,
            "styles": [source(f"css/{name}.css") for name in ("base", "backtests")],
            "library": source("vendor/lightweight-charts.standalone.production.js"),
            # Modules that import nothing but each other, put into one.
            "script": "\n".join(IMPORT.sub("", source(f"js/{name}.js")) for name in ("formats", "backtests/report")),
            "data": data,
        },
    )


def source(name: str) -> str:
    """A static file's text, for a page that holds it: nothing in it may end the element around it."""
    found = finders.find(name)
    if found is None:
        raise FileNotFoundError(f"static file {name} is not there; `make run` copies the vendored ones")
    return Path(found).read_text(encoding="utf-8").replace("</script", "<\\/script").replace("</style", "<\\/style")
