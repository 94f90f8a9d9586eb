"""Where the engine's machine code is kept, and whether all of it is there. Needs no compiler: who starts an engine may
ask before anything is loaded.

numba's own cache looks only at the file of the function itself: a changed constant or helper in another file would
leave machine code that writes to last week's places in memory. Here the folder is named after the contents of every
file of the engine, so any change compiles everything anew.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

_SOURCES = Path(__file__).parent
_COMPLETE = "complete"


def _place() -> Path:
    """NUMBA_CACHE_DIR moves it, as it moves numba's own."""
    return Path(os.environ.get("NUMBA_CACHE_DIR") or _SOURCES / "__pycache__")


def folder() -> Path:
    digest = hashlib.sha256()
    for source in sorted(_SOURCES.rglob("*.py")):
        digest.update(str(source.relative_to(_SOURCES)).encode() + b"\0" + source.read_bytes())
    return _place() / f"kernels-{digest.hexdigest()[:16]}"


def made_folder() -> str:
    """The folder, made if it can be; empty for an installation that cannot be written to."""
    wanted = folder()
    try:
        if not wanted.is_dir():
            for outdated in _place().glob("kernels-*"):
                shutil.rmtree(outdated, ignore_errors=True)
            wanted.mkdir(parents=True, exist_ok=True)
    except OSError:
        return ""
    return str(wanted)


def is_filled() -> bool:
    """Whether ``python -m marketdata.engine`` has compiled all that is there now."""
    return (folder() / _COMPLETE).exists()


def note_filled() -> None:
    if kept := made_folder():
        (Path(kept) / _COMPLETE).touch()
