from __future__ import annotations

from django.urls import path, re_path

from trading.strategy_pages import views

urlpatterns = [
    path("", views.StrategiesPage.as_view(), name="strategies"),
    re_path(r"^images/(?P<name>[A-Za-z0-9_-][A-Za-z0-9_.-]{0,80}\.(svg|png))$", views.image, name="strategy-image"),
    re_path(
        r"^configurations/(?P<pk>[0-9]{1,18})/(?P<action>enable|disable)/$",
        views.SwitchView.as_view(),
        name="strategy-switch",
    ),
    re_path(r"^configurations/(?P<pk>[0-9]{1,18})/compare/$", views.CompareView.as_view(), name="strategy-compare"),
    re_path(r"^(?P<key>[a-z0-9_.]{1,40})/$", views.StrategyPage.as_view(), name="strategy"),
]
