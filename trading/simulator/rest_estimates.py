"""Signed endpoints that say what an order would need or could spend. Nothing is placed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import ROUND_DOWN, Decimal
from typing import Any

from trading.simulator import order_checks as checks
from trading.simulator.accounts import SETTLE_COIN, SimulatedAccount
from trading.simulator.errors import ApiError, parameter_error
from trading.simulator.orders import ZERO
from trading.simulator.positions import MAINTENANCE_RATE
from trading.simulator.venue import Venue

Fields = Mapping[str, Any]

INSUFFICIENT = 110007
# More than any order costs: with it an order is judged by everything but the money that it needs.
PLENTY = Decimal(10) ** 18


def pre_check(venue: Venue, user: str, fields: Fields) -> dict[str, Any]:
    """The margin rates of the account before and after an order, in hundredths of a percent.

    Raises:
        ApiError: as an order would be refused, with its ids in ``retExtInfo``, and with the rates that it would have
            led to when there is not enough for it.
    """
    if fields.get("category") != "linear":
        raise parameter_error("params error: category invalid; expected linear")
    exchange, account = venue.exchange, venue.exchange.accounts[user]
    order_id, link_id = exchange.new_id(), str(fields.get("orderLinkId") or "")
    details: dict[str, Any] = {"future_order_id": order_id, "future_order_link_id": link_id}
    try:
        market = exchange.market(str(fields.get("symbol") or ""))
        rich = replace(account, wallets={SETTLE_COIN: PLENTY})
        order = checks.order_of(rich, market, fields, venue.clock(), order_id)
        if order.status == "Untriggered":
            raise parameter_error("params error: conditional orders are not supported")
    except ApiError as error:
        raise ApiError(error.code, error.message, details) from None
    price = checks.reference_price(market, order)
    more = ZERO if order.reduce_only or checks.closes(order) else checks.opening_value(account, order, price)
    leverage = account.position(order.symbol, order.position_index).leverage
    initial, maintenance = account.initial_margin, account.maintenance_margin
    after = [_rate_e4(account, initial + more / leverage), _rate_e4(account, maintenance + more * MAINTENANCE_RATE)]
    try:
        checks.check_linear(account, market, order)
    except ApiError as error:
        if error.code == INSUFFICIENT:
            details |= {"post_imr_e4": after[0], "post_mmr_e4": after[1]}
        raise ApiError(error.code, error.message, details) from None
    return {
        "orderId": order_id,
        "orderLinkId": link_id,
        "preImrE4": _rate_e4(account, initial),
        "preMmrE4": _rate_e4(account, maintenance),
        "postImrE4": after[0],
        "postMmrE4": after[1],
    }


def spot_borrow_check(venue: Venue, user: str, fields: Fields) -> dict[str, Any]:
    """What a user could buy or sell of a spot market. Nothing is lent for that, so it is what the user has."""
    if fields.get("category") != "spot":
        raise parameter_error("params error: category invalid; expected spot")
    market = venue.exchange.market(str(fields.get("symbol") or ""), "spot")
    side = checks.one_of(fields, "side", ("Buy", "Sell"))
    account, coin = venue.exchange.accounts[user], market.rules.base_coin
    quantity = _cut(account.spendable(coin), "0.0001")
    amount = _cut(account.spendable(SETTLE_COIN), "0.00000001")
    return {
        "symbol": market.symbol,
        "side": side,
        "maxTradeQty": quantity,
        "maxTradeAmount": amount,
        "spotMaxTradeQty": quantity,
        "spotMaxTradeAmount": amount,
        "borrowCoin": SETTLE_COIN if side == "Buy" else coin,
    }


def _rate_e4(account: SimulatedAccount, margin: Decimal) -> int:
    return int(margin / account.margin_balance * 10_000) if account.margin_balance > 0 else 0


def _cut(amount: Decimal, step: str) -> str:
    return f"{amount.quantize(Decimal(step), ROUND_DOWN).normalize():f}"
