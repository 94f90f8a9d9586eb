"""``manage.py runengine`` that obeys: one JSON command a line on stdin, one JSON answer a line on stdout.

``{"do": "ready"}`` answers when every account trades, with the moments of the way there. ``{"do": "play", "accounts":
1, "seconds": 10, "rate": 5}`` gives orders to so many accounts, each at a rate, or with rate 0 each as fast as the last
one is answered. Every order goes the way of a strategy's: risk, commit, venue, answer.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from itertools import count, cycle, islice, pairwise
from typing import Any

STARTED = time.time()
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "platform_site.settings")

import django  # noqa: E402 - its settings are named first

STAGES = ("committed", "sent", "venue", "answered")
READY_SECONDS, UNANSWERED_SECONDS = 120.0, 20.0
KEPT = 1_000_000
moments: dict[str, float] = {"started": STARTED}


def first(name: str) -> None:
    moments.setdefault(name, time.time())


class Driver:
    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.numbers = count(1)
        self.venue: list[float] = []
        self.done: dict[str, asyncio.Event] = {}
        self.statements: Counter[str] = Counter()
        self.counting = threading.local()

    # What is measured beside the engine's own windows.

    def measure(self) -> None:
        from django.db.backends.signals import connection_created

        from trading.gateways.bybit import BybitGateway
        from trading.runtime import account_desk
        from trading.runtime.order_sender import OrderSender

        submit, place, loop = BybitGateway.submit, OrderSender.place, asyncio.get_running_loop()

        def submit_measured(gateway: Any, request: Any) -> Any:
            began = time.perf_counter()
            try:
                return submit(gateway, request)
            finally:
                self.venue.append(1e3 * (time.perf_counter() - began))

        def place_told(sender: Any, result: Any, intent: Any, *rest: Any) -> None:
            try:
                with self.counted("place"):
                    place(sender, result, intent, *rest)
            finally:
                loop.call_soon_threadsafe(self.done[intent.client_order_id].set)

        BybitGateway.submit = submit_measured  # type: ignore[method-assign]
        OrderSender.place = place_told  # type: ignore[method-assign]
        connection_created.connect(self.watch)
        taken, reconcile = account_desk.AccountLease.taken, account_desk.reconcile_account

        def taken_noted(lease: Any, *arguments: Any) -> None:
            taken(lease, *arguments)
            moments["lease"] = time.time()

        def reconcile_noted(*arguments: Any) -> Any:
            first("reconciliation_began")
            with self.counted("reconcile"):
                try:
                    return reconcile(*arguments)
                finally:
                    first("reconciled")

        account_desk.AccountLease.taken = taken_noted  # type: ignore[method-assign]
        account_desk.reconcile_account = reconcile_noted

    def watch(self, connection: Any, **_: Any) -> None:
        connection.execute_wrappers.append(self.count)

    def count(self, execute: Any, statement: Any, parameters: Any, many: bool, context: Any) -> Any:
        name = getattr(self.counting, "name", None)
        if name is None:
            return execute(statement, parameters, many, context)
        began = time.perf_counter()
        try:
            return execute(statement, parameters, many, context)
        finally:
            words = str(statement).split()
            table = next((w.strip('"(') for a, w in pairwise(words) if a in ("INTO", "FROM", "UPDATE")), "")
            self.statements[f"{name}: {words[0]} {table}"] += 1
            self.statements[f"{name}: {words[0]} {table} us"] += int(1e6 * (time.perf_counter() - began))

    @contextmanager
    def counted(self, name: str) -> Iterator[None]:
        self.counting.name = name
        try:
            yield
        finally:
            self.counting.name = None

    # Commands.

    async def ready(self) -> dict[str, Any]:
        deadline = time.monotonic() + READY_SECONDS
        while not self.engine.desks or any(desk.state != "trading" for desk in self.engine.desks.values()):
            if time.monotonic() > deadline:
                return {"error": {desk.account_name: desk.reason for desk in self.engine.desks.values()}}
            await asyncio.sleep(0.005)
        first("trading")
        return {"moments": moments, "statements": dict(self.statements)}

    async def play(self, accounts: int, seconds: float, rate: float, *, resting: bool = False, most: int = 0) -> Any:
        from trading.runtime.latency import LatencyWindow

        desks = list(islice(self.engine.desks.values(), accounts))
        for desk in desks:
            for stage in ("committed", "sent", "answered"):
                setattr(desk.orders, stage, LatencyWindow(KEPT))
        self.venue.clear()
        self.statements.clear()
        used, began = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
        plays = [self.one(desk, began + seconds, rate, place, resting, most) for place, desk in enumerate(desks)]
        refused = Counter[str]()
        placed = 0
        for number, refusals in await asyncio.gather(*plays):
            placed += number
            refused += refusals
        spent, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_SELF)
        windows: dict[str, list[float]] = {"venue": self.venue}
        for stage in ("committed", "sent", "answered"):
            windows[stage] = [value for desk in desks for value in getattr(desk.orders, stage)._values]
        return {
            "orders": placed,
            "seconds": spent,
            "rate": len(windows["answered"]) / spent,
            "cpu": (after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime) / spent,
            "refused": dict(refused),
            "statements": dict(self.statements),
            **{stage: summary(windows[stage]) for stage in STAGES},
        }

    async def one(
        self, desk: Any, until: float, rate: float, place: int, resting: bool, most: int
    ) -> tuple[int, Counter[str]]:
        from risk.intents import new_client_order_id

        symbols = cycle(sorted(self.engine.plane.markets))
        for _ in islice(symbols, place):
            pass
        placed, refused, next_at = 0, Counter[str](), time.monotonic() + (place / 50 / rate if rate else 0)
        while time.monotonic() < until and (not most or placed < most):
            if rate:
                await asyncio.sleep(max(0.0, next_at - time.monotonic()))
                next_at += 1 / rate
            symbol = next(symbols)
            identifier = new_client_order_id(int(time.time() * 1e3), symbol, "bench", f"{next(self.numbers):08x}")
            self.done[identifier] = asyncio.Event()
            why = self.give(desk, symbol, identifier, resting)
            if why:
                refused[why] += 1
                await asyncio.sleep(0.05)
                continue
            placed += 1
            if not rate or time.monotonic() + 1 / rate > until:
                try:
                    async with asyncio.timeout(UNANSWERED_SECONDS):
                        await self.done[identifier].wait()
                except TimeoutError:
                    refused["unanswered"] += 1
        if placed:
            await asyncio.sleep(0.2)
        return placed, refused

    def give(self, desk: Any, symbol: str, identifier: str, resting: bool) -> str:
        """As the pipeline does with a strategy's signal; why not, if not."""
        from mlops.validation import Verdict
        from risk.intents import OrderIntent
        from risk.limits import Limits
        from strategies.signals import Signal
        from trading.pipeline import PipelineResult, RunningStrategy

        engine, frame_ns = self.engine, time.time_ns()
        price, lease = engine.pipeline.reference_price(symbol), engine.shards.token(symbol)
        if price is None or lease is None:
            return "no market"
        rules = engine.pipeline.rules(symbol)
        price = rules.round_price(price / 2)
        quantity = max(rules.min_quantity, rules.floor_quantity(Decimal(6) / price) + rules.lot_size)
        limits = Limits(max_leverage=Decimal(50), max_positions=100, price_collar_percent=Decimal(90))
        intent = OrderIntent(
            account_id=desk.account_id, symbol=symbol, side="Buy", order_type="Limit", quantity=quantity, price=price,
            time_in_force="GTC" if resting else "IOC", reduce_only=False, take_profit=None, stop_loss=None,
            strategy="bench", client_order_id=identifier, reason="measured", trace_id=identifier, leverage=Decimal(10),
        )  # fmt: skip
        decision = engine.pipeline.check(intent, limits)
        if not decision.approved:
            return decision.refusals[0].limit
        signal = Signal("bench", symbol, "Buy", 0.9, price, price * 2, price / 2, "measured", frame_ns)
        running = RunningStrategy(
            None, 1, desk.account_id, "bench", "bench", (symbol,), {}, "percent", Decimal(1), Decimal(10), True, limits
        )  # type: ignore[arg-type]
        verdict = Verdict(True, 1.0, "bench", "")
        desk.place(PipelineResult(running, signal, verdict, intent, decision, identifier), frame_ns, lease)
        return "" if desk.lease.token is not None else "no lease"


def summary(values: list[float]) -> dict[str, float]:
    from trading.runtime.latency import percentile

    ordered = sorted(values)
    if not ordered:
        return {"count": 0}
    found = {f"p{100 * each:g}": round(percentile(ordered, each), 2) for each in (0.5, 0.9, 0.99, 0.999)}
    return {"count": len(ordered), **found, "most": round(ordered[-1], 2)}


async def obey(driver: Driver) -> None:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async for line in reader:
        command = json.loads(line)
        answer = await getattr(driver, command.pop("do"))(**command)
        print(json.dumps(answer), flush=True)


def main(name: str) -> None:
    django.setup()
    first("django")
    import uvloop

    from trading.gateways import bybit_limits
    from trading.management.commands import runengine
    from trading.runtime.engine import Engine

    # Of the address, which no header of the venue raises.
    bybit_limits.ADDRESS_LIMIT = 1_000_000
    begin = Engine._begin

    async def begin_driven(engine: Any) -> None:
        driver = Driver(engine)
        driver.measure()
        driver.commands = asyncio.create_task(obey(driver))  # type: ignore[attr-defined]
        await begin(engine)
        first("engine")

    Engine._begin = begin_driven  # type: ignore[method-assign]
    sys.setswitchinterval(runengine.SWITCH_SECONDS)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(runengine.serve(name))


if __name__ == "__main__":
    main(sys.argv[1])
