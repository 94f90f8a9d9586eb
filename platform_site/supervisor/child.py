"""One supervised process: how it is started, and what is known about it since."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from platform_site.supervisor.privileges import Identity, as_identity

LOG_LIMIT_BYTES = 10_000_000
PR_SET_PDEATHSIG = 1

# Loaded here, not in the forked child: between fork and exec only the call itself is safe.
LIBC = ctypes.CDLL(None, use_errno=True)


class State(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    BACKING_OFF = "backing off"
    STOPPED = "stopped"


class Stage(StrEnum):
    """What stops together. The application goes first, the venue next, the stores last (see ``shutdown.ORDER``)."""

    APPLICATION = "application"
    VENUE = "venue"
    CACHE = "cache"
    DATABASE = "database"


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """How one process is started and ended.

    ``orphan_signal`` is what the kernel sends when the supervisor itself is killed: nothing outlives it.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    directory: Path
    log: Path
    stage: Stage = Stage.APPLICATION
    identity: Identity | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    orphan_signal: signal.Signals = signal.SIGKILL


def spawn(spec: ChildSpec) -> subprocess.Popen[bytes]:
    """Starts the process in a session of its own: the terminal's Ctrl-C reaches only the supervisor, which decides the
    order. Output goes to the log."""
    spec.log.parent.mkdir(parents=True, exist_ok=True)
    with spec.log.open("ab") as log:
        return subprocess.Popen(  # noqa: S603 - commands come from our own plan
            spec.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=spec.directory,
            env=dict(spec.environment),
            start_new_session=True,
            preexec_fn=_die_with_parent(spec.orphan_signal),
            **as_identity(spec.identity),
        )


def _die_with_parent(orphan_signal: signal.Signals) -> Callable[[], None]:
    parent = os.getpid()

    def set_death_signal() -> None:
        LIBC.prctl(PR_SET_PDEATHSIG, int(orphan_signal), 0, 0, 0)
        # The parent may have died before the call above: then nobody would send the signal.
        if os.getppid() != parent:
            os._exit(1)

    return set_death_signal


def rotate_log(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > LOG_LIMIT_BYTES:
            path.replace(path.with_suffix(path.suffix + ".1"))


def last_lines(path: Path, count: int = 12) -> list[str]:
    """The last lines of a log, read from its last 16 KiB."""
    try:
        with path.open("rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - 16_384))
            return log.read().decode(errors="replace").splitlines()[-count:]
    except OSError:
        return []


def exit_text(code: int) -> str:
    """``exit code 1`` or ``killed by SIGKILL``."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


class Child:
    """A process and its history."""

    def __init__(self, spec: ChildSpec) -> None:
        self.spec = spec
        self.process: subprocess.Popen[bytes] | None = None
        self.state = State.WAITING
        self.restarts = 0
        self.failures_in_a_row = 0
        self.started_at = 0.0
        self.restart_at = 0.0
        self.last_exit = ""

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process is not None and self.state is State.RUNNING else None

    def start(self) -> None:
        self.process = spawn(self.spec)
        self.started_at = time.monotonic()
        self.state = State.RUNNING

    def has_exited(self) -> bool:
        return self.state is State.RUNNING and self.process is not None and self.process.poll() is not None

    def signal_process(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def kill_group(self) -> None:
        """Ends the whole process group: a pool's children outlive their leader."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
