"""Verifies an export of the audit trail: ``python audit/offline_verifier.py FILE [--head HEAD] [--heads FILE]``.

Needs Python 3.11, chain.py beside it, and nothing else: no database, no Django, no packages. Exit code 0: every chain
in the file is unbroken; 1: one is not, or the file is damaged; 2: it was called wrongly.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO

try:
    from audit.chain import GENESIS, PLATFORM, Head, Link, canonical_json, first_break, heads_in, noted_by_chain
except ImportError:  # run as a file: chain.py lies beside it
    from chain import (  # type: ignore[import-not-found,no-redef]
        GENESIS,
        PLATFORM,
        Head,
        Link,
        canonical_json,
        first_break,
        heads_in,
        noted_by_chain,
    )

FORMAT, VERSION = "ballast audit export", 1
HASHES = ("previous_hash", "hash")
LONGEST_LINE = 64 * 2**20


class DamagedExport(Exception):
    """The file is no export, or not a whole one; the message says where."""


@dataclass(frozen=True, slots=True)
class Section:
    """One chain of an export, as its header announces it: the events after ``after`` up to the head."""

    chain: str
    after: int
    after_hash: str
    sequence: int
    hash: str

    @property
    def head(self) -> Head:
        return Head(self.chain, self.sequence, self.hash)


@dataclass(slots=True)
class Report:
    """What was found: a sentence for each chain, and those of broken ones."""

    lines: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


def export_line(row: dict[str, Any]) -> bytes:
    """One line of an export. Its spelling is fixed, so that nothing can hide in a second key of the same name."""
    return canonical_json(row) + b"\n"


def open_export(path: Path) -> BinaryIO:
    """Compressed or not, by what is in it."""
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    return io.BufferedReader(gzip.open(path), 1 << 20) if compressed else path.open("rb")


def verify(file: BinaryIO, heads: Sequence[Head] = (), hashes: Sequence[str] = ()) -> Report:
    """Every chain in the file, and what was noted earlier: ``heads``, and ``hashes`` alone, which must be somewhere.

    Raises:
        DamagedExport: it cannot be read to its end.
    """
    report, noted, missing = Report(), noted_by_chain(heads), set(hashes)
    asked = set(noted)
    rows = _rows(file)
    scope, sections = _header(next(rows, {}))

    def links(found: Iterator[dict[str, Any]]) -> Iterator[Link]:
        for row in found:
            link = _link(row)
            if row["chain"] == PLATFORM:
                for head in heads_in(link):
                    noted.setdefault(head.chain, {}).setdefault(head.sequence, head.hash)
            missing.discard(link.hash)
            yield link

    groups = groupby(rows, key=lambda row: str(row.get("chain")))
    ahead = next(groups, None)
    for section in sections:
        found = first_break(
            links(ahead[1]) if ahead is not None and ahead[0] == section.chain else (),
            head_sequence=section.sequence,
            head_hash=section.hash,
            after=section.after,
            after_hash=section.after_hash,
            noted=noted.pop(section.chain, {}),
        )
        if ahead is not None and ahead[0] == section.chain:
            ahead = next(groups, None)
        if found is not None:
            report.broken.append(f"{section.chain}: BROKEN at event {found.sequence}: {found.reason}")
            continue
        before = "" if section.after == 0 else f" (events 1 to {section.after} are not in this file)"
        report.lines.append(f"{section.chain}: {section.sequence - section.after} events unbroken{before}")
        report.lines.append(f"  head {section.head}")
    if ahead is not None:
        report.broken.append(f"{ahead[0]}: BROKEN: events where the file's header announces none of this chain")
    gone = sorted(set(noted) if scope == "all" else asked & set(noted))
    report.broken += [f"{chain}: BROKEN: a head of it was noted, and the file does not hold it" for chain in gone]
    report.broken += [f"the head {digest}, noted earlier, is in none of the chains" for digest in sorted(missing)]
    return report


def _rows(file: BinaryIO) -> Iterator[dict[str, Any]]:
    number = 0
    try:
        while line := file.readline(LONGEST_LINE):
            number += 1
            row = json.loads(line)
            if not isinstance(row, dict) or export_line(row) != line:
                raise DamagedExport(f"line {number} is not as an export spells it")
            yield row
    except (EOFError, OSError, zlib.error) as error:
        raise DamagedExport(f"the file ends or is damaged after line {number}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise DamagedExport(f"line {number} cannot be read: {str(error)[:200]}") from None


def _header(row: dict[str, Any]) -> tuple[str, list[Section]]:
    if (row.get("format"), row.get("version")) != (FORMAT, VERSION):
        raise DamagedExport(f"the first line is no header of a {FORMAT}, version {VERSION}")
    try:
        sections = [Section(**each) for each in row["chains"]]
        for each in sections:
            Head.parse(str(each.head))
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedExport(f"the header cannot be read: {error}") from None
    if len({each.chain for each in sections}) < len(sections):
        raise DamagedExport("the header names a chain twice")
    return str(row.get("scope")), sections


def _link(row: dict[str, Any]) -> Link:
    content = {name: value for name, value in row.items() if name not in HASHES}
    sequence, previous, own = row.get("sequence"), row.get("previous_hash"), row.get("hash")
    if type(sequence) is not int or not isinstance(previous, str) or not isinstance(own, str):
        raise DamagedExport("a line is no event: it needs a sequence, previous_hash and hash")
    return Link(sequence, previous, own, content)


def parse_heads(texts: Sequence[str], files: Sequence[Path]) -> tuple[list[Head], list[str]]:
    """Heads, and hashes that stand alone. In files of heads every line holds one, after anything else.

    Raises:
        ValueError: something that is neither.
        OSError: a file that cannot be read.
    """
    words = [line.split()[-1] for file in files for line in file.read_text("utf-8").splitlines() if line.strip()]
    words += texts
    alone = [word for word in words if len(word) == len(GENESIS) and not set(word) - set("0123456789abcdef")]
    return [Head.parse(word) for word in words if word not in alone], alone


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Verify an export of the audit trail.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--head", action="append", default=[], help="noted earlier: CHAIN#SEQUENCE=HASH, or the hash")
    parser.add_argument("--heads", action="append", default=[], type=Path, help="a file of heads, one a line")
    options = parser.parse_args(arguments)
    try:
        heads, hashes = parse_heads(options.head, options.heads)
        file = open_export(options.file)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    try:
        with file:
            report = verify(file, heads, hashes)
    except DamagedExport as error:
        report = Report(broken=[f"BROKEN: {error}"])
    sys.stdout.write("".join(f"{line}\n" for line in [*report.lines, *report.broken]))
    if not report.broken and not (heads or hashes):
        sys.stdout.write(
            "Compare a head with one that was noted elsewhere: a trail that was written anew is whole too.\n"
        )
    return 1 if report.broken else 0


if __name__ == "__main__":
    sys.exit(main())
