from __future__ import annotations

from django.http import HttpRequest, HttpResponse, HttpResponseForbidden
from django_prometheus.exports import ExportToDjangoView

LOOPBACK = ("127.0.0.1", "::1")


def metrics(request: HttpRequest) -> HttpResponse:
    """Prometheus figures, for scrapers on this machine and for staff."""
    if request.META.get("REMOTE_ADDR") not in LOOPBACK and not request.user.is_staff:
        return HttpResponseForbidden("metrics are for this machine and for staff")
    return ExportToDjangoView(request)
