from __future__ import annotations

import asyncio
import logging
import signal
import sys
from typing import Any

import uvloop
from channels.layers import get_channel_layer
from channels.routing import ChannelNameRouter, ProtocolTypeRouter
from channels.worker import Worker
from django.core.management.base import BaseCommand, CommandParser

from trading.consumers.engine import EngineConsumer
from trading.runtime.cancellation import end_tasks
from trading.runtime.engine import Engine

log = logging.getLogger(__name__)

GROUP = "engines"
# How long a thread (they ask the database) may keep the event loop waiting for the interpreter; Python's own 5 ms are
# the loop's largest delay otherwise.
SWITCH_SECONDS = 0.0005
JOIN_AGAIN_SECONDS = 5.0


class Command(BaseCommand):
    help = "Run the engine: feeds, books, strategies, risk and the orders of the accounts it owns."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--name", default="1", help="this engine's name; each of several needs its own")

    def handle(self, *args: Any, **options: Any) -> None:
        sys.setswitchinterval(SWITCH_SECONDS)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(options["name"]))


async def serve(name: str) -> None:
    """The engine and its Channels consumer, side by side in one loop until a signal comes."""
    engine = Engine(name)
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signal_number, engine.stop)
    ears = asyncio.create_task(listen(engine))
    try:
        await engine.run()
    finally:
        await end_tasks([ears])


async def listen(engine: Engine) -> None:
    """Serve the consumer on a channel of this process, which is in the group of all engines. Redis may go away at any
    time: then doorbells are deaf, the engine's timers go on, and the group is joined again."""
    consumer = EngineConsumer.as_asgi(engine=engine)
    while True:
        layer = get_channel_layer()
        try:
            channel = await layer.new_channel("engine")
            await layer.group_add(GROUP, channel)
            application = ProtocolTypeRouter({"channel": ChannelNameRouter({channel: consumer})})
            await Worker(application, channels=[channel], channel_layer=layer).handle()
        except asyncio.CancelledError:
            raise
        except Exception as error:
            log.warning("doorbells are not heard: %s: %s", type(error).__name__, error)
        await asyncio.sleep(JOIN_AGAIN_SECONDS)
