"""Signed endpoints: orders, executions, positions, the account, the key itself."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

from trading.simulator.accounts import SETTLE_COIN, SimulatedAccount
from trading.simulator.errors import ApiError, parameter_error, too_many_visits
from trading.simulator.orders import SimulatedOrder
from trading.simulator.rest_collateral import collateral_info, set_collateral_switch
from trading.simulator.rest_estimates import pre_check, spot_borrow_check
from trading.simulator.rest_parameters import number, period
from trading.simulator.signatures import is_number
from trading.simulator.venue import Venue

Fields = Mapping[str, Any]

RECENT_CLOSED = 500
DAY_MS = 86_400_000
HISTORY_WINDOW_MS = 7 * DAY_MS
BATCH_LINEAR, BATCH_SPOT = 20, 10
NEVER_FILLED = frozenset({"Cancelled", "Rejected", "Deactivated"})
EXIT_TYPES = ("TakeProfit", "StopLoss", "TrailingStop", "PartialTakeProfit", "PartialStopLoss")
# What each ``orderFilter`` shows, by ``stopOrderType``; orders of the last two kinds do not exist here.
ORDER_FILTERS: dict[str, tuple[str, ...]] = {
    "Order": ("",),
    "StopOrder": ("Stop", "tpslOrder", *EXIT_TYPES),
    "tpslOrder": ("tpslOrder",),
    "OcoOrder": (),
    "BidirectionalTpslOrder": (),
}
DCP_PRODUCTS = ("SPOT", "DERIVATIVES", "OPTIONS")


_ONLY_IN_HISTORY = {
    "extraFees": "",
    "rpiTakerAccess": False,
    "rpiMatchedQty": "0",
}


class Batch(dict[str, Any]):
    """The result of a batch, with what became of each item in ``codes`` (index-aligned, for ``retExtInfo``)."""

    def __init__(self, rows: list[dict[str, Any]], codes: list[dict[str, Any]]) -> None:
        super().__init__(list=rows)
        self.codes = codes


# Orders.


def create_order(venue: Venue, user: str, fields: Fields) -> dict[str, Any]:
    return _ids(venue.exchange.create(user, fields, venue.clock(), _category(fields)))


def amend_order(venue: Venue, user: str, fields: Fields) -> dict[str, Any]:
    return _ids(venue.exchange.amend(user, fields, venue.clock(), _category(fields)))


def cancel_order(venue: Venue, user: str, fields: Fields) -> dict[str, Any]:
    return _ids(venue.exchange.cancel(user, fields, venue.clock(), _category(fields)))


def cancel_all(venue: Venue, user: str, fields: Fields) -> dict[str, Any]:
    category = _category(fields)
    if category == "linear":
        _require_scope(fields)
    which = str(fields.get("orderFilter") or ("Order" if category == "spot" else ""))
    cancelled = venue.exchange.cancel_all(user, fields.get("symbol"), venue.clock(), category, which)
    return {"list": [_ids(order) for order in cancelled], "success": "1"}


@dataclass(frozen=True, slots=True)
class BatchCommand:
    """Does ``command`` for several orders in one request, each by itself: those refused do not stop the others."""

    command: Callable[[Venue, str, Fields], dict[str, Any]]

    def weight(self, fields: Fields) -> int:
        """How often the request counts: once for each order. One that cannot be used counts once."""
        items = fields.get("request")
        return len(items) if isinstance(items, list) and 0 < len(items) <= most_orders(fields) else 1

    def __call__(self, venue: Venue, user: str, fields: Fields, admitted: int | None = None) -> Batch:
        """``admitted``: how many orders the rate limit lets through, None for all; the others fail with 10006.

        Raises:
            ApiError: 10001 when there is no list of orders, or a too long one.
        """
        category = _category(fields)
        items, most = fields.get("request"), most_orders(fields)
        if not isinstance(items, list) or not items or not all(isinstance(item, dict) for item in items):
            raise parameter_error("params error: request must be a list of orders")
        if len(items) > most:
            raise parameter_error(f"The number of orders exceeds the maximum of {most}.")
        rows, codes = [], []
        for index, item in enumerate(items):
            row = {"category": category, "symbol": str(item.get("symbol") or ""), "orderId": ""}
            row["orderLinkId"] = str(item.get("orderLinkId") or "")
            if self.command is create_order:
                row["createAt"] = ""
            try:
                if admitted is not None and index >= admitted:
                    raise too_many_visits()
                row |= self.command(venue, user, {**item, "category": category})
            except ApiError as error:
                codes.append({"code": error.code, "msg": error.message})
            else:
                codes.append({"code": 0, "msg": "OK"})
                if self.command is create_order:
                    row["createAt"] = str(venue.clock())
            rows.append(row)
        return Batch(rows, codes)


def most_orders(fields: Fields) -> int:
    """How many orders one batch may have."""
    return BATCH_SPOT if fields.get("category") == "spot" else BATCH_LINEAR


def realtime(venue: Venue, user: str, fields: Fields) -> dict[str, Any]:
    """Open orders; by id or with ``openOnly=1`` also the newest 500 that closed since the service started."""
    category = _category(fields)
    account = venue.exchange.accounts[user]
    if _names_order(fields):
        # Before the id nothing else that was asked for counts.
        found = venue.exchange.find(user, fields)
        is_told = found is not None and (found.is_open or found in _recently_closed(venue, account, category))
        orders = [found] if found is not None and is_told and found.category == category else []
    else:
        if category == "linear":
            _require_scope(fields)
        if str(fields.get("openOnly", "0")) == "0":
            orders = sorted(account.open_orders(None, category), key=lambda order: order.created_ms, reverse=True)
        else:
            orders = _recently_closed(venue, account, category)
        orders = _of_scope(venue, orders, fields)
    return _page([order.as_row() for order in orders], fields, 20, 50, ("orderId", "createdTime"))


def order_history(venue: Venue, user: str, fields: Fields) -> dict[str, Any]:
    """Closed orders, some time after they closed: all of the last day, without those that never filled up to a week,
    only filled ones before."""
    category = _category(fields)
    account, now = venue.exchange.accounts[user], venue.clock()
    if _names_order(fields):
        found = venue.exchange.find(user, fields)
        orders = [found] if found is not None and not found.is_open and found.category == category else []
    else:
        start, end = _window(fields, now)
        orders = [
            order
            for order in _of_scope(venue, _closed(account, category), fields)
            if start <= order.created_ms <= end and fields.get("orderStatus") in (None, "", order.status)
        ]
    arrived = [order for order in orders if order.updated_ms <= now - venue.history_delay_ms]
    rows = [{**order.as_row(), **_ONLY_IN_HISTORY} for order in arrived if _is_remembered(order, now)]
    return _page(rows, fields, 20, 50, ("orderId", "createdTime"))


def _is_remembered(order: SimulatedOrder, now: int) -> bool:
    age = now - order.updated_ms
    if age <= DAY_MS or order.filled:
        return True
    return age <= HISTORY_WINDOW_MS and order.status not in NEVER_FILLED


def executions(venue: Venue, user: str, fields: Fields) -> dict[str, Any]:
    category = _category(fields)
    latest = venue.clock() - venue.execution_delay_ms
    rows = [
        row
        for row in reversed(venue.exchange.accounts[user].executions)
        if row["category"] == category and int(row["execTime"]) <= latest
    ]
    if _names_order(fields):
        name = "orderId" if fields.get("orderId") else "orderLinkId"
        chosen = [row for row in rows if row[name] == fields[name]]
    else:
        start, end = _window(fields, venue.clock())
        wanted = _symbols(venue, category, fields)
        chosen = [
            row
            for row in rows
            if start <= int(row["execTime"]) <= end
            and (wanted is None or row["symbol"] in wanted)
            and fields.get("execType") in (None, "", row["execType"])
        ]
    return _page(chosen, fields, 50, 100, ("execId", "execTime"))


def disconnected_cancel_all(venue: Venue, user: str, fields: Fields) -> dict[str, Any]:
    seconds = str(fields.get("timeWindow") or "")
    if not seconds.isdigit() or not 3 <= int(seconds) <= 300:
        raise parameter_error("params error: timeWindow must be 3 to 300 seconds")
    if fields.get("product") not in (None, *DCP_PRODUCTS):
        raise parameter_error("params error: product invalid")
    venue.exchange.accounts[user].dcp_seconds = int(seconds)
    return {}


# Positions.


def positions(venue: Venue, user: str, fields: Fields) -> dict[str, Any]:
    _linear(fields)
    account = venue.exchange.accounts[user]
    if fields.get("symbol"):
        chosen = account.positions_of(venue.exchange.market(str(fields["symbol"])).symbol)
    elif fields.get("settleCoin") or fields.get("baseCoin"):
        chosen = [position for position in account.positions.values() if position.quantity]
    else:
        raise parameter_error("params error: symbol or settleCoin is required")
    rows = [venue.exchange.position_row(account, position) for position in chosen]
    return _page(rows, fields, 20, 200, ("symbol", "positionIdx"))


def closed_pnl(venue: Venue, user: str, fields: Fields) -> dict[str, Any]:
    _linear(fields)
    start, end = _window(fields, venue.clock())
    rows = [
        row
        for row in reversed(venue.exchange.accounts[user].closed_pnl.values())
        if start <= int(row["updatedTime"]) <= end and fields.get("symbol") in (None, "", row["symbol"])
    ]
    return _page(rows, fields, 50, 100, ("orderId", "updatedTime"))


def set_leverage(venue: Venue, user: str, fields: Fields) -> dict[str, Any]:
    _linear(fields)
    if str(fields.get("buyLeverage")) != str(fields.get("sellLeverage")):
        raise parameter_error("params error: buyLeverage must equal sellLeverage in cross margin mode")
    venue.exchange.set_leverage(user, str(fields.get("symbol") or ""), str(fields.get("buyLeverage") or ""))
    return {}


def switch_mode(venue: Venue, user: str, fields: Fields) -> dict[str, Any]:
    _linear(fields)
    mode = str(fields.get("mode"))
    if mode not in ("0", "3"):
        raise parameter_error("params error: mode must be 0 (one-way) or 3 (hedge)")
    if fields.get("symbol"):
        venue.exchange.switch_mode(user, str(fields["symbol"]), int(mode))
        return {}
    if fields.get("coin") != "USDT":
        raise parameter_error("params error: symbol or coin is required")
    for symbol in venue.exchange.markets:
        if (symbol in venue.exchange.accounts[user].hedged) != (mode == "3"):
            venue.exchange.switch_mode(user, symbol, int(mode))
    return {}


def trading_stop(venue: Venue, user: str, fields: Fields) -> dict[str, Any]:
    _linear(fields)
    venue.exchange.set_trading_stop(user, fields, venue.clock())
    return {}


# The account.


def wallet_balance(venue: Venue, user: str, fields: Fields) -> dict[str, Any]:
    if fields.get("accountType") != "UNIFIED":
        raise parameter_error("accountType only support UNIFIED.")
    row = venue.exchange.accounts[user].wallet_row()
    wanted = [coin for coin in str(fields.get("coin") or "").split(",") if coin]
    if wanted:
        row["coin"] = [coin for coin in row["coin"] if coin["coin"] in wanted]
    return {"list": [row]}


def transaction_log(venue: Venue, user: str, fields: Fields) -> dict[str, Any]:
    """The newest day without a start; at most a week at once."""
    if fields.get("accountType") not in (None, "UNIFIED"):
        raise parameter_error("accountType only support UNIFIED.")
    start, end = _window(fields, venue.clock(), DAY_MS)
    rows = [
        row
        for row in reversed(venue.exchange.accounts[user].transactions)
        if start <= int(row["transactionTime"]) <= end
        and fields.get("category") in (None, "", row["category"])
        and fields.get("currency") in (None, "", row["currency"])
        and fields.get("type") in (None, "", row["type"])
    ]
    page = _page(rows, fields, 20, 50, ("id", "transactionTime"))
    return {"list": page["list"], "nextPageCursor": page["nextPageCursor"]}


def fee_rate(venue: Venue, user: str, fields: Fields) -> dict[str, Any]:
    category = _category(fields)
    markets = venue.exchange.markets if category == "linear" else venue.exchange.spot
    asked = [venue.exchange.market(str(fields["symbol"]), category)] if fields.get("symbol") else markets.values()
    rows = [
        {"symbol": market.symbol, "takerFeeRate": f"{market.taker_fee:f}", "makerFeeRate": f"{market.maker_fee:f}"}
        for market in asked
    ]
    return {"list": rows} if category == "linear" else {"category": category, "list": rows}


def account_info(venue: Venue, user: str, fields: Fields) -> dict[str, Any]:
    return {
        "unifiedMarginStatus": 5,
        "marginMode": "REGULAR_MARGIN",
        "isMasterTrader": False,
        "spotHedgingStatus": "OFF",
        "updatedTime": str(venue.started_ms),
        "dcpStatus": "OFF",
        "timeWindow": 0,
        "smpGroup": 0,
    }


def query_dcp_info(venue: Venue, user: str, fields: Fields) -> dict[str, Any]:
    seconds = str(venue.exchange.accounts[user].dcp_seconds)
    products = ("SPOT", "DERIVATIVES")
    return {"dcpInfos": [{"product": name, "dcpStatus": "ON", "timeWindow": seconds} for name in products]}


def set_margin_mode(venue: Venue, user: str, fields: Fields) -> dict[str, Any]:
    """Every account has the cross margin mode that it had from the start."""
    mode = fields.get("setMarginMode")
    if mode not in ("ISOLATED_MARGIN", "REGULAR_MARGIN", "PORTFOLIO_MARGIN"):
        raise parameter_error("params error: setMarginMode invalid")
    if mode != "REGULAR_MARGIN":
        raise ApiError(3400045, "Set margin mode failed")
    return {"reasons": []}


def smp_group(venue: Venue, user: str, fields: Fields) -> dict[str, Any]:
    """0: in no group, so only a user's own orders are kept from each other."""
    return {"smpGroup": 0}


def query_api(venue: Venue, user: str, fields: Fields) -> dict[str, Any]:
    return {
        "id": user,
        "note": "simulator",
        "apiKey": "",
        "readOnly": 0,
        "secret": "",
        "permissions": {
            "ContractTrade": ["Order", "Position"],
            "Spot": ["SpotTrade"],
            "Wallet": [],
            "Options": [],
            "Derivatives": ["DerivativesTrade"],
            "Exchange": [],
            "CopyTrading": [],
            "BlockTrade": [],
            "NFT": [],
            "Affiliate": [],
            "Earn": [],
            "FiatP2P": [],
            "FiatConvertBroker": [],
            "FiatGlobalPay": [],
            "FiatBitPay": [],
            "BitCard": [],
            "ByXPost": [],
        },
        "ips": ["127.0.0.1"],
        "type": 1,
        "deadlineDay": 365,
        "expiredAt": "2099-01-01T00:00:00Z",
        "createdAt": "2026-01-01T00:00:00Z",
        "uta": 1,
        "userID": 1,
        "vipLevel": "No VIP",
        "isMaster": True,
        "parentUid": "0",
        "unified": 0,
        "inviterID": 0,
        "affiliateID": 0,
        "mktMakerLevel": "0",
        "rsaPublicKey": "",
        "kycLevel": "LEVEL_DEFAULT",
        "kycRegion": "",
        "userIDInt64": "1",
        "inviterIDInt64": "0",
        "affiliateIDInt64": "0",
    }


def _ids(order: SimulatedOrder) -> dict[str, str]:
    return {"orderId": order.order_id, "orderLinkId": order.link_id}


def _category(fields: Fields) -> str:
    category = fields.get("category")
    if category not in ("linear", "spot"):
        raise parameter_error("params error: category invalid; this simulator trades linear and spot")
    return str(category)


def _linear(fields: Fields) -> None:
    if fields.get("category") != "linear":
        raise parameter_error("params error: category invalid; expected linear")


def _names_order(fields: Fields) -> bool:
    return bool(fields.get("orderId") or fields.get("orderLinkId"))


def _require_scope(fields: Fields) -> None:
    if not (fields.get("symbol") or fields.get("settleCoin") or fields.get("baseCoin")):
        raise parameter_error("params error: symbol, baseCoin or settleCoin is required")


def _closed(account: SimulatedAccount, category: str) -> list[SimulatedOrder]:
    """Orders that ended, newest first."""
    return [order for order in reversed(account.orders.values()) if not order.is_open and order.category == category]


def _recently_closed(venue: Venue, account: SimulatedAccount, category: str) -> list[SimulatedOrder]:
    """The newest that ended since the service started: what was before is in the history only."""
    ended = [
        order
        for order in _closed(account, category)
        if order.updated_ms > venue.restarted_ms and order.updated_ms >= venue.started_ms
    ]
    return heapq.nlargest(RECENT_CLOSED, ended, key=lambda order: order.updated_ms)


def _of_scope(venue: Venue, orders: Sequence[SimulatedOrder], fields: Fields) -> list[SimulatedOrder]:
    """Those that ``symbol``, else ``baseCoin``, and ``settleCoin`` and ``orderFilter`` ask for."""
    wanted = _symbols(venue, str(fields.get("category")), fields)
    which = fields.get("orderFilter")
    if which not in (None, "", *ORDER_FILTERS):
        raise parameter_error("params error: orderFilter invalid")
    kinds = ORDER_FILTERS.get(str(which))
    return [
        order
        for order in orders
        if (wanted is None or order.symbol in wanted) and (kinds is None or order.stop_order_type in kinds)
    ]


def _symbols(venue: Venue, category: str, fields: Fields) -> set[str] | None:
    """The symbols that a question is about; None for all."""
    if fields.get("symbol"):
        return {str(fields["symbol"])}
    base, settle = fields.get("baseCoin"), fields.get("settleCoin")
    if not base and not settle:
        return None
    markets = venue.exchange.markets if category == "linear" else venue.exchange.spot
    return {
        symbol
        for symbol, market in markets.items()
        if base in (None, "", market.rules.base_coin) and settle in (None, "", SETTLE_COIN)
    }


def _window(fields: Fields, now_ms: int, default_ms: int = HISTORY_WINDOW_MS) -> tuple[int, int]:
    """``startTime`` to ``endTime``: at most 7 days, the newest ``default_ms`` without either."""
    start, end = period(fields)
    if start is None:
        end = end if end is not None else now_ms + 1_000
        start = end - default_ms
    elif end is None:
        end = start + HISTORY_WINDOW_MS
    if end - start > HISTORY_WINDOW_MS:
        raise parameter_error("The time range between startTime and endTime cannot exceed 7 days.")
    return start, end


def _page(
    rows: list[dict[str, Any]], fields: Fields, default: int, largest: int, names: tuple[str, str]
) -> dict[str, Any]:
    """One page of rows, newest first, and the cursor of the next. ``names`` are the fields with a row's id and its
    time: a cursor tells both of the last row, so that what came or went meanwhile moves no page."""
    limit = number(fields, "limit", default, largest)
    identity, time = names
    first = 0
    cursor = unquote(unquote(str(fields.get("cursor") or "")))
    if cursor:
        last_id, _, last_time = cursor.rpartition(":")
        if not is_number(last_time):
            raise parameter_error("params error: cursor invalid")
        places = (index for index, row in enumerate(rows) if (row[identity], str(row[time])) == (last_id, last_time))
        older = (index - 1 for index, row in enumerate(rows) if int(row[time]) < int(last_time))
        first = next(places, next(older, len(rows) - 1)) + 1
    page = rows[first : first + limit]
    more = first + limit < len(rows)
    following = quote(f"{page[-1][identity]}:{page[-1][time]}", safe="") if more else ""
    category = str(fields.get("category") or "linear")
    return {"category": category, "list": page, "nextPageCursor": following}


Endpoint = Callable[[Venue, str, Fields], dict[str, Any]]

QUERIES: dict[str, Endpoint] = {
    "/v5/order/realtime": realtime,
    "/v5/order/history": order_history,
    "/v5/order/spot-borrow-check": spot_borrow_check,
    "/v5/execution/list": executions,
    "/v5/position/list": positions,
    "/v5/position/closed-pnl": closed_pnl,
    "/v5/account/wallet-balance": wallet_balance,
    "/v5/account/transaction-log": transaction_log,
    "/v5/account/fee-rate": fee_rate,
    "/v5/account/collateral-info": collateral_info,
    "/v5/account/info": account_info,
    "/v5/account/query-dcp-info": query_dcp_info,
    "/v5/account/smp-group": smp_group,
    "/v5/user/query-api": query_api,
}
COMMANDS: dict[str, Endpoint] = {
    "/v5/order/create": create_order,
    "/v5/order/amend": amend_order,
    "/v5/order/cancel": cancel_order,
    "/v5/order/cancel-all": cancel_all,
    "/v5/order/create-batch": BatchCommand(create_order),
    "/v5/order/amend-batch": BatchCommand(amend_order),
    "/v5/order/cancel-batch": BatchCommand(cancel_order),
    "/v5/order/pre-check": pre_check,
    "/v5/order/disconnected-cancel-all": disconnected_cancel_all,
    "/v5/account/set-collateral-switch": set_collateral_switch,
    "/v5/position/set-leverage": set_leverage,
    "/v5/position/switch-mode": switch_mode,
    "/v5/position/trading-stop": trading_stop,
    "/v5/account/set-margin-mode": set_margin_mode,
}
