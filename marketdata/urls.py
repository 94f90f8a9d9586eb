from __future__ import annotations

from django.urls import path

from marketdata.views import PAGES, DepthPage

urlpatterns = [
    path("" if page == "charts" else f"{page}/", DepthPage.as_view(page=page), name=f"depth-{page}") for page in PAGES
]
