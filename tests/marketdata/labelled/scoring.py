"""How many of what was injected is found, and how many of what is found was injected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal

from marketdata.engine.batch import FrameBatch
from marketdata.engine.book import SymbolBook
from marketdata.engine.detectors.detection import Detection
from marketdata.engine.detectors.kinds import DetectionKind
from marketdata.engine.detectors.parameters import DetectorParameters
from marketdata.engine.detectors.symbol import SymbolDetectors
from marketdata.engine.windows import note_trade
from tests.marketdata.labelled.injection import Label, Scenario
from tests.marketdata.labelled.streams import MarketStream, MarketTrade, bybit_frames

SYMBOL = "LABELLED"
# A zone or a place that a detector names may lie a little beside the injected ticks.
MARGIN_TICKS = 2
# What markets truly do all the time, whoever injects what; the other kinds accuse somebody of something.
DESCRIPTIVE = frozenset(
    {
        DetectionKind.IMBALANCE,
        DetectionKind.VOLUME_CLUSTER,
        DetectionKind.CLUSTER_GONE,
        DetectionKind.HOT_SPOT,
        DetectionKind.LEVEL_LIFETIME,
    }
)
# The market's own events may be told a little earlier or later when something is injected.
SAME_MS = 5_000


def detect(stream: MarketStream, parameters: DetectorParameters | None = None) -> list[Detection]:
    """Replay a stream as Bybit frames through the production engine."""
    book = SymbolBook(SYMBOL, stream.tick_size, stream.lot_size, 200)
    detectors, batch = SymbolDetectors(book, parameters), FrameBatch(64)
    found: list[Detection] = []

    def flush() -> None:
        for _ in batch.take():
            pass
        found.extend(detectors.fetch())

    for item in bybit_frames(stream, SYMBOL):
        if isinstance(item, MarketTrade):
            flush()
            note_trade(book.address, item.ms, item.tick, item.lots, int(item.is_bought))
        elif not batch.add(book, item[1], item[0] * 1_000_000):
            flush()
            batch.add(book, item[1], item[0] * 1_000_000)
    flush()
    assert detectors.lost == 0
    detectors.detach()
    return found


@dataclass(slots=True)
class Score:
    injected: Counter = field(default_factory=Counter)
    found: Counter = field(default_factory=Counter)
    right: Counter = field(default_factory=Counter)
    wrong: Counter = field(default_factory=Counter)
    seconds: float = 0.0
    wrong_ends: int = 0
    ends: int = 0
    own: Counter = field(default_factory=Counter)
    wrong_in: Counter = field(default_factory=Counter)
    missed_in: list = field(default_factory=list)

    def add(
        self,
        stream: MarketStream,
        scenarios: list[Scenario],
        detections: Iterable[Detection],
        clean: Iterable[Detection] = (),
    ) -> None:
        """``clean``: what the same market shows without anything injected. Of descriptive kinds that is its own; of the
        others it is wrong. Where a path is bent the two cannot be compared."""
        bent = any(each.shift is not None for each in scenarios)
        own: dict[tuple[DetectionKind, str], list[Detection]] = {}
        for each in clean:
            own.setdefault((each.kind, each.side), []).append(each)
        labels = [(scenario, label) for scenario in scenarios for label in scenario.labels]
        self.seconds += stream.seconds
        for _, label in labels:
            self.injected[label.kind] += 1
        matched: set[int] = set()
        lives = Lives(stream)
        for detection in detections:
            hits = [n for n, (_, label) in enumerate(labels) if _matches(stream, detection, label)]
            if hits:
                self.right[detection.kind] += 1
                matched.update(hits)
                wanted = labels[hits[0]][1].end
                if wanted is not None:
                    self.ends += 1
                    self.wrong_ends += int(detection.evidence["end"]) != wanted
                continue
            if detection.kind is DetectionKind.LEVEL_LIFETIME and lives.confirm(detection):
                self.right[detection.kind] += 1
                continue
            during = [each for each in scenarios if each.begin_ms <= detection.detected_ms <= each.end_ms + 3_000]
            if any(detection.kind in each.also for each in during):
                continue
            if detection.kind in DESCRIPTIVE and bent:
                continue
            same_kind = own.get((detection.kind, detection.side), ())
            if detection.kind in DESCRIPTIVE and any(_is_same(detection, each) for each in same_kind):
                self.own[detection.kind] += 1
                continue
            self.wrong[detection.kind] += 1
            self.wrong_in[detection.kind.name, during[0].name if during else "background"] += 1
        for n in matched:
            self.found[labels[n][1].kind] += 1
        self.missed_in += [labels[n] for n in range(len(labels)) if n not in matched]

    def precision(self, kind: DetectionKind) -> float:
        told = self.right[kind] + self.wrong[kind]
        return self.right[kind] / told if told else float("nan")

    def recall(self, kind: DetectionKind) -> float:
        return self.found[kind] / self.injected[kind] if self.injected[kind] else float("nan")


class Lives:
    """The history of every level, by the plainest means: a life that a detector tells is looked up in it."""

    def __init__(self, stream: MarketStream) -> None:
        self._stream = stream
        self._histories: dict[tuple[str, int], list[tuple[int, int]]] = {}
        for item in stream.items:
            if not isinstance(item, MarketTrade):
                for side, changes in (("bid", item.bids), ("ask", item.asks)):
                    for tick, lots in changes:
                        self._histories.setdefault((side, tick), []).append((item.ms, lots))

    def confirm(self, detection: Detection) -> bool:
        """Whether a level of that size came at that time and went at that time."""
        history = self._histories.get((detection.side, int(detection.low / self._stream.tick_size)), [])
        ended = detection.begin_ms + round(1_000 * detection.evidence["seconds"])
        volume = detection.evidence["volume"] / float(self._stream.lot_size)
        before = ([0] + [lots for ms, lots in history if ms < detection.begin_ms])[-1]
        during = [lots for ms, lots in history if detection.begin_ms <= ms < ended]
        after = [lots for ms, lots in history if ms == ended]
        left = before + 0.35 * volume
        return bool(during and after) and after[0] <= left < min(during) and max(during) - before >= 0.99 * volume


def _is_same(detection: Detection, other: Detection) -> bool:
    near = abs(detection.detected_ms - other.detected_ms) <= SAME_MS
    return near and detection.low <= other.high and other.low <= detection.high


def _matches(stream: MarketStream, detection: Detection, label: Label) -> bool:
    if detection.kind is not label.kind or not label.begin_ms <= detection.detected_ms <= label.end_ms:
        return False
    if label.side is not None and detection.side != label.side:
        return False
    if label.low is None or label.high is None:
        return True
    margin = MARGIN_TICKS * stream.tick_size
    low, high = Decimal(label.low) * stream.tick_size, Decimal(label.high) * stream.tick_size
    return detection.low - margin <= high and detection.high + margin >= low
