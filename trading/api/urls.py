from __future__ import annotations

from django.urls import path, re_path

from audit.trace import TRACE_ID
from trading.api import (
    accounts,
    alerts,
    audit,
    backtests,
    dead_letters,
    kill_switch,
    orders,
    reconciliation,
    strategies,
)

RUN = "(?P<pk>[0-9]{1,18})"
LETTER = "(?P<identifier>[0-9]{1,20}-[0-9]{1,20})"

urlpatterns = [
    path("accounts", accounts.AccountListView.as_view()),
    path("accounts/<int:pk>", accounts.AccountDetailView.as_view()),
    re_path(r"^accounts/(?P<pk>[0-9]{1,18})/mode/?$", accounts.AccountModeView.as_view()),
    path("accounts/<int:pk>/equity", accounts.AccountEquityView.as_view()),
    re_path(r"^alerts/?$", alerts.AlertListView.as_view()),
    re_path(r"^alerts/(?P<pk>[0-9]{1,18})/acknowledge/?$", alerts.AlertAcknowledgeView.as_view()),
    re_path(r"^accounts/(?P<pk>[0-9]{1,18})/reconcile/?$", reconciliation.ReconcileView.as_view()),
    re_path(r"^accounts/(?P<pk>[0-9]{1,18})/reconciliation/?$", reconciliation.ReconciliationPolicyView.as_view()),
    re_path(r"^accounts/(?P<pk>[0-9]{1,18})/balances/?$", reconciliation.BalancesView.as_view()),
    re_path(r"^reconciliation/?$", reconciliation.DiscrepancyListView.as_view()),
    re_path(r"^reconciliation/runs/?$", reconciliation.ReconciliationRunListView.as_view()),
    re_path(r"^reconciliation/(?P<pk>[0-9]{1,18})/resolve/?$", reconciliation.DiscrepancyResolveView.as_view()),
    re_path(r"^ledger/?$", reconciliation.LedgerView.as_view()),
    re_path(r"^audit/?$", audit.AuditListView.as_view()),
    re_path(rf"^traces/(?P<trace_id>{TRACE_ID.pattern})/?$", audit.TraceView.as_view()),
    path("accounts/<int:pk>/dead-man", kill_switch.DeadManView.as_view()),
    re_path(r"^kill-switch/?$", kill_switch.KillSwitchListView.as_view()),
    re_path(r"^kill-switch/engage/?$", kill_switch.KillSwitchEngageView.as_view()),
    re_path(r"^kill-switch/rearm/?$", kill_switch.KillSwitchRearmView.as_view()),
    re_path(r"^dlq/?$", dead_letters.DeadLetterListView.as_view()),
    re_path(rf"^dlq/{LETTER}/?$", dead_letters.DeadLetterDetailView.as_view()),
    re_path(rf"^dlq/{LETTER}/replay/?$", dead_letters.DeadLetterReplayView.as_view()),
    re_path(r"^backtests/?$", backtests.BacktestListView.as_view()),
    re_path(rf"^backtests/{RUN}/?$", backtests.BacktestDetailView.as_view()),
    re_path(rf"^backtests/{RUN}/stop/?$", backtests.BacktestStopView.as_view()),
    re_path(rf"^backtests/{RUN}/trades/?$", backtests.BacktestTradesView.as_view()),
    re_path(rf"^backtests/{RUN}/fills/?$", backtests.BacktestFillsView.as_view()),
    re_path(rf"^backtests/{RUN}/signals/?$", backtests.BacktestSignalsView.as_view()),
    re_path(rf"^backtests/{RUN}/equity/?$", backtests.BacktestEquityView.as_view()),
    re_path(rf"^backtests/{RUN}/prices/?$", backtests.BacktestPricesView.as_view()),
    re_path(rf"^backtests/{RUN}/live/?$", backtests.BacktestLiveView.as_view()),
    re_path(rf"^backtests/{RUN}/export/?$", backtests.BacktestExportView.as_view()),
    path("positions", accounts.PositionListView.as_view()),
    path("positions/<str:symbol>", accounts.PositionDetailView.as_view()),
    path("trading/order", orders.OrderCreateView.as_view()),
    path("trading/order/<int:pk>", orders.OrderDetailView.as_view()),
    path("trading/orders", orders.OrderListView.as_view()),
    path("trading/fills", orders.FillListView.as_view()),
    path("trading/signals", orders.SignalListView.as_view()),
    path("strategies", strategies.StrategyListView.as_view()),
    path("strategies/<str:key>", strategies.StrategyDetailView.as_view()),
    path("strategies/<str:key>/enable", strategies.StrategyEnableView.as_view()),
    path("strategies/<str:key>/disable", strategies.StrategyDisableView.as_view()),
]
