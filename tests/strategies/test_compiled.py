"""Kernels of a folder of one's own: kept on disk, and compiled anew when any file of the folder changes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from strategies.kernel_cache import STRATEGIES, cache_of

HOME = Path(__file__).resolve().parents[2]

KERNEL = """
from __future__ import annotations

from strategies.compiled import inner, kernel
from settings_of_mine import FACTOR


@inner
def scaled(value: float) -> float:
    return value * FACTOR


@kernel("float64(float64)")
def line(value: float) -> float:
    return scaled(value)
"""
PROBE = "from my_kernel import line; print(line(2.0))"


def run(folder: Path, cache: Path) -> list[str]:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": f"{folder}:{Path.cwd()}"}
    done = subprocess.run(
        [sys.executable, "-c", PROBE], env=environment, capture_output=True, text=True, timeout=200, check=True
    )
    return done.stdout.split()


def test_a_kernel_is_loaded_again_and_follows_a_constant_that_stands_in_another_file(tmp_path: Path) -> None:
    folder, cache = tmp_path / "mine", tmp_path / "cache"
    folder.mkdir()
    (folder / "my_kernel.py").write_text(KERNEL)
    (folder / "settings_of_mine.py").write_text("FACTOR = 3.0\n")
    assert run(folder, cache)[0] == "6.0"
    kept = {path: path.stat().st_mtime_ns for path in cache.rglob("*.nbc")}
    assert run(folder, cache)[0] == "6.0"
    assert kept == {path: path.stat().st_mtime_ns for path in cache.rglob("*.nbc")}, "compiled twice"
    (folder / "settings_of_mine.py").write_text("FACTOR = 5.0\n")
    assert run(folder, cache)[0] == "10.0"


def test_indicators_and_strategies_share_one_cache_and_others_have_their_own(tmp_path: Path) -> None:
    assert cache_of(HOME / "strategies" / "indicators") is STRATEGIES is cache_of(HOME / "strategies" / "kernels")
    other = cache_of(HOME / "trading" / "backtest")
    assert other.folder() != STRATEGIES.folder()
    assert HOME / "strategies" / "indicators" in other.sources and HOME / "trading" / "backtest" in other.sources
    assert cache_of(tmp_path) != other


@pytest.mark.parametrize("folder", ["strategies/indicators", "strategies/kernels", "trading/backtest/kernels"])
def test_all_that_kernels_are_made_of_is_in_the_name_of_their_cache(folder: str) -> None:
    sources = cache_of(HOME / folder).sources
    for file in (HOME / folder).rglob("*.py"):
        for module in re.findall(
            r"^from ((?:strategies|marketdata|trading|risk)[\w.]*) import", file.read_text(), re.M
        ):
            path = (HOME / module.replace(".", "/")).with_suffix(".py")
            path = path if path.exists() else path.with_suffix("")
            known = any(path == source or path.is_relative_to(source) for source in sources)
            assert known or file.name == "__main__.py", f"{file.name} is made of {module}: add it to the sources"
