"""How a backtest is asked for, as OpenAPI: made of the same table that requests are read by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drf_spectacular.utils import OpenApiExample

from marketdata.candles.series import INTERVALS
from trading.backtest import request_json
from trading.backtest.request import Source
from trading.backtest.request_json import COSTS, EXIT_STEPS, EXIT_SWITCHES, EXITS, LIMITS, Number
from trading.backtest.result_packing import text

FLAG = {"type": "boolean"}


def number(field: Number) -> dict[str, Any]:
    kind = "integer" if field.whole else "number"
    return {
        "oneOf": [{"type": kind}, {"type": "string", "format": "decimal"}],
        "nullable": field.optional,
        "description": f"{field.help}; {field.rule}".removeprefix("; "),
    }


def group(fields: Mapping[str, Number], **more: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {name: number(field) for name, field in fields.items()} | more}


SYMBOLS = {"type": "array", "items": {"type": "string", "example": "BTCUSDT"}, "maxItems": request_json.MOST_SYMBOLS}
STEPS = {
    "type": "array",
    "items": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2},
    "description": "pairs of percents by rising profit",
}
GROUP_LIMIT = {
    "type": "object",
    "additionalProperties": group(request_json.GROUP_LIMITS),
    "description": "by the name of a group: what this level allows in it",
}
STRATEGY = {
    "type": "object",
    "required": ["strategy", "symbols"],
    "properties": {
        "strategy": {"type": "string", "description": "key of a strategy", "example": "supertrend"},
        "symbols": SYMBOLS,
        "parameters": {"type": "object", "additionalProperties": {}, "description": "defaults for those left out"},
        "name": {"type": "string", "description": "to tell two runs of one strategy apart"},
        "sizing_mode": {"type": "string", "enum": list(request_json.SIZINGS)},
        "sizing_value": number(request_json.SIZE),
        "leverage": number(request_json.LEVERAGE),
        **dict.fromkeys(request_json.STRATEGY_SWITCHES, FLAG),
        "limits": {
            **group(LIMITS, group_limits=GROUP_LIMIT),
            "nullable": True,
            "description": "of the strategy's own level, on what it has at stake of the account; none where not said",
        },
    },
}
GROUP = {
    "type": "object",
    "required": ["name", "symbols"],
    "properties": {
        "name": {"type": "string"},
        "symbols": SYMBOLS,
        **{name: number(field) for name, field in request_json.GROUP_LIMITS.items()},
    },
}
MOMENT = {"type": "string", "description": "a day (its start, UTC) or an ISO 8601 time with its offset"}
REQUEST = {
    "type": "object",
    "required": ["strategies"],
    "properties": {
        "name": {"type": "string", "maxLength": 80},
        "strategies": {"type": "array", "items": STRATEGY, "minItems": 1, "maxItems": request_json.MOST_STRATEGIES},
        "start": {**MOMENT, "example": "2026-01-01"},
        "end": {**MOMENT, "example": "2026-02-01"},
        "source": {
            "type": "string",
            "enum": [str(each) for each in Source],
            "description": "default candles; books and trades name a recording, and need no start and end if it has "
            "an index",
        },
        "recording": {"type": "string", "description": "one of /backtests/recordings"},
        "accept_gaps": {"type": "boolean", "description": "test on a recording with holes or errors all the same"},
        "venue": {"type": "string", "enum": list(request_json.VENUES)},
        "interval": {"type": "string", "enum": list(INTERVALS), "description": "of the bars that prices move by"},
        "balance": number(request_json.BALANCE),
        "costs": group(COSTS, funding=FLAG),
        "limits": group(LIMITS, group_limits=GROUP_LIMIT),
        "exit_rules": group(EXITS, **dict.fromkeys(EXIT_SWITCHES, FLAG), **dict.fromkeys(EXIT_STEPS, STEPS)),
        "groups": {"type": "array", "items": GROUP},
        "seed": number(request_json.SEED),
        "combine": {**FLAG, "description": "signals of several strategies on one symbol at one moment become one"},
    },
}
SHORT = OpenApiExample(
    "a month of SuperTrend",
    value={
        "name": "SuperTrend, January",
        "strategies": [{"strategy": "supertrend", "symbols": ["BTCUSDT"], "parameters": {"timeframe": "30"}}],
        "start": "2026-01-01",
        "end": "2026-02-01",
        "interval": "1",
    },
    request_only=True,
)
FULL = OpenApiExample(
    "everything said",
    value={
        "name": "two symbols, cheaper",
        "strategies": [
            {
                "strategy": "supertrend",
                "symbols": ["BTCUSDT", "ETHUSDT"],
                "parameters": {"timeframe": "15", "period": 14, "multiplier": 2.5},
                "sizing_mode": "percent",
                "sizing_value": "2",
                "leverage": "5",
            }
        ],
        "start": "2026-01-01T00:00:00Z",
        "end": "2026-03-01T00:00:00Z",
        "venue": "bybit",
        "interval": "5",
        "balance": "25000",
        "costs": {"fee": "0.00055", "maker_fee": "0.0002", "slippage": "0.0002", "latency_ms": 80},
        "limits": {"max_positions": 2, "max_daily_loss_percent": "3", "max_drawdown_percent": None},
        "exit_rules": {"max_loss_percent": "1.5", "partial_exits": [[1, 50]]},
        "seed": 11,
    },
    request_only=True,
)


def choices_of_form() -> dict[str, Any]:
    """The ranges of the numbers that the form asks for: by group and name the least, the most and words."""
    groups = {"costs": COSTS, "limits": LIMITS, "exit_rules": EXITS}
    return {
        name: {
            field: {"least": text(each.least), "most": text(each.most), "help": each.help, "optional": each.optional}
            for field, each in fields.items()
        }
        for name, fields in groups.items()
    }
