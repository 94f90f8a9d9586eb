"""An engine process at the simulator, its account on paper, and afterwards the backtest of the same bars: every signal
that was recorded is found again, to its last digit."""

from __future__ import annotations

import io
import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.test import override_settings

from audit.models import ComponentHeartbeat
from risk.services import risk_limit_set
from strategies.models import Signal, StrategyConfig, StrategySpan
from strategies.services import strategy_config_update, strategy_disable, strategy_enable
from tests import builders
from tests.processes import RunningProcess, ServerProcess, until
from trading.models import Account, Mode
from trading.services.account_modes import account_mode_set
from trading.simulator.keys import DEMO_KEYS

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]
SYMBOLS = ["BTCUSDT", "ETHUSDT", "SOLUSDT"]
RESTLESS = {
    "quick": ("supertrend", {"timeframe": "1", "period": 2, "multiplier": 0.5}),
    "slower": ("supertrend", {"timeframe": "1", "period": 3, "multiplier": 0.9}),
    "back": ("momentum.mean_reversion", {"timeframe": "1", "bollinger_period": 5, "bollinger_deviations": 0.5,
                                         "zscore": 0.5, "min_volatility": 0.0001, "min_stop_percent": 0.01}),
}  # fmt: skip
Starter = Callable[..., Any]


@pytest.fixture
def account(transactional_db: None) -> Account:
    """On paper: the market's clock runs fast here, and requests are signed by the real one."""
    builders.list_instruments()
    made = builders.account(builders.user("alice"), key=DEMO_KEYS["alice"])
    risk_limit_set(level="account", account=made, actor="alice", max_positions=2)
    return account_mode_set(account=made, mode=Mode.PAPER, actor="alice")


@pytest.fixture
def configs(account: Account) -> list[StrategyConfig]:
    made = [
        builders.strategy(account, name=name, strategy=strategy, symbols=SYMBOLS, parameters=parameters)
        for name, (strategy, parameters) in RESTLESS.items()
    ]
    return [strategy_enable(config=each, actor="alice") for each in made]


@pytest.fixture
def market(start_simulator: Starter) -> ServerProcess:
    """A simulator whose minutes pass in a second, and have all passed in the world's time."""
    fast = ("--speed", "60", "--ago", str(8 * 3_600_000))
    made: ServerProcess = start_simulator("--symbols", "3", "--liveliness", "0.05", "--seed", "11", *fast)
    return made


@pytest.fixture
def start_engine(
    start_process: Starter, start_simulator: Starter, market: ServerProcess
) -> Callable[[], RunningProcess]:
    """Engines at that market, with the paper venue beside it."""
    paper: ServerProcess = start_simulator("--follow", market.url)
    addresses = {"SIMULATOR_URL": market.url, "PAPER_URL": paper.url, "BINANCE_SYMBOLS": "", "DETECTORS": ""}
    return lambda: start_process("runengine", **addresses)


def signals(config: StrategyConfig | None = None, **which: Any) -> int:
    rows = Signal.objects.filter(**which)
    return (rows if config is None else rows.filter(config=config)).count()


def engine_bars() -> dict[str, int]:
    row = ComponentHeartbeat.objects.filter(component="engine", status="ok").latest("updated_at")
    bars: dict[str, int] = row.detail["bars"]
    return bars


def control(venue: ServerProcess, what: str, **body: Any) -> None:
    request = urllib.request.Request(f"{venue.url}/simulator/control/{what}", data=json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert json.loads(answer.read())["retCode"] == 0


def download(venue: ServerProcess) -> None:
    """The bars that the venue itself serves, into the archive."""
    first = StrategySpan.objects.earliest("first_bar").first_bar
    with override_settings(SIMULATOR_URL=venue.url):
        asked = ("--symbol", ",".join(SYMBOLS), "--interval", "1", "--from", first.isoformat())
        call_command("candles_import", "--download", *asked, stdout=io.StringIO())


def compared(config: StrategyConfig, tmp_path: Path) -> dict[str, Any]:
    """What ``manage.py backtest --compare`` finds."""
    output = tmp_path / f"{config.name}.json"
    call_command("backtest", "--compare", str(config.pk), "--output", str(output))
    found: dict[str, Any] = json.loads(output.read_text())
    return found


def test_every_signal_of_a_running_engine_is_found_again_by_its_backtest(
    configs: list[StrategyConfig], start_engine: Callable[[], RunningProcess], market: ServerProcess, tmp_path: Path
) -> None:
    engine = start_engine()
    until(lambda: signals() >= 25 and signals(outcome="ordered") and signals(outcome="denied"), 150)
    engine.stop()
    download(market)

    found = [compared(config, tmp_path) for config in configs]

    assert all(each["is_true"] for each in found) and not any(each["outside"] for each in found)
    assert sum(each["same"] for each in found) == signals() >= 25


BOOKISH = {
    "pressure": ("scalping.imbalance", {"threshold": 0.55, "hold_ms": 0, "cooldown_s": 1}),
    "levels": ("scalping.orderbook", {"cooldown_s": 1}),
    "clusters": ("scalping.cluster_breakout", {"cooldown_s": 1}),
}


@pytest.mark.long
def test_book_strategies_signal_the_same_over_what_their_engine_recorded(
    account: Account, start_process: Starter, start_simulator: Starter, tmp_path: Path
) -> None:
    venue = start_simulator("--symbols", "2", "--seed", "5")
    configs = [
        builders.strategy(account, name=name, strategy=strategy, symbols=SYMBOLS[:2], parameters=parameters)
        for name, (strategy, parameters) in BOOKISH.items()
    ]
    for each in configs:
        strategy_enable(config=each, actor="alice")
    recorded = tmp_path / "recorded"
    engine = start_process("runengine", SIMULATOR_URL=venue.url, RECORD_DIR=str(recorded), BINANCE_SYMBOLS="")
    until(lambda: signals(configs[0]) >= 20, 150)
    engine.stop()
    (recording,) = recorded.glob("*.jsonl.zst")

    for config in configs:
        out = io.StringIO()
        call_command(
            "backtest", "--compare", str(config.pk), "--source", "books", "--recording", str(recording), stdout=out
        )
        count = signals(config)
        assert f"{count} signals recorded, {count} in the test, {count} the same" in out.getvalue()


@pytest.mark.long
def test_a_kill_a_lost_connection_and_a_change_of_settings_are_told_apart_and_every_signal_is_found_again(
    configs: list[StrategyConfig], start_engine: Callable[[], RunningProcess], market: ServerProcess, tmp_path: Path
) -> None:
    quick, slower, _ = configs
    hours = builders.strategy(
        quick.account, name="hours", strategy="supertrend", symbols=SYMBOLS[:2],
        parameters={"timeframe": "5", "period": 2, "multiplier": 0.5},
    )  # fmt: skip
    strategy_enable(config=hours, actor="alice")
    first = start_engine()
    until(lambda: signals(quick) >= 20 and signals(hours) >= 2, 200)
    asked = engine_bars()["asked"]
    # Four minutes or so of the bars' frames are lost: the engine asks for these, and tells them in their order.
    control(market, "faults", channel="public", topic="kline.1.BTCUSDT", kind="drop", count=240)
    until(lambda: engine_bars()["asked"] > asked, 90)
    strategy_config_update(config=slower, actor="alice", parameters={"timeframe": "1", "period": 2, "multiplier": 0.6})
    strategy_disable(config=quick, actor="alice")
    strategy_enable(config=quick, actor="alice")
    changed = signals(slower)
    until(lambda: signals(slower) >= changed + 10, 120)
    first.kill()
    before = signals()
    second = start_engine()
    until(lambda: signals() >= before + 40, 200)
    second.stop()
    download(market)

    found = {each.name: compared(each, tmp_path) for each in [*configs, hours]}

    assert all(each["is_true"] for each in found.values()) and not any(each["outside"] for each in found.values())
    assert sum(each["same"] for each in found.values()) == signals() >= 100
    assert {each["version"] for each in found["slower"]["stretches"]} == {1, 2}
    assert len(found["back"]["stretches"]) == 2  # before the kill, and after it
