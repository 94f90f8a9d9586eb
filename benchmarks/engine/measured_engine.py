"""``manage.py runengine``, which writes down when each book message was received and when it was dealt with.

``python -m benchmarks.engine.measured_engine FILE``: at its end the file (numpy) has a row for each: the place of its
symbol, the time of receipt, and the time when its features were made and everybody told, in ns since 1970. What
``SIGUSR1`` is sent for is the number of rows so far, into ``FILE.count``.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from array import array
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "platform_site.settings")

import django


def main(file: Path) -> None:
    django.setup()
    from django.core.management import call_command

    from benchmarks.engine.load_venue import LISTINGS
    from trading.runtime.venue_books import VenueBooks

    places = {f"orderbook.200.{listing.symbol}".encode(): place for place, listing in enumerate(LISTINGS)}
    rows = array("q")
    on_frame = VenueBooks.on_frame

    def measured(self: VenueBooks, topic: bytes, frame: bytes, receive_ns: int) -> None:
        on_frame(self, topic, frame, receive_ns)
        if topic in places:
            rows.extend((places[topic], receive_ns, time.time_ns()))

    def tell(_number: int, _stack: Any) -> None:
        file.with_suffix(".count").write_text(str(len(rows) // 3))

    VenueBooks.on_frame = measured  # type: ignore[method-assign]
    signal.signal(signal.SIGUSR1, tell)
    try:
        call_command("runengine")
    finally:
        np.save(file, np.frombuffer(rows, dtype=np.int64).reshape(-1, 3))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
