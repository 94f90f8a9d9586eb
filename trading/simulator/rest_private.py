"""Signed endpoints: orders, executions, positions, the wallet, the key itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trading.simulator.accounts import MAKER_FEE, TAKER_FEE, SimulatedAccount, SimulatedOrder
from trading.simulator.errors import ApiError, parameter_error
from trading.simulator.rest_market import number
from trading.simulator.venue import Venue, now_ms

Fields = Mapping[str, Any]

RECENT_CLOSED = 500
HISTORY_WINDOW_MS = 7 * 86_400_000


def create_order(venue: Venue, user: str, fields: Fields) -> dict[str, Any]:
    _linear(fields)
    order = venue.exchange.create(user, fields, now_ms())
    return {"orderId": order.order_id, "orderLinkId": order.link_id}


def amend_order(venue: Venue, user: str, fields: Fields) -> dict[str, Any]:
    _linear(fields)
    order = venue.exchange.amend(user, fields, now_ms())
    return {"orderId": order.order_id, "orderLinkId": order.link_id}


def cancel_order(venue: Venue, user: str, fields: Fields) -> dict[str, Any]:
    _linear(fields)
    order = venue.exchange.cancel(user, fields, now_ms())
    return {"orderId": order.order_id, "orderLinkId": order.link_id}


def cancel_all(venue: Venue, user: str, fields: Fields) -> dict[str, Any]:
    _linear(fields)
    if not (fields.get("symbol") or fields.get("settleCoin") or fields.get("baseCoin")):
        raise parameter_error("params error: symbol, baseCoin or settleCoin is required")
    cancelled = venue.exchange.cancel_all(user, fields.get("symbol"), now_ms())
    return {
        "list": [{"orderId": order.order_id, "orderLinkId": order.link_id} for order in cancelled],
        "success": "1",
    }


def set_leverage(venue: Venue, user: str, fields: Fields) -> dict[str, Any]:
    _linear(fields)
    if str(fields.get("buyLeverage")) != str(fields.get("sellLeverage")):
        raise parameter_error("params error: buyLeverage must equal sellLeverage in one-way mode")
    venue.exchange.set_leverage(user, str(fields.get("symbol") or ""), str(fields.get("buyLeverage") or ""))
    return {}


def trading_stop(venue: Venue, user: str, fields: Fields) -> dict[str, Any]:
    _linear(fields)
    venue.exchange.set_trading_stop(user, fields)
    return {}


def realtime(venue: Venue, user: str, fields: Fields) -> dict[str, Any]:
    """Open orders; by id or with ``openOnly=1`` also the newest 500 that closed."""
    _linear(fields)
    account = venue.exchange.accounts[user]
    if fields.get("orderId") or fields.get("orderLinkId"):
        found = venue.exchange.find(user, fields)
        orders = [found] if found is not None and (found.is_open or found in _closed(account)[:RECENT_CLOSED]) else []
        return _page([order.as_row() for order in orders], fields, 20, 50)
    if not (fields.get("symbol") or fields.get("settleCoin") or fields.get("baseCoin")):
        raise parameter_error("params error: symbol, baseCoin or settleCoin is required")
    open_only = str(fields.get("openOnly", "0"))
    chosen = account.open_orders() if open_only == "0" else _closed(account)[:RECENT_CLOSED]
    return _page([order.as_row() for order in _of_symbol(chosen, fields)], fields, 20, 50)


def order_history(venue: Venue, user: str, fields: Fields) -> dict[str, Any]:
    _linear(fields)
    account = venue.exchange.accounts[user]
    if fields.get("orderId") or fields.get("orderLinkId"):
        found = venue.exchange.find(user, fields)
        orders = [found] if found is not None and not found.is_open else []
    else:
        start, end = _window(fields)
        orders = [order for order in _closed(account) if start <= order.created_ms <= end]
    return _page([order.as_row() for order in _of_symbol(orders, fields)], fields, 20, 50)


def executions(venue: Venue, user: str, fields: Fields) -> dict[str, Any]:
    _linear(fields)
    rows = reversed(venue.exchange.accounts[user].executions)
    if fields.get("orderId") or fields.get("orderLinkId"):
        name = "orderId" if fields.get("orderId") else "orderLinkId"
        chosen = [row for row in rows if row[name] == fields[name]]
    else:
        start, end = _window(fields)
        chosen = [row for row in rows if start <= int(row["execTime"]) <= end]
        if fields.get("symbol"):
            chosen = [row for row in chosen if row["symbol"] == fields["symbol"]]
    return _page(chosen, fields, 50, 100)


def positions(venue: Venue, user: str, fields: Fields) -> dict[str, Any]:
    _linear(fields)
    account = venue.exchange.accounts[user]
    if fields.get("symbol"):
        chosen = [account.position(venue.exchange.market(str(fields["symbol"])).symbol)]
    elif fields.get("settleCoin"):
        chosen = [position for position in account.positions.values() if position.quantity]
    else:
        raise parameter_error("params error: symbol or settleCoin is required")
    return _page([position.as_row(account.balance) for position in chosen], fields, 20, 200)


def wallet_balance(venue: Venue, user: str, fields: Fields) -> dict[str, Any]:
    if fields.get("accountType") != "UNIFIED":
        raise parameter_error("accountType only support UNIFIED.")
    return {"list": [venue.exchange.accounts[user].wallet_row()]}


def fee_rate(venue: Venue, user: str, fields: Fields) -> dict[str, Any]:
    _linear(fields)
    symbols = [fields["symbol"]] if fields.get("symbol") else list(venue.exchange.markets)
    rates = {"takerFeeRate": f"{TAKER_FEE:f}", "makerFeeRate": f"{MAKER_FEE:f}"}
    return {"category": "linear", "list": [{"symbol": symbol, **rates} for symbol in symbols]}


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
    }


def _linear(fields: Fields) -> None:
    if fields.get("category") != "linear":
        raise ApiError(10001, "params error: category invalid; this simulator trades linear")


def _closed(account: SimulatedAccount) -> list[SimulatedOrder]:
    """Orders that ended, newest first."""
    return [order for order in reversed(account.orders.values()) if not order.is_open]


def _of_symbol(orders: Sequence[SimulatedOrder], fields: Fields) -> list[SimulatedOrder]:
    return [order for order in orders if not fields.get("symbol") or order.symbol == fields["symbol"]]


def _window(fields: Fields) -> tuple[int, int]:
    """``startTime`` to ``endTime``: at most 7 days, the newest 7 without either."""
    start, end = (int(str(fields[name])) if fields.get(name) else None for name in ("startTime", "endTime"))
    if start is None:
        end = end if end is not None else now_ms() + 1_000
        start = end - HISTORY_WINDOW_MS
    elif end is None:
        end = start + HISTORY_WINDOW_MS
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
    return {"category": "linear", "list": rows[start : start + limit], "nextPageCursor": following}


Endpoint = Callable[[Venue, str, Fields], dict[str, Any]]

QUERIES: dict[str, Endpoint] = {
    "/v5/order/realtime": realtime,
    "/v5/order/history": order_history,
    "/v5/execution/list": executions,
    "/v5/position/list": positions,
    "/v5/account/wallet-balance": wallet_balance,
    "/v5/account/fee-rate": fee_rate,
    "/v5/account/info": account_info,
    "/v5/user/query-api": query_api,
}
COMMANDS: dict[str, Endpoint] = {
    "/v5/order/create": create_order,
    "/v5/order/amend": amend_order,
    "/v5/order/cancel": cancel_order,
    "/v5/order/cancel-all": cancel_all,
    "/v5/position/set-leverage": set_leverage,
    "/v5/position/trading-stop": trading_stop,
}
