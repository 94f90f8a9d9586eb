"""Pages of strategies: what there is, what runs where, and a form for each."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.mixins import LoginRequiredMixin
from django.core.exceptions import PermissionDenied
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.http import FileResponse, Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.safestring import mark_safe
from django.views import View
from django.views.generic import TemplateView

from strategies.base import Strategy
from strategies.documentation import IMAGE_FOLDER, documentation, summary
from strategies.forms import ConfigurationForm
from strategies.models import StrategyConfig
from strategies.registry import STRATEGIES
from strategies.services import (
    StrategyConfigRefused,
    strategy_config_create,
    strategy_config_update,
    strategy_disable,
    strategy_enable,
)
from trading.api.backtests import send
from trading.backtest.request_json import RequestInvalid
from trading.models import Account, Membership
from trading.permissions import may_manage
from trading.runtime.configuration import why_not_runnable
from trading.selectors import visible_accounts, visible_alerts, visible_strategies
from trading.services.comparisons import comparison_create
from trading.services.run_lives import BacktestRefused

TYPES = {".svg": "image/svg+xml", ".png": "image/png"}


def managed_accounts(user: Any) -> QuerySet[Account]:
    """The accounts whose strategies a user may change."""
    rows = visible_accounts(user)
    if user.is_superuser:
        return rows
    managed = Membership.objects.filter(user=user, role=Membership.Role.MANAGER).values("account")
    return rows.filter(pk__in=managed) | rows.filter(owner=user)


class StrategiesPage(LoginRequiredMixin, TemplateView):
    """Every strategy that there is, and the user's configurations of them."""

    template_name = "strategies/list.html"

    def get_context_data(self, **context: Any) -> dict[str, Any]:
        STRATEGIES.refresh()
        rows = configurations(self.request.user)
        return super().get_context_data(
            kinds=[_kind_row(key, kind) for key, kind in sorted(STRATEGIES.items())],
            configurations=rows,
            problems=STRATEGIES.problems,
            folder=STRATEGIES.folder if self.request.user.is_staff else None,
            **context,
        )


class StrategyPage(LoginRequiredMixin, TemplateView):
    """One strategy: how it works, its parameters, the user's configurations of it, and a form to add or change one."""

    template_name = "strategies/detail.html"

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        if not request.user.is_authenticated:
            return self.handle_no_permission()
        self.key = kwargs["key"]
        if self.key not in STRATEGIES.refresh():
            raise Http404
        self.kind = STRATEGIES[self.key]
        self.config = self._config(request)
        return super().dispatch(request, *args, **kwargs)

    def _config(self, request: HttpRequest) -> StrategyConfig | None:
        """The configuration that is changed, ``?config=``."""
        asked = request.GET.get("config", "")
        if not asked:
            return None
        if not (asked.isascii() and asked.isdigit() and len(asked) <= 18):
            raise Http404
        return get_object_or_404(visible_strategies(request.user), pk=int(asked), strategy=self.key)

    def _may_change(self) -> bool:
        if self.config is not None:
            return may_manage(self.request.user, self.config.account)
        return managed_accounts(self.request.user).exists()

    def _form(self, data: Any = None) -> ConfigurationForm:
        return ConfigurationForm(self.kind, managed_accounts(self.request.user), self.config, data=data)

    def post(self, request: HttpRequest, key: str) -> HttpResponse:
        if not self._may_change():
            raise PermissionDenied("only a manager of an account may change its strategies")
        form = self._form(request.POST)
        if form.is_valid():
            try:
                saved = self._save(form, request.user.get_username())
                messages.success(
                    request, f"{saved.name} is saved; it is {'enabled' if saved.enabled else 'not enabled'}."
                )
                return redirect("strategy", key=key)
            except StrategyConfigRefused as refused:
                form.refuse(refused)
            except IntegrityError:
                form.add_error("name", f"{form.cleaned_data['name']}: the account has a strategy of that name already")
        return self.render_to_response(self.get_context_data(form=form, **self.kwargs), status=422)

    def _save(self, form: ConfigurationForm, actor: str) -> StrategyConfig:
        values = form.values()
        if self.config is not None:
            return strategy_config_update(config=self.config, actor=actor, **values)
        return strategy_config_create(strategy=self.key, actor=actor, user=self.request.user, **values)

    def get_context_data(self, **context: Any) -> dict[str, Any]:
        may_change = self._may_change()
        file = STRATEGIES.file(self.key)
        context.setdefault("form", self._form() if may_change else None)
        return super().get_context_data(
            kind=_kind_row(self.key, self.kind),
            specs=self.kind.parameters,
            # Rendered from Markdown with its markup switched off.
            documentation=mark_safe(documentation(STRATEGIES, self.key)),  # noqa: S308
            file=file,
            config=self.config,
            may_change=may_change,
            configurations=configurations(self.request.user, self.key),
            **context,
        )


class SwitchView(LoginRequiredMixin, View):
    """Enables or disables one configuration, and goes back to where the button was."""

    def post(self, request: HttpRequest, pk: str, action: str) -> HttpResponse:
        config = get_object_or_404(visible_strategies(request.user), pk=int(pk))
        if not may_manage(request.user, config.account):
            raise PermissionDenied("only a manager of an account may change its strategies")
        actor = request.user.get_username()
        try:
            if action == "enable":
                strategy_enable(config=config, actor=actor)
                messages.success(request, f"{config.name} is enabled: it trades from now on.")
            else:
                strategy_disable(config=config, actor=actor)
                messages.success(request, f"{config.name} is disabled; its open orders and positions stay.")
        except StrategyConfigRefused as refused:
            messages.error(request, f"{config.name} cannot be enabled: {refused}")
        back = request.POST.get("next", "")
        if not back.startswith("/strategies/") or not url_has_allowed_host_and_scheme(back, allowed_hosts=None):
            back = "/strategies/"
        return redirect(back)


class CompareView(LoginRequiredMixin, View):
    """Asks for the backtest that a configuration's live signals are held against, and goes to its page."""

    def post(self, request: HttpRequest, pk: str) -> HttpResponse:
        config = get_object_or_404(visible_strategies(request.user), pk=int(pk))
        try:
            run = comparison_create(owner=request.user, config=config)
        except (RequestInvalid, BacktestRefused) as refused:
            messages.error(request, f"{config.name} cannot be compared: {refused}")
            return redirect("strategy", key=config.strategy)
        transaction.on_commit(partial(send, run.pk))
        return redirect("backtest", pk=run.pk)


@login_required
def image(request: HttpRequest, name: str) -> FileResponse:
    """An image of the documentation."""
    path = IMAGE_FOLDER / name
    if not path.is_file():
        raise Http404
    answer = FileResponse(path.open("rb"), content_type=TYPES[path.suffix])
    answer["Content-Security-Policy"] = "sandbox; default-src 'none'; style-src 'unsafe-inline'"
    return answer


def configurations(user: Any, key: str | None = None) -> list[dict[str, Any]]:
    """The configurations that a user may see, with what they may do with them and why one does not run."""
    rows = visible_strategies(user).order_by("account__name", "name")
    if key is not None:
        rows = rows.filter(strategy=key)
    managed = set(managed_accounts(user).values_list("pk", flat=True))
    stopped = visible_alerts(user).filter(kind="strategy_stopped", acknowledged_at=None)
    reasons = dict(stopped.values_list("key", "detail__reason"))
    return [_configuration_row(config, config.account_id in managed, reasons) for config in rows]


def _configuration_row(config: StrategyConfig, may_change: bool, reasons: dict[str, str]) -> dict[str, Any]:
    state, why = ("enabled", "") if config.enabled else ("disabled", "")
    if config.enabled and (reason := why_not_runnable(config)) is not None:
        state, why = "paused", reason
    elif not config.enabled and (reason := reasons.get(f"strategy_stopped:{config.pk}")):
        state, why = "stopped", reason
    return {"config": config, "state": state, "why": why, "may_change": may_change}


def _kind_row(key: str, kind: type[Strategy]) -> dict[str, Any]:
    timeframe = next((spec for spec in kind.parameters if spec.name == "timeframe"), None)
    return {
        "key": key,
        "title": kind.title,
        "summary": summary(kind),
        "timeframe": "order book" if timeframe is None else f"{timeframe.default} min",
        "timeframes": () if timeframe is None else timeframe.choices,
        "is_own": STRATEGIES.file(key) is not None,
    }
