from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import transaction

from audit.services import record

MOST_TEXT = 2_000


@transaction.atomic
def request_refused_record(
    *,
    actor: str,
    account_id: int | None,
    method: str,
    path: str,
    status: int,
    answer: Mapping[str, Any],
    body: str,
) -> None:
    """Keep that somebody asked for what may not be: the request as it was, and what was answered."""
    error = answer.get("error", {})
    record(
        actor=actor,
        action="request.refused",
        subject=_storable(f"{method} {path}")[:128],
        account_id=account_id,
        reason=_storable(str(error.get("message", ""))),
        parameters={
            "status": status,
            "fields": [{name: _storable(str(text)) for name, text in each.items()} for each in error.get("fields", [])],
            "body": _storable(body),
        },
    )


def _storable(text: str) -> str:
    """Short, and without what PostgreSQL takes for no text: NUL and lone surrogates."""
    return text[:MOST_TEXT].replace("\0", "�").encode("utf-8", "replace").decode()
