"""A whole process on real sockets: a load server on one core plays 100 symbols, a receiver on another keeps books."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from benchmarks.engine.streams import REPOSITORY
from benchmarks.engine.timing import Row

RATE, SECONDS = 10_000, 4
# What the highest rate is searched among; each must be taken for two seconds without falling behind.
HIGHER_RATES = (20_000, 40_000, 60_000, 80_000, 100_000, 150_000)
PATIENCE_SECONDS = 30.0
BEHIND_SECONDS = 0.3
SECTION = "A process on loopback sockets, 100 symbols, 10 connections"


@dataclass(frozen=True, slots=True)
class Receiver:
    kind: str
    name: str
    module: str = ""


RECEIVERS = (
    Receiver("ours", "Ballast: book + bands + 104 features, one call a message"),
    Receiver("ours-batched", "Ballast: the same, a FrameBatch a turn of the event loop"),
    Receiver("ccxt", "ccxt.pro watch_order_book_for_symbols: book alone", "ccxt"),
    Receiver("cryptofeed", "cryptofeed's connection and message_handler: book alone", "cryptofeed"),
)


def _start(core: int, module: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", f"benchmarks.engine.{module}", *map(str, arguments)]
    return subprocess.Popen(
        command,
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )


def play(kind: str, rate: int, messages: int) -> dict[str, Any]:
    """One run: what the receiver used, and for how long the server sent."""
    cores = sorted(os.sched_getaffinity(0))
    server = _start(cores[0], "load_server", rate, messages)
    receiver = None
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        receiver = _start(cores[-1], "receivers", kind, port, messages, PATIENCE_SECONDS)
        output, _ = receiver.communicate(timeout=2 * PATIENCE_SECONDS)
        sent = server.stdout.readline()
        found: dict[str, Any] = json.loads(output.splitlines()[-1])
        found["sending_seconds"] = json.loads(sent)["seconds"] if sent else None
        return found
    finally:
        for process in (receiver, server):
            if process is not None:
                process.kill()
                process.wait()


def _rows(name: str, found: dict[str, Any], messages: int, asked: str = "") -> list[Row]:
    lost = messages - found["received"]
    rate = found["received"] / found["seconds"]
    latency = f"p50 {found['p50']:.1f}, p99 {found['p99']:.1f}, p99.9 {found['p999']:.1f} us; lost {lost}"
    return [
        Row(SECTION, f"{name}: messages/s", rate, asked=asked, unit="1/s", spread=f"wrong {found['wrong']}, {latency}"),
        Row(SECTION, f"{name}: CPU a message", found["cpu_us"], spread=f"{100 * found['cpu']:.0f} % of one core"),
        Row(SECTION, f"{name}: memory", found["rss_mb"], unit="MB", asked="< 1 GB" if asked else ""),
    ]


def measure_sockets() -> tuple[list[Row], list[str]]:
    rows: list[Row] = []
    absent: list[str] = []
    for receiver in RECEIVERS:
        if receiver.module and importlib.util.find_spec(receiver.module) is None:
            absent.append(f"{receiver.name} ({receiver.module} is not installed)")
            continue
        messages = RATE * SECONDS
        found = play(receiver.kind, RATE, messages)
        asked = "all of 10,000/s, p99 < 1 ms" if receiver.kind.startswith("ours") else ""
        rows += _rows(f"{receiver.name}, offered {RATE:,}/s", found, messages, asked)
        print(rows[-3].what, round(rows[-3].ours or 0), rows[-3].spread, flush=True)
    best, ended = None, "the highest that was tried"
    for rate in HIGHER_RATES:
        found = play("ours", rate, 2 * rate)
        late = found["seconds"] - (found["sending_seconds"] or found["seconds"])
        kept_rate = (found["sending_seconds"] or 99.0) < 2.0 + BEHIND_SECONDS
        if not kept_rate:
            ended = f"at {rate:,}/s the load server could not send as fast"
            break
        if found["received"] < 2 * rate or found["wrong"] or late > BEHIND_SECONDS:
            ended = f"at {rate:,}/s the receiver was {late:.1f} s late"
            break
        best = (rate, found)
    if best is not None:
        rows += _rows(f"{RECEIVERS[0].name}, highest rate kept up with", best[1], 2 * best[0])
        rows[-3].spread += f"; {ended}"
    return rows, absent
