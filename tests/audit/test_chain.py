"""The trail shows every change to itself."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from audit import bus, services
from audit.chain import GENESIS, PLATFORM, Link, first_break, link_hash
from audit.models import AuditEvent, ComponentHeartbeat
from audit.selectors import chain_break, chain_links
from audit.services import insert_together, record, recorded_together


def links(count: int = 5) -> list[Link]:
    made: list[Link] = []
    previous = GENESIS
    for number in range(1, count + 1):
        content = {"number": number}
        made.append(Link(number, previous, link_hash(previous, content), content))
        previous = made[-1].hash
    return made


def test_an_unbroken_chain_has_no_break() -> None:
    assert first_break(links(), head_sequence=5, head_hash=links()[-1].hash) is None


@pytest.mark.parametrize(
    ("damage", "sequence"),
    [
        (lambda chain: [*chain[:2], chain[2]._replace(content={"number": 99}), *chain[3:]], 3),
        (lambda chain: [*chain[:2], *chain[3:]], 3),
        (lambda chain: [chain[1], chain[0], *chain[2:]], 1),
        (lambda chain: chain[:-1], 5),
    ],
    ids=["altered", "removed", "reordered", "cut off"],
)
def test_any_damage_is_found_where_it_is(damage: object, sequence: int) -> None:
    chain = links()
    found = first_break(damage(chain), head_sequence=5, head_hash=chain[-1].hash)  # type: ignore[operator]
    assert found is not None and found.sequence == sequence


@pytest.mark.django_db
def test_events_are_chained_per_account_and_verify() -> None:
    with transaction.atomic():
        for number in range(3):
            record(actor="alice", action="test", subject="x:1", account_id=7, parameters={"price": Decimal("0.10")})
            record(actor="alice", action="test", subject="y:1", after={"number": number, "ratio": 0.1})
    assert [link.sequence for link in chain_links("account:7")] == [1, 2, 3]
    assert chain_break("account:7") is None and chain_break(PLATFORM) is None


@pytest.mark.django_db
@pytest.mark.parametrize("statement", ["UPDATE audit_auditevent SET actor = 'mallory'", "DELETE FROM audit_auditevent"])
def test_the_database_refuses_to_change_or_delete_an_event(statement: str) -> None:
    with transaction.atomic():
        record(actor="alice", action="test", subject="x:1")
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)
    assert AuditEvent.objects.get().actor == "alice"


@pytest.mark.django_db
def test_the_database_refuses_to_truncate_the_trail() -> None:
    # The test database drops this one trigger so that it can be emptied; here it is as the migration makes it.
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TRIGGER audit_event_no_truncate BEFORE TRUNCATE ON audit_auditevent"
            " FOR EACH STATEMENT EXECUTE FUNCTION audit_event_is_append_only()"
        )
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("TRUNCATE audit_auditevent")


@pytest.mark.django_db(transaction=True)
def test_nothing_is_recorded_outside_a_transaction() -> None:
    with pytest.raises(ImproperlyConfigured, match="inside the transaction"):
        record(actor="alice", action="test", subject="x:1")
    assert not AuditEvent.objects.exists()


@pytest.mark.django_db
def test_what_is_recorded_together_is_appended_in_its_order_with_few_queries(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    with transaction.atomic():
        record(actor="alice", action="first", subject="x:1", account_id=7)
    with django_assert_num_queries(3), transaction.atomic(), recorded_together():
        for number in range(4):
            record(actor="alice", action=f"later {number}", subject="x:1", account_id=7)
    actions = AuditEvent.objects.filter(chain="account:7").order_by("sequence").values_list("action", flat=True)
    assert list(actions) == ["first", "later 0", "later 1", "later 2", "later 3"]
    assert chain_break("account:7") is None


@pytest.mark.django_db
@pytest.mark.parametrize("believed", [None, (99, "f" * 64)], ids=["a head not known", "a head that has moved on"])
def test_rows_are_written_once_with_their_events_whatever_head_was_believed(
    believed: tuple[int, str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with transaction.atomic():
        record(actor="alice", action="first", subject="x:1", account_id=7)
    monkeypatch.setattr(services, "_heads", {} if believed is None else {"account:7": believed})
    with transaction.atomic(), recorded_together():
        insert_together(ComponentHeartbeat(component="test", updated_at=timezone.now()))
        record(actor="alice", action="second", subject="x:1", account_id=7)
        assert not ComponentHeartbeat.objects.exists()
    assert ComponentHeartbeat.objects.get().component == "test"
    assert [link.sequence for link in chain_links("account:7")] == [1, 2] and chain_break("account:7") is None


@pytest.mark.django_db
def test_a_row_that_breaks_a_rule_takes_its_events_with_it() -> None:
    heartbeat = {"component": "test", "updated_at": timezone.now()}
    ComponentHeartbeat.objects.create(**heartbeat)
    with pytest.raises(IntegrityError), transaction.atomic(), recorded_together():
        insert_together(ComponentHeartbeat(**heartbeat))
        record(actor="alice", action="test", subject="x:1", account_id=7)
    with transaction.atomic():
        record(actor="alice", action="later", subject="x:1", account_id=7)
    assert [link.sequence for link in chain_links("account:7")] == [1] and chain_break("account:7") is None


@pytest.mark.django_db(transaction=True)
def test_what_is_rung_twice_in_a_transaction_is_rung_once_and_a_rolled_back_savepoint_silences_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rung: list[str] = []
    monkeypatch.setattr(bus.BUS, "ring", lambda group, message: rung.append(message["id"]))
    with transaction.atomic():
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            bus.account_changed(7, "order", 1)
            raise ZeroDivisionError
        for order in (1, 2, 1):
            bus.account_changed(7, "order", order)
    assert rung == ["1", "2"]


@pytest.mark.django_db(transaction=True)
def test_what_is_recorded_together_in_a_transaction_that_fails_is_not_on_the_trail() -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic(), recorded_together():
        record(actor="alice", action="first", subject="x:1")
        raise ZeroDivisionError
    with transaction.atomic():
        record(actor="alice", action="second", subject="x:1")
    assert AuditEvent.objects.get().action == "second" and chain_break(PLATFORM) is None
