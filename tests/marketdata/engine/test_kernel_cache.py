"""Whether the engine's machine code is there is told by the contents of its files alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from marketdata.engine import kernel_cache


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One file of an engine whose cache is empty."""
    sources = tmp_path / "engine"
    sources.mkdir()
    monkeypatch.setattr(kernel_cache, "_SOURCES", sources)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    file = sources / "layout.py"
    file.write_text("WORDS = 8\n")
    return file


def test_a_cache_counts_as_filled_once_everything_was_compiled(source: Path) -> None:
    assert not kernel_cache.is_filled()
    kernel_cache.made_folder()
    assert not kernel_cache.is_filled()
    kernel_cache.note_filled()
    assert kernel_cache.is_filled()


def test_a_change_in_any_file_needs_another_folder_and_the_old_one_goes(source: Path) -> None:
    kernel_cache.note_filled()
    old = Path(kernel_cache.made_folder())
    source.write_text("WORDS = 9\n")
    assert not kernel_cache.is_filled()
    assert Path(kernel_cache.made_folder()) != old
    assert not old.exists()


def test_a_folder_that_cannot_be_made_is_left_to_numba(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file"))
    assert kernel_cache.made_folder() == ""
    kernel_cache.note_filled()
    assert not kernel_cache.is_filled()
