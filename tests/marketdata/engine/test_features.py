"""Features equal an independent computation in Decimal."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest

from marketdata.engine.book import SymbolBook
from marketdata.engine.feature_table import FEATURES, feature_index
from tests.builders import book_frame

BIDS = [["100.0", "1.5"], ["99.9", "2"], ["99.5", "0.25"]]
ASKS = [["100.2", "3"], ["100.3", "1"], ["101.0", "4"]]


def book() -> SymbolBook:
    made = SymbolBook("BTCUSDT", Decimal("0.1"), Decimal("0.001"), 200)
    made.on_frame(book_frame("snapshot", 5, BIDS, ASKS), 1)
    return made


def value(made: SymbolBook, name: str) -> float:
    return float(made.features()[feature_index(name)])


def test_every_feature_has_a_name_a_formula_a_unit_a_range_and_a_source() -> None:
    assert len(FEATURES) >= 100
    assert len({spec.name for spec in FEATURES}) == len(FEATURES)
    assert all(spec.formula and spec.unit and spec.range and spec.source for spec in FEATURES)


@pytest.mark.parametrize("depth", [1, 5, 10, 25, 50])
def test_depth_imbalance_and_mean_prices_equal_a_decimal_computation(depth: int) -> None:
    bids = [(Decimal(p), Decimal(q)) for p, q in BIDS[:depth]]
    asks = [(Decimal(p), Decimal(q)) for p, q in ASKS[:depth]]
    bid_sum, ask_sum = sum(q for _, q in bids), sum(q for _, q in asks)
    made = book()
    assert value(made, f"depth_bid_{depth}") == pytest.approx(float(bid_sum))
    assert value(made, f"depth_ask_{depth}") == pytest.approx(float(ask_sum))
    assert value(made, f"imbalance_{depth}") == pytest.approx(float((bid_sum - ask_sum) / (bid_sum + ask_sum)))
    assert value(made, f"vwap_bid_{depth}") == pytest.approx(float(sum(p * q for p, q in bids) / bid_sum))
    assert value(made, f"vwap_ask_{depth}") == pytest.approx(float(sum(p * q for p, q in asks) / ask_sum))


def test_prices_spread_and_microprice_equal_a_decimal_computation() -> None:
    made = book()
    bid, ask, bid_size, ask_size = Decimal(100), Decimal("100.2"), Decimal("1.5"), Decimal(3)
    assert value(made, "spread_ticks") == 2
    assert value(made, "mid") == pytest.approx(100.1)
    assert value(made, "spread_relative") == pytest.approx(0.2 / 100.1)
    microprice = (bid * ask_size + ask * bid_size) / (bid_size + ask_size)
    assert value(made, "microprice") == pytest.approx(float(microprice))


def test_order_flow_imbalance_counts_what_changed_at_the_best_levels() -> None:
    made = book()
    made.on_frame(book_frame("delta", 6, [["100.0", "2.5"]], [["100.2", "1"]]), 2)
    # One more bid at the best bid, two fewer asks at the best ask.
    assert value(made, "order_flow_imbalance") == pytest.approx(3.0)


def test_an_empty_side_gives_nan_and_never_an_error() -> None:
    made = SymbolBook("BTCUSDT", Decimal("0.1"), Decimal("0.001"), 200)
    made.on_frame(book_frame("snapshot", 5, BIDS, []), 1)
    assert np.isnan(value(made, "mid")) and value(made, "levels_bid") == 3


def test_an_unknown_feature_is_named_with_those_that_exist() -> None:
    with pytest.raises(KeyError, match="imbalance_5"):
        feature_index("imbalanse_5")
