"""The order-book engine, measured beside its peers: one run, one core, in turns; then a whole process on real sockets.

``make bench`` sets up the peers (requirements/bench.txt) and runs this; ``python benchmarks/bench_engine.py`` runs in
any environment and names the peers that it lacks. The table goes to benchmarks/results/engine.md, every number to
engine.json beside it. Ratios mean something, absolute times are this machine's.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numba
import numpy as np

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from benchmarks.engine import numpy_features, ours, peers, recordings, sockets, streams  # noqa: E402
from benchmarks.engine.apply_alone import apply_alone, levels_of  # noqa: E402
from benchmarks.engine.timing import Row, Task, alone, as_json, compared, markdown, measure  # noqa: E402
from marketdata.engine.book import SymbolBook  # noqa: E402
from marketdata.engine.process import Work  # noqa: E402

RESULTS = Path(__file__).resolve().parent / "results"
SEED = 7
# Long enough that how a machine wakes a second core does not matter.
THREADS_SECONDS = 0.5
# For ratios near one, which few turns would take from what else the machine does.
TURNS = 31
FIRST_BOOK = """
import time, sys
from decimal import Decimal
from marketdata.engine.book import SymbolBook
book = SymbolBook("BTCUSDT", Decimal("0.10"), Decimal("0.001"), 200)
assert book.on_frame(sys.stdin.buffer.read(), 1).name == "SNAPSHOT"
"""


def core() -> int:
    return max(os.sched_getaffinity(0))


class Benchmark:
    def __init__(self, messages: int, repetitions: int) -> None:
        self._repetitions = repetitions
        whole = streams.stream("bybit", streams.BTCUSDT, max(messages, 60_001), SEED)
        self._long, self._stream = whole, streams.first(whole, messages)
        self._frames = self._stream.frames()
        self.rows: list[Row] = []
        self.absent: list[str] = []

    def peer_tasks(self, known: tuple[peers.Peer, ...]) -> list[Task]:
        """Those that are installed, each on its share of the frames; the others are noted as absent."""
        tasks = []
        for peer in known:
            if not peer.version:
                self.absent.append(f"{peer.name} ({peer.distribution} is not installed)")
                continue
            frames = self._frames[: int(len(self._frames) * peer.share)]
            tasks.append(Task(f"{peer.name} {peer.version}", len(frames), peer.prepare(frames)))
        return tasks

    def _expect(self, task: Task, expected: peers.Best) -> None:
        for result in task.results:
            if not all(math.isclose(*pair, rel_tol=1e-12) for pair in zip(result, expected, strict=True)):
                raise AssertionError(f"{task.name} ends on {result}; expected {expected}")

    def books(self) -> None:
        """Bytes to book: in batches and message by message, against every peer; and against parsing alone."""
        stream, frames, number = self._stream, self._frames, len(self._frames)
        batched = Task("batched", number, ours.batched(stream, Work.BOOK))
        single = Task("one call a message", number, ours.one_by_one(stream, frames, Work.BOOK))
        live = Task("gathered in Python, 64 a call", number, ours.gathered(stream, frames, Work.BOOK))
        books, parsers = self.peer_tasks(peers.BOOKS), self.peer_tasks(peers.PARSERS)
        measure([batched, single, live, *books, *parsers], self._repetitions)
        for task in (batched, single, live, *books):
            prefix = streams.first(stream, task.messages)
            self._expect(task, ours.batched(prefix, Work.BOOK)())
        asked = dict(zip((peer.name for peer in peers.BOOKS), ("35x", "", "", "30x", "80x", "90x", "80x"), strict=True))
        section = "Bytes to book, Bybit orderbook.200"
        for task in books:
            wanted = next(value for name, value in asked.items() if task.name.startswith(name))
            self.rows.append(compared(section, "batched, frames as they lie in memory", batched, task, wanted))
        fastest = min(books, key=lambda task: task.median, default=None)
        if fastest is not None:
            self.rows.append(compared(section, "one Python call a message", single, fastest, "15x"))
            self.rows.append(compared(section, "gathered in Python, taken 64 a call", live, fastest))
        for task in parsers:
            wanted = "0.7x its time" if "simdjson" in task.name else ""
            row = compared("Bytes to book against parsing alone", "bytes to book", batched, task, wanted, inverse=True)
            self.rows.append(row)

    def applied(self) -> None:
        """Levels that are ready made, into a book."""
        levels, messages = levels_of(self._stream)
        book = Task("apply alone", messages, apply_alone(self._stream, levels))
        roi = peers.Peer("hftbacktest ROIVectorMarketDepth", "hftbacktest", lambda _: lambda: None)
        if not roi.version:
            self.absent.append(f"{roi.name} ({roi.distribution} is not installed)")
            return
        listing = self._stream.listing
        fresh = peers.hftbacktest_depth(levels, float(listing.tick_size), float(listing.lot_size))
        theirs = Task(f"{roi.name} {roi.version}", messages, fresh=fresh)
        measure([book, theirs], self._repetitions)
        for task in (book, theirs):
            self._expect(task, ours.batched(self._stream, Work.BOOK)())
        self.rows.append(compared("Apply alone", "ready-made levels into the book", book, theirs, "7x"))

    def features(self) -> None:
        """Book, 104 features and bands; numpy computes the same values."""
        few = self._frames[:1_500]
        check_features(self._stream, few)
        number, section = len(self._frames), "Book, bands and features"
        batched = Task("features", number, ours.batched(self._stream, Work.FEATURES))
        bands = Task("bands", number, ours.batched(self._stream, Work.BANDS))
        single = Task("single", number, ours.one_by_one(self._stream, self._frames, Work.FEATURES))
        in_numpy = Task(
            f"orjson + dict + numpy {np.__version__}",
            len(few),
            numpy_features.replay(few, float(self._stream.listing.tick_size)),
        )
        measure([batched, bands, single, in_numpy], self._repetitions)
        self.rows.append(compared(section, "book + bands + 104 features, batched", batched, in_numpy, "220x"))
        self.rows.append(compared(section, "the same, one Python call a message", single, in_numpy))
        self.rows.append(alone(section, "book + bands, batched", bands))

    def symbols(self) -> None:
        """A hundred books in turns, each with bytes of its own, against one; their snapshots are not timed, of which a
        hundred short streams have a hundred."""
        same = [streams.alike(index) for index in range(100)]
        many = [streams.stream("bybit", listing, 600, 100 + index) for index, listing in enumerate(same)]
        section = "100 symbols against 1, after their snapshots"
        tasks = []
        for work in (Work.BOOK, Work.FEATURES):
            for name, several in (("100 symbols", many), ("1 symbol", [self._long])):
                batches = ours.Batches(several, work)
                batches.run()
                batches.check()
                tasks.append(Task(name, len(batches) - len(several), fresh=batches.after_snapshots))
        measure(tasks, TURNS)
        for place, what in ((0, "book"), (2, "book + bands + features")):
            hundred, one = tasks[place : place + 2]
            row = compared(section, f"{what}, 100 symbols", hundred, one, "within 1.2x", inverse=True)
            row.spread += f"; ratio of the fastest {min(hundred.microseconds) / min(one.microseconds):.2f}x"
            self.rows.append(row)

    def threads(self) -> None:
        """The kernels run without the GIL: two threads, two books, two cores. Beside them two processes that share
        nothing: what a second core is worth on this machine."""
        cores = sorted(os.sched_getaffinity(0))
        every = sorted(ALL_CORES)
        if len(every) < 2:
            self.absent.append("two threads against one (this machine has one core)")
            return
        os.sched_setaffinity(0, every)
        section = "Two threads against one, wall time"

        def pin(index: int) -> None:
            os.sched_setaffinity(0, {every[-1 - index]})

        works = {"book": Work.BOOK, "book + bands + features": Work.FEATURES}
        runs = [[ours.batched(self._long, work) for work in works.values()] for _ in range(2)]
        copies = ours.Copies(runs, pin)
        for place, what in enumerate(works):
            own = [each[place] for each in runs]
            times = ours.replays_in(THREADS_SECONDS, own[0])
            one, threads, processes = np.array(
                [
                    (
                        ours.in_threads(own[:1], times, pin),
                        ours.in_threads(own, times, pin),
                        copies.seconds(place, times),
                    )
                    for _ in range(TURNS)
                ]
            ).T
            message = 1e6 / (len(self._long) * times)
            for name, two, asked in (("threads", threads, "1.8x"), ("processes, which share nothing", processes, "")):
                row = Row(section, f"{what}, 2 {name}, each message of both", message * float(np.median(two)) / 2)
                row.peer, row.theirs = "1 thread", message * float(np.median(one))
                row.ratio, row.asked = float(np.median(2 * one / two)), asked
                row.spread = f"ratio of the fastest {2 * min(one) / min(two):.2f}x"
                self.rows.append(row)
        copies.stop()
        os.sched_setaffinity(0, cores)

    def start(self) -> None:
        """A process that has nothing but the compile cache, to its first book."""
        spent, worked = [], []
        for _ in range(self._repetitions + 1):
            began, before = time.perf_counter(), child_seconds()
            run_first_book(self._frames[0], os.environ)
            spent.append(time.perf_counter() - began)
            worked.append(child_seconds() - before)
        row = Row("Process start, wall time", "to the first book, warm cache", float(np.median(spent[1:])), unit="s")
        row.asked, row.spread = "< 1 s", f"{min(spent[1:]):.3f}..{max(spent[1:]):.3f}"
        self.rows.append(row)
        cpu = float(np.median(worked[1:]))
        self.rows.append(Row("Process start, wall time", "the same, CPU time", cpu, unit="s"))
        with tempfile.TemporaryDirectory() as cache:
            before = child_seconds()
            run_first_book(self._frames[0], {**os.environ, "NUMBA_CACHE_DIR": cache})
            cold = child_seconds() - before
        what = "to the first book, everything compiled, CPU time"
        self.rows.append(Row("Process start, wall time", what, cold, unit="s"))

    def wide(self) -> None:
        """Binance's diff stream: thousands of levels a side."""
        stream = streams.stream("binance", streams.BTCUSDT, 20_001, 11)
        number = len(stream)
        book = ours.book_of(stream, "binance")
        done = 2_000
        tasks = {
            work: Task(str(work), number, ours.batched(stream, work, venue="binance"))
            for work in (Work.BOOK, Work.BANDS, Work.FEATURES)
        }
        for frame in stream.frames()[1:]:
            book.on_frame(frame, 1)
        scratch = Task("from scratch", done, ours.bands_from_scratch(book, done))
        measure([*tasks.values(), scratch], self._repetitions)
        section = f"Wide book, Binance diff stream, {sum(book.level_counts()):,} levels"
        self.rows.append(alone(section, "bytes to book, batched", tasks[Work.BOOK]))
        self.rows.append(alone(section, "book + bands, batched", tasks[Work.BANDS]))
        self.rows.append(alone(section, "book + bands + 104 features, batched", tasks[Work.FEATURES]))
        moved = tasks[Work.BANDS].median - tasks[Work.BOOK].median
        row = Row(section, "six bands of both sides, kept up", moved, "counted from scratch", scratch.median)
        row.ratio, row.asked = scratch.median / moved, "< 0.5 us kept up, < 20 us from scratch"
        self.rows.append(row)

    def recorded(self) -> None:
        """The recordings, over and over."""
        section = "Recordings"
        found = recordings.bybit_streams()
        if not found:
            self.absent.append(f"recordings ({streams.DATA} has none; set MARKET_DATA_DIR)")
            return
        for name, stream in found.items():
            frames, times = stream.frames(), 20
            number = times * len(frames)
            tasks = [
                Task("ours", number, again(ours.batched(stream, Work.BOOK), times)),
                Task("features", number, again(ours.batched(stream, Work.FEATURES), times)),
                Task("msgspec (floats) + ccxt OrderBook", number, again(peers.msgspec_ccxt(frames), times)),
            ]
            measure(tasks, self._repetitions)
            self._expect(tasks[2], tasks[0].results[-1])
            what = f"{name}: {stream.bytes_a_message():.0f} bytes, {stream.changes_a_message():.1f} levels a message"
            self.rows.append(compared(section, f"{what}; book", tasks[0], tasks[2]))
            self.rows.append(alone(section, f"{name}; book + bands + features", tasks[1]))


ALL_CORES = os.sched_getaffinity(0)


def child_seconds() -> float:
    """CPU time of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def again(run: peers.Run, times: int) -> peers.Run:
    """A short stream, replayed so often that one run can be timed."""

    def replays() -> Any:
        for _ in range(times - 1):
            run()
        return run()

    return replays


def run_first_book(snapshot: bytes, environment: Any) -> None:
    subprocess.run(
        [sys.executable, "-c", FIRST_BOOK], input=snapshot, env=environment, cwd=REPOSITORY, check=True, timeout=300
    )


def check_features(stream: streams.Stream, frames: list[bytes]) -> None:
    """Every value of every message, ours against numpy's."""
    listing = stream.listing
    book = SymbolBook(listing.symbol, Decimal(listing.tick_size), Decimal(listing.lot_size), streams.DEPTH)
    other = numpy_features.NumpyFeatures(float(listing.tick_size))
    for number, frame in enumerate(frames):
        book.on_frame(frame, 1)
        np.testing.assert_allclose(book.features(), other.take(frame), 1e-9, 1e-9, err_msg=f"message {number}")


def description() -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "")
    return {
        "when": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        "cpu": cpu,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "numba": numba.__version__,
        "numpy": np.__version__,
        "load": [round(each, 2) for each in os.getloadavg()],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=20_000, help="of the stream that peers replay")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--only", nargs="*", help="parts to run: " + ", ".join(PARTS))
    options = parser.parse_args()
    os.sched_setaffinity(0, {core()})
    benchmark, before = Benchmark(options.messages, options.repetitions), description()
    for name, part in PARTS.items():
        if options.only is None or name in options.only:
            done = len(benchmark.rows)
            part(benchmark)
            print(markdown(benchmark.rows[done:]), flush=True)
    # A part of it says nothing about the rest: it is shown, not kept.
    if options.only is None:
        write(benchmark, before, description())
    print("Absent: " + ("; ".join(dict.fromkeys(benchmark.absent)) or "nothing") + ".")
    return 0


def on_sockets(benchmark: Benchmark) -> None:
    os.sched_setaffinity(0, ALL_CORES)
    rows, absent = sockets.measure_sockets()
    benchmark.rows += rows
    benchmark.absent += absent


PARTS: dict[str, Callable[[Benchmark], None]] = {
    "books": Benchmark.books,
    "apply": Benchmark.applied,
    "features": Benchmark.features,
    "symbols": Benchmark.symbols,
    "wide": Benchmark.wide,
    "recordings": Benchmark.recorded,
    "start": Benchmark.start,
    "threads": Benchmark.threads,
    "sockets": on_sockets,
}


def write(benchmark: Benchmark, before: dict[str, Any], after: dict[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    versions = f"Python {before['python']}, numba {before['numba']}, numpy {before['numpy']}"
    head = [
        "# The order-book engine, measured",
        "",
        f"{before['when']}, {before['cpu']}, {before['cores']} cores, {versions}.",
        f"Load average before {before['load']}, after {after['load']} (this benchmark is 1 of it, on sockets 2).",
        "Medians of CPU time a message unless a heading says wall time, in turns on one core; a ratio is the median",
        "of each turn's. Ratios mean something, absolute times are this machine's at this hour. Made by `make bench`.",
    ]
    absent = ["", "Absent: " + ("; ".join(dict.fromkeys(benchmark.absent)) or "nothing") + "."]
    (RESULTS / "engine.md").write_text("\n".join([*head, *absent]) + "\n" + markdown(benchmark.rows))
    found = {"before": before, "after": after, "absent": benchmark.absent, "rows": as_json(benchmark.rows)}
    (RESULTS / "engine.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
