from __future__ import annotations

from django.contrib.auth import views as auth_views
from django.urls import include, path, re_path

from trading import views

urlpatterns = [
    path("", views.DashboardView.as_view(), name="dashboard"),
    path("strategies/", include("trading.strategy_pages.urls")),
    path("status", views.StatusView.as_view(), name="status"),
    path("backtests/", views.BacktestsPage.as_view(), name="backtests"),
    re_path(r"^backtests/(?P<pk>[0-9]{1,18})/$", views.BacktestPage.as_view(), name="backtest"),
    path("backtests/searches/", views.SearchesPage.as_view(), name="searches"),
    re_path(r"^backtests/searches/(?P<pk>[0-9]{1,18})/$", views.SearchPage.as_view(), name="search"),
    path(
        "login",
        auth_views.LoginView.as_view(template_name="login.html", redirect_authenticated_user=True),
        name="login",
    ),
    path("logout", auth_views.LogoutView.as_view(), name="logout"),
]
