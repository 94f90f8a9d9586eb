from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms

from strategies.base import ParameterSpec, Strategy
from strategies.models import StrategyConfig
from strategies.services import StrategyConfigRefused

PREFIX = "parameter_"


def parameter_field(spec: Any) -> forms.Field:
    """A form field that says the unit, the range and the meaning of one parameter."""
    words = f"{spec.help}{f' ({spec.unit})' if spec.unit else ''}; default {spec.default}"
    if spec.kind == "choice":
        return forms.ChoiceField(
            choices=[(c, c) for c in spec.choices], initial=spec.default, help_text=words, required=False
        )
    words += f"; {spec.minimum:g} to {spec.maximum:g}"
    kind = forms.IntegerField if spec.kind == "int" else forms.FloatField
    return kind(min_value=spec.minimum, max_value=spec.maximum, initial=spec.default, help_text=words, required=False)


class ConfigurationForm(forms.Form):
    """A strategy on an account, on its page: one field for each parameter. The service decides what is valid."""

    account: Any = forms.ModelChoiceField(queryset=None, help_text="whose money it trades")
    name = forms.SlugField(max_length=40, help_text="small letters, digits and dashes, as in trend-majors")
    symbols = forms.CharField(max_length=8_000, help_text="one or more, as in BTCUSDT, ETHUSDT")
    sizing_mode = forms.ChoiceField(
        choices=StrategyConfig.Sizing.choices, help_text="what a position's size is made of"
    )
    sizing_value = forms.DecimalField(initial=1, help_text="percent, or USD, by the size's mode")
    leverage = forms.DecimalField(initial=10, help_text="1 to 50")
    size_by_confidence = forms.BooleanField(required=False, help_text="a weak signal gets less")
    adaptive_leverage = forms.BooleanField(required=False, help_text="leverage by the symbol's volatility instead")
    allow_reversal = forms.BooleanField(required=False, initial=True, help_text="an opposite signal turns the position")

    def __init__(
        self, kind: type[Strategy], accounts: Any, config: StrategyConfig | None = None, **options: Any
    ) -> None:
        """``accounts``: those that may be chosen. Of a ``config`` that is there account and name stay."""
        if config is not None:
            options["initial"] = _values_of(config)
        super().__init__(**options)
        self.kind = kind
        if config is not None:
            del self.fields["account"], self.fields["name"]
        else:
            self.fields["account"].queryset = accounts  # type: ignore[attr-defined]
        for spec in kind.parameters:
            self.fields[f"{PREFIX}{spec.name}"] = parameter_field(spec)
        for name, field in self.fields.items():
            field.label = name.removeprefix(PREFIX).replace("_", " ").capitalize()
            field.widget.attrs["aria-describedby"] = f"about-{name}"
            if isinstance(field.widget, forms.NumberInput):
                field.widget.attrs["step"] = "any"

    def clean_symbols(self) -> list[str]:
        return [symbol for symbol in self.cleaned_data["symbols"].replace(",", " ").upper().split() if symbol]

    def own_fields(self) -> list[forms.BoundField]:
        return [self[name] for name in self.fields if not name.startswith(PREFIX)]

    def parameter_fields(self) -> list[tuple[forms.BoundField, ParameterSpec]]:
        return [(self[f"{PREFIX}{spec.name}"], spec) for spec in self.kind.parameters]

    def values(self) -> dict[str, Any]:
        """What the services take; parameters that are left empty have their defaults."""
        values = {name: value for name, value in self.cleaned_data.items() if not name.startswith(PREFIX)}
        given = ((spec.name, self.cleaned_data.get(f"{PREFIX}{spec.name}")) for spec in self.kind.parameters)
        return {**values, "parameters": {name: value for name, value in given if value not in (None, "")}}

    def refuse(self, refused: StrategyConfigRefused) -> None:
        """The service's reasons, each at its field."""
        for violation in refused.violations:
            field = violation.field.replace("parameters.", PREFIX)
            self.add_error(field if field in self.fields else None, f"{violation.value}: {violation.rule}")


def _values_of(config: StrategyConfig) -> Mapping[str, Any]:
    own = {name: getattr(config, name) for name in ("sizing_mode", "size_by_confidence", "adaptive_leverage")}
    numbers = {name: f"{getattr(config, name).normalize():f}" for name in ("sizing_value", "leverage")}
    parameters = {f"{PREFIX}{name}": value for name, value in config.parameters.items()}
    return {
        **own,
        **numbers,
        **parameters,
        "symbols": ", ".join(config.symbols),
        "allow_reversal": config.allow_reversal,
    }
