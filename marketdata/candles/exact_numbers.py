"""Decimal numbers as whole numbers of a power of ten, a column at once, and exactly."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal

import numpy as np
from numpy.typing import NDArray

from marketdata.candles.packing import LARGEST

# A float names a decimal of up to 15 digits without doubt; so many characters hold no more of them.
MOST_DIGITS = 15
MOST_CHARACTERS = MOST_DIGITS + 1
# Powers of ten up to this are floats exactly; rates that somebody added up as floats have 19 decimals.
MOST_DECIMALS = 22
_FLOAT_EXACT = 10.0**MOST_DIGITS
_PLAIN = re.compile(r"[0-9.]*")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
_LONGEST = 60
# What Python's decimal arithmetic keeps.
_MOST_KEPT_DIGITS = 28


@dataclass(frozen=True, slots=True)
class Units:
    """``numbers`` int64, in units of ``10 ** -decimals``; ``bad``: places of what is no such number (0 there), each
    with what is wrong."""

    numbers: NDArray[np.int64]
    decimals: int
    bad: tuple[tuple[int, str], ...] = ()


def units_of_texts(texts: Sequence[str]) -> Units:
    """As few decimals as the column needs."""
    if _PLAIN.fullmatch("".join(texts)) and max(map(len, texts), default=0) <= MOST_CHARACTERS:
        try:
            found = _units_of_exact_floats(np.array(texts, dtype=np.float64))
        except ValueError:
            found = None
        if found is not None:
            return found
    return _units_of_decimals([_decimal(text) for text in texts])


def units_of_floats(values: NDArray[np.float64]) -> Units:
    """Each as the shortest decimal that is that float."""
    found = _units_of_exact_floats(values)
    return found if found is not None else _units_of_decimals([_decimal(repr(value)) for value in values.tolist()])


def rescaled(numbers: NDArray[np.int64], places: int) -> NDArray[np.int64] | None:
    """Times ``10 ** places``, which is not below 0; None where that is too large."""
    if places == 0:
        return numbers
    largest = int(np.abs(numbers).max(initial=0))
    if largest == 0:
        return numbers
    return numbers * np.int64(10**places) if largest * 10**places < LARGEST else None


def fewest_decimals(columns: Sequence[NDArray[np.int64]], decimals: int) -> tuple[list[NDArray[np.int64]], int]:
    """The same values with as few decimals as they need."""
    found = list(columns)
    while decimals > 0 and not any(np.any(column % 10) for column in found):
        found, decimals = [column // 10 for column in found], decimals - 1
    return found, decimals


def _units_of_exact_floats(values: NDArray[np.float64]) -> Units | None:
    """None where they are not all finite and of few digits."""
    if not np.all(np.isfinite(values)):
        return None
    for decimals in range(MOST_DECIMALS + 1):
        power = 10.0**decimals
        units = np.rint(values * power)
        if np.abs(units).max(initial=0) >= _FLOAT_EXACT:
            return None
        # A whole number divided by a power of ten is rounded once: the float that its decimal text reads as.
        if np.array_equal(units / power, values):
            return Units(units.astype(np.int64), decimals)
    return None


def _decimal(text: str) -> Decimal | str:
    """The number, or what is wrong with it."""
    stripped = text.strip()
    if not stripped:
        return "is empty"
    if len(stripped) > _LONGEST or not _NUMBER.fullmatch(stripped):
        return f"is {stripped[:40]!r}; expected a number"
    number = Decimal(stripped)
    if len(number.as_tuple().digits) > _MOST_KEPT_DIGITS:
        return f"is {stripped[:40]}; it has more digits than can be kept"
    return number


def _units_of_decimals(values: Sequence[Decimal | str]) -> Units:
    bad: list[tuple[int, str]] = []
    numbers: list[Decimal] = []
    decimals = 0
    for place, value in enumerate(values):
        if isinstance(value, str):
            bad.append((place, value))
            numbers.append(Decimal(0))
            continue
        needed = decimals_of(value)
        if needed > MOST_DECIMALS or abs(value).scaleb(needed) >= LARGEST:
            bad.append((place, f"is {value}; it has more digits than can be kept"))
            numbers.append(Decimal(0))
            continue
        decimals = max(decimals, needed)
        numbers.append(value)
    while any(abs(number).scaleb(decimals) >= LARGEST for number in numbers):
        # The finest ones are what does not fit: the others are of the size that they are.
        finest = max(decimals_of(number) for number in numbers)
        for place, number in enumerate(numbers):
            if decimals_of(number) == finest:
                bad.append((place, f"is {number}; it has more decimals than can be kept beside the others"))
                numbers[place] = Decimal(0)
        decimals = max(decimals_of(number) for number in numbers)
    units = np.array([int(number.scaleb(decimals)) for number in numbers], dtype=np.int64)
    return Units(units, decimals, tuple(sorted(bad)))


def decimals_of(number: Decimal) -> int:
    """How many digits behind the point it needs."""
    exponent = number.normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def rounded_text(text: str, decimals: int) -> str:
    """Rounded to so many decimals, half to even; what is no number stays as it is."""
    stripped = text.strip()
    if len(stripped) > _MOST_KEPT_DIGITS or not _NUMBER.fullmatch(stripped):
        return text
    return f"{Decimal(stripped).quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_EVEN):f}"
