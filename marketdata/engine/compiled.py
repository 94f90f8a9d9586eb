"""How the engine's kernels are compiled: without the GIL, and kept on disk (``kernel_cache``) so that a process starts
in a fraction of a second."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import numba
from numba import types
from numba.core.caching import FunctionCache
from numba.core.ccallback import CFunc
from numba.core.runtime import rtsys
from numba.core.sigutils import normalize_signature

from marketdata.engine.kernel_cache import ENGINE

_settings: Any = numba.config


class _KernelCache(FunctionCache):
    """numba prepares itself to compile before it looks into a cache, which takes three times as long as everything else
    that a warm start does. Machine code needs nothing of it but the runtime's symbols; whatever has to be compiled
    prepares the rest."""

    def load_overload(self, signature: Any, target_context: Any) -> Any:
        rtsys.initialize(target_context)
        with self._guard_against_spurious_io_errors():
            return self._load_overload(signature, target_context)


# What Python never calls needs no way in from Python: a fifth of the time of compiling.
_INNER: dict[str, Any] = {"nogil": True, "error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True}


class Kernels:
    """Decorators for functions whose machine code is kept in one folder; empty: where numba keeps its own. ``options``:
    more of numba's, for all of them."""

    def __init__(self, folder: str, **options: Any) -> None:
        self.folder, self._options = folder, options

    def compiled(self, signature: str, *, nogil: bool = True) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """A kernel that Python calls: compiled, or loaded from the cache, when its module is imported."""

        def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
            dispatcher: Any = numba.njit(nogil=nogil, error_model="numpy", **self._options)(function)
            with self._cache():
                dispatcher._cache = _KernelCache(function)
                dispatcher.compile(signature)
            dispatcher.disable_compile()
            return cast("Callable[..., Any]", dispatcher)

        return decorate

    def kernel(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A kernel that only other kernels call: it is part of their machine code, so a warm start does not load it."""
        with self._cache():
            return _once(numba.njit(cache=True, **_INNER, **self._options)(function))

    def callback(self, function: Callable[..., Any]) -> int:
        """The address of a function of four int64 that kernels call through it: what few books need is not part of the
        kernels of all, which would compile and load it."""
        made: Any = CFunc(function, _CALLBACK, locals={}, options={"error_model": "numpy"})
        with self._cache():
            made._cache = _KernelCache(function)
            made.compile()
        _CALLBACKS.append(made)
        return cast("int", made.address)

    @contextmanager
    def _cache(self) -> Iterator[None]:
        usual = _settings.CACHE_DIR
        _settings.CACHE_DIR = self.folder or usual
        try:
            yield
        finally:
            _settings.CACHE_DIR = usual


def without_dispatch(function: Callable[..., Any]) -> Callable[..., Any]:
    """The C function of a kernel with one signature, for calls that come message by message: numba's own way in looks
    for a signature that suits the arguments each time, which takes twice as long as the call."""
    dispatcher: Any = function
    (compilation,) = dispatcher.overloads.values()
    entry: Callable[..., Any] = compilation.entry_point
    return entry


_CALLBACK = normalize_signature("void(int64, int64, int64, int64)")
# Kept for as long as anybody might call them.
_CALLBACKS: list[Any] = []


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """A part of kernels, copied into each of its callers: for the few lines that a call would cost more than."""
    return _once(numba.njit(forceinline=True, **_INNER)(function))


def _once(dispatcher: Any) -> Callable[..., Any]:
    """numba would compile a function anew for each constant that it is called with."""
    resolve = dispatcher.get_call_template
    dispatcher.get_call_template = lambda given, named: resolve(tuple(types.unliteral(each) for each in given), named)
    return dispatcher


_ENGINE = Kernels(ENGINE.made_folder())
compiled, kernel, callback = _ENGINE.compiled, _ENGINE.kernel, _ENGINE.callback
