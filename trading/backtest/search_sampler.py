"""Which parameters are tried next: Optuna's samplers and pruner, asked and told trial by trial.

Nothing of Optuna is stored. What it knows is the trials so far, which are in our own table; what it draws depends on
the seed, the trial's number and these trials only. So a search whose worker was killed goes on as if nothing had been,
and the same search finds the same again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.pruners import BasePruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import TrialState, create_trial

from trading.backtest.search import Trial, TrialOutcome
from trading.backtest.search_request import Dimension, Sampler, SearchRequest

# Chosen by chance before the estimators have something to go by.
STARTUP_TRIALS = 12
# A trial is given up only where so many were carried through that far, and not at the first fold.
PRUNE_AFTER_TRIALS, PRUNE_AFTER_FOLDS = 8, 1
# A small space is soon tried where it is good: then something else is drawn.
ASKS = 10
# Worse than everything: samplers and pruner look only at the order of the values.
WORST = -1e12
STATES = {TrialOutcome.PRUNED: TrialState.PRUNED, TrialOutcome.FAILED: TrialState.FAIL}
Places = tuple[int, ...]


class Proposals:
    """The trials of one training."""

    def __init__(self, request: SearchRequest, training: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._request, self._space, self._training = request, request.space, training
        self._distributions: dict[str, BaseDistribution] = {each.name: _distribution(each) for each in request.space}
        self._study = optuna.create_study(direction="maximize", pruner=_pruner(request))
        self._tried: set[Places] = set()
        self._number = 0
        is_grid = request.sampler is Sampler.GRID or request.tries == request.size
        self._order = np.random.default_rng([request.seed, training]).permutation(request.size) if is_grid else None
        self._current: optuna.Trial | None = None

    def replay(self, trials: Sequence[Trial]) -> None:
        """What was tried already, in the order of the numbers."""
        for trial in trials:
            self._study.add_trial(
                create_trial(
                    state=STATES.get(trial.outcome, TrialState.COMPLETE),
                    params=self._params(self._places_of(trial.parameters)),
                    distributions=self._distributions,
                    value=None if trial.outcome is TrialOutcome.FAILED else _told(trial),
                    intermediate_values=dict(enumerate(_shown(value) for value in trial.values)),
                )
            )
            self._note(self._places_of(trial.parameters))

    def ask(self) -> dict[str, Any]:
        """The parameters of the next trial: such as were not tried yet."""
        order = self._order
        places = self._drawn_places() if order is None else self._unravelled(int(order[self._number]))
        self._study.enqueue_trial(self._params(places))
        self._current = self._study.ask(self._distributions)
        self._note(places)
        return {each.name: each.value(place) for each, place in zip(self._space, places, strict=True)}

    def is_hopeless(self, values: Sequence[float | None]) -> bool:
        """Whether the trial is below the middle of those before it, after as many folds as there are values."""
        trial = self._asked()
        trial.report(_shown(values[-1]), len(values) - 1)
        return trial.should_prune()

    def tell(self, trial: Trial) -> None:
        state = STATES.get(trial.outcome, TrialState.COMPLETE)
        value = _told(trial) if state is TrialState.COMPLETE else None
        self._study.tell(self._asked(), value, state=state)
        self._current = None

    def _asked(self) -> optuna.Trial:
        if self._current is None:
            raise RuntimeError("no trial was asked for")
        return self._current

    def _note(self, places: Places) -> None:
        self._tried.add(places)
        self._number += 1

    def _places_of(self, parameters: Mapping[str, Any]) -> Places:
        return tuple(each.place(parameters[each.name]) for each in self._space)

    def _params(self, places: Places) -> dict[str, Any]:
        return {
            each.name: each.choices[place] if each.kind == "choice" else place
            for each, place in zip(self._space, places, strict=True)
        }

    def _unravelled(self, index: int) -> Places:
        places = []
        for each in reversed(self._space):
            index, place = divmod(index, each.size)
            places.append(place)
        return tuple(reversed(places))

    def _drawn_places(self) -> Places:
        for ask in range(ASKS):
            seed = np.random.SeedSequence([self._request.seed, self._training, self._number, ask]).generate_state(1)[0]
            self._study.sampler = _sampler(self._request.sampler, int(seed))
            trial = self._study.ask(self._distributions)
            places = self._places_from(trial.params)
            # It was only asked what it would try. What failed says nothing to the samplers.
            self._study.tell(trial, state=TrialState.FAIL)
            if places not in self._tried:
                return places
        random = np.random.default_rng([self._request.seed, self._training, self._number])
        while (places := self._unravelled(int(random.integers(self._request.size)))) in self._tried:
            pass
        return places

    def _places_from(self, params: Mapping[str, Any]) -> Places:
        return tuple(
            each.choices.index(params[each.name]) if each.kind == "choice" else int(params[each.name])
            for each in self._space
        )


def _distribution(dimension: Dimension) -> BaseDistribution:
    if dimension.kind == "choice":
        return CategoricalDistribution(dimension.choices)
    return IntDistribution(0, dimension.size - 1)


def _pruner(request: SearchRequest) -> BasePruner:
    if not request.prune:
        return NopPruner()
    return MedianPruner(n_startup_trials=PRUNE_AFTER_TRIALS, n_warmup_steps=PRUNE_AFTER_FOLDS - 1)


def _sampler(sampler: Sampler, seed: int) -> BaseSampler:
    if sampler is Sampler.TPE:
        return TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS, multivariate=False)
    return RandomSampler(seed=seed)


def _told(trial: Trial) -> float:
    if trial.outcome is TrialOutcome.PRUNED:
        return _shown(trial.values[-1])
    return WORST if trial.value is None else trial.value


def _shown(value: float | None) -> float:
    return WORST if value is None else value
