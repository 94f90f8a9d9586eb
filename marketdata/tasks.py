from __future__ import annotations

from celery import shared_task

from marketdata import services
from marketdata.depth import services as depth_services


@shared_task
def prune_feed_events() -> int:
    """Forget what happened to feeds more than 14 days ago."""
    return services.feed_events_prune()


@shared_task
def prune_detections() -> int:
    """Forget what was detected more than ``DETECTIONS_DAYS`` ago."""
    return services.detections_prune()


@shared_task
def make_depth_days() -> int:
    """Make the partitions of depth rows for the days to come."""
    return depth_services.depth_days_make()


@shared_task
def refresh_depth_aggregates() -> int:
    """Make the hours and days of depth anew that got rows."""
    return depth_services.depth_aggregates_refresh()


@shared_task
def refresh_recent_depth() -> int:
    """Make the hours and days of depth of the last three days anew, changed or not."""
    return depth_services.depth_aggregates_refresh(recent_too=True)


# A day of a hundred symbols has 1.7 million rows.
@shared_task(time_limit=3_600)
def pack_depth_days() -> int:
    """Pack days of depth older than two weeks, and forget those older than sixty days; how many were packed."""
    packed = len(depth_services.depth_days_pack())
    depth_services.depth_days_prune()
    return packed


@shared_task
def pack_depth_heat() -> int:
    """Pack the heatmap's minutes of hours that are over, and forget those older than 14 days; how many minutes."""
    packed = depth_services.heat_hours_pack()
    depth_services.heat_prune()
    return packed
