from __future__ import annotations

from django.urls import path

from marketdata.api.depth import analytics_views, views
from marketdata.depth.snapshots import Market

urlpatterns = [
    path("binance/spot", views.CurrentBookView.as_view(market=Market.SPOT)),
    path("binance/futures", views.CurrentBookView.as_view(market=Market.FUTURES)),
    path("binance/depth", views.DepthOfSymbolView.as_view()),
    path("bybit/linear", views.CurrentBookView.as_view(market=Market.BYBIT)),
    path("chart-data", views.ChartDataView.as_view()),
    path("snapshots", views.SnapshotsView.as_view()),
    path("snapshots/export", views.ExportView.as_view()),
    path("analytics/history", views.HistoryView.as_view()),
    path("analytics/stats", views.StatsView.as_view()),
    path("analytics/groups", analytics_views.GroupsView.as_view()),
    path("analytics/groups/history", analytics_views.GroupsHistoryView.as_view()),
    path("analytics/spread", analytics_views.SpreadView.as_view()),
    path("analytics/heatmap", analytics_views.HeatmapView.as_view()),
    path("analytics/correlation", analytics_views.CorrelationView.as_view()),
    path("collector", views.CollectorView.as_view()),
    path("collector/symbols", views.CollectorSymbolsView.as_view()),
]
