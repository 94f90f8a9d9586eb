"""From which bar on an engine ran each strategy, and until when: what its signals can be held against later."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from django.db import Error

from audit.services import as_json
from marketdata.candles.series import interval_ms
from marketdata.events import Candle
from strategies.models import StrategySpan
from strategies.services import spans_store
from trading.pipeline import Hearing, RunningStrategy
from trading.runtime.database import ask_database

log = logging.getLogger(__name__)

FLUSH_SECONDS = 1.0


@dataclass(slots=True, eq=False)
class _Live:
    """A stretch that goes on: how far it has come, and its row, as far as it is to be written."""

    row: StrategySpan
    until: datetime


class SpanStore:
    """Lives in the engine's event loop. What is noted is written a round later: by then the signals of its bars are on
    record, so that an engine that ends leaves no bar without them: what is noted last is left out."""

    def __init__(self, engine: str) -> None:
        self._engine = engine
        self._spans: dict[tuple[int, int, str, str], _Live] = {}
        self._noted: dict[_Live, datetime] = {}

    def note(self, hearings: Iterable[Hearing], candle: Candle) -> None:
        """These strategies were told this closed bar, and their signals counted."""
        start, end = (
            datetime.fromtimestamp(each / 1_000, UTC)
            for each in (candle.start_ms, candle.start_ms + interval_ms(candle.interval))
        )
        for each in hearings:
            running = each.running
            key = running.config_id, running.version, running.code, each.symbol
            first = datetime.fromtimestamp(each.first_ms / 1_000, UTC)
            span = self._spans.get(key)
            if span is None or span.until != start or span.row.first_bar != first:
                row = StrategySpan(
                    config_id=running.config_id,
                    version=running.version,
                    code=running.code,
                    settings=settings_of(running),
                    symbol=each.symbol,
                    interval=each.interval,
                    engine=self._engine,
                    first_bar=first,
                    begun=start,
                )
                span = self._spans[key] = _Live(row, end)
            span.until = self._noted[span] = end

    async def run(self) -> None:
        while True:
            noted, self._noted = self._noted, {}
            await asyncio.sleep(FLUSH_SECONDS)
            await self._store(noted)

    async def _store(self, noted: dict[_Live, datetime]) -> None:
        if not noted:
            return
        try:
            for live, until in noted.items():
                live.row.until = until
            await ask_database(partial(spans_store, [live.row for live in noted]))
        except Error as error:
            log.warning("from when to when %d strategies ran waits for the database: %s", len(noted), error)
            self._noted = noted | self._noted


def settings_of(running: RunningStrategy) -> dict[str, object]:
    """What a version decides and sizes by, as a backtest is asked for it."""
    settings: dict[str, object] = as_json(
        {
            "strategy": running.strategy,
            "name": running.name,
            "parameters": running.parameters,
            "sizing_mode": str(running.sizing_mode),
            "sizing_value": running.sizing_value,
            "leverage": running.leverage,
            "allow_reversal": running.allow_reversal,
            "size_by_confidence": running.size_by_confidence,
            "adaptive_leverage": running.adaptive_leverage,
        }
    )
    return settings
