"""Labelled points of an order's way at which a test may end or pause this process.

``reach("order.committed")`` does nothing unless BALLAST_CRASH_AT arms a point: ``NAME[:PASSAGE[:kill|stop]]``, or
``@FILE`` with such a line, which may be written, changed and emptied while the process lives. At the given passage
(counted from 1, in this process) it ends itself by SIGKILL, or pauses itself by SIGSTOP: the owner who wakes up after
its lease is gone. The settings refuse the variable outside of simulated deployments (platform_site/settings.py).
"""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

VARIABLE = "BALLAST_CRASH_AT"
# What a process writes beside its FILE right before it ends or pauses itself.
REACHED_SUFFIX = ".reached"

POINTS: Final = MappingProxyType(
    {
        "intent.in_transaction": "a recorded intent is written, its transaction not committed",
        "api.committed": "an order of the API is committed, its author has no answer",
        "order.before_commit": "an approved order is about to be committed",
        "order.in_transaction": "an approved order is written, its transaction not committed",
        "order.committed": "an order is committed and not sent",
        "order.bytes_left": "an order's request has left, nothing is answered",
        "order.answered": "the venue has answered, the answer is not booked",
        "order.booking": "the answer is written, its transaction not committed",
        "order.booked": "the answer is booked",
        "amend.requested": "a wanted amendment is written, its transaction not committed",
        "amend.committed": "an approved amendment is committed and not sent",
        "amend.bytes_left": "an amendment's request has left, nothing is answered",
        "amend.answered": "the venue has answered an amendment, the answer is not booked",
        "amend.booked": "the answer to an amendment is booked",
        "cancel.requested": "a wanted cancel is written, its transaction not committed",
        "cancel.taken": "the owner is about to ask the venue for a cancel",
        "cancel.bytes_left": "a cancel's request has left, nothing is answered",
        "cancel.answered": "the venue has answered a cancel, the answer is not booked",
        "cancel.booked": "the answer to a cancel is booked",
        "fill.received": "the stream has told a fill, nothing of it is written",
        "fill.booking": "a fill, its order and its position are written, their transaction not committed",
        "fill.booked": "a fill that the stream told is booked",
        "exit.saved": "what trails a position is remembered",
        "exit.ordered": "an exit is recorded, its owner does not know it yet",
        "reconciliation.fills": "missed fills are booked, orders not compared",
        "reconciliation.orders": "orders are compared, positions not",
        "reconciliation.positions": "positions are compared, the wallet not",
        "reconciliation.wallet": "the wallet is kept, the run not recorded",
        "reconciliation.recorded": "the run is recorded",
        "kill.engaging": "a kill switch is written, its transaction not committed",
        "kill.begun": "a round of the kill switch begins",
        "kill.cancelled": "the venue was asked to cancel every order, no position is closed",
        "kill.closed": "every position has its closing order, nothing is proven",
        "kill.verified": "nothing is open any more, the switch is not done",
        "kill.done": "the switch is done",
        "lease.taken": "an account has become ours",
        "lease.renewed": "an account's lease was renewed",
        "lease.lost": "the database said that the account is not ours any more",
    }
)
ACTIONS: Final = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}


class CrashPointError(ValueError):
    """BALLAST_CRASH_AT cannot be understood; the message says what was expected."""


@dataclass(frozen=True, slots=True)
class CrashPoint:
    name: str
    passage: int = 1
    action: str = "kill"

    @property
    def text(self) -> str:
        return f"{self.name}:{self.passage}:{self.action}"


def crash_point(text: str) -> CrashPoint:
    """``NAME[:PASSAGE[:kill|stop]]``.

    Raises:
        CrashPointError: an unknown name or action, or a passage below 1.
    """
    name, _, rest = text.partition(":")
    passage, _, action = rest.partition(":")
    if name not in POINTS:
        raise CrashPointError(f"{name!r} is no labelled point; known are {', '.join(POINTS)}")
    if passage and not (passage.isascii() and passage.isdigit() and int(passage) > 0):
        raise CrashPointError(f"the passage is {passage!r}; expected a whole number from 1")
    if action and action not in ACTIONS:
        raise CrashPointError(f"the action is {action!r}; expected kill or stop")
    return CrashPoint(name, int(passage or 1), action or "kill")


def check(text: str) -> None:
    """Refuse a value of BALLAST_CRASH_AT that arms nothing. Raises CrashPointError."""
    if not text.startswith("@"):
        crash_point(text)


class Trap:
    """What BALLAST_CRASH_AT arms in this process. Any thread may call :meth:`reach`."""

    def __init__(self, text: str) -> None:
        self._file = Path(text[1:]) if text.startswith("@") else None
        self._fixed = text if self._file is None else ""
        self._armed_by, self._passages = "", 0
        self._lock = threading.Lock()

    def reach(self, name: str) -> None:
        text = self._fixed if self._file is None else _content(self._file)
        if not text.startswith(name):
            return
        point = crash_point(text)
        if point.name != name:
            return
        with self._lock:
            if text != self._armed_by:
                self._armed_by, self._passages = text, 0
            self._passages += 1
            if self._passages != point.passage:
                return
        if self._file is not None:
            self._file.with_name(self._file.name + REACHED_SUFFIX).write_text(f"{os.getpid()} {text}")
        os.kill(os.getpid(), ACTIONS[point.action])


def _content(path: Path) -> str:
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return ""


_trap = Trap(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None
ARMED: Final = _trap is not None


def reach(name: str) -> None:
    """This process is at the point of this name (see :data:`POINTS`)."""
    if ARMED and _trap is not None:
        _trap.reach(name)
