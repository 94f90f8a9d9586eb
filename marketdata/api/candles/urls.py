from __future__ import annotations

from django.urls import path

from marketdata.api.candles import views

urlpatterns = [
    path("candles/series", views.SeriesView.as_view()),
    path("candles/bars", views.BarsView.as_view()),
    path("candles/export", views.ExportView.as_view()),
    path("candles/funding", views.FundingView.as_view()),
    path("candles/imports", views.ImportsView.as_view()),
    path("candles/import", views.ImportView.as_view()),
]
