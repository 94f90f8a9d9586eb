"""Detectors attached to a book: what they say, and what they must not disturb."""

from __future__ import annotations

import gc
from decimal import Decimal
from functools import cache

import numpy as np
import orjson
import pytest

from marketdata.engine import layout
from marketdata.engine.book import SymbolBook
from marketdata.engine.detectors.detection import Detection
from marketdata.engine.detectors.kinds import DetectionKind
from marketdata.engine.detectors.layout import EVENTS
from marketdata.engine.detectors.parameters import DetectorParameters
from marketdata.engine.detectors.symbol import SymbolDetectors
from tests.marketdata.labelled.streams import MarketTrade, bybit_frames, simulated

START_MS = 1_700_000_000_000


class QuietMarket:
    """Fifty levels of 10 coins a side around 100, told every 100 ms."""

    def __init__(self, parameters: DetectorParameters | None = None) -> None:
        self.book = SymbolBook("BTCUSDT", Decimal("0.1"), Decimal("0.001"), 200)
        self.detectors = SymbolDetectors(self.book, parameters)
        self.now_ms, self._update = START_MS, 0
        bids = [[f"{100 - step / 10:.1f}", "10"] for step in range(50)]
        asks = [[f"{100.1 + step / 10:.1f}", "10"] for step in range(50)]
        self.tell(bids, asks, "snapshot")

    def tell(self, bids: list[list[str]], asks: list[list[str]], kind: str = "delta") -> None:
        self.now_ms, self._update = self.now_ms + 100, self._update + 1
        data = {"s": "BTCUSDT", "b": bids, "a": asks, "u": self._update, "seq": self._update}
        frame = {"topic": "orderbook.200.BTCUSDT", "type": kind, "ts": self.now_ms, "data": data, "cts": self.now_ms}
        self.book.on_frame(orjson.dumps(frame), self.now_ms * 1_000_000)

    def wait(self, seconds: float) -> None:
        for step in range(round(seconds * 10)):
            self.tell([["95.1", str(10 + step % 2)]], [])

    def trade(self, price: str, quantity: str, side: str) -> None:
        self.book.on_trade(self.now_ms * 1_000_000, Decimal(price), Decimal(quantity), side)

    def found(self, kind: DetectionKind) -> list[Detection]:
        return [each for each in self.detectors.fetch() if each.kind is kind]


def spoofed(*, opposite: str = "8", price: str = "99.0", also: tuple[str, str] | None = None) -> QuietMarket:
    """A bid of 100 is withdrawn after two seconds; ``also``: price and quantity of a bid that comes as it goes."""
    market = QuietMarket()
    market.wait(12)
    spoof(market, opposite, price, also)
    return market


def spoof(market: QuietMarket, opposite: str = "8", price: str = "99.0", also: tuple[str, str] | None = None) -> None:
    market.tell([[price, "110"]], [])
    market.wait(1)
    if opposite:
        market.trade("100.1", opposite, "Buy")
    market.wait(1)
    market.tell([[price, "10"], *([list(also)] if also else [])], [])
    market.wait(1.5)


def test_a_large_bid_that_is_withdrawn_while_its_other_side_trades_is_a_spoof_with_its_evidence() -> None:
    (spoof,) = spoofed().found(DetectionKind.SPOOFING)
    assert (spoof.symbol, spoof.side, spoof.low, spoof.high) == ("BTCUSDT", "bid", Decimal("99.0"), Decimal("99.0"))
    assert spoof.begin_ms < spoof.detected_ms
    assert spoof.evidence["volume"] == pytest.approx(100)
    assert spoof.evidence["seconds"] == pytest.approx(2.1)
    assert spoof.evidence["opposite_volume"] == pytest.approx(8)
    assert spoof.evidence["nearest_ticks"] == 10
    assert 0 <= spoof.score <= 1
    assert "a bid of 100 at 99.0" in spoof.reason and "8 traded at the ask" in spoof.reason


def test_a_large_bid_that_is_withdrawn_while_nobody_trades_is_none() -> None:
    assert spoofed(opposite="").found(DetectionKind.SPOOFING) == []


def test_a_large_bid_that_is_moved_to_another_price_is_none() -> None:
    assert spoofed(also=("99.2", "110")).found(DetectionKind.SPOOFING) == []


def test_a_level_of_another_size_that_comes_as_a_large_one_goes_is_not_taken_for_it() -> None:
    market = spoofed(also=("99.2", "88"))
    found = market.detectors.fetch()
    assert [each.kind for each in found] == [DetectionKind.LEVEL_LIFETIME, DetectionKind.SPOOFING]
    assert "was withdrawn" in found[0].reason


def test_a_large_bid_is_no_spoof_when_more_than_its_size_trades_on_the_other_side() -> None:
    assert spoofed(opposite="101").found(DetectionKind.SPOOFING) == []


def test_a_large_bid_is_no_spoof_when_it_lies_too_deep_to_be_seen() -> None:
    for price, told in (("97.1", 1), ("96.7", 0)):
        market = QuietMarket()
        market.tell([[f"{95 - step / 10:.1f}", "10"] for step in range(100)], [])
        market.wait(12)
        spoof(market, price=price)
        assert len(market.found(DetectionKind.SPOOFING)) == told


def test_who_spoofs_again_is_told_with_a_higher_score() -> None:
    market = spoofed()
    market.wait(30)
    spoof(market)
    first, second = market.found(DetectionKind.SPOOFING)
    assert (first.evidence["repeats"], second.evidence["repeats"]) == (0, pytest.approx(0.89, abs=0.01))
    without = second.score - 0.1 * second.evidence["repeats"]
    assert second.score > first.score and without == pytest.approx(first.score, abs=0.1)


def test_a_ladder_is_layering_even_when_the_other_side_trades_no_more_than_usual() -> None:
    market = QuietMarket()
    for _ in range(40):
        market.wait(0.9)
        market.trade("100.1", "8", "Buy")
    ladder = ["99.0", "98.9", "98.7"]
    market.tell([[price, "80"] for price in ladder], [])
    for _ in range(3):
        market.wait(0.9)
        market.trade("100.1", "8", "Buy")
    market.tell([[price, "10"] for price in ladder], [])
    market.wait(1.5)
    (layering,) = market.found(DetectionKind.LAYERING)
    assert (layering.side, layering.low, layering.high) == ("bid", Decimal("98.7"), Decimal("99.0"))
    assert layering.evidence["levels"] == 3 and layering.evidence["opposite_excess"] < 1.5


def test_the_end_of_a_large_level_is_told_with_its_life() -> None:
    (life,) = spoofed(opposite="").found(DetectionKind.LEVEL_LIFETIME)
    assert life.evidence["seconds"] == pytest.approx(2.1)
    assert life.reason == "a large bid of 100 at 99.0 was withdrawn after 2.1 s"


def test_a_level_that_takes_several_times_what_it_shows_and_holds_absorbs() -> None:
    market = QuietMarket()
    market.wait(12)
    for _ in range(10):
        market.trade("100.0", "6", "Sell")
        market.wait(0.2)
    market.wait(1.5)
    (absorbed,) = market.found(DetectionKind.ABSORPTION)
    assert (absorbed.side, absorbed.low) == ("bid", Decimal("100.0"))
    assert absorbed.evidence["ratio"] == pytest.approx(6.0)


def test_a_move_of_three_per_cent_on_three_times_the_volume_is_an_explosion() -> None:
    market = QuietMarket()
    for second in range(120):
        market.wait(0.9)
        market.trade("100.0", "1" if second < 115 else "20", "Buy")
    asks = [[f"{100.1 + step / 10:.1f}", "0"] for step in range(39)]
    market.tell([["103.9", "10"]], asks)
    (explosion,) = market.found(DetectionKind.EXPLOSION)
    assert explosion.side == "bid" and explosion.evidence["move"] == pytest.approx(0.039, abs=0.001)
    assert explosion.evidence["volume_ratio"] >= 3
    assert "the price moved +" in explosion.reason


@cache
def frames() -> list[tuple[int, bytes] | MarketTrade]:
    return list(bybit_frames(simulated("SOLUSDT", seed=8, seconds=60), "SOLUSDT"))


def replay(*, watched: bool) -> list[np.ndarray]:
    book = SymbolBook("SOLUSDT", Decimal("0.01"), Decimal("0.1"), 200)
    detectors = SymbolDetectors(book) if watched else None
    rows = []
    for item in frames():
        if isinstance(item, MarketTrade):
            book.on_trade(item.ms * 1_000_000, item.tick * book.tick_size, item.lots * book.lot_size, "Buy")
        else:
            book.on_frame(item[1], item[0] * 1_000_000)
            rows.append(book.features())
    assert detectors is None or detectors.lost == 0
    return rows


def test_features_are_the_same_with_and_without_detectors() -> None:
    for with_them, without in zip(replay(watched=True), replay(watched=False), strict=True):
        np.testing.assert_array_equal(with_them, without)


def test_events_that_nobody_fetched_are_counted_and_the_newest_are_kept() -> None:
    market = QuietMarket(DetectorParameters(warm_up_s=1, lifetime_least_ms=0, large_factor=1.0, settle_ms=800))
    market.wait(3)
    for number in range(EVENTS + 20):
        price = f"{99.5 - number % 8 / 10:.1f}"
        market.tell([[price, str(1_000 + 10 * number)]], [])
        market.wait(0.2)
        market.tell([[price, "10"]], [])
    market.wait(2)
    found = market.detectors.fetch()
    assert len(found) == EVENTS and market.detectors.lost > 0
    assert found[-1].detected_ms > found[0].detected_ms
    assert market.detectors.fetch() == []


def test_a_finer_grid_begins_everything_anew_and_prices_stay_exact() -> None:
    market = QuietMarket()
    market.wait(12)
    market.tell([["99.05", "1"]], [])
    assert market.book.tick_size == Decimal("0.05")
    market.wait(12)
    market.tell([["99.05", "110"]], [])
    market.wait(2)
    market.tell([["99.05", "1"]], [])
    market.wait(1.5)
    (life,) = market.found(DetectionKind.LEVEL_LIFETIME)
    assert life.low == Decimal("99.05") and life.evidence["volume"] == pytest.approx(109)


def test_a_book_forgets_detectors_that_are_gone() -> None:
    market = QuietMarket()
    book = market.book
    del market
    gc.collect()
    assert book._words[layout.DETECTORS] == 0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"explosion_move": -1.0}, "explosion_move is -1.0; expected 0.0001 to 10"),
        ({"large_quantile": 1.0}, "large_quantile is 1.0"),
        ({"layering_pulled_ms": 900.0, "settle_ms": 500.0}, "expected at most settle_ms"),
    ],
)
def test_a_parameter_out_of_its_range_is_refused_by_name(changes: dict[str, float], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        DetectorParameters(**changes)
