"""The Celery application. Tasks are late-acknowledged and idempotent: a broker restart may run one twice."""

from __future__ import annotations

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "platform_site.settings")

application = Celery("ballast", task_cls="audit.recorded_task:RecordedTask")
application.config_from_object("django.conf:settings", namespace="CELERY")
application.autodiscover_tasks()
