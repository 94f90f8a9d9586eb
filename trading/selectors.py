from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, TypeVar

from django.conf import settings
from django.db.models import Count, F, Model, Prefetch, Q, QuerySet, Sum
from django.db.models.functions import Now

from audit.chain import PLATFORM, account_chain
from audit.models import Alert, AuditEvent
from audit.selectors import alerts_of, events_of
from audit.services import as_json
from marketdata.selectors import instruments
from strategies.models import Signal, StrategyConfig
from trading.lifecycle import LIVE
from trading.models import (
    Account,
    AccountReconciliation,
    BacktestPart,
    BacktestRun,
    CoinBalance,
    DeadManWatch,
    Discrepancy,
    EngineSession,
    EquitySnapshot,
    Fill,
    KillSwitch,
    KillSwitchTask,
    Lease,
    LedgerEntry,
    LossAlarm,
    Order,
    OrderAmendment,
    Position,
    ReconciliationRun,
    Search,
    SearchTrial,
)
from trading.permissions import accounts_visible_to, is_staff, may_see_platform_trail
from trading.traces import Step, event_steps, fill_steps, order_steps, signal_steps, timeline

LIVE_STATES = sorted(str(state) for state in LIVE)
EQUITY_POINTS = 500
# A kill switch that does not get through tells so again and again.
MOST_EVENTS = 1_000
Row = TypeVar("Row", bound=Model)


def visible_accounts(user: Any) -> QuerySet[Account]:
    return accounts_visible_to(user).select_related("wallet", "owner")


def books_of(rows: QuerySet[Row], mode: str | None = None) -> QuerySet[Row]:
    """Rows of one mode's books; None: of the mode that each account is in."""
    return rows.filter(mode=F("account__mode") if mode is None else mode)


def visible_orders(user: Any, mode: str | None = None) -> QuerySet[Order]:
    rows = Order.objects.filter(account__in=accounts_visible_to(user)).select_related("instrument", "account")
    return books_of(rows, mode)


def visible_fills(user: Any, mode: str | None = None) -> QuerySet[Fill]:
    rows = Fill.objects.filter(account__in=accounts_visible_to(user)).select_related("instrument", "order")
    return books_of(rows, mode)


def visible_positions(user: Any, mode: str | None = None) -> QuerySet[Position]:
    """Open positions of the accounts a user may see."""
    rows = Position.objects.filter(account__in=accounts_visible_to(user)).exclude(state=Position.State.CLOSED)
    return books_of(rows.select_related("instrument", "account"), mode)


def visible_signals(user: Any, mode: str | None = None) -> QuerySet[Signal]:
    return books_of(Signal.objects.filter(account__in=accounts_visible_to(user)), mode)


def visible_strategies(user: Any) -> QuerySet[StrategyConfig]:
    return StrategyConfig.objects.filter(account__in=accounts_visible_to(user)).select_related("account")


def visible_alerts(user: Any) -> QuerySet[Alert]:
    """Alerts of the accounts a user may see; those of the platform are for staff."""
    return alerts_of(accounts_visible_to(user).values("pk"), platform=is_staff(user))


def visible_events(user: Any) -> QuerySet[AuditEvent]:
    """The audit trail of the accounts a user may see, and the platform's with the permission for it."""
    if getattr(user, "is_superuser", False) and user.is_active:
        return events_of(None)
    chains = [account_chain(pk) for pk in accounts_visible_to(user).values_list("pk", flat=True)]
    return events_of([*chains, PLATFORM] if may_see_platform_trail(user) else chains)


def trace_timeline(user: Any, trace_id: str) -> list[Step]:
    """Everything of one trace that a user may see, in its order."""
    steps: list[Step] = []
    for signal in visible_signals(user).filter(trace_id=trace_id):
        steps += signal_steps(signal)
    orders = visible_orders(user).filter(trace_id=trace_id)
    for order in orders.prefetch_related("transitions"):
        steps += order_steps(order, order.transitions.all())
    for fill in visible_fills(user).filter(order__in=orders):
        steps += fill_steps(fill)
    told = Q(action__startswith="signal.") | Q(action__startswith="order.")
    told &= ~Q(action__in=["order.illegal_transition", "order.sent_again", "order.adopted"])
    for event in visible_events(user).filter(trace_id=trace_id).exclude(told)[:MOST_EVENTS]:
        steps += event_steps(event)
    return timeline(steps)


def live_orders(account: Account) -> QuerySet[Order]:
    return Order.objects.filter(account=account, state__in=LIVE_STATES).select_related("instrument", "account")


def equity_curve(account: Account, mode: str | None = None, points: int = EQUITY_POINTS) -> list[EquitySnapshot]:
    """The newest points of the equity curve, oldest first."""
    rows = EquitySnapshot.objects.filter(account=account, mode=mode or account.mode)
    return list(rows.order_by("-taken_at")[:points])[::-1]


def engine_sessions() -> QuerySet[EngineSession]:
    """Living engines with the leases that they hold."""
    sessions = EngineSession.objects.filter(follows_market=True, ended=False, expires_at__gt=Now())
    living = sessions.order_by("name", "pk")
    return living.prefetch_related(Prefetch("leases", queryset=Lease.objects.order_by("resource")))


def symbols_without_engine() -> list[str]:
    """Symbols that engines have followed and should follow, and none does now."""
    living = EngineSession.objects.filter(ended=False, expires_at__gt=Now())
    free = Lease.objects.exclude(session__in=living).filter(resource__startswith="symbol:")
    symbols = {resource.removeprefix("symbol:") for resource in free.values_list("resource", flat=True)}
    if symbols:
        listed = set(instruments().filter(symbol__in=symbols).values_list("symbol", flat=True))
        symbols = {symbol for symbol in listed if not settings.SYMBOLS or symbol in settings.SYMBOLS}
    return sorted(symbols)


def stopped_by(account_id: int) -> KillSwitch | None:
    """The engaged kill switch that stops the account: its own, or the platform's."""
    engaged = KillSwitch.objects.filter(Q(account_id=account_id) | Q(account=None), rearmed_at=None)
    return engaged.order_by("engaged_at").first()


def visible_kill_switches(user: Any) -> QuerySet[KillSwitch]:
    """Those of the accounts a user may see, and the platform's, which stops everybody."""
    visible = Q(account__in=accounts_visible_to(user)) | Q(account=None)
    tasks = Prefetch("tasks", queryset=KillSwitchTask.objects.select_related("account"))
    return KillSwitch.objects.filter(visible).select_related("account").prefetch_related(tasks)


def kill_switch_task(account_id: int) -> KillSwitchTask | None:
    """What an engaged kill switch still has to do on the account, the oldest first."""
    open_tasks = KillSwitchTask.objects.filter(account_id=account_id, switch__rearmed_at=None)
    open_tasks = open_tasks.exclude(phase=KillSwitchTask.Phase.DONE).select_related("switch")
    return open_tasks.order_by("switch__engaged_at", "pk").first()


def venue_dead_man_seconds(account_id: int) -> int | None:
    """After how many seconds without our stream the venue shall cancel the account's orders; None: never."""
    return DeadManWatch.objects.filter(account_id=account_id).values_list("venue_seconds", flat=True).first()


def visible_discrepancies(user: Any) -> QuerySet[Discrepancy]:
    """What differed between our records and the venue's, of the accounts a user may see."""
    return books_of(Discrepancy.objects.filter(account__in=accounts_visible_to(user)))


def visible_runs(user: Any) -> QuerySet[ReconciliationRun]:
    """Comparisons with the venue, of the accounts a user may see; the newest first."""
    return books_of(ReconciliationRun.objects.filter(account__in=accounts_visible_to(user), complete=True))


def visible_ledger(user: Any) -> QuerySet[LedgerEntry]:
    return books_of(LedgerEntry.objects.filter(account__in=accounts_visible_to(user)))


def coin_balances_of(account: Account) -> QuerySet[CoinBalance]:
    return CoinBalance.objects.filter(account=account, mode=account.mode)


def comparison_of(account: Account) -> AccountReconciliation:
    """How the account is compared with the venue in its mode; not stored yet before anybody chose or compared."""
    found = AccountReconciliation.objects.filter(account=account, mode=account.mode).first()
    return found or AccountReconciliation(account=account, mode=account.mode)


def discrepancy_counts() -> list[tuple[str, int, int]]:
    """Of each kind, how many differences there ever were, and how many are open."""
    rows = Discrepancy.objects.order_by().values("kind")
    counted = rows.annotate(found=Count("pk"), open=Count("pk", filter=Q(resolved_at=None)))
    return sorted(counted.values_list("kind", "found", "open"))


def visible_backtests(user: Any) -> QuerySet[BacktestRun]:
    """A user's own; staff see everybody's."""
    if not getattr(user, "is_authenticated", False) or not user.is_active:
        return BacktestRun.objects.none()
    rows = BacktestRun.objects.select_related("owner")
    return rows if is_staff(user) else rows.filter(owner=user)


def backtest_part(run: BacktestRun, kind: str) -> bytes | None:
    """One kind of a run's rows as they were packed; None where there are none yet."""
    part = BacktestPart.objects.filter(run=run, kind=kind).values_list("data", flat=True).first()
    return None if part is None else bytes(part)


def live_results(user: Any, run: BacktestRun, signals: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What configurations with the same rule and parameters did in a run's time, of the accounts a user may see and in
    the mode that each is in. ``signals``: the run's, to be compared one by one: the same moment, symbol and side."""
    start, end = (datetime.fromisoformat(run.request[name]) for name in ("start", "end"))
    found = []
    for asked in run.request["strategies"]:
        parameters = as_json(asked["parameters"])
        for config in visible_strategies(user).filter(strategy=asked["strategy"]):
            symbols = sorted(set(config.symbols) & set(asked["symbols"]))
            if symbols and config.parameters == parameters:
                tested = {
                    (row["time_ms"], row["symbol"], row["side"])
                    for row in signals
                    if row["strategy"] in (asked["name"], asked["strategy"]) and row["symbol"] in symbols
                }
                found.append({**_live_of(config, symbols, start, end, tested), "strategy": asked["strategy"]})
    return found


def _live_of(
    config: StrategyConfig, symbols: list[str], start: datetime, end: datetime, tested: set[tuple[int, str, str]]
) -> dict[str, Any]:
    rows = books_of(config.signals.filter(symbol__in=symbols, signalled_at__gte=start, signalled_at__lt=end))
    live = {
        (round(signal.signalled_at.timestamp() * 1_000), signal.symbol, signal.side): signal.outcome for signal in rows
    }
    fills = books_of(Fill.objects.filter(account=config.account, strategy=config.name))
    fills = fills.filter(instrument__symbol__in=symbols, executed_at__gte=start, executed_at__lt=end)
    sums = fills.aggregate(count=Count("pk"), realised=Sum("realised_pnl"), fees=Sum("fee"))
    return {
        "id": config.pk,
        "configuration": config.name,
        "account": config.account.name,
        "badge": config.account.badge,
        "symbols": symbols,
        "signals": len(live),
        "ordered": sum(outcome == Signal.Outcome.ORDERED for outcome in live.values()),
        "same_signals": len(live.keys() & tested),
        "only_live": len(live.keys() - tested),
        "only_tested": len(tested - live.keys()),
        "fills": sums["count"],
        "realised_pnl": f"{sums['realised'] or 0:f}",
        "fees": f"{sums['fees'] or 0:f}",
        "net": f"{(sums['realised'] or 0) - (sums['fees'] or 0):f}",
    }


def visible_searches(user: Any) -> QuerySet[Search]:
    """A user's own; staff see everybody's."""
    if not getattr(user, "is_authenticated", False) or not user.is_active:
        return Search.objects.none()
    rows = Search.objects.select_related("owner")
    return rows if is_staff(user) else rows.filter(owner=user)


def search_trials(search: Search, training: int) -> QuerySet[SearchTrial]:
    """Of all of the time (0), or of a training of its walk-forward."""
    return SearchTrial.objects.filter(search=search, training=training)


# The work of an account's owner.


def working_order(account_id: int, order_id: int) -> Order | None:
    return Order.objects.select_related("instrument", "account").filter(account_id=account_id, pk=order_id).first()


def waiting_amendment(order_id: int) -> OrderAmendment | None:
    """What was asked for of an order and not sent yet."""
    return OrderAmendment.objects.filter(order_id=order_id, outcome=OrderAmendment.Outcome.REQUESTED).first()


def shared_drawdown_peaks(account_id: int) -> dict[str, Decimal]:
    """By level, of the user's and the platform's drawdowns that have had their alarm here: from what they count."""
    standing = LossAlarm.objects.filter(
        account_id=account_id, mode=F("account__mode"), level__in=[LossAlarm.Level.USER, LossAlarm.Level.PLATFORM],
        limit=LossAlarm.Limit.DRAWDOWN, rearmed_at=None,
    )  # fmt: skip
    return {level: peak for level, peak in standing.values_list("level", "peak_equity") if peak is not None}


def account_of_order(order_id: int) -> int | None:
    return Order.objects.filter(pk=order_id).values_list("account_id", flat=True).first()


def account_of_signal(signal_id: int) -> int | None:
    return Signal.objects.filter(pk=signal_id).values_list("account_id", flat=True).first()


def pending_signal(account_id: int, signal_id: int) -> Signal | None:
    rows = Signal.objects.filter(account_id=account_id, outcome=Signal.Outcome.PENDING)
    return rows.filter(pk=signal_id).first()
