"""Updates and snapshots in any order that a network makes of them: a proven book is always the venue's own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from marketdata.engine.book import SymbolBook
from marketdata.engine.sync import BookOutcome, BookState
from marketdata.feeds import snapshot_bridge
from marketdata.feeds.snapshot_bridge import Judged, SnapshotBridge
from tests.marketdata.engine.streams import STREAMS, SYMBOL, BinanceStream

FORMS = [name for name in STREAMS if name.startswith("binance")]
Levels = dict[int, int]


@dataclass(frozen=True)
class Update:
    """From the id before it to its own, and the asks of the venue's book after it."""

    before: int
    update_id: int
    frame: bytes
    asks: Levels


def venue(form: BinanceStream, changes: list[tuple[int, int, int]]) -> tuple[list[Update], list[tuple[int, Levels]]]:
    """The updates of a venue, and its book at the ids at which it can be asked for, by time."""
    asks: Levels = {1_000: 1}
    update_id = 100
    updates, moments = [], [(update_id, dict(asks))]
    for ticks, lots, span in changes:
        before, update_id = update_id, update_id + span
        was = dict(asks)
        asks[ticks] = lots
        if not lots:
            del asks[ticks]
        updates.append(
            Update(before, update_id, form.update(before, update_id, [], [[str(ticks), str(lots)]]), dict(asks))
        )
        # In the middle of its span, where one has a middle, nothing of it has happened yet.
        if span > 4:
            moments.append((update_id - 1, was))
        moments.append((update_id, dict(asks)))
    return updates, moments


def snapshot(form: BinanceStream, moment: tuple[int, Levels]) -> bytes:
    return form.snapshot(moment[0], [["500", "1"]], [[str(ticks), str(lots)] for ticks, lots in moment[1].items()])


def asks_of(book: SymbolBook) -> Levels:
    return dict(book.asks())


CHANGES = st.lists(st.tuples(st.integers(1_001, 1_020), st.integers(0, 9), st.integers(1, 12)), min_size=3, max_size=40)


def new_bridge(form: BinanceStream) -> SnapshotBridge:
    return SnapshotBridge(SymbolBook(SYMBOL, Decimal(1), Decimal(1), source=form.source()))


def valid(changes: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Those that remove nothing that is not there."""
    known: set[int] = set()
    kept = []
    for ticks, lots, span in changes:
        if lots or ticks in known:
            (known.add if lots else known.discard)(ticks)
            kept.append((ticks, lots, span))
    return kept


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(FORMS), CHANGES.map(valid), st.data())
def test_whatever_is_lost_and_however_late_snapshots_are_a_proven_book_is_the_venues(
    name: str, changes: list[tuple[int, int, int]], data: st.DataObject
) -> None:
    form: Any = STREAMS[name]
    updates, moments = venue(form, changes)
    truth = {update.update_id: update.asks for update in updates}
    bridge = new_bridge(form)
    applied: list[int] = []

    def take(judged: Iterable[Judged]) -> None:
        for each in judged:
            if each.outcome is BookOutcome.SNAPSHOT:
                applied.clear()
            elif each.outcome is BookOutcome.DELTA:
                applied.append(bridge.book.update_id)
            if bridge.book.state is BookState.LIVE:
                assert asks_of(bridge.book) == truth[bridge.book.update_id]
        assert applied == sorted(set(applied))  # each update once, in the venue's order

    for update in updates:
        step = data.draw(st.sampled_from(["once", "once", "once", "lost", "twice", "snapshot"]))
        if step == "snapshot":
            take(bridge.snapshot(snapshot(form, data.draw(st.sampled_from(moments))), 1))
        for _ in range({"lost": 0, "twice": 2}.get(step, 1)):
            take(bridge.update(update.frame, 1))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(FORMS), CHANGES.map(valid).filter(lambda changes: len(changes) > 2), st.data())
def test_a_snapshot_of_any_moment_since_the_first_update_leads_to_the_newest_book(
    name: str, changes: list[tuple[int, int, int]], data: st.DataObject
) -> None:
    form: Any = STREAMS[name]
    updates, moments = venue(form, changes)
    since = data.draw(st.integers(0, len(updates) - 2))
    asked = data.draw(st.sampled_from([each for each in moments if each[0] >= updates[since].before]))
    arrives = data.draw(st.integers(since, len(updates)))
    bridge = new_bridge(form)
    for update in updates[since:arrives]:
        assert not list(bridge.update(update.frame, 1))
    judged = list(bridge.snapshot(snapshot(form, asked), 1))
    assert judged[0].outcome is BookOutcome.SNAPSHOT and len(judged) == 1 + arrives - since and len(bridge) == 0
    for update in updates[arrives:]:
        list(bridge.update(update.frame, 1))
    assert asks_of(bridge.book) == max((asked, (updates[-1].update_id, updates[-1].asks)))[1]
    if asked[0] < updates[-1].update_id:
        assert bridge.book.state is BookState.LIVE and bridge.book.update_id == updates[-1].update_id


def test_an_update_after_a_gap_waits_for_the_snapshot_and_bridges_it() -> None:
    form: Any = STREAMS["binance-futures"]
    updates, moments = venue(form, [(1_001 + number, 1, 5) for number in range(5)])
    bridge = new_bridge(form)
    list(bridge.update(updates[0].frame, 1))
    list(bridge.snapshot(snapshot(form, moments[0]), 1))
    assert bridge.book.state is BookState.LIVE
    (missed,) = bridge.update(updates[3].frame, 7)
    assert missed == (BookOutcome.GAP, updates[3].frame, 7) and len(bridge) == 1
    outcomes = [each.outcome for each in bridge.snapshot(snapshot(form, (updates[2].update_id, updates[2].asks)), 1)]
    assert outcomes == [BookOutcome.SNAPSHOT, BookOutcome.DELTA] and asks_of(bridge.book) == updates[3].asks


def test_a_book_that_needs_no_snapshot_keeps_what_it_has() -> None:
    form: Any = STREAMS["binance-spot"]
    updates, moments = venue(form, [(1_001, 1, 5), (1_002, 2, 5)])
    bridge = new_bridge(form)
    list(bridge.snapshot(snapshot(form, moments[0]), 1))
    list(bridge.update(updates[0].frame, 1))
    assert list(bridge.snapshot(snapshot(form, moments[-1]), 1)) == []
    assert bridge.book.update_id == updates[0].update_id


def test_a_snapshot_that_cannot_be_read_leaves_the_updates_waiting() -> None:
    form: Any = STREAMS["binance-spot"]
    updates, moments = venue(form, [(1_001, 1, 5), (1_002, 2, 5)])
    bridge = new_bridge(form)
    for update in updates:
        list(bridge.update(update.frame, 1))
    (refused,) = bridge.snapshot(b"{", 1)
    assert refused.outcome is BookOutcome.REFUSED and len(bridge) == 2
    list(bridge.snapshot(snapshot(form, moments[0]), 1))
    assert bridge.book.state is BookState.LIVE and asks_of(bridge.book) == updates[-1].asks


def test_who_waits_too_long_needs_a_newer_snapshot_and_who_lost_the_connection_forgets(monkeypatch: Any) -> None:
    monkeypatch.setattr(snapshot_bridge, "MOST_WAITING", 3)
    form: Any = STREAMS["binance-spot"]
    updates, moments = venue(form, [(1_001 + number, 1, 5) for number in range(6)])
    bridge = new_bridge(form)
    for update in updates:
        list(bridge.update(update.frame, 1))
    outcomes = [each.outcome for each in bridge.snapshot(snapshot(form, moments[0]), 1)]
    assert outcomes == [BookOutcome.SNAPSHOT, BookOutcome.GAP] and len(bridge) == 3
    bridge.forget()
    assert len(bridge) == 0
