"""What each strategy did on recorded markets: its page's chart of a trade and its results, written anew.

``.venv/bin/python benchmarks/strategy_results.py [KEY ...]`` (all nine take some minutes) writes docs/strategies/KEY.md
from *A trade* on and docs/images/strategies/KEY.svg. It needs the recordings that ``MARKET_DATA_DIR`` names; nothing
but figures and some dozens of candles goes into the repository.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from benchmarks.strategy_pages import book_runs, candle_runs, page  # noqa: E402

KEYS = (*candle_runs.KEYS, *book_runs.KEYS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("keys", nargs="*", metavar="KEY", help=f"of {', '.join(KEYS)}; default all")
    parser.add_argument("--docs", type=Path, default=REPOSITORY / "docs", help="where strategies/ and images/ are")
    options = parser.parse_args()
    if unknown := sorted(set(options.keys) - set(KEYS)):
        parser.error(f"{', '.join(unknown)}: no built-in strategy")
    if not candle_runs.DATA.is_dir():
        parser.error(f"there are no recordings in {candle_runs.DATA}; set MARKET_DATA_DIR")
    keys = [key for key in KEYS if key in options.keys or not options.keys]
    for key in keys:
        if key in candle_runs.KEYS:
            runs = candle_runs.runs_of(key)
            shown = candle_runs.median_trade(key, runs)
            save(options.docs, key, candle_runs.drawn(key, *shown[:2]), page.candle_page(key, runs, shown))
    books = [key for key in keys if key in book_runs.KEYS]
    if books:
        with tempfile.TemporaryDirectory() as folder:
            known = book_runs.recordings(Path(folder))
            for key in books:
                sessions = book_runs.sessions_of(key, known)
                told = book_runs.median_signal(sessions)
                image = None if told is None else book_runs.drawn(key, *told[:2])
                save(options.docs, key, image, page.book_page(key, sessions, told))


def save(docs: Path, key: str, image: str | None, text: str) -> None:
    images = docs / "images" / "strategies"
    images.mkdir(parents=True, exist_ok=True)
    if image is not None:
        (images / f"{key}.svg").write_text(image)
    page.write(docs / "strategies" / f"{key}.md", text)
    print(f"{key}: written")


if __name__ == "__main__":
    main()
