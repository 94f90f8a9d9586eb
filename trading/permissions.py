"""Who may see, trade on, and manage an account. Every page, endpoint, socket message and task asks here."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.db.models import Q, QuerySet

from trading.models import Account, Membership

OPERATE_PLATFORM = "trading.operate_platform_kill_switch"
SEE_PLATFORM_TRAIL = "audit.view_platform_trail"
TRADING_ROLES = frozenset({Membership.Role.TRADER, Membership.Role.MANAGER})


def accounts_visible_to(user: Any) -> QuerySet[Account]:
    """The accounts a user owns or is a member of; all of them for a superuser, none for anybody else."""
    if not getattr(user, "is_authenticated", False) or not user.is_active:
        return Account.objects.none()
    if user.is_superuser:
        return Account.objects.all()
    return Account.objects.filter(Q(owner=user) | Q(memberships__user=user)).distinct()


def role_on(user: Any, account: Account) -> str | None:
    """The user's role: owners and superusers are managers; None is no access at all."""
    if not getattr(user, "is_authenticated", False) or not user.is_active:
        return None
    if user.is_superuser or account.owner_id == user.pk:
        return str(Membership.Role.MANAGER)
    return Membership.objects.filter(account=account, user=user).values_list("role", flat=True).first()


def may_trade(user: Any, account: Account) -> bool:
    return role_on(user, account) in TRADING_ROLES


def may_manage(user: Any, account: Account) -> bool:
    return role_on(user, account) == Membership.Role.MANAGER


def is_staff(user: Any) -> bool:
    """Whether the user looks after the platform: its own alerts, its dead letters."""
    return bool(getattr(user, "is_authenticated", False) and user.is_active and user.is_staff)


def may_operate_platform(user: Any) -> bool:
    """Whether the user may stop and re-arm the whole platform."""
    return bool(getattr(user, "is_authenticated", False) and user.is_staff and user.has_perm(OPERATE_PLATFORM))


def may_see_platform_trail(user: Any) -> bool:
    """Whether the user may read the platform's own audit trail: logins, users, roles, keys to the API."""
    return bool(getattr(user, "is_authenticated", False) and user.is_staff and user.has_perm(SEE_PLATFORM_TRAIL))


def platform_operators() -> list[str]:
    """The names of all who may stop and re-arm the whole platform."""
    users = get_user_model().objects.filter(is_active=True, is_staff=True).order_by("username")
    return [user.get_username() for user in users if may_operate_platform(user)]
