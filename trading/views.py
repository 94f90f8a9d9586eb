from __future__ import annotations

import re
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import redis
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.auth.mixins import LoginRequiredMixin
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.views.generic import TemplateView

from audit.dead_letters import DeadLetter, LetterGone
from audit.selectors import chain_heads
from audit.services import dead_letters
from marketdata.candles.series import INTERVALS as BAR_INTERVALS
from marketdata.selectors import INTERVALS, instruments
from strategies.base import ParameterSpec
from strategies.registry import STRATEGIES
from trading.api.backtest_schema import choices_of_form
from trading.backtest.request import Source
from trading.backtest.request_json import MOST_GROUPS, MOST_STRATEGIES, VENUES, request_from_json, request_to_json
from trading.backtest.search_request import Objective, Sampler
from trading.permissions import is_staff, may_operate_platform
from trading.runtime.dead_letters import NotReplayed, letter_discard, letter_replay
from trading.selectors import trace_timeline, visible_accounts, visible_backtests, visible_searches
from trading.serializers import AccountSerializer
from trading.services.backtests import all_strategies, candle_strategies

# What the form begins with.
USUAL = "supertrend"
PK = re.compile(r"[0-9]{1,18}")
LETTER = re.compile(r"[0-9]{1,20}-[0-9]{1,20}")
ACTIONS = {"replay": letter_replay, "discard": letter_discard}


class DashboardView(LoginRequiredMixin, TemplateView):
    """The page that a trader leaves open."""

    template_name = "dashboard.html"

    def get_context_data(self, **context: Any) -> dict[str, Any]:
        accounts = visible_accounts(self.request.user)
        serializer = AccountSerializer(accounts, many=True, context={"user": self.request.user})
        listed = instruments().values("symbol", "tick_size", "lot_size", "min_quantity", "min_notional", "max_leverage")
        return super().get_context_data(
            boot={
                "user": self.request.user.get_username(),
                "staff": is_staff(self.request.user),
                "operator": may_operate_platform(self.request.user),
                "accounts": [dict(row) for row in serializer.data],
                "instruments": [
                    {name: value if name == "symbol" else f"{value:f}" for name, value in row.items()} for row in listed
                ],
                "intervals": list(INTERVALS),
                "exchange": settings.EXCHANGE,
            },
            **context,
        )


@method_decorator(admin.site.admin_view, name="dispatch")
class DeadLettersView(TemplateView):
    """Staff look at messages that could not be handled, replay them or discard them."""

    template_name = "admin/dead_letters.html"

    def post(self, request: HttpRequest) -> HttpResponse:
        act = ACTIONS.get(request.POST.get("action", ""))
        identifier = request.POST.get("letter", "")
        if act is None or not LETTER.fullmatch(identifier):
            messages.error(request, "Choose a letter and one of replay, discard.")
            return redirect("dead-letters")
        try:
            letter = act(identifier=identifier, actor=request.user.get_username())
            messages.success(request, f"{request.POST['action']}: {letter.kind} {identifier}")
        except (LetterGone, NotReplayed) as error:
            messages.error(request, str(error))
        except redis.RedisError:
            messages.error(request, "Valkey is away; try again when it is back.")
        return redirect("dead-letters")

    def get_context_data(self, **context: Any) -> dict[str, Any]:
        queue, asked = dead_letters(), self.request.GET
        rows: list[DeadLetter] = []
        one, away = None, False
        try:
            before = asked.get("before", "")
            rows = queue.newest(before=before if LETTER.fullmatch(before) else "")
            if LETTER.fullmatch(asked.get("letter", "")):
                one = queue.get(asked["letter"])
        except LetterGone as error:
            messages.warning(self.request, str(error))
        except redis.RedisError:
            away = True
        shown = [{**asdict(letter), "when": datetime.fromtimestamp(letter.at, tz=UTC)} for letter in rows]
        return super().get_context_data(
            **admin.site.each_context(self.request),
            title="Dead letters",
            letters=shown,
            one=one,
            away=away,
            waiting=queue.waiting(),
            last=rows[-1].identifier if rows else "",
            **context,
        )


@method_decorator(admin.site.admin_view, name="dispatch")
class TracePage(TemplateView):
    """What one signal, request or kill switch brought about, as far as the reader may see its accounts."""

    template_name = "admin/trace.html"

    def get_context_data(self, **context: Any) -> dict[str, Any]:
        trace_id = context.pop("trace_id")
        steps = trace_timeline(self.request.user, trace_id)
        if not steps:
            raise Http404
        each = admin.site.each_context(self.request)
        return super().get_context_data(**each, title=f"Trace {trace_id}", trace_id=trace_id, steps=steps, **context)


class BacktestsPage(LoginRequiredMixin, TemplateView):
    """All of one's backtests, and the form for a new one; ``?again=ID`` fills it with what that one was asked,
    ``?strategy=KEY`` with a strategy."""

    template_name = "backtests/list.html"

    def get_context_data(self, **context: Any) -> dict[str, Any]:
        asked = self.request.GET.get("again", "")
        again = visible_backtests(self.request.user).filter(pk=int(asked)).first() if PK.fullmatch(asked) else None
        of_candles, specs = candle_strategies(), all_strategies()
        wanted = self.request.GET.get("strategy", "")
        symbols = list(instruments().order_by("symbol").values_list("symbol", flat=True))
        return super().get_context_data(
            boot={
                "user": self.request.user.get_username(),
                "list": reverse("backtests"),
                "strategies": [{**strategy_of_form(key), "on_candles": key in of_candles} for key in sorted(specs)],
                "symbols": symbols,
                "sources": [str(each) for each in Source],
                "intervals": BAR_INTERVALS,
                "venues": VENUES,
                "ranges": choices_of_form(),
                "most": {"strategies": MOST_STRATEGIES, "groups": MOST_GROUPS},
                "open": again is not None or wanted in specs,
                "asked": again.request if again else usual_request(specs, wanted, symbols[:1]),
            },
            **context,
        )


class BacktestPage(LoginRequiredMixin, TemplateView):
    """One backtest: how far it is, or what it found."""

    template_name = "backtests/detail.html"

    def get_context_data(self, **context: Any) -> dict[str, Any]:
        run = get_object_or_404(visible_backtests(self.request.user), pk=context.pop("pk"))
        return super().get_context_data(run=run, boot={"run": run.pk, "list": reverse("backtests")}, **context)


class SearchesPage(LoginRequiredMixin, TemplateView):
    """All of one's searches for parameters, and the form for a new one; ``?of=ID`` fills it with what that backtest was
    asked, ``?again=ID`` with what that search was."""

    template_name = "backtests/searches.html"

    def get_context_data(self, **context: Any) -> dict[str, Any]:
        user, asked = self.request.user, self.request.GET
        of, again = (asked[name] if PK.fullmatch(asked.get(name, "")) else "0" for name in ("of", "again"))
        run = visible_backtests(user).filter(pk=int(of)).first()
        search = visible_searches(user).filter(pk=int(again)).first()
        symbols = list(instruments().order_by("symbol").values_list("symbol", flat=True))
        known = candle_strategies()
        begin = {"backtest": run.request if run else usual_request(known, USUAL, symbols[:1], months=6)}
        return super().get_context_data(
            boot={
                "user": user.get_username(),
                "list": reverse("searches"),
                "strategies": [strategy_of_form(key) for key in sorted(known)],
                "symbols": symbols,
                "intervals": BAR_INTERVALS,
                "venues": VENUES,
                "objectives": [str(each) for each in Objective],
                "samplers": [str(each) for each in Sampler],
                "open": run is not None or search is not None,
                "asked": search.request if search else begin,
            },
            **context,
        )


class SearchPage(LoginRequiredMixin, TemplateView):
    """One search: how far it is, what it found, and what that is worth."""

    template_name = "backtests/search.html"

    def get_context_data(self, **context: Any) -> dict[str, Any]:
        search = get_object_or_404(visible_searches(self.request.user), pk=context.pop("pk"))
        pages = {"list": reverse("searches"), "backtests": reverse("backtests")}
        return super().get_context_data(search=search, boot={"search": search.pk, **pages}, **context)


def strategy_of_form(key: str) -> dict[str, Any]:
    kind = STRATEGIES[key]
    return {"key": key, "title": kind.title, "parameters": [asdict(spec) for spec in kind.parameters]}


def usual_request(
    specs: dict[str, tuple[ParameterSpec, ...]], wanted: str, symbols: list[str], months: int = 1
) -> dict[str, Any]:
    """What a form asks for before anybody has changed it: the last full months."""
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    start = end = today.replace(day=1)
    for _ in range(months):
        start = (start - timedelta(days=1)).replace(day=1)
    strategy = next(key for key in (wanted, USUAL, min(specs)) if key in specs)
    run = {"strategy": strategy, "symbols": symbols or ["BTCUSDT"]}
    asked = {"strategies": [run], "start": start.isoformat(), "end": end.isoformat()}
    on_candles = any(spec.name == "timeframe" for spec in specs[strategy])
    found = request_to_json(request_from_json(asked, specs))
    return found if on_candles else {**found, "source": str(Source.BOOKS)}


class StatusView(LoginRequiredMixin, TemplateView):
    """How every component is; and where the audit trail stands, to be noted somewhere else."""

    template_name = "status.html"

    def get_context_data(self, **context: Any) -> dict[str, Any]:
        return super().get_context_data(audit_head=next(iter(chain_heads()), None), **context)
