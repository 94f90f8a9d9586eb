"""Bybit v5 through pybit: orders out, and the questions that reconciliation asks.

Traps of pybit 5.17 that this file disarms: it retries some codes by itself (``retry_codes`` must not be empty, or its
own list is used), it re-POSTs orders with ``force_retry``, and it waits 3 s before each retry. Here the guard lets each
request out; only what is idempotent is asked again, and what an order's outcome means is decided by its owner.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import partial
from time import monotonic, time
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

from pybit.exceptions import FailedRequestError, InvalidRequestError
from pybit.unified_trading import HTTP

from trading.gateways.base import AmendRequest, GatewayError, OrderRequest, TooManyPages
from trading.gateways.bybit_codes import NOT_MODIFIED, classify, classify_http_status
from trading.gateways.bybit_limits import UNANSWERED, ending_of, endpoint_of
from trading.gateways.bybit_reports import (
    ReportError,
    fill_report,
    ledger_report,
    order_report,
    position_report,
    wallet_report,
)
from trading.gateways.fence import Fence, FencedAdapter, SendRefused, no_fence
from trading.reports import (
    FillReport,
    LedgerReport,
    OrderReport,
    PositionReport,
    Submission,
    SubmissionResult,
    WalletReport,
)
from trading.resilience.guard import CallGuard, Endpoint, NotSent
from trading.resilience.rate_budget import MOST_WAIT_SECONDS, Permit, Priority, key_name
from trading.resilience.retry import NO_RETRY, Backoff

# Bybit's hosts in all their countries.
REAL_VENUE = re.compile(r"(^|\.)(bybit|bytick|bybit-[a-z]+)\.[a-z.]+$")
CATEGORY = "linear"
SETTLE_COIN = "USDT"
RECEIVE_WINDOW_MS = 5_000
TIMEOUT_SECONDS = 5
NO_RETRY_CODES = {-999_999}
MAX_PAGES = 100
BOOK_LEVELS = 200
# Bybit says that its order history is delayed, not by how much. Recently closed orders are told at once by another
# endpoint, but for those before a restart of its service and beyond the newest 500: only for these it matters.
HISTORY_DELAY_MS, SIMULATOR_HISTORY_DELAY_MS = 60_000, 2_000
# An order whose absence may be concluded some time after its commit must leave soon after it, or not at all.
ORDER_WAIT_SECONDS = 1.0
# Less than the budget holds a token for, by the longest call.
ROOM_SECONDS = 5.0
ASK_AGAIN = Backoff()
Report = TypeVar("Report")


@dataclass(frozen=True, slots=True)
class BybitEndpoints:
    """Where a Bybit environment lives. Websocket addresses are without their channel path. ``history_delay_ms``: how
    long after its end an order may be missing from the order history."""

    rest: str
    websocket: str
    history_delay_ms: int = HISTORY_DELAY_MS

    @classmethod
    def of_environment(cls, environment: str, simulator_url: str) -> BybitEndpoints:
        if environment == "live":
            return cls("https://api.bybit.com", "wss://stream.bybit.com")
        if environment == "testnet":
            return cls("https://api-testnet.bybit.com", "wss://stream-testnet.bybit.com")
        return cls(simulator_url, simulator_url.replace("http", "ws", 1), SIMULATOR_HISTORY_DELAY_MS)

    @classmethod
    def of_paper(cls, url: str) -> BybitEndpoints:
        """The paper venue, which is ours.

        Raises:
            ValueError: the address is no http address, or a real venue's.
        """
        parts = urlsplit(url)
        host = (parts.hostname or "").lower()
        if parts.scheme not in ("http", "https") or not host:
            raise ValueError(f"PAPER_URL is {url!r}; expected the paper venue's address, like http://127.0.0.1:8901")
        if REAL_VENUE.search(host):
            raise ValueError(f"PAPER_URL is {url!r}, a real venue; paper orders go to a paper venue of ours only")
        return cls(url, url.replace("http", "ws", 1))


class BybitGateway:
    """One account's REST connection; see :class:`trading.gateways.base.Gateway`. Use from one thread at a time.

    ``fence`` is asked before every request that changes something. ``priority`` "kill" is for the kill switch: an open
    breaker lets it through, and it may use up every rate budget. Without a ``guard`` the gateway protects itself, and
    shares its key's budget with nobody.
    """

    def __init__(
        self,
        endpoints: BybitEndpoints,
        api_key: str,
        api_secret: str,
        *,
        fence: Fence = no_fence,
        priority: Literal["normal", "kill"] = "normal",
        guard: CallGuard | None = None,
        mode: str = "real",
    ) -> None:
        self._http = HTTP(
            api_key=api_key,
            api_secret=api_secret,
            recv_window=RECEIVE_WINDOW_MS,
            timeout=TIMEOUT_SECONDS,
            max_retries=1,
            force_retry=False,
            retry_codes=NO_RETRY_CODES,
            return_response_headers=True,
        )
        self._http.endpoint = endpoints.rest
        self._venue, self._key = urlsplit(endpoints.rest).netloc, key_name(api_key)
        self.priority, self.mode, self.history_delay_ms = priority, mode, endpoints.history_delay_ms
        self._guard = guard or CallGuard.alone()
        self._fence = fence
        self._latest_ms: int | None = None
        self._http.client.mount(endpoints.rest, FencedAdapter(self._may_leave))
        self._room: Permit | None = None
        self._room_since = 0.0

    def _may_leave(self, timestamp_ms: int) -> str:
        if self._latest_ms is not None and timestamp_ms > self._latest_ms:
            return "it came too late to its sending: its absence might have been concluded already"
        return self._fence(timestamp_ms)

    def server_time_ms(self) -> int:
        answer = self._ask(self._http.get_server_time)
        try:
            return int(answer["timeNano"]) // 1_000_000
        except (KeyError, TypeError, ValueError) as error:
            raise GatewayError(f"the venue's time is missing: {str(answer)[:200]}") from error

    def prepare_order(self) -> None:
        """Wait for the room that the next order needs, before it is committed: afterwards it must leave at once.

        Raises:
            GatewayError: no room within 5 s, or the breaker is open.
        """
        self._forget_old_room()
        if self._room is None:
            try:
                self._room = self._guard.reserve(self._endpoint("place_order"), priority=self.priority)
            except NotSent as error:
                raise GatewayError(f"no order can be sent now: {error}") from error
            self._room_since = monotonic()

    def _forget_old_room(self) -> None:
        """A permit that no order used in time is given back: it is held for some seconds only."""
        if self._room is not None and monotonic() - self._room_since > ROOM_SECONDS:
            self._guard.budget.settle(self._room)
            self._room = None

    def submit(self, request: OrderRequest) -> SubmissionResult:
        """Send one order. Never raises for what venue or network did; see :class:`Submission`."""
        fields: dict[str, Any] = {
            "category": CATEGORY,
            "symbol": request.symbol,
            "side": request.side,
            "orderType": request.order_type,
            "qty": plain(request.quantity),
            "orderLinkId": request.client_order_id,
            "positionIdx": request.position_index,
        }
        if request.order_type == "Limit" and request.price is not None:
            fields |= {"price": plain(request.price), "timeInForce": request.time_in_force}
        if request.reduce_only:
            fields["reduceOnly"] = True
            if request.closes_position:
                fields |= {"qty": "0", "closeOnTrigger": True}
        else:
            # Bybit refuses TP/SL on reduce-only orders.
            if request.take_profit is not None:
                fields["takeProfit"] = plain(request.take_profit)
            if request.stop_loss is not None:
                fields["stopLoss"] = plain(request.stop_loss)
        self._forget_old_room()
        room, self._room = self._room, None
        return self._in_time(partial(self._http.place_order, **fields), request.latest_ms, room=room)

    def amend(self, request: AmendRequest) -> SubmissionResult:
        """Ask for other values. ACCEPTED means the venue took the request, CLOSED that the order is not open any more;
        the order stream says what became of it. Never asked twice: what it changed meanwhile is not known."""
        fields = {
            "category": CATEGORY,
            "symbol": request.symbol,
            "qty": plain(request.quantity),
            "price": plain(request.price),
            **_named(request.client_order_id, request.venue_order_id),
        }
        return self._in_time(partial(self._http.amend_order, **fields), request.latest_ms, of_open=True)

    def _in_time(
        self, call: partial[Any], latest_ms: int | None, *, of_open: bool = False, room: Permit | None = None
    ) -> SubmissionResult:
        """Attempt what must have left by ``latest_ms``, or not at all."""
        wait_seconds = ORDER_WAIT_SECONDS if latest_ms is None else max(0.0, latest_ms / 1_000 - time())
        self._latest_ms = latest_ms
        try:
            return self._attempt(call, cancelling=False, of_open=of_open, wait_seconds=wait_seconds, room=room)
        finally:
            self._latest_ms = None

    def cancel(self, symbol: str, client_order_id: str, venue_order_id: str) -> SubmissionResult:
        """Ask for a cancel. ACCEPTED means the venue took the request; the order stream says how it ended."""
        fields = {"category": CATEGORY, "symbol": symbol}
        fields |= _named(client_order_id, venue_order_id)
        return self._attempt(partial(self._http.cancel_order, **fields), cancelling=True)

    def cancel_all(self) -> SubmissionResult:
        """Ask for a cancel of every open order, conditional ones too; Bybit picks 500 of them where there are more."""
        call = partial(self._http.cancel_all_orders, category=CATEGORY, settleCoin=SETTLE_COIN)
        return self._attempt(call, cancelling=True)

    def set_disconnect_cancel(self, seconds: int) -> None:
        """Let the venue cancel every order when our private stream, subscribed to its dcp topic, is gone for so long.
        Bybit grants this to institutional clients only: others get an error."""
        self._ask(self._http.set_dcp, product="DERIVATIVES", timeWindow=seconds)

    def set_leverage(self, symbol: str, leverage: Decimal) -> None:
        text = plain(leverage)
        try:
            self._ask(self._http.set_leverage, category=CATEGORY, symbol=symbol, buyLeverage=text, sellLeverage=text)
        except GatewayError as error:
            if error.code not in NOT_MODIFIED:
                raise

    def book(self, symbol: str) -> tuple[list[tuple[Decimal, Decimal]], list[tuple[Decimal, Decimal]]]:
        """Bids and asks as the venue has them now, (price, quantity) from the best on."""
        answer = self._ask(self._http.get_orderbook, category=CATEGORY, symbol=symbol, limit=BOOK_LEVELS)
        try:
            bids, asks = ([(Decimal(price), Decimal(size)) for price, size in answer[side]] for side in ("b", "a"))
        except (KeyError, TypeError, ValueError, InvalidOperation) as error:
            raise GatewayError(f"not a book: {str(answer)[:200]}") from error
        return bids, asks

    def find_order(self, symbol: str, client_order_id: str, venue_order_id: str = "") -> OrderReport | None:
        """The order under its id: among the open and recently closed, then in the (delayed) history."""
        name = _named(client_order_id, venue_order_id)
        for question in (self._http.get_open_orders, self._http.get_order_history):
            answer = self._ask(question, category=CATEGORY, symbol=symbol, **name)
            for row in _rows(answer):
                if name.items() <= row.items():
                    return _understood(order_report, row)
        return None

    def open_orders(self) -> Sequence[OrderReport]:
        rows = self._pages(self._http.get_open_orders, category=CATEGORY, settleCoin=SETTLE_COIN, openOnly=0, limit=50)
        return [_understood(order_report, row) for row in rows]

    def fills_since(self, start_ms: int) -> Sequence[FillReport]:
        """Executions from ``start_ms`` on, oldest first; the caller keeps the window within Bybit's 7 days."""
        rows = self._pages(self._http.get_executions, category=CATEGORY, startTime=start_ms, limit=100)
        return sorted((_understood(fill_report, row) for row in rows), key=lambda fill: fill.executed_ms)

    def fills_of(self, symbol: str, client_order_id: str, venue_order_id: str = "") -> Sequence[FillReport]:
        name = _named(client_order_id, venue_order_id)
        rows = self._pages(self._http.get_executions, category=CATEGORY, symbol=symbol, limit=100, **name)
        return sorted((_understood(fill_report, row) for row in rows), key=lambda fill: fill.executed_ms)

    def positions(self) -> Sequence[PositionReport]:
        rows = self._pages(self._http.get_positions, category=CATEGORY, settleCoin=SETTLE_COIN, limit=200)
        return [_understood(position_report, row) for row in rows]

    def position_indexes(self, symbol: str) -> frozenset[int]:
        """0 alone in one-way mode, 1 and 2 in hedge mode; told for a flat symbol too."""
        rows = self._pages(self._http.get_positions, category=CATEGORY, symbol=symbol)
        return frozenset(_understood(position_report, row).position_index for row in rows)

    def leverage(self, symbol: str) -> Decimal:
        """What the venue would open a position with; told for a flat symbol too."""
        rows = self._pages(self._http.get_positions, category=CATEGORY, symbol=symbol)
        return max((_understood(position_report, row).leverage for row in rows), default=Decimal(1))

    def ledger(self, start_ms: int, end_ms: int) -> Sequence[LedgerReport]:
        """The account's money movements in a time of at most 7 days, oldest first.

        Raises:
            TooManyPages: ask for a shorter time.
        """
        times = {"startTime": start_ms, "endTime": end_ms}
        rows = self._pages(self._http.get_transaction_log, accountType="UNIFIED", **times, limit=50)
        return sorted((_understood(ledger_report, row) for row in rows), key=lambda entry: entry.booked_ms)

    def funding_fills(self, start_ms: int, end_ms: int) -> Sequence[FillReport]:
        """Funding payments as executions, oldest first: ``fee`` is positive when we pay."""
        fields = {"category": CATEGORY, "execType": "Funding", "startTime": start_ms, "endTime": end_ms}
        rows = self._pages(self._http.get_executions, **fields, limit=100)
        return sorted((_understood(fill_report, row) for row in rows), key=lambda fill: fill.executed_ms)

    def wallet(self) -> WalletReport:
        answer = self._ask(self._http.get_wallet_balance, accountType="UNIFIED")
        rows = _rows(answer)
        if not rows:
            raise GatewayError("the venue returned no unified wallet for this key")
        return _understood(wallet_report, rows[0])

    def _attempt(
        self,
        call: partial[Any],
        *,
        cancelling: bool,
        of_open: bool = False,
        wait_seconds: float = MOST_WAIT_SECONDS,
        room: Permit | None = None,
    ) -> SubmissionResult:
        """A cancel by id may be asked for again; an order or its change never, for nobody knows yet what exists."""
        backoff = ASK_AGAIN if cancelling else NO_RETRY
        priority: Priority = "cancel" if cancelling and self.priority == "normal" else self.priority
        try:
            answer = self._guarded(call, backoff=backoff, priority=priority, wait_seconds=wait_seconds, room=room)
        except NotSent as error:
            return SubmissionResult(Submission.NOT_SENT, message=str(error))
        except InvalidRequestError as error:
            outcome = classify(error.status_code, of_open=cancelling or of_open)
            return SubmissionResult(outcome, code=error.status_code, message=str(error.message))
        except FailedRequestError as error:
            outcome = classify_http_status(error.status_code)
            return SubmissionResult(outcome, code=error.status_code, message=str(error.message))
        except SendRefused as error:
            return SubmissionResult(Submission.NOT_SENT, message=str(error))
        except UNANSWERED as error:
            return SubmissionResult(Submission.UNKNOWN, message=f"{type(error).__name__}: {error}")
        result = answer.get("result")
        if answer.get("retCode") != 0 or not isinstance(result, Mapping):
            return SubmissionResult(Submission.UNKNOWN, message=f"not an answer: {str(answer)[:200]}")
        return SubmissionResult(Submission.ACCEPTED, venue_order_id=str(result.get("orderId") or ""))

    def _ask(self, question: Callable[..., Any], **fields: Any) -> Mapping[str, Any]:
        try:
            answer = self._guarded(partial(question, **fields), backoff=ASK_AGAIN, priority=self.priority)
        except NotSent as error:
            raise GatewayError(f"not asked: {error}") from error
        except InvalidRequestError as error:
            raise GatewayError(f"{error.message} (retCode {error.status_code})", error.status_code) from error
        except FailedRequestError as error:
            raise GatewayError(f"HTTP {error.status_code}: {error.message}", error.status_code) from error
        except SendRefused as error:
            raise GatewayError(f"not sent: {error}") from error
        except UNANSWERED as error:
            raise GatewayError(f"{type(error).__name__}: {error}") from error
        result = answer.get("result")
        if not isinstance(result, Mapping):
            raise GatewayError(f"result is {type(result).__name__}; expected an object")
        return result

    def _guarded(
        self,
        call: partial[Any],
        *,
        backoff: Backoff,
        priority: Priority,
        wait_seconds: float = MOST_WAIT_SECONDS,
        room: Permit | None = None,
    ) -> Mapping[str, Any]:
        # pybit gives the answer's time and headers with it.
        answer, _, _ = self._guard.call(
            self._endpoint(call.func.__name__),
            call,
            ending_of,
            backoff=backoff,
            priority=priority,
            wait_seconds=wait_seconds,
            reserved=room,
        )
        return answer

    def _endpoint(self, call: str) -> Endpoint:
        return endpoint_of(call, self._venue, self._key)

    def _pages(self, question: Callable[..., Any], **fields: Any) -> Iterator[Mapping[str, Any]]:
        cursor = None
        for _ in range(MAX_PAGES):
            answer = self._ask(question, **fields, cursor=cursor)
            rows = _rows(answer)
            yield from rows
            following = answer.get("nextPageCursor")
            if not following or following == cursor or not rows:
                return
            cursor = following
        raise TooManyPages(f"more than {MAX_PAGES} pages; refusing to read on")


def plain(number: Decimal) -> str:
    """A decimal as Bybit wants it: no exponent, no needless zeros."""
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _named(client_order_id: str, venue_order_id: str) -> dict[str, str]:
    """By the venue's id where it is known: orders that were placed elsewhere may have no other."""
    return {"orderId": venue_order_id} if venue_order_id else {"orderLinkId": client_order_id}


def _rows(answer: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """A missing list is no empty one: it would close every position and end every order in our books."""
    rows = answer.get("list")
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise GatewayError(f"list is {str(rows)[:200]}; expected a list of objects")
    return rows


def _understood(read: Callable[[Mapping[str, Any]], Report], row: Mapping[str, Any]) -> Report:
    try:
        return read(row)
    except ReportError as error:
        raise GatewayError(f"the venue sent something unexpected: {error}") from error
