"""What is done to a deployment in one run: at a labelled point, or at a moment."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Protocol

from platform_site.chaos.deployment import ENGINES, Deployment, until
from platform_site.chaos.scenario import LOAD_SECONDS, Blow
from platform_site.chaos.trader import Bot

LABEL_SECONDS, TAKE_OVER_SECONDS = 20.0, 30.0
# Further than the account's rules let a position lose. One that had gained much, or is averaged or turned by the load
# after the move, has not lost enough: then prices move again.
MOVE_PERCENT, MOVES, MOVE_SECONDS = 5.0, 5, 4.0


class Owner(Protocol):
    """The engine that owns a user's account. Without ``wait`` empty where nobody does, or the database is away."""

    def __call__(self, user: str, *, wait: bool = True) -> str: ...


class Reconcile(Protocol):
    """Lets the worker reconcile all accounts."""

    def __call__(self) -> None: ...


class Striker:
    """``arm`` before the load begins, ``strike`` while it runs."""

    def __init__(self, deployment: Deployment, bots: Mapping[str, Bot], owner: Owner, reconcile: Reconcile) -> None:
        self._deployment, self._bots = deployment, bots
        self._owner, self._reconcile = owner, reconcile

    def arm(self, blow: Blow) -> str:
        """The process that is meant, with its label set; an engine is the owner of the user's account."""
        name = blow.target
        if name == "engine":
            name = self._owner(blow.user)
            if blow.label == "lease.taken":
                name = other_engine(name)
        if blow.label:
            self._deployment.arm(name, f"{blow.label}:{blow.passage}:{blow.action}")
        return name

    def strike(self, blow: Blow, name: str, over: threading.Event) -> bool:
        """Whether it was done: a label that nothing comes by within 20 s is given up."""
        if not blow.label:
            over.wait(blow.after)
            self._strike_now(blow, name)
            return blow.target != "nothing"
        self._provoke(blow, name, over)
        reached = until(lambda: self._deployment.was_reached(name), LABEL_SECONDS) is not None
        # Whoever comes after it would be ended there as well.
        self._deployment.disarm()
        if reached and blow.action == "stop":
            self._wake_when_lost(blow.user, name)
        elif reached and blow.target in ("engine", "web"):
            until(lambda: self._deployment.is_dead(name), LABEL_SECONDS)
        return reached

    def _strike_now(self, blow: Blow, name: str) -> None:
        if blow.target in ("private", "public"):
            self._deployment.control("disconnect", {"which": blow.target})
        elif blow.target == "engines":
            for engine in ENGINES:
                self._deployment.kill(engine)
        elif blow.action == "stop":
            self._deployment.pause(name)
            self._wake_when_lost(blow.user, name)
        elif blow.target != "nothing":
            if blow.target == "worker":
                self._reconcile()
            self._deployment.kill(name)

    def _provoke(self, blow: Blow, name: str, over: threading.Event) -> None:
        """See to it that the process comes by the label."""
        if blow.needs_price_move:
            self._move_against(blow.user, name)
        elif blow.label == "lease.lost":
            self._deployment.pause(name)
            self._wake_when_lost(blow.user, name)
        elif blow.needs_kill_switch or blow.label.startswith(("lease.taken", "reconciliation.")):
            over.wait(LOAD_SECONDS / 2)
            if blow.needs_kill_switch:
                arguments = ("engage", over, "chaos")
                threading.Thread(target=self._bots[blow.user].kill_switch, args=arguments, daemon=True).start()
            elif blow.label == "lease.taken":
                self._deployment.kill(other_engine(name))
            elif blow.target == "worker":
                self._reconcile()
            else:
                self._deployment.control("disconnect", {"which": "private"})

    def _move_against(self, user: str, name: str) -> None:
        """Let prices run away from a user's positions, until the account's rules end one and the label is reached."""
        for _ in range(MOVES):
            positions = until(lambda: self._bots[user].venue().positions, LABEL_SECONDS)
            for symbol, quantity in (positions or {}).items():
                percent = -MOVE_PERCENT if quantity > 0 else MOVE_PERCENT
                self._deployment.control("move", {"symbol": symbol, "percent": percent})
            if until(lambda: self._deployment.was_reached(name), MOVE_SECONDS) is not None:
                return

    def _wake_when_lost(self, user: str, name: str) -> None:
        """A paused owner goes on once its account is somebody else's."""
        until(lambda: self._owner(user, wait=False) not in ("", name), TAKE_OVER_SECONDS)
        self._deployment.resume(name)


def other_engine(name: str) -> str:
    return next(engine for engine in ENGINES if engine != name)
