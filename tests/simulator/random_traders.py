"""An exchange on which users do anything at random, and how often each thing happened."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, cast

from trading.simulator.errors import ApiError
from trading.simulator.exchange import Exchange
from trading.simulator.instruments import INSTRUMENTS
from trading.simulator.keys import ApiKey
from trading.simulator.markets import Market, market_of
from trading.simulator.orders import SimulatedOrder
from trading.simulator.rest_private import BatchCommand, amend_order, cancel_order, create_order
from trading.simulator.venue import Venue

D = Decimal
COINS = ("USDT", "USDC", "BTC", "ETH")
# Each begins with something else to stand for margin; hedger holds both sides of a contract.
KEYS = {
    "alice": {"USDT": 2_000},
    "bob": {"USDT": 800, "BTC": 8},
    "carol": {"USDT": 100, "USDC": 900, "ETH": 20},
    "hedger": {"USDT": 2_000, "ETH": 5},
}
START_TICK, DEPTH, LEVELS = {"BTC": 1_000, "ETH": 5_000}, 400, 60
SPOT_LOTS = {"minOrderQty": "0.001", "maxLimitOrderQty": "500", "maxMarketOrderQty": "200", "minOrderAmt": "5"}


def _spot_listing(base: str, tick: str) -> dict[str, Any]:
    return {
        "symbol": f"{base}USDT",
        "baseCoin": base,
        "quoteCoin": "USDT",
        "status": "Trading",
        "lotSizeFilter": {"basePrecision": "0.001", "quotePrecision": "0.00001", **SPOT_LOTS},
        "priceFilter": {"tickSize": tick},
        "riskParameters": {"priceLimitRatioX": "0.5"},
    }


class RandomTraders:
    """``happened`` counts what the exchange told of; ``start`` is what there was of each coin."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        keys = {
            user: ApiKey(user, user, user, D(coins["USDT"]), {c: D(n) for c, n in coins.items() if c != "USDT"})
            for user, coins in KEYS.items()
        }
        contracts = {each.symbol: market_of(each.listing()) for each in INSTRUMENTS[:2]}
        # Both on a coarse grid, so that a level is a price that several meet at.
        spot = {
            symbol: market_of(_spot_listing(market.rules.base_coin, f"{market.rules.tick_size:f}"), "spot")
            for symbol, market in contracts.items()
        }
        self.venue = Exchange(contracts, keys, spot=spot)
        self.happened: Counter[str] = Counter()
        self.given: Counter[tuple[str, str]] = Counter()
        self._told: set[str] = set()
        self._transactions = dict.fromkeys(KEYS, 0)
        self.balances = {user: {coin: D(0) for coin in COINS} for user in KEYS}
        for user, coins in KEYS.items():
            self.balances[user].update({coin: D(amount) for coin, amount in coins.items()})
        self.start = {coin: sum(balances[coin] for balances in self.balances.values()) for coin in COINS}
        self.venue.switch_mode("hedger", "BTCUSDT", 3)
        for market in contracts.values():
            market.price_band = D("0.5")
            self._settle(market, START_TICK[market.rules.base_coin])
        self._actions: list[tuple[Callable[[], str], int]] = [
            (self._place, 45),
            (self._batch, 8),
            (self._amend, 7),
            (self._move, 9),
            (self._set_exits, 7),
            (self._background, 6),
            (self._cancel, 4),
            (self._cancel_all, 3),
            (self._leverage, 3),
            (self._interest, 2),
            (self._funding, 2),
            (self._disconnect, 2),
            (self._replay, 2),
            (self._switch_collateral, 1),
        ]

    def step(self) -> None:
        action = self.chance.choices([action for action, _ in self._actions], [weight for _, weight in self._actions])[
            0
        ]
        try:
            self.happened[action()] += 1
        except ApiError:
            self.happened["refused"] += 1
        self._listen()

    def refill(self) -> None:
        """The market's own account gives the poor what they began with and takes back from the rich, so that everybody
        goes on trading."""
        for user, account in self.venue.accounts.items():
            if account.margin_balance < 300:
                self.happened["refill"] += 1
                for coin, amount in KEYS[user].items():
                    self._give(user, coin, D(amount) - min(account.wallets.get(coin, D(0)), D(0)))
            elif account.balance > 10_000:
                self._give(user, "USDT", D(-8_000))

    def _give(self, user: str, coin: str, amount: Decimal) -> None:
        self.venue.accounts[user].pay(coin, amount)
        self.venue.ledger.background[coin] -= amount
        self.balances[user][coin] += amount

    # What users and markets do; each says what it was.

    def _market(self) -> Market:
        return self.chance.choice(list(self.venue.markets.values()))

    def _user(self) -> str:
        return self.chance.choice(list(KEYS))

    def _near(self, market: Market, reach: float = 0.04) -> str:
        ticks = int(market.last_price / market.rules.tick_size * D(self.chance.uniform(1 - reach, 1 + reach)))
        return market.grids.prices.text(max(1, ticks))

    def _quantity(self, market: Market, largest: int = 8_000) -> str:
        """As much value for each contract."""
        value = D(largest) * D(self.chance.random() ** 2) + 6
        lot = market.rules.lot_size
        return f"{max(lot, value / market.last_price // lot * lot):f}"

    def _index(self, user: str, symbol: str, side: str) -> int:
        if symbol not in self.venue.accounts[user].hedged:
            return 0
        opens = self.chance.random() < 0.6
        return (1 if side == "Buy" else 2) if opens else (2 if side == "Buy" else 1)

    def _request(self, user: str, category: str) -> dict[str, Any]:
        chance, market = self.chance, self._market()
        side = chance.choice(["Buy", "Sell"])
        largest = 8_000 if category == "linear" else 600
        request: dict[str, Any] = {"symbol": market.symbol, "side": side, "qty": self._quantity(market, largest)}
        request["smpType"] = chance.choice(["None", "CancelMaker", "CancelTaker", "CancelBoth"])
        if chance.random() < 0.6:
            times = ["GTC", "GTC", "GTC", "IOC", "FOK", "PostOnly"]
            request |= {"orderType": "Limit", "price": self._near(market), "timeInForce": chance.choice(times)}
            if category == "linear" and chance.random() < 0.1:
                request |= {"bboSideType": chance.choice(["Queue", "Counterparty"]), "bboLevel": chance.choice("12345")}
        else:
            request["orderType"] = "Market"
            if chance.random() < 0.2:
                request |= {"slippageToleranceType": "TickSize", "slippageTolerance": str(chance.randint(1, 40))}
        if category == "spot":
            if chance.random() < 0.5:
                request["marketUnit"] = "baseCoin"
            return request
        request["positionIdx"] = self._index(user, market.symbol, side)
        if chance.random() < 0.15:
            request["reduceOnly"] = True
        else:
            if chance.random() < 0.2:
                request |= {"takeProfit": self._near(market), "tpslMode": chance.choice(["Full", "Partial"])}
            if chance.random() < 0.2:
                request["stopLoss"] = self._near(market)
        if chance.random() < 0.12:
            trigger = chance.choice(["LastPrice", "MarkPrice", "IndexPrice"])
            direction = chance.choice([1, 2])
            request |= {"triggerPrice": self._near(market), "triggerDirection": direction, "triggerBy": trigger}
        return request

    def _place(self) -> str:
        user, category = self._user(), "spot" if self.chance.random() < 0.2 else "linear"
        self.venue.create(user, self._request(user, category), 1, category)
        return f"order, {category}"

    def _batch(self) -> str:
        user = self._user()
        stub = cast(Venue, SimpleNamespace(exchange=self.venue, clock=lambda: 1))
        open_orders = self.venue.accounts[user].open_orders()
        kind = self.chance.choice(["create", "create", "amend", "cancel"])
        if kind == "create":
            items = [self._request(user, "linear") for _ in range(self.chance.randint(2, 5))]
            answer = BatchCommand(create_order)(stub, user, {"category": "linear", "request": items})
        elif not open_orders:
            return "nothing to do"
        else:
            chosen = self.chance.choices(open_orders, k=3)
            items = [{"symbol": order.symbol, "orderId": order.order_id, **self._change(order)} for order in chosen]
            command = BatchCommand(amend_order if kind == "amend" else cancel_order)
            answer = command(stub, user, {"category": "linear", "request": items})
        self.happened[f"batch {kind}, items done"] += sum(row["code"] == 0 for row in answer.codes)
        return f"batch {kind}"

    def _change(self, order: SimulatedOrder) -> dict[str, str]:
        market = self.venue.market(order.symbol, order.category)
        if order.status == "Untriggered" and self.chance.random() < 0.5:
            return {"triggerPrice": self._near(market)}
        return {"qty": self._quantity(market)} if self.chance.random() < 0.5 else {"price": self._near(market)}

    def _amend(self) -> str:
        user = self._user()
        category = "spot" if self.chance.random() < 0.2 else "linear"
        orders = self.venue.accounts[user].open_orders(category=category)
        if not orders:
            return "nothing to do"
        order = self.chance.choice(orders)
        self.venue.amend(user, {"orderId": order.order_id, **self._change(order)}, 1, category)
        return "amendment"

    def _cancel(self) -> str:
        account = self.venue.accounts[self._user()]
        if not account.working:
            return "nothing to do"
        order = self.chance.choice(list(account.working.values()))
        self.venue.cancel(account.user, {"orderId": order.order_id}, 1, order.category)
        return "cancel"

    def _cancel_all(self) -> str:
        self.venue.cancel_all(self._user(), None, 1, self.chance.choice(["linear", "spot"]))
        return "cancel-all"

    def _disconnect(self) -> str:
        self.venue.cancel_disconnected(self._user(), 1, self.chance.choice(["linear", "linear", "spot"]))
        return "disconnect"

    def _leverage(self) -> str:
        self.venue.set_leverage(self._user(), self._market().symbol, str(self.chance.randint(5, 60)))
        return "leverage"

    def _set_exits(self) -> str:
        held = [
            (account.user, position)
            for account in self.venue.accounts.values()
            for position in account.positions.values()
            if position.quantity
        ]
        if not held:
            return "nothing to do"
        user, position = self.chance.choice(held)
        market = self.venue.market(position.symbol)
        request: dict[str, Any] = {"symbol": position.symbol, "positionIdx": position.index}
        kind = self.chance.choice(["full", "partial", "trailing"])
        below, above = (self._near(market) for _ in range(2))
        if kind == "full":
            request |= {"stopLoss": below, "takeProfit": above}
        elif kind == "partial":
            size = f"{position.quantity / 2 // market.rules.lot_size * market.rules.lot_size:f}"
            request |= {"tpslMode": "Partial", "stopLoss": below, "slSize": size}
        else:
            distance = market.grids.prices.text(int(market.last_price / market.rules.tick_size / 70))
            request["trailingStop"] = self.chance.choice(["0", distance, distance])
        self.venue.set_trading_stop(user, request, 1)
        return f"exits, {kind}"

    def _switch_collateral(self) -> str:
        coin = self.chance.choice(["BTC", "ETH"])
        self.venue.switch_collateral(self._user(), coin, is_on=self.chance.random() < 0.7)
        return "collateral switch"

    def _move(self) -> str:
        """Often a little, sometimes so far that whoever stands there is ruined."""
        market, far = self._market(), self.chance.random() < 0.35
        reach = 0.15 if far else 0.03
        start = START_TICK[market.rules.base_coin]
        ticks = int(market.last_price / market.rules.tick_size * D(self.chance.uniform(1 - reach, 1 + reach)))
        self._settle(market, max(start // 3, min(start * 3, ticks)), thin=far)
        return "jump" if far else "move"

    def _settle(self, market: Market, tick: int, *, thin: bool = False) -> None:
        for each in (market, self.venue.spot[market.symbol]):
            for side in (each.book.bids, each.book.asks):
                step = max(1, tick // 1_000)
                levels = {tick + side.sign * step * n: DEPTH // (8 if thin else 1) for n in range(1, LEVELS)}
                side.replace_background(levels)
            self.venue.cross_resting(each, 1)
            each.last_price = market.grids.prices.value(tick)
        self.venue.mark(market, market.last_price, market.last_price, 1)

    def _background(self) -> str:
        market = self._market()
        each = market if self.chance.random() < 0.6 else self.venue.spot[market.symbol]
        self.venue.background_take(each, self.chance.choice(["Buy", "Sell"]), self.chance.randint(1, 500), None, 1)
        return "background order"

    def _replay(self) -> str:
        market, side = self._market(), self.chance.choice(["Buy", "Sell"])
        tick = market.book.opposite(side).best
        if tick is not None:
            self.venue.background_trade(market, tick, self.chance.randint(1, 200), side, 1)
        return "recorded trade"

    def _funding(self) -> str:
        market = self._market()
        market.funding_rate = D(self.chance.randint(-50, 50)) / 10_000
        self.venue.margin.pay_funding(market, 1)
        return "funding time"

    def _interest(self) -> str:
        self.venue.borrowing.charge_interest(1)
        return "interest time"

    # What the exchange told of.

    def _listen(self) -> None:
        for user, topic, row in self.venue.outbox:
            if topic == "execution":
                self.happened[f"execution, {row['execType']}"] += 1
                hedged = row["execType"] != "Funding" and row["symbol"] == "BTCUSDT" and user == "hedger"
                self.happened["execution in hedge mode"] += hedged and row["category"] == "linear"
            elif topic == "order":
                self._hear_order(row)
        for account in self.venue.accounts.values():
            for row in account.transactions[self._transactions[account.user] :]:
                self.balances[account.user][row["currency"]] += D(row["change"])
                self.happened[f"transaction, {row['type']}"] += 1
            self._transactions[account.user] = len(account.transactions)
        self.venue.outbox.clear()
        self.venue.trades.clear()
        self.venue.liquidations.clear()
        self.venue.dirty.clear()
        self.venue.changed_orders.clear()

    def _hear_order(self, row: dict[str, Any]) -> None:
        if row["orderStatus"] == "Triggered":
            self.happened[f"triggered, {row['stopOrderType']}"] += 1
        elif row["cancelType"] != "UNKNOWN":
            self.happened[f"ended, {row['cancelType']}"] += 1
        elif row["rejectReason"] == "EC_PostOnlyWillTakeLiquidity":
            self.happened["ended, post-only"] += 1
