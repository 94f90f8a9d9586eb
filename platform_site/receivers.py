"""Logins come by several doors (pages, admin, the API's token); Django tells of all of them by signals only."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.http import HttpRequest

from platform_site.services import login_failure_record, login_record, logout_record


def connect() -> None:
    user_logged_in.connect(logged_in)
    user_logged_out.connect(logged_out)
    user_login_failed.connect(login_failed)


def logged_in(sender: Any, request: HttpRequest | None, user: Any, **_: Any) -> None:
    login_record(user=user, address=address_of(request))


def logged_out(sender: Any, request: HttpRequest | None, user: Any, **_: Any) -> None:
    if user is not None:
        logout_record(user=user, address=address_of(request))


def login_failed(sender: Any, credentials: Any, request: HttpRequest | None = None, **_: Any) -> None:
    login_failure_record(username=str(credentials.get("username", "")), address=address_of(request))


def address_of(request: HttpRequest | None) -> str:
    return "" if request is None else str(request.META.get("REMOTE_ADDR", ""))
