"""A strategy that raises, loops or changes under way is stopped by name and line, and the others go on."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from audit.models import Alert, AuditEvent, ComponentHeartbeat
from marketdata.events import Candle
from strategies.call_watch import CallWatch
from strategies.models import Signal, StrategyConfig
from strategies.registry import STRATEGIES
from strategies.services import strategy_config_create, strategy_enable, strategy_stop
from tests import builders
from tests.builders import RULES
from tests.processes import until
from tests.strategies.own import line_of, written
from tests.trading.test_pipeline import RICH
from tests.trading.test_pipeline import running as of_imbalance
from trading.models import Account
from trading.pipeline import MOST_FAULTS, Pipeline, PipelineConfiguration, RunningStrategy, StrategyFault
from trading.runtime.configuration import load_configuration, stop_changed_strategies
from trading.runtime.strategy_watch import StrategyWatch
from trading.simulator.keys import DEMO_KEYS

D = Decimal
BUYS = ("self.risen != self.bars", "self.risen < 1")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A strategies folder of the test's own, with the good strategy in it."""
    made = tmp_path / "strategies"
    written(made, "mine", BUYS)
    STRATEGIES.look_in(made)
    yield made
    STRATEGIES.look_in(settings.STRATEGIES_DIR)


def candle(number: int, close: float) -> Candle:
    prices = [D(str(round(price, 1))) for price in (close, close + 20, close - 20, close)]
    return Candle("BTCUSDT", "1", number * 60_000, *prices, D(1), D(1), True)


def running(strategy: str = "own.mine", **changes: Any) -> RunningStrategy:
    specs = STRATEGIES[strategy].parameters if strategy in STRATEGIES else ()
    parameters = {spec.name: spec.default for spec in specs} | {"bars": 1}
    return of_imbalance(strategy=strategy, name=strategy, parameters=parameters, **changes)


def pipeline(*strategies: RunningStrategy, call: Any = None) -> Pipeline:
    made = Pipeline(lambda: "trace", call=call)
    made.configure(PipelineConfiguration(strategies, {"BTCUSDT": RULES}))
    for each in strategies:
        made.update_exposure(each.account_id, RICH)
    return made


def bars(made: Pipeline, count: int, start: int = 0) -> list[Any]:
    """Rising bars."""
    return [outcome for n in range(start, start + count) for outcome in made.on_candle(candle(n, 60_000 + n))]


def test_a_fault_names_the_strategys_own_line_and_after_ten_in_a_row_it_is_not_asked_again(folder: Path) -> None:
    path = written(folder, "bad", BUYS, ("own.mine", "own.bad"), ("last, self.last", "1 / 0; last, self.last"))
    STRATEGIES.refresh()
    made = pipeline(running("own.bad"), running("own.mine", config_id=2, account_id=2))
    outcomes = bars(made, 30)
    faults = [each for each in outcomes if isinstance(each, StrategyFault)]
    assert [each.in_a_row for each in faults] == list(range(1, MOST_FAULTS + 1))
    assert [each.is_over for each in faults] == [False] * (MOST_FAULTS - 1) + [True]
    line = line_of(path, "1 / 0")
    assert faults[0].error == f"ZeroDivisionError: division by zero (bad.py:{line} in on_candle)"
    assert any(not isinstance(each, StrategyFault) for each in outcomes)


def test_a_call_that_goes_well_begins_the_count_anew(folder: Path) -> None:
    written(
        folder, "moody", ("own.mine", "own.moody"), ("last, self.last", "candle.start_ms % 7 or 1 / 0; last, self.last")
    )
    STRATEGIES.refresh()
    faults = [each for each in bars(pipeline(running("own.moody")), 100) if isinstance(each, StrategyFault)]
    assert len(faults) > MOST_FAULTS and {each.in_a_row for each in faults} == {1}


def test_one_that_cannot_be_made_leaves_the_others_alone_and_is_tried_again_when_it_is_enabled_again(
    folder: Path,
) -> None:
    written(folder, "unmade", ("own.mine", "own.unmade"), ("self.symbol, self.bars", "1 / 0; self.symbol, self.bars"))
    STRATEGIES.refresh()
    made = pipeline(running("own.unmade"), running("own.mine", config_id=2))
    (fault,) = made.take_faults()
    assert fault.is_over and "unmade.py" in fault.error and "in __init__" in fault.error
    made.follow(frozenset({"BTCUSDT"}))
    assert made.take_faults() == [] and bars(made, 30)
    made.configure(PipelineConfiguration((running("own.mine", config_id=2),), {"BTCUSDT": RULES}))
    made.configure(PipelineConfiguration((running("own.unmade"),), {"BTCUSDT": RULES}))
    assert len(made.take_faults()) == 1


def test_one_that_raises_while_it_is_warmed_up_is_told_too(folder: Path) -> None:
    written(folder, "bad", ("own.mine", "own.bad"), ("last, self.last", "raise SystemExit; last, self.last"))
    STRATEGIES.refresh()
    made = pipeline(running("own.bad"))
    made.warm([candle(n, 60_000) for n in range(20)])
    assert [each.in_a_row for each in made.take_faults()] == list(range(1, MOST_FAULTS + 1))


def test_an_endless_loop_ends_at_its_line_and_is_over_at_once(folder: Path) -> None:
    loop = "while candle.start_ms > 120_000: pass  # here\n        last, self.last"
    path = written(folder, "endless", BUYS, ("own.mine", "own.endless"), ("last, self.last", loop))
    STRATEGIES.refresh()
    with CallWatch(0.3) as watch:
        outcomes = bars(pipeline(running("own.endless"), running(config_id=2, account_id=2), call=watch.call), 8)
    (fault,) = [each for each in outcomes if isinstance(each, StrategyFault)]
    assert fault.is_over and fault.error.endswith(f"(endless.py:{line_of(path, '# here')} in on_candle)")
    assert sum(not isinstance(each, StrategyFault) for each in outcomes) >= 3


def test_changed_code_starts_anew_and_unchanged_code_goes_on(folder: Path) -> None:
    one = replace(running(), code="a")
    made = pipeline(one)
    made.warm([candle(n, 60_000) for n in range(5)])
    assert made.configure(PipelineConfiguration((one,), {"BTCUSDT": RULES})) == ()
    assert made.configure(PipelineConfiguration((replace(one, code="b"),), {"BTCUSDT": RULES})) != ()


# With the database: what engines do about it.


@pytest.fixture
def account(db: None) -> Account:
    builders.list_instruments()
    return builders.account(builders.user("alice"), key=DEMO_KEYS["alice"])


def configured(account: Account, strategy: str = "own.mine", name: str = "own", **parameters: Any) -> StrategyConfig:
    config = strategy_config_create(
        account=account,
        name=name,
        strategy=strategy,
        symbols=["BTCUSDT"],
        parameters=parameters,
        sizing_mode="fixed_usd",
        sizing_value=D(20),
        leverage=D(10),
        actor="alice",
    )
    return strategy_enable(config=config, actor="alice")


def test_only_the_code_that_somebody_enabled_runs_and_a_changed_file_stops_it(account: Account, folder: Path) -> None:
    config = configured(account)
    code = STRATEGIES.code("own.mine")
    assert config.code == code and len(code) == 64
    (loaded,) = load_configuration("simulator").strategies
    assert loaded.code == code
    stop_changed_strategies("simulator", "engine:test")
    assert StrategyConfig.objects.get().enabled

    written(folder, "mine", BUYS, ('title = "Mine"', 'title = "Changed"'))
    stop_changed_strategies("simulator", "engine:test")
    assert load_configuration("simulator").strategies == ()
    assert not StrategyConfig.objects.get().enabled
    event = AuditEvent.objects.get(action="strategy.stopped")
    assert (event.actor, event.reason) == ("engine:test", "its file has changed since it was enabled")
    alert = Alert.objects.get(kind="strategy_stopped")
    assert alert.account_id == account.pk and "own (own.mine) is disabled: its file has changed" in alert.message

    strategy_enable(config=config, actor="alice")
    (loaded,) = load_configuration("simulator").strategies
    assert loaded.code == STRATEGIES.code("own.mine") != code


def test_a_file_that_is_gone_only_pauses_and_a_broken_one_is_told_once(account: Account, folder: Path) -> None:
    configured(account)
    text = (folder / "mine.py").read_bytes()
    (folder / "mine.py").unlink()
    stop_changed_strategies("simulator", "engine:test")
    assert load_configuration("simulator").strategies == () and StrategyConfig.objects.get().enabled
    (folder / "mine.py").write_bytes(text)
    (folder / "bad.py").write_text("import nothing_of_that_name\n")
    for _ in range(2):
        stop_changed_strategies("simulator", "engine:test")
    assert len(load_configuration("simulator").strategies) == 1
    (alert,) = Alert.objects.filter(kind="strategy_file")
    assert (alert.count, alert.account_id) == (1, None) and alert.message.startswith("bad.py:1: ModuleNotFoundError")


def test_a_stop_is_of_one_version_and_happens_once(account: Account, folder: Path) -> None:
    config = configured(account)
    assert not strategy_stop(config_id=config.pk, actor="engine:test", reason="why", version=config.version + 1)
    assert strategy_stop(config_id=config.pk, actor="engine:test", reason="why", version=config.version)
    assert not strategy_stop(config_id=config.pk, actor="engine:test", reason="why", version=config.version)
    assert Alert.objects.get().count == 1


@pytest.mark.django_db(transaction=True)
def test_an_engine_disables_what_is_over(account: Account, folder: Path) -> None:
    config = configured(account)
    watch = StrategyWatch("test")
    (loaded,) = load_configuration("simulator").strategies
    assert not watch.note([StrategyFault(loaded, "BTCUSDT", "ValueError: no (mine.py:3)", "mine.py:3", 9)])
    assert watch.note([StrategyFault(loaded, "BTCUSDT", "ValueError: no (mine.py:3)", "mine.py:3", 10)])
    asyncio.run(watch.settle())
    config.refresh_from_db()
    assert not config.enabled and watch.count == 2 and not watch.note([])
    assert "ValueError: no (mine.py:3), on BTCUSDT" in Alert.objects.get().message


STUCK = """
import sys, time
import django
django.setup()
from trading.runtime.configuration import load_configuration
from trading.runtime.strategy_watch import StrategyWatch
import trading.runtime.strategy_watch as module
module.CALL_SECONDS = 0.5
(running,) = load_configuration("simulator").strategies
watch = StrategyWatch("test")
watch.calls.start()
watch.calls.call((running, "BTCUSDT"), time.sleep, 60)
"""


@pytest.mark.django_db(transaction=True)
def test_what_no_exception_reaches_ends_the_engine_after_its_strategy_is_disabled(
    account: Account, folder: Path, process_environment: dict[str, str]
) -> None:
    config = configured(account)
    environment = {**process_environment, "STRATEGIES_DIR": str(folder), "PATH": os.environ["PATH"]}
    done = subprocess.run([sys.executable, "-c", STUCK], capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 70 and "did not come back" in done.stderr
    config.refresh_from_db()
    assert not config.enabled and "the engine had to be started again" in Alert.objects.get().message


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.django_db(transaction=True)
def test_in_a_running_engine_bad_files_are_stopped_one_by_one_while_a_good_one_trades(
    account: Account, folder: Path, start_process: Callable[..., Any], start_simulator: Callable[..., Any]
) -> None:
    for name, fault in (("raises", "1 / 0"), ("loops", "while True: pass")):
        on_trade = f"def on_trade(self, trade):\n        {fault}\n\n    def on_candle(self, candle):"
        written(folder, name, ("own.mine", f"own.{name}"), ("def on_candle(self, candle):", on_trade))
    STRATEGIES.refresh()
    configs = [configured(account, f"own.{name}", name) for name in ("raises", "loops")]
    good = configured(account, "scalping.imbalance", "good", threshold=0.55, hold_ms=0, cooldown_s=1)
    venue = start_simulator("--symbols", "3", "--seed", "5")
    start_process("runengine", SIMULATOR_URL=venue.url, STRATEGIES_DIR=str(folder))
    for config in configs:
        until(lambda pk=config.pk: not StrategyConfig.objects.get(pk=pk).enabled, 120)
    messages = " ".join(Alert.objects.values_list("message", flat=True))
    assert "raises (own.raises) is disabled: ZeroDivisionError: division by zero (raises.py:" in messages
    assert "loops (own.loops) is disabled: it did not come back in time (loops.py:" in messages
    count = Signal.objects.filter(config=good).count()
    until(lambda: Signal.objects.filter(config=good).count() > count, 60)
    assert StrategyConfig.objects.get(pk=good.pk).enabled
    # An engine tells of itself every two seconds.
    until(lambda: ComponentHeartbeat.objects.get(component="engine").detail["faults"] >= MOST_FAULTS + 1)
