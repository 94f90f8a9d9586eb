from __future__ import annotations

from decimal import Decimal
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from audit.models import Alert
from marketdata.plain_decimals import PlainDecimalField
from strategies.models import Signal, StrategyConfig
from trading.lifecycle import LIVE
from trading.models import (
    Account,
    AccountReconciliation,
    BacktestRun,
    CoinBalance,
    DeadManWatch,
    Discrepancy,
    EquitySnapshot,
    Fill,
    KillSwitch,
    KillSwitchTask,
    LedgerEntry,
    Order,
    Position,
    ReconciliationRun,
    Wallet,
)
from trading.permissions import role_on
from trading.positions import margin, percent_on_margin, pnl
from trading.reconciliation import MOST_FAILURES
from trading.selectors import comparison_of, stopped_by


class AccountSerializer(serializers.ModelSerializer):
    badge = serializers.CharField(read_only=True, help_text="PAPER, or the environment: goes with the name everywhere")
    role = serializers.SerializerMethodField()
    equity = serializers.SerializerMethodField()
    wallet_balance = serializers.SerializerMethodField()
    available_balance = serializers.SerializerMethodField()
    day_pnl = serializers.SerializerMethodField()
    updated_at = serializers.SerializerMethodField()
    kill_switch = serializers.SerializerMethodField()
    reconciliation = serializers.SerializerMethodField()

    class Meta:
        model = Account
        fields = [
            "id",
            "name",
            "environment",
            "mode",
            "badge",
            "venue",
            "role",
            "trading_state",
            "halt_reason",
            "kill_switch",
            "reconciled_at",
            "reconciliation",
            "equity",
            "wallet_balance",
            "available_balance",
            "day_pnl",
            "updated_at",
        ]

    def get_role(self, account: Account) -> str | None:
        return role_on(self.context.get("user"), account)

    def get_reconciliation(self, account: Account) -> dict[str, Any]:
        """How comparing with the venue goes: ``trouble`` says why the account does not trade, if that is why."""
        state = comparison_of(account)
        stops = state.hedge_mode or state.failures >= MOST_FAILURES
        is_open = Discrepancy.objects.filter(account=account, mode=account.mode, resolved_at=None)
        return {
            "failures": state.failures,
            "trouble": state.trouble if stops else "",
            "foreign_orders": state.foreign_orders,
            "open_differences": is_open.count(),
        }

    def get_kill_switch(self, account: Account) -> dict[str, Any] | None:
        """The engaged switch that stops it, with how far that is; None while it may trade."""
        switch = stopped_by(account.pk)
        if switch is None:
            return None
        task = switch.tasks.filter(account=account).first()
        return {
            "scope": switch.scope,
            "engaged_by": switch.engaged_by,
            "engaged_at": switch.engaged_at.isoformat(),
            "reason": switch.reason,
            "closes_positions": switch.closes_positions,
            "phase": "done" if task is None else task.phase,
            "open_orders": None if task is None else task.open_orders,
            "open_positions": None if task is None else task.open_positions,
            "trouble": "" if task is None else task.trouble,
        }

    def get_equity(self, account: Account) -> str | None:
        wallet = wallet_of(account)
        return None if wallet is None else f"{wallet.equity:f}"

    def get_wallet_balance(self, account: Account) -> str | None:
        wallet = wallet_of(account)
        return None if wallet is None else f"{wallet.wallet_balance:f}"

    def get_available_balance(self, account: Account) -> str | None:
        wallet = wallet_of(account)
        return None if wallet is None else f"{wallet.available_balance:f}"

    def get_day_pnl(self, account: Account) -> str | None:
        wallet = wallet_of(account)
        return None if wallet is None else f"{wallet.equity - wallet.day_start_equity:f}"

    def get_updated_at(self, account: Account) -> str | None:
        wallet = wallet_of(account)
        return None if wallet is None else wallet.updated_at.isoformat()


class KillSwitchTaskSerializer(serializers.ModelSerializer):
    account = serializers.IntegerField(source="account_id")
    name = serializers.CharField(source="account.name")

    class Meta:
        model = KillSwitchTask
        fields = ["account", "name", "phase", "open_orders", "open_positions", "trouble", "updated_at", "done_at"]


class KillSwitchSerializer(serializers.ModelSerializer):
    """``accounts`` in the context: whose progress may be told; without it everybody's."""

    tasks = serializers.SerializerMethodField()

    class Meta:
        model = KillSwitch
        fields = [
            *("id", "scope", "account", "closes_positions", "engaged_at", "engaged_by", "reason"),
            *("rearmed_at", "rearmed_by", "rearm_reason", "tasks"),
        ]

    @extend_schema_field(KillSwitchTaskSerializer(many=True))
    def get_tasks(self, switch: KillSwitch) -> list[dict[str, Any]]:
        told = self.context.get("accounts")
        tasks = [task for task in switch.tasks.all() if told is None or task.account_id in told]
        return [dict(row) for row in KillSwitchTaskSerializer(tasks, many=True).data]


class DeadManSerializer(serializers.ModelSerializer):
    venue_seconds = serializers.IntegerField(
        required=False, default=None, allow_null=True, min_value=3, max_value=300, help_text="null: not at the venue"
    )

    class Meta:
        model = DeadManWatch
        fields = ["policy", "venue_seconds", "missing_since"]
        read_only_fields = ["missing_since"]
        extra_kwargs = {"policy": {"required": True}}


def wallet_of(account: Account) -> Wallet | None:
    try:
        return account.wallet
    except Wallet.DoesNotExist:
        return None


class EquityPointSerializer(serializers.ModelSerializer):
    equity = PlainDecimalField()
    wallet_balance = PlainDecimalField()

    class Meta:
        model = EquitySnapshot
        fields = ["taken_at", "equity", "wallet_balance", "mode"]


class OrderSerializer(serializers.ModelSerializer):
    symbol = serializers.CharField(source="instrument.symbol")
    quantity = PlainDecimalField()
    price = PlainDecimalField()
    replacing_quantity = PlainDecimalField()
    replacing_price = PlainDecimalField()
    filled_quantity = PlainDecimalField()
    leaves_quantity = PlainDecimalField()
    average_price = PlainDecimalField()
    take_profit = PlainDecimalField()
    stop_loss = PlainDecimalField()
    fees = PlainDecimalField()

    class Meta:
        model = Order
        fields = [
            "id",
            "account",
            "mode",
            "symbol",
            "client_order_id",
            "venue_order_id",
            "strategy",
            "side",
            "order_type",
            "time_in_force",
            "quantity",
            "price",
            "replacing_quantity",
            "replacing_price",
            "filled_quantity",
            "leaves_quantity",
            "average_price",
            "take_profit",
            "stop_loss",
            "reduce_only",
            "state",
            "refusal",
            "reason",
            "fees",
            "actor",
            "trace_id",
            "created_at",
            "updated_at",
        ]


class FillSerializer(serializers.ModelSerializer):
    symbol = serializers.CharField(source="instrument.symbol")
    order = serializers.SerializerMethodField()
    strategy = serializers.SerializerMethodField()
    price = PlainDecimalField()
    quantity = PlainDecimalField()
    fee = PlainDecimalField()
    realised_pnl = PlainDecimalField()

    class Meta:
        model = Fill
        fields = [
            "id",
            "account",
            "mode",
            "symbol",
            "order",
            "strategy",
            "execution_id",
            "side",
            "price",
            "quantity",
            "fee",
            "fee_currency",
            "is_maker",
            "realised_pnl",
            "executed_at",
        ]

    def get_order(self, fill: Fill) -> str | None:
        return fill.order.client_order_id if fill.order is not None else None

    def get_strategy(self, fill: Fill) -> str:
        return fill.order.strategy if fill.order is not None else "external"


class PositionSerializer(serializers.ModelSerializer):
    symbol = serializers.CharField(source="instrument.symbol")
    quantity = PlainDecimalField()
    entry_price = PlainDecimalField()
    leverage = PlainDecimalField()
    mark_price = PlainDecimalField()
    liquidation_price = PlainDecimalField()
    take_profit = PlainDecimalField()
    stop_loss = PlainDecimalField()
    realised_pnl = PlainDecimalField()
    fees = PlainDecimalField()
    funding = PlainDecimalField(help_text="received, negative: paid; not in the realised PnL")
    unrealised_pnl = serializers.SerializerMethodField()
    pnl_percent = serializers.SerializerMethodField()
    margin = serializers.SerializerMethodField()

    class Meta:
        model = Position
        fields = [
            "id",
            "account",
            "mode",
            "symbol",
            "side",
            "state",
            "quantity",
            "entry_price",
            "leverage",
            "mark_price",
            "liquidation_price",
            "take_profit",
            "stop_loss",
            "realised_pnl",
            "unrealised_pnl",
            "pnl_percent",
            "margin",
            "fees",
            "funding",
            "strategy",
            "opened_at",
            "closed_at",
        ]

    def _unrealised(self, position: Position) -> Decimal:
        mark = position.mark_price or position.entry_price
        return pnl(position.side, position.quantity, position.entry_price, mark)

    def get_unrealised_pnl(self, position: Position) -> str:
        return f"{self._unrealised(position):.8f}"

    def get_pnl_percent(self, position: Position) -> str:
        percent = percent_on_margin(
            self._unrealised(position), position.quantity, position.entry_price, position.leverage
        )
        return f"{percent:.4f}"

    def get_margin(self, position: Position) -> str:
        return f"{margin(position.quantity, position.entry_price, position.leverage):.8f}"


class SignalSerializer(serializers.ModelSerializer):
    entry_price = PlainDecimalField()
    take_profit = PlainDecimalField()
    stop_loss = PlainDecimalField()

    class Meta:
        model = Signal
        fields = [
            "id",
            "account",
            "mode",
            "config",
            "strategy",
            "symbol",
            "side",
            "strength",
            "entry_price",
            "take_profit",
            "stop_loss",
            "reason",
            "metadata",
            "signalled_at",
            "outcome",
            "verdict",
            "refusals",
            "trace_id",
        ]


class StrategySerializer(serializers.ModelSerializer):
    sizing_value = PlainDecimalField()
    leverage = PlainDecimalField()

    class Meta:
        model = StrategyConfig
        fields = [
            "id",
            "account",
            "name",
            "strategy",
            "symbols",
            "parameters",
            "sizing_mode",
            "sizing_value",
            "size_by_confidence",
            "leverage",
            "adaptive_leverage",
            "allow_reversal",
            "enabled",
            "version",
            "code",
            "updated_at",
        ]


class AlertSerializer(serializers.ModelSerializer):
    account = serializers.IntegerField(source="account_id", allow_null=True, help_text="null: of the platform")

    class Meta:
        model = Alert
        fields = [
            "id",
            "level",
            "kind",
            "message",
            "account",
            "detail",
            "count",
            "raised_at",
            "last_raised_at",
            "acknowledged_at",
            "acknowledged_by",
        ]


class DiscrepancySerializer(serializers.ModelSerializer):
    amount = PlainDecimalField(help_text="theirs less ours, where it is an amount")

    class Meta:
        model = Discrepancy
        fields = [
            *("id", "account", "kind", "subject", "ours", "theirs", "amount"),
            *("first_seen_at", "last_seen_at", "sightings", "resolved_at", "resolution"),
        ]


class ReconciliationRunSerializer(serializers.ModelSerializer):
    class Meta:
        model = ReconciliationRun
        fields = [
            *("id", "account", "trigger", "started_at", "finished_at", "succeeded", "error", "refusal", "differences"),
        ]


class AccountReconciliationSerializer(serializers.ModelSerializer):
    class Meta:
        model = AccountReconciliation
        fields = [
            *("foreign_orders", "failures", "trouble", "hedge_mode", "asked_at"),
            *("ledger_read_through", "ledger_compared_at"),
        ]


class LedgerEntrySerializer(serializers.ModelSerializer):
    quantity = PlainDecimalField()
    price = PlainDecimalField()
    cash_flow = PlainDecimalField()
    funding = PlainDecimalField()
    fee = PlainDecimalField()
    change = PlainDecimalField(help_text="cash_flow + funding - fee")
    balance = PlainDecimalField()

    class Meta:
        model = LedgerEntry
        fields = [
            *("id", "account", "venue_id", "kind", "category", "symbol", "side", "currency", "quantity", "price"),
            *("cash_flow", "funding", "fee", "change", "balance", "execution_id", "client_order_id", "booked_at"),
        ]


class CoinBalanceSerializer(serializers.ModelSerializer):
    opening_balance = PlainDecimalField()
    explained_balance = PlainDecimalField()
    venue_balance = PlainDecimalField()

    class Meta:
        model = CoinBalance
        fields = [
            *("currency", "opening_balance", "opened_at", "explained_balance", "venue_balance"),
            *("unexplained_since", "compared_at"),
        ]


class BacktestListSerializer(serializers.ModelSerializer):
    """A run as a line of the list: of what it found only what a line shows."""

    owner = serializers.CharField(source="owner.username")
    strategies = serializers.SerializerMethodField()
    symbols = serializers.SerializerMethodField()
    start = serializers.CharField(source="request.start")
    end = serializers.CharField(source="request.end")
    figures = serializers.SerializerMethodField()

    class Meta:
        model = BacktestRun
        fields = [
            *("id", "owner", "name", "state", "stop_asked", "progress", "events", "words", "error"),
            *("strategies", "symbols", "start", "end", "asked_at", "started_at", "finished_at", "figures"),
        ]

    def get_strategies(self, run: BacktestRun) -> list[str]:
        return [each["name"] or each["strategy"] for each in run.request["strategies"]]

    def get_symbols(self, run: BacktestRun) -> list[str]:
        return sorted({symbol for each in run.request["strategies"] for symbol in each["symbols"]})

    @extend_schema_field({"type": "object", "nullable": True})
    def get_figures(self, run: BacktestRun) -> dict[str, Any] | None:
        """None until it is done."""
        found = run.summary.get("statistics")
        return None if found is None else {name: found[name] for name in LINE_FIGURES}


LINE_FIGURES = ("total_return", "sharpe", "max_drawdown", "trades", "win_rate", "profit_factor", "net_profit")


class BacktestSerializer(BacktestListSerializer):
    """All of a run but its rows. ``request`` is what was asked, defaults written out; ``summary`` what was found."""

    class Meta(BacktestListSerializer.Meta):
        own = ("attempt", "worker", "code", "data", "request", "summary", "compares")
        fields = [*BacktestListSerializer.Meta.fields, *own]


def account_snapshot(account: Account, user: Any) -> dict[str, Any]:
    """Everything a page shows of one account, so that whoever connects has no hole."""
    books = {"account": account, "mode": account.mode}
    orders = Order.objects.filter(**books).select_related("instrument", "account")
    positions = Position.objects.filter(**books).exclude(state=Position.State.CLOSED)
    # Open orders however old they are, and the newest that ended.
    live = orders.filter(state__in=sorted(str(state) for state in LIVE))
    fills = Fill.objects.filter(**books).select_related("instrument", "order")[:200]
    signals = Signal.objects.filter(**books)[:100]
    equity = EquitySnapshot.objects.filter(**books).order_by("-taken_at")[:500]
    strategies = StrategyConfig.objects.filter(account=account)
    differences = Discrepancy.objects.filter(**books)[:100]
    return {
        "account": dict(AccountSerializer(account, context={"user": user}).data),
        "positions": PositionSerializer(positions.select_related("instrument"), many=True).data,
        "orders": OrderSerializer(
            [*live, *(order for order in orders[:200] if order.state not in LIVE)], many=True
        ).data,
        "fills": FillSerializer(fills, many=True).data,
        "signals": SignalSerializer(signals, many=True).data,
        "equity": EquityPointSerializer(list(equity)[::-1], many=True).data,
        "strategies": StrategySerializer(strategies, many=True).data,
        "differences": DiscrepancySerializer(differences, many=True).data,
    }
