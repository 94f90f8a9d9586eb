"""Requests that were refused leave a trace: who wanted what, and why not."""

from __future__ import annotations

import re

from django.core.exceptions import RequestDataTooBig
from django.http.request import RawPostDataException
from rest_framework import status
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from trading.selectors import visible_accounts, visible_orders
from trading.services.refusals import request_refused_record

PLAIN_ID = re.compile(r"[0-9]{1,18}")


class RefusalsRecorded(APIView):
    """A view whose refusals of requests that change something are on the trail: of the account that was meant where
    the user may see it, of the platform otherwise."""

    # What the number in the address names: an account, or an order.
    meant = "account"

    def handle_exception(self, exc: Exception) -> Response:
        answer = super().handle_exception(exc)
        refused = status.HTTP_400_BAD_REQUEST <= answer.status_code < status.HTTP_500_INTERNAL_SERVER_ERROR
        # "Later" is no refusal; and whoever is not logged in, or asks too often, could fill the trail.
        refused = refused and "Retry-After" not in answer
        if refused and self.request.method not in SAFE_METHODS:
            request: Request = self.request
            if request.user.is_authenticated:
                request_refused_record(
                    actor=request.user.get_username(),
                    account_id=self._account_meant(request),
                    method=str(request.method),
                    path=request.path,
                    status=answer.status_code,
                    answer=answer.data,
                    body=_told(request),
                )
        return answer

    def _account_meant(self, request: Request) -> int | None:
        visible = visible_accounts(request.user)
        number = self.kwargs.get("pk")
        if number is not None and self.meant == "order":
            return visible_orders(request.user).filter(pk=number).values_list("account_id", flat=True).first()
        body = getattr(request, "_full_data", None)
        body = body if isinstance(body, dict) else {}
        named = body.get("account") if number is None else number
        if named is None:
            candidates = list(visible.values_list("pk", flat=True)[:2])
            return candidates[0] if len(candidates) == 1 and body.get("platform") is not True else None
        if not PLAIN_ID.fullmatch(str(named)):
            return None
        return visible.filter(pk=int(named)).values_list("pk", flat=True).first()


def _told(request: Request) -> str:
    """The body, or what was read of it."""
    try:
        return bytes(request.body).decode("utf-8", "replace")
    except (RawPostDataException, RequestDataTooBig):
        return str(getattr(request, "_full_data", ""))
