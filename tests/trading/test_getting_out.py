"""Getting out is always possible: what only reduces a position is not held back by what is not known."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from risk.exposure import Exposure, PositionExposure
from risk.limits import Limits
from tests import builders
from trading.pipeline import Pipeline, PipelineConfiguration

D = Decimal


@pytest.mark.parametrize("order_type", ["Market", "Limit"])
def test_a_position_in_a_symbol_without_market_data_can_be_closed(order_type: str) -> None:
    pipeline = Pipeline(lambda: "trace")
    pipeline.configure(PipelineConfiguration((), {"BTCUSDT": builders.RULES}))
    held = PositionExposure("Buy", D("0.01"), D(60_000), D(60_000), D(10))
    pipeline.update_exposure(1, Exposure(known=True, positions={"BTCUSDT": held}))
    closing = builders.intent(side="Sell", reduce_only=True, order_type=order_type)
    closing = replace(closing, price=None) if order_type == "Market" else closing
    assert pipeline.check(closing, Limits()).approved
    too_much = pipeline.check(replace(closing, quantity=D("0.02")), Limits())
    assert [refusal.limit for refusal in too_much.refusals] == ["reduce_only"]
    opening = pipeline.check(replace(closing, reduce_only=False, side="Buy"), Limits())
    assert [refusal.limit for refusal in opening.refusals] == ["market_data"]
