"""Values that tests need: valid by default, each part can be said."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import orjson
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission

from marketdata.candles.series import DAY_MS, CandleSeries, interval_ms
from marketdata.instruments import InstrumentRules, rules_from_bybit
from marketdata.services import instruments_sync
from risk.intents import OrderIntent
from strategies.models import StrategyConfig
from strategies.services import strategy_config_create
from trading.backtest.request import BacktestRequest
from trading.backtest.result import BacktestFill, BacktestResult, BacktestSignal, BacktestTrade
from trading.models import Account, BacktestRun, Search
from trading.reports import FillReport, OrderReport
from trading.runtime.backtest_data import BacktestData
from trading.runtime.backtest_run import carry_out_backtest
from trading.runtime.search_run import carry_out_search
from trading.services.accounts import account_create
from trading.services.backtests import backtest_create
from trading.services.leases import Holder, LeaseToken, account_leases_take, leases_take, session_open, symbol_resource
from trading.services.searches import search_create
from trading.simulator.instruments import INSTRUMENTS

RULES = InstrumentRules(
    symbol="BTCUSDT",
    tick_size=Decimal("0.1"),
    lot_size=Decimal("0.001"),
    min_quantity=Decimal("0.001"),
    max_quantity=Decimal(1000),
    max_market_quantity=Decimal(200),
    min_notional=Decimal(5),
    min_price=Decimal("0.1"),
    max_price=Decimal(2_000_000),
    max_leverage=Decimal(100),
)


def list_instruments() -> None:
    instruments_sync([rules_from_bybit(each.listing(), "linear") for each in INSTRUMENTS[:3]])


def lease(symbol: str = "BTCUSDT", seconds: float = 60) -> LeaseToken:
    """A symbol's lease, held by an engine of the test's own."""
    resource = symbol_resource(symbol)
    session_id = session_open(name="test", seconds=seconds, resources=[resource])
    return LeaseToken(resource, leases_take(session_id=session_id, resources=[resource])[resource])


def ownership(account_id: int, seconds: float = 60) -> LeaseToken:
    """An account's lease, held by an owner of the test's own; whoever had it has lost it."""
    taken = account_leases_take(holders={account_id: Holder("test")}, seconds=seconds, evict_reason="a test owns it")
    return taken[account_id][1]


def user(name: str, **options: Any) -> Any:
    return get_user_model().objects.create_user(name, password=f"{name}-password", **options)


def permit(user: Any, *codenames: str) -> Any:
    """Give Django permissions by name; returns the user."""
    user.user_permissions.add(*Permission.objects.filter(codename__in=codenames))
    return user


def account(owner: Any, name: str = "", environment: str = "simulator", key: Any = None) -> Account:
    return account_create(
        owner=owner,
        name=name or f"{owner.username} account",
        environment=environment,
        api_key=key.api_key if key else "key",
        api_secret=key.api_secret if key else "secret",
        actor="test",
    )


def strategy(account: Account, **changes: Any) -> StrategyConfig:
    """A strategy of an account as a person would add it; not running."""
    values: dict[str, Any] = {
        "name": "trend",
        "strategy": "supertrend",
        "symbols": ["BTCUSDT"],
        "parameters": {},
        "sizing_mode": "percent",
        "sizing_value": Decimal(1),
        "leverage": Decimal(10),
        "actor": "test",
    }
    return strategy_config_create(account=account, **(values | changes))


def intent(**changes: Any) -> OrderIntent:
    values: dict[str, Any] = {
        "account_id": 1,
        "symbol": "BTCUSDT",
        "side": "Buy",
        "order_type": "Limit",
        "quantity": Decimal("0.01"),
        "price": Decimal("60000.0"),
        "time_in_force": "GTC",
        "reduce_only": False,
        "take_profit": None,
        "stop_loss": None,
        "strategy": "test",
        "client_order_id": "test-1",
        "reason": "a test",
        "trace_id": "trace-1",
        "leverage": Decimal(10),
    }
    return OrderIntent(**(values | changes))


def fill_report(**changes: Any) -> FillReport:
    values: dict[str, Any] = {
        "execution_id": "execution-1",
        "execution_type": "Trade",
        "venue_order_id": "venue-1",
        "client_order_id": "order-1",
        "symbol": "BTCUSDT",
        "side": "Buy",
        "price": Decimal("60000"),
        "quantity": Decimal("0.01"),
        "fee": Decimal("0.33"),
        "fee_currency": "USDT",
        "is_maker": False,
        "executed_ms": 1_795_000_000_000,
    }
    return FillReport(**(values | changes))


def order_report(**changes: Any) -> OrderReport:
    values: dict[str, Any] = {
        "venue_order_id": "venue-1",
        "client_order_id": "order-1",
        "symbol": "BTCUSDT",
        "side": "Buy",
        "order_type": "Limit",
        "time_in_force": "GTC",
        "status": "New",
        "quantity": Decimal("0.01"),
        "price": Decimal("60000"),
        "filled_quantity": Decimal(0),
        "average_price": None,
        "reduce_only": False,
        "reject_reason": "EC_NoError",
        "cancel_type": "UNKNOWN",
        "created_ms": 1_795_000_000_000,
        "updated_ms": 1_795_000_000_000,
    }
    return OrderReport(**(values | changes))


def book_frame(
    kind: str, update_id: int, bids: list[list[str]], asks: list[list[str]], symbol: str = "BTCUSDT"
) -> bytes:
    data = {"s": symbol, "b": bids, "a": asks, "u": update_id, "seq": update_id}
    return orjson.dumps({"topic": f"orderbook.200.{symbol}", "type": kind, "ts": 1, "data": data, "cts": 1})


def market_frame(**changes: Any) -> str:
    """One ``market_data`` message as an engine publishes it."""
    data: dict[str, Any] = {
        "symbol": "BTCUSDT",
        "state": "LIVE",
        "state_reason": "",
        "u": 1,
        "bids": [["100.0", "1"]],
        "asks": [["100.5", "1"]],
        "last": "100.2",
        "mark": "100.2",
        "index": "100.2",
        "funding_rate": "0.0001",
        "volume_24h": "10",
        "turnover_24h": "1000",
        "change_24h": "0.01",
        "trades": [],
        "candles": {},
        "features": {},
    }
    return orjson.dumps({"type": "market_data", "timestamp": 1, "data": data | changes}).decode()


def backtest_trade(pnl: str, closed_ms: int, **changes: Any) -> BacktestTrade:
    """A long of an hour that ended at ``closed_ms`` with this net profit."""
    values: dict[str, Any] = {
        "symbol": "BTCUSDT",
        "strategy": "supertrend",
        "side": "Buy",
        "opened_ms": closed_ms - 3_600_000,
        "closed_ms": closed_ms,
        "quantity": Decimal("0.1"),
        "entry_price": Decimal(60_000),
        "exit_price": Decimal(60_000) + Decimal(pnl) * 10,
        "fees": Decimal("1.5"),
        "funding": Decimal("-0.25"),
        "pnl": Decimal(pnl),
        "best": 1.5,
        "worst": -0.5,
        "why": "take_profit",
    }
    return BacktestTrade(**(values | changes))


def backtest_fills(trade: BacktestTrade) -> list[BacktestFill]:
    """The two fills of a trade."""
    out = "Sell" if trade.side == "Buy" else "Buy"
    gross = trade.pnl + trade.fees - trade.funding
    return [
        BacktestFill(
            *(trade.opened_ms, trade.symbol, trade.strategy, trade.side, trade.entry_price, trade.quantity),
            *(trade.fees / 2, False, Decimal(0), "signal"),
        ),
        BacktestFill(
            *(trade.closed_ms, trade.symbol, trade.strategy, out, trade.exit_price, trade.quantity),
            *(trade.fees / 2, False, gross, trade.why),
        ),
    ]


def backtest_signal(time_ms: int, outcome: str = "approved", words: str = "") -> BacktestSignal:
    prices = (Decimal(60_000), Decimal(61_200), Decimal(59_400))
    return BacktestSignal(time_ms, "BTCUSDT", "supertrend", "Buy", 0.7, *prices, outcome, words)


def backtest_result(
    equity: Sequence[float] = (),
    *,
    trades: Sequence[BacktestTrade] = (),
    signals: Sequence[BacktestSignal] = (),
    start_ms: int = 1_767_225_600_000,
    step_ms: int = 86_400_000,
    exposed: Sequence[float] | None = None,
) -> BacktestResult:
    """What a run found: one point of equity at the end of each step since 2026-01-01."""
    times = start_ms + step_ms * np.arange(1, len(equity) + 1, dtype=np.int64)
    fills = [fill for trade in trades for fill in backtest_fills(trade)]
    return BacktestResult(
        signals=tuple(signals),
        fills=tuple(sorted(fills, key=lambda each: each.time_ms)),
        trades=tuple(trades),
        equity_ms=times,
        equity=np.array(equity, dtype=np.float64),
        exposed=np.zeros(len(equity)) if exposed is None else np.array(exposed, dtype=np.float64),
        balance=Decimal(10_000) + sum((trade.pnl for trade in trades), Decimal(0)),
        events=len(equity),
        data=(("candles/BTCUSDT/1", "d" * 64),),
        code="test",
    )


def backtest_request(**changes: Any) -> dict[str, Any]:
    """What a person asks for, as JSON."""
    strategy = {"strategy": "supertrend", "symbols": ["BTCUSDT"], "parameters": {"timeframe": "5"}}
    return {"strategies": [strategy], "start": "2026-01-01", "end": "2026-01-11", "interval": "5"} | changes


def candle_series(bars: int = 600, symbol: str = "BTCUSDT", interval: str = "5") -> CandleSeries:
    """A slow wave around 60,000 since 2026-01-01, two decimals."""
    wave = 6_000_000 + (200_000 * np.sin(np.arange(bars + 1) / 40)).astype(np.int64)
    opens, closes = wave[:-1], wave[1:]
    return CandleSeries(
        *("bybit", symbol, interval, 2, 3),
        start_ms=1_767_225_600_000 + interval_ms(interval) * np.arange(bars, dtype=np.int64),
        open=opens,
        high=np.maximum(opens, closes) + 5_000,
        low=np.minimum(opens, closes) - 5_000,
        close=closes,
        volume=np.full(bars, 12_000, dtype=np.int64),
    )


def backtest_data(request: BacktestRequest) -> BacktestData:
    """Bars for everything that is asked for."""
    bars = (request.end_ms - request.start_ms) // interval_ms(request.interval)
    candles = {
        (symbol, request.interval): candle_series(min(bars, 3_000), symbol, request.interval)
        for symbol in request.symbols
    }
    return BacktestData(candles, {}, dict.fromkeys(request.symbols, RULES))


def backtest_found(trades: int = 60) -> BacktestResult:
    """A run of ten days with trades that win and lose, some signals denied."""
    start, hour = 1_767_225_600_000, 3_600_000
    ends = ("take_profit", "stop_loss", "trailing_stop", "signal")
    rows = [
        backtest_trade(
            f"{(170, -90, 45, -160, 110, -130, 95)[place % 7]}.5",
            start + hour * (4 * place + 3),
            side="Buy" if place % 3 else "Sell",
            why=ends[place % 4],
        )
        for place in range(trades)
    ]
    steps = np.zeros(240)
    for row in rows:
        steps[min(239, (row.closed_ms - start) // hour - 1)] += float(row.pnl)
    signals = [backtest_signal(row.opened_ms) for row in rows]
    denied = "max_positions: 1 position is open, at most 1 may be"
    signals += [backtest_signal(row.opened_ms + hour // 2, "denied", denied) for row in rows[::5]]
    signals += [
        backtest_signal(row.opened_ms + hour // 3, "vetoed", "confidence 0.51 is below 0.65") for row in rows[::9]
    ]
    return backtest_result(
        (10_000 + np.cumsum(steps)).tolist(),
        trades=rows,
        signals=sorted(signals, key=lambda each: each.time_ms),
        step_ms=hour,
        exposed=[6_000.0 if place % 4 > 1 else 0.0 for place in range(240)],
    )


def backtest_run(owner: Any, *, done: bool = True, name: str = "", **changes: Any) -> BacktestRun:
    """A backtest of somebody; ``done``: with what it found, otherwise waiting."""
    run = backtest_create(owner=owner, data=backtest_request(**changes), name=name)
    if done:
        carry_out_backtest(run.pk, load=backtest_data, simulate=lambda request, data, pulse: backtest_found())
        run.refresh_from_db()
    return run


def hill(request: BacktestRequest, data: BacktestData, pulse: Any) -> BacktestResult:
    """What a backtest finds where a period of 12 is best; four trades a day."""
    days = max(1, (request.end_ms - request.start_ms) // DAY_MS)
    away = abs(int(request.strategies[0].parameters["period"]) - 12) / 25
    wave = np.where(np.arange(days) % 2 == 0, 0.011, -0.009)
    equity = 10_000 * np.cumprod(1 + wave - 0.02 * away)
    ends = [request.start_ms + (place + 1) * DAY_MS // 4 for place in range(4 * days)]
    trades = [backtest_trade("5", end) for end in ends]
    return backtest_result(equity.tolist(), trades=trades, start_ms=request.start_ms)


def search(owner: Any, *, done: bool = True, name: str = "", **changes: Any) -> Search:
    """A search of somebody; ``done``: with what it found, otherwise waiting."""
    made = search_create(owner=owner, data=search_request(**changes), name=name)
    if done:
        carry_out_search(made.pk, load=backtest_data, test=hill, confirm=hill)
        made.refresh_from_db()
    return made


def search_request(**changes: Any) -> dict[str, Any]:
    """What a person asks a search for, as JSON."""
    return {"backtest": backtest_request(), "space": {"period": {"low": 5, "high": 30}}, "trials": 20} | changes
