from __future__ import annotations

from django.urls import path

from marketdata.candles.views import ArchivePage

urlpatterns = [path("", ArchivePage.as_view(), name="candles")]
