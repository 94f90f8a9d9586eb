from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth.mixins import LoginRequiredMixin
from django.views.generic import TemplateView

from marketdata.selectors import INTERVALS, instruments
from trading.permissions import is_staff, may_operate_platform
from trading.selectors import visible_accounts
from trading.serializers import AccountSerializer


class DashboardView(LoginRequiredMixin, TemplateView):
    """The page that a trader leaves open."""

    template_name = "dashboard.html"

    def get_context_data(self, **context: Any) -> dict[str, Any]:
        accounts = visible_accounts(self.request.user)
        serializer = AccountSerializer(accounts, many=True, context={"user": self.request.user})
        listed = instruments().values("symbol", "tick_size", "lot_size", "min_quantity", "min_notional", "max_leverage")
        return super().get_context_data(
            boot={
                "user": self.request.user.get_username(),
                "staff": is_staff(self.request.user),
                "operator": may_operate_platform(self.request.user),
                "accounts": [dict(row) for row in serializer.data],
                "instruments": [
                    {name: value if name == "symbol" else f"{value:f}" for name, value in row.items()} for row in listed
                ],
                "intervals": list(INTERVALS),
                "exchange": settings.EXCHANGE,
            },
            **context,
        )


class StatusView(LoginRequiredMixin, TemplateView):
    """How every component is."""

    template_name = "status.html"
