"""The same little strategy on the same recorded book, here and in hftbacktest: every 100 ms it cancels its quotes and
puts new ones at the best bid and ask that it has heard of, PostOnly. Feed and orders take their time to and fro.

Ours three times: compiled with the replay, in Python that asks the replay from stop to stop, and the replay alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from benchmarks.backtest.book_feed import LEVEL, LOT, TICK, TRADE
from trading.backtest.feed import Event, Feed
from trading.backtest.kernels import replay as kernels
from trading.backtest.replay import NOTHING, Force, Replay, Why

STEP_NS, LATENCY_NS = 100_000_000, 5_000_000
QUOTED_LOTS = 10
MAKER_FEE, TAKER_FEE = 0.0002, 0.0007
BUYS, SELLS, POST_ONLY = 1, -1, int(Force.POST_ONLY)
CANCEL = int(kernels.ASKED_CANCEL)
# Fills, and the lots that are held at the end.
Found = tuple[int, int]
Run = Callable[[], Found]


@numba.njit(nogil=True)
def _quote(events: Any, tables: Any, heard_events: Any, heard: Any, now: int) -> tuple[int, int]:
    """Everything in one kernel; fills and the lots that are held at the end."""
    at, reports, fills, held, cash, fees = tables.at, tables.reports, 0, 0, 0.0, 0.0
    bid = ask = 0
    while True:
        now += STEP_NS
        why = kernels.move(events, tables, now)
        if why & kernels.WHY_FULL != 0:
            return -1, held
        for row in range(at[kernels.REPORTS]):
            if reports[row, kernels.T_WHAT] < kernels.STATUS_BASE:
                side, lots, tick = (
                    reports[row, kernels.T_SIDE],
                    reports[row, kernels.T_LOTS],
                    reports[row, kernels.T_TICK],
                )
                fills += 1
                held += side * lots
                cash -= side * tick * lots
                fees += tick * lots * (MAKER_FEE if reports[row, kernels.T_WHAT] == kernels.MAKER else TAKER_FEE)
        at[kernels.REPORTS] = 0
        kernels.play(heard_events, heard, now)
        if why & kernels.WHY_END != 0:
            return fills, held
        arrives = now + LATENCY_NS
        if bid > 0:
            kernels.ask(tables, arrives, CANCEL, bid, 0, 0)
            kernels.ask(tables, arrives, CANCEL, ask, 0, 0)
        best_bid, best_ask = kernels.touch(heard, kernels.BIDS), kernels.touch(heard, kernels.ASKS)
        bid = kernels.send_order(tables, arrives, BUYS, POST_ONLY, best_bid, QUOTED_LOTS)
        ask = kernels.send_order(tables, arrives, SELLS, POST_ONLY, best_ask, QUOTED_LOTS)


def compiled(feed: Feed, heard: Feed) -> Run:
    def run() -> Found:
        replay, local = Replay(feed), Replay(heard)
        replay.make_room(reports=4_096)
        found = _quote(feed.events, replay.tables, heard.events, local.tables, feed.start_ns)
        if found[0] < 0:
            raise AssertionError("the kernel ran out of room")
        return found

    return run


def in_python(feed: Feed, heard: Feed) -> Run:
    def run() -> Found:
        replay, local = Replay(feed, entry_ns=LATENCY_NS, response_ns=LATENCY_NS), Replay(heard)
        now, orders, fills, held = feed.start_ns, list[int](), 0, 0
        while True:
            now += STEP_NS
            why = replay.advance(now, NOTHING)
            for fill in replay.take_fills():
                fills += 1
                held += fill.lots if fill.side == "Buy" else -fill.lots
            replay.take_ends()
            local.advance(now)
            if why & Why.END:
                return fills, held
            for order in orders:
                replay.cancel(order)
            orders = [
                replay.submit("Buy", QUOTED_LOTS, local.bids.best, Force.POST_ONLY),
                replay.submit("Sell", QUOTED_LOTS, local.asks.best, Force.POST_ONLY),
            ]

    return run


def alone(feed: Feed) -> Run:
    def run() -> Found:
        replay = Replay(feed)
        replay.advance(feed.end_ns)
        return 0, 0

    return run


def _their_events(feed: Feed) -> Any:
    from hftbacktest import BUY_EVENT, DEPTH_EVENT, EXCH_EVENT, LOCAL_EVENT, SELL_EVENT, TRADE_EVENT
    from hftbacktest.types import event_dtype

    rows = feed.events[np.isin(feed.events[:, Event.KIND], (LEVEL, TRADE))]
    made = np.zeros(len(rows), dtype=event_dtype)
    kind = np.where(rows[:, Event.KIND] == TRADE, TRADE_EVENT, DEPTH_EVENT)
    side = np.where(rows[:, Event.SIDE] > 0, BUY_EVENT, SELL_EVENT)
    made["ev"] = (kind | side | EXCH_EVENT | LOCAL_EVENT).astype(np.uint64)
    made["exch_ts"], made["local_ts"] = rows[:, Event.TIME], rows[:, Event.RECEIVED]
    made["px"], made["qty"] = rows[:, Event.TICK] * float(TICK), rows[:, Event.LOTS] * float(LOT)
    return made


@numba.njit
def _their_quote(hbt: Any, limit: int, post_only: int, quantity: float) -> Any:
    order = 1
    while True:
        code = hbt.elapse(STEP_NS)
        if code != 0:
            return code, hbt.state_values(0).num_trades, hbt.position(0)
        hbt.clear_inactive_orders(0)
        depth = hbt.depth(0)
        if order > 1:
            for number in (order - 2, order - 1):
                known = hbt.orders(0).get(number)
                if known is not None and known.cancellable:
                    hbt.cancel(0, number, False)
        hbt.submit_buy_order(0, order, depth.best_bid, quantity, post_only, limit, False)
        hbt.submit_sell_order(0, order + 1, depth.best_ask, quantity, post_only, limit, False)
        order += 2


def hftbacktest(feed: Feed, *, by_vector: bool) -> Run:
    """Its hash-map or its vector (of the prices that are named) book. Of its exchange models the one without partial
    fills: the other one ends with error 14 on this feed."""
    from hftbacktest import GTX, LIMIT, BacktestAsset, HashMapMarketDepthBacktest, ROIVectorMarketDepthBacktest

    events = _their_events(feed)
    lowest, highest = float(events["px"].min()), float(events["px"].max())

    def run() -> Found:
        asset = (
            BacktestAsset()
            .data(events)
            .linear_asset(1.0)
            .constant_order_latency(LATENCY_NS, LATENCY_NS)
            .risk_adverse_queue_model()
            .no_partial_fill_exchange()
            .trading_value_fee_model(MAKER_FEE, TAKER_FEE)
            .tick_size(float(TICK))
            .lot_size(float(LOT))
            .last_trades_capacity(0)
        )
        if by_vector:
            hbt = ROIVectorMarketDepthBacktest([asset.roi_lb(lowest).roi_ub(highest)])
        else:
            hbt = HashMapMarketDepthBacktest([asset])
        code, fills, held = _their_quote(hbt, LIMIT, GTX, QUOTED_LOTS * float(LOT))
        hbt.close()
        if code != 1:
            raise AssertionError(f"hftbacktest ended with {code}; expected the end of the data")
        return int(fills), round(held / float(LOT))

    return run
