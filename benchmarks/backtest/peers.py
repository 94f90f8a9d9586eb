"""The same crossing means in other libraries: signals at a bar's close, orders at the next open, always one quantity,
turned at each crossing, one fee. Each returns how many positions it closed, and what was gained after fees.

A peer is given the bars and returns what is timed: everything from prices to closed positions. What a library wants of
its input (frames, its own bars) is made before.
"""

from __future__ import annotations

import importlib.metadata
import warnings
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np

from benchmarks.backtest.market import FEE, QUANTITY, START_MS, Bars

Found = tuple[int, float]
Run = Callable[[], Found]
BALANCE = 1_000_000.0


def version(distribution: str) -> str:
    """What is installed, or an empty text."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _frame(bars: Bars) -> Any:
    import pandas as pd

    index = pd.date_range(pd.Timestamp(START_MS, unit="ms"), periods=len(bars.close), freq="1min")
    columns = {"Open": bars.open, "High": bars.high, "Low": bars.low, "Close": bars.close, "Volume": bars.volume}
    return pd.DataFrame({name: each.astype(np.float64) for name, each in columns.items()}, index=index)


def vectorbt_signals(frame: Any, fast: int, slow: int) -> Any:
    import vectorbt

    quick, long = vectorbt.MA.run(frame.Close, fast), vectorbt.MA.run(frame.Close, slow)
    up, down = quick.ma_crossed_above(long), quick.ma_crossed_below(long)
    return vectorbt.Portfolio.from_signals(
        frame.Close,
        entries=up.shift(1, fill_value=False),
        short_entries=down.shift(1, fill_value=False),
        price=frame.Open,
        size=QUANTITY,
        fees=FEE,
        init_cash=BALANCE,
        upon_opposite_entry="Reverse",
        freq="1min",
    )


def vectorbt_run(bars: Bars, fast: int, slow: int) -> Run:
    warnings.filterwarnings("ignore")
    frame = _frame(bars)

    def run() -> Found:
        portfolio = vectorbt_signals(frame, fast, slow)
        return int(portfolio.trades.count()), float(portfolio.total_profit())

    return run


def vectorbt_sweep(bars: Bars, sets: list[tuple[int, int]]) -> Callable[[], list[tuple[float, ...]]]:
    """One after the other: 100 sets at once are 100 columns of each array, which is many GB. Figures as ours: trades,
    profit, and Sharpe and drawdown of the equity, made with its own kernels of daily and of all values."""
    warnings.filterwarnings("ignore")
    frame = _frame(bars)

    def one(fast: int, slow: int) -> tuple[float, ...]:
        portfolio = vectorbt_signals(frame, fast, slow)
        value = portfolio.value()
        daily = value.resample("1D").last().pct_change().dropna()
        peak = np.maximum.accumulate(value.to_numpy())
        drawdown = float((1.0 - value.to_numpy() / peak).max())
        sharpe = float(daily.mean() / daily.std() * np.sqrt(365))
        return float(portfolio.trades.count()), float(portfolio.total_profit()), sharpe, drawdown

    return lambda: [one(fast, slow) for fast, slow in sets]


def backtesting_run(bars: Bars, fast: int, slow: int) -> Run:
    """It trades whole units: prices are those of the quantity."""
    import backtesting
    import pandas as pd

    warnings.filterwarnings("ignore")
    backtesting.backtesting._tqdm = lambda each, **_: each
    frame = _frame(bars)
    for column in ("Open", "High", "Low", "Close"):
        frame[column] *= QUANTITY

    def mean(values: Any, count: int) -> Any:
        return pd.Series(values).rolling(count).mean()

    class Cross(backtesting.Strategy):
        def init(self) -> None:
            self.fast, self.slow = self.I(mean, self.data.Close, fast), self.I(mean, self.data.Close, slow)

        def next(self) -> None:
            above, before = self.fast[-1] > self.slow[-1], self.fast[-2] > self.slow[-2]
            if above and not before:
                self.buy(size=1)
            elif before and not above:
                self.sell(size=1)

    def run() -> Found:
        test = backtesting.Backtest(
            frame, Cross, cash=BALANCE, commission=FEE, exclusive_orders=True, finalize_trades=True
        )
        found = test.run()
        return int(found["# Trades"]), float(found["Equity Final [$]"]) - BALANCE

    return run


def nautilus_run(bars: Bars, fast: int, slow: int) -> Callable[[], Run]:
    """An engine runs once: it is made before, untimed, as are its bars."""
    from nautilus_trader.backtest.engine import BacktestEngine, BacktestEngineConfig
    from nautilus_trader.config import LoggingConfig
    from nautilus_trader.indicators import SimpleMovingAverage
    from nautilus_trader.model.currencies import USDT
    from nautilus_trader.model.data import BarType
    from nautilus_trader.model.enums import AccountType, OmsType, OrderSide
    from nautilus_trader.model.identifiers import Venue
    from nautilus_trader.model.objects import Money
    from nautilus_trader.persistence.wranglers import BarDataWrangler
    from nautilus_trader.test_kit.providers import TestInstrumentProvider
    from nautilus_trader.trading.strategy import Strategy

    instrument = TestInstrumentProvider.btcusdt_perp_binance()
    kind = BarType.from_str(f"{instrument.id}-1-MINUTE-LAST-EXTERNAL")
    frame = _frame(bars).rename(columns=str.lower).tz_localize("UTC")
    made = BarDataWrangler(kind, instrument).process(frame)

    class Cross(Strategy):
        def __init__(self) -> None:
            super().__init__()
            self.quick, self.long, self.above = SimpleMovingAverage(fast), SimpleMovingAverage(slow), None
            self.size = instrument.make_qty(Decimal(str(QUANTITY)))
            self.twice = instrument.make_qty(Decimal(str(2 * QUANTITY)))

        def on_start(self) -> None:
            self.register_indicator_for_bars(kind, self.quick)
            self.register_indicator_for_bars(kind, self.long)
            self.subscribe_bars(kind)

        def on_bar(self, bar: Any) -> None:
            if not self.long.initialized:
                return
            before, self.above = self.above, self.quick.value > self.long.value
            if before is None or before == self.above:
                return
            size = self.size if self.portfolio.is_flat(instrument.id) else self.twice
            side = OrderSide.BUY if self.above else OrderSide.SELL
            self.submit_order(self.order_factory.market(instrument.id, side, size))

        def on_stop(self) -> None:
            self.close_all_positions(instrument.id)

    def fresh() -> Run:
        quiet = LoggingConfig(log_level="ERROR", bypass_logging=True)
        engine = BacktestEngine(BacktestEngineConfig(logging=quiet))
        engine.add_venue(
            Venue("BINANCE"), OmsType.NETTING, AccountType.MARGIN, [Money(BALANCE, USDT)], base_currency=USDT
        )
        engine.add_instrument(instrument)
        engine.add_data(made)
        engine.add_strategy(Cross())

        def run() -> Found:
            engine.run()
            fills = sum(len(order.trade_ids) for order in engine.cache.orders_closed())
            balance = engine.cache.account_for_venue(Venue("BINANCE")).balance_total(USDT).as_double()
            engine.dispose()
            return fills, balance - BALANCE

        return run

    return fresh
