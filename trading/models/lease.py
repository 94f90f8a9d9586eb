from __future__ import annotations

from django.db import models


class EngineSession(models.Model):
    """One run of one engine process, or one ownership of an account: alive while it is renewed in time, ended for good
    when it once was not."""

    name = models.CharField(max_length=64)
    started_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    ended = models.BooleanField(default=False)
    follows_market = models.BooleanField(default=True, help_text="shares the symbols; off for the owner of an account")
    report = models.JSONField(default=dict, help_text="each followed symbol's book state and reference price")

    def __str__(self) -> str:
        return f"{self.name} (session {self.pk})"


class Lease(models.Model):
    """Who may act on a resource (``symbol:BTCUSDT``, ``account:7``). Never deleted: ``epoch``, the
    fencing token, must only grow.

    ``successor`` is an engine that is ready to go on with it the moment the holder hands it over.
    """

    resource = models.CharField(max_length=64, primary_key=True)
    session = models.ForeignKey(EngineSession, null=True, on_delete=models.PROTECT, related_name="leases")
    successor = models.ForeignKey(EngineSession, null=True, on_delete=models.SET_NULL, related_name="+")
    epoch = models.BigIntegerField(default=0)
    changed_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.resource} epoch {self.epoch}"
