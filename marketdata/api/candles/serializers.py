from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from rest_framework import serializers

from marketdata.candles.findings import REPAIR_HELP, ImportOptions, Repair
from marketdata.candles.series_key import FUNDING, PriceOf, SeriesKey, interval_named
from marketdata.candles.staging import TIME_UNITS
from marketdata.candles.tables import FORMATS, PRICES, RATE, TIME, VOLUME, TableForm
from marketdata.models import ArchiveImport

COLUMNS = (TIME, *PRICES, VOLUME, RATE)
PAIR = re.compile(r"[^=,]{1,20}=[^=,]{1,100}")


class GapSerializer(serializers.Serializer):
    def get_fields(self) -> dict[str, serializers.Field]:
        # "from" is a word of Python's.
        return {
            "from": serializers.CharField(help_text="ISO 8601"),
            "to": serializers.CharField(help_text="ISO 8601"),
            "missing": serializers.IntegerField(help_text="bars; of funding, about how many rates"),
        }


class SeriesSerializer(serializers.Serializer):
    venue = serializers.CharField()
    market = serializers.ChoiceField(choices=[each.value for each in PriceOf])
    symbol = serializers.CharField()
    interval = serializers.CharField(help_text="minutes, D, or funding")
    first = serializers.CharField(help_text="start of the first bar")
    last = serializers.CharField(help_text="start of the last bar")
    bars = serializers.IntegerField()
    bytes = serializers.IntegerField(help_text="stored")
    missing = serializers.IntegerField(help_text="bars between the first and the last that are not there")
    gap_count = serializers.IntegerField()
    gaps = GapSerializer(many=True, help_text="the first 200")


class SeriesPageSerializer(serializers.Serializer):
    results = SeriesSerializer(many=True)
    next = serializers.CharField(allow_null=True)


class ArchivedBarSerializer(serializers.Serializer):
    start = serializers.IntegerField(help_text="milliseconds since 1970")
    open = serializers.CharField()
    high = serializers.CharField()
    low = serializers.CharField()
    close = serializers.CharField()
    volume = serializers.CharField()


class BarPageSerializer(serializers.Serializer):
    venue = serializers.CharField()
    market = serializers.CharField()
    symbol = serializers.CharField()
    interval = serializers.CharField()
    results = ArchivedBarSerializer(many=True)
    next = serializers.CharField(allow_null=True)


class FundingRateSerializer(serializers.Serializer):
    time = serializers.IntegerField(help_text="milliseconds since 1970")
    rate = serializers.CharField()


class FundingPageSerializer(serializers.Serializer):
    venue = serializers.CharField()
    market = serializers.CharField()
    symbol = serializers.CharField()
    results = FundingRateSerializer(many=True)
    next = serializers.CharField(allow_null=True)


class ImportSerializer(serializers.ModelSerializer):
    class Meta:
        model = ArchiveImport
        fields = [
            "id",
            "created_at",
            "actor",
            "source",
            "venue",
            "market",
            "symbol",
            "interval",
            "outcome",
            "rows",
            "bars",
            "report",
            "trace_id",
        ]


class UploadSerializer(serializers.Serializer):
    file = serializers.FileField(allow_empty_file=True, help_text="CSV, plain or gzipped, or Parquet")
    venue = serializers.CharField(default="bybit", max_length=16)
    market = serializers.ChoiceField(choices=[each.value for each in PriceOf], default=PriceOf.LINEAR.value)
    symbol = serializers.CharField(max_length=32)
    interval = serializers.CharField(max_length=8, help_text="1, 5, 60, D, 1h, ... or funding")
    format = serializers.ChoiceField(choices=["auto", *FORMATS], default="auto")
    columns = serializers.CharField(
        required=False, max_length=500, help_text="names in the file by ours: time=timestamp,open=o"
    )
    delimiter = serializers.CharField(default=",", max_length=1, trim_whitespace=False)
    time_unit = serializers.ChoiceField(choices=["auto", *TIME_UNITS], default="ms")
    shift_hours = serializers.DecimalField(
        max_digits=6, decimal_places=4, min_value=Decimal(-24), max_value=Decimal(24), default=Decimal(0)
    )
    round_decimals = serializers.IntegerField(required=False, min_value=0, max_value=18)
    most_zero_bars = serializers.IntegerField(default=1_440, min_value=0, max_value=10_000_000)
    repairs = serializers.MultipleChoiceField(
        choices=list(REPAIR_HELP.items()), required=False, help_text="what may be repaired; each may be given again"
    )

    def validate_columns(self, text: str) -> dict[str, str]:
        pairs = text.split(",")
        if not all(PAIR.fullmatch(pair) for pair in pairs):
            raise serializers.ValidationError("expected pairs like time=timestamp,open=o")
        found = dict(pair.split("=") for pair in pairs)
        if unknown := [name for name in found if name not in COLUMNS]:
            raise serializers.ValidationError(f"{unknown[0]} is not one of {', '.join(COLUMNS)}")
        return found

    def validate(self, attributes: dict[str, Any]) -> dict[str, Any]:
        interval = attributes["interval"]
        try:
            interval = interval if interval == FUNDING else interval_named(interval)
            attributes["key"] = SeriesKey(attributes["venue"], attributes["symbol"], interval, attributes["market"])
        except ValueError as error:
            raise serializers.ValidationError({str(error).split(" ")[0]: [str(error)]}) from None
        return attributes

    @property
    def key(self) -> SeriesKey:
        return self.validated_data["key"]

    @property
    def form(self) -> TableForm:
        data = self.validated_data
        return TableForm(data["format"], data.get("columns", {}), data["delimiter"])

    @property
    def options(self) -> ImportOptions:
        data = self.validated_data
        return ImportOptions(
            repairs=frozenset(Repair(name) for name in data.get("repairs", ())),
            time_unit=data["time_unit"],
            shift_hours=data["shift_hours"],
            round_decimals=data.get("round_decimals"),
            most_zero_bars=data["most_zero_bars"],
        )


class ReportSerializer(serializers.Serializer):
    series = serializers.CharField()
    source = serializers.CharField()  # type: ignore[assignment] # DRF takes it off the class
    refused = serializers.BooleanField()
    rows = serializers.IntegerField(help_text="read")
    stored = serializers.IntegerField(help_text="new")
    replaced = serializers.IntegerField()
    unchanged = serializers.IntegerField(help_text="there already")
    filled = serializers.IntegerField(help_text="flat bars of the importer's own")
    findings = serializers.ListField(child=serializers.DictField(), help_text="what was repaired, by row")
    gaps = GapSerializer(many=True)
    gap_count = serializers.IntegerField(help_text="of the whole line, as it is now")
    missing = serializers.IntegerField()
