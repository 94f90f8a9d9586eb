"""What was live, held against its backtest over the API: asked for, carried out, told one by one, nobody else's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from marketdata.candles.findings import ImportOptions
from marketdata.candles.series import CandleSeries
from marketdata.candles.series_key import SeriesKey
from marketdata.candles.services import file_import
from marketdata.candles.tables import TableForm
from strategies.library.supertrend import SuperTrend
from strategies.models import Signal, StrategyConfig
from strategies.services import signal_record, spans_store
from tests import builders
from tests.api.conftest import Cast
from tests.trading.backtest.candle_tests import START_MS
from tests.trading.backtest.test_backtest_command import csv_of
from tests.trading.backtest.test_candle_runs import random_walk
from trading.backtest.bars import candle_of
from trading.models import BacktestRun, Membership
from trading.pipeline import Hearing
from trading.runtime import backtest_run
from trading.runtime.backtest_run import carry_out_backtest
from trading.runtime.configuration import running_strategy
from trading.runtime.span_store import SpanStore

pytestmark = pytest.mark.django_db
BARS = 600
BEGUN = 100


@pytest.fixture(autouse=True)
def one_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker's second connection would not see what the test's transaction holds."""
    monkeypatch.setattr(backtest_run, "PULSE_SECONDS", 600.0)


@pytest.fixture
def series(tmp_path: Path) -> CandleSeries:
    """Bars of the archive."""
    made = random_walk(4, BARS, "BTCUSDT")
    path = tmp_path / "btc.csv"
    path.write_text(csv_of(made))
    with path.open("rb") as file:
        key = SeriesKey("bybit", "BTCUSDT", "1")
        file_import(file, key=key, form=TableForm(), options=ImportOptions(), actor="test", source="btc.csv")
    return made


@pytest.fixture
def config(cast: Cast, series: CandleSeries) -> StrategyConfig:
    """A configuration that an engine warmed up from the 11th bar on, and ran from the 100th; all that it said is on
    record."""
    made = builders.strategy(
        cast.alices, parameters={"timeframe": "1", "period": 3, "multiplier": 0.7, "min_stop_percent": 0.01}
    )
    running = running_strategy(made)
    strategy = SuperTrend.create("BTCUSDT", running.parameters)
    spans = SpanStore("test")
    for index in range(10, BARS):
        candle = candle_of(series, index)
        signal = strategy.on_candle(candle)
        if index < BEGUN:
            continue
        spans.note([Hearing(running, "BTCUSDT", "1", int(series.start_ms[10]))], candle)
        if signal is not None:
            signal_record(
                account_id=made.account_id, config_id=made.pk, signal=signal, outcome="ordered", verdict={},
                refusals=[], trace_id=uuid4().hex,
            )  # fmt: skip
    store(spans)
    return made


def store(spans: SpanStore) -> None:
    """Written at once, in the test's own transaction."""
    for live in spans._noted:
        live.row.until = live.until
    spans_store([live.row for live in spans._noted])


def asked(cast: Cast, config: StrategyConfig, user: Any = None, **body: Any) -> Any:
    return cast.client(user or cast.alice).post(f"/api/v1/strategies/{config.pk}/comparison", body, format="json")


def carried_out(cast: Cast, config: StrategyConfig, **body: Any) -> dict[str, Any]:
    answer = asked(cast, config, **body)
    assert answer.status_code == 201, answer.json()
    assert carry_out_backtest(answer.json()["id"]) == BacktestRun.State.DONE
    found: dict[str, Any] = cast.client(cast.alice).get(f"/api/v1/backtests/{answer.json()['id']}").json()
    assert found["compares"] == config.pk
    return found["summary"]["live"]


def moment(bar: int) -> datetime:
    return datetime.fromtimestamp(START_MS / 1_000, UTC) + timedelta(minutes=bar)


def test_a_live_run_is_its_backtest_signal_for_signal(cast: Cast, config: StrategyConfig) -> None:
    live = carried_out(cast, config)

    assert live["is_true"] is True and live["recorded"] == live["same"] == Signal.objects.count() > 20
    (stretch,) = live["stretches"]
    assert (stretch["version"], stretch["symbols"], stretch["missing"]) == (1, ["BTCUSDT"], {})
    assert stretch["first_bar"] < stretch["begun"] == moment(BEGUN).isoformat().replace("+00:00", "Z")


def test_what_differs_is_told_one_by_one_with_its_reason(cast: Cast, config: StrategyConfig) -> None:
    first, second, third = Signal.objects.order_by("signalled_at")[:3]
    Signal.objects.filter(pk=first.pk).update(side="Sell" if first.side == "Buy" else "Buy")
    Signal.objects.filter(pk=second.pk).delete()
    Signal.objects.filter(pk=third.pk).update(signalled_at=third.signalled_at + timedelta(minutes=1))

    live = carried_out(cast, config)

    assert live["is_true"] is False
    assert (live["different"], live["only_tested"], live["only_recorded"]) == (1, 2, 1)
    told = [each for each in live["stretches"][0]["differences"] if each["field"] != "outcome"]
    assert [each["field"] for each in told] == ["side", "signal", "signal", "signal"]
    assert "no signal of it is on record" in told[1]["why"] and told[1]["recorded"] == "none"


def test_part_of_the_time_is_compared_from_the_same_warm_up_on(cast: Cast, config: StrategyConfig) -> None:
    start, end = (moment(each).isoformat().replace("+00:00", "Z") for each in (300, 400))

    live = carried_out(cast, config, start=start, end=end)

    assert live["is_true"] is True
    assert (
        0 < live["same"] == Signal.objects.filter(signalled_at__gt=moment(300), signalled_at__lte=moment(400)).count()
    )


def test_a_strategy_whose_file_has_changed_is_not_compared(cast: Cast, config: StrategyConfig) -> None:
    config.spans.update(code="of a file that is gone")

    live = carried_out(cast, config)

    assert live["is_true"] is None and "another one now" in live["stretches"][0]["why"]


def test_signals_of_which_nobody_knows_the_warm_up_are_not_compared(cast: Cast, config: StrategyConfig) -> None:
    config.spans.all().delete()

    live = carried_out(cast, config)

    assert live["is_true"] is None and live["outside"] == Signal.objects.count()
    assert "no record says from which bars on" in live["notes"][0]


def test_a_configuration_that_never_ran_has_nothing_to_compare(cast: Cast) -> None:
    idle = builders.strategy(cast.alices, name="idle")

    answer = asked(cast, idle)

    assert answer.status_code == 400 and "no engine has run it yet" in str(answer.json())
    assert not BacktestRun.objects.exists()


def test_nonsense_is_refused_by_name(cast: Cast, config: StrategyConfig) -> None:
    for body, words in (
        ({"begin": "2026-01-01"}, "begin"),
        ({"start": "soon"}, "start"),
        ({"costs": {"fee": 7}}, "costs.fee"),
        ({"start": 7}, "start"),
    ):
        answer = asked(cast, config, **body)
        assert answer.status_code == 400 and words in str(answer.json()), body


def test_another_tenants_strategy_is_nobody_elses_to_compare_with(cast: Cast, config: StrategyConfig) -> None:
    for user in (cast.bob, cast.charlie):
        assert asked(cast, config, user).status_code == 404
    assert not BacktestRun.objects.exists()
    assert asked(cast, config, cast.vera).status_code == 201  # she may look at the account


def test_who_may_not_see_the_account_any_more_is_told_nothing_of_it(cast: Cast, config: StrategyConfig) -> None:
    run = BacktestRun.objects.get(pk=asked(cast, config, cast.vera).json()["id"])
    Membership.objects.filter(user=cast.vera).delete()

    assert carry_out_backtest(run.pk) == BacktestRun.State.DONE

    run.refresh_from_db()
    assert set(run.summary["live"]) == {"error"}


def test_the_strategys_page_asks_and_leads_to_the_backtest(cast: Cast, config: StrategyConfig, client: Any) -> None:
    client.force_login(cast.alice)
    assert b"Compare with a test" in client.get("/strategies/supertrend/").content

    answer = client.post(f"/strategies/configurations/{config.pk}/compare/")

    run = BacktestRun.objects.get(compares=config)
    assert answer.status_code == 302 and answer.url == f"/backtests/{run.pk}/" and run.owner == cast.alice
    client.force_login(cast.bob)
    assert client.post(f"/strategies/configurations/{config.pk}/compare/").status_code == 404
