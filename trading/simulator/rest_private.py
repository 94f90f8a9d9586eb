"""Signed endpoints: orders, executions, positions, the account, the key itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trading.simulator.accounts import SimulatedAccount
from trading.simulator.errors import ApiError, parameter_error
from trading.simulator.orders import SimulatedOrder
from trading.simulator.rest_collateral import collateral_info, set_collateral_switch
from trading.simulator.rest_market import number
from trading.simulator.venue import Venue, now_ms

Fields = Mapping[str, Any]

RECENT_CLOSED = 500
DAY_MS = 86_400_000
HISTORY_WINDOW_MS = 7 * DAY_MS
BATCH_LINEAR, BATCH_SPOT = 20, 10
NEVER_FILLED = frozenset({"Cancelled", "Rejected", "Deactivated"})
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
    return _ids(venue.exchange.create(user, fields, now_ms(), _category(fields)))


def amend_order(venue: Venue, user: str, fields: Fields) -> dict[str, Any]:
    return _ids(venue.exchange.amend(user, fields, now_ms(), _category(fields)))


def cancel_order(venue: Venue, user: str, fields: Fields) -> dict[str, Any]:
    return _ids(venue.exchange.cancel(user, fields, now_ms(), _category(fields)))


def cancel_all(venue: Venue, user: str, fields: Fields) -> dict[str, Any]:
    category = _category(fields)
    if category == "linear":
        _require_scope(fields)
    which = str(fields.get("orderFilter") or ("Order" if category == "spot" else ""))
    cancelled = venue.exchange.cancel_all(user, fields.get("symbol"), now_ms(), category, which)
    return {"list": [_ids(order) for order in cancelled], "success": "1"}


def create_batch(venue: Venue, user: str, fields: Fields) -> dict[str, Any]:
    return _batch(venue, user, fields, create_order)


def amend_batch(venue: Venue, user: str, fields: Fields) -> dict[str, Any]:
    return _batch(venue, user, fields, amend_order)


def cancel_batch(venue: Venue, user: str, fields: Fields) -> dict[str, Any]:
    return _batch(venue, user, fields, cancel_order)


def _batch(venue: Venue, user: str, fields: Fields, work: Callable[[Venue, str, Fields], dict[str, Any]]) -> Batch:
    """Each item by itself: those that are refused do not stop the others."""
    category = _category(fields)
    items = fields.get("request")
    most = BATCH_SPOT if category == "spot" else BATCH_LINEAR
    if not isinstance(items, list) or not items or not all(isinstance(item, dict) for item in items):
        raise parameter_error("params error: request must be a list of orders")
    if len(items) > most:
        raise parameter_error(f"The number of orders exceeds the maximum of {most}.")
    rows, codes = [], []
    for item in items:
        row = {"category": category, "symbol": str(item.get("symbol") or ""), "orderId": ""}
        row["orderLinkId"] = str(item.get("orderLinkId") or "")
        if work is create_order:
            row["createAt"] = ""
        try:
            row |= work(venue, user, {**item, "category": category})
        except ApiError as error:
            codes.append({"code": error.code, "msg": error.message})
        else:
            codes.append({"code": 0, "msg": "OK"})
            if work is create_order:
                row["createAt"] = str(now_ms())
        rows.append(row)
    return Batch(rows, codes)


def realtime(venue: Venue, user: str, fields: Fields) -> dict[str, Any]:
    """Open orders; by id or with ``openOnly=1`` also the newest 500 that closed since the service started."""
    category = _category(fields)
    account = venue.exchange.accounts[user]
    if fields.get("orderId") or fields.get("orderLinkId"):
        found = venue.exchange.find(user, fields)
        is_told = found is not None and (found.is_open or found in _recently_closed(venue, account, category))
        orders = [found] if found is not None and is_told and found.category == category else []
    else:
        if category == "linear":
            _require_scope(fields)
        wants_open = str(fields.get("openOnly", "0")) == "0"
        orders = account.open_orders(None, category) if wants_open else _recently_closed(venue, account, category)
    return _page([order.as_row() for order in _of_symbol(orders, fields)], fields, 20, 50)


def order_history(venue: Venue, user: str, fields: Fields) -> dict[str, Any]:
    """Closed orders: all of the last day, without those that never filled up to a week, only filled ones before."""
    category = _category(fields)
    account, now = venue.exchange.accounts[user], now_ms()
    if fields.get("orderId") or fields.get("orderLinkId"):
        found = venue.exchange.find(user, fields)
        orders = [found] if found is not None and not found.is_open and found.category == category else []
    else:
        start, end = _window(fields)
        orders = [order for order in _closed(account, category) if start <= order.created_ms <= end]
    kept = [order for order in orders if _is_remembered(order, now)]
    return _page([{**order.as_row(), **_ONLY_IN_HISTORY} for order in _of_symbol(kept, fields)], fields, 20, 50)


def _is_remembered(order: SimulatedOrder, now: int) -> bool:
    age = now - order.updated_ms
    if age <= DAY_MS or order.filled:
        return True
    return age <= HISTORY_WINDOW_MS and order.status not in NEVER_FILLED


def executions(venue: Venue, user: str, fields: Fields) -> dict[str, Any]:
    category = _category(fields)
    rows = [row for row in reversed(venue.exchange.accounts[user].executions) if row["category"] == category]
    if fields.get("orderId") or fields.get("orderLinkId"):
        name = "orderId" if fields.get("orderId") else "orderLinkId"
        chosen = [row for row in rows if row[name] == fields[name]]
    else:
        start, end = _window(fields)
        chosen = [row for row in rows if start <= int(row["execTime"]) <= end]
        if fields.get("symbol"):
            chosen = [row for row in chosen if row["symbol"] == fields["symbol"]]
        if fields.get("execType"):
            chosen = [row for row in chosen if row["execType"] == fields["execType"]]
    return _page(chosen, fields, 50, 100)


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
    return _page([venue.exchange.position_row(account, position) for position in chosen], fields, 20, 200)


def closed_pnl(venue: Venue, user: str, fields: Fields) -> dict[str, Any]:
    _linear(fields)
    start, end = _window(fields)
    rows = [
        row
        for row in reversed(venue.exchange.accounts[user].closed_pnl.values())
        if start <= int(row["updatedTime"]) <= end and fields.get("symbol") in (None, "", row["symbol"])
    ]
    return _page(rows, fields, 50, 100)


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
    venue.exchange.set_trading_stop(user, fields, now_ms())
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
    start, end = _window(fields, default_ms=DAY_MS)
    rows = [
        row
        for row in reversed(venue.exchange.accounts[user].transactions)
        if start <= int(row["transactionTime"]) <= end
        and fields.get("category") in (None, "", row["category"])
        and fields.get("currency") in (None, "", row["currency"])
        and fields.get("type") in (None, "", row["type"])
    ]
    page = _page(rows, fields, 20, 50)
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


def _require_scope(fields: Fields) -> None:
    if not (fields.get("symbol") or fields.get("settleCoin") or fields.get("baseCoin")):
        raise parameter_error("params error: symbol, baseCoin or settleCoin is required")


def _closed(account: SimulatedAccount, category: str) -> list[SimulatedOrder]:
    """Orders that ended, newest first."""
    return [order for order in reversed(account.orders.values()) if not order.is_open and order.category == category]


def _recently_closed(venue: Venue, account: SimulatedAccount, category: str) -> list[SimulatedOrder]:
    """The newest that ended since the service started."""
    return [order for order in _closed(account, category) if order.updated_ms > venue.restarted_ms][:RECENT_CLOSED]


def _of_symbol(orders: Sequence[SimulatedOrder], fields: Fields) -> list[SimulatedOrder]:
    return [order for order in orders if not fields.get("symbol") or order.symbol == fields["symbol"]]


def _window(fields: Fields, default_ms: int = HISTORY_WINDOW_MS) -> tuple[int, int]:
    """``startTime`` to ``endTime``: at most 7 days, the newest ``default_ms`` without either."""
    texts = {name: str(fields[name]) for name in ("startTime", "endTime") if fields.get(name)}
    for name, text in texts.items():
        if not text.isdigit():
            raise parameter_error(f"params error: {name} invalid")
    start, end = (int(texts[name]) if name in texts else None for name in ("startTime", "endTime"))
    if start is None:
        end = end if end is not None else now_ms() + 1_000
        start = end - default_ms
    elif end is None:
        end = start + HISTORY_WINDOW_MS
    if start > end:
        raise parameter_error("params error: startTime is after endTime")
    if end - start > HISTORY_WINDOW_MS:
        raise parameter_error("The time range between startTime and endTime cannot exceed 7 days.")
    return start, end


def _page(rows: list[dict[str, Any]], fields: Fields, default: int, largest: int) -> dict[str, Any]:
    limit = number(fields, "limit", default, largest)
    cursor = str(fields.get("cursor") or "0")
    if not cursor.isdigit():
        raise parameter_error("params error: cursor invalid")
    start = int(cursor)
    following = str(start + limit) if start + limit < len(rows) else ""
    category = str(fields.get("category") or "linear")
    return {"category": category, "list": rows[start : start + limit], "nextPageCursor": following}


Endpoint = Callable[[Venue, str, Fields], dict[str, Any]]

QUERIES: dict[str, Endpoint] = {
    "/v5/order/realtime": realtime,
    "/v5/order/history": order_history,
    "/v5/execution/list": executions,
    "/v5/position/list": positions,
    "/v5/position/closed-pnl": closed_pnl,
    "/v5/account/wallet-balance": wallet_balance,
    "/v5/account/transaction-log": transaction_log,
    "/v5/account/fee-rate": fee_rate,
    "/v5/account/collateral-info": collateral_info,
    "/v5/account/info": account_info,
    "/v5/account/query-dcp-info": query_dcp_info,
    "/v5/user/query-api": query_api,
}
COMMANDS: dict[str, Endpoint] = {
    "/v5/order/create": create_order,
    "/v5/order/amend": amend_order,
    "/v5/order/cancel": cancel_order,
    "/v5/order/cancel-all": cancel_all,
    "/v5/order/create-batch": create_batch,
    "/v5/order/amend-batch": amend_batch,
    "/v5/order/cancel-batch": cancel_batch,
    "/v5/order/disconnected-cancel-all": disconnected_cancel_all,
    "/v5/account/set-collateral-switch": set_collateral_switch,
    "/v5/position/set-leverage": set_leverage,
    "/v5/position/switch-mode": switch_mode,
    "/v5/position/trading-stop": trading_stop,
}
