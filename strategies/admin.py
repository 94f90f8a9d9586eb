from __future__ import annotations

from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from audit.admin import TracedAdmin
from strategies.forms import PREFIX, parameter_field
from strategies.models import StrategyConfig
from strategies.registry import STRATEGIES
from strategies.services import (
    CHANGEABLE,
    StrategyConfigRefused,
    checked_config,
    strategy_config_create,
    strategy_config_update,
    strategy_disable,
    strategy_enable,
)

FIELDS = (
    "account",
    "name",
    "strategy",
    "symbols",
    "parameters",
    "sizing_mode",
    "sizing_value",
    "size_by_confidence",
    "leverage",
    "adaptive_leverage",
    "allow_reversal",
)


def strategy_choices() -> list[tuple[str, str]]:
    return [(key, kind.title) for key, kind in STRATEGIES.refresh().items()]


class StrategyConfigForm(forms.ModelForm):
    """Parameters as fields of their own, once the strategy is chosen; the service decides what is valid."""

    strategy = forms.ChoiceField(choices=strategy_choices)

    class Meta:
        model = StrategyConfig
        fields = FIELDS

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        given = {
            name.removeprefix(PREFIX): value
            for name, value in values.items()
            if name.startswith(PREFIX) and value not in (None, "")
        }
        values["parameters"] = given or values.get("parameters") or {}
        if self.errors:
            return values
        try:
            candidate = StrategyConfig(**{name: values[name] for name in FIELDS if name in values})
            if self.instance.pk:
                candidate.account, candidate.strategy = self.instance.account, self.instance.strategy
                candidate.name = self.instance.name
            values["parameters"] = checked_config(candidate).parameters
        except StrategyConfigRefused as refused:
            for violation in refused.violations:
                field = violation.field.replace("parameters.", PREFIX)
                self.add_error(field if field in self.fields else None, f"{violation.value}: {violation.rule}")
        return values


class StrategyConfigAdmin(admin.ModelAdmin):
    """Whoever registers it says whose strategies a user may see and change."""

    list_display = ("name", "account", "strategy", "enabled", "sizing_mode", "sizing_value", "leverage", "version")
    list_filter = ("strategy", "enabled", "account")
    search_fields = ("name", "account__name")
    autocomplete_fields = ("account",)
    form = StrategyConfigForm
    actions = ("enable", "disable")

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **options: Any) -> Any:
        fixed = self.get_readonly_fields(request, obj)
        # The parameters are no fields of the model: they join the form below.
        options["fields"] = [
            name for name in self.get_fields(request, obj) if not name.startswith(PREFIX) and name not in fixed
        ]
        form = super().get_form(request, obj, change=change, **options)
        if obj is None:
            return form
        # The kind of strategy is fixed now, so its parameters are known.
        extra = {}
        for spec in STRATEGIES[obj.strategy].parameters if obj.strategy in STRATEGIES else ():
            field = parameter_field(spec)
            field.initial = obj.parameters.get(spec.name, spec.default)
            extra[f"{PREFIX}{spec.name}"] = field
        return type("StrategyConfigParametersForm", (form,), extra)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        own = [name for name in FIELDS if name != "parameters"]
        if obj is None or obj.strategy not in STRATEGIES:
            return [*own, "parameters"]
        return [*own, *(f"{PREFIX}{spec.name}" for spec in STRATEGIES[obj.strategy].parameters)]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("account", "name", "strategy") if obj is not None else ()

    def save_model(self, request: HttpRequest, obj: StrategyConfig, form: Any, change: bool) -> None:
        actor, values = request.user.get_username(), form.cleaned_data
        if change:
            strategy_config_update(
                config=obj, actor=actor, **{name: values[name] for name in CHANGEABLE if name in values}
            )
            return
        created = strategy_config_create(
            account=values["account"],
            name=values["name"],
            strategy=values["strategy"],
            symbols=values["symbols"],
            parameters=values["parameters"],
            sizing_mode=values["sizing_mode"],
            sizing_value=Decimal(values["sizing_value"]),
            leverage=Decimal(values["leverage"]),
            allow_reversal=values["allow_reversal"],
            size_by_confidence=values["size_by_confidence"],
            adaptive_leverage=values["adaptive_leverage"],
            actor=actor,
            user=request.user,
        )
        obj.pk = created.pk

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # Signals and orders refer to it; disable it instead.
        return False

    @admin.action(description="Enable: let the chosen strategies trade", permissions=["change"])
    def enable(self, request: HttpRequest, rows: QuerySet[StrategyConfig]) -> None:
        self._each(request, rows, strategy_enable)

    @admin.action(description="Disable: no more signals, orders and positions stay", permissions=["change"])
    def disable(self, request: HttpRequest, rows: QuerySet[StrategyConfig]) -> None:
        self._each(request, rows, strategy_disable)

    def _each(self, request: HttpRequest, rows: QuerySet[StrategyConfig], service: Any) -> None:
        for config in rows:
            if not self.has_change_permission(request, config):
                self.message_user(request, f"{config}: only a manager of {config.account} may do that", messages.ERROR)
                continue
            try:
                service(config=config, actor=request.user.get_username())
            except StrategyConfigRefused as refused:
                self.message_user(request, f"{config}: {refused}", messages.ERROR)


class SignalAdmin(TracedAdmin):
    """Whoever registers it says whose signals a user may see."""

    list_display = ("signalled_at", "account", "strategy", "symbol", "side", "strength", "outcome", "reason")
    list_filter = ("outcome", "strategy", "symbol", "account")
    search_fields = ("symbol", "reason", "trace_id")
    date_hierarchy = "signalled_at"
    list_select_related = ("account",)
