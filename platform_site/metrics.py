"""Figures for Prometheus: Django's own, and those of the engines' feeds, which come with their heartbeats."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import redis
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse, HttpResponseForbidden
from django.utils import timezone
from django_prometheus.exports import ExportToDjangoView
from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from audit.selectors import alert_counts, heartbeats, open_alert_counts
from audit.services import dead_letters
from platform_site.health import ENGINE_AGE, venue_accesses
from trading.resilience.breaker import BreakerState
from trading.selectors import discrepancy_counts

LOOPBACK = ("127.0.0.1", "::1")

# Name in a row of figures, name of the metric, what it is, and what one unit of the row is in the metric's.
Figure = tuple[str, str, str, float]
# Values of the labels, and the row.
LabelledRow = tuple[tuple[str, ...], Mapping[str, Any]]
COUNTERS: tuple[Figure, ...] = (
    ("messages", "messages", "messages received", 1),
    ("bytes", "bytes", "bytes received", 1),
    ("reconnects", "reconnects", "times that the connection was lost", 1),
    ("gaps", "gaps", "updates that were missed", 1),
    ("refused", "refused", "frames that were refused", 1),
    ("resyncs", "resyncs", "snapshots that were loaded", 1),
    ("handler_errors", "handler_errors", "messages that could not be handled", 1),
)
GAUGES: tuple[Figure, ...] = (
    ("connected", "connected", "1 while connected", 1),
    ("clock_offset_ms", "clock_offset_seconds", "how far our clock runs ahead of the venue's", 1e-3),
    ("latency_p50_ms", "latency_p50_seconds", "median latency, corrected by the clock offset", 1e-3),
    ("latency_p99_ms", "latency_p99_seconds", "99th percentile of the latency", 1e-3),
    ("last_update_ms", "last_update_timestamp_seconds", "when the newest message came", 1e-3),
)


class FeedCollector(Collector):
    """Asked at each scrape; silent while the database is."""

    def describe(self) -> Iterable[Metric]:
        """Nothing: without this, registering would ask the database."""
        return []

    def collect(self) -> Iterator[Metric]:
        try:
            beats = list(heartbeats("engine").filter(updated_at__gt=timezone.now() - ENGINE_AGE))
        except DatabaseError:
            return
        connections: list[LabelledRow] = []
        symbols: list[LabelledRow] = []
        for beat in beats:
            for feed, figures in beat.detail.get("feeds", {}).items():
                labels = (beat.instance, feed)
                connections += [((*labels, name), row) for name, row in figures.get("connections", {}).items()]
                symbols += [((*labels, name), row) for name, row in figures.get("symbols", {}).items()]
        yield from _families("ballast_feed_connection", ("engine", "feed", "connection"), connections)
        yield from _families("ballast_feed_symbol", ("engine", "feed", "symbol"), symbols)
        live = GaugeMetricFamily(
            "ballast_feed_symbol_live", "1 while the book is proven", labels=("engine", "feed", "symbol")
        )
        for values, row in symbols:
            live.add_metric(values, float(row.get("state") == "LIVE"))
        yield live


def _families(prefix: str, labels: tuple[str, ...], rows: list[LabelledRow]) -> Iterator[Metric]:
    kinds: tuple[tuple[type[CounterMetricFamily] | type[GaugeMetricFamily], tuple[Figure, ...]], ...]
    kinds = ((CounterMetricFamily, COUNTERS), (GaugeMetricFamily, GAUGES))
    for kind, figures in kinds:
        for key, name, meaning, unit in figures:
            family = kind(f"{prefix}_{name}", meaning, labels=labels)
            for values, row in rows:
                if row.get(key) is not None:
                    family.add_metric(values, float(row[key]) * unit)
            if family.samples:
                yield family


class AlertCollector(Collector):
    """From the rows, not from a counter of some process: alerts are raised in all of them, and only if committed."""

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        try:
            raised, unseen = alert_counts(), open_alert_counts()
        except DatabaseError:
            return
        counter = CounterMetricFamily("alerts_raised", "how often alerts were raised", labels=("level", "kind"))
        for level, kind, count in raised:
            counter.add_metric((level, kind), count)
        gauge = GaugeMetricFamily("alerts_open", "alerts that nobody has acknowledged", labels=("level",))
        for level, count in unseen.items():
            gauge.add_metric((level,), count)
        yield from (counter, gauge)


class VenueAccessCollector(Collector):
    """Breakers and rate budgets of every process, as they tell them with their heartbeats."""

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        labels = ("process", "venue", "group")
        meaning = "0 closed, 1 half-open, 2 open"
        state = GaugeMetricFamily("circuit_breaker_state", meaning, labels=labels)
        failures = CounterMetricFamily("circuit_breaker_failures", "calls that failed", labels=labels)
        opened = CounterMetricFamily("circuit_breaker_opened", "times that it opened", labels=labels)
        refused = CounterMetricFamily("circuit_breaker_refused", "calls that it refused", labels=labels)
        shared = GaugeMetricFamily("rate_budget_shared", "1 while Valkey counts for all", labels=("process",))
        exhausted = CounterMetricFamily("rate_limit_exceeded", "calls that found no room in time", labels=("process",))
        for process, access in venue_accesses().items():
            for venue, groups in access["breakers"].items():
                for group, row in groups.items():
                    state.add_metric((process, venue, group), BreakerState[row["state"].upper()])
                    failures.add_metric((process, venue, group), row["failures"])
                    opened.add_metric((process, venue, group), row["opened"])
                    refused.add_metric((process, venue, group), row["refused"])
            shared.add_metric((process,), float(access["budget"]["mode"] == "shared"))
            exhausted.add_metric((process,), access["budget"]["exhausted"])
        yield from (state, failures, opened, refused, shared, exhausted)


class DeadLetterCollector(Collector):
    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        try:
            count = dead_letters().count()
        except redis.RedisError:
            return
        yield GaugeMetricFamily("dlq_letters", "messages that could not be handled and still wait", value=count)


class ReconciliationCollector(Collector):
    """From the rows: engines and workers both compare."""

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        try:
            counts = discrepancy_counts()
        except DatabaseError:
            return
        meaning = "differences between our records and the venue's"
        found = CounterMetricFamily("reconciliation_discrepancies", meaning, labels=("kind",))
        still = GaugeMetricFamily("reconciliation_discrepancies_open", "those that last", labels=("kind",))
        for kind, count, count_open in counts:
            found.add_metric((kind,), count)
            still.add_metric((kind,), count_open)
        yield from (found, still)


REGISTRY.register(FeedCollector())
REGISTRY.register(DeadLetterCollector())
REGISTRY.register(VenueAccessCollector())
REGISTRY.register(AlertCollector())
REGISTRY.register(ReconciliationCollector())


def metrics(request: HttpRequest) -> HttpResponse:
    """Prometheus figures, for scrapers on this machine and for staff."""
    if request.META.get("REMOTE_ADDR") not in LOOPBACK and not request.user.is_staff:
        return HttpResponseForbidden("metrics are for this machine and for staff")
    return ExportToDjangoView(request)
