"""Whether the engine's machine code is there is told by the contents of its files alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from marketdata.engine.kernel_cache import KernelCache


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One file of an engine whose cache is empty."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    file = tmp_path / "engine" / "layout.py"
    file.parent.mkdir()
    file.write_text("WORDS = 8\n")
    return file


@pytest.fixture
def kernel_cache(source: Path, tmp_path: Path) -> KernelCache:
    return KernelCache(tmp_path, (source.parent,), source.parent, "kernels")


def test_a_cache_counts_as_filled_once_everything_was_compiled(kernel_cache: KernelCache) -> None:
    assert not kernel_cache.is_filled()
    kernel_cache.made_folder()
    assert not kernel_cache.is_filled()
    kernel_cache.note_filled()
    assert kernel_cache.is_filled()


def test_a_change_in_any_file_needs_another_folder_and_the_old_one_goes(
    source: Path, kernel_cache: KernelCache
) -> None:
    kernel_cache.note_filled()
    old = Path(kernel_cache.made_folder())
    source.write_text("WORDS = 9\n")
    assert not kernel_cache.is_filled()
    assert Path(kernel_cache.made_folder()) != old
    assert not old.exists()


def test_a_folder_that_cannot_be_made_is_left_to_numba(
    kernel_cache: KernelCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file"))
    assert kernel_cache.made_folder() == ""
    kernel_cache.note_filled()
    assert not kernel_cache.is_filled()


def test_a_change_empties_no_other_cache_that_is_kept_in_the_same_place(source: Path, tmp_path: Path) -> None:
    other = source.parent.parent / "bands.py"
    other.write_text("BANDS = 6\n")
    first, second = (KernelCache(tmp_path, (each,), tmp_path, "kernels") for each in (source, other))
    named = KernelCache(tmp_path, (other,), tmp_path, "kernels-of-bands")
    for cache in (second, named, first):
        cache.note_filled()
    assert first.is_filled() and named.is_filled()
    assert not second.is_filled(), "one name belongs to one cache"
