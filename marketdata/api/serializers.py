from __future__ import annotations

from decimal import Decimal

from rest_framework import serializers

from marketdata.models import Candle, Instrument


class PlainField(serializers.Field):
    """A decimal as plain text, without exponent."""

    def to_representation(self, value: Decimal) -> str:
        return f"{value:f}"


class InstrumentSerializer(serializers.ModelSerializer):
    tick_size = PlainField()
    lot_size = PlainField()
    min_quantity = PlainField()
    max_quantity = PlainField()
    max_market_quantity = PlainField()
    min_notional = PlainField()
    max_leverage = PlainField()

    class Meta:
        model = Instrument
        fields = [
            "symbol",
            "status",
            "base_coin",
            "quote_coin",
            "tick_size",
            "lot_size",
            "min_quantity",
            "max_quantity",
            "max_market_quantity",
            "min_notional",
            "max_leverage",
            "funding_interval_minutes",
        ]


class CandleSerializer(serializers.ModelSerializer):
    open = PlainField()
    high = PlainField()
    low = PlainField()
    close = PlainField()
    volume = PlainField()
    turnover = PlainField()

    class Meta:
        model = Candle
        fields = ["start", "open", "high", "low", "close", "volume", "turnover"]


class TickerSerializer(serializers.Serializer):
    symbol = serializers.CharField()
    state = serializers.CharField(help_text="LIVE, or why the book is not proven")
    last = serializers.CharField(allow_null=True)
    mark = serializers.CharField(allow_null=True)
    index = serializers.CharField(allow_null=True)
    bid = serializers.CharField(allow_null=True)
    ask = serializers.CharField(allow_null=True)
    funding_rate = serializers.CharField(allow_null=True)
    volume_24h = serializers.CharField(allow_null=True)
    turnover_24h = serializers.CharField(allow_null=True)
    change_24h = serializers.CharField(allow_null=True)
    timestamp = serializers.IntegerField(help_text="milliseconds since 1970")


class OrderBookSerializer(serializers.Serializer):
    symbol = serializers.CharField()
    state = serializers.CharField()
    state_reason = serializers.CharField()
    u = serializers.IntegerField()
    bids = serializers.ListField(child=serializers.ListField(child=serializers.CharField()))
    asks = serializers.ListField(child=serializers.ListField(child=serializers.CharField()))
    timestamp = serializers.IntegerField()
