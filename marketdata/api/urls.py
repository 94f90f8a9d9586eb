from __future__ import annotations

from django.urls import path

from marketdata.api import views
from marketdata.api.candles.urls import urlpatterns as candle_patterns
from marketdata.api.depth.urls import urlpatterns as depth_patterns

urlpatterns = [
    path("market/symbols", views.SymbolsView.as_view()),
    path("market/ticker/<str:symbol>", views.TickerView.as_view()),
    path("market/candles/<str:symbol>", views.CandlesView.as_view()),
    path("market/orderbook/<str:symbol>", views.OrderBookView.as_view()),
    path("market/feed-events", views.FeedEventsView.as_view()),
    path("market/detections", views.DetectionsView.as_view()),
    *depth_patterns,
    *candle_patterns,
]
