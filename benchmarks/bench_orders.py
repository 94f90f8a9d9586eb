"""The order path, measured: from a signal to the venue's answer in a whole engine process that owns its accounts by
fenced leases, with a PostgreSQL that waits for the disk, Valkey and the simulator on loopback.

``make bench-orders [ARGS="--seconds 10 --accounts 50 --open-orders 1000 --realtime --against DIRECTORY"]``. The
simulator's limits on rates are out of reach, so that our own path is what limits. ``--against``: another checkout,
played in turns with this one; ratios are of the medians of both. ``--realtime`` (root): on a machine that others use
too, its cores are asked for before them. Tables and JSON go to benchmarks/results.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
# The platform is the measured checkout's, the benchmark is this one's.
MEASURED = "BALLAST_MEASURED_CHECKOUT"
sys.path[:0] = [os.environ.get(MEASURED, str(REPOSITORY)), str(REPOSITORY)]

from benchmarks.orders.deployment import OrderDeployment  # noqa: E402

RESULTS = REPOSITORY / "benchmarks" / "results"
SYMBOLS = 5
TURN_SECONDS = 900.0
MODEST = 5.0
SETTLE_SECONDS = 3.0
SHOWN = ("p50", "p99", "p99.9")
STAGES = {
    "committed": "signal -> committed",
    "sent": "signal -> sending",
    "venue": "request -> answer of the venue",
    "answered": "sending -> answer booked",
}


def latency(deployment: OrderDeployment, accounts: int, seconds: float) -> list[dict[str, Any]]:
    engine = deployment.start_engine("latency")
    ready = engine.ask("ready")
    if "error" in ready:
        raise SystemExit(f"accounts do not trade: {ready['error']}")
    time.sleep(SETTLE_SECONDS)
    plays = []
    for name, many, rate in (
        ("one account, 5/s", 1, MODEST),
        ("one account, flat out", 1, 0),
        ("all, flat out", accounts, 0),
    ):
        deployment.hurry(True)
        try:
            played = engine.ask("play", accounts=many, seconds=seconds, rate=rate)
        finally:
            deployment.hurry(False)
        plays.append({"play": name, "accounts": many, **played})
        time.sleep(1)
    engine.kill()
    return plays


def recovery(deployment: OrderDeployment, orders: int) -> list[dict[str, Any]]:
    """SIGKILL with so many open orders of one account: a new process, and one that stood by."""
    engine = deployment.start_engine("first")
    engine.ask("ready")
    time.sleep(SETTLE_SECONDS)
    placed = engine.ask("play", accounts=1, seconds=240, rate=0, resting=True, most=orders)
    found = []
    killed = engine.kill()
    engine = deployment.start_engine("again")
    found.append(_recovered("started again", killed, engine.ask("ready")["moments"], placed["orders"]))
    engine.say("ready")
    second = deployment.start_engine("second")
    second.say("ready")
    engine.answer()
    time.sleep(SETTLE_SECONDS + 5)
    killed = engine.kill()
    found.append(_recovered("stood by", killed, second.answer()["moments"], placed["orders"]))
    second.kill()
    return found


def _recovered(how: str, killed: float, moments: dict[str, float], orders: int) -> dict[str, Any]:
    lease = moments["lease"]
    return {
        "how": how,
        "open_orders": orders,
        "start": round(max(0.0, moments["engine"] - killed), 2),
        "lease": round(lease - killed, 2),
        "reconciliation": round(moments["reconciled"] - moments["reconciliation_began"], 2),
        "trading": round(moments["trading"] - killed, 2),
    }


def markdown(found: dict[str, Any]) -> str:
    lines = [
        "# The order path, measured",
        "",
        f"{found['when']}, {os.cpu_count()} cores, {found['accounts']} accounts, PostgreSQL with synchronous commit,",
        "Valkey and the simulator on the same cores.",
        f"Load average before {found['before']}, after {found['after']}{found['realtime']}.",
        "Milliseconds. Absolute times are this machine's at this hour. Made by `make bench-orders`.",
        "",
        "| play | checkout | orders/s | engine CPU, cores | CPU ms an order | stage | p50 | p99 | p99.9 |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for play in found["plays"]:
        cost = 1e3 * play["cpu"] / max(play["rate"], 0.001)
        head = f"| {play['play']} | {play['checkout']} | {play['rate']:.1f} | {play['cpu']:.2f} | {cost:.1f} |"
        for stage, words in STAGES.items():
            if play[stage]["count"]:
                lines.append(f"{head} {words} | " + " | ".join(str(play[stage][each]) for each in SHOWN) + " |")
    lines += ["", "## One order of one account at 5/s: what the sender's thread asks the database", ""]
    lines += ["| checkout | statement | an order | ms each |", "|---|---|---|---|"]
    for play in found["plays"]:
        if play["play"] == "one account, 5/s" and play["orders"]:
            lines += statements(play)
    if found["recovery"]:
        lines += ["", "## Recovery after SIGKILL, seconds since the kill", ""]
        lines += ["| next owner | open orders | process ready | lease | reconciliation took | first order may go |"]
        lines += ["|---|---|---|---|---|---|"]
        lines += [
            f"| {each['how']} | {each['open_orders']} | {each['start']} | {each['lease']} | {each['reconciliation']} |"
            f" {each['trading']} |"
            for each in found["recovery"]
        ]
    return "\n".join(lines) + "\n"


def statements(play: dict[str, Any]) -> list[str]:
    counted, rows = play["statements"], []
    for name, count in sorted(counted.items()):
        if name.startswith("place: ") and not name.endswith(" us"):
            what, each = name.removeprefix("place: "), counted[f"{name} us"] / count / 1e3
            rows.append(f"| {play['checkout']} | {what} | {count / play['orders']:.2f} | {each:.2f} |")
    return rows


def part(options: argparse.Namespace) -> dict[str, Any]:
    """What one checkout measures in one turn."""
    if options.recovery:
        with OrderDeployment(1, SYMBOLS, realtime=options.realtime) as deployment:
            return {"recovery": recovery(deployment, options.open_orders)}
    with OrderDeployment(options.accounts, SYMBOLS, realtime=options.realtime) as deployment:
        return {"plays": latency(deployment, options.accounts, options.seconds)}


def turn(checkout: Path, options: argparse.Namespace, *more: str) -> dict[str, Any]:
    command = [sys.executable, str(REPOSITORY / "benchmarks" / "bench_orders.py"), "--part", *more]
    command += ["--seconds", str(options.seconds), "--accounts", str(options.accounts)]
    command += ["--open-orders", str(options.open_orders), *(["--realtime"] if options.realtime else [])]
    environment = {**os.environ, MEASURED: str(checkout)}
    ran = subprocess.run(
        command, cwd=checkout, env=environment, stdout=subprocess.PIPE, text=True, check=True, timeout=TURN_SECONDS
    )
    return json.loads(ran.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each play")
    parser.add_argument("--accounts", type=int, default=50)
    parser.add_argument("--open-orders", type=int, default=1_000, help="when the engine is killed; 0 leaves it out")
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--against", type=Path, help="another checkout of this project")
    parser.add_argument("--realtime", action="store_true", help="measured processes run before others (root)")
    parser.add_argument("--part", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--recovery", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        print(json.dumps(part(options)))
        return
    before = os.getloadavg()
    plays = []
    checkouts = {"this": REPOSITORY, **({"against": options.against.resolve()} if options.against else {})}
    for _ in range(options.turns):
        for name, checkout in reversed(checkouts.items()):
            plays += [{"checkout": name, **play} for play in turn(checkout, options)["plays"]]
    recovered = turn(REPOSITORY, options, "--recovery")["recovery"] if options.open_orders else []
    found = {
        "when": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "accounts": options.accounts,
        "before": [round(each, 1) for each in before],
        "after": [round(each, 1) for each in os.getloadavg()],
        "realtime": "; measured with realtime priority" if options.realtime else "",
        "plays": plays,
        "recovery": recovered,
    }
    text = markdown(found)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "orders.json").write_text(json.dumps(found, indent=1) + "\n")
    (RESULTS / "orders.md").write_text(text)
    print(text)
    for play in {each["play"] for each in plays} if options.against else ():
        rates = {name: [e["rate"] for e in plays if (e["play"], e["checkout"]) == (play, name)] for name in checkouts}
        ratio = statistics.median(rates["this"]) / statistics.median(rates["against"])
        print(f"{play}: {ratio:.2f} times the orders/s")


if __name__ == "__main__":
    main()
