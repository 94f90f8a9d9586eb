from __future__ import annotations

from django.db import models


class AuditChain(models.Model):
    """The head of one chain of audit events: ``platform``, or ``account:<id>``. Locked while an event is appended."""

    name = models.CharField(max_length=64, primary_key=True)
    sequence = models.BigIntegerField(default=0)
    hash = models.CharField(max_length=64)

    def __str__(self) -> str:
        return f"{self.name} at {self.sequence}"


class AuditEvent(models.Model):
    """One action that touched capital, configuration or access: who, what, when, why, before and after.

    Append-only: database triggers refuse UPDATE, DELETE and TRUNCATE (migration 0002). Subjects are text, so that
    every app may record and nothing here depends on them.
    """

    chain = models.CharField(max_length=64)
    sequence = models.BigIntegerField()
    previous_hash = models.CharField(max_length=64)
    hash = models.CharField(max_length=64)
    created_at = models.DateTimeField()
    actor = models.CharField(max_length=150)
    action = models.CharField(max_length=64)
    subject = models.CharField(max_length=128)
    reason = models.TextField(blank=True)
    trace_id = models.CharField(max_length=64, blank=True)
    parameters = models.JSONField(default=dict)
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["chain", "sequence"], name="audit_event_once_per_sequence")]
        # Each way to search, in the order in which pages show the newest.
        indexes = [
            models.Index(fields=["created_at"], name="audit_event_time"),
            models.Index(fields=["chain", "id"], name="audit_event_chain"),
            models.Index(fields=["action", "id"], name="audit_event_action"),
            models.Index(fields=["subject", "id"], name="audit_event_subject"),
            models.Index(fields=["actor", "id"], name="audit_event_actor"),
            models.Index(fields=["trace_id", "id"], name="audit_event_trace", condition=~models.Q(trace_id="")),
        ]
        ordering = ["-id"]
        permissions = [("view_platform_trail", "Can see the audit trail of the platform itself")]

    def __str__(self) -> str:
        return f"{self.chain}#{self.sequence} {self.action} {self.subject}"


class ComponentHeartbeat(models.Model):
    """The last sign of life of one process, for the health endpoint and the status page."""

    component = models.CharField(max_length=32)
    instance = models.CharField(max_length=64, default="1")
    status = models.CharField(max_length=16, default="ok")
    detail = models.JSONField(default=dict)
    updated_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["component", "instance"], name="audit_heartbeat_once")]

    def __str__(self) -> str:
        return f"{self.component}/{self.instance} {self.status}"


class Alert(models.Model):
    """Something that a person should know: how bad, what, of which account (none: of the platform), seen by whom.

    Open until it is acknowledged. An open one with the same ``key`` is raised again by counting up, so that a trouble
    that lasts is one row. ``account_id`` is a number, not a foreign key: nothing here depends on other apps.
    """

    class Level(models.TextChoices):
        INFO = "info", "info"
        WARNING = "warning", "warning"
        CRITICAL = "critical", "CRITICAL"

    level = models.CharField(max_length=8, choices=Level.choices)
    kind = models.CharField(max_length=64, db_index=True)
    message = models.TextField()
    account_id = models.BigIntegerField(null=True, blank=True, db_index=True)
    detail = models.JSONField(default=dict)
    key = models.CharField(max_length=128, blank=True)
    count = models.PositiveIntegerField(default=1)
    raised_at = models.DateTimeField(db_index=True)
    last_raised_at = models.DateTimeField()
    acknowledged_at = models.DateTimeField(null=True, blank=True)
    acknowledged_by = models.CharField(max_length=150, blank=True)

    class Meta:
        ordering = ["-last_raised_at", "-id"]
        permissions = [("acknowledge_alert", "Can acknowledge alerts")]
        constraints = [
            models.UniqueConstraint(
                fields=["account_id", "key"],
                condition=models.Q(acknowledged_at=None) & ~models.Q(key=""),
                nulls_distinct=False,
                name="audit_alert_open_once",
            )
        ]

    def __str__(self) -> str:
        return f"{self.level} {self.kind}: {self.message[:60]}"
