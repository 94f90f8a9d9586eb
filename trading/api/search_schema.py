"""How a search is asked for, as OpenAPI: made of the same tables that requests are read by."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiExample

from trading.api.backtest_schema import FLAG, REQUEST, number
from trading.backtest.search_request import FOLDS, LEAST_TRADES, SEED, TRIALS, WALK, Objective, Sampler

RANGE = {
    "type": "object",
    "description": "what of the parameter's own range may be tried; {} is all of it",
    "properties": {
        "low": {"type": "number"},
        "high": {"type": "number"},
        "step": {"type": "number", "description": "left out: a round one that makes about fifty values"},
        "choices": {"type": "array", "items": {"type": "string"}, "description": "of a parameter with choices"},
    },
}
WALK_FORWARD = {
    "type": "object",
    "nullable": True,
    "description": "parameters are chosen on each training and judged by the test that follows it",
    "required": ["splits", "train_days"],
    "properties": {
        **{name: number(field) for name, field in WALK.items()},
        "anchored": {**FLAG, "description": "trainings all begin at the start; otherwise they roll along"},
    },
}
SEARCH: dict[str, Any] = {
    "type": "object",
    "required": ["backtest", "space"],
    "properties": {
        "name": {"type": "string", "maxLength": 80},
        "backtest": {**REQUEST, "description": "as in POST /api/v1/backtests, with one strategy"},
        "space": {"type": "object", "additionalProperties": RANGE, "description": "the parameters that may move"},
        "objective": {"type": "string", "enum": [str(each) for each in Objective]},
        "sampler": {"type": "string", "enum": [str(each) for each in Sampler]},
        "trials": number(TRIALS),
        "seed": number(SEED),
        "folds": number(FOLDS),
        "prune": {**FLAG, "description": "give up trials below the middle of those before, after each fold"},
        "least_trades": number(LEAST_TRADES),
        "walk_forward": WALK_FORWARD,
    },
}
EXAMPLE = OpenApiExample(
    "SuperTrend, with walk-forward",
    value={
        "name": "SuperTrend, how fast",
        "backtest": {
            "strategies": [{"strategy": "supertrend", "symbols": ["BTCUSDT"], "parameters": {"timeframe": "30"}}],
            "start": "2025-01-01",
            "end": "2026-01-01",
            "interval": "5",
        },
        "space": {"period": {"low": 5, "high": 30}, "multiplier": {"low": 1, "high": 6, "step": 0.25}},
        "objective": "sharpe",
        "trials": 100,
        "folds": 4,
        "walk_forward": {"splits": 4, "train_days": 180, "purge_days": 1, "embargo_days": 1},
    },
    request_only=True,
)
