"""Position arithmetic is exact."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.positions import FillValues, PositionEvent, PositionState, apply_fill, margin, percent_on_margin, pnl

D = Decimal


@pytest.mark.parametrize(
    ("state", "fill", "expected", "realised", "event"),
    [
        (("", 0, 0), ("Buy", 2, 100), ("Buy", 2, 100), 0, "opened"),
        (("Buy", 2, 100), ("Buy", 2, 110), ("Buy", 4, 105), 0, "increased"),
        (("Buy", 2, 100), ("Sell", 1, 110), ("Buy", 1, 100), 10, "reduced"),
        (("Buy", 2, 100), ("Sell", 2, 90), ("", 0, 0), -20, "closed"),
        (("Sell", 2, 100), ("Buy", 3, 90), ("Buy", 1, 90), 20, "flipped"),
        (("Sell", 1, 100), ("Sell", 3, 96), ("Sell", 4, 97), 0, "increased"),
    ],
)
def test_a_fill_moves_a_position(state: tuple, fill: tuple, expected: tuple, realised: int, event: str) -> None:
    before = PositionState(state[0], D(state[1]), D(state[2]))
    result = apply_fill(before, FillValues(fill[0], D(fill[1]), D(fill[2])))
    assert (result.state.side, result.state.quantity, result.state.entry_price) == (
        expected[0],
        expected[1],
        expected[2],
    )
    assert (result.realised_pnl, result.event) == (realised, PositionEvent(event))


FILLS = st.lists(
    st.tuples(
        st.sampled_from(["Buy", "Sell"]),
        st.decimals("0.001", "50", places=3),
        st.decimals("1", "100000", places=1),
    ),
    min_size=1,
    max_size=30,
)


@given(FILLS)
def test_cash_and_position_always_add_up(fills: list) -> None:
    state, realised, cash, held = PositionState.flat(), D(0), D(0), D(0)
    for side, quantity, price in fills:
        result = apply_fill(state, FillValues(side, quantity, price))
        state, realised = result.state, realised + result.realised_pnl
        signed = quantity if side == "Buy" else -quantity
        held, cash = held + signed, cash - signed * price
        assert state.quantity == abs(held) and state.quantity >= 0
    # What was paid and received is what was realised, less what the open position cost.
    cost = state.entry_price * held
    assert abs(cash - (realised - cost)) < D("1e-9")


def test_profit_margin_and_percent_follow_the_specification() -> None:
    assert pnl("Buy", D(2), D(100), D(110)) == 20
    assert pnl("Sell", D(2), D(100), D(110)) == -20
    assert margin(D(2), D(100), D(10)) == 20
    assert percent_on_margin(D(20), D(2), D(100), D(10)) == 100


def test_nonsense_is_no_fill() -> None:
    with pytest.raises(ValueError, match="not a fill"):
        FillValues("Buy", D(0), D(1))
