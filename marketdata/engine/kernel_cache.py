"""Where machine code is kept, and whether all of it is there. Needs no compiler: who starts an engine may ask before
anything is loaded.

numba's own cache looks only at the file of the function itself: a changed constant or helper in another file would
leave machine code that writes to last week's places in memory. Here the folder is named after the contents of every
file that kernels are made of, so any change compiles everything anew.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

_COMPLETE = "complete"


@dataclass(frozen=True, slots=True)
class KernelCache:
    """The machine code that is made of ``sources``, files or folders under ``root``. ``home`` is where it is kept:
    ``NUMBA_CACHE_DIR`` moves it, as it moves numba's own; ``name`` tells it from other caches that are kept there."""

    root: Path
    sources: tuple[Path, ...]
    home: Path
    name: str

    def folder(self) -> Path:
        digest = hashlib.sha256()
        for source in self.sources:
            for file in sorted(source.rglob("*.py")) if source.is_dir() else [source]:
                digest.update(str(file.relative_to(self.root)).encode() + b"\0" + file.read_bytes())
        return self._place() / f"{self.name}-{digest.hexdigest()[:16]}"

    def made_folder(self) -> str:
        """The folder, made if it can be; empty for an installation that cannot be written to."""
        wanted = self.folder()
        try:
            if not wanted.is_dir():
                for outdated in self._place().glob(f"{self.name}-{'[0-9a-f]' * 16}"):
                    shutil.rmtree(outdated, ignore_errors=True)
                wanted.mkdir(parents=True, exist_ok=True)
        except OSError:
            return ""
        return str(wanted)

    def is_filled(self) -> bool:
        """Whether all that is there now has been compiled."""
        return (self.folder() / _COMPLETE).exists()

    def note_filled(self) -> None:
        if kept := self.made_folder():
            (Path(kept) / _COMPLETE).touch()

    def _place(self) -> Path:
        return Path(os.environ.get("NUMBA_CACHE_DIR") or self.home)


_HERE = Path(__file__).parent
# Filled by ``python -m marketdata.engine``.
ENGINE = KernelCache(_HERE, (_HERE,), _HERE / "__pycache__", "kernels")
