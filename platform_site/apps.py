from __future__ import annotations

from importlib import import_module

from django.apps import AppConfig


class PlatformSiteConfig(AppConfig):
    name = "platform_site"

    def ready(self) -> None:
        # By name: models are not there yet when this file is read.
        import_module("platform_site.receivers").connect()
