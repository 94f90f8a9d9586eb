"""One start as a command: reads the configuration, runs until Ctrl-C, says in a sentence why it cannot start."""

from __future__ import annotations

import sys
from pathlib import Path

from platform_site.supervisor.configuration import read_configuration
from platform_site.supervisor.console import Console
from platform_site.supervisor.launch import Launch
from platform_site.supervisor.refusals import StartRefused

REPOSITORY = Path(__file__).resolve().parents[2]
REFUSED = 2


def main() -> int:
    """The exit status."""
    try:
        Launch(read_configuration(REPOSITORY), Console(sys.stdout)).run()
    except StartRefused as error:
        sys.stderr.write(f"Ballast cannot start: {error}\n")
        return REFUSED
    return 0
