"""``manage.py up``, the whole of it: one life of a deployment with crashes in it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from platform_site.supervisor.health import ask_health
from platform_site.supervisor.leftovers import find_leftovers, mark_of, stop_leftovers
from platform_site.supervisor.ports import free_port

REPOSITORY = Path(__file__).resolve().parents[2]
# Alone on two cores it takes under 15 seconds; here the other worker's tests run beside it, and more on a busy machine.
START_SECONDS = 170.0
STOP_SECONDS = 10.0
OWN_PROCESSES = {"postgres", "valkey", "simulator", "paper", "web", "engine", "depth", "worker", "research", "beat"}
INHERITED = {"DATABASE_URL", "REDIS_URL", "BALLAST_SECRET_KEY", "BALLAST_MASTER_KEY", "BALLAST_REDIS_PREFIX"}


@dataclass
class Deployment:
    """A data folder with its ports, and the ``manage.py up`` that runs on it."""

    folder: Path
    web_port: int
    postgres_port: int
    environment: dict[str, str]
    process: subprocess.Popen[str] | None = None

    def start(self, seconds: float) -> str:
        """Starts it and returns what it said up to the end of the banner."""
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "up"],
            cwd=REPOSITORY,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        said, deadline = [], time.monotonic() + seconds
        for line in self.process.stdout:
            said.append(line)
            assert time.monotonic() < deadline, "".join(said)
            if "Ctrl-C stops everything" in line:
                return "".join(said)
        pytest.fail("It ended before it was up:\n" + "".join(said))

    def record(self) -> dict[str, dict[str, Any]]:
        content = json.loads((self.folder / "supervisor.json").read_text())
        return {entry["name"]: entry for entry in content["processes"]}

    def users(self) -> list[str]:
        password = json.loads((self.folder / "secrets.json").read_text())["postgres_password"]
        with psycopg.connect(
            host="127.0.0.1", port=self.postgres_port, user="ballast", password=password, dbname="ballast"
        ) as connection:
            return [name for (name,) in connection.execute("SELECT username FROM auth_user ORDER BY username")]

    def command(self, *arguments: str) -> str:
        """What a management command says that is typed beside the running deployment."""
        command = [sys.executable, "manage.py", *arguments]
        return subprocess.run(
            command, cwd=REPOSITORY, env=self.environment, capture_output=True, text=True, check=True
        ).stdout

    def has_recovered(self, name: str) -> bool:
        return self.record()[name]["restarts"] == 1 and ask_health(self.web_port).is_ok

    def leftovers(self) -> list[int]:
        return find_leftovers(mark_of(self.folder))


@pytest.fixture
def deployment() -> Iterator[Deployment]:
    folder = Path(tempfile.mkdtemp(prefix="ballast-up-"))
    folder.chmod(0o711)
    web_port, postgres_port = free_port(), free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if name not in INHERITED},
        "BALLAST_DATA_DIR": str(folder),
        "BALLAST_PORT": str(web_port),
        "BALLAST_POSTGRES_PORT": str(postgres_port),
        "BALLAST_VALKEY_PORT": str(free_port()),
        "SIMULATOR_URL": f"http://127.0.0.1:{free_port()}",
        "PAPER_URL": f"http://127.0.0.1:{free_port()}",
    }
    it = Deployment(folder, web_port, postgres_port, environment)
    yield it
    if it.process is not None:
        it.process.kill()
        it.process.wait()
        if it.process.stdout is not None:
            it.process.stdout.close()
    stop_leftovers(mark_of(folder))
    shutil.rmtree(folder, ignore_errors=True)


def eventually(condition: Any, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


@pytest.mark.first
@pytest.mark.slow
@pytest.mark.timeout(420)
def test_a_deployment_starts_survives_crashes_keeps_its_data_and_stops_cleanly(deployment: Deployment) -> None:
    said = deployment.start(START_SECONDS)
    assert f"Ballast runs:  http://127.0.0.1:{deployment.web_port}/" in said
    logins = json.loads((deployment.folder / "demo_logins.json").read_text())
    assert logins
    assert all(login["username"] in said and login["password"] in said for login in logins)
    assert ask_health(deployment.web_port).is_ok
    record = deployment.record()
    assert record.keys() == OWN_PROCESSES
    assert {entry["state"] for entry in record.values()} == {"running"}
    users = deployment.users()
    assert "unbroken" in deployment.command("audit_verify")

    os.kill(record["web"]["pid"], signal.SIGKILL)
    assert eventually(lambda: deployment.has_recovered("web"), 60)
    os.kill(record["engine"]["pid"], signal.SIGKILL)
    assert eventually(lambda: deployment.has_recovered("engine"), 60)

    assert deployment.process is not None
    deployment.process.kill()
    deployment.process.wait()
    assert eventually(lambda: deployment.leftovers() == [], STOP_SECONDS)

    said = deployment.start(START_SECONDS)
    assert "Ballast runs:" in said
    assert deployment.users() == users
    deployment.process.send_signal(signal.SIGINT)
    assert deployment.process.wait(STOP_SECONDS) == 0
    assert deployment.leftovers() == []
