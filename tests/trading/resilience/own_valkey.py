from __future__ import annotations

from pathlib import Path

from platform_site.supervisor import valkey
from platform_site.supervisor.child import spawn
from platform_site.supervisor.ports import free_port
from platform_site.supervisor.valkey import EmbeddedValkey
from tests.services import wait_until_ready


class OwnValkey:
    """A Valkey of one test's own, which it may kill and start again with what it held."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.start_again()

    def start_again(self) -> None:
        server = EmbeddedValkey(valkey.find_program(), self.folder / "valkey", self.port, "password")
        server.prepare()
        log = self.folder / "valkey.log"
        self.process = spawn(server.child(log))
        wait_until_ready(self.process, server.is_ready, log)
        self.url = server.url(0)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
