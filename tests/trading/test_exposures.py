"""What is at stake, from our own books: of an account, of a strategy, of a user's and of all other accounts."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from marketdata.selectors import instrument_by_symbol
from risk.services import risk_limit_set
from tests import builders
from trading.lifecycle import OrderEvent
from trading.models import Account, Fill, Order, Position, Wallet
from trading.reports import WalletReport
from trading.services.accounts import wallet_apply
from trading.services.exposures import account_exposure
from trading.services.fills import fill_apply
from trading.services.order_commits import order_take
from trading.services.order_steps import advance
from trading.services.orders import order_place

pytestmark = pytest.mark.django_db
D = Decimal
PRICES = {"BTCUSDT": D(50_000)}


def wallet(account: Account, equity: int = 10_000) -> Wallet:
    report = WalletReport(D(equity), D(equity), D(equity), D(0), D(0))
    return wallet_apply(account_id=account.pk, report=report)


def hold(account: Account, symbol: str = "BTCUSDT", **changes: Any) -> Position:
    values: dict[str, Any] = {"side": "Buy", "quantity": D(1), "entry_price": D(50_000), "opened_at": timezone.now()}
    return Position.objects.create(
        account=account, instrument=instrument_by_symbol(symbol), **(values | changes)
    )  # fmt: skip


def send(account: Account, **changes: Any) -> Order:
    values: dict[str, Any] = {"symbol": "BTCUSDT", "side": "Buy", "order_type": "Limit", "quantity": D("0.01")}
    order = order_place(account=account, actor="alice", **(values | {"price": D("50000.0")} | changes))
    taken = order_take(order_id=order.pk, refusals=(), receive_window_ms=5000, owner=builders.ownership(account.pk))
    assert taken is not None
    return taken


def test_orders_of_unknown_fate_and_reduce_only_ones_are_counted_each_by_its_kind(account: Account) -> None:
    hold(account, quantity=D("0.05"), stop_loss=D(49_000))
    lost = send(account, stop_loss=D("49000.0"))
    advance(lost, OrderEvent.LOSE, cause="no answer")
    send(account, side="Sell", reduce_only=True)
    send(account, side="Sell", order_type="Market", price=None, reduce_only=True, quantity=D("0.02"))
    exposure = account_exposure(account.pk, PRICES)
    pending = exposure.pending["BTCUSDT"]
    assert (pending.buy_quantity, pending.sell_quantity) == (D("0.01"), D(0))
    assert (pending.reduce_sell, pending.closing_sell) == (D("0.03"), D("0.02"))
    # 50 of the position, 10 of the lost order.
    assert exposure.total_risk == D(60) and exposure.notional == {"BTCUSDT": D(3_000)}


def test_others_are_read_only_where_limits_ask_and_another_users_only_for_the_platform(
    account: Account, alice: Any
) -> None:
    second, bobs = builders.account(alice, name="second"), builders.account(builders.user("bob"))
    for each in (account, second, bobs):
        wallet(each)
    hold(second)
    hold(bobs, "ETHUSDT", quantity=D(2), entry_price=D(2_000))
    plain = account_exposure(account.pk, PRICES)
    assert plain.user is None and plain.platform is None
    risk_limit_set(level="user", user=alice, actor="a", max_positions=5)
    mine = account_exposure(account.pk, PRICES)
    assert mine.user is not None and mine.platform is None
    assert (mine.user.positions, mine.user.notional, mine.user.equity) == (1, {"BTCUSDT": D(50_000)}, D(10_000))
    assert account_exposure(bobs.pk, PRICES).user is None
    risk_limit_set(level="platform", actor="a", max_total_risk_percent=D(50))
    everyone = account_exposure(account.pk, PRICES).platform
    assert everyone is not None and everyone.positions == 2 and everyone.equity == D(20_000)
    # Without stops: 2 % of 50,000 and of 4,000.
    assert everyone.risk == D(1_080) and everyone.holders == {"BTCUSDT": 1, "ETHUSDT": 1}


def test_a_strategys_market_order_counts_by_the_mark_of_whoever_holds_the_symbol(account: Account) -> None:
    wallet(account)
    config = builders.strategy(account)
    risk_limit_set(level="strategy", strategy=config, actor="a", max_daily_loss_percent=D(5))
    hold(account, strategy="manual", mark_price=D(51_000))
    send(account, strategy="trend", order_type="Market", price=None)
    assert account_exposure(account.pk).strategies["trend"].notional == {"BTCUSDT": D(510)}


def test_a_strategys_share_is_what_it_opened_ordered_and_made_today(account: Account) -> None:
    wallet(account)
    config = builders.strategy(account, name="imbalance", strategy="scalping.imbalance")
    risk_limit_set(level="strategy", strategy=config, actor="a", max_daily_loss_percent=D(5))
    hold(account, strategy="imbalance", entry_price=D(50_100))
    hold(account, "ETHUSDT", strategy="manual")
    order = send(account, strategy="imbalance", quantity=D("0.001"))
    send(account, strategy="manual", quantity=D("0.001"))
    Fill.objects.create(
        account=account,
        instrument=instrument_by_symbol("BTCUSDT"),
        order=order,
        strategy=order.strategy,
        execution_id="one",
        side="Buy",
        price=D(50_000),
        quantity=D("0.001"),
        fee=D(3),
        realised_pnl=D(-47),
        executed_at=timezone.now(),
    )
    share = account_exposure(account.pk, PRICES).strategies["imbalance"]
    assert (share.positions, share.open_orders, share.orders_last_second) == (1, 1, 1)
    # Lost today: 47 and the fee of 3, and 100 that are not realised.
    assert share.equity - share.day_start_equity == D(-150)


def test_what_the_venues_own_stop_loses_is_a_loss_of_the_strategy_that_opened(account: Account) -> None:
    wallet(account)
    config = builders.strategy(account, name="imbalance", strategy="scalping.imbalance")
    risk_limit_set(level="strategy", strategy=config, actor="a", max_daily_loss_percent=D(5))
    hold(account, strategy="imbalance", quantity=D("0.1"), entry_price=D(50_000))
    stopped = builders.fill_report(
        client_order_id="", venue_order_id="the-venues-stop", side="Sell", price=D(49_000), quantity=D("0.1"),
        fee=D(3), executed_ms=int(timezone.now().timestamp() * 1_000),
    )  # fmt: skip
    fill = fill_apply(account_id=account.pk, report=stopped)
    assert fill is not None and (fill.order, fill.strategy) == (None, "imbalance")
    share = account_exposure(account.pk, PRICES).strategies["imbalance"]
    assert (share.positions, share.equity - share.day_start_equity) == (0, D(-103))


def test_the_peak_only_rises_and_a_day_begins_with_its_first_report(account: Account) -> None:
    assert wallet(account, 10_000).peak_equity == D(10_000)
    assert wallet(account, 12_000).peak_equity == D(12_000)
    after = wallet(account, 9_000)
    assert (after.peak_equity, after.day_start_equity) == (D(12_000), D(10_000))
    Wallet.objects.update(day="2026-01-01")
    assert wallet(account, 9_500).day_start_equity == D(9_500)
    exposure = account_exposure(account.pk)
    assert (exposure.peak_equity, exposure.day_start_equity) == (D(12_000), D(9_500))
