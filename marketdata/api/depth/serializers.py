from __future__ import annotations

from datetime import UTC
from decimal import Decimal
from typing import Any

from rest_framework import serializers

from marketdata.depth.snapshots import DEPTH_BY_TEXT, MINUTE, DepthSnapshot, DepthVolume, Market, minute_of
from marketdata.models import DepthSymbol

MOST_AT_ONCE = 1_000
MOST_SYMBOLS = 500
SYMBOL_PATTERN = r"^[A-Z0-9]{5,20}\Z"


class LevelsField(serializers.ListField):
    child = serializers.ListField(child=serializers.CharField(), help_text="price, quantity")


class VolumeOfDepthSerializer(serializers.Serializer):
    depth = serializers.CharField(help_text="percent")
    bidVolume = serializers.CharField(help_text="coins")
    askVolume = serializers.CharField()
    bidVolumeUsd = serializers.CharField(help_text="sum of price times quantity, quote coins")
    askVolumeUsd = serializers.CharField()
    bidCovered = serializers.BooleanField(help_text="whether every bid that could be in it is known")
    askCovered = serializers.BooleanField()


class DiffSerializer(serializers.Serializer):
    depth = serializers.CharField()
    diff = serializers.CharField(help_text="bid minus ask volume")
    percentage = serializers.CharField(help_text="of both, -100 to 100; 0 where both are 0")


class ReachSerializer(serializers.Serializer):
    bid = serializers.CharField(help_text="percent from the best bid; 100: the whole side is known")
    ask = serializers.CharField()


class CurrentBookSerializer(serializers.Serializer):
    type = serializers.CharField()
    symbol = serializers.CharField()
    timestamp = serializers.IntegerField(help_text="milliseconds since 1970")
    midPrice = serializers.CharField()
    spread = serializers.CharField()
    bestBid = serializers.CharField()
    bestAsk = serializers.CharField()
    bids = LevelsField(help_text="best first, at most 20")
    asks = LevelsField()
    depthVolumes = VolumeOfDepthSerializer(many=True)
    diffs = DiffSerializer(many=True)
    wsStatus = serializers.CharField(help_text="CONNECTED, POLLED (by REST, once a minute) or STALE")
    knownReachPercent = ReachSerializer()


class MarketDepthSerializer(serializers.Serializer):
    type = serializers.CharField()
    timestamp = serializers.IntegerField()
    bid = serializers.CharField(help_text="coins")
    ask = serializers.CharField()
    diff = serializers.CharField()
    percentage = serializers.CharField()
    totalBidValue = serializers.CharField(help_text="quote coins")
    totalAskValue = serializers.CharField()
    covered = serializers.BooleanField()


class DepthSerializer(serializers.Serializer):
    symbol = serializers.CharField()
    depth = serializers.CharField()
    markets = MarketDepthSerializer(many=True)
    futuresOverSpotPercent = serializers.DictField(
        child=serializers.CharField(allow_null=True), help_text="bid and ask; of type=all, where both are known"
    )


class PointSerializer(serializers.Serializer):
    time = serializers.IntegerField(help_text="seconds since 1970")
    value = serializers.FloatField(help_text="coins")


class SnapshotSerializer(serializers.Serializer):
    timestamp = serializers.DateTimeField()
    bidVolume = serializers.CharField()
    askVolume = serializers.CharField()
    bidVolumeUsd = serializers.CharField()
    askVolumeUsd = serializers.CharField()
    bidCovered = serializers.BooleanField()
    askCovered = serializers.BooleanField()


class SnapshotPageSerializer(serializers.Serializer):
    symbol = serializers.CharField()
    marketType = serializers.CharField()
    depth = serializers.CharField()
    results = SnapshotSerializer(many=True)
    next = serializers.CharField(allow_null=True, help_text="where it goes on; null at the end")


class VolumeField(serializers.DecimalField):
    def __init__(self, **options: Any) -> None:
        super().__init__(max_digits=38, decimal_places=18, min_value=Decimal(0), **options)


class IncomingSnapshotSerializer(serializers.Serializer):
    symbol = serializers.RegexField(SYMBOL_PATTERN)
    marketType = serializers.ChoiceField([market.value for market in Market])
    depth = serializers.ChoiceField(list(DEPTH_BY_TEXT))
    timestamp = serializers.DateTimeField(help_text="a whole minute, with its zone", default_timezone=UTC)
    bidVolume = VolumeField()
    askVolume = VolumeField()
    bidVolumeUsd = VolumeField()
    askVolumeUsd = VolumeField()
    bidCovered = serializers.BooleanField(default=True)
    askCovered = serializers.BooleanField(default=True)

    def validate_timestamp(self, moment: Any) -> Any:
        if moment.timestamp() <= 0 or moment.timestamp() % MINUTE:
            raise serializers.ValidationError("is not a whole minute")
        return moment


class IngestSerializer(serializers.Serializer):
    snapshots = serializers.ListField(child=IncomingSnapshotSerializer(), allow_empty=False, max_length=MOST_AT_ONCE)

    def values(self) -> list[DepthSnapshot]:
        """What was sent, after ``is_valid``."""
        return [
            DepthSnapshot(
                row["symbol"],
                Market(row["marketType"]),
                minute_of(row["timestamp"].timestamp()),
                DepthVolume(
                    DEPTH_BY_TEXT[row["depth"]],
                    row["bidVolume"],
                    row["askVolume"],
                    row["bidVolumeUsd"],
                    row["askVolumeUsd"],
                    row["bidCovered"],
                    row["askCovered"],
                ),
            )
            for row in self.validated_data["snapshots"]
        ]


class IngestedSerializer(serializers.Serializer):
    received = serializers.IntegerField()
    stored = serializers.IntegerField(help_text="the rest was known, older than 60 days or ahead of the clock")


class AggregateValuesSerializer(serializers.Serializer):
    avg = serializers.CharField()
    min = serializers.CharField()
    max = serializers.CharField()


class BucketSerializer(serializers.Serializer):
    start = serializers.DateTimeField()
    count = serializers.IntegerField(help_text="minutes in it")
    bidCovered = serializers.BooleanField(help_text="whether every bid of the depth was known in all of them")
    askCovered = serializers.BooleanField()
    bidVolume = AggregateValuesSerializer()
    askVolume = AggregateValuesSerializer()
    bidVolumeUsd = AggregateValuesSerializer()
    askVolumeUsd = AggregateValuesSerializer()


class HistorySerializer(serializers.Serializer):
    symbol = serializers.CharField()
    marketType = serializers.CharField()
    depth = serializers.CharField()
    interval = serializers.CharField()
    results = BucketSerializer(many=True)


class StatsSerializer(serializers.Serializer):
    symbol = serializers.CharField()
    marketType = serializers.CharField(allow_null=True)
    totalSnapshots = serializers.IntegerField()
    oldest = serializers.DateTimeField(allow_null=True)
    newest = serializers.DateTimeField(allow_null=True)
    dataAvailableDays = serializers.IntegerField()


class GroupSerializer(serializers.Serializer):
    name = serializers.CharField()
    symbols = serializers.IntegerField()
    bidUsd = serializers.CharField()
    askUsd = serializers.CharField()
    diffUsd = serializers.CharField()
    percentage = serializers.CharField()
    covered = serializers.BooleanField()


class GroupsSerializer(serializers.Serializer):
    time = serializers.IntegerField(help_text="seconds since 1970")
    groups = GroupSerializer(many=True)


class GroupsNowSerializer(GroupsSerializer):
    unreadable = serializers.ListField(
        child=serializers.CharField(), help_text="symbols that are left out, for their books cannot be read"
    )


class SpreadRowSerializer(serializers.Serializer):
    time = serializers.IntegerField(help_text="seconds since 1970")
    spotBid = serializers.CharField(help_text="coins")
    spotAsk = serializers.CharField()
    futuresBid = serializers.CharField()
    futuresAsk = serializers.CharField()
    bidPercent = serializers.CharField(allow_null=True, help_text="futures over spot; null where spot has nothing")
    askPercent = serializers.CharField(allow_null=True)
    percent = serializers.CharField(allow_null=True, help_text="of both sides together")


class SpreadSerializer(serializers.Serializer):
    symbol = serializers.CharField()
    depth = serializers.CharField()
    interval = serializers.CharField()
    results = SpreadRowSerializer(many=True)


class HeatField(serializers.ListField):
    child = serializers.ListField(child=serializers.FloatField(allow_null=True))


class HeatmapSerializer(serializers.Serializer):
    symbol = serializers.CharField()
    marketType = serializers.CharField()
    interval = serializers.IntegerField(help_text="seconds of a column")
    step = serializers.FloatField(allow_null=True, help_text="height of a row; null when there are none")
    times = serializers.ListField(
        child=serializers.IntegerField(), help_text="where each column begins, seconds since 1970; holes are left out"
    )
    prices = serializers.ListField(child=serializers.FloatField(), help_text="low edge of each row, the lowest first")
    known = HeatField(
        help_text="from which price to which every level was known; further away a volume is the least that rests there"
    )
    bids = HeatField(help_text="coins, five digits: `bids[i][j]` at `times[i]` in row `j`; null: not known")
    asks = HeatField()


class CorrelationSerializer(serializers.Serializer):
    symbols = serializers.ListField(child=serializers.CharField())
    windows = serializers.ListField(
        child=serializers.DictField(), help_text="`to` in seconds, and `matrix`: null where it cannot be said"
    )


class CollectorSerializer(serializers.Serializer):
    running = serializers.BooleanField(help_text="whether it shall collect")
    process = serializers.CharField(help_text="alive or absent")
    symbols = serializers.ListField(child=serializers.DictField())
    detail = serializers.DictField(help_text="requests total, ok and failed, last collection, streams, writer")
    reported = serializers.DateTimeField(allow_null=True)
    hotReads = serializers.DictField(allow_null=True, help_text="reads of the newest two hours that Valkey answered")


class SymbolsSerializer(serializers.Serializer):
    symbols = serializers.ListField(
        child=serializers.RegexField(SYMBOL_PATTERN), allow_empty=False, max_length=MOST_SYMBOLS
    )


class AddedSymbolsSerializer(SymbolsSerializer):
    source = serializers.ChoiceField(DepthSymbol.Source.choices, default="rest")  # type: ignore[assignment]


class ChangedSymbolsSerializer(serializers.Serializer):
    changed = serializers.ListField(child=serializers.CharField())
