"""Ends calls of other people's code that take too long: an endless loop must not stop a process that has more to do."""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

Answer = TypeVar("Answer")
TICK_SECONDS = 0.1
_raise_in_thread = ctypes.pythonapi.PyThreadState_SetAsyncExc
_raise_in_thread.argtypes = (ctypes.c_ulong, ctypes.py_object)


class Overrun(BaseException):
    """A call took longer than it may. No Exception: code that goes on after every Exception shall end."""


class CallWatch:
    """Watches the calls that one thread makes through :meth:`call`, one inside another not.

    After ``limit_seconds`` :class:`Overrun` is raised inside the call, where it is at that moment: its traceback says
    the line. It cannot reach machine code (a kernel, a C function) before that returns: after twice the limit
    ``on_stuck(subject, frame)`` is told, in the watching thread, once. Time is counted in ticks of the watching
    thread, so a process that was suspended or starved meanwhile accuses nobody.
    """

    def __init__(
        self, limit_seconds: float, on_stuck: Callable[[Any, FrameType | None], None] = lambda subject, frame: None
    ) -> None:
        self._limit_ticks, self._on_stuck = max(2, round(limit_seconds / TICK_SECONDS)), on_stuck
        self.limit_seconds = limit_seconds
        self._caller = 0
        self._calls = 0
        # Numbers of calls: the one in progress, the one that was told to end, the one that was told for certain.
        self._active = self._struck = self._settled = 0
        self._subject: Any = None
        self._allowed_ticks = 0
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> CallWatch:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Watch the thread that calls this."""
        self._caller = threading.get_ident()
        self._thread = threading.Thread(target=self._watch, name="call watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    def call(self, subject: Any, ask: Callable[..., Answer], *arguments: Any, times: int = 1) -> Answer:
        """What ``ask(*arguments)`` returns or raises; ``times`` the limit for what may take longer.

        Raises:
            Overrun: it took too long.
        """
        self._calls = number = self._calls + 1
        self._subject, self._allowed_ticks = subject, self._limit_ticks * times
        self._active = number
        try:
            try:
                return ask(*arguments)
            finally:
                self._active = 0
                # In this order, and the watcher the other way round: either it sees that the call is over, or we see
                # that it strikes, and nothing strikes whoever comes after us.
                if self._struck == number:
                    self._absorb(number)
        except Overrun:
            self._active = 0
            raise

    def _absorb(self, number: int) -> None:
        """Let what was raised for the call that is over be raised here, at the latest: it may wait still. Taken back
        instead (by NULL) CPython 3.11 looks for it ever after, and goes round in circles while anything traces."""
        try:
            while self._settled != number:
                time.sleep(0.001)
            # In the place of the one that waits, if one does.
            _raise_in_thread(threading.get_ident(), ctypes.py_object(Overrun))
            while True:
                time.sleep(0)
        except Overrun:
            pass

    def _watch(self) -> None:
        seen, ticks = 0, 0
        while not self._stopped.wait(TICK_SECONDS):
            number = self._active
            ticks = ticks + 1 if number == seen and number != 0 else 0
            seen = number
            if ticks == 0:
                continue
            if ticks == self._allowed_ticks:
                self._strike(number)
            elif ticks == 2 * self._allowed_ticks:
                self._on_stuck(self._subject, sys._current_frames().get(self._caller))

    def _strike(self, number: int) -> None:
        self._struck = number
        if self._active == number:
            _raise_in_thread(self._caller, ctypes.py_object(Overrun))
        self._settled = number
