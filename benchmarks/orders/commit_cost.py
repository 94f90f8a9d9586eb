"""What an order costs in processor time, which does not depend on who else uses the machine: the sender's work (commit
under both leases, answer booked) with a venue that answers at once, and one reading of the books.

``python benchmarks/orders/commit_cost.py CHECKOUT [ORDERS]`` prints JSON: CPU ms of this process and of PostgreSQL, and
questions to the database, for each; wall ms too.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

CHECKOUT, HERE = Path(sys.argv[1]).resolve(), Path(__file__).resolve().parent
sys.path[:0] = [str(CHECKOUT), str(HERE.parent.parent)]

from benchmarks.orders.deployment import DurableServices, children, prepare_database  # noqa: E402


def postgres_seconds(parent: int) -> float:
    """Of its children that live: a connection is one of them until it ends."""
    ticks = 0
    for pid in (parent, *children(parent)):
        ticks += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


class AtOnce:
    """A venue that takes everything; ``mode`` is that of the orders which it is for."""

    def __init__(self, mode: str) -> None:
        self.mode = mode

    def prepare_order(self) -> None: ...

    def set_leverage(self, symbol: str, leverage: Decimal) -> None: ...

    def submit(self, request: Any) -> Any:
        from trading.reports import Submission, SubmissionResult

        return SubmissionResult(Submission.ACCEPTED, venue_order_id=f"venue-{request.client_order_id}")


def main(orders: int) -> dict[str, Any]:
    services = DurableServices()
    services.start()
    try:
        os.environ.update(services.environment, BALLAST_SECRET_KEY="x" * 60, EXCHANGE="simulator")
        os.environ.update(BALLAST_MASTER_KEY="A" * 43 + "=", DJANGO_SETTINGS_MODULE="platform_site.settings")
        prepare_database(["user0"])
        return measured(orders, services._running[0][0].pid)
    finally:
        services.stop()


def measured(orders: int, postgres: int) -> dict[str, Any]:
    from django.db import connection

    from mlops.validation import Verdict
    from risk.checks import Decision
    from risk.limits import Limits
    from strategies.signals import Signal
    from tests import builders
    from trading.models import Account
    from trading.pipeline import PipelineResult, RunningStrategy
    from trading.runtime.database import with_connection
    from trading.runtime.order_sender import OrderSender
    from trading.services.exposures import account_exposure

    builders.list_instruments()
    account = Account.objects.get()
    lease, owner = builders.lease(seconds=3_000), builders.ownership(account.pk, seconds=3_000)
    sender = OrderSender(account.pk, account.name, AtOnce(getattr(account, "mode", "")))
    price = Decimal(60_000)
    running = RunningStrategy(
        None, 1, account.pk, "bench", "bench", ("BTCUSDT",), {}, "percent", Decimal(1), Decimal(10), True, Limits()
    )  # type: ignore[arg-type]
    signal = Signal("bench", "BTCUSDT", "Buy", 0.9, price, price * 2, price / 2, "measured", time.time_ns())
    result = PipelineResult(running, signal, Verdict(True, 1.0, "bench", ""), None, Decision(True), "")
    questions = [0]

    def counted(execute: Any, *arguments: Any) -> Any:
        questions[0] += 1
        return execute(*arguments)

    def place(number: int) -> None:
        name = f"bench-{number}"
        intent = builders.intent(account_id=account.pk, client_order_id=name, trace_id=name)
        decided = replace(result, intent=intent, trace_id=name)
        with_connection(lambda: sender.place(decided, intent, time.time_ns(), lease, owner))

    def cost(work: Callable[[int], Any], numbers: range) -> dict[str, float]:
        questions[0], began = 0, time.perf_counter()
        used, server = resource.getrusage(resource.RUSAGE_SELF), postgres_seconds(postgres)
        for number in numbers:
            work(number)
        after, many = resource.getrusage(resource.RUSAGE_SELF), len(numbers)
        spent = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
        return {
            "questions": round(questions[0] / many, 2),
            "cpu_ms": round(1e3 * spent / many, 2),
            "postgres_cpu_ms": round(1e3 * (postgres_seconds(postgres) - server) / many, 2),
            "wall_ms": round(1e3 * (time.perf_counter() - began) / many, 2),
        }

    with connection.execute_wrapper(counted):
        cost(place, range(20))
        placed = cost(place, range(20, 20 + orders))
        read = cost(lambda _: with_connection(lambda: account_exposure(account.pk)), range(20))
    stages = {name: getattr(sender, name).summary() for name in ("committed", "answered")}
    return {"orders": orders, "place": placed, "read_books": read, "stages": stages, "load": os.getloadavg()}


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[2]) if len(sys.argv) > 2 else 300)))
