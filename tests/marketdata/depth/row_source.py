"""A process that makes depth rows as fast as it can, for tests that kill it: ``python -m ... FOLDER BATCHES``.

Each batch is named in ``promised`` once the writer has taken it. With 0 batches it only drains what another one left.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import django

django.setup()

from django.db import DataError, Error, IntegrityError, close_old_connections, connection  # noqa: E402

from marketdata.depth.journal import Journal, SnapshotLines  # noqa: E402
from marketdata.depth.services import depth_rows_store  # noqa: E402
from marketdata.depth.snapshots import MINUTE, minute_of  # noqa: E402
from marketdata.depth.writer import JournaledWriter  # noqa: E402
from tests.marketdata.depth.volumes import walk  # noqa: E402

BATCH = 20


def store(batch):  # type: ignore[no-untyped-def]
    close_old_connections()
    try:
        return depth_rows_store(batch)
    except Error:
        connection.close()
        raise


def main(folder: Path, batches: int) -> None:
    journal = Journal(folder / "journal", SnapshotLines())
    writer = JournaledWriter(store, journal, away=(Error, OSError), refused=(DataError, IntegrityError))
    first = minute_of(time.time()) - 50 * 86_400
    with (folder / "promised").open("a") as promised:
        for number in range(batches):
            start = first + number * BATCH * MINUTE
            rows = walk(range(start, start + BATCH * MINUTE, MINUTE), seed=number)
            writer.add(rows)
            promised.write("".join(f"{row.minute} {row.volume.bid_volume:f}\n" for row in rows))
            promised.flush()
            if writer.is_due:
                writer.flush()
    while not writer.flush():
        time.sleep(0.2)
    writer.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
