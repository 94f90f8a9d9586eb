"""Elliott waves, counted on the turns of a zigzag.

Each of the last nine turns is tried as the start of a count; the swings that ended since then are its waves 1 to 5,
then A, B and C, and the swing under way is the next one (after C a new wave 1). A count that breaks a rule is dropped:

- wave 2 and the correction A-B-C stay beyond the start of wave 1;
- wave 3 goes beyond the end of wave 1 and is not the shortest of 1, 3 and 5;
- wave 4 stays beyond the end of wave 1;
- wave B stays within 1.382 of wave A.

The swing under way must not have broken them either. The confidence of a count with ``n`` ended waves is
``(0.5 + 0.5 * fit) * (1 - 2 ** -n)``: the rules hold, the waves have the lengths that Fibonacci's ratios foretell, and
there are enough of them. ``fit`` is the mean over the waves from the second on of ``1 - |ln(ratio / nearest)| /
ln(1.618)``, not below 0 (0 where there is none yet). The surest count is the answer, the longer one between equals.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from strategies.compiled import inner, kernel, plain
from strategies.indicators.zigzag import CONFIRMED, EXTREME, PIVOT, zigzag_update
from strategies.indicators.zigzag import state_size as zigzag_size

State = NDArray[np.float64]
# WAVE is the wave under way: 1 to 5, then 6, 7, 8 for A, B, C; 0 without a count. TREND is 1 where the count's impulse
# (waves 1 to 5) goes up, -1 where it goes down. WAVE_START is where the wave under way began, FIRST_HEIGHT the height
# of wave 1 (so far, while it is under way), both in quote coin. The turns follow, the last one first, then the zigzag.
WAVE, TREND, CONFIDENCE, WAVE_START, FIRST_HEIGHT, KNOWN, TURNS = range(7)
MOST_TURNS = 9
WAVE_A, WAVE_B, WAVE_C = 6, 7, 8
GOLDEN = 1.618
TOLERANCE = math.log(GOLDEN)
LARGEST_B = 1.382
# By wave, 2 to C: the ratios that are looked for, to wave 1 (2, 3, 5), wave 3 (4), the whole impulse (A), A (B, C).
RATIOS = np.array(
    [
        [0.382, 0.5, 0.618],
        [1.0, 1.618, 2.618],
        [0.236, 0.382, 0.5],
        [0.618, 1.0, 1.618],
        [0.382, 0.5, 0.618],
        [0.5, 0.618, 0.786],
        [0.618, 1.0, 1.618],
    ]
)


@plain
def state_size() -> int:
    return TURNS + MOST_TURNS + zigzag_size()


@inner
def _rules_hold(turns: State, waves: int, running: float, trend: float) -> bool:
    """``turns[waves]`` is the start; heights above it, in the trend's direction, tell all there is to know."""
    start = turns[waves]
    now = (running - start) * trend
    if waves >= 1 and now <= 0:
        return False
    first = (turns[waves - 1] - start) * trend if waves >= 1 else now
    if waves >= 2 and (turns[waves - 2] - start) * trend <= 0:
        return False
    if waves >= 3 and (turns[waves - 3] - start) * trend <= first:
        return False
    if waves == 3 and now <= first:
        return False
    if waves >= 4 and (turns[waves - 4] - start) * trend <= first:
        return False
    if waves >= 5:
        third = abs(turns[waves - 3] - turns[waves - 2])
        if third < first and third < abs(turns[waves - 5] - turns[waves - 4]):
            return False
    for wave in range(6, waves + 1):
        if (turns[waves - wave] - start) * trend <= 0:
            return False
    if waves < 6:
        return True
    b_end = turns[waves - 7] if waves >= 7 else running
    return abs(b_end - turns[waves - 6]) <= LARGEST_B * abs(turns[waves - 6] - turns[waves - 5])


@inner
def _fit(turns: State, waves: int) -> float:
    total = 0.0
    for wave in range(2, waves + 1):
        height = abs(turns[waves - wave] - turns[waves - wave + 1])
        if wave == WAVE_A:
            whole = abs(turns[waves - 5] - turns[waves])
        elif wave > WAVE_A:
            whole = abs(turns[waves - 6] - turns[waves - 5])
        elif wave == 4:
            whole = abs(turns[waves - 3] - turns[waves - 2])
        else:
            whole = abs(turns[waves - 1] - turns[waves])
        nearest = 1.0
        for index in range(RATIOS.shape[1]):
            nearest = min(nearest, abs(math.log(height / whole / RATIOS[wave - 2, index])) / TOLERANCE)
        total += 1.0 - nearest
    return total / (waves - 1) if waves > 1 else 0.0


@inner
def _count(state: State, running: float) -> None:
    """Choose the surest count of the turns in ``state``; ``running`` is how far the swing under way has come."""
    turns = state[TURNS : TURNS + MOST_TURNS]
    state[WAVE] = state[TREND] = state[CONFIDENCE] = 0.0
    state[WAVE_START], state[FIRST_HEIGHT] = turns[0], abs(running - turns[0])
    for waves in range(1, min(int(state[KNOWN]), MOST_TURNS)):
        trend = 1.0 if turns[waves - 1] > turns[waves] else -1.0
        if not _rules_hold(turns, waves, running, trend):
            continue
        confidence = (0.5 + 0.5 * _fit(turns, waves)) * (1.0 - 0.5**waves)
        if confidence >= state[CONFIDENCE]:
            state[CONFIDENCE], state[TREND] = confidence, trend
            state[WAVE] = waves + 1 if waves < WAVE_C else 1
            state[FIRST_HEIGHT] = abs(turns[waves - 1] - turns[waves]) if waves < WAVE_C else abs(running - turns[0])


@inner
def elliott_follow(
    state: State, high: float, low: float, close: float, percent: float, multiple: float, period: int
) -> bool:
    """Take a bar without counting: counting takes far longer than all else, and is needed only where somebody asks.
    False while there are fewer than two turns."""
    zigzag = state[TURNS + MOST_TURNS :]
    pivot = zigzag_update(zigzag, high, low, close, percent, multiple, period)
    if math.isnan(pivot):
        return False
    if zigzag[CONFIRMED] > 0:
        for index in range(MOST_TURNS - 1, 0, -1):
            state[TURNS + index] = state[TURNS + index - 1]
        state[TURNS] = zigzag[PIVOT]
        state[KNOWN] += 1
    return bool(state[KNOWN] >= 2)


@inner
def elliott_count(state: State) -> float:
    """The wave under way (``WAVE``) after the bar that :func:`elliott_follow` took."""
    _count(state, state[TURNS + MOST_TURNS + EXTREME])
    return state[WAVE]


@kernel("float64(float64[::1], float64, float64, float64, float64, float64, int64)")
def elliott_update(
    state: State, high: float, low: float, close: float, percent: float, multiple: float, period: int
) -> float:
    """The wave under way (``WAVE``), from the second turn on; parameters are the zigzag's. Constant time."""
    if not elliott_follow(state, high, low, close, percent, multiple, period):
        return np.nan
    return elliott_count(state)


@kernel("float64[:, ::1](float64[::1], float64[::1], float64[::1], float64, float64, int64)")
def elliott_series(highs: State, lows: State, closes: State, percent: float, multiple: float, period: int) -> State:
    """Wave, trend and confidence; shape (3, n)."""
    state, lines = np.zeros(state_size()), np.empty((3, len(closes)))
    for index in range(len(closes)):
        wave = elliott_update(state, highs[index], lows[index], closes[index], percent, multiple, period)
        lines[0, index] = wave
        lines[1, index] = np.nan if math.isnan(wave) else state[TREND]
        lines[2, index] = np.nan if math.isnan(wave) else state[CONFIDENCE]
    return lines
