"""Keeps processes running: starts them, restarts the ones that crash with growing pauses, ends them in order."""

from __future__ import annotations

import select
import signal
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from platform_site.supervisor.child import Child, ChildSpec, Stage, State, exit_text, last_lines, rotate_log
from platform_site.supervisor.console import Console
from platform_site.supervisor.record import write_record
from platform_site.supervisor.refusals import StartRefused, StopRequested
from platform_site.supervisor.shutdown import AFTER_KILL_SECONDS, ORDER

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PROBE_SECONDS = 0.1
IDLE_SECONDS = 5.0
REPEAT_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """Pauses before restarts, in seconds: doubled at each crash, forgotten after a stable while."""

    first_pause: float = 1.0
    longest_pause: float = 30.0
    stable_after: float = 60.0

    def pause(self, failures_in_a_row: int) -> float:
        return min(self.longest_pause, self.first_pause * 2.0 ** (failures_in_a_row - 1))


class Supervisor:
    """Runs in one thread. Every wait ends early by StopRequested when a stop signal came or the terminal is gone."""

    def __init__(self, console: Console, record: Path, policy: RestartPolicy | None = None) -> None:
        self.console = console
        self.children: dict[str, Child] = {}
        self._commands: list[Child] = []
        self._record = record
        self._policy = policy or RestartPolicy()
        self._stop_requested = False
        self._impatient = False
        self._interrupted_at = 0.0
        # Signals write into this pair, so that a wait ends the moment one comes.
        self._wake, self._waker = socket.socketpair()
        self._wake.setblocking(False)
        self._waker.setblocking(False)

    def listen_to_signals(self) -> None:
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _wake_only)
        for number in STOP_SIGNALS:
            # Under nohup the hang-up is ignored on purpose.
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._ask_to_stop)

    def _ask_to_stop(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        # `timeout` and `kill` on a group deliver one request several times; a person needs longer to repeat it.
        if number == signal.SIGINT and 0 < self._interrupted_at < now - REPEAT_SECONDS:
            self._impatient = True
        if number == signal.SIGINT:
            self._interrupted_at = now
        self._stop_requested = True

    def start(self, spec: ChildSpec) -> Child:
        rotate_log(spec.log)
        child = self.children[spec.name] = Child(spec)
        try:
            self._launch(child)
        except OSError as error:
            raise StartRefused(f"{spec.name} cannot be started: {error}.") from None
        return child

    def run_to_end(self, spec: ChildSpec, seconds: float) -> None:
        """Runs a command that ends by itself. Raises StartRefused with the end of its log when it fails."""
        self.await_end(self.begin(spec), seconds)

    def begin(self, spec: ChildSpec) -> Child:
        """Starts a command that ends by itself, for :meth:`await_end` later."""
        child = Child(spec)
        rotate_log(spec.log)
        child.start()
        self._commands.append(child)
        return child

    def await_end(self, child: Child, seconds: float) -> None:
        """Waits for a command. Raises StartRefused with the end of its log when it failed, or takes too long."""
        spec = child.spec
        deadline = time.monotonic() + seconds
        try:
            while not child.has_exited() and time.monotonic() < deadline:
                self.wait(PROBE_SECONDS)
            code = child.process.poll() if child.process is not None else None
        finally:
            child.kill_group()
            self._commands.remove(child)
        if code != 0:
            how = f"did not end within {seconds:g} s" if code is None else f"failed ({exit_text(code)})"
            raise StartRefused("\n".join([f"{spec.name} {how}; the end of {spec.log}:", *indented(spec.log)]))

    def wait_until(self, is_ready: Callable[[], bool], seconds: float, pause: float = PROBE_SECONDS) -> bool:
        """Polls until ``is_ready`` or ``seconds`` have passed; restarts go on meanwhile. True when ready."""
        deadline = time.monotonic() + seconds
        while not is_ready():
            if time.monotonic() > deadline:
                return False
            self.wait(pause)
        return True

    def require_ready(self, child: Child, is_ready: Callable[[], bool], seconds: float, attempts: int = 4) -> None:
        """Waits for a server that nothing works without. Raises StartRefused when it keeps ending or stays silent."""
        deadline = time.monotonic() + seconds
        while not (child.state is State.RUNNING and is_ready()):
            if child.restarts >= attempts or time.monotonic() > deadline:
                name, log = child.spec.name, child.spec.log
                how = child.last_exit or f"not ready after {seconds:g} s"
                raise StartRefused("\n".join([f"{name} did not start ({how}); the end of {log}:", *indented(log)]))
            self.wait(PROBE_SECONDS)

    def watch(self) -> None:
        """Supervises until StopRequested."""
        while True:
            self.wait(IDLE_SECONDS)

    def wait(self, seconds: float) -> None:
        """Waits for a signal or until ``seconds`` have passed, then takes care of ended and due processes."""
        due = [child.restart_at for child in self.children.values() if child.state is State.BACKING_OFF]
        self._sleep(max(0.0, min([seconds, *(moment - time.monotonic() for moment in due)])))
        self._take_care()
        if self._stop_requested or self.console.is_gone:
            raise StopRequested

    def _sleep(self, seconds: float) -> None:
        if select.select([self._wake], [], [], seconds)[0]:
            self._wake.recv(4096)

    def _take_care(self) -> None:
        now = time.monotonic()
        for child in self.children.values():
            if child.has_exited():
                self._note_exit(child, now)
            elif child.state is State.BACKING_OFF and now >= child.restart_at:
                self._restart(child)

    def _note_exit(self, child: Child, now: float) -> None:
        code = child.process.returncode if child.process is not None else 0
        child.kill_group()
        if now - child.started_at >= self._policy.stable_after:
            child.failures_in_a_row = 0
        self._back_off(child, exit_text(code), now)
        if child.failures_in_a_row == 1:
            self.console.lines(indented(child.spec.log))

    def _back_off(self, child: Child, why: str, now: float) -> None:
        child.failures_in_a_row += 1
        child.last_exit = why
        child.state = State.BACKING_OFF
        pause = self._policy.pause(child.failures_in_a_row)
        child.restart_at = now + pause
        self.console.event(child.spec.name, f"ended ({why}), starts again in {pause:g} s")
        write_record(self._record, self.children.values())

    def _restart(self, child: Child) -> None:
        child.restarts += 1
        try:
            self._launch(child)
        except OSError as error:
            # The machine is out of something (processes, memory): later may be better.
            self._back_off(child, f"cannot be started: {error.strerror}", time.monotonic())

    def _launch(self, child: Child) -> None:
        child.start()
        how = "started" if child.restarts == 0 else f"started again (restart {child.restarts})"
        self.console.event(child.spec.name, f"{how}, process {child.pid}")
        write_record(self._record, self.children.values())

    def stop(self) -> None:
        """Ends every child in order. Another Ctrl-C meanwhile kills what is left of the application."""
        for command in self._commands:
            command.kill_group()
        deadline = time.monotonic()
        for stage, seconds in ORDER:
            # What one stage leaves of its time is the next one's.
            deadline += seconds
            self._stop_stage([child for child in self.children.values() if child.spec.stage is stage], deadline)
        write_record(self._record, self.children.values())

    def _stop_stage(self, children: Iterable[Child], deadline: float) -> None:
        running = [child for child in children if child.process is not None and child.process.poll() is None]
        for child in running:
            child.signal_process(child.spec.stop_signal)
        while any(_is_running(child) for child in running):
            if time.monotonic() > deadline or (self._impatient and _may_be_killed(running)):
                break
            self._sleep(PROBE_SECONDS)
        for child in children:
            self._finish(child)

    def _finish(self, child: Child) -> None:
        forced = _is_running(child)
        child.kill_group()
        deadline = time.monotonic() + AFTER_KILL_SECONDS
        while _is_running(child) and time.monotonic() < deadline:
            self._sleep(PROBE_SECONDS)
        if child.process is not None and child.process.returncode is not None:
            child.last_exit = exit_text(child.process.returncode)
        child.state = State.STOPPED
        self.console.event(child.spec.name, "stopped" if not forced else "did not stop in time and was killed")


def indented(log: Path) -> list[str]:
    """The end of a log, set off from the lifecycle lines."""
    return [f"    | {line}" for line in last_lines(log)]


def _may_be_killed(children: Iterable[Child]) -> bool:
    """Impatience ends the application at once, never the stores: they need a moment to write everything down."""
    return all(child.spec.stage in {Stage.APPLICATION, Stage.VENUE} for child in children)


def _is_running(child: Child) -> bool:
    return child.process is not None and child.process.poll() is None


def _wake_only(number: int, frame: FrameType | None) -> None:
    """A Python-level handler is what makes the interpreter write into the wake-up descriptor."""
