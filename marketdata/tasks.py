from __future__ import annotations

from celery import shared_task

from marketdata import services


@shared_task
def prune_feed_events() -> int:
    """Forget what happened to feeds more than 14 days ago."""
    return services.feed_events_prune()


@shared_task
def prune_detections() -> int:
    """Forget what was detected more than ``DETECTIONS_DAYS`` ago."""
    return services.detections_prune()
