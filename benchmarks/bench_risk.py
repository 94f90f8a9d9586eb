"""How long a risk check takes: one account with 20 positions and 100 pending orders, every limit of four levels set.

    python benchmarks/bench_risk.py

Prints microseconds: the least of five rounds and their median, and for the exposure, which is made anew when a report
comes or an order is approved, and not in a check.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from marketdata.instruments import InstrumentRules
from risk.checks import Market, check_intent
from risk.exposure import Exposure, PendingExposure, PositionExposure, Totals
from risk.groups import GroupLimit, SymbolGroup, SymbolGroups
from risk.intents import OrderIntent
from risk.limits import Limits, combined
from risk.returns import STEP_NS, Returns
from risk.slippage import BookSide, estimate_fill

D = Decimal
ROUNDS, CALLS = 5, 2_000
POSITIONS, PENDING = 20, 100
TARGET = 50.0
SYMBOLS = [f"COIN{number:02}USDT" for number in range(POSITIONS)]
NEW = "NEWUSDT"
RULES = InstrumentRules(
    symbol=NEW,
    tick_size=D("0.1"),
    lot_size=D("0.001"),
    min_quantity=D("0.001"),
    max_quantity=D(1000),
    max_market_quantity=D(200),
    min_notional=D(5),
    min_price=D("0.1"),
    max_price=D(2_000_000),
    max_leverage=D(100),
)
WIDE = Limits(
    max_order_notional=D(10**9),
    max_position_notional=D(10**9),
    max_positions=100,
    max_open_orders=500,
    max_daily_loss_percent=D(50),
    max_leverage=D(50),
    price_collar_percent=D(5),
    max_order_rate=1000,
    max_positions_per_symbol=5,
    max_risk_per_trade_percent=D(50),
    max_total_risk_percent=D(100),
    max_drawdown_percent=D(90),
    max_correlation=D("0.7"),
    max_correlated_positions=100,
    max_slippage_percent=D(5),
    group_limits={"all": GroupLimit(100, D(10**9))},
)


def exposure() -> Exposure:
    positions = {symbol: PositionExposure("Buy", D("0.5"), D(100), D(101), D(10), D(98), "test") for symbol in SYMBOLS}
    pending: dict[str, PendingExposure] = {}
    for number in range(PENDING):
        symbol = SYMBOLS[number % POSITIONS]
        before = pending.get(symbol, PendingExposure())
        pending[symbol] = before.plus("Buy" if number % 2 else "Sell", D("0.1"), D(100), D(98))
    others = Totals(
        D(10**6), D(10**6), D(10**6), D(1000), dict.fromkeys(SYMBOLS, D(100)), dict.fromkeys(SYMBOLS, 1), 20
    )
    return Exposure(
        known=True,
        equity=D(100_000),
        available_balance=D(100_000),
        day_pnl=D(-100),
        positions=positions,
        pending=pending,
        open_orders=PENDING,
        peak_equity=D(101_000),
        strategies={"test": others},
        user=others,
        platform=others,
    )


def returns() -> Returns:
    made, price = Returns(), 100.0
    for minute in range(60):
        price *= 1.001 if minute % 3 else 0.999
        for number, symbol in enumerate([*SYMBOLS, NEW]):
            made.add(symbol, price * (1 + number * 0.001 * (minute % 5)), minute * STEP_NS)
    return made


def measured(name: str, call: Callable[[], object], calls: int = CALLS) -> float:
    rounds = []
    for _ in range(ROUNDS):
        started = time.perf_counter_ns()
        for _ in range(calls):
            call()
        rounds.append((time.perf_counter_ns() - started) / calls / 1000)
    print(f"{name:<58} {min(rounds):7.1f} us least {statistics.median(rounds):7.1f} us median")
    return min(rounds)


def main() -> int:
    intent = OrderIntent(
        1,
        NEW,
        "Buy",
        "Market",
        D("0.5"),
        None,
        "IOC",
        False,
        D("104.0"),
        D("98.0"),
        "test",
        "id",
        "why",
        "trace",
        D(10),
    )
    at_stake = exposure()
    groups = SymbolGroups([SymbolGroup("all", frozenset([*SYMBOLS, NEW]), 100, D(10**9))])
    side = BookSide([(1000 + level, 100) for level in range(200)], D("0.1"), D("0.001"), D("99.95"))
    market = Market(groups, returns(), estimate_fill(side, D("0.5")))
    account_only, all_levels = combined(WIDE), combined(WIDE, strategy=WIDE, user=WIDE, platform=WIDE)
    decision = check_intent(intent, all_levels, at_stake, RULES, D(100), market)
    if not decision.approved:
        print("the order must pass every rule, so that all are asked; refused by", decision.refusals)
        return 1
    print(f"{POSITIONS} positions, {PENDING} pending orders")
    one = measured("check, limits of the account", lambda: check_intent(
        intent, account_only, at_stake, RULES, D(100), market))  # fmt: skip
    four = measured("check, all limits of account, strategy, user, platform", lambda: check_intent(
        intent, all_levels, at_stake, RULES, D(100), market))  # fmt: skip
    measured("walk of the book for a market order (5 levels deep)", lambda: estimate_fill(side, D("0.5")))
    measured("exposure with one more order", lambda: at_stake.with_intent(intent, D(100)), 500)
    measured("exposure made of its parts", lambda: replace(at_stake, known=True), 500)
    print(f"target: below {TARGET:g} us a check: {'met' if max(one, four) < TARGET else 'missed'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
