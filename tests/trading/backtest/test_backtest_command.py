"""``manage.py backtest``: from files and from the archive, and what it refuses."""

from __future__ import annotations

import io
import json
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command

from marketdata.candles.findings import ImportOptions
from marketdata.candles.series import CandleSeries
from marketdata.candles.series_key import SeriesKey
from marketdata.candles.services import file_import
from marketdata.candles.tables import TableForm
from risk.exposure import Exposure
from risk.limits import Limits
from strategies.base import parse_parameters
from strategies.library.supertrend import SuperTrend
from strategies.models import Signal
from strategies.services import signal_record
from tests import builders
from tests.trading.backtest.candle_tests import START_MS
from tests.trading.backtest.test_candle_runs import random_walk
from trading.backtest.bars import candle_of
from trading.pipeline import Pipeline, PipelineConfiguration, RunningStrategy
from trading.simulator.instruments import INSTRUMENTS

SPAN = ("--from", "2023-11-15", "--to", "2023-11-16")
SUPERTREND = ("--strategy", "supertrend", "--symbols", "BTCUSDT", "--parameter", "timeframe=1")


def csv_of(series: CandleSeries) -> str:
    rows = zip(series.start_ms, series.open, series.high, series.low, series.close, series.volume, strict=True)
    lines = [
        ",".join([str(start), *(f"{series.price(int(each)):f}" for each in prices), f"{Decimal(int(volume)) / 1000:f}"])
        for start, *prices, volume in rows
    ]
    return "\n".join(["ts_ms,open,high,low,close,volume", *lines]) + "\n"


@pytest.fixture
def bars_file(tmp_path: Path) -> Path:
    path = tmp_path / "btc.csv"
    path.write_text(csv_of(random_walk(4, 1_000, "BTCUSDT")))
    return path


@pytest.fixture
def listing(tmp_path: Path) -> Path:
    path = tmp_path / "instruments.json"
    path.write_text(json.dumps({"result": {"list": [each.listing() for each in INSTRUMENTS[:3]]}}))
    return path


def told(*arguments: str) -> str:
    out = io.StringIO()
    call_command("backtest", *arguments, stdout=out)
    return out.getvalue()


def test_a_file_of_bars_is_tested_without_a_database(bars_file: Path, listing: Path, tmp_path: Path) -> None:
    output = tmp_path / "result.json"

    text = told(
        *SUPERTREND, *SPAN, "--bars", f"BTCUSDT={bars_file}", "--instruments", str(listing),
        "--cost", "fee=0.0004", "--limit", "max_daily_loss_percent=none", "--output", str(output),
    )  # fmt: skip

    found = json.loads(output.read_text())
    assert found["request"]["costs"]["fee"] == "0.0004"
    assert found["request"]["limits"]["max_daily_loss_percent"] is None
    assert len(found["trades"]) == found["summary"]["statistics"]["trades"] > 0
    assert len(found["equity"]["equity"]) == 1_000 and found["equity"]["time_ms"][0] == START_MS + 60_000
    assert found["equity"]["equity"][-1] == pytest.approx(float(found["balance"]))
    assert f"balance at the end, USDT    {Decimal(found['balance']):.2f}" in text


@pytest.mark.django_db
def test_bars_of_the_archive_give_what_their_file_gave(bars_file: Path, listing: Path, tmp_path: Path) -> None:
    builders.list_instruments()
    key = SeriesKey("bybit", "BTCUSDT", "1")
    with bars_file.open("rb") as file:
        file_import(file, key=key, form=TableForm(), options=ImportOptions(), actor="test", source="btc.csv")
    outputs = [tmp_path / "one.json", tmp_path / "two.json"]

    told(
        *SUPERTREND, *SPAN, "--bars", f"BTCUSDT={bars_file}", "--instruments", str(listing), "--output", str(outputs[0])
    )
    told(*SUPERTREND, *SPAN, "--output", str(outputs[1]))

    one, two = (json.loads(each.read_text()) for each in outputs)
    assert one["fills"] == two["fills"] and one["fills"]


@pytest.mark.django_db
def test_what_was_recorded_is_what_its_backtest_decides(bars_file: Path, listing: Path) -> None:
    builders.list_instruments()
    config = builders.strategy(builders.account(builders.user("alice")), parameters={"timeframe": "1"})
    # The pipeline as an engine runs it, told bar by bar, and what it made of them on record.
    running = RunningStrategy(
        config_id=config.pk, version=1, account_id=config.account_id, name=config.name, strategy=config.strategy,
        symbols=("BTCUSDT",), parameters=parse_parameters(SuperTrend.parameters, config.parameters),
        sizing_mode="percent", sizing_value=Decimal(1), leverage=Decimal(10), allow_reversal=True, limits=Limits(),
    )  # fmt: skip
    pipeline = Pipeline(lambda: uuid4().hex)
    pipeline.configure(PipelineConfiguration(strategies=(running,), rules={"BTCUSDT": builders.RULES}))
    series = random_walk(4, 1_000, "BTCUSDT")
    for index in range(len(series)):
        equity = Exposure(known=True, equity=Decimal(10_000), available_balance=Decimal(10_000))
        pipeline.update_exposure(config.account_id, equity)
        for made in pipeline.on_candle(candle_of(series, index)):
            signal_record(
                account_id=config.account_id, config_id=config.pk, signal=made.signal, outcome="ordered",
                verdict={}, refusals=[], trace_id=made.trace_id,
            )  # fmt: skip
    asked = (*SPAN, "--compare", str(config.pk), "--bars", f"BTCUSDT={bars_file}", "--instruments", str(listing))
    free = ("--limit", "max_risk_per_trade_percent=none", "--limit", "max_total_risk_percent=none")

    alike = told(*asked, *free)
    row = Signal.objects.filter(config=config).earliest("signalled_at")
    Signal.objects.filter(pk=row.pk).update(side="Sell" if row.side == "Buy" else "Buy")
    with pytest.raises(CommandError, match="1 differences") as differs:
        told(*asked, *free)

    count = Signal.objects.filter(config=config).count()
    assert count > 3 and f"{count} signals recorded, {count} in the test, {count} the same" in alike
    assert differs.value.returncode == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--strategy", "nobody", "--symbols", "BTCUSDT", *SPAN), "strategies.0.strategy nobody"),
        ((*SUPERTREND, *SPAN, "--cost", "fee=much"), "costs.fee much"),
        ((*SUPERTREND, *SPAN, "--cost", "fee"), "expected NAME=VALUE"),
        ((*SPAN,), "say --strategy and --symbols"),
        ((*SUPERTREND, *SPAN, "--bars", "ETHUSDT=x.csv"), "not among the symbols"),
    ],
)
def test_what_cannot_be_tested_is_said_field_by_field(arguments: tuple[str, ...], words: str) -> None:
    with pytest.raises(CommandError, match=words) as refused:
        told(*arguments)

    assert refused.value.returncode == 2


def test_a_broken_file_is_refused_with_its_row(bars_file: Path, listing: Path) -> None:
    lines = bars_file.read_text().splitlines()
    lines[3] = lines[3].replace(lines[3].split(",")[1], "-1", 1)
    bars_file.write_text("\n".join(lines))

    with pytest.raises(CommandError, match="row 4"):
        told(*SUPERTREND, *SPAN, "--bars", f"BTCUSDT={bars_file}", "--instruments", str(listing))
