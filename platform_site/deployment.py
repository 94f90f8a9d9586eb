"""The environment of the deployment in the data folder, so that `manage.py` commands typed beside it meet the same
database with the same keys."""

from __future__ import annotations

import json
import os
from pathlib import Path

FILE = "environment.json"
SHARED = (
    "BALLAST_MASTER_KEY",
    "BALLAST_PORT",
    "BALLAST_SECRET_KEY",
    "DATABASE_URL",
    "EXCHANGE",
    "PAPER_URL",
    "REDIS_URL",
    "SIMULATOR_URL",
)


def adopt_environment(repository: Path) -> None:
    """Takes over what ``manage.py up`` wrote down at its last start; variables that are set stay as they are.

    Does nothing where DATABASE_URL is set: that is another database, and these keys do not belong to it.
    """
    if "DATABASE_URL" in os.environ:
        return
    path = Path(os.environ.get("BALLAST_DATA_DIR", repository / "var")) / FILE
    try:
        kept = json.loads(path.read_text())
    except (OSError, ValueError):
        return  # never started here, or not ours to read: the command says itself what it misses
    for name in SHARED:
        if isinstance(kept.get(name), str):
            os.environ.setdefault(name, kept[name])
