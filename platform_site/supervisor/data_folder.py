"""The data folder: everything a deployment on this machine keeps. Opened once at a time, its secrets readable by its
owner alone."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path

from platform_site.supervisor.refusals import StartRefused


class DataFolder:
    """``path`` exists and is writable; ``lock`` keeps a second start out for as long as this object lives."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.logs = path / "logs"
        self._lock: int | None = None
        try:
            # Root's PostgreSQL runs as nobody, who must pass through; everybody else's data is theirs alone.
            path.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
            self.logs.mkdir(mode=0o700, exist_ok=True)
            probe = path / f"write-test.{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise StartRefused(
                f"The data folder {path} cannot be used ({error.strerror}): "
                "make it a folder that you may write to, or set BALLAST_DATA_DIR to another one."
            ) from None

    def lock(self) -> None:
        """Raises StartRefused when another supervisor has the folder. The kernel unlocks it however we end."""
        path = self.path / "supervisor.lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise StartRefused(
                f"Ballast already runs on the data folder {self.path} (process {holder}): "
                "stop it first, or set BALLAST_DATA_DIR to another folder."
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._lock = descriptor

    def unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def read_json(self, name: str) -> dict[str, str] | None:
        """The texts kept under ``name``; None when there is no such file. Raises StartRefused when it is damaged."""
        path = self.path / name
        try:
            content = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise StartRefused(f"{path} cannot be read ({error}): restore it from a backup.") from None
        if not isinstance(content, dict) or not all(isinstance(value, str) for value in content.values()):
            raise StartRefused(f"{path} is damaged (it should hold named texts): restore it from a backup.")
        return content

    def write_json(self, name: str, content: Mapping[str, str]) -> None:
        """Replaces the file whole, readable by its owner alone."""
        path = self.path / name
        unfinished = path.with_name(f"{name}.new")
        unfinished.unlink(missing_ok=True)
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            json.dump(content, stream, indent=2)
            stream.flush()
            os.fsync(stream.fileno())
        unfinished.replace(path)
