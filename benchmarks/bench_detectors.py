"""Precision and recall of the detectors on labelled scenarios, and what they cost a message.

    bench_detectors.py [--quick]

The seeds of the markets and of the scenarios were not used for tuning, nor was the simulated ETHUSDT. Scenarios are
those of ``tests.marketdata.labelled.injection``: what should be found, and what should not.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from marketdata.engine.batch import FrameBatch
from marketdata.engine.book import SymbolBook
from marketdata.engine.detectors.kinds import DetectionKind
from marketdata.engine.detectors.symbol import SymbolDetectors
from tests.marketdata.labelled import injection
from tests.marketdata.labelled.injection import Maker, Market, inject, plan
from tests.marketdata.labelled.scoring import Score, detect
from tests.marketdata.labelled.streams import (
    MarketStream,
    MarketTrade,
    bybit_frames,
    recorded_binance,
    recorded_bybit,
    simulated,
)

DATA = Path(os.environ.get("MARKET_DATA_DIR") or Path(__file__).resolve().parents[2] / "shared" / "data")
BINANCE = (
    ("usdm_btcusdt_20240808", "0.1", "0.001"),
    ("usdm_ethusdt_20240808", "0.01", "0.001"),
    ("spot_btcusdt_20240808", "0.01", "0.00001"),
    ("cm_btcusd_perp_20240808", "0.1", "1"),
)
# Scenarios, the pauses between them and the beginning of the first, in ms.
GROUPS: dict[str, tuple[tuple[Maker, ...], tuple[int, int], int]] = {
    "levels": (injection.LEVEL_SCENARIOS, (12_000, 25_000), 30_000),
    "slow": (injection.SLOW_SCENARIOS, (20_000, 40_000), 60_000),
    "flow": (injection.FLOW_SCENARIOS, (120_000, 240_000), 420_000),
    "path": (injection.PATH_SCENARIOS, (20_000, 40_000), 60_000),
    "explosive": (injection.EXPLOSIVE_SCENARIOS, (200_000, 300_000), 120_000),
}
SIMULATED_SEED, SCENARIO_SEED = 901, 5_000


def recordings() -> list[MarketStream]:
    """What there is of the recorded markets."""
    streams = []
    for path in sorted((DATA / "bybit-v5-session").glob("*.zst")):
        streams.append(recorded_bybit(path, "BTCUSDT", "0.1", "0.001"))
        streams.append(recorded_bybit(path, "SOLUSDT", "0.01", "0.1"))
    for name, tick_size, lot_size in BINANCE:
        path = DATA / "binance-raw" / f"{name}.gz"
        if path.exists():
            streams.append(recorded_binance(path, f"Binance {name.rsplit('_', 1)[0]}", tick_size, lot_size))
    return streams


def measure(stream: MarketStream, groups: list[str], seeds: int) -> Score:
    """A kind is scored only among scenarios of its group: elsewhere nothing right could be found."""
    market, clean, total = Market(stream), detect(stream), Score()
    for group in groups:
        score = Score()
        makers, gap_ms, first_ms = GROUPS[group]
        # Short recordings begin at once.
        first_ms = min(first_ms, int(400 * stream.seconds))
        for seed in range(SCENARIO_SEED, SCENARIO_SEED + seeds):
            scenarios = plan(market, Random(seed), makers, gap_ms, first_ms)
            if scenarios:
                injected = inject(stream, scenarios)
                score.add(injected, scenarios, detect(injected), clean)
        for kind in [each for each in DetectionKind if score.injected[each]]:
            for counted in ("injected", "found", "right", "wrong"):
                getattr(total, counted)[kind] += getattr(score, counted)[kind]
        total.ends += score.ends
        total.wrong_ends += score.wrong_ends
    return total


def table(name: str, score: Score, clean_hours: float, own: dict[DetectionKind, int]) -> None:
    print(f"\n{name}")
    print(f"  {'':<16}{'injected':>9}{'recall':>9}{'right':>9}{'wrong':>7}{'precision':>11}{'own / h':>10}")
    for kind in DetectionKind:
        if score.injected[kind]:
            print(
                f"  {kind.name:<16}{score.injected[kind]:>9}{score.recall(kind):>9.2f}{score.right[kind]:>9}"
                f"{score.wrong[kind]:>7}{score.precision(kind):>11.2f}{own.get(kind, 0) / clean_hours:>10.0f}"
            )
    print(f"  ends of large levels told wrongly: {score.wrong_ends} of {score.ends}", flush=True)


def cost(stream: MarketStream, rounds: int) -> tuple[float, float, float]:
    """Microseconds a message without and with detectors, and changes a message; the fastest of all rounds (other
    processes only ever add), in batches of 1024."""
    frames = [item for item in bybit_frames(stream) if not isinstance(item, MarketTrade)]
    changes = sum(
        len(item.bids) + len(item.asks) for item in stream.items[1:] if not isinstance(item, MarketTrade)
    ) / len(frames)
    spent: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for watched, times in enumerate(spent):
            book = SymbolBook("LABELLED", stream.tick_size, stream.lot_size, 200)
            detectors = SymbolDetectors(book) if watched else None
            batch, total = FrameBatch(), 0.0
            for start in range(0, len(frames), 1_024):
                for ms, frame in frames[start : start + 1_024]:
                    batch.add(book, frame, ms * 1_000_000)
                number, began = len(batch), time.perf_counter()
                batch.run(number)
                total += time.perf_counter() - began
                batch.clear()
            if detectors is not None:
                detectors.fetch()
                detectors.detach()
            times.append(1e6 * total / len(frames))
    return min(spent[0]), min(spent[1]), changes


def main(*, quick: bool) -> None:
    seconds, seeds = (600, 1) if quick else (900, 2)
    everything = Score()
    hours, own = 0.0, dict.fromkeys(DetectionKind, 0)
    streams = [simulated(symbol, SIMULATED_SEED, seconds) for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT")]
    real = recordings()
    for title, group_of_streams, groups in (
        ("Simulated markets", streams, list(GROUPS)),
        ("Recorded markets", real, ["levels", "slow", "flow"]),
    ):
        everything, hours, own = Score(), 0.0, dict.fromkeys(DetectionKind, 0)
        for stream in group_of_streams:
            score = measure(stream, groups, seeds)
            for counted in ("injected", "found", "right", "wrong"):
                getattr(everything, counted).update(getattr(score, counted))
            everything.ends += score.ends
            everything.wrong_ends += score.wrong_ends
            hours += stream.seconds / 3_600
            for each in detect(stream):
                own[each.kind] += 1
        if hours:
            table(f"{title}: {', '.join(each.name for each in group_of_streams)}", everything, hours, own)
    print("\nCost a message (book, bands and features; then with detectors; difference)")
    for stream in [*streams, *real]:
        without, watched, changes = cost(stream, 5 if quick else 15)
        print(f"  {stream.name:<24}{changes:>6.1f} changes{without:>8.3f}{watched:>8.3f}{watched - without:>8.3f} us")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one seed, shorter markets")
    main(quick=parser.parse_args().quick)
