"""What a search for parameters is asked: a backtest, which of its strategy's parameters may move and how far, and how
the results are judged. As a value, as JSON, and back; what is wrong is told all at once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from marketdata.candles.series import DAY_MS
from marketdata.instruments import Violation
from strategies.base import ParameterSpec
from trading.backtest.request import BacktestRequest, Source
from trading.backtest.request_json import (
    FieldError,
    Number,
    Reader,
    RequestInvalid,
    Specs,
    one_of,
    request_from_json,
    request_to_json,
    shown,
    switch,
)
from trading.backtest.walk_forward import Span, Split, SplitError, WalkForward, folds_of, splits_of

MOST_TRIALS = 2_000
MOST_STEPS = 100_000
# How many steps a range has where nobody says how fine it shall be.
USUAL_STEPS = 50
DECIMALS = 10
SEARCH_FIELDS = (
    *("backtest", "space", "objective", "sampler", "trials", "seed", "folds"),
    *("prune", "least_trades", "walk_forward"),
)
WALK_FIELDS = ("splits", "train_days", "purge_days", "embargo_days", "anchored")


class Objective(StrEnum):
    """What is made as large as can be, of the daily returns."""

    SHARPE = "sharpe"
    SORTINO = "sortino"
    CALMAR = "calmar"
    TOTAL_RETURN = "total_return"


class Sampler(StrEnum):
    """How the next parameters are chosen: by what was found (tree-structured Parzen estimators), by chance, or all."""

    TPE = "tpe"
    RANDOM = "random"
    GRID = "grid"


def whole(least: int, most: int, words: str) -> Number:
    return Number(Decimal(least), Decimal(most), words, whole=True)


TRIALS = whole(1, MOST_TRIALS, "sets of parameters that are tried, in each training")
FOLDS = whole(1, 20, "parts that a trial is carried through one after the other")
LEAST_TRADES = whole(0, 1_000_000, "trades; a trial with fewer is not judged")
SEED = whole(0, 2**31 - 1, "of everything that is drawn")
SPLITS = whole(1, 24, "trainings, each followed by a test")
TRAIN_DAYS = whole(1, 3_650, "days of a training")
GAP_DAYS = whole(0, 365, "days between training and test")
WALK: Mapping[str, Number] = {
    "splits": SPLITS,
    "train_days": TRAIN_DAYS,
    "purge_days": GAP_DAYS,
    "embargo_days": GAP_DAYS,
}


@dataclass(frozen=True, slots=True)
class Dimension:
    """The values that one parameter may take, numbered from 0: ``low``, ``low + step`` ... up to ``high``, or the
    choices."""

    name: str
    kind: str
    low: float = 0.0
    high: float = 0.0
    step: float = 1.0
    choices: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        if self.kind == "choice":
            return len(self.choices)
        return math.floor((self.high - self.low) / self.step + 1e-9) + 1

    def value(self, place: int) -> int | float | str:
        if self.kind == "choice":
            return self.choices[place]
        number = round(self.low + place * self.step, DECIMALS)
        return round(number) if self.kind == "int" else number

    def place(self, value: Any) -> int:
        if self.kind == "choice":
            return self.choices.index(str(value))
        return round((float(value) - self.low) / self.step)


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """``backtest`` has one strategy, whose parameters are those that do not move."""

    backtest: BacktestRequest
    space: tuple[Dimension, ...]
    objective: Objective = Objective.SHARPE
    sampler: Sampler = Sampler.TPE
    trials: int = 100
    seed: int = 7
    folds: int = 4
    prune: bool = True
    least_trades: int = 10
    walk_forward: WalkForward | None = None

    @property
    def span(self) -> Span:
        return Span(self.backtest.start_ms, self.backtest.end_ms)

    @property
    def size(self) -> int:
        """How many sets of parameters there are."""
        return math.prod(dimension.size for dimension in self.space)

    @property
    def tries(self) -> int:
        """How many are tried in each training: never one twice."""
        return self.size if self.sampler is Sampler.GRID else min(self.trials, self.size)

    @property
    def splits(self) -> tuple[Split, ...]:
        return splits_of(self.span, self.walk_forward, DAY_MS) if self.walk_forward else ()

    @property
    def trainings(self) -> tuple[Span, ...]:
        """All of the time first, then the training of each split."""
        return (self.span, *(split.train for split in self.splits))

    @property
    def total(self) -> int:
        """Trials in all trainings."""
        return self.tries * len(self.trainings)

    def with_parameters(self, parameters: Mapping[str, Any], span: Span) -> BacktestRequest:
        """The backtest of one trial."""
        (run,) = self.backtest.strategies
        merged = MappingProxyType({**run.parameters, **parameters})
        return replace(
            self.backtest,
            strategies=(replace(run, parameters=merged),),
            start_ms=span.start_ms,
            end_ms=span.end_ms,
        )


def search_request_from_json(data: Any, specs: Specs) -> SearchRequest:
    """What is asked. ``specs``: the parameters of each strategy that there is, by its key.

    Raises:
        RequestInvalid: with every field that breaks a rule.
    """
    if not isinstance(data, Mapping):
        raise RequestInvalid([Violation("request", shown(data), "must be an object")])
    found: list[Violation] = []
    reader = Reader(data, "", found)
    reader.known(SEARCH_FIELDS)
    backtest = _backtest(reader, specs)
    space = _space(reader, backtest, specs) if backtest else ()
    request = SearchRequest(
        backtest=backtest or BacktestRequest((), 0, 0),
        space=space,
        objective=Objective(reader.read("objective", one_of(Objective), Objective.SHARPE)),
        sampler=Sampler(reader.read("sampler", one_of(Sampler), Sampler.TPE)),
        trials=reader.read("trials", TRIALS.read, 100),
        seed=reader.read("seed", SEED.read, 7),
        folds=reader.read("folds", FOLDS.read, 4),
        prune=reader.read("prune", switch, True),
        least_trades=reader.read("least_trades", LEAST_TRADES.read, 10),
        walk_forward=_walk_forward(reader),
    )
    if not found:
        _refuse_what_does_not_fit(reader, request)
    if found:
        raise RequestInvalid(found)
    return request


def _backtest(reader: Reader, specs: Specs) -> BacktestRequest | None:
    if "backtest" not in reader.data:
        reader.refuse("backtest", "", "is required: what is searched, as in POST /api/v1/backtests")
        return None
    try:
        request = request_from_json(reader.data["backtest"], specs)
    except RequestInvalid as error:
        reader.found.extend(replace(each, field=f"backtest.{each.field}") for each in error.violations)
        return None
    if len(request.strategies) != 1:
        reader.refuse("backtest.strategies", len(request.strategies), "must be one strategy")
        return None
    if request.source is not Source.CANDLES:
        reader.refuse("backtest.source", request.source, "must be candles: recordings are too slow to search")
        return None
    return request


def _space(reader: Reader, backtest: BacktestRequest, specs: Specs) -> tuple[Dimension, ...]:
    known = {spec.name: spec for spec in specs[backtest.strategies[0].strategy]}
    inner = reader.inner("space")
    inner.known(known)
    if not inner.data and not inner.found:
        rule = f"must name at least one parameter that may move, of {', '.join(known)}; {{}} is its whole range"
        reader.refuse("space", reader.data.get("space", ""), rule)
    return tuple(_dimension(inner.inner(name), spec) for name, spec in known.items() if name in inner.data)


def _dimension(reader: Reader, spec: ParameterSpec) -> Dimension:
    if spec.kind == "choice":
        reader.known(("choices",))
        return Dimension(spec.name, "choice", choices=reader.read("choices", _choices(spec), spec.choices))
    reader.known(("low", "high", "step"))
    least, most = float(spec.minimum or 0.0), float(spec.maximum or 0.0)
    is_int = spec.kind == "int"
    number = Number(exactly(least), exactly(most), spec.help, whole=is_int)
    low = float(reader.read("low", number.read, least))
    high = float(reader.read("high", number.read, most))
    if low > high:
        reader.refuse("high", reader.data.get("high", most), f"must not be below low, {low:g}")
        low, high = least, most
    smallest = "1" if is_int else "0.000001"
    step = Number(Decimal(smallest), exactly(max(1.0, most - least)), "", whole=is_int)
    chosen = float(reader.read("step", step.read, usual_step(low, high, is_int)))
    dimension = Dimension(spec.name, spec.kind, low, high, chosen)
    if dimension.size > MOST_STEPS:
        reader.refuse("step", f"{chosen:g}", f"makes {dimension.size} values; at most {MOST_STEPS}")
    return dimension


def _choices(spec: ParameterSpec) -> Any:
    def take(value: Any) -> tuple[str, ...]:
        is_list = isinstance(value, (list, tuple)) and value
        if not is_list or not all(isinstance(each, str) and each in spec.choices for each in value):
            raise FieldError(f"must be a list of some of {', '.join(spec.choices)}")
        if len(set(value)) < len(value):
            raise FieldError("must name each choice once")
        return tuple(value)

    return take


def exactly(number: float) -> Decimal:
    return Decimal(repr(number)).normalize()


def usual_step(low: float, high: float, is_int: bool) -> float:
    """1, 2 or 5 times a power of ten, so that there are about :data:`USUAL_STEPS`."""
    least = 1.0 if is_int else 10.0**-6
    wanted = (high - low) / USUAL_STEPS
    if wanted <= least:
        return least
    power = math.floor(math.log10(wanted) + 1e-9)
    scale = max(each for each in (1, 2, 5) if each * 10.0**power <= wanted * (1 + 1e-9))
    return max(least, round(scale * 10.0**power, DECIMALS))


def _walk_forward(reader: Reader) -> WalkForward | None:
    if reader.data.get("walk_forward") is None:
        return None
    inner = reader.inner("walk_forward")
    inner.known(WALK_FIELDS)
    days = {name: inner.read(name, number.read, 0) for name, number in WALK.items()}
    for name in ("splits", "train_days"):
        if name not in inner.data:
            inner.refuse(name, "", f"is required: {WALK[name].help}")
    return WalkForward(
        splits=days["splits"],
        train_ms=days["train_days"] * DAY_MS,
        purge_ms=days["purge_days"] * DAY_MS,
        embargo_ms=days["embargo_days"] * DAY_MS,
        anchored=inner.read("anchored", switch, False),
    )


def _refuse_what_does_not_fit(reader: Reader, request: SearchRequest) -> None:
    if request.sampler is Sampler.GRID and request.size > request.trials:
        rule = f"{request.size} sets of parameters are more than {request.trials} trials; coarser steps, or more trials"
        reader.refuse("sampler", request.sampler, rule)
    try:
        trainings: Sequence[Span] = request.trainings
    except SplitError as error:
        reader.refuse("walk_forward", reader.data["walk_forward"], str(error))
        return
    for training in trainings:
        try:
            folds_of(training, request.folds, DAY_MS)
        except SplitError as error:
            reader.refuse("folds", request.folds, f"{error} (a step is a day)")
            return


def search_request_to_json(request: SearchRequest) -> dict[str, Any]:
    """Everything that was asked, defaults written out: :func:`search_request_from_json` gives the same again."""
    walk = request.walk_forward
    return {
        "backtest": request_to_json(request.backtest),
        "space": {dimension.name: _range_of(dimension) for dimension in request.space},
        "objective": str(request.objective),
        "sampler": str(request.sampler),
        "trials": request.trials,
        "seed": request.seed,
        "folds": request.folds,
        "prune": request.prune,
        "least_trades": request.least_trades,
        "walk_forward": None
        if walk is None
        else {
            "splits": walk.splits,
            "train_days": walk.train_ms // DAY_MS,
            "purge_days": walk.purge_ms // DAY_MS,
            "embargo_days": walk.embargo_ms // DAY_MS,
            "anchored": walk.anchored,
        },
    }


def _range_of(dimension: Dimension) -> dict[str, Any]:
    if dimension.kind == "choice":
        return {"choices": list(dimension.choices)}
    numbers = {name: getattr(dimension, name) for name in ("low", "high", "step")}
    return {name: round(each) if dimension.kind == "int" else each for name, each in numbers.items()}
