"""How kernels of indicators, strategies and backtests are compiled: once on disk for all processes, and anew whenever
any file that they are made of changes (``strategies.kernel_cache``)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from numba.extending import register_jitable

from marketdata.engine.compiled import Kernels
from strategies.kernel_cache import cache_of

P = ParamSpec("P")
R = TypeVar("R")


def kernel(signature: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A kernel that Python calls, and other kernels may: compiled, or loaded, when its module is imported. Runs without
    the GIL; divisions by zero give inf or NaN. ``signature`` in numba's words: ``float64(float64[::1], int64)``."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        return _kernels(_folder(function)).compiled(signature)(function)

    return decorate


def inner(function: Callable[..., Any]) -> Callable[..., Any]:
    """A kernel that only other kernels call, with the types that they give: part of their machine code."""
    return _kernels(_folder(function)).kernel(function)


def plain(function: Callable[P, R]) -> Callable[P, R]:
    """A function of Python that kernels may call as well: for the sizes of states."""
    made: Callable[P, R] = register_jitable(function)
    return made


def _folder(function: Callable[..., Any]) -> Path:
    return Path(function.__code__.co_filename).resolve().parent


@cache
def _kernels(folder: Path) -> Kernels:
    return Kernels(cache_of(folder).made_folder())
