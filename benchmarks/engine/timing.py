"""CPU time of things that are done in turns, so that whatever else the machine does hits all of them alike."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.engine.peers import Run


@dataclass(slots=True)
class Task:
    """``messages`` of one run. ``fresh``: makes what is run, untimed, each time; otherwise ``run`` is run again."""

    name: str
    messages: int
    run: Run | None = None
    fresh: Callable[[], Run] | None = None
    clock: Callable[[], float] = time.process_time
    results: list[Any] = field(default_factory=list)
    microseconds: list[float] = field(default_factory=list)

    def once(self, *, timed: bool) -> None:
        run = self.fresh() if self.fresh is not None else self.run
        assert run is not None
        gc.collect()
        gc.disable()
        began = self.clock()
        result = run()
        spent = self.clock() - began
        gc.enable()
        if timed:
            self.microseconds.append(1e6 * spent / self.messages)
            self.results.append(result)

    @property
    def median(self) -> float:
        return statistics.median(self.microseconds)


def measure(tasks: list[Task], repetitions: int) -> dict[str, Task]:
    """Run each once to warm up, then all in turns."""
    for task in tasks:
        task.once(timed=False)
    for _ in range(repetitions):
        for task in tasks:
            task.once(timed=True)
    return {task.name: task for task in tasks}


@dataclass(slots=True)
class Row:
    """One line of the table; times are microseconds a message unless ``unit`` says otherwise. ``ratio``: how many times
    ours the peer takes, or what ``unit`` says."""

    section: str
    what: str
    ours: float | None
    peer: str = ""
    theirs: float | None = None
    ratio: float | None = None
    asked: str = ""
    unit: str = "us"
    spread: str = ""

    def cells(self) -> list[str]:
        def number(value: float | None) -> str:
            return "" if value is None else f"{value:.3f}" if value < 10 else f"{value:,.1f}"

        ratio = "" if self.ratio is None else f"{self.ratio:.2f}x" if self.ratio < 10 else f"{self.ratio:.1f}x"
        return [self.what, number(self.ours), self.unit, self.peer, number(self.theirs), ratio, self.asked, self.spread]


HEADINGS = ["what", "ours", "unit", "against", "theirs", "ratio", "asked", "ours min..max"]


def compared(section: str, what: str, ours: Task, theirs: Task, asked: str = "", *, inverse: bool = False) -> Row:
    """``inverse``: the ratio is our time in theirs."""
    # Of each turn its own ratio: what slows a turn slows both.
    turns = zip(ours.microseconds, theirs.microseconds, strict=True)
    ratio = statistics.median([own / other if inverse else other / own for own, other in turns])
    row = Row(section, what, ours.median, theirs.name, theirs.median, ratio, asked)
    row.spread = f"{min(ours.microseconds):.3f}..{max(ours.microseconds):.3f}"
    return row


def alone(section: str, what: str, ours: Task, asked: str = "") -> Row:
    spread = f"{min(ours.microseconds):.3f}..{max(ours.microseconds):.3f}"
    return Row(section, what, ours.median, asked=asked, spread=spread)


def markdown(rows: list[Row]) -> str:
    lines: list[str] = []
    for section in dict.fromkeys(row.section for row in rows):
        lines += ["", f"## {section}", "", f"| {' | '.join(HEADINGS)} |", f"|{'---|' * len(HEADINGS)}"]
        lines += [f"| {' | '.join(row.cells())} |" for row in rows if row.section == section]
    return "\n".join(lines) + "\n"


def as_json(rows: list[Row]) -> list[dict[str, Any]]:
    return [asdict(row) for row in rows]
