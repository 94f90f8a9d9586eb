"""Each level's limits count what that level spans; correlation, groups and the book are looked at before an order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from risk.checks import Market, check_intent, loss_percent
from risk.exposure import Exposure, PendingExposure, PositionExposure, Totals, loss_at_stop
from risk.groups import GroupLimit, SymbolGroup, SymbolGroups
from risk.limits import ACCOUNT_DEFAULTS, Limits, combined, with_defaults
from risk.slippage import BookSide, FillEstimate, estimate_fill, side_of_quotes
from tests.builders import RULES, intent

D = Decimal
PRICE = D(60_000)
RICH = Exposure(known=True, equity=D(100_000), available_balance=D(100_000), peak_equity=D(100_000))
AMOUNTS = st.decimals("0", "5", places=3)


def position(side: str = "Buy", quantity: str = "0.5", price: Decimal = PRICE, **changes: Any) -> PositionExposure:
    return PositionExposure(side, D(quantity), price, price, D(10), **changes)


def refusals(
    changes: dict[str, Any], limits: Limits, exposure: Exposure = RICH, market: Market | None = None
) -> dict[str, str]:
    decision = check_intent(intent(**changes), limits, exposure, RULES, PRICE, market or Market())
    assert decision.approved == (not decision.refusals)
    return {refusal.limit: refusal.message for refusal in decision.refusals}


def test_limits_of_one_order_are_the_strictest_of_all_levels() -> None:
    limits = combined(
        Limits(max_leverage=D(20), max_order_notional=D(1000)),
        user=Limits(max_leverage=D(10)),
        platform=Limits(max_order_notional=D(500), trading_enabled=False),
    )
    assert (limits.max_leverage, limits.max_order_notional, limits.trading_enabled) == (D(10), D(500), False)
    # Nothing of those levels counts together, so nothing needs to be known of the other accounts.
    assert limits.other_levels == ()


def test_an_account_is_held_to_the_defaults_where_it_says_nothing() -> None:
    assert with_defaults(Limits(max_positions=20)) == replace(ACCOUNT_DEFAULTS, max_positions=20)
    assert (ACCOUNT_DEFAULTS.max_positions, ACCOUNT_DEFAULTS.max_daily_loss_percent) == (10, D(5))


OTHERS = Totals(
    equity=D(100_000),
    day_start_equity=D(120_000),
    peak_equity=D(150_000),
    risk=D(5_000),
    notional={"BTCUSDT": D(40_000)},
    holders={"BTCUSDT": 2},
    positions=4,
    open_orders=7,
    orders_last_second=3,
)


@pytest.mark.parametrize("level", ["user", "platform"])
@pytest.mark.parametrize(
    ("limits", "limit"),
    [
        (Limits(max_positions=4), "max_positions"),
        (Limits(max_positions_per_symbol=2), "max_positions_per_symbol"),
        (Limits(max_position_notional=D(40_500)), "max_position_notional"),
        (Limits(max_open_orders=7), "max_open_orders"),
        (Limits(max_order_rate=3), "max_order_rate"),
        (Limits(max_total_risk_percent=D("2.5")), "max_total_risk_percent"),
        (Limits(max_daily_loss_percent=D(9)), "max_daily_loss_percent"),
        (Limits(max_drawdown_percent=D(20)), "max_drawdown_percent"),
    ],
)
def test_a_users_and_the_platforms_limits_count_all_their_accounts(level: str, limits: Limits, limit: str) -> None:
    known = replace(RICH, **{level: OTHERS})
    found = refusals({}, combined(Limits(), **{level: limits}), known)
    assert list(found) == [f"{level}.{limit}"] and found[f"{level}.{limit}"].startswith(f"{level}: ")
    alone = replace(RICH, **{level: Totals()})
    assert refusals({}, combined(Limits(), **{level: limits}), alone) == {}


def test_what_is_not_known_of_the_other_accounts_denies_growth_and_never_a_way_out() -> None:
    limits = combined(Limits(), user=Limits(max_positions=5))
    assert list(refusals({}, limits)) == ["user.exposure"]
    held = replace(RICH, positions={"BTCUSDT": position()})
    assert refusals({"side": "Sell", "quantity": D("0.5"), "reduce_only": True}, limits, held) == {}


def test_a_strategys_limits_count_its_share_only() -> None:
    limits = combined(Limits(), strategy=Limits(max_positions=1))
    many = replace(RICH, positions={f"A{number}USDT": position() for number in range(5)})
    share = Totals(positions=1, notional={"A1USDT": D(100)}, holders={"A1USDT": 1})
    assert refusals({}, limits, replace(many, strategies={"test": Totals()})) == {}
    assert list(refusals({}, limits, replace(many, strategies={"test": share}))) == ["strategy.max_positions"]


def test_risk_is_the_distance_to_the_stop() -> None:
    limits = Limits(max_risk_per_trade_percent=D(2))
    # 2,000 USD of 100,000: 0.5 BTC may lose 4,000 a coin.
    assert refusals({"quantity": D("0.5"), "stop_loss": D("56000.0")}, limits) == {}
    found = refusals({"quantity": D("0.5"), "stop_loss": D("55999.0")}, limits)
    assert "2000.50 USD" in found["max_risk_per_trade_percent"]
    assert list(refusals({"quantity": D("0.5"), "side": "Sell", "stop_loss": D("64001.0")}, limits)) == [
        "max_risk_per_trade_percent"
    ]
    # Without a stop it is the loss at which the engine closes the position: 2 %.
    assert refusals({"quantity": D("1.66")}, limits) == {} != refusals({"quantity": D("1.67")}, limits)


def test_the_risk_of_all_positions_and_pending_orders_counts_together() -> None:
    held = position(quantity="1", stop_loss=D(55_000))
    pending = PendingExposure().plus("Buy", D("0.5"), D(60_000), D(56_000))
    exposure = replace(RICH, positions={"ETHUSDT": held}, pending={"SOLUSDT": pending})
    assert exposure.total_risk == D(7_000)
    order = {"quantity": D("0.5"), "stop_loss": D("54000.0")}
    assert refusals(order, Limits(max_total_risk_percent=D(10)), exposure) == {}
    found = refusals({**order, "quantity": D("0.501")}, Limits(max_total_risk_percent=D(10)), exposure)
    assert "10.01 %" in found["max_total_risk_percent"]


@given(st.sampled_from(["Buy", "Sell"]), AMOUNTS, st.decimals("1", "200", places=1), st.decimals("1", "200", places=1))
def test_no_stop_makes_a_negative_loss(side: str, quantity: D, price: D, stop: D) -> None:
    assert loss_at_stop(side, quantity, price, stop) >= 0


class Known:
    def __init__(self, values: Mapping[str, float]) -> None:
        self._values = values

    def of(self, symbol: str) -> Mapping[str, float | None]:
        return self._values


def test_positions_that_move_together_are_few() -> None:
    limits = Limits(max_correlation=D("0.7"), max_correlated_positions=3)
    held = replace(RICH, positions={name: position() for name in ("ETHUSDT", "SOLUSDT", "XRPUSDT", "DOGEUSDT")})
    moving = {"ETHUSDT": 0.9, "SOLUSDT": -0.7, "XRPUSDT": 0.69, "DOGEUSDT": 0.1}
    assert refusals({}, limits, held, Market(correlations=Known(moving))) == {}
    found = refusals({}, limits, held, Market(correlations=Known(moving | {"XRPUSDT": 0.71})))
    assert "ETHUSDT, SOLUSDT, XRPUSDT" in found["max_correlated_positions"]
    # One that is held already is no further bet.
    with_btc = replace(held, positions={**held.positions, "BTCUSDT": position(quantity="0.1")})
    assert refusals({}, limits, with_btc, Market(correlations=Known(moving | {"XRPUSDT": 0.71}))) == {}


def test_a_pair_of_which_too_little_is_known_counts_as_correlated_within_a_group() -> None:
    limits = Limits(max_correlation=D("0.7"), max_correlated_positions=1)
    groups = SymbolGroups([SymbolGroup("majors", frozenset({"BTCUSDT", "ETHUSDT"}))])
    assert refusals({}, limits, replace(RICH, positions={"SOLUSDT": position()}), Market(groups)) == {}
    found = refusals({}, limits, replace(RICH, positions={"ETHUSDT": position()}), Market(groups))
    assert list(found) == ["max_correlated_positions"]


def test_a_group_has_limits_of_its_own() -> None:
    held = replace(RICH, positions={"ETHUSDT": position(quantity="0.5"), "SOLUSDT": position()})
    symbols = frozenset({"BTCUSDT", "ETHUSDT"})
    for group, limit in (
        (SymbolGroup("majors", symbols, max_positions=1), "group.majors.max_positions"),
        (SymbolGroup("majors", symbols, max_notional=D(30_500)), "group.majors.max_notional"),
    ):
        assert list(refusals({}, Limits(), held, Market(SymbolGroups([group])))) == [limit]
    roomy = SymbolGroup("majors", symbols, 2, D(30_600))
    assert refusals({}, Limits(), held, Market(SymbolGroups([roomy]))) == {}


MAJORS = frozenset({"BTCUSDT", "ETHUSDT", "SOLUSDT"})


@pytest.mark.parametrize("level", ["user", "platform"])
@pytest.mark.parametrize(
    ("limit", "name", "words"),
    [
        (GroupLimit(max_positions=4), "max_positions", "position number 5 in majors; at most 4"),
        (GroupLimit(max_notional=D(70_500)), "max_notional", "majors could reach 70600.00 USD; at most 70500"),
    ],
)
def test_a_users_and_the_platforms_limits_on_a_group_count_all_their_accounts(
    level: str, limit: GroupLimit, name: str, words: str
) -> None:
    # 30,000 in ETH here, 40,000 in BTC in two other accounts, one more of theirs outside the group; 600 are asked for.
    others = Totals(
        notional={"BTCUSDT": D(38_000), "ETHUSDT": D(2_000), "XRPUSDT": D(9_000)},
        holders={"BTCUSDT": 2, "ETHUSDT": 1, "XRPUSDT": 1},
        positions=4,
    )
    exposure = replace(RICH, positions={"ETHUSDT": position()}, **{level: others})
    market = Market(SymbolGroups([SymbolGroup("majors", MAJORS)]))
    limits = combined(Limits(), **{level: Limits(group_limits={"majors": limit})})
    found = refusals({}, limits, exposure, market)
    assert list(found) == [f"{level}.group.majors.{name}"] and words in found[f"{level}.group.majors.{name}"]
    roomy = GroupLimit(5, D(70_600))
    assert not refusals({}, combined(Limits(), **{level: Limits(group_limits={"majors": roomy})}), exposure, market)
    elsewhere = Market(SymbolGroups([SymbolGroup("majors", frozenset({"ETHUSDT"}))]))
    assert not refusals({}, limits, exposure, elsewhere)


def test_a_strategys_limits_on_a_group_count_its_share_and_the_strictest_level_wins() -> None:
    held = replace(RICH, positions={"ETHUSDT": position(), "SOLUSDT": position()})
    market = Market(SymbolGroups([SymbolGroup("majors", MAJORS, max_positions=5)]))
    one = Limits(group_limits={"majors": GroupLimit(max_positions=1)})
    share = Totals(notional={"ETHUSDT": D(100)}, holders={"ETHUSDT": 1}, positions=1)
    assert not refusals({}, combined(Limits(), strategy=one), replace(held, strategies={"test": Totals()}), market)
    found = refusals({}, combined(Limits(), strategy=one), replace(held, strategies={"test": share}), market)
    assert list(found) == ["strategy.group.majors.max_positions"]
    # The group's own limit is five; the account's is stricter, the user's not.
    two = Limits(group_limits={"majors": GroupLimit(max_positions=2)})
    levels = combined(two, user=Limits(group_limits={"majors": GroupLimit(max_positions=3)}))
    assert list(refusals({}, levels, replace(held, user=Totals()), market)) == ["group.majors.max_positions"]


@given(
    st.dictionaries(st.sampled_from(["BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT"]), AMOUNTS.filter(bool), max_size=4),
    st.dictionaries(st.sampled_from(["BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT"]), AMOUNTS.filter(bool), max_size=4),
)
def test_what_a_group_holds_is_the_sum_over_all_accounts(mine: dict[str, D], theirs: dict[str, D]) -> None:
    worth = {symbol: quantity * PRICE for symbol, quantity in theirs.items()}
    exposure = replace(
        RICH,
        positions={symbol: position(quantity=f"{quantity:f}") for symbol, quantity in mine.items()},
        user=Totals(notional=worth, holders=dict.fromkeys(theirs, 1), positions=len(theirs)),
    )
    bought = D("0.01")
    expected = (sum(q for s, q in [*mine.items(), *theirs.items()] if s in MAJORS) + bought) * PRICE
    market = Market(SymbolGroups([SymbolGroup("majors", MAJORS)]))
    for limit, refused in ((expected, False), (expected - D("0.01"), True)):
        levels = combined(Limits(), user=Limits(group_limits={"majors": GroupLimit(max_notional=limit)}))
        assert ("user.group.majors.max_notional" in refusals({}, levels, exposure, market)) == refused


def test_a_market_order_that_the_book_cannot_fill_near_its_middle_is_refused() -> None:
    order = {"order_type": "Market", "price": None, "time_in_force": "IOC"}
    limits = Limits(max_slippage_percent=D("0.5"))

    def found(fill: FillEstimate | None) -> dict[str, str]:
        return refusals(order, limits, RICH, Market(fill=fill))

    assert found(FillEstimate(PRICE, D("0.5"), D(0))) == {} == found(None)
    assert "0.51 %" in found(FillEstimate(PRICE, D("0.51"), D(0)))["max_slippage_percent"]
    assert "less than the order wants" in found(FillEstimate(PRICE, D("0.1"), D("0.002")))["max_slippage_percent"]


def test_a_fill_is_the_average_of_the_levels_that_it_takes() -> None:
    side = BookSide([(1000, 10), (1010, 10)], D("0.1"), D("0.01"), D("99.5"))
    one = estimate_fill(side, D("0.1"))
    assert one is not None and (one.average_price, one.missing) == (D(100), D(0))
    both = estimate_fill(side, D("0.15"))
    assert both is not None and both.average_price == (100 * 10 + 101 * 5) / D(15)
    more = estimate_fill(side, D("0.25"))
    assert more is not None and more.missing == D("0.05")
    assert estimate_fill(replace(side, levels=[]), D(1)) is None


@pytest.mark.parametrize(("side", "held"), [("Sell", "Buy"), ("Buy", "Sell")])
def test_reduce_only_orders_never_exceed_the_position_together(side: str, held: str) -> None:
    resting = PendingExposure().plus_reducing(side, D("0.4"), immediate=False)
    exposure = replace(RICH, positions={"BTCUSDT": position(held)}, pending={"BTCUSDT": resting})
    order: dict[str, Any] = {"side": side, "reduce_only": True}
    assert refusals({**order, "quantity": D("0.1")}, Limits(), exposure) == {}
    found = refusals({**order, "quantity": D("0.101")}, Limits(), exposure)
    assert "0.4 is being closed already" in found["reduce_only"]
    # A market order may take over what a resting one would close; two of them may not close the same.
    market = {**order, "order_type": "Market", "price": None, "time_in_force": "IOC"}
    assert refusals({**market, "quantity": D("0.5")}, Limits(), exposure) == {}
    closing = resting.plus_reducing(side, D("0.3"), immediate=True)
    busy = replace(exposure, pending={"BTCUSDT": closing})
    assert list(refusals({**market, "quantity": D("0.21")}, Limits(), busy)) == ["reduce_only"]
    assert list(refusals({**order, "side": held, "quantity": D("0.1")}, Limits(), busy)) == ["reduce_only"]


def test_what_reduce_only_orders_may_close_first_is_no_room_for_others_to_close() -> None:
    pending = PendingExposure().plus_reducing("Sell", D("0.5"), immediate=False)
    exposure = replace(RICH, positions={"BTCUSDT": position()}, pending={"BTCUSDT": pending})
    off = Limits(trading_enabled=False)
    assert list(refusals({"side": "Sell", "quantity": D("0.2")}, off, exposure)) == ["trading_enabled"]


@given(AMOUNTS, AMOUNTS, AMOUNTS, AMOUNTS, st.decimals("-5", "5", places=3))
def test_the_worst_position_is_never_less_than_what_any_order_of_fills_makes(
    buy: D, sell: D, reduce_buy: D, reduce_sell: D, held: D
) -> None:
    pending = PendingExposure(buy, sell, reduce_buy, reduce_sell)
    worst = pending.worst_quantity(held)

    def reduced(quantity: D, side: str) -> D:
        if side == "Buy":
            return quantity + min(reduce_buy, max(-quantity, D(0)))
        return quantity - min(reduce_sell, max(quantity, D(0)))

    for first in ("Buy", "Sell"):
        after = reduced(held, first)
        assert worst >= max(abs(after), abs(after + buy), abs(after - sell))
    assert worst >= max(abs(held), abs(held + buy), abs(held - sell))


@given(st.decimals("0", "1000", places=2), st.decimals("-1000", "2000", places=2))
def test_a_loss_is_a_share_of_what_there_was(start: D, now: D) -> None:
    percent = loss_percent(start, now)
    assert 0 <= percent <= 100 and (percent == 0) == (now >= start)


def test_an_approved_order_counts_at_once_for_every_level() -> None:
    others = replace(RICH, user=Totals(), platform=Totals(), owner_id=7)
    order = intent(stop_loss=D("59000.0"))
    theirs = others.with_others_intent(order, PRICE, same_owner=False)
    ours = others.with_others_intent(order, PRICE, same_owner=True)
    assert theirs.user == Totals() and theirs.platform == ours.user
    assert ours.user is not None and (ours.user.positions, ours.user.risk) == (1, D(10))
    share = replace(RICH, strategies={"test": Totals()}).with_intent(order, PRICE)
    assert share.strategies["test"].positions == 1 and share.total_risk == D(10)


def test_a_users_correlated_positions_are_counted_over_all_his_accounts() -> None:
    moving = {"ETHUSDT": 0.9, "SOLUSDT": -0.8}

    class Known:
        def of(self, symbol: str) -> Mapping[str, float | None]:
            return moving

    others = Totals(
        notional={"BTCUSDT": D(100), "SOLUSDT": D(100), "XRPUSDT": D(100)},
        holders={"BTCUSDT": 1, "SOLUSDT": 2, "XRPUSDT": 1},
        positions=4,
    )
    exposure = replace(RICH, positions={"ETHUSDT": position(price=D(100))}, user=others)
    market = Market(correlations=Known())
    limits = combined(ACCOUNT_DEFAULTS, user=Limits(max_correlated_positions=4))
    found = refusals({}, limits, exposure, market)
    assert list(found) == ["user.max_correlated_positions"]
    assert "BTCUSDT, ETHUSDT, SOLUSDT" in found["user.max_correlated_positions"]
    assert not refusals({}, combined(ACCOUNT_DEFAULTS, user=Limits(max_correlated_positions=5)), exposure, market)


def test_a_market_order_whose_book_nobody_could_read_is_denied_where_slippage_is_limited() -> None:
    unread = Market(book_unread=True)
    order = {"order_type": "Market", "price": None}
    assert "try again, or use a limit order" in refusals(order, Limits(max_slippage_percent=D(1)), RICH, unread)[
        "max_slippage_percent"
    ]  # fmt: skip
    assert not refusals(order, Limits(), RICH, unread)
    assert not refusals({}, Limits(max_slippage_percent=D(1)), RICH, unread)


def test_quotes_of_the_venue_are_walked_as_our_own_book_is() -> None:
    bids, asks = [(D("99.9"), D(1))], [(D("100.1"), D("0.4")), (D("100.3"), D(5))]
    side = side_of_quotes("Buy", bids, asks, D("0.1"), D("0.001"))
    assert side is not None and side.mid_price == 100
    fill = estimate_fill(side, D("0.8"))
    assert fill is not None and (fill.average_price, fill.missing) == (D("100.2"), 0)
    assert side_of_quotes("Sell", [], asks, D("0.1"), D("0.001")) is None
