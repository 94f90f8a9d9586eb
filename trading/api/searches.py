from __future__ import annotations

import logging
from functools import partial
from typing import Any

from celery.exceptions import OperationalError
from django.db import transaction
from django.db.models import F
from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiParameter, OpenApiTypes, extend_schema, extend_schema_field
from rest_framework import generics, serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from trading.api.alerts import one_of
from trading.api.idempotency import IDEMPOTENCY_KEY, idempotent
from trading.api.pagination import Pages
from trading.api.search_schema import EXAMPLE, SEARCH
from trading.backtest.result_packing import csv_text
from trading.models import Search, SearchTrial
from trading.selectors import search_trials, visible_searches
from trading.services.searches import search_create, search_delete, search_resume, search_stop
from trading.tasks import carry_out_search

log = logging.getLogger(__name__)

STATES = [str(state) for state in Search.State]
OUTCOMES = [str(outcome) for outcome in SearchTrial.Outcome]
SORTS = ("number", "value", "sharpe", "total_return", "max_drawdown", "trades", "profit", "seconds")
MOST_TRAININGS = 25


class SearchListSerializer(serializers.ModelSerializer):
    """A search as a line of the list."""

    owner = serializers.CharField(source="owner.username")
    progress = serializers.FloatField(help_text="0 to 1")
    strategy = serializers.SerializerMethodField()
    symbols = serializers.SerializerMethodField()
    start = serializers.CharField(source="request.backtest.start")
    end = serializers.CharField(source="request.backtest.end")
    objective = serializers.CharField(source="request.objective")
    figures = serializers.SerializerMethodField()

    class Meta:
        model = Search
        fields = [
            *("id", "owner", "name", "state", "stop_asked", "progress", "done", "total", "words", "error", "strategy"),
            *("symbols", "start", "end", "objective", "asked_at", "started_at", "finished_at", "figures"),
        ]

    def get_strategy(self, search: Search) -> str:
        return str(search.request["backtest"]["strategies"][0]["strategy"])

    def get_symbols(self, search: Search) -> list[str]:
        return sorted(search.request["backtest"]["strategies"][0]["symbols"])

    @extend_schema_field({"type": "object", "nullable": True})
    def get_figures(self, search: Search) -> dict[str, Any] | None:
        """None where nothing was found (yet). A best value never goes without what it is worth."""
        best, honesty = search.summary.get("best"), search.summary.get("honesty")
        if best is None or honesty is None:
            return None
        overfitting, walk = honesty["overfitting"], search.summary.get("walk_forward") or {}
        return {
            "value": best["value"],
            "parameters": best["parameters"],
            "deflated_sharpe": honesty["deflated_sharpe"],
            "overfitting": None if overfitting is None else overfitting["probability"],
            "walk_forward_return": (walk.get("record") or {}).get("total_return"),
        }


class SearchSerializer(SearchListSerializer):
    """All of a search but its trials. ``request`` is what was asked, defaults written out; ``summary`` what was found:
    ``best`` trial, parameter ``importances``, ``honesty`` (deflated Sharpe ratio, probability of overfitting and how
    they were reckoned), ``verdict`` (the same in words) and ``walk_forward``."""

    class Meta(SearchListSerializer.Meta):
        fields = [*SearchListSerializer.Meta.fields, "attempt", "worker", "request", "summary"]


class TrialSerializer(serializers.ModelSerializer):
    values = serializers.ListField(child=serializers.FloatField(allow_null=True), help_text="after each fold")

    class Meta:
        model = SearchTrial
        fields = [
            *("number", "parameters", "outcome", "value", "values", "sharpe", "total_return", "max_drawdown"),
            *("trades", "profit", "words", "seconds"),
        ]


def own(request: Request, pk: str) -> Search:
    search: Search = get_object_or_404(visible_searches(request.user), pk=int(pk))
    return search


def send(search_id: int) -> None:
    """To a worker. While the broker is away the search waits in the database, and is sent within a minute or so."""
    try:
        carry_out_search.apply_async((search_id,), retry=False)
    except OperationalError as error:
        log.warning("search %s is not sent to a worker yet: %s", search_id, error)


class SearchListView(generics.ListAPIView):
    serializer_class = SearchListSerializer
    pagination_class = Pages

    @extend_schema(parameters=[OpenApiParameter("state", str, enum=STATES)])
    def get(self, request: Request, *args: Any, **options: Any) -> Response:
        """Your searches for parameters (staff: everybody's); the newest first."""
        return super().get(request, *args, **options)

    def get_queryset(self) -> Any:
        rows = visible_searches(self.request.user)
        if state := self.request.query_params.get("state"):
            rows = rows.filter(state=one_of("state", state, STATES))
        return rows

    @extend_schema(
        parameters=[IDEMPOTENCY_KEY],
        request={"application/json": SEARCH},
        responses={201: SearchSerializer},
        examples=[EXAMPLE],
    )
    @idempotent
    def post(self, request: Request) -> Response:
        """Ask for a search for parameters. It waits for a worker; follow ``progress`` under its ``id``."""
        data = dict(request.data) if isinstance(request.data, dict) else request.data
        name = data.pop("name", "") if isinstance(data, dict) else ""
        search = search_create(owner=request.user, data=data, name=name)
        transaction.on_commit(partial(send, search.pk))
        return Response(SearchSerializer(search).data, status=status.HTTP_201_CREATED)


class SearchDetailView(APIView):
    @extend_schema(responses=SearchSerializer)
    def get(self, request: Request, pk: str) -> Response:
        """What was asked, how far it is, and what it found, with what that is worth."""
        return Response(SearchSerializer(own(request, pk)).data)

    @extend_schema(responses={204: None})
    def delete(self, request: Request, pk: str) -> Response:
        """Delete one that is over."""
        search_delete(search=own(request, pk), actor=request.user.get_username())
        return Response(status=status.HTTP_204_NO_CONTENT)


class SearchStopView(APIView):
    @extend_schema(request=None, responses=SearchSerializer)
    def post(self, request: Request, pk: str) -> Response:
        """Stop one that waits or runs; its trials stay, and it can go on later."""
        search = search_stop(search=own(request, pk), actor=request.user.get_username())
        return Response(SearchSerializer(search).data)


class SearchResumeView(APIView):
    @extend_schema(request=None, responses=SearchSerializer)
    def post(self, request: Request, pk: str) -> Response:
        """Go on with one that was stopped or failed, after the last of its trials."""
        search = search_resume(search=own(request, pk), actor=request.user.get_username())
        transaction.on_commit(partial(send, search.pk))
        return Response(SearchSerializer(search).data)


TRAINING = OpenApiParameter(
    "training", int, description="0 (as usual): of all of the time; 1 and on: a training of walk-forward"
)


class SearchTrialsView(generics.ListAPIView):
    serializer_class = TrialSerializer
    pagination_class = Pages

    @extend_schema(
        parameters=[
            TRAINING,
            OpenApiParameter("outcome", str, enum=OUTCOMES),
            OpenApiParameter("sort", str, enum=[sign + name for name in SORTS for sign in ("", "-")]),
        ]
    )
    def get(self, request: Request, *args: Any, **options: Any) -> Response:
        """The trials; those without the figure that they are sorted by come last."""
        return super().get(request, *args, **options)

    def get_queryset(self) -> Any:
        asked = self.request.query_params
        rows = search_trials(own(self.request, self.kwargs["pk"]), training_of(asked.get("training", "0")))
        if outcome := asked.get("outcome"):
            rows = rows.filter(outcome=one_of("outcome", outcome, OUTCOMES))
        sort = asked.get("sort", "number")
        column = F(one_of("sort", sort.removeprefix("-"), SORTS))
        order = column.desc(nulls_last=True) if sort.startswith("-") else column.asc(nulls_last=True)
        return rows.defer("returns").order_by(order, "number")


class SearchTrialsFileView(APIView):
    @extend_schema(parameters=[TRAINING], responses={(200, "text/csv"): OpenApiTypes.STR})
    def get(self, request: Request, pk: str) -> HttpResponse:
        """All trials as a CSV file."""
        search = own(request, pk)
        rows = search_trials(search, training_of(request.query_params.get("training", "0"))).defer("returns")
        names = list(search.request["space"])
        figures = ("value", "sharpe", "total_return", "max_drawdown", "trades", "profit", "words")
        table = (
            [
                row.number,
                row.outcome,
                *(row.parameters[name] for name in names),
                *(getattr(row, one) for one in figures),
            ]
            for row in rows.order_by("number")
        )
        answer = HttpResponse(csv_text(["number", "outcome", *names, *figures], table), content_type="text/csv")
        answer["Content-Disposition"] = f'attachment; filename="search-{search.pk}-trials.csv"'
        return answer


def training_of(value: str) -> int:
    if not value.isascii() or not value.isdigit() or len(value) > 3 or int(value) >= MOST_TRAININGS:
        raise serializers.ValidationError({"training": [f"{value[:20]!r} must be 0 to {MOST_TRAININGS - 1}"]})
    return int(value)
