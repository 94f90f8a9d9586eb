"""From bars in the archive to a report: what a worker does with a backtest, nothing of it replaced."""

from __future__ import annotations

import io
import time
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rest_framework.test import APIClient

from marketdata.candles.findings import ImportOptions
from marketdata.candles.series_key import SeriesKey
from marketdata.candles.services import file_import
from marketdata.candles.tables import TableForm
from tests import builders
from tests.processes import RunningProcess
from trading import tasks
from trading.backtest.result_packing import json_rows, unpack_equity
from trading.models import BacktestRun
from trading.selectors import backtest_part

# Really committed: a thread of the worker tells how far it is.
pytestmark = pytest.mark.django_db(transaction=True)
START = 1_767_225_600_000  # 2026-01-01
BARS = 5 * 288


@pytest.fixture
def alice(transactional_db: None) -> Any:
    builders.list_instruments()
    return builders.user("alice")


def bring_bars() -> None:
    """Six days of bars of five minutes from the day before on, waves of some hours and some noise."""
    random = np.random.default_rng(7)
    steps = np.arange(BARS + 289)
    prices = 60_000 + 1_500 * np.sin(steps / 30) + np.cumsum(random.normal(0, 25, len(steps)))
    lines = ["ts_ms,open,high,low,close,volume"]
    for place, (first, last) in enumerate(pairwise(prices)):
        high, low = max(first, last) + 15, min(first, last) - 15
        at = START - 86_400_000 + place * 300_000
        lines.append(f"{at},{first:.1f},{high:.1f},{low:.1f},{last:.1f},12.5")
    body = io.BytesIO("\n".join(lines).encode())
    key = SeriesKey("bybit", "BTCUSDT", "5")
    file_import(body, key=key, form=TableForm(), options=ImportOptions(frozenset()), actor="rita", source="a file")


def run_for(alice: Any, **changes: Any) -> BacktestRun:
    run = builders.backtest_run(alice, done=False, end="2026-01-06", **changes)
    tasks.carry_out_backtest(run.pk)
    run.refresh_from_db()
    return run


def test_a_backtest_over_bars_of_the_archive_is_reported_and_the_same_each_time(alice: Any) -> None:
    bring_bars()
    first, second = run_for(alice), run_for(alice)
    assert first.state == "done", first.error
    found = first.summary["statistics"]
    trades = json_rows("trades", backtest_part(first, "trades") or b"")
    assert found["trades"] == len(trades) > 3 and found["signals"] >= found["trades"]
    # Fees and funding are in each trade's profit, so equity is the start and all of them.
    times, equity, _ = unpack_equity(backtest_part(first, "equity") or b"")
    assert equity[-1] == pytest.approx(float(Decimal(10_000) + sum(Decimal(row["pnl"]) for row in trades)), abs=1e-6)
    assert Decimal(found["start_balance"]) == 10_000 and found["final_equity"] == equity[-1]
    assert found["total_return"] == pytest.approx(equity[-1] / 10_000 - 1)
    assert len(times) == BARS and times[-1] == START + BARS * 300_000
    assert first.summary["coverage"] == [
        {
            **{"symbol": "BTCUSDT", "interval": "5", "bars": BARS, "expected": BARS},
            **{"first_ms": START, "last_ms": START + (BARS - 1) * 300_000},
        }
    ]
    client = APIClient()
    client.force_authenticate(alice)
    finer = client.get(f"/api/v1/backtests/{first.pk}/prices?symbol=BTCUSDT&from={START}&to={START + 3_600_000}").json()
    assert len(finer["close"]) == 12 and finer["interval_ms"] == 300_000
    assert first.code and first.data == second.data and first.summary == second.summary
    assert trades == json_rows("trades", backtest_part(second, "trades") or b"")


def test_what_is_not_in_the_archive_is_told_with_what_to_do(alice: Any) -> None:
    run = run_for(alice)
    assert run.state == "failed"
    assert "there are no 5 bars of BTCUSDT at bybit" in run.error and "candles_import" in run.error


@pytest.mark.long
def test_a_worker_of_the_research_queue_takes_what_the_api_was_asked(
    alice: Any, process_environment: dict[str, str], tmp_path: Path
) -> None:
    bring_bars()
    arguments = ["worker", "--queues", "research", "--loglevel", "info", "--concurrency", "1", "--without-mingle"]
    log = tmp_path / "research.log"
    worker = RunningProcess.start(["-m", "celery", "-A", "platform_site", *arguments], process_environment, log)
    try:
        client = APIClient()
        client.force_authenticate(alice)
        asked = client.post("/api/v1/backtests", builders.backtest_request(end="2026-01-06"), format="json")
        run = BacktestRun.objects.filter(pk=asked.json()["id"])
        deadline = time.monotonic() + 240
        while run.get().state in ("queued", "running"):
            assert time.monotonic() < deadline and worker.process.poll() is None, log.read_text()
            time.sleep(0.1)
        assert run.get().state == "done", run.get().error
        assert run.get().summary["statistics"]["trades"] > 3
    finally:
        worker.stop()
