"""What a kill switch does on one account: cancel, close, verify - in rounds, until the venue says that nothing is left.

Each round asks the venue anew what is open, so a round may be lost, repeated, or done by another process: whoever owns
the account goes on. Closing orders are rows like all others, committed before they are sent, with a name that follows
from the switch, the symbol and the attempt: a process that dies between commit and answer leaves one that is sent again
under the same name, which the venue takes once.
"""

from __future__ import annotations

import hashlib
import logging
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal

from django.db import IntegrityError

from audit.trace import tracing
from marketdata.selectors import instrument_by_symbol, instrument_rules
from trading.crash_points import reach
from trading.gateways.base import Gateway, GatewayError, OrderRequest
from trading.gateways.bybit import RECEIVE_WINDOW_MS
from trading.lifecycle import TERMINAL, WORKING, OrderState
from trading.models import KillSwitchTask, Order
from trading.reports import OrderReport, PositionReport, Submission, SubmissionResult
from trading.runtime.order_sender import submit_order
from trading.runtime.ownership import AccountLease
from trading.runtime.reconciler import reconcile_account, resolve_order
from trading.selectors import kill_switch_task
from trading.services.kill_switch import kill_switch_done, kill_switch_progress
from trading.services.leases import LeaseLost
from trading.services.order_commits import order_close_intend, order_send_again

log = logging.getLogger(__name__)

STRATEGY = "kill_switch"
LONGEST_ID = 36
# Between rounds: while something moves, and when the last one met trouble.
ROUND_SECONDS, TROUBLE_SECONDS = 0.3, 1.0
# Each of them costs several requests; one round asks for no more.
MOST_UNRESOLVED = 20
MOST_ATTEMPTS = 50
HEDGE_SIDES = {1: "L", 2: "S"}
Phase = KillSwitchTask.Phase


class KillExecution:
    """``step`` blocks; call it from one thread, with a gateway whose fence is the account's lease."""

    def __init__(self, account_id: int, gateway: Gateway, lease: AccountLease, closer: str = "") -> None:
        self.account_id = account_id
        self._gateway, self._lease = gateway, lease
        self._closer = closer or f"{socket.gethostname()}:{os.getpid()}"
        self._trouble: list[str] = []

    def step(self) -> float | None:
        """One round; the seconds until the next, or None while no engaged switch has anything left to do here.

        Raises:
            django.db.Error: the database does not answer.
        """
        task = kill_switch_task(self.account_id)
        if task is None:
            return None
        self._trouble = []
        with tracing(task.switch.trace_id):
            try:
                reach("kill.begun")
                orders = self._cancel_orders()
                reach("kill.cancelled")
                positions = self._close_positions(task) if task.switch.closes_positions else ()
                reach("kill.closed")
                return self._judge(task, orders, positions)
            except LeaseLost as error:
                log.warning("account %d: the kill switch is somebody else's now: %s", self.account_id, error)
                return TROUBLE_SECONDS

    def _judge(
        self, task: KillSwitchTask, orders: Sequence[OrderReport] | None, positions: Sequence[PositionReport] | None
    ) -> float:
        told = orders is not None and positions is not None
        nothing_open = told and not orders and not positions and not self._trouble
        if nothing_open and not self._unresolved() and self._books_agree(task):
            reach("kill.verified")
            kill_switch_done(task_id=task.pk, closer=self._closer)
            reach("kill.done")
            log.warning("account %d: kill switch %d is done", self.account_id, task.switch_id)
            return 0.0
        phase = Phase.CLOSING if positions and not orders else Phase.VERIFYING if nothing_open else Phase.CANCELLING
        kill_switch_progress(
            task_id=task.pk,
            phase=phase,
            closer=self._closer,
            open_orders=None if orders is None else len(orders),
            open_positions=None if positions is None or not task.switch.closes_positions else len(positions),
            trouble="; ".join(self._trouble)[:500],
        )
        return TROUBLE_SECONDS if self._trouble or nothing_open else ROUND_SECONDS

    def _books_agree(self, task: KillSwitchTask) -> bool:
        """Book what happened, and ask once more: what was on its way may have arrived after the first answer."""
        run = reconcile_account(self.account_id, self._gateway, "kill switch")
        if run.error:
            self._trouble.append(run.error)
            return False
        try:
            flat = not task.switch.closes_positions or not [
                report for report in self._gateway.positions() if report.quantity
            ]
            return flat and not list(self._gateway.open_orders()) and not self._unresolved()
        except GatewayError as error:
            self._trouble.append(str(error))
            return False

    # Orders.

    def _cancel_orders(self) -> Sequence[OrderReport] | None:
        """What was open before this round; None when the venue does not say, which keeps nobody from cancelling."""
        try:
            orders: list[OrderReport] | None = list(self._gateway.open_orders())
        except GatewayError as error:
            self._trouble.append(f"open orders: {error}")
            orders = None
        if orders == []:
            return orders
        all_of_them = self._gateway.cancel_all()
        if all_of_them.outcome is Submission.ACCEPTED:
            return orders
        self._trouble.append(f"cancel all: {all_of_them.message or all_of_them.outcome}")
        for order in orders or ():
            self._gateway.cancel(order.symbol, order.client_order_id, order.venue_order_id)
        return orders

    def _unresolved(self) -> int:
        """How many orders of ours may still come to life: those left that the venue has not ended or proven absent."""
        states = [str(state) for state in WORKING]
        rows = Order.objects.filter(account_id=self.account_id, state__in=states).select_related("instrument")
        left = 0
        for order in rows:
            if left >= MOST_UNRESOLVED:
                break
            try:
                resolve_order(order, self._gateway)
            except GatewayError as error:
                self._trouble.append(f"order {order.client_order_id}: {error}")
            order.refresh_from_db(fields=["state"])
            left += order.state not in TERMINAL
        return left

    # Positions.

    def _close_positions(self, task: KillSwitchTask) -> Sequence[PositionReport] | None:
        try:
            positions = [report for report in self._gateway.positions() if report.quantity]
        except GatewayError as error:
            self._trouble.append(f"positions: {error}")
            return None
        for position in positions:
            # One that the venue does not answer for, or that no order can be made for, must not keep the others open.
            try:
                self._close(task, position)
            except (GatewayError, IntegrityError) as error:
                self._trouble.append(f"close {position.symbol}: {error}")
        return positions

    def _close(self, task: KillSwitchTask, position: PositionReport) -> None:
        earlier = self._attempts(task, position)
        last = earlier[-1] if earlier else None
        if last is not None and last.state in (OrderState.PENDING_SUBMIT, OrderState.UNKNOWN):
            again = self._send_again(last)
            if again is not None:
                self._submit(again)
            return
        if last is not None and last.state not in TERMINAL:
            # The venue has it: its end must be known before the next, or two would close the same position.
            resolve_order(last, self._gateway)
            return
        owner = self._lease.token
        if owner is None:
            raise LeaseLost(f"the lease of account {self.account_id} has run out")
        if instrument_by_symbol(position.symbol) is None:
            # Without a row, which would need the instrument.
            self._tell(position.symbol, close_by_name(self._gateway, position, f"kill-{task.switch_id}"))
            return
        order = order_close_intend(
            account_id=self.account_id,
            symbol=position.symbol,
            side=opposite(position.side),
            quantity=closing_quantity(position),
            client_order_id=self._free_name(task, position, len(earlier) + 1),
            strategy=STRATEGY,
            actor=f"kill_switch:{task.switch_id}",
            reason=f"kill switch: {task.switch.reason}"[:500],
            receive_window_ms=RECEIVE_WINDOW_MS,
            owner=owner,
            position_index=position.position_index,
            trace_id=task.switch.trace_id,
        )
        self._submit(order)

    def _free_name(self, task: KillSwitchTask, position: PositionReport, attempt: int) -> str:
        """The next attempt's name; names that an order of somebody else has taken are passed over."""
        prefix, symbol, side = f"kill-{task.switch_id}", position.symbol, position.position_index
        names = [closing_id(prefix, symbol, attempt + further, side) for further in range(MOST_ATTEMPTS)]
        orders = Order.objects.filter(account_id=self.account_id, client_order_id__in=names)
        taken = set(orders.values_list("client_order_id", flat=True))
        return next(name for name in names if name not in taken)

    def _attempts(self, task: KillSwitchTask, position: PositionReport) -> list[Order]:
        names = Order.objects.filter(
            account_id=self.account_id,
            strategy=STRATEGY,
            instrument__symbol=position.symbol,
            position_index=position.position_index,
        )
        mine = names.filter(client_order_id__startswith=f"kill-{task.switch_id}-").select_related("instrument")
        return list(mine.order_by("pk"))

    def _send_again(self, order: Order) -> Order | None:
        owner = self._lease.token
        if owner is None:
            raise LeaseLost(f"the lease of account {self.account_id} has run out")
        return order_send_again(order_id=order.pk, owner=owner)

    def _submit(self, order: Order) -> None:
        self._tell(order.instrument.symbol, submit_order(order, self._gateway))

    def _tell(self, symbol: str, result: SubmissionResult | None) -> None:
        if result is not None and result.outcome not in (Submission.ACCEPTED, Submission.DUPLICATE):
            self._trouble.append(f"close {symbol}: {result.outcome} {result.message}".strip())


def close_by_name(
    gateway: Gateway, position: PositionReport, prefix: str, tell: Callable[[str], None] = lambda identifier: None
) -> SubmissionResult | None:
    """Close a position with no database to remember attempts: the venue remembers them under their names. None while
    an earlier attempt is still open. ``tell`` hears the order's name before it is sent.

    Raises:
        GatewayError: the venue does not say what became of earlier attempts, or there were too many.
    """
    for attempt in range(1, MOST_ATTEMPTS + 1):
        identifier = closing_id(prefix, position.symbol, attempt, position.position_index)
        known = gateway.find_order(position.symbol, identifier)
        if known is None:
            # Should it be on its way already, the venue refuses this one: the name is taken once.
            tell(identifier)
            return _close_by_number_or_whole(gateway, _closing_request(position, identifier))
        if known.status in ("New", "PartiallyFilled", "Untriggered"):
            return None
    raise GatewayError(f"{position.symbol} was not closed by {MOST_ATTEMPTS} orders; look at it at the venue")


def _close_by_number_or_whole(gateway: Gateway, request: OrderRequest) -> SubmissionResult:
    """What is left may be too small for an order by its number, and there is nobody to ask: the venue's refusal tells,
    and leaves the name free."""
    result = gateway.submit(request)
    if result.outcome is Submission.REJECTED:
        result = gateway.submit(replace(request, closes_position=True))
    return result


def closing_id(prefix: str, symbol: str, attempt: int, position_index: int = 0) -> str:
    """The name of a closing order: the same every time for the same attempt, at most 36 characters. The two sides of
    an account in hedge mode are closed by orders of different names."""
    what = f"{symbol}-{HEDGE_SIDES[position_index]}" if position_index else symbol
    identifier = f"{prefix}-{what}-{attempt}"
    if len(identifier) > LONGEST_ID:
        digest = hashlib.sha256(what.encode()).hexdigest()[:10]
        identifier = f"{prefix}-{digest}-{attempt}"
    return identifier


def opposite(side: str) -> str:
    return "Sell" if side == "Buy" else "Buy"


def closing_quantity(position: PositionReport) -> Decimal:
    """As much as one market order may hold; the next attempt closes the rest."""
    rules = instrument_rules(position.symbol)
    most = rules.max_market_quantity if rules is not None else Decimal(0)
    return min(position.quantity, most) if most > 0 else position.quantity


def _closing_request(position: PositionReport, identifier: str) -> OrderRequest:
    return OrderRequest(
        client_order_id=identifier,
        symbol=position.symbol,
        side=opposite(position.side),
        order_type="Market",
        time_in_force="IOC",
        quantity=position.quantity,
        price=None,
        reduce_only=True,
        take_profit=None,
        stop_loss=None,
        position_index=position.position_index,
    )
