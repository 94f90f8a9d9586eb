"""What others have at stake: the sum of all less one's own is the plain sum of the others, digit for digit."""

from __future__ import annotations

from decimal import Decimal
from types import MappingProxyType

from hypothesis import given
from hypothesis import strategies as st

from risk.exposure import Exposure, PositionExposure, Totals, minus, plus, together

D = Decimal
money = st.decimals("-1e12", "1e12", places=8)
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")


@st.composite
def totals(draw: st.DrawFn) -> Totals:
    held = draw(st.lists(st.sampled_from(SYMBOLS), unique=True))
    worth = {symbol: draw(st.decimals("0", "1e12", places=18)) for symbol in held}
    whole = st.integers(0, 50)
    return Totals(
        draw(money), draw(money), draw(money), draw(st.decimals("0", "1e9", places=18)), MappingProxyType(worth),
        MappingProxyType(dict.fromkeys(held, 1)), len(held), draw(whole), draw(whole),
    )  # fmt: skip


@given(st.lists(totals(), min_size=1, max_size=6), st.data())
def test_a_sum_less_one_is_the_sum_of_the_others(many: list[Totals], data: st.DataObject) -> None:
    left_out = data.draw(st.integers(0, len(many) - 1))
    others = plus([each for place, each in enumerate(many) if place != left_out])
    assert minus(plus(many), many[left_out]) == others
    assert plus([*many, Totals()]) == plus(many)


def test_a_sum_is_what_is_summed_position_by_position() -> None:
    each = [
        Exposure(positions=MappingProxyType({symbol: PositionExposure("Buy", D(2), D(100), D(101), D(1), D(99))}))
        for symbol in ("BTCUSDT", "BTCUSDT", "ETHUSDT")
    ]
    assert plus(together([one]) for one in each) == together(each)
    assert minus(together(each), together(each[:1])) == together(each[1:])
    assert minus(together(each[:1]), together(each[:1])) == Totals()
