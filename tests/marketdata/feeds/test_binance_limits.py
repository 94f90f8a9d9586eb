"""What Binance allows an address is kept: its own count of the weight, its refusals, and its bans."""

from __future__ import annotations

import pytest
from aiohttp import web

from marketdata.feeds.binance_rest import USDM, BinanceRest, WeightBudget
from marketdata.feeds.protocol import VenueError

NOON = 1_800_000_000.0


def test_weight_is_spent_up_to_the_usable_share_and_again_in_the_next_minute() -> None:
    budget = WeightBudget(100)
    assert [budget.delay(20, NOON + second) for second in range(4)] == [0, 0, 0, 0]
    assert budget.delay(20, NOON + 10) == 50
    assert budget.delay(20, NOON + 60) == 0


def test_the_venues_own_count_is_what_counts() -> None:
    budget = WeightBudget(100)
    budget.counted(75, NOON)
    assert budget.delay(10, NOON) == 60 and budget.delay(5, NOON) == 0


def test_a_refusal_closes_it_for_as_long_as_the_venue_says() -> None:
    budget = WeightBudget(100)
    budget.close(150, NOON)
    budget.close(30, NOON)
    assert budget.delay(1, NOON + 100) == 50 and budget.delay(1, NOON + 150) == 0


@pytest.mark.parametrize(("status", "retry"), [(429, "7"), (418, "120"), (429, "")])
async def test_retry_after_is_honoured(status: int, retry: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(request: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Retry-After": retry, "X-MBX-USED-WEIGHT-1M": "3000"}, text="no")

    application = web.Application()
    application.router.add_get("/fapi/v1/depth", refuse)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    monkeypatch.setattr("marketdata.feeds.binance_rest.time.time", lambda: NOON)
    rest = BinanceRest(f"http://127.0.0.1:{runner.addresses[0][1]}", USDM)
    try:
        with pytest.raises(VenueError, match=f"HTTP {status}"):
            await rest.snapshot("BTCUSDT")
        assert rest.budget.delay(1, NOON) == float(retry or 60)
        assert rest.budget.used == 3_000
    finally:
        await rest.close()
        await runner.cleanup()
