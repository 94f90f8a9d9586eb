from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import ForeignKey, Model, QuerySet
from django.forms import ModelChoiceField
from django.http import HttpRequest

from strategies.models import StrategyConfig
from trading.models import Account
from trading.permissions import accounts_visible_to, may_manage


class AccountFilter(admin.RelatedFieldListFilter):
    """Accounts that the user may see; a list of all of them would tell who else is here."""

    def field_choices(self, field: Any, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> Any:
        choices = {"pk__in": accounts_visible_to(request.user)}
        return field.get_choices(include_blank=False, ordering=("name",), limit_choices_to=choices)


class OfAccounts(admin.ModelAdmin):
    """Rows of the accounts that the user may see (superusers: of all). Django's permissions say what kind of thing
    somebody may look at or change, this says whose: to change needs to be a manager of the account besides."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows = super().get_queryset(request)
        return rows if request.user.is_superuser else self.visible(rows, request.user)

    def visible(self, rows: QuerySet[Any], user: Any) -> QuerySet[Any]:
        """The rows that a user may see."""
        return rows.filter(account__in=accounts_visible_to(user))

    def account_of(self, row: Any) -> Account | None:
        """Whose the row is; None: nobody's."""
        return row.account

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        if not super().has_change_permission(request, obj):
            return False
        account = None if obj is None else self.account_of(obj)
        return account is None or may_manage(request.user, account)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        account = self.account_of(obj)
        if account is not None and not may_manage(request.user, account):
            raise PermissionDenied(f"only a manager of {account} may do that")
        super().save_model(request, obj, form, change)

    def get_list_filter(self, request: HttpRequest) -> list[Any]:
        return [("account", AccountFilter) if each == "account" else each for each in super().get_list_filter(request)]

    def formfield_for_foreignkey(
        self, db_field: ForeignKey[Any, Any], request: HttpRequest, **options: Any
    ) -> ModelChoiceField[Any] | None:
        choices = own_choices(db_field.related_model, request.user)
        if choices is not None:
            options["queryset"] = choices
        return super().formfield_for_foreignkey(db_field, request, **options)


def own_choices(model: type[Model] | str, user: Any) -> QuerySet[Any] | None:
    """What of a model somebody may choose in a form; None: anything."""
    if model is Account:
        return accounts_visible_to(user)
    if model is StrategyConfig:
        return StrategyConfig.objects.filter(account__in=accounts_visible_to(user))
    return None
