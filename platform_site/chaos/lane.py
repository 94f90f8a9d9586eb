"""One lane: a deployment that lives through many runs, each of which must begin and end consistent."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from functools import partial
from typing import Any, TypeVar

import kombu.exceptions
import redis
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import Error, connection
from rest_framework.authtoken.models import Token

from marketdata.instruments import rules_from_bybit
from marketdata.services import instruments_sync
from platform_site.chaos import scenario, selectors
from platform_site.chaos.deployment import ENGINES, ChaosError, Deployment, LanePlan, until
from platform_site.chaos.judge import Kind, Violation, judge
from platform_site.chaos.ledgers import VenueLedger, read_venue
from platform_site.chaos.scenario import SYMBOLS, USERS, Plan, PriceMove
from platform_site.chaos.striker import Striker
from platform_site.chaos.trader import Bot, Market
from risk.services import risk_limit_set
from strategies.models import StrategyConfig
from strategies.services import strategy_config_create, strategy_disable, strategy_enable
from trading.models import Account
from trading.services.accounts import account_create
from trading.simulator.instruments import INSTRUMENTS
from trading.simulator.keys import DEMO_KEYS
from trading.tasks import reconcile_accounts

Answer = TypeVar("Answer")

ACTOR = "chaos"
FIRST_SECONDS = 240.0
# A breaker that opened stays so for a minute; what it held back is made up for after that.
CONSISTENT_SECONDS = 150.0
DATABASE_SECONDS = 60.0
OWNER_SECONDS = 30.0
LOAD_END_SECONDS = 90.0
REARM_SECONDS = 120.0
# As beat sends it; nothing else of beat's is needed for orders.
RECONCILE_SECONDS = 10.0
AGAIN_SECONDS = 0.25
BROKER_AWAY = (OSError, redis.RedisError, kombu.exceptions.KombuError)


@dataclass(slots=True)
class Outcome:
    """Whether the blow was struck, whether its label was reached, and what was started again."""

    struck: bool
    reached: bool
    restarted: list[str]


class Lane:
    """``tell`` gets one JSON-ready object a run, and one at the end."""

    def __init__(self, plan: LanePlan, tell: Callable[[dict[str, Any]], None]) -> None:
        self.plan, self._tell = plan, tell
        self.deployment = Deployment(plan)
        self._accounts: dict[str, Account] = {}
        self._bots: dict[str, Bot] = {}
        self._strategy = StrategyConfig()
        self._known: set[Violation] = set()
        self._heads: selectors.Heads = {}
        self._reconciled_at = 0.0
        self._striker = Striker(self.deployment, self._bots, self._owner, self._reconcile)

    def run(self) -> None:
        """All runs; everything is ended afterwards, however it went."""
        try:
            self.deployment.start_servers()
            call_command("migrate", verbosity=0)
            self._people()
            self.deployment.start_application()
            if self._mended(FIRST_SECONDS) is None:
                raise ChaosError(f"the lane was not trading within {FIRST_SECONDS:g} s of its start")
            for number in self.plan.numbers:
                self._tell(self._one(scenario.plan(self.plan.seed, number)))
            self._tell(self._end())
        finally:
            connection.close()
            self.deployment.stop()

    # Before the first run.

    def _people(self) -> None:
        """Two tenants with an account each; neither sees the other's."""
        instruments_sync([rules_from_bybit(each.listing(), "linear") for each in INSTRUMENTS[: len(SYMBOLS)]])
        for name in USERS:
            user = get_user_model().objects.create_user(name)
            key = DEMO_KEYS[name]
            account = account_create(
                owner=user,
                name=f"{name} chaos",
                environment=Account.Environment.SIMULATOR,
                api_key=key.api_key,
                api_secret=key.api_secret,
                actor=ACTOR,
            )
            # Wide: what shall be tested is what becomes of orders, not which of them are denied.
            risk_limit_set(
                level="account",
                account=account,
                actor=ACTOR,
                price_collar_percent=Decimal(50),
                max_total_risk_percent=Decimal(100),
                max_risk_per_trade_percent=Decimal(100),
                max_daily_loss_percent=Decimal(50),
                max_drawdown_percent=Decimal(90),
            )
            self._accounts[name] = account
            token = Token.objects.create(user=user).key
            self._bots[name] = Bot(name, account.pk, token, self.plan.web_port, partial(self._venue, name))
        self._strategy = strategy_config_create(
            account=self._accounts["bob"],
            name="imbalance",
            strategy="scalping.imbalance",
            symbols=list(SYMBOLS),
            parameters={"threshold": 0.55, "hold_ms": 0, "cooldown_s": 1},
            sizing_mode=StrategyConfig.Sizing.FIXED_USD,
            sizing_value=Decimal(100),
            leverage=Decimal(10),
            actor=ACTOR,
            user=self._accounts["bob"].owner,
        )

    # One run.

    def _one(self, plan: Plan) -> dict[str, Any]:
        began = time.monotonic()
        before = sum(bot.repeated for bot in self._bots.values())
        markets = until(self._markets, DATABASE_SECONDS)
        if markets is None:
            raise ChaosError("the simulator tells no prices")
        if plan.faults:
            self.deployment.control("faults", list(plan.faults))
        if plan.runs_strategy:
            self._ask(lambda: strategy_enable(config=self._strategy, actor=ACTOR))
        outcome = self._load(plan, markets)
        mended = time.monotonic()
        self._mend(plan)
        to_consistent = self._mended(CONSISTENT_SECONDS, since=mended, restarted=outcome.restarted)
        # What rests at the price may fill after both sides have agreed: that they did is what counts.
        violations = self._violations(self._new(self._found()) if to_consistent is None else [])
        return {
            "kind": "run",
            "run": plan.number,
            "lane": self.plan.lane,
            "blow": asdict(plan.blow),
            "struck": outcome.struck,
            "reached": outcome.reached,
            "faults": list(plan.faults),
            "restarted": outcome.restarted,
            "seconds": round(time.monotonic() - began, 2),
            "seconds_to_consistent": None if to_consistent is None else round(to_consistent, 2),
            "orders_intended": sum(order.kind not in ("amend", "cancel") for order in plan.orders),
            "requests_repeated": sum(bot.repeated for bot in self._bots.values()) - before,
            "violations": [violation.as_dict() for violation in violations],
            **({"plan": plan.as_dict()} if violations or to_consistent is None else {}),
        }

    def _load(self, plan: Plan, markets: Mapping[str, Market]) -> Outcome:
        """The bots trade while the blow falls; what died is started again."""
        over = threading.Event()
        threads = [
            threading.Thread(
                target=bot.trade,
                args=([order for order in plan.orders if order.user == name], markets, over),
                name=f"bot {name}",
                daemon=True,
            )
            for name, bot in self._bots.items()
        ]
        if plan.move is not None:
            threads.append(threading.Thread(target=self._move, args=(plan.move, over), name="price", daemon=True))
        try:
            armed = self._striker.arm(plan.blow)
            for thread in threads:
                thread.start()
            struck = self._striker.strike(plan.blow, armed, over)
            restarted = self.deployment.revive()
            deadline = time.monotonic() + LOAD_END_SECONDS
            for thread in threads:
                while thread.is_alive() and time.monotonic() < deadline:
                    thread.join(0.1)
                    restarted += self.deployment.revive()
        finally:
            over.set()
        return Outcome(struck, struck and bool(plan.blow.label), restarted)

    def _move(self, move: PriceMove, over: threading.Event) -> None:
        if not over.wait(move.at):
            with contextlib.suppress(OSError):  # the simulator is one of those that are killed
                self.deployment.control("move", {"symbol": move.symbol, "percent": float(move.percent)})

    def _mend(self, plan: Plan) -> None:
        """No more faults, no more load; everything that was ended is started again."""
        self.deployment.disarm()
        for name in ENGINES:
            self.deployment.resume(name)
        self.deployment.revive()
        until(lambda: "cleared" in self.deployment.control("faults", method="DELETE"), DATABASE_SECONDS)
        if plan.runs_strategy:
            self._ask(lambda: strategy_disable(config=self._strategy, actor=ACTOR))
        if plan.blow.needs_kill_switch:
            bot, over = self._bots[plan.blow.user], threading.Event()
            self._revived(lambda: bot.kill_switch("rearm", over, "chaos") == 200, REARM_SECONDS)

    def _revived(self, question: Callable[[], bool], seconds: float) -> bool:
        """Asks until the answer is yes, and starts meanwhile what has died."""
        deadline = time.monotonic() + seconds
        while not question():
            if time.monotonic() > deadline:
                return False
            self.deployment.revive()
            time.sleep(AGAIN_SECONDS)
        return True

    def _mended(
        self, seconds: float, *, since: float | None = None, restarted: list[str] | None = None
    ) -> float | None:
        """Seconds until both sides agree and every account trades again; None when they did not in time."""
        began = time.monotonic() if since is None else since
        while True:
            if time.monotonic() - self._reconciled_at > RECONCILE_SECONDS:
                self._reconcile()
            if not self._new(self._found()) and self._ask(self._all_trade):
                return time.monotonic() - began
            if time.monotonic() - began > seconds:
                return None
            revived = self.deployment.revive()
            if restarted is not None:
                restarted += revived
            time.sleep(AGAIN_SECONDS)

    def _all_trade(self) -> bool:
        return all(selectors.owner_name(each.pk) and selectors.trades(each) for each in self._accounts.values())

    # What is wrong.

    def _found(self) -> list[Violation]:
        found = []
        for user, account in self._accounts.items():
            venue = self._venue(user)
            ours = self._ask(partial(selectors.our_ledger, account.pk))
            found += judge(account.name, self._bots[user].heard, venue, ours)
        return found

    def _new(self, found: Sequence[Violation]) -> list[Violation]:
        """What an earlier run has told is not told of every later one."""
        told = {(each.kind, each.account, each.subject) for each in self._known}
        return [each for each in found if (each.kind, each.account, each.subject) not in told]

    def _violations(self, new: list[Violation]) -> list[Violation]:
        breaks = self._ask(lambda: selectors.new_chain_breaks(self._heads))
        new += self._new([Violation(Kind.AUDIT, "", text.partition(":")[0], text) for text in breaks])
        self._known |= set(new)
        return new

    def _end(self) -> dict[str, Any]:
        placed, never, fills = 0, 0, 0
        for user, account in self._accounts.items():
            venue = self._venue(user)
            ours = self._ask(partial(selectors.our_ledger, account.pk))
            names = {order.client_order_id for order in venue.orders if order.created_by_user}
            placed += len(names)
            fills += len(venue.executions)
            never += sum(order.client_order_id not in names for order in ours.orders)
        return {
            "kind": "end",
            "lane": self.plan.lane,
            "orders_on_exchange": placed,
            "orders_never_placed": never,
            "fills": fills,
            "breaks": self._ask(selectors.chain_breaks),
        }

    # Questions to what may be away.

    def _ask(self, work: Callable[[], Answer]) -> Answer:
        """Asks the database until it answers: it is one of those that are killed."""
        deadline = time.monotonic() + DATABASE_SECONDS
        while True:
            try:
                return work()
            except Error:
                connection.close()
                if time.monotonic() > deadline:
                    raise
                self.deployment.revive()
                time.sleep(AGAIN_SECONDS)

    def _owner(self, user: str, *, wait: bool = True) -> str:
        """The engine that owns the user's account."""
        number = self._accounts[user].pk
        if not wait:
            with contextlib.suppress(Error):
                return selectors.owner_name(number)
            connection.close()
            return ""
        return until(lambda: self._ask(lambda: selectors.owner_name(number)), OWNER_SECONDS) or ENGINES[0]

    def _venue(self, user: str) -> VenueLedger:
        try:
            return read_venue(self.deployment.state, user, DEMO_KEYS[user].balance)
        except sqlite3.OperationalError:  # a writer was killed in its middle: the next reader mends the file
            time.sleep(AGAIN_SECONDS)
            return read_venue(self.deployment.state, user, DEMO_KEYS[user].balance)

    def _markets(self) -> dict[str, Market]:
        url = f"http://127.0.0.1:{self.plan.simulator_port}/v5/market/tickers?category=linear"
        with urllib.request.urlopen(url, timeout=5) as answer:
            rows = {row["symbol"]: row for row in json.loads(answer.read())["result"]["list"]}
        rules = [rules_from_bybit(each.listing(), "linear") for each in INSTRUMENTS[: len(SYMBOLS)]]
        return {
            each.symbol: Market(Decimal(rows[each.symbol]["lastPrice"]), each.tick_size, each.lot_size)
            for each in rules
        }

    def _reconcile(self) -> None:
        """As beat does; while the broker is away nothing can be sent, and the next time makes up for it."""
        self._reconciled_at = time.monotonic()
        with contextlib.suppress(*BROKER_AWAY):
            reconcile_accounts.apply_async(expires=RECONCILE_SECONDS, retry=False)
