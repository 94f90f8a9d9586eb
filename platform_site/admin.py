"""Django's own users, groups and tokens, and the schedules of beat: as they are, with every change on the trail."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django_celery_beat.admin import PeriodicTaskAdmin
from django_celery_beat.models import PeriodicTask
from rest_framework.authtoken.admin import TokenAdmin
from rest_framework.authtoken.models import TokenProxy

from platform_site.services import (
    group_deleted,
    group_recorded,
    group_snapshot,
    password_recorded,
    schedule_recorded,
    schedule_snapshot,
    token_issue,
    token_revoke,
    user_deleted,
    user_recorded,
    user_snapshot,
)

for model in (User, Group, TokenProxy, PeriodicTask):
    admin.site.unregister(model)


@admin.register(User)
class RecordedUserAdmin(UserAdmin):
    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        user_recorded(user=form.instance, before=form.was if change else None, actor=request.user.get_username())

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        form.was = user_snapshot(obj.pk) if change else None
        super().save_model(request, obj, form, change)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        user_deleted(user=obj, actor=request.user.get_username())
        super().delete_model(request, obj)

    @transaction.atomic
    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        for user in queryset:
            user_deleted(user=user, actor=request.user.get_username())
        super().delete_queryset(request, queryset)

    @transaction.atomic
    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:
        before = User.objects.filter(pk=id).values_list("password", flat=True).first() if id.isdigit() else None
        response = super().user_change_password(request, id, form_url)
        user = User.objects.filter(pk=id).first() if id.isdigit() else None
        if user is not None and user.password != before:
            password_recorded(user=user, actor=request.user.get_username())
        return response


@admin.register(Group)
class RecordedGroupAdmin(GroupAdmin):
    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        form.was = group_snapshot(obj.pk) if change else None
        super().save_model(request, obj, form, change)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        group_recorded(group=form.instance, before=form.was, actor=request.user.get_username())

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        group_deleted(group=obj, actor=request.user.get_username())
        super().delete_model(request, obj)

    @transaction.atomic
    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        for group in queryset:
            group_deleted(group=group, actor=request.user.get_username())
        super().delete_queryset(request, queryset)


@admin.register(TokenProxy)
class RecordedTokenAdmin(TokenAdmin):
    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # a token for another user is another token

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        made = token_issue(user=obj.user, actor=request.user.get_username())
        obj.key, obj.created, obj._state.adding = made.key, made.created, False

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        token_revoke(user=obj.user, actor=request.user.get_username())


@admin.register(PeriodicTask)
class RecordedPeriodicTaskAdmin(PeriodicTaskAdmin):
    # Many at once would pass the trail by: who changes a schedule opens it.
    actions = ("run_tasks",)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        before = schedule_snapshot(obj.pk) if change else None
        super().save_model(request, obj, form, change)
        schedule_recorded(task=obj, before=before, actor=request.user.get_username())

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        before = schedule_snapshot(obj.pk)
        schedule_recorded(task=obj, before=before, actor=request.user.get_username(), deleted=True)
        super().delete_model(request, obj)

    @transaction.atomic
    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        for task in queryset:
            before = schedule_snapshot(task.pk)
            schedule_recorded(task=task, before=before, actor=request.user.get_username(), deleted=True)
        super().delete_queryset(request, queryset)


@admin.site.admin_view
@transaction.atomic
def own_password(request: HttpRequest) -> HttpResponse:
    """The admin's page to change one's own password."""
    user: Any = request.user
    before = user.password
    response = admin.site.password_change(request)
    if user.password != before:
        password_recorded(user=user, actor=user.get_username())
    return response
