"""Several engines share the symbols: equal shares, no symbol with two, none without one for long."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as some

from trading.sharding import assign

SYMBOLS = [f"symbol:{number:03d}" for number in range(50)]
MEMBERS = some.sets(some.integers(1, 1_000), min_size=1, max_size=8)


def counts(assigned: dict[str, int], members: set[int]) -> list[int]:
    return [list(assigned.values()).count(member) for member in members]


@given(members=MEMBERS, holders=some.dictionaries(some.sampled_from(SYMBOLS), some.integers(1, 1_000)))
def test_every_symbol_has_one_engine_and_shares_differ_by_one_at_most(
    members: set[int], holders: dict[str, int]
) -> None:
    assigned = assign(SYMBOLS, holders, members)
    assert set(assigned) == set(SYMBOLS)
    assert max(counts(assigned, members)) - min(counts(assigned, members)) <= 1


@given(members=MEMBERS, joins=some.integers(2_000, 3_000))
def test_a_joining_engine_gets_its_share_and_nobody_else_moves(members: set[int], joins: int) -> None:
    before = assign(SYMBOLS, {}, members)
    after = assign(SYMBOLS, before, members | {joins})
    moved = [symbol for symbol in SYMBOLS if before[symbol] != after[symbol]]
    assert {after[symbol] for symbol in moved} <= {joins}
    assert len(moved) <= len(SYMBOLS) // (len(members) + 1) + 1


@given(members=MEMBERS.filter(lambda some_members: len(some_members) > 1))
def test_when_an_engine_goes_only_its_symbols_move(members: set[int]) -> None:
    before = assign(SYMBOLS, {}, members)
    gone = min(members)
    after = assign(SYMBOLS, {s: m for s, m in before.items() if m != gone}, members - {gone})
    assert all(after[symbol] == before[symbol] for symbol in SYMBOLS if before[symbol] != gone)


@given(members=MEMBERS)
def test_what_is_balanced_stays(members: set[int]) -> None:
    before = assign(SYMBOLS, {}, members)
    assert assign(SYMBOLS, before, members) == before


def test_without_engines_nothing_is_assigned() -> None:
    assert assign(SYMBOLS, {}, set()) == {}
