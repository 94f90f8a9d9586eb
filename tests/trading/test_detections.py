"""What the engine detects: told while the book is proven, shown with the market, stored, listed, and forgotten."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import orjson
import pytest
from django.db import DatabaseError
from django.test import Client
from django.utils import timezone

from marketdata.engine import layout
from marketdata.engine.detectors.detection import Detection
from marketdata.engine.detectors.kinds import DEFAULT_KINDS, DetectionKind, kinds_from_text
from marketdata.engine.detectors.parameters import DetectorParameters, parameters_from_text
from marketdata.engine.sync import BookState
from marketdata.events import Ticker
from marketdata.models import Detection as DetectionRow
from marketdata.selectors import latest_frame
from marketdata.services import detections_store
from marketdata.tasks import prune_detections
from tests import builders
from tests.processes import ServerProcess, until
from tests.trading.test_engine import engine_detail
from trading.runtime import detection_store
from trading.runtime.detection_store import DetectionStore
from trading.runtime.detection_watch import DetectionWatch
from trading.runtime.market_frames import DETECTIONS_SHOWN, MOST_OF_A_KIND, SymbolMarket
from trading.runtime.market_plane import MarketPlane
from trading.runtime.plane_replay import SilentFeed

NOW_MS = 1_800_000_000_000


def detection(seconds: float = 0, **changes: Any) -> Detection:
    detected_ms = NOW_MS + int(1_000 * seconds)
    values: dict[str, Any] = {
        "symbol": "BTCUSDT",
        "kind": DetectionKind.SPOOFING,
        "side": "bid",
        "low": Decimal("99.0"),
        "high": Decimal("99.5"),
        "begin_ms": detected_ms - 2_000,
        "detected_ms": detected_ms,
        "score": 0.7,
        "evidence": MappingProxyType({"volume": 100.0, "opposite_excess": float("nan")}),
        "reason": "a bid of 100 was withdrawn",
    }
    return Detection(**(values | changes))


class QuietVenue:
    """A plane that follows one symbol: fifty levels of 10 coins a side around 100, told every 100 ms."""

    def __init__(
        self,
        kinds: Collection[DetectionKind] = (DetectionKind.SPOOFING,),
        parameters: DetectorParameters | None = None,
    ) -> None:
        self.told: list[Detection] = []
        self.watch = DetectionWatch(kinds, self.told.append, parameters)
        nothing: Any = lambda *_: None  # noqa: E731
        self.plane = MarketPlane(
            [builders.RULES], on_book=nothing, on_trade=nothing, on_candle=nothing, watch=self.watch
        )
        self.plane.follow_bybit(SilentFeed("bybit linear"))
        self.market = self.plane.markets["BTCUSDT"]
        self.now_ms, self._update = NOW_MS, 0
        bids = [[f"{100 - step / 10:.1f}", "10"] for step in range(50)]
        asks = [[f"{100.1 + step / 10:.1f}", "10"] for step in range(50)]
        self.book(bids, asks, "snapshot")

    def frame(self, topic: str, kind: str, data: Any) -> None:
        body = {"topic": topic, "type": kind, "ts": self.now_ms, "data": data}
        body |= {"cts": self.now_ms} if topic.startswith("orderbook") else {}
        self.plane.venues["bybit linear"].on_frame(topic.encode(), orjson.dumps(body), self.now_ms * 1_000_000)

    def book(self, bids: list[list[str]], asks: list[list[str]], kind: str = "delta", *, lost: int = 0) -> None:
        self.now_ms, self._update = self.now_ms + 100, self._update + 1 + lost
        data = {"s": "BTCUSDT", "b": bids, "a": asks, "u": self._update, "seq": self._update}
        self.frame("orderbook.200.BTCUSDT", kind, data)

    def wait(self, seconds: float) -> None:
        for step in range(round(10 * seconds)):
            self.book([["95.1", str(10 + step % 2)]], [])

    def buy(self, quantity: str) -> None:
        trade = {"T": self.now_ms, "s": "BTCUSDT", "S": "Buy", "v": quantity, "p": "100.1", "L": "PlusTick"}
        self.frame("publicTrade.BTCUSDT", "snapshot", [trade | {"i": str(self.now_ms), "BT": False}])

    def spoof(self, *, trades: bool = True) -> None:
        self.wait(12)
        self.book([["99.0", "110"]], [])
        self.wait(1)
        if trades:
            self.buy("8")
        self.wait(1)
        self.book([["99.0", "10"]], [])
        self.wait(1.5)


def test_a_watched_market_tells_of_a_spoof_whose_trades_came_as_frames() -> None:
    venue = QuietVenue()
    venue.spoof()
    venue.watch.fetch()
    (told,) = venue.told
    assert (told.symbol, told.kind, told.side, told.low) == ("BTCUSDT", DetectionKind.SPOOFING, "bid", Decimal("99.0"))
    assert list(venue.market.detections) == [told] and venue.market.changed
    assert venue.watch.counts == {"told": 1, "unproven": 0, "lost": 0}
    without = QuietVenue()
    without.spoof(trades=False)
    without.watch.fetch()
    assert without.told == []


def test_a_market_whose_book_is_not_proven_tells_nothing() -> None:
    venue = QuietVenue()
    venue.spoof()
    venue.book([["99.0", "11"]], [], lost=3)
    venue.watch.fetch()
    assert venue.market.state is not BookState.LIVE
    assert venue.told == [] and venue.watch.counts["unproven"] == 1


def test_only_the_chosen_kinds_are_told_by_the_chosen_thresholds() -> None:
    lives = QuietVenue({DetectionKind.LEVEL_LIFETIME}, parameters_from_text("spoof_fill=0.05, lifetime_least_ms=500"))
    lives.spoof()
    lives.watch.fetch()
    assert [each.kind for each in lives.told] == [DetectionKind.LEVEL_LIFETIME]
    patient = QuietVenue(parameters=parameters_from_text("spoof_life_ms=1000"))
    patient.spoof()
    patient.watch.fetch()
    assert patient.told == []


def test_without_kinds_no_book_is_watched_and_one_that_is_left_is_watched_no_more() -> None:
    venue = QuietVenue(())
    venue.spoof()
    venue.watch.fetch()
    assert venue.told == [] and venue.market.book._words[layout.DETECTORS] == 0
    left = QuietVenue()
    assert left.market.book._words[layout.DETECTORS] != 0
    left.plane.remove(["BTCUSDT"])
    assert left.market.book._words[layout.DETECTORS] == 0


def test_kinds_and_thresholds_that_do_not_exist_are_refused_by_name() -> None:
    assert kinds_from_text("SPOOFING, TOXICITY") == {DetectionKind.SPOOFING, DetectionKind.TOXICITY}
    assert kinds_from_text("") == frozenset()
    with pytest.raises(ValueError, match="BOOM is not one of IMBALANCE"):
        kinds_from_text("SPOOFING,BOOM")
    for text, reason in (
        ("spoof_fil=0.1", "spoof_fil is no threshold"),
        ("spoof_fill=much", "spoof_fill is 'much'; expected a number"),
        ("spoof_fill", "spoof_fill is ''; expected a number"),
        ("spoof_fill=2", "spoof_fill is 2.0; expected 0 to 0.9$"),
        ("spoof_fill=nan", "spoof_fill is nan"),
    ):
        with pytest.raises(ValueError, match=reason):
            parameters_from_text(text)


def market() -> SymbolMarket:
    plane: Any = MarketPlane([builders.RULES], on_book=print, on_trade=print, on_candle=print)
    made: SymbolMarket = plane.markets["BTCUSDT"]
    assert isinstance(made.ticker, Ticker)
    return made


def shown(market: SymbolMarket, now_ms: int) -> Any:
    return orjson.loads(market.frame(now_ms))["data"].get("detections")


def test_a_frame_has_the_newest_detections_after_news_and_else_once_a_second() -> None:
    one = market()
    assert shown(one, NOW_MS) == []
    one.note_detection(detection())
    (row,) = shown(one, NOW_MS + 100)
    assert (row["kind"], row["side"], row["low"], row["high"], row["t"]) == ("SPOOFING", "bid", "99.0", "99.5", NOW_MS)
    assert row["evidence"] == {"volume": 100.0, "opposite_excess": None} and row["score"] == 0.7
    assert shown(one, NOW_MS + 200) is None
    assert shown(one, NOW_MS + 1_100) == [row]
    one.note_detection(detection(1, side="ask"))
    assert [each["side"] for each in shown(one, NOW_MS + 1_200)] == ["ask", "bid"]


def test_what_is_frequent_does_not_hide_what_is_rare() -> None:
    one = market()
    one.note_detection(detection())
    for number in range(30):
        one.note_detection(detection(number, kind=DetectionKind.VOLUME_CLUSTER))
    rows = shown(one, NOW_MS)
    assert [row["kind"] for row in rows] == ["VOLUME_CLUSTER"] * MOST_OF_A_KIND + ["SPOOFING"]
    assert rows[0]["t"] == NOW_MS + 29_000
    for number in range(10 * DETECTIONS_SHOWN):
        one.note_detection(detection(number, kind=DetectionKind(number % len(DetectionKind))))
    assert len(shown(one, NOW_MS)) == DETECTIONS_SHOWN


@pytest.mark.django_db(transaction=True)
async def test_detections_are_stored_once_and_wait_while_the_database_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(detections: Any) -> int:
        raise DatabaseError("the database is away")

    monkeypatch.setattr(detection_store, "MOST_WAITING", 1_500)
    store = DetectionStore()
    with monkeypatch.context() as patch:
        patch.setattr(detection_store, "detections_store", away)
        for number in range(1_600):
            store.add(detection(number))
        await store.flush()
        assert store.counts == {"stored": 0, "dropped": 100}
    await store.flush()
    store.add(detection(1_599))  # two engines may see the same while a symbol changes hands
    await store.flush()
    rows = [row async for row in DetectionRow.objects.order_by("detected_at")]
    assert len(rows) == 1_500
    assert (rows[0].kind, rows[0].side, rows[0].low, rows[0].high) == (
        "SPOOFING",
        "bid",
        Decimal("99.0"),
        Decimal("99.5"),
    )
    assert rows[0].detected_at - rows[0].began_at == timedelta(seconds=2)
    assert rows[0].evidence == {"volume": 100.0, "opposite_excess": None}


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_a_running_engine_stores_what_it_detects_and_shows_the_newest(
    start_process: Callable[..., Any], start_simulator: Callable[..., ServerProcess]
) -> None:
    venue = start_simulator("--symbols", "3", "--seed", "5")
    impatient = "warm_up_s=1,cluster_seconds=1,imbalance_hold_ms=100"
    start_process("runengine", SIMULATOR_URL=venue.url, DETECTOR_PARAMETERS=impatient)
    stored = until(lambda: DetectionRow.objects.filter(symbol="BTCUSDT").order_by("detected_at").last(), 90)
    assert DetectionKind[stored.kind] in kinds_from_text(DEFAULT_KINDS)
    assert stored.low <= stored.high and 0 <= stored.score <= 1 and stored.evidence and stored.reason
    assert abs(timezone.now() - stored.detected_at) < timedelta(minutes=1)

    def newest() -> list[dict[str, Any]]:
        frame = latest_frame("BTCUSDT")
        return frame["data"].get("detections", []) if frame is not None else []

    reasons = DetectionRow.objects.filter(symbol="BTCUSDT").order_by("-detected_at").values_list("reason", flat=True)
    # The newest frame may be older than the newest row, or the other way round.
    until(lambda: {row["reason"] for row in newest()} & set(reasons[:20]))
    counts = until(lambda: engine_detail().get("detections"))
    assert counts["lost"] == 0 and counts["dropped"] == 0


@pytest.mark.django_db
def test_detections_are_forgotten_after_their_days(settings: Any) -> None:
    settings.DETECTIONS_DAYS = 2
    detections_store([detection(), detection(side="ask")])
    for days, side in ((3, "bid"), (1, "ask")):
        DetectionRow.objects.filter(side=side).update(detected_at=timezone.now() - timedelta(days=days))
    assert prune_detections() == 1
    assert DetectionRow.objects.get().side == "ask"


@pytest.mark.django_db
def test_the_api_lists_them_page_by_page_and_refuses_what_it_does_not_know(client: Client) -> None:
    builders.list_instruments()
    toxic = replace(detection(5), kind=DetectionKind.TOXICITY)
    detections_store([*(detection(number) for number in range(5)), toxic, detection(9, symbol="ETHUSDT")])
    address = "/api/v1/market/detections"
    assert client.get(address).status_code in (401, 403)
    client.force_login(builders.user("alice"))

    def rows(query: str) -> list[dict[str, Any]]:
        return client.get(f"{address}?{query}").json()["results"]

    assert [row["symbol"] for row in rows("")][:2] == ["ETHUSDT", "BTCUSDT"]
    assert len(rows("symbol=BTCUSDT")) == 6 and len(rows("symbol=BTCUSDT&kind=TOXICITY")) == 1
    since = (DetectionRow.objects.get(kind="TOXICITY").detected_at - timedelta(seconds=1)).isoformat()
    assert [row["kind"] for row in rows(f"symbol=BTCUSDT&since={since.replace('+00:00', 'Z')}")] == [
        "TOXICITY",
        "SPOOFING",
    ]
    row = rows("kind=TOXICITY")[0]
    assert (row["low"], row["high"], row["evidence"]["volume"]) == ("99", "99.5", 100.0)

    first = client.get(f"{address}?kind=SPOOFING&limit=4").json()
    detections_store([detection(20)])  # what is new does not move the pages
    second = client.get(first["next"]).json()
    assert len(first["results"]) == 4 and len(second["results"]) == 2 and second["next"] is None
    seen = [row["detected_at"] for row in first["results"] + second["results"]]
    assert seen == sorted(seen, reverse=True) and len(set(seen)) == 6

    for query, status in (
        ("kind=BOOM", 400),
        ("limit=0", 400),
        ("limit=501", 400),
        ("since=yesterday", 400),
        ("symbol=NOPE", 404),
        ("cursor=nonsense", 404),
    ):
        assert client.get(f"{address}?{query}").status_code == status, query
