"""What a benchmark found, line by line: printed as it comes, and written as one page at the end."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from pathlib import Path

RESULTS = Path(__file__).resolve().parent.parent / "results" / "depth.md"


class Report:
    """Sections by title. Those that are not measured this time stay as they were on the page."""

    def __init__(self, page: Path = RESULTS) -> None:
        self._page = page
        self._sections = _sections_of(page.read_text()) if page.exists() else {}
        self._section: list[str] = []

    def section(self, title: str) -> None:
        load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
        moment = datetime.now(UTC)
        print(f"\n{title}", flush=True)
        self._section = self._sections[title] = [f"{moment:%Y-%m-%d %H:%M} UTC, load average {load}.", ""]

    def say(self, line: str) -> None:
        """The page is written each time: a run that is broken off has told what it found."""
        print(line, flush=True)
        self._section.append(f"- {line}")
        self._write()

    def _write(self) -> None:
        head = [
            "# Depth analytics, measured",
            "",
            f"{os.cpu_count()} cores, Python {platform.python_version()}; everything, clients too, on one machine that",
            "others may use as well: the load average before each section tells how much. Made by `make bench-depth`.",
        ]
        body = [line for title, lines in self._sections.items() for line in ["", f"## {title}", "", *lines]]
        self._page.parent.mkdir(exist_ok=True)
        self._page.write_text("\n".join([*head, *body]) + "\n")


def _sections_of(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for part in text.split("\n## ")[1:]:
        title, _, body = part.partition("\n")
        found[title] = body.strip().split("\n")
    return found
