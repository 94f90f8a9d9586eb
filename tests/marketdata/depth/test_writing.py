"""Rows on their way to the database: written down first, stored in batches, in their order, each once, none lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketdata.depth.journal import Journal, JournalFull, JournalTaken, SnapshotLines
from marketdata.depth.snapshots import MINUTE, DepthSnapshot
from marketdata.depth.writer import BATCH_ROWS, RETRIES, JournaledWriter
from tests.marketdata.depth.volumes import NOON, snapshot, walk


class Away(Exception):
    """The database does not answer."""


class Impossible(Exception):
    """The database does not take a row."""


class Database:
    """What keeps rows once, is away when told, and may fail after it has stored (a lost answer)."""

    def __init__(self) -> None:
        self.rows: dict[object, DepthSnapshot] = {}
        self.calls = 0
        self.batches: list[int] = []
        self.is_away = self.loses_answers = False
        self.impossible: set[int] = set()

    def store(self, batch: Sequence[DepthSnapshot]) -> int:
        self.calls += 1
        if self.is_away:
            raise Away
        if any(row.minute in self.impossible for row in batch):
            raise Impossible
        new = [row for row in batch if row.key not in self.rows]
        self.rows |= {row.key: row for row in new}
        self.batches.append(len(batch))
        if self.loses_answers:
            raise Away
        return len(new)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def start(database: Database, clock: Clock, tmp_path: Path) -> Callable[..., JournaledWriter]:
    def make(**options: int) -> JournaledWriter:
        journal = Journal(tmp_path / "journal", SnapshotLines(), **options)
        return JournaledWriter(
            database.store, journal, away=(Away,), refused=(Impossible,), pause=lambda _: None, clock=clock
        )

    return make


def rows(number: int, first: int = 0) -> list[DepthSnapshot]:
    return walk(range(NOON + first * MINUTE, NOON + (first + number) * MINUTE, MINUTE))


def test_a_batch_is_due_at_fifty_rows_or_after_a_minute(start: Callable[..., JournaledWriter], clock: Clock) -> None:
    writer = start()
    assert not writer.is_due
    writer.add(rows(BATCH_ROWS - 1))
    assert not writer.is_due
    clock.now += 60
    assert writer.is_due
    assert writer.flush() and not writer.is_due and writer.waiting == 0
    writer.add(rows(BATCH_ROWS))
    assert writer.is_due


def test_a_row_that_is_added_while_others_are_stored_is_due_by_itself(
    database: Database, clock: Clock, tmp_path: Path
) -> None:
    """The market is quiet afterwards: no other row will come. It is added when nothing waits any more, after the writer
    has looked."""
    late: list[DepthSnapshot] = []

    class LookedAt(Journal[DepthSnapshot]):
        """Somebody adds right after its count was read as none."""

        def __getattribute__(self, name: str) -> Any:
            found = super().__getattribute__(name)
            if name == "waiting" and not found and late and not self._mutex.locked():
                writer.add([late.pop()])
            return found

    journal = LookedAt(tmp_path / "journal", SnapshotLines())
    writer = JournaledWriter(database.store, journal, away=(Away,), pause=lambda _: None, clock=clock)
    writer.add(rows(3))
    late += rows(1, first=100)
    writer.flush()
    assert not late and writer.waiting == 1
    clock.now += 60
    assert writer.is_due
    assert writer.flush() and not writer.is_due


def test_rows_arrive_in_their_order_and_exactly(start: Callable[..., JournaledWriter], database: Database) -> None:
    writer = start(file_bytes=500)
    for row in rows(30):
        writer.add([row])
    assert writer.flush() and list(database.rows.values()) == rows(30)


def test_rows_outlive_a_process_that_is_killed(start: Callable[..., JournaledWriter], database: Database) -> None:
    writer = start()
    writer.add(rows(20))
    writer._journal._lock.close()  # what the kernel does for a killed process
    again = start()
    assert again.waiting == 20 and again.flush() and list(database.rows.values()) == rows(20)


def test_an_answer_that_is_lost_stores_nothing_twice(start: Callable[..., JournaledWriter], database: Database) -> None:
    writer = start()
    writer.add(rows(20))
    database.loses_answers = True
    assert not writer.flush() and writer.waiting == 20
    database.loses_answers = False
    writer.close()
    assert len(database.rows) == 20 and writer.counts["known"] == 20 and writer.counts["stored"] == 0


def test_a_database_that_is_away_is_retried_then_left_alone(
    start: Callable[..., JournaledWriter], database: Database, clock: Clock
) -> None:
    writer = start()
    database.is_away = True
    writer.add(rows(60))
    assert not writer.flush() and database.calls == RETRIES + 1
    assert writer.is_open and not writer.is_due and not writer.flush() and database.calls == RETRIES + 1
    clock.now += 5
    assert writer.is_due and not writer.flush()
    clock.now += 5
    assert writer.is_open  # the second pause is longer
    clock.now += 5
    database.is_away = False
    writer.add(rows(65)[60:])
    assert writer.flush() and list(database.rows.values()) == rows(65)


def test_an_impossible_row_does_not_hold_up_the_others(
    start: Callable[..., JournaledWriter], database: Database
) -> None:
    writer = start()
    database.impossible = {NOON + 7 * MINUTE}
    writer.add(rows(20))
    assert writer.flush() and len(database.rows) == 19 and writer.counts["refused"] == 1


def test_the_journal_is_bounded_and_what_it_refuses_is_kept_in_memory(
    start: Callable[..., JournaledWriter], database: Database
) -> None:
    writer = start(most_bytes=2_000)
    database.is_away = True
    for row in rows(40):
        writer.add([row])
    assert writer.status()["journal_bytes"] <= 2_000 and writer.status()["journal_refused"] > 0
    database.is_away = False
    assert writer.flush() and len(database.rows) == 40


def test_two_processes_cannot_use_one_journal(tmp_path: Path) -> None:
    journal = Journal(tmp_path, SnapshotLines())
    with pytest.raises(JournalTaken):
        Journal(tmp_path, SnapshotLines())
    journal.close()
    Journal(tmp_path, SnapshotLines()).close()


def test_files_that_are_stored_are_removed(start: Callable[..., JournaledWriter], tmp_path: Path) -> None:
    writer = start(file_bytes=1_000)
    for row in rows(60):
        writer.add([row])
    assert len(list(tmp_path.glob("journal/*.journal"))) > 3
    writer.flush()
    assert list(tmp_path.glob("journal/*.journal")) == [] and writer.waiting == 0


def test_a_full_journal_says_so(tmp_path: Path) -> None:
    with pytest.raises(JournalFull, match="100 are allowed"):
        Journal(tmp_path, SnapshotLines(), most_bytes=100).append([snapshot(), snapshot(NOON + 60)])


def test_damaged_lines_wait_for_nothing_once_those_around_them_are_stored(
    start: Callable[..., JournaledWriter], database: Database, tmp_path: Path
) -> None:
    before = start()
    before.add(rows(5))
    before._journal.close()
    (file,) = tmp_path.glob("journal/*.journal")
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([lines[0], b"0" + lines[1], *lines[2:-1], lines[-1][:20]]))
    writer = start()
    database.is_away = True
    assert not writer.flush()
    database.is_away = False
    writer.close()
    assert len(database.rows) == 3
    assert writer.waiting == 0 and writer.status()["journal_damaged"] == 2


@settings(max_examples=15, deadline=None)
@given(cut=st.integers(1, 3_000), flips=st.lists(st.integers(0, 10**6), max_size=3), file_bytes=st.integers(200, 4_000))
def test_whatever_a_crash_leaves_of_a_journal_is_read_to_its_end(
    tmp_path_factory: pytest.TempPathFactory, cut: int, flips: list[int], file_bytes: int
) -> None:
    """Lines that are whole come back as they were; damaged ones are counted and nothing else is lost."""
    folder = tmp_path_factory.mktemp("journal")
    journal, written = Journal(folder, SnapshotLines(), file_bytes=file_bytes), rows(25)
    for row in written:
        journal.append([row])
    journal.close()
    last = max(folder.glob("*.journal"))
    body = bytearray(last.read_bytes()[: max(1, last.stat().st_size - cut)])
    for flip in flips:
        body[flip % len(body)] ^= 0x20
    last.write_bytes(body)
    before = sum(path.read_bytes().count(b"\n") for path in folder.glob("*.journal") if path != last)
    again, found = Journal(folder, SnapshotLines()), []
    again.append(rows(1, first=99))  # goes on behind what is there
    while batch := again.read(4):
        found += batch
        again.stored(len(batch))
    again.close()
    whole = [row for row in written if row in found]
    assert found == [*whole, *rows(1, first=99)]
    assert whole[:before] == written[:before]
    intact = body.count(b"\n") - len(flips)
    assert len(whole) >= before + intact
    assert list(folder.glob("*.journal")) == []
