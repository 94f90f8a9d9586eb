"""Who runs PostgreSQL. It refuses to run as root, so root's PostgreSQL runs as ``nobody``, who cannot look into
home folders: what it needs must lie where ``nobody`` can reach it."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from platform_site.supervisor.refusals import StartRefused

UNPRIVILEGED = "nobody"


@dataclass(frozen=True, slots=True)
class Identity:
    """The user and group a process runs as."""

    name: str
    user: int
    group: int


def postgres_identity() -> Identity | None:
    """``nobody`` when we are root, ``None`` (stay who we are) otherwise."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(UNPRIVILEGED)
    except KeyError:
        raise StartRefused(
            f"PostgreSQL does not run as root and this machine has no user {UNPRIVILEGED!r}: "
            "start Ballast as an ordinary user, or set DATABASE_URL to a PostgreSQL server."
        ) from None
    return Identity(entry.pw_name, entry.pw_uid, entry.pw_gid)


def as_identity(identity: Identity | None) -> dict[str, Any]:
    """The arguments of ``subprocess`` that run a command as ``identity``, without root's other groups."""
    if identity is None:
        return {}
    return {"user": identity.user, "group": identity.group, "extra_groups": []}


def can(identity: Identity | None, permission: str, path: Path) -> bool:
    """Whether ``identity`` has ``permission`` ("-r", "-w", "-x") on ``path``. Tried: modes do not tell all."""
    command: Sequence[str] = ["/usr/bin/test", permission, str(path)]
    return subprocess.run(command, cwd="/", check=False, **as_identity(identity)).returncode == 0  # noqa: S603


def give(path: Path, identity: Identity | None) -> None:
    if identity is not None:
        os.chown(path, identity.user, identity.group)
