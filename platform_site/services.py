"""Who came in, and who was given what: logins, users, roles, keys of the API, schedules."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import redis
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.core.cache import cache
from django.db import transaction
from django_celery_beat.models import PeriodicTask
from rest_framework.authtoken.models import Token

from audit.services import record

log = logging.getLogger(__name__)

# Somebody who guesses passwords must not fill the trail: beyond this only the log hears of it.
FAILURES_A_MINUTE = 30
USER_FIELDS = ("username", "email", "is_active", "is_staff", "is_superuser")
SCHEDULE_FIELDS = ("name", "task", "enabled", "interval", "crontab", "args", "kwargs", "one_off", "expire_seconds")


@transaction.atomic
def login_record(*, user: Any, address: str) -> None:
    record(actor=user.get_username(), action="login.succeeded", subject=_user(user), parameters={"address": address})


@transaction.atomic
def logout_record(*, user: Any, address: str) -> None:
    record(actor=user.get_username(), action="login.ended", subject=_user(user), parameters={"address": address})


@transaction.atomic
def login_failure_record(*, username: str, address: str) -> None:
    """``username`` is whatever was typed; the password is never told to anybody."""
    # Text from outside: PostgreSQL takes no NUL and UTF-8 no lone surrogate.
    name = username.replace("\0", "")[:100].encode("utf-8", "replace").decode()
    log.warning("login_failed %r from %s", name, address)
    if _failures(address) <= FAILURES_A_MINUTE:
        record(actor="anonymous", action="login.failed", subject=f"user:{name}", parameters={"address": address})


def _failures(address: str) -> int:
    """How many there were from an address within a minute; 0 while that cannot be counted."""
    try:
        cache.add(f"login-failures:{address}", 0, 60)
        return int(cache.incr(f"login-failures:{address}"))
    except (redis.RedisError, ValueError, OSError):
        return 0


@transaction.atomic
def token_issue(*, user: Any, actor: str) -> Token:
    """The user's token, made where there is none. It never enters the trail, not even in part."""
    token, made = Token.objects.get_or_create(user=user)
    record(actor=actor, action="api_token.made" if made else "api_token.told", subject=_user(user))
    return token


@transaction.atomic
def token_revoke(*, user: Any, actor: str) -> bool:
    """No request with the user's token is answered any more. False when there was none."""
    deleted, _ = Token.objects.filter(user=user).delete()
    if deleted:
        record(actor=actor, action="api_token.revoked", subject=_user(user))
    return bool(deleted)


@transaction.atomic
def user_recorded(*, user: Any, before: Mapping[str, Any] | None, actor: str) -> None:
    """A user was made or changed: ``before`` is what :func:`user_snapshot` said then, None of a new one."""
    after = user_snapshot(user.pk)
    if after != before:
        action = "user.created" if before is None else "user.changed"
        record(actor=actor, action=action, subject=_user(user), before=before, after=after)


@transaction.atomic
def user_deleted(*, user: Any, actor: str) -> None:
    """Call it before."""
    record(actor=actor, action="user.deleted", subject=_user(user), before=user_snapshot(user.pk))


@transaction.atomic
def password_recorded(*, user: Any, actor: str) -> None:
    record(actor=actor, action="user.password_changed", subject=_user(user))


@transaction.atomic
def group_recorded(*, group: Group, before: Mapping[str, Any] | None, actor: str) -> None:
    after = group_snapshot(group.pk)
    if after != before:
        action = "group.created" if before is None else "group.changed"
        record(actor=actor, action=action, subject=f"group:{group.name}", before=before, after=after)


@transaction.atomic
def group_deleted(*, group: Group, actor: str) -> None:
    """Call it before."""
    record(actor=actor, action="group.deleted", subject=f"group:{group.name}", before=group_snapshot(group.pk))


@transaction.atomic
def schedule_recorded(
    *, task: PeriodicTask, before: Mapping[str, Any] | None, actor: str, deleted: bool = False
) -> None:
    """A scheduled task was made, changed or (call it before) deleted."""
    after = None if deleted else schedule_snapshot(task.pk)
    if after != before:
        action = "schedule.deleted" if deleted else "schedule.created" if before is None else "schedule.changed"
        record(actor=actor, action=action, subject=f"schedule:{task.name}"[:128], before=before, after=after)


def user_snapshot(user_id: int) -> dict[str, Any]:
    user = get_user_model().objects.get(pk=user_id)
    return {
        **{name: getattr(user, name) for name in USER_FIELDS},
        "groups": sorted(user.groups.values_list("name", flat=True)),
        "permissions": _permissions(user.user_permissions),
    }


def group_snapshot(group_id: int) -> dict[str, Any]:
    group = Group.objects.get(pk=group_id)
    return {"name": group.name, "permissions": _permissions(group.permissions)}


def schedule_snapshot(task_id: int) -> dict[str, Any]:
    task = PeriodicTask.objects.get(pk=task_id)
    return {name: str(getattr(task, name)) for name in SCHEDULE_FIELDS}


def _permissions(granted: Any) -> list[str]:
    rows = granted.values_list("content_type__app_label", "codename")
    return sorted(f"{app}.{name}" for app, name in rows)


def _user(user: Any) -> str:
    return f"user:{user.get_username()}"[:128]
