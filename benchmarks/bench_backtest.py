"""The backtester, measured beside its peers: one run, one process, in turns.

``make bench-backtest`` sets up the peers (requirements/bench.txt) and runs this. The table goes to
benchmarks/results/backtest.md, every number to backtest.json beside it. All trade the same: crossing means of 50 and
200 closes, orders at the next open, turned at each crossing; how many positions each closed is in the table. Ratios
mean something, absolute times are this machine's.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numba
import numpy as np

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from benchmarks.backtest import book_feed, book_replay, market, peers  # noqa: E402
from marketdata.candles.series import MINUTE_MS  # noqa: E402
from risk.exits import ExitRules  # noqa: E402
from risk.limits import ACCOUNT_DEFAULTS  # noqa: E402
from strategies.registry import STRATEGIES  # noqa: E402
from trading.backtest.compiled import Told, run_compiled  # noqa: E402
from trading.backtest.request import BacktestRequest, Costs, StrategyRun  # noqa: E402
from trading.backtest.run import run_backtest  # noqa: E402
from trading.backtest.sweep import grid_sets, sweep  # noqa: E402

RESULTS = Path(__file__).resolve().parent / "results"
FAST, SLOW = 50, 200
GRID = {"fast": list(range(10, 110, 10)), "slow": list(range(150, 650, 50))}
REPEATED = 100
MEGABYTE = 1e6
YEAR = 365


@dataclass(slots=True)
class Task:
    """``fresh``: makes what is timed, each time. ``asked``: how many times as fast as this peer ours should be."""

    name: str
    fresh: Callable[[], Callable[[], Any]]
    asked: str = ""
    seconds: list[float] = field(default_factory=list)
    result: Any = None

    def once(self, clock: Callable[[], float]) -> None:
        run = self.fresh()
        gc.collect()
        gc.disable()
        began = clock()
        self.result = run()
        self.seconds.append(clock() - began)
        gc.enable()


@dataclass(slots=True)
class Row:
    section: str
    what: str
    seconds: float
    trades: str = ""
    ratio: float | None = None
    asked: str = ""
    spread: str = ""

    def cells(self) -> list[str]:
        time_ = f"{self.seconds * 1e3:,.2f} ms" if self.seconds < 1 else f"{self.seconds:,.2f} s"
        ratio = "" if self.ratio is None else f"{self.ratio:.1f}x"
        return [self.what, time_, self.spread, self.trades, ratio, self.asked]


HEADINGS = ["what", "median", "min..max", "closed positions", "ours is faster", "asked"]


def request_for(symbols: tuple[str, ...], bars: int, **changes: Any) -> BacktestRequest:
    """One quantity, no exit rules: what the peers do."""
    run = StrategyRun("sma_cross", symbols, {"fast": FAST, "slow": SLOW}, sizing_mode="minimum")
    made = BacktestRequest(
        (run,),
        market.START_MS,
        market.START_MS + bars * MINUTE_MS,
        balance=Decimal(int(peers.BALANCE)),
        costs=Costs(fee=Decimal(str(market.FEE)), slippage=Decimal(0), funding=False),
        exit_rules=ExitRules(enabled=False),
    )
    return replace(made, **changes)


class Benchmark:
    def __init__(self, bars: int, rounds: int, slow_rounds: int) -> None:
        self.bars, self.rounds, self.slow_rounds = market.bars_of(bars), rounds, slow_rounds
        self.request = request_for(("BTCUSDT",), bars)
        self.data = {("BTCUSDT", "1"): self.bars.series}
        self.rules = {"BTCUSDT": market.rules_of("BTCUSDT")}
        self.rows: list[Row] = []
        self.absent: list[str] = []
        self.notes: list[str] = []

    def compare(
        self, section: str, ours: list[Task], others: list[Task], rounds: int, clock: Callable[[], float]
    ) -> None:
        """In turns; a ratio is the median of each turn's, ours being the first."""
        for _ in range(rounds):
            for task in (*ours, *others):
                task.once(clock)
        for task in (*ours, *others):
            ratios = [theirs / own for own, theirs in zip(ours[0].seconds, task.seconds, strict=True)]
            ratio = statistics.median(ratios) if task in others else None
            trades = task.result[0] if isinstance(task.result, tuple) else ""
            spread = f"{min(task.seconds) * 1e3:,.1f}..{max(task.seconds) * 1e3:,.1f} ms"
            median = statistics.median(task.seconds)
            self.rows.append(Row(section, task.name, median, str(trades), ratio, task.asked, spread))

    def known(self, task: Task, distribution: str) -> list[Task]:
        found = peers.version(distribution)
        if not found:
            self.absent.append(f"{task.name} ({distribution} is not installed)")
            return []
        task.name = f"{task.name} {found}"
        return [task]

    def compiled(self) -> None:
        told = Told(self.bars.series).all_at_once()

        def ours(ready: Told | None) -> tuple[int, float]:
            found = run_compiled(self.request, self.data, {}, self.rules, ready)
            return len(found.fills) - 1, float(found.balance - self.request.balance)

        own = [
            Task("compiled path, bars as floats before, as the peer has them", lambda: lambda: ours(told)),
            Task("compiled path, from exact bars", lambda: lambda: ours(None)),
        ]
        self.warm(own)
        theirs = self.known(Task("vectorbt", lambda: peers.vectorbt_run(self.bars, FAST, SLOW), ">= 10x"), "vectorbt")
        self.warm(theirs)
        section = f"Compiled path, {len(self.bars.close):,} bars, CPU time"
        self.compare(section, own, theirs, self.rounds, time.process_time)
        self.check_same(own[0], theirs)

    def swept(self) -> None:
        sets = grid_sets(GRID)
        pairs = [(each["fast"], each["slow"]) for each in sets]
        own = [
            Task(
                f"sweep on {len(os.sched_getaffinity(0))} cores",
                lambda: lambda: sweep(self.request, sets, self.data, {}, self.rules),
            )
        ]
        self.warm(own)
        fresh = Task("vectorbt, one set after the other", lambda: peers.vectorbt_sweep(self.bars, pairs), ">= 20x")
        theirs = self.known(fresh, "vectorbt")
        small = market.bars_of(5_000)
        if theirs:
            peers.vectorbt_sweep(small, pairs[:2])()
        section = (
            f"{len(sets)} parameter sets, {len(self.bars.close):,} bars, wall time; trades, profit, Sharpe, drawdown"
        )
        self.compare(section, own, theirs, self.slow_rounds, time.perf_counter)
        for task in theirs:
            mine, other = own[0].result, task.result
            for one, two in zip(mine, other, strict=True):
                if abs(one.trades - two[0]) > max(5, 0.01 * two[0]):
                    raise AssertionError(f"{one.parameters}: {one.trades} trades, {two[0]} of the peer")
            self.notes.append(f"First set: ours {mine[0]}; vectorbt (trades, profit, Sharpe, drawdown) {other[0]}.")

    def full(self) -> None:
        count = len(self.bars.close)
        guarded = replace(self.request, exit_rules=ExitRules(), limits=ACCOUNT_DEFAULTS)

        def ours(request: BacktestRequest) -> tuple[int, float]:
            found = run_backtest(request, self.data, {}, self.rules)
            return len(found.trades), float(found.balance - request.balance)

        guarded_task = Task("full path, all exit rules and limits on", lambda: lambda: ours(guarded))
        own = [
            guarded_task,
            Task("full path, the same trades, no exit rules, no limits", lambda: lambda: ours(self.request)),
        ]
        small = market.bars_of(20_000)
        run_backtest(replace(guarded, end_ms=market.START_MS + 20_000 * MINUTE_MS), self.data, {}, self.rules)
        theirs = self.known(
            Task("backtesting.py", lambda: peers.backtesting_run(self.bars, FAST, SLOW), ">= 5x"), "backtesting"
        )
        if theirs:
            peers.backtesting_run(small, FAST, SLOW)()
        nautilus = self.known(Task("nautilus_trader", lambda: lambda: None, ">= 25x"), "nautilus_trader")
        if nautilus:
            peers.nautilus_run(small, FAST, SLOW)()()
            nautilus[0].fresh = peers.nautilus_run(self.bars, FAST, SLOW)
        section = f"Full path, {count:,} bars, CPU time"
        others = [*theirs, *nautilus]
        self.compare(section, own, others, self.slow_rounds, time.process_time)
        for task in others:
            ratio = statistics.median([other / mine for mine, other in zip(own[1].seconds, task.seconds, strict=True)])
            self.notes.append(f"Full path without exit rules and limits: {ratio:.1f}x as fast as {task.name}.")
        self.check_same(own[1], theirs)

    def check_same(self, ours: Task, others: list[Task]) -> None:
        """Positions that were closed, but for one at the end and crossings that are a matter of rounding."""
        for task in others:
            if abs(task.result[0] - ours.result[0]) > max(5, 0.005 * ours.result[0]):
                raise AssertionError(f"{task.name} closed {task.result[0]} positions, ours {ours.result[0]}")
            self.notes.append(f"Profit after fees: ours {ours.result[1]:.2f}, {task.name} {task.result[1]:.2f} USDT.")

    def memory(self) -> None:
        """Resident memory after some runs and after a hundred more."""
        small = request_for(("BTCUSDT",), 5_000)
        for name, run in (
            ("compiled path", lambda: run_compiled(self.request, self.data, {}, self.rules)),
            ("full path, 5,000 bars", lambda: run_backtest(small, self.data, {}, self.rules)),
        ):
            for _ in range(10):
                run()
            before = resident()
            for _ in range(REPEATED):
                run()
            grown = (resident() - before) / MEGABYTE
            self.notes.append(f"Memory over {REPEATED} runs of the {name}: {grown:+.1f} MB.")

    def many(self, symbols: int, days: int) -> None:
        """One account on many symbols, the full path, exit rules and limits on."""
        count, names = days * 1_440, tuple(f"S{number:02d}USDT" for number in range(symbols))
        data = {(name, "1"): market.series_of(name, count, seed) for seed, name in enumerate(names)}
        request = request_for(names, count, exit_rules=ExitRules(), limits=ACCOUNT_DEFAULTS)
        rules = {name: market.rules_of(name) for name in names}
        begun = resident()

        def ours() -> tuple[int, float]:
            busy = time.process_time()
            found = run_backtest(request, data, {}, rules)
            busy = time.process_time() - busy
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1_024
            self.notes.append(
                f"{symbols} symbols, {days} days: {busy:,.1f} s of CPU, {len(found.signals):,} signals, "
                f"{len(found.fills):,} fills; bars and all before it {begun / MEGABYTE:,.0f} MB, "
                f"peak of the process {peak / MEGABYTE:,.0f} MB."
            )
            return len(found.trades), float(found.balance)

        small = replace(request, end_ms=market.START_MS + 300 * MINUTE_MS)
        run_backtest(small, data, {}, rules)
        task = Task("full path, exit rules and limits on", lambda: ours, "" if days < YEAR else "< 60 s")
        self.compare(
            f"{symbols} symbols, {days} days of minutes, one account, wall time", [task], [], 1, time.perf_counter
        )

    def replayed(self, events: int) -> None:
        """A strategy that quotes, on a recorded book."""
        feed = book_feed.feed_of(events)
        count, heard = book_feed.changes_of(feed), feed.as_received()
        own = [
            Task("compiled strategy, exchange's book and the one heard", lambda: book_replay.compiled(feed, heard)),
            Task("strategy in Python between stops, both books", lambda: book_replay.in_python(feed, heard)),
            Task("no strategy, exchange's book", lambda: book_replay.alone(feed)),
        ]
        theirs = self.known(
            Task("hftbacktest, vector", lambda: book_replay.hftbacktest(feed, by_vector=True), ">= 1x"), "hftbacktest"
        ) + self.known(
            Task("hftbacktest, hash map", lambda: book_replay.hftbacktest(feed, by_vector=False), ">= 1x"),
            "hftbacktest",
        )
        self.warm([*own, *theirs])
        self.compare(f"Book replay, {count:,} events, CPU time", own, theirs, self.rounds, time.process_time)
        tasks = [*own, *theirs]
        for row, task in zip(self.rows[-len(tasks) :], tasks, strict=True):
            row.what += f": {count / row.seconds / 1e6:.1f} million events/s"
            row.trades = f"{task.result[0]:,} fills"
        for task in theirs:
            fills, held = own[0].result
            if abs(task.result[0] - fills) > 0.02 * fills:
                raise AssertionError(f"{task.name} has {task.result[0]} fills, ours {fills}")
            ratio = statistics.median(task.seconds) / statistics.median(own[1].seconds)
            self.notes.append(
                f"Book replay, lots held at the end: ours {held}, {task.name} {task.result[1]}. "
                f"Ours with its strategy in Python is {ratio:.1f}x as fast as {task.name} with its compiled one."
            )

    def warm(self, tasks: list[Task]) -> None:
        for task in tasks:
            task.fresh()()


def resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def machine() -> dict[str, Any]:
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    return {
        "when": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "cpu": names[0] if names else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "numba": numba.__version__,
        "numpy": np.__version__,
    }


def markdown(rows: list[Row]) -> str:
    lines: list[str] = []
    for section in dict.fromkeys(row.section for row in rows):
        lines += ["", f"## {section}", "", f"| {' | '.join(HEADINGS)} |", f"|{'---|' * len(HEADINGS)}"]
        lines += [f"| {' | '.join(row.cells())} |" for row in rows if row.section == section]
    return "\n".join(lines) + "\n"


def write(benchmark: Benchmark, before: dict[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    after = machine()
    versions = f"Python {before['python']}, numba {before['numba']}, numpy {before['numpy']}"
    head = [
        "# The backtester, measured",
        "",
        f"{before['when']}, {before['cpu']}, {before['cores']} cores, {versions}.",
        f"Load average before {before['load']:.1f}, after {after['load']:.1f} (this benchmark is 1 of it, a sweep 2).",
        "Medians of turns, each after a run that is not counted (compiling is not in them); a ratio is the median of",
        "each turn's, against the first row of its table. Ratios mean something, absolute times are this machine's at",
        "this hour. Sharpe ratios differ a little: vectorbt's first day is not compared with the starting balance.",
        f"Crossing means of {FAST} and {SLOW} closes of generated bars. Made by `make bench-backtest`.",
        "",
        "Absent: " + ("; ".join(benchmark.absent) or "nothing") + ".",
    ]
    notes = ["", *(f"- {note}" for note in benchmark.notes)]
    (RESULTS / "backtest.md").write_text("\n".join(head) + "\n" + markdown(benchmark.rows) + "\n".join(notes) + "\n")
    found = {"before": before, "after": after, "absent": benchmark.absent, "notes": benchmark.notes}
    found["rows"] = [asdict(row) for row in benchmark.rows]
    (RESULTS / "backtest.json").write_text(json.dumps(found, indent=1) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bars", type=int, default=500_000, help="of one symbol")
    parser.add_argument("--rounds", type=int, default=7, help="turns of what is fast")
    parser.add_argument("--slow-rounds", type=int, default=1, help="turns of sweeps, the full path and its peers")
    parser.add_argument("--symbols", type=int, default=50, help="in one account")
    parser.add_argument("--days", type=int, default=14, help="of minutes, of each of the symbols")
    parser.add_argument("--year", action="store_true", help=f"{YEAR} days of them; wants 4 GB of memory")
    parser.add_argument("--events", type=int, default=3_000_000, help="of the recorded book")
    parser.add_argument("--only", default="compiled,swept,full,memory,many,replayed", help="parts, by comma")
    parser.add_argument("--print-only", action="store_true", help="leave the files of results as they are")
    options = parser.parse_args()
    STRATEGIES.look_in(Path(__file__).parent / "backtest" / "strategies")
    before = machine()
    benchmark = Benchmark(options.bars, options.rounds, options.slow_rounds)
    parts = {
        "compiled": benchmark.compiled,
        "swept": benchmark.swept,
        "full": benchmark.full,
        "memory": benchmark.memory,
        "many": lambda: benchmark.many(options.symbols, YEAR if options.year else options.days),
        "replayed": lambda: benchmark.replayed(options.events),
    }
    for name in options.only.split(","):
        print(f"==> {name}", flush=True)
        parts[name]()
    if options.print_only:
        print(markdown(benchmark.rows), *benchmark.notes, sep="\n")
        return 0
    write(benchmark, before)
    print((RESULTS / "backtest.md").read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
