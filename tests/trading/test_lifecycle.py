"""One table says how orders live; django-fsm obeys it."""

from __future__ import annotations

import pytest
from django_fsm import TransitionNotAllowed
from hypothesis import given
from hypothesis import strategies as st

from trading.lifecycle import LIVE, TERMINAL, TRANSITIONS, OrderEvent, OrderState, target
from trading.models import Order


@given(st.sampled_from(OrderState), st.sampled_from(OrderEvent))
def test_the_model_moves_exactly_as_the_table_says(state: OrderState, event: OrderEvent) -> None:
    order = Order(state=state, filled_quantity=0, quantity=1)
    wanted = target(event, state)
    if wanted is None:
        with pytest.raises(TransitionNotAllowed):
            getattr(order, event.value)()
        assert order.state == state
    else:
        getattr(order, event.value)()
        assert order.state == wanted


def test_terminal_states_absorb_everything_but_late_fills() -> None:
    fills = {OrderEvent.FILL_PARTIALLY, OrderEvent.FILL_COMPLETELY}
    for event, moves in TRANSITIONS.items():
        if event not in fills:
            assert not set(moves) & TERMINAL
    assert not any(OrderState.FILLED in moves for moves in TRANSITIONS.values())


def test_every_live_state_can_end() -> None:
    for state in LIVE:
        assert any(moves.get(state) in TERMINAL for moves in TRANSITIONS.values())


def test_a_refused_cancel_of_a_partly_filled_order_leaves_it_partly_filled() -> None:
    order = Order(state=OrderState.PENDING_CANCEL, filled_quantity=1, quantity=2)
    order.refuse_cancel()
    assert order.state == OrderState.PARTIALLY_FILLED


def test_the_state_cannot_be_written_past_the_table() -> None:
    with pytest.raises(AttributeError):
        Order(state=OrderState.NEW).state = OrderState.FILLED
