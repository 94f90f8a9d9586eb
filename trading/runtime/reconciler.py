"""Make our books agree with the venue's: fills, orders, positions, wallet, ledger - in that order, each
idempotent.

Runs before an account's first order, after every reconnect of its stream, every 10 s from beat, and on demand. May run
in several processes at once: row locks and unique execution ids make the same news apply once.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from django.db.models import QuerySet
from django.utils import timezone

from marketdata.selectors import instrument_by_symbol, instruments
from trading.crash_points import reach
from trading.gateways.base import Gateway, GatewayError
from trading.lifecycle import WORKING, OrderState
from trading.models import AccountReconciliation, Fill, Order, Position, ReconciliationRun
from trading.reconciliation import (
    Difference,
    DifferenceKind,
    LocalPosition,
    foreign_orders,
    position_differences,
)
from trading.reports import FillReport, OrderReport, PositionReport
from trading.runtime.ledger_comparison import compare_ledger, ledger_is_due
from trading.services.accounts import wallet_apply
from trading.services.amendments import order_amend_prove_lost
from trading.services.fills import (
    order_adopt,
    position_correct,
    position_report_apply,
    tells_nothing,
)
from trading.services.foreign_orders import foreign_orders_keep
from trading.services.leases import account_taken_at
from trading.services.modes import booking
from trading.services.order_outcomes import absence_read, order_prove_absent, order_prove_ended
from trading.services.order_steps import CONFIRMED
from trading.services.reconciliations import reconciliation_record
from trading.services.reports import fill_book, order_report_book

log = logging.getLogger(__name__)

# Executions may be listed late: always look back a little further than the last one we booked.
OVERLAP = timedelta(minutes=10)
# Bybit answers at most 7 days at once.
LONGEST_LOOK_BACK = timedelta(days=6)
# After the venue's clock has passed sent_at + receive window + this, the request can no longer be accepted.
WINDOW_MARGIN_MS = 2_000
FORGOTTEN_AFTER = timedelta(minutes=5)
POSITION_ROUNDS = 3
# Each at another moment: one that asked a replica which was behind says nothing.
READS_TO_PROVE = 3
MOST_PROBED = 3


def reconcile_account(account_id: int, gateway: Gateway, trigger: str) -> ReconciliationRun:
    """Compare and repair everything of one account; never raises for what the venue did: the run says so.

    Raises:
        ModeChanged: the account is in another mode than the gateway by now; nothing more was booked.
    """
    started_at = timezone.now()
    differences: list[Difference] = []
    error = refusal = ""
    ledger_compared = False
    try:
        differences += reconcile_fills(account_id, gateway)
        reach("reconciliation.fills")
        differences += reconcile_orders(account_id, gateway)
        reach("reconciliation.orders")
        held = {report.symbol for report in gateway.positions() if report.position_index}
        refusal = hedge_refusal(held or _hedged_symbols(account_id, gateway, trigger))
        if not held:
            differences += reconcile_positions(account_id, gateway)
            reach("reconciliation.positions")
        wallet_apply(account_id=account_id, report=gateway.wallet(), mode=gateway.mode)
        reach("reconciliation.wallet")
        if ledger_is_due(account_id, gateway.mode, trigger):
            differences += compare_ledger(account_id, gateway, _books_begun(account_id, gateway.mode) or started_at)
            ledger_compared = True
    except GatewayError as failed:
        error = str(failed)
    run = reconciliation_record(
        account_id=account_id,
        trigger=trigger,
        started_at=started_at,
        differences=differences,
        error=error,
        refusal=refusal,
        ledger_compared=ledger_compared,
        mode=gateway.mode,
    )
    reach("reconciliation.recorded")
    return run


def hedge_refusal(symbols: Collection[str]) -> str:
    """Why an account with these symbols in hedge mode must not trade; empty where there are none. Our books hold one
    position of a symbol, not a long and a short one, and our orders name no side of them."""
    if not symbols:
        return ""
    return (
        f"the account is in hedge mode ({', '.join(sorted(symbols)[:MOST_PROBED])}), and this platform trades in "
        "one-way mode only: close what is open (the kill switch closes both sides), switch the account to one-way mode "
        "at the venue, then resume trading here"
    )


def _hedged_symbols(account_id: int, gateway: Gateway, trigger: str) -> set[str]:
    """Without a position the mode is seen only where it is asked for, a symbol at a time: not at every run."""
    known = AccountReconciliation.objects.filter(account_id=account_id, mode=gateway.mode, hedge_mode=True).exists()
    if not known and not ledger_is_due(account_id, gateway.mode, trigger):
        return set()
    return {symbol for symbol in _probed(account_id, gateway.mode) if gateway.position_indexes(symbol) - {0}}


def _probed(account_id: int, mode: str) -> list[str]:
    """The symbols ordered last, or any: at Bybit the mode is one for all contracts of a coin, unless it was set for a
    symbol alone."""
    recent = Order.objects.filter(account_id=account_id, mode=mode).order_by("-created_at")
    symbols = list(dict.fromkeys(recent.values_list("instrument__symbol", flat=True)[:50]))[:MOST_PROBED]
    return symbols or list(instruments().values_list("symbol", flat=True)[:1])


def reconcile_fills(account_id: int, gateway: Gateway) -> list[Difference]:
    """Book the executions that never reached us."""
    # Not since the last fill: one that the stream told after an outage says nothing of those in the outage.
    begun = _books_begun(account_id, gateway.mode)
    if begun is None:
        return []
    last_run = _complete_runs(account_id, gateway.mode).last()
    start = begun if last_run is None else max(last_run.started_at - OVERLAP, begun)
    since = max(start, timezone.now() - LONGEST_LOOK_BACK)
    return _book(account_id, gateway.mode, gateway.fills_since(int(since.timestamp() * 1000)))


def _books_begun(account_id: int, mode: str) -> datetime | None:
    """What was traded before the first run is in the positions that it took over."""
    first_run = _complete_runs(account_id, mode).first()
    first_order = Order.objects.filter(account_id=account_id, mode=mode).order_by("created_at").first()
    if first_run is not None and (first_order is None or first_order.created_at >= first_run.started_at):
        return first_run.started_at
    return None if first_order is None else first_order.created_at - OVERLAP


def _complete_runs(account_id: int, mode: str) -> QuerySet[ReconciliationRun]:
    runs = ReconciliationRun.objects.filter(account_id=account_id, mode=mode, succeeded=True, complete=True)
    return runs.order_by("started_at")


def _book(account_id: int, mode: str, reports: Sequence[FillReport]) -> list[Difference]:
    found = []
    # Most are known, for every look goes back behind the last one: they are left out in one question. A fill without
    # an order may find it now.
    executions = [report.execution_id for report in reports]
    booked = Fill.objects.filter(account_id=account_id, mode=mode, execution_id__in=executions).exclude(order=None)
    known = set(booked.values_list("execution_id", flat=True)) if executions else set()
    for report in reports:
        if report.execution_id in known:
            continue
        if instrument_by_symbol(report.symbol) is None:
            log.warning("an execution in %s, which we do not know, was left aside", report.symbol)
            continue
        with booking(account_id, mode):
            fill = fill_book(account_id=account_id, report=report)
        if fill is not None:
            text = f"{report.side} {report.quantity:f} {report.symbol} at {report.price:f}"
            found.append(Difference(DifferenceKind.MISSED_FILL, report.execution_id, "none", text))
    return found


def reconcile_orders(account_id: int, gateway: Gateway) -> list[Difference]:
    """Bring working orders up to date, adopt those that are not ours, find out what became of those that are gone."""
    found = []
    # Ours first, then the venue's: an order placed in between is then theirs and not ours, and looked up below.
    working = list(
        Order.objects.filter(account_id=account_id, state__in=[str(s) for s in WORKING]).select_related("instrument")
    )
    reports = list(gateway.open_orders())
    by_client = {report.client_order_id: report for report in reports if report.client_order_id}
    by_venue = {report.venue_order_id: report for report in reports}
    for order in working:
        report = by_client.get(order.client_order_id) or by_venue.get(order.venue_order_id)
        if report is not None:
            if not tells_nothing(order, report):
                with booking(account_id, gateway.mode):
                    found += _bring_up_to_date(order, report)
            if order.is_replacing:
                resolve_amendment(order, gateway)
            continue
        difference = resolve_order(order, gateway)
        if difference is not None:
            found.append(difference)
    found += _ended_here_only(account_id, by_client)
    foreign = [
        report
        for report in foreign_orders(_known_ids(account_id, reports), reports)
        if instrument_by_symbol(report.symbol) is not None
    ]
    # An order without a quantity of its own cannot be one of our rows: it stays its owner's until its price comes.
    flagged = foreign if _flags(account_id, gateway.mode) else [report for report in foreign if report.closes_whole]
    found += _adopted(account_id, [report for report in foreign if report not in flagged], gateway)
    # Whatever else was flagged before, under another policy perhaps, is in our books now, or gone.
    return found + _flagged(account_id, flagged, gateway.mode)


def _flags(account_id: int, mode: str) -> bool:
    states = AccountReconciliation.objects.filter(account_id=account_id, mode=mode)
    return states.values_list("foreign_orders", flat=True).first() == AccountReconciliation.ForeignOrders.FLAG


def _flagged(account_id: int, foreign: Sequence[OrderReport], mode: str) -> list[Difference]:
    foreign_orders_keep(account_id=account_id, reports=foreign, mode=mode)
    return [
        Difference(DifferenceKind.FOREIGN_ORDER, report.venue_order_id, "none", _order_text(report), stands=True)
        for report in foreign
    ]


def _adopted(account_id: int, foreign: Sequence[OrderReport], gateway: Gateway) -> list[Difference]:
    found = []
    for report in foreign:
        with booking(account_id, gateway.mode):
            order_adopt(account_id=account_id, report=report)
        if report.filled_quantity:
            fills = gateway.fills_of(report.symbol, report.client_order_id, report.venue_order_id)
            _book(account_id, gateway.mode, fills)
        found.append(Difference(DifferenceKind.FOREIGN_ORDER, report.venue_order_id, "none", _order_text(report)))
    return found


def _order_text(report: OrderReport) -> str:
    amount = "the whole position of" if report.closes_whole else f"{report.quantity:f}"
    waits = "" if report.trigger_price is None else f", waiting for {report.trigger_price:f}"
    return f"{report.side} {amount} {report.symbol}{waits}"


def _ended_here_only(account_id: int, open_at_venue: Mapping[str, OrderReport]) -> list[Difference]:
    """Orders that work at the venue although our books ended them: what proved their end was wrong. Told at every run
    until somebody cancels them, for their exposure is not counted."""
    ended = Order.objects.filter(account_id=account_id, client_order_id__in=list(open_at_venue)).exclude(
        state__in=[str(state) for state in (*WORKING, OrderState.NEW)]
    )
    # A report may be older than the fill or the cancel that ended the order here.
    settled = ended.filter(updated_at__lt=timezone.now() - FORGOTTEN_AFTER)
    return [
        Difference(
            DifferenceKind.ENDED_HERE_ONLY,
            order.client_order_id,
            str(order.state),
            open_at_venue[order.client_order_id].status,
            stands=True,
        )
        for order in settled
    ]


def _known_ids(account_id: int, reports: Iterable) -> list[tuple[str, str]]:
    pairs = [(report.client_order_id, report.venue_order_id) for report in reports]
    orders = Order.objects.filter(account_id=account_id)
    by_client = orders.filter(client_order_id__in=[client for client, _ in pairs if client])
    by_venue = orders.filter(venue_order_id__in=[venue for _, venue in pairs])
    return list((by_client | by_venue).values_list("client_order_id", "venue_order_id"))


def resolve_order(order: Order, gateway: Gateway) -> Difference | None:
    """Find out what became of a working order that is not among the venue's open ones.

    Asked for by our id: open and recent, then history, then executions. Absence is proven only after the venue's clock
    has passed the end of the request's receive window, by readings as far apart as its history may be late.
    """
    if order.mode != gateway.mode:
        return None  # what the one venue does not know proves nothing of an order at the other
    names = (order.instrument.symbol, order.client_order_id, order.venue_order_id)
    report = gateway.find_order(*names)
    fills = gateway.fills_of(*names)
    missed = _book(order.account_id, gateway.mode, fills)
    if report is not None:
        state = str(order.state)
        moved = order_report_book(account_id=order.account_id, report=report)
        if order.is_replacing:
            resolve_amendment(order, gateway)
        if (moved is not None and str(moved.state) != state) or missed:
            return Difference(DifferenceKind.LOST_ORDER, order.client_order_id, state, report.status)
        return None
    if order.state in CONFIRMED:
        return _forgotten(order)
    if fills or order.state not in (OrderState.PENDING_SUBMIT, OrderState.UNKNOWN, OrderState.SUBMITTED):
        return None
    if not _window_has_passed(order, order.sent_at, order.receive_window_ms, gateway.server_time_ms()):
        return None
    # Read once more after the window closed: the first read may have been earlier than the venue's acceptance.
    if gateway.find_order(*names) is not None or gateway.fills_of(*names):
        return None
    return _absent(order, gateway.history_delay_ms)


def _absent(order: Order, history_delay_ms: int) -> Difference | None:
    """Nothing was found, and nothing can be accepted any more. Is that a proof?

    An order that is open is always found. One that had ended by the first such reading may be found nowhere: not among
    the recently closed, when the venue restarted or 500 others ended after it, and not yet in history and executions,
    which are late. There it is found when they have caught up: so a reading proves absence that comes as much later
    than the first as they may be late.
    """
    reading = absence_read(order_id=order.pk)
    delay = timedelta(milliseconds=history_delay_ms)
    if reading.reads < READS_TO_PROVE or reading.last_read_at - reading.first_read_at < delay:
        return None
    order_prove_absent(
        order_id=order.pk,
        evidence={
            "read": ["order/realtime", "order/history", "execution/list"],
            "sent_at": order.sent_at,
            "readings": reading.reads,
            "first_read_at": reading.first_read_at,
            "history_delay_ms": history_delay_ms,
        },
    )
    return Difference(DifferenceKind.NEVER_PLACED, order.client_order_id, str(order.state), "no such order")


def _forgotten(order: Order) -> Difference | None:
    """The venue confirmed it once, it is not open any more, and the venue keeps cancelled orders for a day only: it
    has ended, and its fills are booked. Not concluded of an order that moved just now, which a read may miss."""
    if timezone.now() - order.updated_at < FORGOTTEN_AFTER:
        return None
    state = str(order.state)
    ended = order_prove_ended(
        order_id=order.pk, evidence={"read": ["order/realtime", "order/history", "execution/list"]}
    )
    return (
        None
        if str(ended.state) == state
        else Difference(DifferenceKind.LOST_ORDER, order.client_order_id, state, "no such open order")
    )


def _bring_up_to_date(order: Order, report: OrderReport) -> list[Difference]:
    """Book what the venue says of an open order; a difference when somebody has changed the order there."""
    before = f"{order.quantity:f} at {order.price}"
    moved = order_report_book(account_id=order.account_id, report=report)
    if moved is None or order.is_replacing:
        return []
    after = f"{moved.quantity:f} at {moved.price}"
    return [Difference(DifferenceKind.AMENDED, order.client_order_id, before, after)] if after != before else []


def resolve_amendment(order: Order, gateway: Gateway) -> None:
    """Find out what became of an amendment by reading the order; it is never sent again. That it took no effect is
    proven by an order read after the venue's clock has passed the end of the request's receive window."""
    amendment = order.amendments.filter(outcome__in=["sent", "unknown"]).first()
    if amendment is None or not _window_has_passed(
        order, amendment.sent_at, amendment.receive_window_ms, gateway.server_time_ms()
    ):
        return
    report = gateway.find_order(order.instrument.symbol, order.client_order_id, order.venue_order_id)
    if report is not None and order_report_book(account_id=order.account_id, report=report) is not None:
        evidence = {"read": "order/realtime", "sent_at": amendment.sent_at, "quantity": report.quantity}
        order_amend_prove_lost(amendment_id=amendment.pk, evidence=evidence)


def _window_has_passed(order: Order, sent_at: datetime | None, receive_window_ms: int, server_time_ms: int) -> bool:
    """After a change of hands the window is counted from there: what an earlier owner has signed by the end of its
    lease may be on its way as long."""
    if sent_at is None:
        return False
    taken_at = account_taken_at(order.account_id)
    latest = sent_at if taken_at is None else max(sent_at, taken_at)
    closes = latest + timedelta(milliseconds=receive_window_ms + WINDOW_MARGIN_MS)
    return datetime.fromtimestamp(server_time_ms / 1000, tz=UTC) > closes


def reconcile_positions(account_id: int, gateway: Gateway) -> list[Difference]:
    """The venue is right about positions. A difference counts only when it stays after its fills were fetched again:
    an execution may have happened between two questions."""
    for remaining in reversed(range(POSITION_ROUNDS)):
        reports = [report for report in gateway.positions() if instrument_by_symbol(report.symbol) is not None]
        differences = position_differences(_local_positions(account_id), reports)
        if not differences:
            _keep_venue_values(account_id, gateway.mode, reports)
            return []
        if remaining:
            reconcile_fills(account_id, gateway)
    for difference, report in differences:
        reason = f"ours {difference.ours}, the venue's {difference.theirs}"
        with booking(account_id, gateway.mode):
            position_correct(account_id=account_id, report=report, reason=reason)
    _keep_venue_values(account_id, gateway.mode, reports)
    return [difference for difference, _ in differences]


def _local_positions(account_id: int) -> dict[str, LocalPosition]:
    rows = Position.objects.filter(account_id=account_id).exclude(state=Position.State.CLOSED)
    return {
        row.instrument.symbol: LocalPosition(row.instrument.symbol, row.side, row.quantity)
        for row in rows.select_related("instrument")
    }


def _keep_venue_values(account_id: int, mode: str, reports: Iterable[PositionReport]) -> None:
    for report in reports:
        if report.quantity:
            with booking(account_id, mode):
                position_report_apply(account_id=account_id, report=report)
