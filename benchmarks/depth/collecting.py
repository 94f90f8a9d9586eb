"""A hundred symbols at once, on spot and futures, by the collector's own process from the simulator's Binance side."""

from __future__ import annotations

import os
import time
from pathlib import Path

from benchmarks.depth.report import Report
from marketdata.depth import selectors, services
from marketdata.depth.models import DepthRow
from tests.processes import RunningProcess, start_server, until

SYMBOLS = 100
ROUNDS = 2
TICKS = os.sysconf("SC_CLK_TCK")
CORE_PERCENT = 2.0


def hundred_symbols(report: Report) -> None:
    from marketdata.depth.snapshots import DEPTHS

    folder = Path(os.environ["BALLAST_DATA_DIR"])
    command = ("manage.py", "runsimulator", "--host", "127.0.0.1", "--port", "{port}", "--symbols", str(SYMBOLS))
    simulator = start_server([*command, "--liveliness", "0.2"], os.environ, folder / "simulator.log", "/v5/market/time")
    try:
        names = _listed(simulator.url)
        services.collector_symbols_add(symbols=names, source="rest", actor="bench")
        environment = {**os.environ, "SIMULATOR_URL": simulator.url}
        collector = RunningProcess.start(("manage.py", "collect_depth"), environment, folder / "collector.log")
        try:
            until(lambda: _detail().get("last_collection"), 120)
            # From the beginning of a minute: the first round began in the middle of one.
            time.sleep(60 - time.time() % 60)
            began, before, asked = time.time(), _processor_seconds(collector), _detail()["requests"]
            rows = DepthRow.objects.filter(series__symbol__in=names)
            time.sleep(60 * ROUNDS)
            seconds, spent = time.time() - began, _processor_seconds(collector) - before
            told = _detail()
            books = told["requests"]["ok"] - asked["ok"]
            failed = told["requests"]["failed"] - asked["failed"]
            report.say(
                f"{len(names)} symbols on two markets by REST, 300 ms apart, watched for {ROUNDS} minutes: {books} "
                f"books ({books / seconds * 60:.0f} a minute of {2 * len(names)} wanted), {failed} failed requests; "
                f"a round of one market takes {0.3 * len(names):.0f} s of its minute at the least"
            )
            report.say(
                f"the whole process took {spent / seconds * 100:.1f} % of a core "
                f"({spent / max(1, books) * 1e3:.1f} ms a book with its request, its journal and its rows)"
            )
            stored = until(lambda: rows.count() if not _detail()["writer"]["waiting"] else 0, 90)
            minutes = rows.values("minute").distinct().count()
            report.say(
                f"{stored} rows stored of {minutes} minutes; {2 * len(names) * len(DEPTHS)} belong to a whole minute"
            )
        finally:
            collector.stop()
    finally:
        simulator.stop()
        services.collector_symbols_remove(symbols=names, actor="bench")


def _listed(url: str) -> list[str]:
    import json
    import urllib.request

    with urllib.request.urlopen(f"{url}/fapi/v1/exchangeInfo", timeout=20) as answer:
        return sorted(row["symbol"] for row in json.loads(answer.read())["symbols"])[:SYMBOLS]


def _detail() -> dict:  # type: ignore[type-arg]
    return selectors.collector_status()["detail"]  # type: ignore[no-any-return]


def _processor_seconds(process: RunningProcess) -> float:
    words = Path(f"/proc/{process.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / TICKS
