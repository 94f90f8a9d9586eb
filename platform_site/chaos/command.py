"""Deals the runs out to lanes, gathers what they tell, and cleans up whatever happens."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from marketdata.engine.kernel_cache import ENGINE
from platform_site.chaos.deployment import MARK, REPOSITORY, LanePlan
from platform_site.chaos.summary import summarise
from platform_site.supervisor.child import Child, ChildSpec, last_lines
from strategies.kernel_cache import STRATEGIES

RESULTS = "results.jsonl"
LOOK_SECONDS = 0.2
STOP_SECONDS = 25.0
# What one run may take at the very most; a lane that takes longer for all of its runs is ended.
START_SECONDS, RUN_SECONDS = 400.0, 400.0


@dataclass(frozen=True, slots=True)
class Options:
    runs: int
    seed: int
    lanes: int
    lease_seconds: int
    first: int = 0
    keep: Path | None = None


class RunningLane:
    """A process ``manage.py chaos --lane FILE`` and what it has told so far."""

    def __init__(self, plan: LanePlan) -> None:
        folder = Path(plan.folder)
        self.results = folder / RESULTS
        self.log = folder / "logs" / "lane.log"
        command = (sys.executable, "manage.py", "chaos", "--lane", str(plan.write()))
        # Told to end politely even when this process is killed: it ends its own processes then.
        spec = ChildSpec(
            f"lane {plan.lane}", command, plan.environment(), REPOSITORY, self.log, orphan_signal=signal.SIGTERM
        )
        self.plan, self.child = plan, Child(spec)
        self._read = 0
        self.child.start()

    def news(self) -> list[dict[str, Any]]:
        """What it has told since the last time; whole lines only."""
        if not self.results.exists():
            return []
        with self.results.open("rb") as file:
            file.seek(self._read)
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        self._read += len(whole)
        return [json.loads(line) for line in whole.splitlines()]

    @property
    def has_ended(self) -> bool:
        return self.child.has_exited()

    def trouble(self) -> str:
        """How it ended, where that was not well."""
        code = self.child.process.poll() if self.child.process is not None else None
        return "" if code == 0 else "\n".join([f"{self.child.spec.name} ended with {code}:", *last_lines(self.log)])

    def ask_to_stop(self) -> None:
        self.child.signal_process(signal.SIGTERM)

    def stop(self) -> None:
        process = self.child.process
        if process is None:
            return
        deadline = time.monotonic() + STOP_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
        self.child.kill_group()
        process.wait()


def run_chaos(options: Options, version: str, say: Callable[[str], None]) -> dict[str, Any]:
    """All runs; returns the summary. ``say`` gets a line a run. Ctrl-C ends everything and raises KeyboardInterrupt."""
    began = time.monotonic()
    told: list[dict[str, Any]] = []
    with workplace(options) as folder, running_lanes(options, folder) as lanes:
        deadline = began + START_SECONDS + RUN_SECONDS * -(-options.runs // options.lanes)
        while True:
            ended = [lane.has_ended for lane in lanes]
            for lane in lanes:
                for news in lane.news():
                    told.append(news)
                    if news["kind"] == "run":
                        say(line_of(news, len(told), options.runs))
            if all(ended) or time.monotonic() > deadline:
                break
            time.sleep(LOOK_SECONDS)
        for lane in lanes:
            text = lane.trouble() if lane.has_ended else f"{lane.child.spec.name} took too long and was ended"
            if text:
                told.append({"kind": "trouble", "text": text})
        about = {"version": version, "lease_seconds": options.lease_seconds, "shortened": SHORTENED}
        summary = summarise(
            told,
            seed=options.seed,
            asked=options.runs,
            lanes=options.lanes,
            seconds=time.monotonic() - began,
            about=about,
        )
        if not summary["passed"] and options.keep is None:
            kept = Path(tempfile.mkdtemp(prefix="ballast-chaos-logs-"))
            for lane in lanes:
                shutil.copytree(Path(lane.plan.folder) / "logs", kept / f"lane-{lane.plan.lane}")
            summary["logs"] = str(kept)
    return summary


SHORTENED = (
    "leases are renewed every second, not every two; accounts are reconciled by a worker every 10 s, without beat"
)


@contextmanager
def workplace(options: Options) -> Iterator[Path]:
    """A folder of this command's own, thrown away unless it shall be kept."""
    if options.keep is not None:
        options.keep.mkdir(parents=True)
        folder = options.keep.absolute()
    else:
        folder = Path(tempfile.mkdtemp(prefix="ballast-chaos-"))
    # PostgreSQL of root runs as nobody, who must pass through.
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        if options.keep is None:
            shutil.rmtree(folder, ignore_errors=True)


def compile_kernels() -> None:
    """Once, before every lane's engines would at the same time. Raises CalledProcessError."""
    if not ENGINE.is_filled():
        subprocess.run([sys.executable, "-m", "marketdata.engine"], cwd=REPOSITORY, check=True)
    if not STRATEGIES.is_filled():
        subprocess.run([sys.executable, "-m", "strategies.kernels"], cwd=REPOSITORY, check=True)


@contextmanager
def running_lanes(options: Options, folder: Path) -> Iterator[list[RunningLane]]:
    compile_kernels()
    numbers = range(options.first, options.first + options.runs)
    lanes: list[RunningLane] = []
    try:
        for lane in range(min(options.lanes, options.runs)):
            place = folder / f"lane-{lane}"
            place.mkdir(mode=0o711)
            (place / MARK).touch()
            plan = LanePlan.make(
                lane, options.seed, tuple(numbers[lane :: options.lanes]), place, options.lease_seconds
            )
            lanes.append(RunningLane(plan))
        yield lanes
    finally:
        for each in lanes:
            each.ask_to_stop()
        for each in lanes:
            each.stop()


def line_of(run: dict[str, Any], done: int, of: int) -> str:
    blow = run["blow"]
    what = f"{blow['target']} {blow['action']}" + (f" at {blow['label']}:{blow['passage']}" if blow["label"] else "")
    missed = "" if run["struck"] or blow["target"] == "nothing" else " (not reached)"
    waited = run["seconds_to_consistent"]
    ending = f"consistent after {waited:.1f} s" if waited is not None else "NOT CONSISTENT"
    bad = f", {len(run['violations'])} VIOLATIONS" if run["violations"] else ""
    return f"[{done}/{of}] run {run['run']}: {what}{missed}, {ending}, {run['seconds']:.1f} s in all{bad}"
