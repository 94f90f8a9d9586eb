"""A check in a process of its own: what it runs may loop, crash or eat memory, and the one that asked goes on. It is
given no keys and no database, only the folder.

``python -m strategies.check_process QUESTION ANSWER``: two JSON files.
"""

from __future__ import annotations

import faulthandler
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from strategies.call_watch import CallWatch
from strategies.candle_file import CandleFileError, read_candles
from strategies.checker import Finding, Kind, Report, check
from strategies.faults import Place
from strategies.files import FileRefused, load_file
from strategies.library import STRATEGIES as BUILT_IN

ROOT = Path(__file__).resolve().parent.parent
# What a check may know of its surroundings.
ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "NUMBA_CACHE_DIR", "VIRTUAL_ENV")
LARGEST_MEMORY = 8 << 30
MOST_BARS = 20_000


@dataclass(frozen=True, slots=True)
class CheckRequest:
    """``file``: the strategy's own, empty for a built-in one. ``candles``: a CSV file of bars, empty for a market that
    is made up from ``seed``. A call may take ``call_seconds``, all of it ``seconds``."""

    key: str
    file: str = ""
    symbol: str = "BTCUSDT"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    candles: str = ""
    seed: int = 7
    call_seconds: float = 2.0
    seconds: float = 180.0


def check_apart(request: CheckRequest) -> Report:
    """The report of :func:`strategies.checker.check`. A process that dies or does not come back is a finding."""
    with tempfile.TemporaryDirectory(prefix="strategy-check-") as folder:
        question, answer, noise = (Path(folder) / name for name in ("question.json", "answer.json", "noise.txt"))
        question.write_text(json.dumps(asdict(request)))
        command = [sys.executable, "-m", "strategies.check_process", str(question), str(answer)]
        environment = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
        with noise.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 - our own module
                command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
            try:
                code = process.wait(request.seconds)
            except subprocess.TimeoutExpired:
                code = None
                # Its threads say where they are, even in machine code that never returns.
                process.send_signal(signal.SIGUSR1)
                _settle(process)
            finally:
                process.kill()
                process.wait()
        said = noise.read_text(errors="replace")
        if code == 0 and answer.exists():
            return _report(json.loads(answer.read_text()))
    return Report(request.key, request.symbol, dict(request.parameters), findings=(_died(request, code, said),))


def _settle(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(1.0)
    except subprocess.TimeoutExpired:
        return


def _died(request: CheckRequest, code: int | None, said: str) -> Finding:
    where = _last_place(request.file, said)
    if code is None:
        return Finding(Kind.ENDLESS, f"is not done after {request.seconds:g} s, and does not come back", where)
    last = said.strip().split("\n")[-1] if said.strip() else "it said nothing"
    what = f"was ended by signal {-code}" if code < 0 else f"ended with {code}"
    return Finding(Kind.FAULT, f"its process {what}: {last[:300]}", where)


def _last_place(file: str, said: str) -> str:
    """The innermost line of the file in what a dying process left."""
    lines = re.findall(r'File "([^"]+)", line (\d+) in (\S+)', said)
    own = [Place(path, int(line), function) for path, line, function in lines if path == file]
    return str(own[0]) if own else ""


def _report(found: Mapping[str, Any]) -> Report:
    return Report(**{**found, "findings": tuple(Finding(**each) for each in found["findings"])})


def _answer(request: CheckRequest) -> Report:
    if request.file:
        try:
            kind = load_file(Path(request.file)).kind
        except FileRefused as refused:
            where = f"{refused.problem.file}:{refused.problem.line}"
            return Report(request.key, request.symbol, findings=(Finding(Kind.CONTRACT, refused.problem.words, where),))
    else:
        kind = BUILT_IN[request.key]
    events = read_candles(Path(request.candles), request.symbol, MOST_BARS) if request.candles else None
    with CallWatch(request.call_seconds) as watch:
        return check(
            kind,
            symbol=request.symbol,
            parameters=request.parameters,
            events=events,
            seed=request.seed,
            call=watch.call,
        )


def main(question: str, answer: str) -> int:
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    resource.setrlimit(resource.RLIMIT_AS, (LARGEST_MEMORY, LARGEST_MEMORY))
    try:
        report = _answer(CheckRequest(**json.loads(Path(question).read_text())))
    except CandleFileError as error:
        print(error, file=sys.stderr)  # noqa: T201 - what the one that asked reads
        return 2
    written = Path(answer).with_suffix(".part")
    written.write_text(json.dumps(asdict(report)))
    written.rename(answer)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
