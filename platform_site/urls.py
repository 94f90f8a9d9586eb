from __future__ import annotations

from django.contrib import admin
from django.urls import include, path, re_path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView

from platform_site.admin import own_password
from platform_site.api_errors import unknown_endpoint
from platform_site.health import EnginesView, HealthView
from platform_site.metrics import metrics
from platform_site.tokens import TokenView
from trading.views import DeadLettersView, TracePage

admin.site.site_header = admin.site.site_title = "Ballast"
admin.site.index_title = "Administration"

urlpatterns = [
    path("admin/dead-letters/", DeadLettersView.as_view(), name="dead-letters"),
    path("admin/traces/<str:trace_id>/", TracePage.as_view(), name="trace"),
    path("admin/password_change/", own_password),
    path("admin/", admin.site.urls),
    path("api/v1/health", HealthView.as_view(), name="health"),
    path("api/v1/engines", EnginesView.as_view(), name="engines"),
    path("api/v1/auth/token", TokenView.as_view()),
    path("api/v1/schema/", SpectacularAPIView.as_view(), name="schema"),
    path("api/v1/docs/", SpectacularSwaggerView.as_view(url_name="schema"), name="api-docs"),
    path("api/v1/", include("marketdata.api.urls")),
    path("api/v1/", include("trading.api.urls")),
    re_path(r"^api/.*$", unknown_endpoint),
    path("metrics", metrics),
    path("depth/", include("marketdata.urls")),
    path("candles/", include("marketdata.candles.urls")),
    path("", include("trading.urls")),
]
