"""Where the recorded market data is; tests that need it skip, saying so, where it is absent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("MARKET_DATA_DIR") or Path(__file__).resolve().parents[2] / "shared" / "data")


def bybit_session() -> Path:
    found = sorted((FOLDER / "bybit-v5-session").glob("*.zst"))
    if not found:
        pytest.skip(f"needs the recorded Bybit session under {FOLDER} (set MARKET_DATA_DIR)")
    return found[0]


def recording(folder: str, name: str) -> Path:
    path = FOLDER / folder / name
    if not path.exists():
        pytest.skip(f"needs {folder}/{name} under {FOLDER} (set MARKET_DATA_DIR)")
    return path
