"""TCP ports on loopback: whether one is free, and who holds it when not."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

from platform_site.supervisor.refusals import StartRefused

LISTEN = "0A"
SERVER_PORTS = range(15_000, 32_000)


def free_port() -> int:
    """A port nobody listens on now, below those that the kernel gives to outgoing connections: one of them could take
    it before it is used. Another server still can; callers retry or report."""
    while True:
        port = SERVER_PORTS.start + secrets.randbelow(len(SERVER_PORTS))
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def require_free(port: int, purpose: str, variable: str) -> None:
    """Raises StartRefused, naming the holder where it can be seen and the variable that chooses another port."""
    with socket.socket() as probe:
        # As the servers do: connections that linger in TIME_WAIT after a restart do not count as taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            return
        except PermissionError:
            raise StartRefused(
                f"Port {port} for the {purpose} needs root: set {variable} to a port above 1023."
            ) from None
        except OSError:
            holder = holder_of(port)
    by_whom = f" by {holder}" if holder else ""
    raise StartRefused(
        f"Port {port} for the {purpose} is taken{by_whom}: stop that program, or choose another port with {variable}."
    )


def holder_of(port: int) -> str:
    """``python (process 123)`` for the process listening on ``port``; empty when it is not ours to see."""
    inodes = set(_listening_inodes(port))
    if not inodes:
        return ""
    for process in Path("/proc").glob("[0-9]*"):
        if _holds(process, inodes):
            with contextlib.suppress(OSError):
                return f"{(process / 'comm').read_text().strip()} (process {process.name})"
    return ""


def _listening_inodes(port: int) -> Iterator[str]:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    yield f"socket:[{fields[9]}]"


def _holds(process: Path, inodes: set[str]) -> bool:
    try:
        descriptors = list((process / "fd").iterdir())
    except OSError:
        return False
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            if os.readlink(descriptor) in inodes:
                return True
    return False
