from __future__ import annotations

from rest_framework import serializers

from marketdata.models import Candle, Detection, FeedEvent, Instrument
from marketdata.plain_decimals import PlainDecimalField


class InstrumentSerializer(serializers.ModelSerializer):
    tick_size = PlainDecimalField()
    lot_size = PlainDecimalField()
    min_quantity = PlainDecimalField()
    max_quantity = PlainDecimalField()
    max_market_quantity = PlainDecimalField()
    min_notional = PlainDecimalField()
    max_leverage = PlainDecimalField()

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
    open = PlainDecimalField()
    high = PlainDecimalField()
    low = PlainDecimalField()
    close = PlainDecimalField()
    volume = PlainDecimalField()
    turnover = PlainDecimalField()

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


class FeedEventSerializer(serializers.ModelSerializer):
    class Meta:
        model = FeedEvent
        fields = ["happened_at", "kind", "venue", "market_type", "symbol", "message", "metadata"]


class DetectionSerializer(serializers.ModelSerializer):
    low = PlainDecimalField()
    high = PlainDecimalField()
    evidence = serializers.DictField(
        child=serializers.FloatField(allow_null=True), help_text="named numbers; quantities in base coins"
    )

    class Meta:
        model = Detection
        fields = [
            "id",
            "symbol",
            "kind",
            "side",
            "low",
            "high",
            "score",
            "began_at",
            "detected_at",
            "evidence",
            "reason",
        ]
