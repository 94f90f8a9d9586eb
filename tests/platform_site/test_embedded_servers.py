"""PostgreSQL and Valkey as supervised children: they keep their data through stops and crashes."""

from __future__ import annotations

import io
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from platform_site.supervisor import embedded
from platform_site.supervisor.child import Child
from platform_site.supervisor.console import Console
from platform_site.supervisor.data_folder import DataFolder
from platform_site.supervisor.keys import load_keys
from platform_site.supervisor.leftovers import find_leftovers, mark_of
from platform_site.supervisor.ports import free_port
from platform_site.supervisor.postgres import EmbeddedPostgres, choose_home, find_programs, reachable_place
from platform_site.supervisor.privileges import can, postgres_identity
from platform_site.supervisor.refusals import StartRefused
from platform_site.supervisor.supervision import RestartPolicy, Supervisor

SECONDS = 20.0
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root's PostgreSQL runs as another user")


@pytest.fixture
def folder() -> Iterator[DataFolder]:
    """A data folder that root's PostgreSQL can reach; pytest's own temporary folders are closed to others."""
    path = Path(tempfile.mkdtemp(prefix="ballast-test-"))
    path.chmod(0o711)
    yield DataFolder(path)
    shutil.rmtree(path)


@pytest.fixture
def supervisor(folder: DataFolder) -> Iterator[Supervisor]:
    policy = RestartPolicy(first_pause=0.05)
    it = Supervisor(Console(io.StringIO()), folder.path / "supervisor.json", policy)
    yield it
    it.stop()


StartPostgres = Callable[[], tuple[EmbeddedPostgres, Child]]


@pytest.fixture
def start_postgres(folder: DataFolder, supervisor: Supervisor) -> StartPostgres:
    def start() -> tuple[EmbeddedPostgres, Child]:
        keys = load_keys(folder, has_data=embedded.has_database(folder))
        server = embedded.make_postgres(folder, free_port(), keys.postgres_password)
        spec = embedded.marked(server.child(folder.logs / "postgres.log"), mark_of(folder.path))
        child = supervisor.start(spec)
        supervisor.require_ready(child, server.is_ready, SECONDS)
        server.create_database("ballast")
        return server, child

    return start


def rows(server: EmbeddedPostgres) -> list[int]:
    with psycopg.connect(server.url("ballast")) as connection:
        return [row[0] for row in connection.execute("SELECT number FROM kept ORDER BY number")]


def write(server: EmbeddedPostgres, number: int) -> None:
    with psycopg.connect(server.url("ballast")) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (number int)")
        connection.execute("INSERT INTO kept VALUES (%s)", [number])


def test_a_second_start_keeps_the_database(start_postgres: StartPostgres, supervisor: Supervisor) -> None:
    server, _ = start_postgres()
    write(server, 7)
    supervisor.stop()
    again, _ = start_postgres()
    assert rows(again) == [7]


def test_a_killed_postgresql_comes_back_with_every_committed_row(
    start_postgres: StartPostgres, supervisor: Supervisor
) -> None:
    server, child = start_postgres()
    write(server, 7)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    assert supervisor.wait_until(lambda: child.restarts > 0 and server.is_ready(), SECONDS)
    assert rows(server) == [7]


def test_a_running_postgresql_is_found_by_its_mark_and_ends_with_its_supervisor(
    start_postgres: StartPostgres, supervisor: Supervisor, folder: DataFolder
) -> None:
    _, child = start_postgres()
    assert child.pid in find_leftovers(mark_of(folder.path))
    supervisor.stop()
    assert find_leftovers(mark_of(folder.path)) == []
    assert child.last_exit == "exit code 0"


def test_a_second_postgresql_on_the_same_cluster_is_refused(start_postgres: StartPostgres, folder: DataFolder) -> None:
    _, child = start_postgres()
    with pytest.raises(StartRefused, match=rf"Another PostgreSQL \(process {child.pid}\) already runs on"):
        embedded.make_postgres(folder, free_port(), "secret")


def test_a_lock_whose_process_id_now_belongs_to_another_program_does_not_stop_a_start(
    start_postgres: StartPostgres, supervisor: Supervisor
) -> None:
    server, _ = start_postgres()
    write(server, 7)
    supervisor.stop()
    (server.cluster / "postmaster.pid").write_text(f"{os.getpid()}\n")
    again, _ = start_postgres()
    assert rows(again) == [7]


def test_a_wrong_password_is_refused_by_postgresql(start_postgres: StartPostgres) -> None:
    server, _ = start_postgres()
    stranger = EmbeddedPostgres(server.programs, server.home, server.port, "a guess", server.identity)
    with pytest.raises(StartRefused, match=r"does not accept the password kept in secrets\.json"):
        stranger.is_ready()


def test_valkey_keeps_what_it_was_given_and_asks_for_a_password(folder: DataFolder, supervisor: Supervisor) -> None:
    server = embedded.make_valkey(folder, free_port(), "a-password")
    child = supervisor.start(server.child(folder.logs / "valkey.log"))
    supervisor.require_ready(child, server.is_ready, SECONDS)
    with redis.Redis.from_url(server.url()) as client:
        client.set("kept", "yes")
    supervisor.stop()
    child = supervisor.start(server.child(folder.logs / "valkey.log"))
    supervisor.require_ready(child, server.is_ready, SECONDS)
    with redis.Redis.from_url(server.url()) as client:
        assert client.get("kept") == b"yes"
    retry = Retry(NoBackoff(), 0)
    with redis.Redis(port=server.port, retry=retry) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()


def test_the_secrets_are_made_once_and_for_their_owner_alone(folder: DataFolder) -> None:
    made = load_keys(folder, has_data=False)
    assert load_keys(folder, has_data=True) == made
    assert (folder.path / "secrets.json").stat().st_mode & 0o777 == 0o600


def test_lost_secrets_refuse_a_start_on_an_existing_database(folder: DataFolder) -> None:
    with pytest.raises(StartRefused, match=r"secrets\.json is missing although there is a database"):
        load_keys(folder, has_data=True)


def test_damaged_secrets_are_not_replaced(folder: DataFolder) -> None:
    (folder.path / "secrets.json").write_text("{")
    with pytest.raises(StartRefused, match=r"secrets\.json cannot be read"):
        load_keys(folder, has_data=False)
    assert (folder.path / "secrets.json").read_text() == "{"


def test_a_vanished_database_is_reported_and_not_made_anew(folder: DataFolder) -> None:
    folder.write_json(embedded.PLACE, {"home": "/nonexistent/ballast"})
    with pytest.raises(StartRefused, match="was in /nonexistent/ballast and is not there any more"):
        embedded.find_home(folder, postgres_identity())


@only_root
def test_a_data_folder_closed_to_nobody_has_its_cluster_where_nobody_can_go(folder: DataFolder) -> None:
    identity = postgres_identity()
    closed = folder.path / "closed"
    closed.mkdir(mode=0o700)
    places = (folder.path / "open",)
    home = choose_home(closed / "var", identity, places)
    assert home.parent == places[0]
    assert can(identity, "-x", home.parent)
    assert choose_home(folder.path, identity, places) == folder.path / "postgres"


@only_root
def test_a_cluster_that_nobody_cannot_enter_any_more_is_refused(folder: DataFolder) -> None:
    closed = DataFolder(folder.path / "closed")
    embedded.make_postgres(closed, free_port(), "secret")
    closed.path.chmod(0o700)
    with pytest.raises(StartRefused, match=r"nobody under root, who cannot enter .*closed any more"):
        embedded.make_postgres(closed, free_port(), "secret")


@only_root
def test_the_server_is_copied_when_nobody_cannot_reach_it(folder: DataFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform_site.supervisor.postgres.can", lambda *_: False)
    programs = find_programs(postgres_identity(), (folder.path / "open",))
    monkeypatch.undo()
    assert programs.is_relative_to(folder.path / "open")
    home = folder.path / "open" / "cluster"
    assert EmbeddedPostgres(programs, home, free_port(), "secret", postgres_identity(), durable=False).prepare()
    assert (home / "data" / "PG_VERSION").read_text() == "18\n"


@only_root
def test_a_place_that_somebody_else_made_is_not_trusted(folder: DataFolder) -> None:
    foreign = folder.path / "foreign"
    foreign.mkdir()
    os.chown(foreign, 65534, 65534)
    with pytest.raises(StartRefused, match=r"needs .*foreign to keep its files in"):
        reachable_place((foreign,))
