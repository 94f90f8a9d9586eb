from __future__ import annotations

from django.apps import AppConfig
from django.conf import settings

from strategies.registry import STRATEGIES


class StrategiesConfig(AppConfig):
    name = "strategies"

    def ready(self) -> None:
        STRATEGIES.look_in(settings.STRATEGIES_DIR)
