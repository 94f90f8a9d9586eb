"""The whole engine process, measured: ``manage.py runengine`` with PostgreSQL, Valkey, a strategy on every symbol and
frames for pages, on real loopback sockets; 100 symbols on ten connections.

``make bench-engine-process [ARGS="--seconds 10 --rates 10000 20000"]`` plays each rate and prints a line for it.
``--realtime`` (root): on a machine that others use too, its cores are asked for before them while it is measured.
How long the engine's main thread was kept waiting for a core is told.

Times are from when the venue wrote a message (``sent``), and from when the engine had it in hand (``received``), to
when its features were made and strategies were told. Servers and data are of a folder that is thrown away.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.fernet import Fernet

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from benchmarks.engine.load_venue import LISTINGS  # noqa: E402
from benchmarks.own_servers import create_database  # noqa: E402
from tests.services import TestServices  # noqa: E402

RATES = (10_000, 15_000, 20_000, 25_000, 30_000, 40_000)
START_SECONDS = 180.0
# Behind: what was sent takes longer than this to be dealt with, or the venue so much longer to send.
BEHIND_SECONDS = 0.3
PATIENCE_SECONDS = 30.0
SETTLE_SECONDS = 8.0


def asked(url: str, seconds: float) -> Any:
    with urllib.request.urlopen(url, timeout=seconds) as answer:
        return json.loads(answer.read())


def memory_mb(pid: int, name: str) -> float:
    """VmRSS, or VmHWM: the most so far."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def cpu_seconds(pid: int) -> float:
    ticks = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def waited_seconds(pid: int) -> float:
    """How long the main thread could have run but had no core."""
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[1]) / 1e9


def schedule(pid: int, policy: int) -> None:
    """All threads of a process."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setscheduler(int(thread.name), policy, os.sched_param(os.sched_get_priority_min(policy)))


class EngineProcess:
    """An engine that follows the load venue, with servers of its own."""

    def __init__(self, *, realtime: bool) -> None:
        self._realtime = realtime
        self.services = TestServices()
        self.folder = self.services.folder
        self.rows_file = self.folder / "rows.npy"
        self._venue: subprocess.Popen[str] | None = None
        self._engine: subprocess.Popen[bytes] | None = None
        self.url = ""

    def __enter__(self) -> EngineProcess:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in (self._engine, self._venue):
            if process is not None:
                process.kill()
                process.wait()
        self.services.stop()

    @property
    def pid(self) -> int:
        assert self._engine is not None
        return self._engine.pid

    def _start(self) -> None:
        self.services.start()
        cores = sorted(os.sched_getaffinity(0))
        self._venue = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.engine.load_venue"],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, {cores[0]}),
        )
        assert self._venue.stdout is not None
        self.url = f"http://127.0.0.1:{int(self._venue.stdout.readline())}"
        os.environ.update(
            {
                **self.services.environment,
                "BALLAST_SECRET_KEY": "a-key-for-benchmarks-" + "x" * 40,
                "BALLAST_MASTER_KEY": Fernet.generate_key().decode(),
                "EXCHANGE": "simulator",
                "SIMULATOR_URL": self.url,
                "BINANCE_SYMBOLS": ",",
                "DJANGO_SETTINGS_MODULE": "platform_site.settings",
            }
        )
        prepare_database()
        with (self.folder / "engine.log").open("wb") as log:
            self._engine = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.engine.measured_engine", str(self.rows_file)],
                cwd=REPOSITORY,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=lambda: os.sched_setaffinity(0, set(cores[1:]) or set(cores)),
            )
        self._until(lambda: asked(f"{self.url}/subscribed", 10) == len(LISTINGS), START_SECONDS)
        time.sleep(SETTLE_SECONDS)

    def _until(self, question: Any, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not question():
            if self._engine is not None and self._engine.poll() is not None:
                raise SystemExit((self.folder / "engine.log").read_text())
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        return True

    def handled(self) -> int:
        """Book messages so far."""
        count = self.rows_file.with_suffix(".count")
        count.unlink(missing_ok=True)
        os.kill(self.pid, signal.SIGUSR1)
        self._until(lambda: count.exists() and count.read_text(), PATIENCE_SECONDS)
        return int(count.read_text() or 0)

    def play(self, rate: int, seconds: float) -> dict[str, float]:
        """Play at a rate; what it took. The row of the first message is ``first``."""
        messages = int(rate * seconds) // len(LISTINGS) * len(LISTINGS)
        times = self.folder / f"sent-{rate}.npy"
        first = self.handled()
        question = f"{self.url}/play?rate={rate}&messages={messages}&times={times}"
        self._schedule(os.SCHED_RR)
        try:
            cpu, waited, began = cpu_seconds(self.pid), waited_seconds(self.pid), time.monotonic()
            sending = asked(question, 5 * seconds + PATIENCE_SECONDS)
            self._until(lambda: self.handled() >= first + messages, PATIENCE_SECONDS)
            spent, cpu = time.monotonic() - began, cpu_seconds(self.pid) - cpu
            waited = waited_seconds(self.pid) - waited
        finally:
            self._schedule(os.SCHED_OTHER)
        return {
            "rate": rate,
            "first": first,
            "messages": messages,
            "sending": sending,
            "cpu": cpu / spent,
            "cpu_us": 1e6 * cpu / messages,
            "waited": waited / spent,
            "rss_mb": memory_mb(self.pid, "VmRSS"),
        }

    def _schedule(self, policy: int) -> None:
        if self._realtime and self._venue is not None:
            schedule(self.pid, policy)
            schedule(self._venue.pid, policy)
            time.sleep(1)  # the change itself is not what is measured

    def stop(self) -> np.ndarray:
        """End it as its supervisor does; the rows that it wrote."""
        assert self._engine is not None
        self._engine.send_signal(signal.SIGTERM)
        self._engine.wait(PATIENCE_SECONDS)
        return np.load(self.rows_file)


def prepare_database() -> None:
    """Tables, an account, and a strategy that looks at every book. Nothing is traded: the account's keys are no
    venue's."""
    import django

    create_database()
    django.setup()
    from decimal import Decimal

    from django.core.management import call_command

    from benchmarks.engine.load_venue import listed
    from marketdata.instruments import rules_from_bybit
    from marketdata.services import instruments_sync
    from strategies.services import strategy_config_create, strategy_enable
    from tests import builders

    call_command("migrate", interactive=False, verbosity=0)
    instruments_sync([rules_from_bybit(listed(each), "linear") for each in LISTINGS])
    config = strategy_config_create(
        account=builders.account(builders.user("benchmark")),
        name="imbalance",
        strategy="scalping.imbalance",
        symbols=[each.symbol for each in LISTINGS],
        parameters={"threshold": 0.99},
        sizing_mode="fixed_usd",
        sizing_value=Decimal(20),
        leverage=Decimal(10),
        actor="benchmark",
    )
    strategy_enable(config=config, actor="benchmark")


def heartbeat() -> dict[str, Any]:
    from audit.models import ComponentHeartbeat

    return ComponentHeartbeat.objects.get(component="engine").detail


def latencies(rows: np.ndarray, played: dict[str, float], sent: np.ndarray) -> dict[str, list[float]]:
    """p50, p99 and p99.9 in ms. Messages of one symbol arrive in the order in which they were sent."""
    first, messages = int(played["first"]), int(played["messages"])
    mine = rows[first : first + messages]
    ordered = np.argsort(mine[:, 0], kind="stable")
    symbols = len(LISTINGS)
    sent_of = np.concatenate([sent[place::symbols] for place in range(symbols)])[: len(mine)]
    done, received = mine[ordered, 2], mine[ordered, 1]

    def summary(nanoseconds: np.ndarray) -> list[float]:
        return [round(float(each) / 1e6, 3) for each in np.percentile(nanoseconds, [50, 99, 99.9])]

    found = {"received": summary(done - received)}
    if len(mine) == messages:
        found["sent"] = summary(done - sent_of)
        found["late"] = [float(done.max() - sent.max()) / 1e9]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each rate")
    parser.add_argument("--rates", type=int, nargs="+", default=list(RATES), help="book messages a second")
    parser.add_argument("--realtime", action="store_true", help="measured threads run before others (root)")
    options = parser.parse_args()
    print(f"load average before: {os.getloadavg()}", flush=True)
    with EngineProcess(realtime=options.realtime) as engine:
        print(f"idle: {memory_mb(engine.pid, 'VmRSS'):.0f} MB", flush=True)
        all_played = []
        for rate in options.rates:
            all_played.append(engine.play(rate, options.seconds))
            if all_played[-1]["sending"] > options.seconds + BEHIND_SECONDS:
                break
        most = memory_mb(engine.pid, "VmHWM")
        time.sleep(3)  # one more heartbeat
        detail = heartbeat()
        rows = engine.stop()
        for played in all_played:
            sent = np.load(engine.folder / f"sent-{int(played['rate'])}.npy")
            told = latencies(rows, played, sent)
            lost = max(0, int(played["messages"]) - len(rows[int(played["first"]) :]))
            print(
                f"{int(played['rate']):,}/s: sent in {played['sending']:.2f} s, lost {lost}, "
                f"CPU {100 * played['cpu']:.0f} % of a core ({played['cpu_us']:.1f} us a message), "
                f"{100 * played['waited']:.0f} % waiting for one, {played['rss_mb']:.0f} MB; p50, p99, p99.9 in ms:",
                "; ".join(f"{name} {values}" for name, values in told.items()),
            )
        feed = detail["feeds"]["bybit linear"]
        print(f"most memory {most:.0f} MB; books {feed['books']}, gaps {feed['gaps']}, refused {feed['refused']}")
        print(f"backlog {detail['backlog']}; signals {detail['signals']}; faults {detail['faults']}")
    print(f"load average after: {os.getloadavg()}")


if __name__ == "__main__":
    main()
