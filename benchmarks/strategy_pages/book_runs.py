"""Strategies of the order book over recorded messages, told as live: each signal is taken at the best price of the
other side and followed to its target, its stop or the end of the recording."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.strategy_pages.candle_runs import DATA
from benchmarks.strategy_pages.chart import LINES, Line, Panel, ShownTrade, chart
from marketdata.engine.book import SymbolBook
from marketdata.engine.feature_table import feature_index
from marketdata.engine.sync import BookState
from marketdata.events import BookView, Trade
from marketdata.feeds.book_replay import Replay
from marketdata.feeds.recorded import RecordedFrame, read_recording
from strategies.base import Strategy, parse_parameters
from strategies.library import STRATEGIES
from strategies.signals import Signal
from trading.simulator.simulation import simulate

KEYS = ("scalping.orderbook", "scalping.imbalance", "scalping.cluster_breakout")
FEE_PERCENT = 0.1
SIMULATED_SECONDS, SIMULATED_SEED = 1_800, 11
BEFORE_MS, AFTER_MS = 20_000, 15_000
# A chart of all messages would be a file of megabytes.
POINTS = 600
STILL_OPEN = "the end of the recording"
THRESHOLDS: Mapping[str, tuple[str, str, float]] = {
    "scalping.imbalance": ("imbalance_5", "imbalance of the best 5 levels", 0.4),
    "scalping.orderbook": ("imbalance_10", "imbalance of the best 10 levels", 0.7),
    "scalping.cluster_breakout": ("imbalance_10", "imbalance of the best 10 levels", 0.0),
}


@dataclass(frozen=True, slots=True)
class Recording:
    name: str
    symbol: str
    frames: Callable[[], Iterator[RecordedFrame]]
    category: str | None = None
    is_real: bool = True


@dataclass(slots=True)
class Followed:
    """One signal from its entry on; times in milliseconds of the venue, prices in quote coin."""

    signal: Signal
    exit_ms: int = 0
    exit: float = float("nan")
    why: str = ""

    @property
    def gross_percent(self) -> float:
        return (self.exit / float(self.signal.entry_price) - 1.0) * 100.0 * self.signal.direction

    @property
    def net_percent(self) -> float:
        return self.gross_percent - FEE_PERCENT - FEE_PERCENT * self.exit / float(self.signal.entry_price)

    def see(self, view: BookView) -> bool:
        """Whether it ended here: at the best price at which it can be left."""
        price = float(view.best_bid if self.signal.direction > 0 else view.best_ask)
        self.exit_ms, self.exit = view.venue_ns // 1_000_000, price
        ahead = (price - float(self.signal.take_profit)) * self.signal.direction
        behind = (price - float(self.signal.stop_loss)) * self.signal.direction
        self.why = "take-profit" if ahead >= 0 else "stop-loss" if behind <= 0 else STILL_OPEN
        return ahead >= 0 or behind <= 0


@dataclass(slots=True)
class Session:
    """What one strategy did on one recording; the columns of ``seen``: venue_ms, best bid, best ask, the feature."""

    recording: Recording
    messages: int = 0
    signals: list[Followed] = field(default_factory=list)
    seen: list[tuple[float, float, float, float]] = field(default_factory=list)

    @property
    def minutes(self) -> float:
        return (self.seen[-1][0] - self.seen[0][0]) / 60_000 if self.seen else 0.0


class _Told(Replay):
    """Hands the trades of its books on to a strategy, too."""

    def __init__(self, recording: Recording, strategy: Strategy) -> None:
        super().__init__(recording.symbol, recording.category)
        self._strategy = strategy

    def _trades(
        self, books: list[SymbolBook], frame: RecordedFrame, decode: Callable[[bytes, int], list[Trade]]
    ) -> None:
        super()._trades(books, frame, decode)
        if books:
            for trade in decode(frame.data, frame.receive_ns):
                self._strategy.on_trade(trade)


def recordings(folder: Path) -> list[Recording]:
    """``folder``: where the simulated market is written."""
    raw = DATA / "binance-raw"

    def of(*paths: Path) -> Callable[[], Iterator[RecordedFrame]]:
        return lambda: chain.from_iterable(read_recording(path) for path in paths)

    made = folder / "simulated.zst"
    simulate(SIMULATED_SECONDS, seed=SIMULATED_SEED, recording=made)
    bybit = next((DATA / "bybit-v5-session").glob("*.zst"))
    return [
        Recording("Binance USD-M BTCUSDT, 2024-08-08", "BTCUSDT", of(raw / "usdm_btcusdt_20240808.gz")),
        Recording("Binance USD-M ETHUSDT, 2024-08-08", "ETHUSDT", of(raw / "usdm_ethusdt_20240808.gz")),
        Recording(
            "Binance spot BTCUSDT, 2024-08-08",
            "BTCUSDT",
            of(*(raw / f"spot_btcusdt_2024080{day}.gz" for day in (8, 9))),
        ),
        Recording("Bybit BTCUSDT, 2026-08-09", "BTCUSDT", of(bybit), "linear"),
        Recording("Bybit SOLUSDT, 2026-08-09", "SOLUSDT", of(bybit), "linear"),
        Recording(f"the simulator's BTCUSDT, seed {SIMULATED_SEED}", "BTCUSDT", of(made), "linear", is_real=False),
    ]


def sessions_of(key: str, known: Sequence[Recording]) -> list[Session]:
    return [_session(key, each) for each in known]


def _session(key: str, recording: Recording) -> Session:
    kind: Any = STRATEGIES[key]
    strategy: Strategy = kind.create(recording.symbol, parse_parameters(kind.parameters, {}))
    feature, session, open_now = feature_index(THRESHOLDS[key][0]), Session(recording), []
    for step in _Told(recording, strategy).run(recording.frames()):
        if step.book.state is not BookState.LIVE:
            continue
        view = step.book.view()
        session.messages += 1
        session.seen.append(
            (view.venue_ns / 1e6, float(view.best_bid), float(view.best_ask), float(view.features[feature]))
        )
        open_now = [each for each in open_now if not each.see(view)]
        signal = strategy.on_book(view)
        if signal is not None:
            followed = Followed(signal)
            followed.see(view)
            session.signals.append(followed)
            open_now.append(followed)
    return session


def median_signal(sessions: Sequence[Session]) -> tuple[Session, Followed, float] | None:
    """Of recordings of real markets the signal that ended nearest to the median of all, and that median; of those that
    met their target or stop and asked for no model, where there are any."""
    told = [(session, each) for session in sessions if session.recording.is_real for each in session.signals]
    if not told:
        return None
    middle = float(np.median([each.net_percent for _, each in told]))
    alone = [pair for pair in told if "min_probability" not in pair[1].signal.metadata] or told
    ended = [pair for pair in alone if pair[1].why != STILL_OPEN] or alone
    session, signal = min(ended, key=lambda pair: (abs(pair[1].net_percent - middle), pair[1].signal.time_ns))
    return session, signal, middle


def drawn(key: str, session: Session, followed: Followed) -> str:
    """The chart of a signal as SVG: best prices and the imbalance around it."""
    signal = followed.signal
    signalled = signal.time_ns // 1_000_000
    table = np.array(session.seen)
    first, last = np.searchsorted(table[:, 0], [signalled - BEFORE_MS, followed.exit_ms + AFTER_MS])
    part = table[first:last]
    part = part[np.unique(np.linspace(0, len(part) - 1, POINTS).astype(int))]
    times = part[:, 0].astype(np.int64)
    lines = [Line("best ask", LINES[4], times, part[:, 2]), Line("best bid", LINES[3], times, part[:, 1])]
    if (level := signal.metadata.get("cluster_price")) is not None:
        standing = np.where(times <= signalled, float(level), np.nan)
        lines.append(Line("cluster that was eaten", LINES[0], times, standing, "dashed"))
    _, name, threshold = THRESHOLDS[key]
    levels = (
        [(threshold, f"+{threshold:g} leans"), (-threshold, f"−{threshold:g} leans")] if threshold else [(0.0, "even")]
    )
    panel = Panel(f"{name}, −1 (asks) to +1 (bids)", [Line(name, LINES[1], times, part[:, 3])], levels)
    shown = ShownTrade(
        signal.side, signalled, signalled, float(signal.entry_price), followed.exit_ms, followed.exit,
        float(signal.stop_loss), float(signal.take_profit), followed.why,
    )  # fmt: skip
    words = "Buy" if signal.direction > 0 else "Sell"
    about = (
        f"{words} at {signal.entry_price:f}, ended by {followed.why} at {followed.exit:.10g}: "
        f"{followed.gross_percent:+.3f} % before fees, {followed.net_percent:+.3f} % after"
    )
    decimals = max(0, -int(signal.entry_price.normalize().as_tuple().exponent))
    title = f"{STRATEGIES[key].title}: {session.recording.name}"
    return chart(title, about.replace(" -", " −"), shown, lines=lines, panels=[panel], decimals=max(decimals, 1))
