from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.functional import cached_property
from django.utils.html import format_html, format_html_join
from django.utils.safestring import mark_safe

from audit.chain import PLATFORM, account_chain
from audit.models import Alert, AuditEvent, ComponentHeartbeat
from audit.selectors import events_found
from audit.services import alert_acknowledge


class ReadOnlyAdmin(admin.ModelAdmin):
    """Rows that only the platform writes: people look, search and filter."""

    def has_add_permission(self, request: HttpRequest, *_: Any) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def trace_links(trace_id: str) -> str:
    """The timeline of a trace, and its audit."""
    if not trace_id:
        return "-"
    audit = f"{reverse('admin:audit_auditevent_changelist')}?{urlencode({'trace_id': trace_id})}"
    timeline = reverse("trace", args=[trace_id])
    return format_html(
        '{} · <a href="{}">timeline</a> · <a href="{}">audit of this trace</a>', trace_id, timeline, audit
    )


class TracedAdmin(ReadOnlyAdmin):
    """Rows that belong to a trace."""

    readonly_fields = ("trace",)

    @admin.display(description="trace")
    def trace(self, row: Any) -> str:
        return trace_links(row.trace_id)


class CappedPaginator(Paginator):
    """Counts no further than it shows: counting a million rows takes longer than finding a hundred."""

    MOST = 10_000

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        return len(rows.order_by().values_list("pk", flat=True)[: self.MOST])


class TextFilter(admin.SimpleListFilter):
    """Something to type: the text must be exactly that. Its choices would be a list of everything there is."""

    template = "admin/text_filter.html"
    example = ""

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("", "")]

    def choices(self, changelist: Any) -> Iterator[Any]:
        yield {"kept": [(name, value) for name, value in changelist.params.items() if name != self.parameter_name]}

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        text = (self.value() or "").strip()
        return self.narrowed(queryset, text) if text else queryset

    def narrowed(self, rows: QuerySet[Any], text: str) -> QuerySet[Any]:
        return rows.filter(**{str(self.parameter_name): text})


class TraceFilter(TextFilter):
    title = parameter_name = "trace_id"


class ActorFilter(TextFilter):
    title = parameter_name = "actor"
    example = "alice"


class ActionFilter(TextFilter):
    title = parameter_name = "action"
    example = "order.intended"


class SubjectFilter(TextFilter):
    title = parameter_name = "subject"
    example = "order:12"


class ChainFilter(TextFilter):
    title = "account"
    parameter_name = "account"
    example = "its number, or platform"

    def narrowed(self, rows: QuerySet[Any], text: str) -> QuerySet[Any]:
        if text == PLATFORM:
            return rows.filter(chain=PLATFORM)
        return rows.filter(chain=account_chain(int(text))) if text.isascii() and text.isdigit() else rows.none()


class SinceFilter(TextFilter):
    title = parameter_name = "since"
    example = "2026-01-31 12:00 (UTC)"
    lookup = "created_at__gte"

    def narrowed(self, rows: QuerySet[Any], text: str) -> QuerySet[Any]:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            return rows.none()
        return rows.filter(**{self.lookup: moment if moment.tzinfo else moment.replace(tzinfo=UTC)})


class UntilFilter(SinceFilter):
    title = parameter_name = "until"
    lookup = "created_at__lt"


class AuditEventAdmin(ReadOnlyAdmin):
    """Look and search. Whoever registers it says whose events a user may see."""

    list_display = ("created_at", "chain", "sequence", "action", "subject", "actor", "changed", "reason")
    list_filter = (ChainFilter, TraceFilter, ActionFilter, SubjectFilter, ActorFilter, SinceFilter, UntilFilter)
    search_fields = ("trace_id",)  # any: the search itself is below
    search_help_text = "A trace id, subject (order:12), actor or action, exactly"
    ordering = ("-id",)
    paginator = CappedPaginator
    show_full_result_count = False
    fields = (
        "created_at",
        "chain",
        "sequence",
        "actor",
        "action",
        "subject",
        "reason",
        "trace",
        "changes",
        "parameters_shown",
        "previous_hash",
        "hash",
    )
    readonly_fields = ("trace", "changes", "parameters_shown")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        return events_found(queryset, search_term.strip()), False

    @admin.display(description="trace")
    def trace(self, event: AuditEvent) -> str:
        return trace_links(event.trace_id)

    @admin.display(description="changed")
    def changed(self, event: AuditEvent) -> str:
        return ", ".join(name for name, was, now in sides(event) if was != now)[:120]

    @admin.display(description="before and after")
    def changes(self, event: AuditEvent) -> str:
        rows = format_html_join(
            "",
            "<tr{}><th>{}</th><td>{}</td><td>{}</td></tr>",
            ((CHANGED if was != now else "", name, shown(was), shown(now)) for name, was, now in sides(event)),
        )
        head = mark_safe("<tr><th></th><th>before</th><th>after</th></tr>")
        return format_html("<table>{}{}</table>", head, rows) if rows else "-"

    @admin.display(description="parameters")
    def parameters_shown(self, event: AuditEvent) -> str:
        return format_html(
            "<table>{}</table>",
            format_html_join(
                "", "<tr><th>{}</th><td>{}</td></tr>", ((k, shown(v)) for k, v in event.parameters.items())
            ),
        )


CHANGED = mark_safe(' class="changed" style="font-weight: bold; background: var(--message-warning-bg)"')
ABSENT = object()


def sides(event: AuditEvent) -> list[tuple[str, Any, Any]]:
    """Each field with its value before and after; what is on one side only is ABSENT on the other."""
    before, after = event.before or {}, event.after or {}
    names = [*before, *(name for name in after if name not in before)]
    return [(name, before.get(name, ABSENT), after.get(name, ABSENT)) for name in names]


def shown(value: Any) -> str:
    if value is ABSENT:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1)


@admin.register(ComponentHeartbeat)
class ComponentHeartbeatAdmin(ReadOnlyAdmin):
    list_display = ("component", "instance", "status", "updated_at")


class AlertAdmin(ReadOnlyAdmin):
    """Whoever registers it says whose alerts a user may see."""

    list_display = ("last_raised_at", "level", "kind", "account_id", "message", "count", "acknowledged_by")
    list_filter = ("level", ("acknowledged_at", admin.EmptyFieldListFilter), "kind")
    search_fields = ("message", "key", "kind")
    date_hierarchy = "raised_at"
    actions = ("acknowledge",)

    def has_acknowledge_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("audit.acknowledge_alert")

    @admin.action(description="Acknowledge the chosen alerts", permissions=["acknowledge"])
    def acknowledge(self, request: HttpRequest, rows: QuerySet[Alert]) -> None:
        for alert in rows.filter(acknowledged_at=None):
            alert_acknowledge(alert_id=alert.pk, actor=request.user.get_username())
        self.message_user(request, "The chosen alerts are acknowledged.")
