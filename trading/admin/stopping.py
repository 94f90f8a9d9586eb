from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Prefetch, Q, QuerySet
from django.http import HttpRequest

from audit.admin import ReadOnlyAdmin
from trading.admin.books import BooksAdmin, BooksFilter
from trading.admin.tenancy import OfAccounts
from trading.models import DeadManWatch, KillSwitch, KillSwitchTask, LossAlarm
from trading.permissions import accounts_visible_to, may_manage, may_operate_platform, may_trade
from trading.services.kill_switch import KillSwitchRefused, dead_man_set, kill_switch_engage, kill_switch_rearm
from trading.services.loss_alarms import loss_alarm_rearm


class KillSwitchTaskInline(admin.TabularInline):
    model = KillSwitchTask
    extra = 0
    can_delete = False
    fields = readonly_fields = ("account", "phase", "open_orders", "open_positions", "rounds", "trouble", "done_at")

    def get_queryset(self, request: HttpRequest) -> QuerySet[KillSwitchTask]:
        return super().get_queryset(request).filter(account__in=accounts_visible_to(request.user))

    def has_add_permission(self, request: HttpRequest, *_: Any) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(KillSwitch)
class KillSwitchAdmin(OfAccounts):
    """To add one is to engage it; nothing of it can be edited, re-arming is an action. The platform's stops everybody,
    so everybody may see it; how far it is, each for their own accounts."""

    list_display = ("engaged_at", "where", "engaged_by", "reason", "how_far", "rearmed_at", "rearmed_by")
    list_filter = ("account", ("rearmed_at", admin.EmptyFieldListFilter))
    list_select_related = ("account",)
    fields = ("account", "closes_positions", "reason")
    actions = ("rearm",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[KillSwitch]:
        own = KillSwitchTask.objects.filter(account__in=accounts_visible_to(request.user)).select_related("account")
        return super().get_queryset(request).prefetch_related(Prefetch("tasks", queryset=own))

    def visible(self, rows: QuerySet[KillSwitch], user: Any) -> QuerySet[KillSwitch]:
        return rows.filter(Q(account=None) | Q(account__in=accounts_visible_to(user)))

    @admin.display(description="what")
    def where(self, switch: KillSwitch) -> str:
        return "the whole PLATFORM" if switch.account is None else switch.account.label

    def get_inlines(self, request: HttpRequest, obj: Any) -> list[Any]:
        return [] if obj is None else [KillSwitchTaskInline]

    @admin.display(description="how far")
    def how_far(self, switch: KillSwitch) -> str:
        return ", ".join(f"{task.account.label}: {task.phase}" for task in switch.tasks.all())

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: KillSwitch, form: Any, change: bool) -> None:
        allowed = may_operate_platform(request.user) if obj.account is None else may_trade(request.user, obj.account)
        if not allowed:
            raise PermissionDenied("you may not stop this")
        engaged = kill_switch_engage(
            account=obj.account,
            actor=request.user.get_username(),
            reason=obj.reason,
            closes_positions=obj.closes_positions,
        )
        obj.pk, obj._state.adding = engaged.pk, False

    @admin.action(description="Re-arm: let trade again", permissions=["view"])
    def rearm(self, request: HttpRequest, rows: QuerySet[KillSwitch]) -> None:
        for switch in rows.select_related("account"):
            account = switch.account
            if not (may_operate_platform(request.user) if account is None else may_manage(request.user, account)):
                self.message_user(request, f"you may not re-arm {switch}", messages.ERROR)
                continue
            try:
                kill_switch_rearm(account=account, actor=request.user.get_username(), reason="re-armed in the admin")
                self.message_user(request, f"{account or 'The platform'} trades again")
            except KillSwitchRefused as error:
                self.message_user(request, str(error), messages.ERROR)


@admin.register(DeadManWatch)
class DeadManWatchAdmin(OfAccounts):
    list_display = ("account", "policy", "venue_seconds", "missing_since")
    list_select_related = ("account",)
    fields = ("account", "policy", "venue_seconds")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return () if obj is None else ("account",)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # set it to "nothing" instead: that is on the trail

    def save_model(self, request: HttpRequest, obj: DeadManWatch, form: Any, change: bool) -> None:
        if not may_manage(request.user, obj.account):
            raise PermissionDenied(f"only a manager of {obj.account} may change its dead-man switch")
        saved = dead_man_set(
            account=obj.account,
            policy=obj.policy,
            venue_seconds=obj.venue_seconds,
            actor=request.user.get_username(),
        )
        obj.pk, obj._state.adding = saved.pk, False


@admin.register(LossAlarm)
class LossAlarmAdmin(OfAccounts, BooksAdmin, ReadOnlyAdmin):
    """Limits on losses that were crossed, and at which level; each is armed again by itself."""

    list_display = ("raised_at", "account", "books", "level", "strategy", "limit", "percent", "value", "rearmed_at")
    list_filter = (BooksFilter, "level", "limit", "account", ("rearmed_at", admin.EmptyFieldListFilter))
    list_select_related = ("account",)
    actions = ("arm",)

    @admin.action(description="Arm again: tell the next crossing of this limit too", permissions=["view"])
    def arm(self, request: HttpRequest, rows: QuerySet[LossAlarm]) -> None:
        for alarm in rows.select_related("account"):
            if not may_manage(request.user, alarm.account):
                self.message_user(request, f"only a manager of {alarm.account} may arm {alarm.named}", messages.ERROR)
                continue
            loss_alarm_rearm(alarm=alarm, actor=request.user.get_username())
            told = f"{alarm} is armed again; it acts at once if the loss is still beyond the limit"
            self.message_user(request, told)
