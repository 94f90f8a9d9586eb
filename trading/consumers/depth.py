"""Live books of depth analytics for pages: one reader a web process, however many pages watch."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import orjson
import redis

from marketdata.api.depth.answers import groups_now
from marketdata.depth import selectors
from marketdata.depth.current import as_of, is_stale
from marketdata.depth.snapshots import DEPTH_BY_TEXT, DEPTH_TEXTS, Market

log = logging.getLogger(__name__)

BOOK_SECONDS, GROUPS_SECONDS = 1.0, 5.0
MAX_BOOKS, MAX_GROUPS = 12, 6
BOOK = re.compile(rf"({'|'.join(Market)}):([A-Z0-9]{{5,20}})")

Book = tuple[Market, str]
# A market and a depth.
Group = tuple[Market, int]
# Called in the event loop with what is told of (later words of it replace earlier ones) and the message as JSON text.
Listener = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class _Told:
    body: bytes
    timestamp: int
    is_stale: bool
    text: str


class DepthReader:
    """Asks Valkey once a second, in one question, for every book that a page of this process watches, and tells those
    that changed; of groups every five seconds. It costs what is watched, not what is collected or who watches.

    Use from one event loop: :func:`reader`.
    """

    def __init__(self) -> None:
        self._books: dict[Book, set[Listener]] = {}
        self._groups: dict[Group, set[Listener]] = {}
        self._told: dict[Book, _Told] = {}
        self._told_groups: dict[Group, str] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def watch_books(self, listener: Listener, books: Collection[Book]) -> list[Book]:
        """Tell of these books at once, and from now on; those that there is nothing of yet.

        Raises:
            redis.RedisError: there is nothing to tell now; it goes on when Valkey is back.
        """
        for book in books:
            self._books.setdefault(book, set()).add(listener)
            if (told := self._told.get(book)) is not None:
                listener(_book_key(book), told.text)
        self._begin()
        if unknown := [book for book in books if book not in self._told]:
            await self._read_books(unknown)
        return [book for book in unknown if book not in self._told]

    async def watch_group(self, listener: Listener, group: Group) -> None:
        """The same of a market's groups at one depth. Raises as :meth:`watch_books`."""
        self._groups.setdefault(group, set()).add(listener)
        self._begin()
        if (text := self._told_groups.get(group)) is not None:
            listener(_group_key(group), text)
        else:
            await self._read_groups([group])

    def leave(self, listener: Listener, books: Iterable[Book] = (), groups: Iterable[Group] = ()) -> None:
        """Tell a listener no more of these."""
        for book in books:
            if _left(self._books, book, listener):
                self._told.pop(book, None)
        for group in groups:
            if _left(self._groups, group, listener):
                self._told_groups.pop(group, None)
        if not self._books and not self._groups:
            for task in self._tasks:
                task.cancel()
            self._tasks.clear()

    def _begin(self) -> None:
        if not self._tasks:
            loops = ((BOOK_SECONDS, self._round_of_books), (GROUPS_SECONDS, self._round_of_groups))
            self._tasks = [asyncio.create_task(_repeat(seconds, work)) for seconds, work in loops]

    async def _round_of_books(self) -> None:
        await self._read_books(list(self._books))

    async def _round_of_groups(self) -> None:
        await self._read_groups(list(self._groups))

    async def _read_books(self, books: Sequence[Book]) -> None:
        if not books:
            return
        bodies = await asyncio.to_thread(selectors.hot().latest_bodies, books)
        now_ms = time.time() * 1000
        for book, body in zip(books, bodies, strict=True):
            if body is None:
                continue
            try:
                self._take_book(book, body, now_ms)
            except (ValueError, KeyError, TypeError):  # one book that cannot be told must not end the telling of all
                log.exception("%s is not told: what Valkey has of it is no book", _name(book))

    def _take_book(self, book: Book, body: bytes, now_ms: float) -> None:
        listeners, told = self._books.get(book), self._told.get(book)
        if not listeners:
            return  # all of them left meanwhile
        if told is not None and body == told.body and told.is_stale == is_stale(told.timestamp, now_ms):
            return
        parsed = orjson.loads(body)
        timestamp = parsed["timestamp"]
        # Two questions may be answered in the other order.
        if told is not None and timestamp < told.timestamp:
            return
        stale = is_stale(timestamp, now_ms)
        shown = orjson.dumps(as_of(parsed, now_ms)) if stale else body
        text = f'{{"type":"depth_book","book":"{_name(book)}","body":{shown.decode()}}}'
        self._told[book] = _Told(body, timestamp, stale, text)
        for listener in listeners:
            listener(_book_key(book), text)

    async def _read_groups(self, groups: Sequence[Group]) -> None:
        for market in sorted({market for market, _ in groups}):
            depths = [depth for of, depth in groups if of is market]
            found = await asyncio.to_thread(groups_now, market, depths)
            for depth, body in found.items():
                self._take_groups((market, depth), body)

    def _take_groups(self, group: Group, body: dict[str, Any]) -> None:
        market, depth = group
        if not (listeners := self._groups.get(group)):
            return
        message = {"type": "depth_groups", "market": market.value, "depth": DEPTH_TEXTS[depth], "body": body}
        self._told_groups[group] = text = orjson.dumps(message).decode()
        for listener in listeners:
            listener(_group_key(group), text)


_readers: WeakKeyDictionary[asyncio.AbstractEventLoop, DepthReader] = WeakKeyDictionary()


def reader() -> DepthReader:
    """The one of this process (of its running event loop, to be exact)."""
    return _readers.setdefault(asyncio.get_running_loop(), DepthReader())


class DepthChannels:
    """What one page watches of depth analytics."""

    def __init__(self, listener: Listener, forget: Callable[[str], None]) -> None:
        """``forget``: what was told under a name and has not left yet is wanted no more."""
        self._listener, self._forget = listener, forget
        self._books: set[Book] = set()
        self._groups: set[Group] = set()

    async def subscribe(self, message: dict[str, Any]) -> tuple[str, str] | None:
        """Obey a subscription to ``depth`` or ``depth_groups``; which field was wrong, and how."""
        try:
            if message["channel"] == "depth":
                return await self._subscribe_books(message.get("books"))
            return await self._subscribe_group(message)
        except (redis.RedisError, OSError):
            return "channel", "Valkey, which holds the newest books, does not answer; they come when it is back"

    def unsubscribe(self, message: dict[str, Any]) -> tuple[str, str] | None:
        if message["channel"] == "depth":
            books = _books_of(message.get("books"))
            if isinstance(books, str):
                return "books", books
            self._leave(books, [])
            return None
        group = _group_of(message)
        if isinstance(group, str):
            return "depth_groups", group
        self._leave([], [group])
        return None

    def leave_all(self) -> None:
        self._leave(list(self._books), list(self._groups))

    async def _subscribe_books(self, named: Any) -> tuple[str, str] | None:
        books = _books_of(named)
        if isinstance(books, str):
            return "books", books
        if len(self._books | set(books)) > MAX_BOOKS:
            return "books", f"at most {MAX_BOOKS} books at once; unsubscribe from others first"
        self._books |= set(books)
        silent = await reader().watch_books(self._listener, books)
        if silent:
            names = ", ".join(map(_name, silent))
            return "books", f"{names}: not collected right now (see /api/v1/collector); told as soon as there is a book"
        return None

    async def _subscribe_group(self, message: dict[str, Any]) -> tuple[str, str] | None:
        group = _group_of(message)
        if isinstance(group, str):
            return "depth_groups", group
        if len(self._groups | {group}) > MAX_GROUPS:
            return "depth_groups", f"at most {MAX_GROUPS} at once; unsubscribe from others first"
        self._groups.add(group)
        await reader().watch_group(self._listener, group)
        return None

    def _leave(self, books: Collection[Book], groups: Collection[Group]) -> None:
        reader().leave(self._listener, books, groups)
        self._books -= set(books)
        self._groups -= set(groups)
        for key in [*map(_book_key, books), *map(_group_key, groups)]:
            self._forget(key)


def _books_of(named: Any) -> list[Book] | str:
    """The books that were named, each once, or what is wrong with them."""
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        return "a list of books like SPOT:BTCUSDT is expected"
    found = []
    for name in dict.fromkeys(named):
        match = BOOK.fullmatch(name)
        if match is None:
            return f"{name[:50]!r} is no book; expected {', '.join(Market)}, a colon and a symbol, like SPOT:BTCUSDT"
        found.append((Market(match[1]), match[2]))
    return found


def _group_of(message: dict[str, Any]) -> Group | str:
    market, depth = message.get("market", Market.SPOT.value), message.get("depth", "5")
    if not isinstance(market, str) or market not in Market.__members__:
        return f"market is {market!r}; expected one of {', '.join(Market)}"
    if not isinstance(depth, str) or depth not in DEPTH_BY_TEXT:
        return f"depth is {depth!r}; expected one of {', '.join(DEPTH_BY_TEXT)}, as text"
    return Market(market), DEPTH_BY_TEXT[depth]


def _name(book: Book) -> str:
    return f"{book[0]}:{book[1]}"


def _book_key(book: Book) -> str:
    return f"depth {_name(book)}"


def _group_key(group: Group) -> str:
    return f"depth_groups {group[0]} {group[1]}"


def _left(watched: dict[Any, set[Listener]], key: Any, listener: Listener) -> bool:
    """Whether nobody watches it any more."""
    listeners = watched.get(key, set())
    listeners.discard(listener)
    if not listeners:
        watched.pop(key, None)
    return not listeners


async def _repeat(seconds: float, work: Callable[[], Any]) -> None:
    while True:
        began = time.monotonic()
        try:
            await work()
        except (redis.RedisError, OSError) as error:
            log.warning("pages get no books: %s", error)
        except Exception:  # the next round may go well
            log.exception("pages get no books")
        await asyncio.sleep(max(seconds / 10, seconds - (time.monotonic() - began)))
