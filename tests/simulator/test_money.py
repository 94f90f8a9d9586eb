"""Nothing is made and nothing is lost, for every coin, whatever users and markets do to each other."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable
from decimal import Decimal

import pytest

from tests.simulator.random_traders import COINS, RandomTraders
from trading.simulator.accounts import SimulatedAccount
from trading.simulator.exchange import Exchange

D = Decimal
TOLERANCE = D("1e-6")
# Long runs set SIMULATOR_RANDOM_ORDERS=1000000.
SEEDS = (1, 2, 3)
RANDOM_ORDERS = int(os.environ.get("SIMULATOR_RANDOM_ORDERS", "4000"))

# A run in which one of these never happened has proved nothing about it.
MUST_HAPPEN = (
    *("order, linear", "order, spot", "amendment", "cancel", "cancel-all", "disconnect", "leverage", "refused"),
    *("batch create, items done", "batch amend, items done", "batch cancel, items done"),
    *("exits, full", "exits, partial", "exits, trailing", "collateral switch", "move", "jump", "recorded trade"),
    *("execution, Trade", "execution, Funding", "execution, BustTrade", "execution, AdlTrade"),
    "execution in hedge mode",
    *(f"triggered, {kind}" for kind in ("Stop", "TakeProfit", "StopLoss", "PartialStopLoss", "TrailingStop")),
    *(f"ended, CancelBy{kind}" for kind in ("User", "Smp", "ReduceOnly", "TpSlTsClear", "PrepareAdl", "DCP")),
    *("ended, CancelAllBeforeLiq", "ended, post-only"),
    *(f"transaction, {kind}" for kind in ("TRADE", "SETTLEMENT", "LIQUIDATION", "ADL", "INTEREST")),
    *("transaction, CURRENCY_SELL", "transaction, CURRENCY_BUY"),
)


@pytest.mark.timeout(7_200)
def test_money_adds_up_for_every_coin_whatever_users_and_markets_do(
    record_property: Callable[[str, object], None],
) -> None:
    happened: Counter[str] = Counter()
    for seed in SEEDS:
        traders = RandomTraders(seed)
        for step in range(RANDOM_ORDERS // len(SEEDS)):
            traders.step()
            if step % 20 == 0:
                check_money(traders)
                check_books(traders.venue)
            if step % 100 == 99:
                traders.refill()
        check_money(traders)
        happened += traders.happened
    record_property("happened", dict(happened))
    sys.stdout.write(f"{dict(sorted(happened.items()))}\n")
    missed = [kind for kind in MUST_HAPPEN if not happened[kind]]
    assert not missed


def check_money(traders: RandomTraders) -> None:
    venue, ledger = traders.venue, traders.venue.ledger
    for coin in COINS:
        assert abs(ledger.total(coin) - traders.start[coin]) < TOLERANCE, coin
        assert ledger.insurance[coin] >= 0
    for symbol in venue.markets:
        signed = sum(
            position.quantity * (1 if position.side == "Buy" else -1)
            for account in venue.accounts.values()
            for position in account.positions.values()
            if position.symbol == symbol
        )
        # Whoever is long has somebody who is short, and the fund keeps nothing.
        assert signed + ledger.background_contracts[symbol] == 0 == ledger.insurance_contracts[symbol]
    for account in venue.accounts.values():
        for coin, amount in account.wallets.items():
            # The transaction log says how every wallet became what it is.
            assert abs(amount - traders.balances[account.user][coin]) < TOLERANCE, (account.user, coin)
            assert amount >= 0 or coin == "USDT"


def check_books(venue: Exchange) -> None:
    for market in (*venue.markets.values(), *venue.spot.values()):
        bid, ask = market.book.bids.best, market.book.asks.best
        assert bid is None or ask is None or bid < ask
        for side in (market.book.bids, market.book.asks):
            for tick in side.ticks():
                queue = side.queue(tick)
                assert side.lots_at(tick) == sum(entry.lots for entry in queue) > 0
                assert side.background_at(tick) == sum(entry.lots for entry in queue if entry.order is None)
                for entry in queue:
                    if entry.order is not None:
                        assert entry.order.entry == entry.handle and entry.order.tick == tick and entry.order.is_open
                        assert entry.order.leaves_lots == entry.lots
    for account in venue.accounts.values():
        for order in account.working.values():
            assert order.is_open
            assert order.status == "Untriggered" or order.entry is not None
        check_sums(account)


def check_sums(account: SimulatedAccount) -> None:
    """What an account keeps of its orders is what they are."""
    reserved: Counter[tuple[str, int]] = Counter()
    locks: Counter[str] = Counter()
    counts: Counter[tuple[str, str, bool]] = Counter()
    for order in account.working.values():
        waits = order.status == "Untriggered"
        counts[order.category, order.symbol, waits] += not order.is_exit
        if waits:
            continue
        if order.category == "linear":
            reserved[order.symbol, order.position_index] += 0 if order.reduce_only else order.leaves * order.price
        elif order.side == "Buy":
            locks["USDT"] += order.leaves * order.price
        else:
            locks[order.symbol.removesuffix("USDT")] += order.leaves
    assert +reserved == +Counter(account.reserved)
    assert +locks == +Counter(account.locks)
    assert +counts == +account.counts
