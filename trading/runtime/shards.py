"""An engine's share of the symbols: which it may act on now, which it only follows to go on with them soon.

The database decides (see trading/services/leases.py); this asks it every renewal time, at once when a doorbell rings,
and at the moment when another engine's session would expire.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

from django.conf import settings
from django.db import Error

from trading.runtime.database import with_connection
from trading.services.leases import (
    LeaseSurvey,
    LeaseToken,
    leases_hand_over,
    leases_stand_by,
    leases_survey,
    leases_take,
    session_close,
    session_open,
    session_renew,
    symbol_resource,
)
from trading.sharding import assign

log = logging.getLogger(__name__)
Result = TypeVar("Result")

# As many symbols as one connection to the venue carries move at a time: the others are acted on where they are.
MOVES_AT_ONCE = 10
# While books that move become proven, they are asked about and told of this often, and for so long.
SETTLING_PAUSE_SECONDS = 0.25
SETTLING_SECONDS = 5.0
# Just after the moment when a session expires, by the database's clock.
EXPIRY_MARGIN_SECONDS = 0.05


class Follower(Protocol):
    """The engine, as far as its shards know it."""

    def follow(self, symbols: frozenset[str]) -> None:
        """Follow the market of exactly these symbols from now on."""

    def begun(self, symbols: Collection[str]) -> None:
        """From now on signals of these symbols are ours."""

    def is_ready(self, symbol: str) -> bool:
        """Whether the symbol could be acted on at once."""

    def market_report(self) -> dict[str, list[str | None]]:
        """Book state and reference price of each symbol that is followed."""


@dataclass(frozen=True, slots=True)
class _Moves:
    """What to ask of the database: leases to take, to give to whom, to stand by for, and not any more."""

    free: Sequence[str]
    given: Mapping[str, int]
    ready: Sequence[str]
    given_up: Sequence[str]


class Shards:
    """Lives in the engine's event loop, with a thread and a database connection of its own: what else the engine asks
    the database must not delay a renewal."""

    def __init__(self, name: str, symbols: Collection[str], follower: Follower) -> None:
        self.name = name
        self.session_id: int | None = None
        self.counts = {"begun": 0, "ended": 0}
        self._symbols = {symbol_resource(symbol): symbol for symbol in sorted(symbols)}
        self._follower = follower
        self._held: dict[str, int] = {}
        self._standing_by: frozenset[str] = frozenset()
        # What the engine was last told.
        self._followed: frozenset[str] = frozenset()
        self._told: dict[str, int] = {}
        self._valid_until = 0.0
        self._next_expiry: float | None = None
        # Whether others were not told yet that we have proven books of all that is ours.
        self._unproven, self._settles_until = False, 0.0
        self._wake = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="leases")

    @property
    def valid(self) -> bool:
        """Whether our session cannot have expired yet, whatever the database would say now."""
        return _elapsed() < self._valid_until

    def holds(self, symbol: str) -> bool:
        """Asked before every signal: a process that was paused stops here, before it has asked the database."""
        return symbol in self._held and self.valid

    def is_holder(self, symbol: str) -> bool:
        """Whether the symbol was ours when the database last answered: enough to publish it while that is away."""
        return symbol in self._held

    def token(self, symbol: str) -> LeaseToken | None:
        epoch = self._held.get(symbol) if self.valid else None
        return None if epoch is None else LeaseToken(symbol_resource(symbol), epoch)

    def wake(self) -> None:
        """Leases have changed hands, or want to: look at once."""
        self._wake.set()

    async def run(self) -> None:
        while True:
            self._wake.clear()
            try:
                await self._renew()
            except Error as error:
                log.warning("leases cannot be renewed, the database does not answer: %s", error)
                self._next_expiry = None
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pause()):
                    await self._wake.wait()

    async def close(self) -> None:
        """Give everything back, so that others take it at once."""
        session_id, self.session_id, self._held = self.session_id, None, {}
        if session_id is not None:
            try:
                await self._in_database(lambda: session_close(session_id=session_id))
            except Error as error:
                log.warning("leases are not given back, they expire: %s", error)
        self._thread.shutdown(wait=False, cancel_futures=True)

    def status(self) -> dict[str, Any]:
        return {
            "session": self.session_id,
            "valid": self.valid,
            "epochs": dict(self._held),
            "standing_by": sorted(self._standing_by),
            **self.counts,
        }

    def _pause(self) -> float:
        if self._standing_by or (self._unproven and _elapsed() < self._settles_until):
            return SETTLING_PAUSE_SECONDS
        pause = float(settings.LEASE_RENEWAL_SECONDS)
        return pause if self._next_expiry is None else min(pause, self._next_expiry + EXPIRY_MARGIN_SECONDS)

    async def _renew(self) -> None:
        # Counted from before the question: the answer may take long, and the session lives from when it was asked.
        asked = _elapsed()
        report = self._follower.market_report()
        survey = await self._in_database(lambda: self._survey(report))
        self._valid_until = asked + settings.LEASE_SECONDS
        self._next_expiry = survey.next_expiry
        session_id = self.session_id
        if session_id is None:
            return
        ours = {name: survey.epochs[name] for name, holder in survey.held.items() if holder == session_id}
        self._hold(ours)
        assigned = assign(list(self._symbols), survey.held, survey.sessions)
        wanted = [name for name, member in assigned.items() if member == session_id]
        # Neighbours move together, as their connection to the venue does.
        coming = sorted(name for name in wanted if survey.held.get(name, session_id) != session_id)[:MOVES_AT_ONCE]
        ready = [name for name in coming if self._follower.is_ready(self._symbols[name])]
        candidate = {name for name, successor in survey.successors.items() if successor == session_id}
        moves = _Moves(
            free=[name for name in wanted if name not in survey.held],
            given={
                name: successor
                for name, successor in survey.successors.items()
                if name in ours and assigned[name] == successor != session_id
            },
            ready=[name for name in ready if name not in candidate],
            given_up=[name for name in candidate if name not in ready and name not in ours],
        )
        kept = {name: epoch for name, epoch in ours.items() if name not in moves.given}
        self._hold(kept)  # no more acting here before the database says that others may
        taken = await self._in_database(lambda: self._move(session_id, moves))
        self._hold(kept | taken)
        self._standing_by = frozenset(self._symbols[name] for name in coming)
        self._unproven = any(report.get(symbol, [""])[0] != "LIVE" for symbol in self._held)
        self._follow()

    def _hold(self, epochs: dict[str, int]) -> None:
        """Act on exactly these leases from now on."""
        held = {self._symbols[name]: epoch for name, epoch in epochs.items()}
        self.counts["begun"] += len(held.items() - self._held.items())
        self.counts["ended"] += len(self._held.items() - held.items())
        self._held = held

    def _follow(self) -> None:
        """Tell the engine what changed since it was last told."""
        followed = frozenset(self._held) | self._standing_by
        if followed != self._followed:
            self._followed = followed
            self._follower.follow(followed)
        begun = {symbol for symbol, epoch in self._held.items() if self._told.get(symbol) != epoch}
        ended = self._told.keys() - self._held.keys()
        if begun or ended:
            log.info("leases: %d held; begun %s; ended %s", len(self._held), sorted(begun), sorted(ended))
        self._told = dict(self._held)
        if begun:
            self._settles_until = _elapsed() + SETTLING_SECONDS
            self._follower.begun(begun)

    # On the thread of leases.

    def _survey(self, report: dict[str, list[str | None]]) -> LeaseSurvey:
        seconds, resources = settings.LEASE_SECONDS, list(self._symbols)
        if self.session_id is not None and not session_renew(
            session_id=self.session_id, seconds=seconds, report=report
        ):
            log.warning("session %d has ended: it was not renewed in time", self.session_id)
            self.session_id = None
        if self.session_id is None:
            self.session_id = session_open(name=self.name, seconds=seconds, resources=resources)
            session_renew(session_id=self.session_id, seconds=seconds, report=report)
        return leases_survey(session_id=self.session_id, resources=resources)

    def _move(self, session_id: int, moves: _Moves) -> dict[str, int]:
        taken = leases_take(session_id=session_id, resources=moves.free) if moves.free else {}
        if moves.given:
            leases_hand_over(session_id=session_id, successors=moves.given)
        if moves.ready or moves.given_up:
            leases_stand_by(session_id=session_id, ready=moves.ready, given_up=moves.given_up)
        return taken

    async def _in_database(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, partial(with_connection, work))


def _elapsed() -> float:
    """Seconds on a clock that nobody sets and that goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
