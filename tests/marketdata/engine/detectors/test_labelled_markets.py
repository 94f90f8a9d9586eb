"""Detectors find what was injected into markets and little else. The whole table: benchmarks/bench_detectors.py."""

from __future__ import annotations

from functools import cache
from random import Random

import pytest

from marketdata.engine.detectors.kinds import DetectionKind
from tests.marketdata.labelled import injection
from tests.marketdata.labelled.injection import Market, inject, plan
from tests.marketdata.labelled.scoring import Score, detect
from tests.marketdata.labelled.streams import MarketStream, recorded_bybit, simulated
from tests.recordings import bybit_session


@cache
def market() -> Market:
    return Market(simulated("SOLUSDT", seed=31, seconds=420))


@cache
def scored(makers: tuple[injection.Maker, ...], gap_ms: tuple[int, int], first_ms: int) -> Score:
    score, clean = Score(), detect(market().stream)
    for seed in (1, 2, 3):
        scenarios = plan(market(), Random(seed), makers, gap_ms, first_ms)
        injected = inject(market().stream, scenarios)
        score.add(injected, scenarios, detect(injected), clean)
    return score


LEVELS = (injection.LEVEL_SCENARIOS, (8_000, 15_000), 30_000)
SLOW = (injection.SLOW_SCENARIOS, (15_000, 25_000), 60_000)
PATHS = ((injection.support,), (20_000, 30_000), 60_000)
EXPLOSIVE = (injection.EXPLOSIVE_SCENARIOS, (100_000, 150_000), 120_000)


@pytest.mark.parametrize(
    ("kind", "scenarios", "recall", "precision"),
    [
        (DetectionKind.SPOOFING, LEVELS, 0.7, 0.8),
        (DetectionKind.LAYERING, LEVELS, 0.5, 0.8),
        (DetectionKind.ABSORPTION, LEVELS, 0.6, 0.7),
        (DetectionKind.LEVEL_LIFETIME, LEVELS, 0.6, 0.85),
        (DetectionKind.IMBALANCE, SLOW, 0.5, 0.8),
        (DetectionKind.VOLUME_CLUSTER, SLOW, 0.6, 0.6),
        (DetectionKind.CLUSTER_GONE, SLOW, 0.6, 0.6),
        (DetectionKind.HOT_SPOT, SLOW, 0.4, 0.8),
        (DetectionKind.SUPPORT, PATHS, 0.5, 0.4),
        (DetectionKind.EXPLOSION, EXPLOSIVE, 0.5, 0.6),
    ],
    ids=lambda value: value.name if isinstance(value, DetectionKind) else "",
)
def test_what_was_injected_is_found_and_little_else(
    kind: DetectionKind, scenarios: tuple, recall: float, precision: float
) -> None:
    score = scored(*scenarios)
    assert score.injected[kind] >= 3
    assert score.recall(kind) >= recall
    assert score.precision(kind) >= precision


def test_one_sided_flow_is_toxic_and_busy_flow_of_both_sides_is_not() -> None:
    begin = market().times[0] + 180_000
    for maker, expected in ((injection.toxic_flow, True), (injection.busy_flow, False)):
        scenario = maker(market(), Random(4), begin)
        assert scenario is not None
        kinds = {each.kind for each in detect(inject(market().stream, [scenario]))}
        assert (DetectionKind.TOXICITY in kinds) is expected


@pytest.mark.recording
def test_a_ladder_and_an_iceberg_in_the_recorded_session_are_found() -> None:
    stream = recorded_bybit(bybit_session(), "SOLUSDT", "0.01", "0.1")
    recorded = Market(stream)
    for maker, kind in ((injection.layering, DetectionKind.LAYERING), (injection.absorption, DetectionKind.ABSORPTION)):
        scenario = _first(recorded, maker)
        found = detect(inject(stream, [scenario]))
        assert any(each.kind is kind and each.detected_ms >= scenario.begin_ms for each in found)
        assert not any(each.kind is kind for each in detect(stream))


def _first(recorded: Market, maker: injection.Maker) -> injection.Scenario:
    for delay in range(15_000, 38_000, 300):
        scenario = maker(recorded, Random(7), recorded.times[0] + delay)
        if scenario is not None:
            return scenario
    raise AssertionError("the recording has no place for it")


def stream_of_levels() -> MarketStream:
    scenarios = plan(market(), Random(5), injection.LEVEL_SCENARIOS, (8_000, 15_000), 30_000)
    return inject(market().stream, scenarios)


def test_the_same_data_give_the_same_events() -> None:
    stream = stream_of_levels()
    first = detect(stream)
    assert len(first) > 20
    assert detect(stream) == first
