"""What a strategy is: parameters in, market data in, signals out. No clock, no exchange, no account: time comes with
the data, so one object runs live, on paper and in a replay and decides the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from marketdata.events import BookView, Candle, Trade
from strategies.signals import Signal


@dataclass(frozen=True, slots=True)
class ParameterSpec:
    """One parameter of a strategy: enough to validate a value, draw a form field and explain it.

    ``kind`` is ``int``, ``float`` or ``choice``; ``choices`` belong to the last.
    """

    name: str
    kind: str
    default: int | float | str
    help: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()

    @property
    def rule(self) -> str:
        if self.kind == "choice":
            return f"must be one of {', '.join(self.choices)}"
        noun = "a whole number" if self.kind == "int" else "a number"
        unit = f" {self.unit}" if self.unit else ""
        return f"must be {noun} from {self.minimum:g} to {self.maximum:g}{unit}"


class ParameterError(ValueError):
    """A parameter that cannot be: its name, its value, and the rule it breaks."""

    def __init__(self, name: str, value: object, rule: str) -> None:
        self.name, self.value, self.rule = name, value, rule
        super().__init__(f"{name} is {value!r}; {rule}")


def parse_parameters(specs: Sequence[ParameterSpec], given: Mapping[str, Any]) -> dict[str, Any]:
    """All parameters, typed, with defaults for those not given.

    Raises:
        ParameterError: an unknown name, a wrong type, or a value outside its range.
    """
    known = {spec.name: spec for spec in specs}
    for name in given:
        if name not in known:
            raise ParameterError(name, given[name], f"is not a parameter; known are {', '.join(known)}")
    return {name: _parse(spec, given.get(name, spec.default)) for name, spec in known.items()}


def _parse(spec: ParameterSpec, value: Any) -> int | float | str:
    if spec.kind == "choice":
        if str(value) not in spec.choices:
            raise ParameterError(spec.name, value, spec.rule)
        return str(value)
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise ParameterError(spec.name, value, spec.rule) from None
    in_range = spec.minimum is not None and spec.maximum is not None and spec.minimum <= number <= spec.maximum
    if isinstance(value, bool) or not is_plain(value) or not in_range or (spec.kind == "int" and number != int(number)):
        raise ParameterError(spec.name, value, spec.rule)
    return int(number) if spec.kind == "int" else number


def is_plain(value: Any) -> bool:
    """Python's float also reads other scripts' digits and 1_0: of a parameter that would be a guess."""
    return not isinstance(value, str) or (value.isascii() and "_" not in value)


class Strategy(Protocol):
    """One running instance: one symbol, one set of parameters. Hooks return a signal or None."""

    name: ClassVar[str]
    title: ClassVar[str]
    parameters: ClassVar[tuple[ParameterSpec, ...]]

    @classmethod
    def create(cls, symbol: str, parameters: Mapping[str, Any]) -> Strategy: ...

    @property
    def timeframe(self) -> str | None:
        """The candle interval it listens to, or None for books and trades only."""

    @property
    def warm_up(self) -> int:
        """How many closed candles it needs before its first signal."""

    def on_book(self, view: BookView) -> Signal | None: ...

    def on_trade(self, trade: Trade) -> Signal | None: ...

    def on_candle(self, candle: Candle) -> Signal | None: ...


class QuietStrategy:
    """Hooks that say nothing, for strategies that listen to only some of them."""

    @property
    def timeframe(self) -> str | None:
        return None

    @property
    def warm_up(self) -> int:
        return 0

    def on_book(self, view: BookView) -> Signal | None:
        return None

    def on_trade(self, trade: Trade) -> Signal | None:
        return None

    def on_candle(self, candle: Candle) -> Signal | None:
        return None
