"""Users' own strategies: one file each, and a bad one harms nobody."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from platform_site import environment as environment_readers
from strategies.base import parse_parameters
from strategies.library import STRATEGIES as BUILT_IN
from strategies.registry import Registry
from tests.strategies.own import line_of, written


def registry(folder: Path) -> Registry:
    return Registry(BUILT_IN).look_in(folder)


def test_a_file_in_the_folder_is_a_strategy_beside_the_built_in_ones(tmp_path: Path) -> None:
    path = written(tmp_path, "mine")
    found = registry(tmp_path)
    assert set(found) == {*BUILT_IN, "own.mine"} and not found.problems
    kind = found["own.mine"]
    made = kind.create("BTCUSDT", parse_parameters(kind.parameters, {"bars": 4}))
    assert (made.timeframe, made.warm_up) == ("1", 6)
    about = found.file("own.mine")
    assert about is not None and about.path == path and found.code("own.mine") == about.digest
    assert found.file("supertrend") is None and found.code("supertrend") == ""


def test_a_changed_file_is_taken_up_and_a_removed_one_forgotten_when_it_is_asked_again(tmp_path: Path) -> None:
    path = written(tmp_path, "mine")
    found = registry(tmp_path)
    before, code = found["own.mine"], found.code("own.mine")
    assert found.refresh()["own.mine"] is before
    written(tmp_path, "mine", ('title = "Mine"', 'title = "Mine, changed"'))
    assert found["own.mine"] is before
    assert found.refresh()["own.mine"].title == "Mine, changed" and found.code("own.mine") != code
    path.unlink()
    assert set(found.refresh()) == set(BUILT_IN)
    written(tmp_path, "mine")
    assert found.refresh().code("own.mine") == code


@pytest.mark.parametrize(
    ("change", "marked", "words"),
    [
        (("class Mine", "class Mine:\n  klass Mine"), "klass", "SyntaxError"),
        (("from decimal import Decimal", "from decimel import Decimal"), "decimel", "ModuleNotFoundError"),
        (("class Mine", "TOP = 1 / 0\nclass Mine"), "TOP", "ZeroDivisionError"),
        (("class Mine", "raise SystemExit(3)\nclass Mine"), "SystemExit", "ends the process"),
        (('name = "own.mine"', 'name = "My Strategy"'), "class Mine", "name is 'My Strategy'; expected up to 40 small"),
        (('"candles it watches"', '""'), "class Mine", "parameter 'timeframe' has no help"),
        (
            ('"int", 3', '"int", 300'),
            "class Mine",
            "'bars' has the default 300, which must be a whole number from",
        ),
        (('"int", 3', '"integer", 3'), "class Mine", "has the kind 'integer'; expected one of int, float, choice"),
        (('"bars", 1, 50', '"bars"'), "class Mine", "expected a minimum and a maximum"),
        (("(QuietStrategy)", ""), "class Mine", "defines no strategy"),
        (("class Mine", "class Yours(QuietStrategy):\n    create = 1\nclass Mine"), None, None),
        (("class Mine", "class Yours(QuietStrategy):\n    create = print\nclass Mine"), "class Mine", "2 strategies"),
    ],
)
def test_a_file_that_is_no_strategy_is_left_out_with_its_line_and_the_reason(
    tmp_path: Path, change: tuple[str, str], marked: str | None, words: str | None
) -> None:
    path = written(tmp_path, "broken", change)
    written(tmp_path, "good", ("own.mine", "own.good"))
    found = registry(tmp_path)
    assert "own.good" in found
    if marked is None or words is None:
        assert not found.problems
        return
    (problem,) = found.problems
    assert (problem.file, problem.line) == ("broken.py", line_of(path, marked)) and words in problem.words
    assert str(problem).startswith(f"broken.py:{problem.line}: ")


def test_a_file_that_never_ends_its_import_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strategies.files.load_file.__defaults__", (0.3,))
    path = written(tmp_path, "endless", ("class Mine", "while True:\n    pass  # here\nclass Mine"))
    (problem,) = registry(tmp_path).problems
    assert abs(problem.line - line_of(path, "# here")) <= 1 and "still busy 0.3 s" in problem.words


def test_names_that_are_taken_are_refused(tmp_path: Path) -> None:
    written(tmp_path, "a", ("own.mine", "supertrend"))
    written(tmp_path, "b")
    written(tmp_path, "c")
    found = registry(tmp_path)
    assert found["supertrend"] is BUILT_IN["supertrend"] and found.file("own.mine").path.name == "b.py"  # type: ignore[union-attr]
    assert [(each.file, each.words.split(";")[0]) for each in found.problems] == [
        ("a.py", "is named supertrend, and so is a built-in strategy"),
        ("c.py", "is named own.mine, and so is b.py"),
    ]


def test_what_is_no_strategy_file_is_not_looked_at(tmp_path: Path) -> None:
    written(tmp_path, "_draft", source="1 / 0")
    (tmp_path / "notes.txt").write_text("1 / 0")
    assert not registry(tmp_path).problems
    assert not registry(tmp_path / "nowhere").problems


def test_a_file_that_cannot_be_read_or_is_too_large_says_so(tmp_path: Path) -> None:
    (tmp_path / "large.py").write_text("#" * 1_000_001)
    (tmp_path / "nowhere.py").symlink_to(tmp_path / "gone")
    words = {each.file: each.words for each in registry(tmp_path).problems}
    assert words.pop("large.py") == "is larger than 1000000 bytes"
    assert words == {"nowhere.py": "cannot be read: No such file or directory"}


def test_the_settings_name_the_folder_and_refuse_one_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path / "ours", "mine")
    code = "import django; django.setup(); from strategies.registry import STRATEGIES; print('own.mine' in STRATEGIES)"
    environment = {**os.environ, "STRATEGIES_DIR": str(tmp_path / "ours")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, env=environment)
    assert done.stdout.strip() == "True", done.stderr
    monkeypatch.setenv("STRATEGIES_DIR", str(tmp_path / "gone"))
    with pytest.raises(ImproperlyConfigured, match="which is no folder; make it, or unset STRATEGIES_DIR"):
        environment_readers.folder("STRATEGIES_DIR", tmp_path)
    monkeypatch.delenv("STRATEGIES_DIR")
    assert environment_readers.folder("STRATEGIES_DIR", tmp_path / "later") == tmp_path / "later"
