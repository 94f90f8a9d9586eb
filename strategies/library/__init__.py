"""Every strategy that can be configured, by its key."""

from __future__ import annotations

from strategies.base import Strategy
from strategies.library.breakout import Breakout
from strategies.library.cluster_breakout import ClusterBreakout
from strategies.library.mean_reversion import MeanReversion
from strategies.library.orderbook_imbalance import OrderBookImbalance
from strategies.library.orderbook_scalper import OrderBookScalper
from strategies.library.sar_wave import SarWave
from strategies.library.supertrend import SuperTrend
from strategies.library.trend_following import TrendFollowing
from strategies.library.volume_profile import VolumeProfile

STRATEGIES: dict[str, type[Strategy]] = {
    SuperTrend.name: SuperTrend,
    Breakout.name: Breakout,
    TrendFollowing.name: TrendFollowing,
    MeanReversion.name: MeanReversion,
    SarWave.name: SarWave,
    VolumeProfile.name: VolumeProfile,
    OrderBookScalper.name: OrderBookScalper,
    OrderBookImbalance.name: OrderBookImbalance,
    ClusterBreakout.name: ClusterBreakout,
}
