"""What pages and bots see of the market: one conflated frame a symbol, at most ten a second, and a summary of all."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import orjson

from marketdata.depth.bands import engine_volumes, whole_book
from marketdata.depth.current import TOP_LEVELS, current_book
from marketdata.depth.heat import HeatError, HeatMinute, heat_rows
from marketdata.depth.heat_packing import packed_minute
from marketdata.depth.snapshots import Market, minute_of
from marketdata.engine.book import SymbolBook
from marketdata.engine.detectors.detection import Detection, plain_evidence
from marketdata.engine.feature_table import FEATURES, feature_index
from marketdata.engine.sync import BookState
from marketdata.events import Candle, Ticker, Trade

LADDER_LEVELS = 25
TRADES_A_FRAME = 50
# The newest detections, and how many of them may be of one kind: what is frequent must not hide what is rare.
DETECTIONS_SHOWN, MOST_OF_A_KIND = 20, 5
# They are several times as long as the rest of a frame: in frames after news, and else so rarely.
DETECTIONS_AGAIN_MS = 1_000
SHOWN_FEATURES = (
    "imbalance_5",
    "imbalance_25",
    "microprice",
    "spread_ticks",
    "venue_spread",
    "reference_correlation_60s",
)


@dataclass(slots=True)
class SymbolMarket:
    """Everything newest of one symbol that a frame shows. ``changed`` is set by whoever changes it; ``state`` is the
    book's after the newest message that was told. ``elsewhere``: the same instrument's book at another venue."""

    symbol: str
    book: SymbolBook
    ticker: Ticker
    trades: deque[Trade] = field(default_factory=lambda: deque(maxlen=TRADES_A_FRAME))
    candles: dict[str, Candle] = field(default_factory=dict)
    changed: bool = True
    state: BookState = BookState.SYNCING
    elsewhere: tuple[str, SymbolBook] | None = None
    detections: deque[Detection] = field(default_factory=deque)
    detections_due_ms: int = 0
    # The minute that was told last of what rests at which price, and its rows' step.
    heat_of: int = 0
    heat_step: Decimal | None = None

    def note_detection(self, detection: Detection) -> None:
        """Show it among the newest."""
        kinds = Counter(each.kind for each in self.detections)
        if kinds[detection.kind] >= MOST_OF_A_KIND:
            self.detections.remove(next(each for each in self.detections if each.kind is detection.kind))
        elif len(self.detections) >= DETECTIONS_SHOWN:
            self.detections.popleft()
        self.detections.append(detection)
        self.changed, self.detections_due_ms = True, 0

    @property
    def reference_price(self) -> Decimal | None:
        return self.ticker.mark_price or self.ticker.last_price

    def frame(self, now_ms: int) -> str:
        """One ``market_data`` message as JSON text; the trades in it are those since the last frame. It has
        ``detections``, the newest first, after there was a new one, and else once a second."""
        bids, asks = self.book.ladder(LADDER_LEVELS)
        ticker = self.ticker
        features = self.book.features() if self.book.update_id else None
        data: dict[str, Any] = {
            "symbol": self.symbol,
            "state": self.state.name,
            "state_reason": self.book.state_reason,
            "elsewhere": self._elsewhere(),
            "u": self.book.update_id,
            "bids": bids,
            "asks": asks,
            "last": text(ticker.last_price),
            "mark": text(ticker.mark_price),
            "index": text(ticker.index_price),
            "funding_rate": text(ticker.funding_rate),
            "volume_24h": text(ticker.volume_24h),
            "turnover_24h": text(ticker.turnover_24h),
            "change_24h": text(ticker.change_24h),
            "trades": [
                {
                    "id": trade.trade_id,
                    "t": trade.venue_ns // 1_000_000,
                    "p": text(trade.price),
                    "q": text(trade.quantity),
                    "side": trade.side,
                }
                for trade in self.trades
            ],
            "candles": {interval: candle_values(candle) for interval, candle in self.candles.items()},
            "features": {} if features is None else shown_features(features),
        }
        if now_ms >= self.detections_due_ms:
            self.detections_due_ms = now_ms + DETECTIONS_AGAIN_MS
            data["detections"] = [shown_detection(each) for each in reversed(self.detections)]
        self.trades.clear()
        self.changed = False
        return orjson.dumps({"type": "market_data", "timestamp": now_ms, "data": data}).decode()

    def summary_row(self) -> str:
        """Its row of the summary as JSON text, which is also kept beside those of other engines."""
        bids, asks = self.book.ladder(1)
        row = {
            "symbol": self.symbol,
            "last": text(self.ticker.last_price),
            "change_24h": text(self.ticker.change_24h),
            "bid": bids[0][0] if bids else None,
            "ask": asks[0][0] if asks else None,
            "state": self.state.name,
            "state_reason": self.book.state_reason,
        }
        return orjson.dumps(row).decode()

    def depth_book(self, now_ms: int) -> dict[str, Any] | None:
        """Its book with the volume of all depths, as depth analytics show it; None while it is not proven."""
        if self.state is not BookState.LIVE:
            return None
        return current_book(
            Market.BYBIT,
            self.symbol,
            self.book.ladder(TOP_LEVELS),
            engine_volumes(self.book.bands()),
            time_ms=now_ms,
            status="CONNECTED",
            furthest=self.book.reach(),
        )

    def heat_minute(self, now_ms: int) -> HeatMinute | None:
        """What rests at which price, once a minute; None while its book is not proven."""
        minute = minute_of(now_ms / 1000)
        if self.state is not BookState.LIVE or minute == self.heat_of:
            return None
        try:
            rows = heat_rows(whole_book(self.book), self.heat_step)
        except HeatError:
            return None
        self.heat_of, self.heat_step = minute, rows.step
        return packed_minute(self.symbol, Market.BYBIT, minute, rows)

    def _elsewhere(self) -> dict[str, Any] | None:
        if self.elsewhere is None:
            return None
        venue, book = self.elsewhere
        bids, asks = book.ladder(1)
        return {
            "venue": venue,
            "state": book.state.name,
            "state_reason": book.state_reason,
            "bid": bids[0][0] if bids else None,
            "ask": asks[0][0] if asks else None,
        }


def summary(rows: Iterable[str], now_ms: int) -> str:
    """One ``market_summary`` message as JSON text, of the rows of all symbols."""
    return f'{{"type":"market_summary","timestamp":{now_ms},"data":[{",".join(rows)}]}}'


def shown_features(features: Any) -> dict[str, float]:
    known = {spec.name for spec in FEATURES}
    return {name: float(features[feature_index(name)]) for name in SHOWN_FEATURES if name in known}


def shown_detection(detection: Detection) -> dict[str, Any]:
    return {
        "kind": detection.kind.name,
        "side": detection.side,
        "low": text(detection.low),
        "high": text(detection.high),
        "begin": detection.begin_ms,
        "t": detection.detected_ms,
        "score": round(detection.score, 2),
        "reason": detection.reason,
        "evidence": plain_evidence(detection.evidence),
    }


def candle_values(candle: Candle) -> dict[str, Any]:
    return {
        "start": candle.start_ms,
        "open": text(candle.open),
        "high": text(candle.high),
        "low": text(candle.low),
        "close": text(candle.close),
        "volume": text(candle.volume),
        "closed": candle.closed,
    }


def text(number: Decimal | None) -> str | None:
    return None if number is None else format(number, "f")
