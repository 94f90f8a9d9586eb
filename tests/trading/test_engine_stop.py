"""An engine ends when it is asked to, whatever it is doing."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from audit.models import ComponentHeartbeat
from platform_site.supervisor.ports import free_port
from tests.processes import RunningProcess
from trading.runtime.cancellation import end_tasks


async def test_a_task_that_swallows_a_cancellation_ends_all_the_same() -> None:
    swallowed = 0

    async def publish_forever() -> None:
        nonlocal swallowed
        while swallowed < 2:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(3600)
            swallowed += 1
        await asyncio.sleep(3600)

    task = asyncio.create_task(publish_forever())
    await asyncio.sleep(0)
    async with asyncio.timeout(20):
        await end_tasks([task])
    assert swallowed == 2 and task.cancelled()


async def test_ending_tasks_hides_no_failure_of_theirs() -> None:
    async def fail() -> None:
        raise ValueError("broken")

    task = asyncio.create_task(fail())
    await asyncio.wait([task])
    await end_tasks([task])
    assert str(task.exception()) == "broken"


@pytest.mark.django_db(transaction=True)
def test_an_engine_that_waits_for_its_venue_ends_at_once(start_process: Callable[..., RunningProcess]) -> None:
    engine = start_process("runengine", SIMULATOR_URL=f"http://127.0.0.1:{free_port()}")
    deadline = time.monotonic() + 60
    while not ComponentHeartbeat.objects.filter(component="engine", status="starting").exists():
        assert time.monotonic() < deadline, engine.log.read_text()
        time.sleep(0.05)  # another process writes: the database can only be asked again
    engine.process.send_signal(signal.SIGTERM)
    assert engine.process.wait(timeout=20) == 0
    assert ComponentHeartbeat.objects.get(component="engine").status == "stopped"
