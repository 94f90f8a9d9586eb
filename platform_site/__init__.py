"""The site: settings, processes, routes. Importing it loads the Celery application, so that tasks bind to it."""

from __future__ import annotations

from platform_site.celery import application as celery_application

__all__ = ["celery_application"]
