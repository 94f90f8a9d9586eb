"""Text to integer ticks and lots, exactly: no float is ever in between."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from functools import lru_cache

NUMBER = re.compile(r"(0|[1-9][0-9]{0,17})(?:\.([0-9]{1,18}))?")
LARGEST = 2**62


class GridError(ValueError):
    """A number that is not on its grid, or not a plain number at all."""


def decimals_of(step: Decimal) -> int:
    """How many decimals a step has: 2 for 0.05, 0 for 10."""
    return max(0, -int(step.normalize().as_tuple().exponent))


def written_decimals(number: Decimal) -> int:
    """How many decimals a number was written with: 2 for 0.10."""
    return max(0, -int(number.as_tuple().exponent))


def finer_step(step: Decimal, value: Decimal) -> Decimal:
    """The largest step of which both the given one and the value are multiples."""
    decimals = max(decimals_of(step), decimals_of(value))
    common = math.gcd(int(step.scaleb(decimals)), int(value.scaleb(decimals)))
    return Decimal(common).scaleb(-decimals)


def common_step(texts: Iterable[str]) -> Decimal:
    """The largest step that every number is a multiple of; 1 if there is none but zeros.

    Raises:
        GridError: a text that is no number.
    """
    try:
        numbers = [Decimal(text) for text in dict.fromkeys(texts)]
    except InvalidOperation as error:
        raise GridError(f"a number cannot be read: {error}") from None
    decimals = max((decimals_of(number) for number in numbers if number), default=0)
    units = math.gcd(*(int(number.scaleb(decimals)) for number in numbers))
    return Decimal(units).scaleb(-decimals) if units else Decimal(1)


class Grid:
    """Multiples of one step (a tick size or a lot size), as int64."""

    def __init__(self, step: Decimal) -> None:
        if not step.is_finite() or step <= 0:
            raise GridError(f"the step is {step}; expected a number above 0")
        self.step = step
        self.decimals = decimals_of(step)
        self._scale = 10**self.decimals
        self._step_units = int(step * self._scale)
        # Prices repeat from message to message: most are looked up, not computed.
        self.units = lru_cache(maxsize=4_096)(self._units)

    def _units(self, text: str) -> int:
        """How many steps a plain decimal text is.

        Raises:
            GridError: a sign, an exponent, leading zeros, too many digits, or a value between two steps.
        """
        found = NUMBER.fullmatch(text)
        if found is None:
            raise GridError(f"{text!r} is not a plain number")
        whole, fraction = found.group(1), (found.group(2) or "").rstrip("0")
        if len(fraction) > self.decimals:
            raise GridError(f"{text} is not a multiple of {self.step}")
        scaled = int(whole) * self._scale + (int(fraction.ljust(self.decimals, "0")) if fraction else 0)
        units, rest = divmod(scaled, self._step_units)
        if rest:
            raise GridError(f"{text} is not a multiple of {self.step}")
        if units > LARGEST:
            raise GridError(f"{text} is too large")
        return units

    def value(self, units: int) -> Decimal:
        return self.step * units

    def text(self, units: int) -> str:
        """The plain text of so many steps, with the step's number of decimals."""
        whole, fraction = divmod(units * self._step_units, self._scale)
        return f"{whole}.{fraction:0{self.decimals}d}" if self.decimals else str(whole)
