"""A process that asks as much as it may, for tests of the budget that several processes share.

``python -m tests.trading.resilience.hammer SECONDS REDIS_URL PREFIX SIMULATOR_URL USER WHAT``, with WHAT create or
cancel; prints one JSON object: how often each outcome came, codes of refusals, the longest wait, and the status.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from decimal import Decimal

from trading.gateways.base import OrderRequest
from trading.gateways.bybit import BybitEndpoints, BybitGateway
from trading.resilience.guard import CallGuard, breakers_of
from trading.resilience.rate_budget import SharedBudget
from trading.simulator.keys import DEMO_KEYS


def main(seconds: float, redis_url: str, prefix: str, venue: str, user: str, what: str) -> None:
    key = DEMO_KEYS[user]
    guard = CallGuard(breakers_of(venue), SharedBudget(redis_url, prefix))
    gateway = BybitGateway(BybitEndpoints(venue, venue), key.api_key, key.api_secret, guard=guard)
    outcomes: Counter[str] = Counter()
    codes: Counter[str] = Counter()
    modes: Counter[str] = Counter()
    longest, number, started = 0.0, 0, time.monotonic()
    ends = started + seconds
    while time.monotonic() < ends:
        number += 1
        began = time.monotonic()
        if what == "create":
            name = f"hammer-{os.getpid()}-{number}"
            order = OrderRequest(
                name, "BTCUSDT", "Buy", "Limit", "GTC", Decimal("0.001"), Decimal(50_000), False, None, None
            )
            result = gateway.submit(order)
        else:
            result = gateway.cancel("BTCUSDT", f"nothing-{os.getpid()}-{number}", "")
            time.sleep(0.4)
        longest = max(longest, time.monotonic() - began)
        outcomes[str(result.outcome)] += 1
        modes[guard.budget.status()["mode"]] += 1
        if result.code is not None:
            codes[str(result.code)] += 1
    # The clock is the machine's: times of several processes compare.
    told = {"longest": longest, "status": guard.status(), "started": started, "ended": time.monotonic()}
    print(json.dumps({"outcomes": outcomes, "codes": codes, "modes": modes, **told}))  # noqa: T201


if __name__ == "__main__":
    main(float(sys.argv[1]), *sys.argv[2:])
