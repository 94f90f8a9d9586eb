"""A supervisor in a process of its own, with shell commands as children: ``supervised.py FOLDER NAME=COMMAND...``.

What the tests of signals and sudden death need: they cannot do that to the process they run in.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from platform_site.supervisor.child import ChildSpec
from platform_site.supervisor.console import Console
from platform_site.supervisor.leftovers import MARK, mark_of
from platform_site.supervisor.refusals import StopRequested
from platform_site.supervisor.supervision import RestartPolicy, Supervisor


def shell_child(folder: Path, name: str, command: str) -> ChildSpec:
    environment = {**os.environ, MARK: mark_of(folder)}
    return ChildSpec(name, ("/bin/sh", "-c", command), environment, folder, folder / "logs" / f"{name}.log")


def main(folder: Path, commands: list[str]) -> None:
    console = Console(sys.stdout)
    supervisor = Supervisor(console, folder / "supervisor.json", RestartPolicy(first_pause=0.05, longest_pause=0.2))
    supervisor.listen_to_signals()
    try:
        for name, _, command in (entry.partition("=") for entry in commands):
            supervisor.start(shell_child(folder, name, command))
        console.event("ballast", "everything was started")
        supervisor.watch()
    except StopRequested:
        console.event("ballast", "stopping")
    finally:
        supervisor.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
