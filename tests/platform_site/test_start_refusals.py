"""A start that cannot go on says so in one sentence, ends with 2 and leaves nothing running."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from platform_site.supervisor.data_folder import DataFolder
from platform_site.supervisor.leftovers import find_leftovers, mark_of
from platform_site.supervisor.ports import free_port, holder_of, require_free
from platform_site.supervisor.refusals import StartRefused

REPOSITORY = Path(__file__).resolve().parents[2]
Up = Callable[..., str]


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


@pytest.fixture
def up(tmp_path: Path) -> Up:
    """Runs ``manage.py up``, which must refuse; returns the sentence."""

    def run(**settings: str) -> str:
        environment = {
            **{name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "REDIS_URL"}},
            "BALLAST_DATA_DIR": str(tmp_path / "var"),
            "BALLAST_PORT": str(free_port()),
            "BALLAST_POSTGRES_PORT": str(free_port()),
            "BALLAST_VALKEY_PORT": str(free_port()),
            "SIMULATOR_URL": f"http://127.0.0.1:{free_port()}",
            "PAPER_URL": f"http://127.0.0.1:{free_port()}",
            **settings,
        }
        done = subprocess.run(
            [sys.executable, "manage.py", "up"], cwd=REPOSITORY, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
        (sentence,) = done.stderr.strip().splitlines()
        assert find_leftovers(mark_of(tmp_path / "var")) == []
        return sentence

    return run


@pytest.mark.parametrize("variable", ["BALLAST_PORT", "BALLAST_POSTGRES_PORT", "BALLAST_VALKEY_PORT"])
def test_a_taken_port_is_named_with_its_holder_and_its_variable(variable: str, up: Up, taken_port: int) -> None:
    sentence = up(**{variable: str(taken_port)})
    assert f"Port {taken_port} for the " in sentence
    assert f"(process {os.getpid()})" in sentence
    assert variable in sentence


def test_the_simulator_s_taken_port_is_named(up: Up, taken_port: int) -> None:
    sentence = up(SIMULATOR_URL=f"http://127.0.0.1:{taken_port}")
    assert f"Port {taken_port} for the exchange simulator is taken" in sentence
    assert "SIMULATOR_URL" in sentence


def test_a_data_folder_that_is_a_file_is_refused(up: Up, tmp_path: Path) -> None:
    (tmp_path / "var").write_text("not a folder")
    assert f"The data folder {tmp_path / 'var'} cannot be used" in up()


def test_a_folder_that_is_no_cluster_is_refused(up: Up, tmp_path: Path) -> None:
    cluster = make_cluster(tmp_path)
    assert f"{cluster} is not a PostgreSQL cluster (it has no PG_VERSION file)" in up()
    assert (cluster / "somebody's.file").exists()


def test_a_cluster_of_another_postgresql_is_refused(up: Up, tmp_path: Path) -> None:
    (make_cluster(tmp_path) / "PG_VERSION").write_text("15\n")
    assert "was made by PostgreSQL 15, this Ballast runs PostgreSQL 18" in up()


def test_a_damaged_cluster_is_refused(up: Up, tmp_path: Path) -> None:
    (make_cluster(tmp_path) / "PG_VERSION").write_text("18\n")
    assert "is a damaged PostgreSQL cluster (global/pg_control is missing)" in up()


def test_a_second_supervisor_on_a_data_folder_is_refused(up: Up, tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "var")
    folder.lock()
    assert f"already runs on the data folder {tmp_path / 'var'} (process {os.getpid()})" in up()
    folder.unlock()


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("MARKET", "/nonexistent/recording", "is not a readable file"),
        ("BALLAST_PORT", "eighty", "expected a whole number"),
        ("BALLAST_POSTGRES_PORT", "70000", "expected 1 to 65535"),
        ("BALLAST_ENGINES", "0", "expected 1 to 16"),
        ("SIMULATOR_URL", "http://exchange.example", "expected http://127.0.0.1:PORT"),
        ("PAPER_URL", "https://api.bybit.com", "expected http://127.0.0.1:PORT"),
    ],
)
def test_a_wrong_setting_is_named(variable: str, value: str, reason: str, up: Up) -> None:
    sentence = up(**{variable: value})
    assert variable in sentence
    assert value in sentence
    assert reason in sentence


def test_a_lock_ends_with_its_holder(tmp_path: Path) -> None:
    first = DataFolder(tmp_path)
    first.lock()
    with pytest.raises(StartRefused, match="already runs on the data folder"):
        DataFolder(tmp_path).lock()
    first.unlock()
    second = DataFolder(tmp_path)
    second.lock()
    assert (tmp_path / "supervisor.lock").read_text() == f"{os.getpid()}\n"
    second.unlock()


def test_a_free_port_is_none_that_an_outgoing_connection_could_take_first() -> None:
    lowest, highest = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    assert not {free_port() for _ in range(50)} & set(range(lowest, highest + 1))


def test_a_free_port_has_no_holder() -> None:
    port = free_port()
    require_free(port, "web site", "BALLAST_PORT")
    assert holder_of(port) == ""


@pytest.mark.parametrize("python", ["/bin/false", "/nonexistent/python"])
def test_make_names_the_python_it_needs(python: str) -> None:
    done = subprocess.run(
        ["make", "--no-print-directory", "python", f"PYTHON={python}"], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "needs Python 3.11 or newer" in done.stderr or "is not Python 3.11 or newer" in done.stderr


def make_cluster(folder: Path) -> Path:
    """A folder that looks used: secrets, and something in place of the cluster."""
    cluster = folder / "var" / "postgres" / "data"
    cluster.mkdir(parents=True)
    (cluster / "somebody's.file").touch()
    secrets = {"BALLAST_SECRET_KEY": "a", "BALLAST_MASTER_KEY": "b", "postgres_password": "c", "valkey_password": "d"}
    DataFolder(folder / "var").write_json("secrets.json", secrets)
    return cluster


@pytest.mark.parametrize("variable", ["DATABASE_URL", "REDIS_URL"])
def test_a_server_that_does_not_answer_is_named_without_its_password(variable: str, up: Up) -> None:
    port = free_port()
    scheme = "postgres" if variable == "DATABASE_URL" else "redis"
    sentence = up(**{variable: f"{scheme}://desk:secret-word@127.0.0.1:{port}/0"})
    assert variable in sentence and f"127.0.0.1:{port}/0" in sentence and "secret-word" not in sentence


def test_a_database_that_does_not_exist_is_named(up: Up) -> None:
    url = os.environ["DATABASE_URL"].rpartition("/")[0] + "/nowhere"
    assert 'database "nowhere" does not exist' in up(DATABASE_URL=url)
