"""Dead letters: messages that could not be handled, kept in a Redis Stream with what went wrong, until somebody
replays or discards them. While Valkey is away they go to a file of this machine, which is drained later."""

from __future__ import annotations

import fcntl
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import redis

from audit.valkey import connect

log = logging.getLogger(__name__)

# The stream forgets the oldest beyond this; the file takes no more beyond that.
MOST_LETTERS = 10_000
MOST_FILE_BYTES = 64 * 2**20
MOST_PAYLOAD = 256 * 1024
# The same trouble that comes again within this time is one letter: it would push out others.
SAME_SECONDS = 300
DRAINED_SECONDS = 7 * 86_400

# A letter enters the stream once, however often the file that held it is read.
ADD = """
if redis.call('SET', KEYS[2], '1', 'NX', 'EX', ARGV[2]) == false then
    return false
end
return redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', 'letter', ARGV[3])
"""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """``payload`` is the message as text; ``identifier`` is the stream's, empty before it is there.

    ``same``: letters with the same text here are the same trouble; empty: each is one of its own.
    """

    kind: str
    error: str
    payload: str
    context: Mapping[str, Any] = field(default_factory=dict)
    trace_id: str = ""
    at: float = 0.0
    letter: str = ""
    same: str = ""
    identifier: str = ""


class LetterGone(Exception):
    """There is no such letter (any more): replayed, discarded, or pushed out by newer ones."""


class DeadLetterQueue:
    """Threads and processes may share it. ``put`` never raises: it is called where something has failed already."""

    def __init__(self, url: str, prefix: str, file: Path) -> None:
        self._redis: Any = connect(url)
        self._stream, self._prefix, self._file = f"{prefix}:dlq", prefix, file
        self._add = self._redis.register_script(ADD)

    def put(
        self,
        kind: str,
        *,
        error: str,
        payload: str,
        context: Mapping[str, Any] | None = None,
        trace_id: str = "",
        same: str = "",
    ) -> None:
        letter = DeadLetter(
            kind, error[:4_000], payload[:MOST_PAYLOAD], dict(context or {}), trace_id, time.time(), uuid4().hex, same
        )
        try:
            self._send(letter)
            if self._file.exists():
                self.drain()
        except (redis.RedisError, OSError) as away:
            self._keep(letter, away)

    def drain(self) -> int:
        """Move what waits in the file into the stream; how many letters that were.

        Raises redis.RedisError while Valkey is away; then the file stays as it is.
        """
        with self._locked():
            if not self._file.exists():
                return 0
            letters = list(self._in_file())
            for letter in letters:
                self._send(letter)
            self._file.unlink()
        if letters:
            log.warning("%d dead letters of %s are in the stream now", len(letters), self._file.name)
        return len(letters)

    def count(self) -> int:
        return int(self._redis.xlen(self._stream))

    def waiting(self) -> int:
        """Letters in the file of this machine."""
        with self._locked():
            return sum(1 for _ in self._in_file()) if self._file.exists() else 0

    def newest(self, *, limit: int = 50, before: str = "", kind: str = "") -> list[DeadLetter]:
        """The newest first; ``before`` is the identifier of the last one that was seen."""
        found: list[DeadLetter] = []
        end = f"({before}" if before else "+"
        while len(found) < limit:
            rows = self._redis.xrevrange(self._stream, max=end, min="-", count=200)
            if not rows:
                break
            letters = [_letter(*row) for row in rows]
            found += [letter for letter in letters if not kind or letter.kind == kind]
            end = f"({letters[-1].identifier}"
        return found[:limit]

    def get(self, identifier: str) -> DeadLetter:
        """Raises LetterGone."""
        rows = self._redis.xrange(self._stream, min=identifier, max=identifier)
        if not rows:
            raise LetterGone(f"there is no dead letter {identifier}")
        return _letter(*rows[0])

    def remove(self, identifier: str) -> None:
        """Raises LetterGone: somebody else was faster."""
        if not self._redis.xdel(self._stream, identifier):
            raise LetterGone(f"there is no dead letter {identifier}")

    def counts(self) -> dict[str, int]:
        """How many letters of each kind there are."""
        found: dict[str, int] = {}
        for letter in self.newest(limit=MOST_LETTERS):
            found[letter.kind] = found.get(letter.kind, 0) + 1
        return found

    def _send(self, letter: DeadLetter) -> None:
        known_as = f"same:{letter.kind}:{letter.same}" if letter.same else letter.letter
        self._add(
            keys=[self._stream, f"{self._prefix}:dlq:known:{known_as}"],
            args=[MOST_LETTERS, SAME_SECONDS if letter.same else DRAINED_SECONDS, orjson.dumps(asdict(letter))],
        )

    def _keep(self, letter: DeadLetter, away: Exception) -> None:
        try:
            with self._locked():
                if self._file.exists() and self._file.stat().st_size > MOST_FILE_BYTES:
                    log.error("a dead letter is lost, %s is full: %s", self._file, letter)
                    return
                with self._file.open("ab") as file:
                    file.write(orjson.dumps(asdict(letter)) + b"\n")
            log.warning("a dead letter waits in %s while Valkey is away: %s", self._file.name, away)
        except OSError:
            log.exception("a dead letter is lost, its file cannot be written: %s", letter)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Alone with the file, among all processes of this machine."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.with_suffix(".lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _in_file(self) -> Iterator[DeadLetter]:
        for line in self._file.read_bytes().splitlines():
            try:
                yield DeadLetter(**orjson.loads(line))
            except (orjson.JSONDecodeError, TypeError):
                # The end of a line that a crash cut off.
                log.error("a dead letter in %s is unreadable and left out: %r", self._file.name, line[:200])


def _letter(identifier: bytes, fields: Mapping[bytes, bytes]) -> DeadLetter:
    return DeadLetter(**{**orjson.loads(fields[b"letter"]), "identifier": identifier.decode()})
