"""The pages of depth analytics. They hold no data: scripts ask the API and listen to the socket."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.mixins import LoginRequiredMixin
from django.views.generic import TemplateView

from marketdata.depth.selectors import charted_symbols

PAGES = {
    "charts": "Charts",
    "total": "TOTAL",
    "spread": "Spot / futures",
    "correlation": "Correlation",
    "heatmap": "Heatmap",
    "collector": "Collector",
}


class DepthPage(LoginRequiredMixin, TemplateView):
    """One of ``PAGES``; market data is for everybody who is logged in."""

    page = ""

    def get_template_names(self) -> list[str]:
        return [f"depth/{self.page}.html"]

    def get_context_data(self, **context: Any) -> dict[str, Any]:
        return super().get_context_data(
            page=self.page,
            pages=[(f"depth-{name}", title, name) for name, title in PAGES.items()],
            boot={
                "user": self.request.user.get_username(),
                "staff": self.request.user.is_staff,
                "symbols": charted_symbols(),
            },
            **context,
        )
