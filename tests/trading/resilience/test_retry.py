from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from trading.resilience.retry import NO_RETRY, Backoff


@given(
    attempts=st.integers(1, 12),
    first=st.floats(0.001, 5.0),
    factor=st.floats(1.0, 4.0),
    longest=st.floats(0.01, 30.0),
    seed=st.integers(0, 2**32),
)
def test_pauses_are_within_their_bound_and_bounds_grow_to_the_longest_and_no_further(
    attempts: int, first: float, factor: float, longest: float, seed: int
) -> None:
    backoff, generator = Backoff(attempts, first, factor, longest), random.Random(seed)
    bounds = [backoff.bound(failed) for failed in range(1, attempts)]
    assert bounds == sorted(bounds) and all(bound <= longest for bound in bounds)
    for failed, bound in enumerate(bounds, start=1):
        pause = backoff.pause(failed, generator)
        assert pause is not None and 0 <= pause <= bound
    assert backoff.pause(attempts, generator) is None


def test_three_attempts_with_doubling_bounds_are_the_default_and_one_is_no_retry() -> None:
    assert [Backoff().bound(failed) for failed in (1, 2, 3)] == [0.25, 0.5, 1.0]
    assert Backoff().bound(50) == 10.0
    assert NO_RETRY.pause(1) is None


def test_the_jitter_uses_the_whole_range() -> None:
    pauses = [Backoff().pause(2, random.Random(seed)) or 0.0 for seed in range(400)]
    assert min(pauses) < 0.02 and max(pauses) > 0.48
