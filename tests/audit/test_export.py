"""An export carries its own proof: whatever is changed in it, or in the trail before it was made, is found."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from hypothesis import given
from hypothesis import strategies as st

from audit import chain, tasks
from audit.chain import GENESIS, Head, link_hash
from audit.models import Alert, AuditChain, AuditEvent
from audit.offline_verifier import DamagedExport, export_line, verify
from audit.selectors import chain_heads, trail_breaks, unprotected
from audit.services import heads_note, record
from tests.processes import REPOSITORY

TABLE = AuditEvent._meta.db_table


def event(name: str, sequence: int, **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "chain": name,
        "sequence": sequence,
        "created_at": f"2026-01-01T00:00:{sequence:02d}.000000+00:00",
        "actor": "alice",
        "action": "order.intended",
        "subject": f"order:{sequence}",
        "reason": "a täst",
        "trace_id": f"trace-{sequence}",
        "parameters": {"price": "1.10", "legs": [1, None, {"a": True}]},
        "before": None,
        "after": {"state": "new"},
    }
    return values | changes


def chained(name: str, count: int, **changes: Any) -> list[dict[str, Any]]:
    rows, previous = [], GENESIS
    for sequence in range(1, count + 1):
        content = event(name, sequence, **changes)
        rows.append({**content, "previous_hash": previous, "hash": link_hash(previous, content)})
        previous = rows[-1]["hash"]
    return rows


def whole_export() -> list[dict[str, Any]]:
    """Two chains, as ``audit_export --all`` writes them; the header is the first row."""
    chains = [chained("platform", 4), chained("account:7", 6)]
    names = ("chain", "after", "after_hash", "sequence", "hash")
    sections = [dict(zip(names, (r[-1]["chain"], 0, GENESIS, len(r), r[-1]["hash"]), strict=True)) for r in chains]
    header = {"format": "ballast audit export", "version": 1, "made_at": "now", "scope": "all", "chains": sections}
    return [header, *chains[0], *chains[1]]


EXPORT = whole_export()


def broken(rows: list[dict[str, Any]], heads: tuple[Head, ...] = (), hashes: tuple[str, ...] = ()) -> list[str]:
    """What is wrong with an export of these rows."""
    try:
        return verify(BytesIO(b"".join(export_line(row) for row in rows)), heads, hashes).broken
    except DamagedExport as error:
        return [str(error)]


def test_a_whole_export_is_unbroken() -> None:
    assert broken(EXPORT) == []


numbers = st.integers(1, len(EXPORT) - 1)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@given(numbers, st.sampled_from(sorted(EXPORT[1])), json_values)
def test_any_changed_field_is_found(number: int, name: str, value: Any) -> None:
    was = EXPORT[number][name]
    if json.dumps(value, sort_keys=True) == json.dumps(was, sort_keys=True):
        return
    assert broken([*EXPORT[:number], EXPORT[number] | {name: value}, *EXPORT[number + 1 :]])


@given(numbers, st.sampled_from(sorted(EXPORT[1])))
def test_any_missing_field_is_found(number: int, name: str) -> None:
    row = {key: value for key, value in EXPORT[number].items() if key != name}
    assert broken([*EXPORT[:number], row, *EXPORT[number + 1 :]])


@given(numbers, st.text(min_size=1, max_size=8), json_values)
def test_any_added_field_is_found(number: int, name: str, value: Any) -> None:
    if name not in EXPORT[number]:
        assert broken([*EXPORT[:number], EXPORT[number] | {name: value}, *EXPORT[number + 1 :]])


@given(st.integers(0, len(EXPORT) - 1))
def test_any_removed_row_is_found_the_last_one_too(number: int) -> None:
    assert broken([*EXPORT[:number], *EXPORT[number + 1 :]])


@given(numbers, numbers)
def test_any_two_rows_that_change_places_are_found(one: int, other: int) -> None:
    rows = list(EXPORT)
    rows[one], rows[other] = rows[other], rows[one]
    assert bool(broken(rows)) == (one != other)


@given(numbers, st.integers(1, len(EXPORT)))
def test_any_row_that_is_there_twice_is_found(number: int, place: int) -> None:
    assert broken([*EXPORT[:place], EXPORT[number], *EXPORT[place:]])


@given(st.integers(1, len(EXPORT)), numbers, st.booleans())
def test_any_inserted_row_is_found_however_well_it_is_made(place: int, like: int, well_made: bool) -> None:
    fresh = event(EXPORT[like]["chain"], EXPORT[like]["sequence"], actor="mallory")
    previous = EXPORT[like]["previous_hash"]
    own = link_hash(previous, fresh) if well_made else EXPORT[like]["hash"]
    assert broken([*EXPORT[:place], {**fresh, "previous_hash": previous, "hash": own}, *EXPORT[place:]])


@given(numbers, st.data())
def test_any_changed_byte_is_found(number: int, data: st.DataObject) -> None:
    line = export_line(EXPORT[number])
    at = data.draw(st.integers(0, len(line) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != line[at]))
    lines = [export_line(row) for row in EXPORT]
    lines[number] = line[:at] + bytes([byte]) + line[at + 1 :]
    try:
        assert verify(BytesIO(b"".join(lines))).broken
    except DamagedExport as damage:
        assert "line" in str(damage)


def test_the_first_bad_row_is_named() -> None:
    rows = [*EXPORT[:7], EXPORT[7] | {"actor": "mallory"}, *EXPORT[8:]]
    assert broken(rows) == ["account:7: BROKEN at event 3: the content does not match its hash"]
    assert broken(EXPORT[:-1]) == ["account:7: BROKEN at event 6: the chain ends at 5; its head says 6"]


def test_a_chain_that_was_written_anew_is_whole_and_only_a_head_noted_before_tells() -> None:
    honest = [Head("account:7", 4, EXPORT[8]["hash"]), Head("platform", 4, EXPORT[4]["hash"])]
    forged = chained("account:7", 6, actor="mallory")
    header = EXPORT[0] | {"chains": [EXPORT[0]["chains"][0], EXPORT[0]["chains"][1] | {"hash": forged[-1]["hash"]}]}
    rows = [header, *EXPORT[1:5], *forged]
    assert broken(rows) == []
    (found,) = broken(rows, tuple(honest))
    assert found.startswith("account:7: BROKEN at event 4") and "written anew" in found
    assert len(broken(rows, hashes=(EXPORT[8]["hash"],))) == 1
    assert broken(EXPORT, tuple(honest), (EXPORT[8]["hash"],)) == []


def test_a_chain_that_was_cut_off_and_its_head_set_back_is_found_by_a_head_noted_before() -> None:
    header = EXPORT[0] | {"chains": [EXPORT[0]["chains"][0], EXPORT[0]["chains"][1] | {"sequence": 5}]}
    header["chains"][1]["hash"] = EXPORT[9]["hash"]
    rows = [header, *EXPORT[1:-1]]
    assert broken(rows) == []
    (found,) = broken(rows, (Head("account:7", 6, EXPORT[10]["hash"]),))
    assert "it had 6 events when its head was noted" in found


def test_a_whole_chain_that_is_left_out_is_found_by_the_platforms_own_notes() -> None:
    head = Head("account:7", 6, EXPORT[10]["hash"])
    content = event("platform", 5, action=chain.HEADS_NOTED, parameters={"heads": [str(head)]})
    previous = EXPORT[4]["hash"]
    note = {**content, "previous_hash": previous, "hash": link_hash(previous, content)}
    platform = EXPORT[0]["chains"][0] | {"sequence": 5, "hash": note["hash"]}
    assert broken([EXPORT[0] | {"chains": [platform]}, *EXPORT[1:5], note]) == [
        "account:7: BROKEN: a head of it was noted, and the file does not hold it"
    ]


# The real thing.


@pytest.fixture
def trail(settings: Any, tmp_path: Path, db: None) -> Iterator[Path]:
    """A trail of three chains, with the trigger that the test database otherwise lacks; the folder for files."""
    settings.AUDIT_HEADS_FILE = tmp_path / "audit-heads.txt"
    with connection.cursor() as cursor:
        cursor.execute(
            f"CREATE TRIGGER audit_event_no_truncate BEFORE TRUNCATE ON {TABLE}"
            " FOR EACH STATEMENT EXECUTE FUNCTION audit_event_is_append_only();"
            f" ALTER TABLE {TABLE} ENABLE ALWAYS TRIGGER audit_event_no_truncate"
        )
    for number in range(5):
        with transaction.atomic():
            record(actor="alice", action="test", subject=f"x:{number}", after={"ratio": 0.1, "text": 'ü "\n\x7f'})
            record(actor="alice", action="test", subject=f"x:{number}", account_id=7, trace_id="t")
            record(actor="bob", action="test", subject=f"x:{number}", account_id=8)
    yield tmp_path


def forge(statement: str, *values: Any) -> None:
    """What a superuser of the database may do."""
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {TABLE} DISABLE TRIGGER ALL; {statement}", values)
        cursor.execute(f"ALTER TABLE {TABLE} ENABLE ALWAYS TRIGGER audit_event_no_change")


def offline(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """The verifier as an auditor has it: two files, no packages."""
    folder = Path(words[0]).parent / "auditor"
    folder.mkdir(exist_ok=True)
    for name in ("offline_verifier.py", "chain.py"):
        shutil.copy(REPOSITORY / "audit" / name, folder)
    command = [sys.executable, "-S", "-E", str(folder / "offline_verifier.py"), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd="/", check=False)


def test_an_export_is_verified_without_the_project(trail: Path) -> None:
    call_command("audit_export", trail / "all.jsonl.gz", all=True)
    call_command("audit_export", trail / "seven.jsonl", account=7)
    heads = {head.chain: head for head in chain_heads()}
    whole = offline(trail / "all.jsonl.gz", "--head", str(heads["account:8"]), "--head", heads["platform"].hash)
    assert (whole.returncode, whole.stderr) == (0, "") and whole.stdout.count("5 events unbroken") == 3
    assert offline(trail / "seven.jsonl").returncode == 0
    text = (trail / "seven.jsonl").read_text("utf-8")
    (trail / "forged.jsonl").write_text(text.replace('"subject":"x:2"', '"subject":"x:9"'), "utf-8")
    found = offline(trail / "forged.jsonl")
    assert found.returncode == 1 and "account:7: BROKEN at event 3" in found.stdout
    packed = (trail / "all.jsonl.gz").read_bytes()
    (trail / "cut.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    assert offline(trail / "cut.jsonl.gz").returncode == 1
    assert offline(trail / "nothing.jsonl").returncode == 2
    assert offline(trail / "all.jsonl.gz", "--head", "platform:5").returncode == 2


def test_a_second_key_of_the_same_name_cannot_hide_another_text(trail: Path) -> None:
    call_command("audit_export", trail / "all.jsonl", all=True)
    text = (trail / "all.jsonl").read_text("utf-8")
    (trail / "all.jsonl").write_text(text.replace('"actor":"bob"', '"actor":"eve","actor":"bob"', 1), "utf-8")
    found = offline(trail / "all.jsonl")
    assert found.returncode == 1 and "line" in found.stdout


def test_an_export_since_a_moment_begins_there(trail: Path) -> None:
    third = AuditEvent.objects.get(chain="account:7", sequence=3)
    call_command("audit_export", trail / "some.jsonl", account=7, since=third.created_at.isoformat())
    found = offline(trail / "some.jsonl", "--head", f"account:7#2={third.previous_hash}")
    assert found.returncode == 0 and "3 events unbroken (events 1 to 2 are not in this file)" in found.stdout
    assert offline(trail / "some.jsonl", "--head", f"account:7#2={'0' * 64}").returncode == 1
    call_command("audit_export", trail / "none.jsonl", account=7, since="2999-01-01")
    assert "0 events unbroken" in offline(trail / "none.jsonl").stdout


def test_numbers_that_the_faster_library_cannot_spell_verify_too(trail: Path) -> None:
    with transaction.atomic():
        record(
            actor="alice",
            action="test",
            subject="x:9",
            account_id=7,
            parameters={"big": 2**70, "ü\u2028": "\x1f\x7f😀"},
        )
    call_command("audit_verify")
    call_command("audit_export", trail / "big.jsonl", account=7)
    assert offline(trail / "big.jsonl").returncode == 0


def test_an_export_of_nothing_and_a_time_that_is_none_are_refused(trail: Path) -> None:
    with pytest.raises(CommandError, match="nothing was ever recorded on the chain account:99"):
        call_command("audit_export", trail / "x.jsonl", account=99)
    with pytest.raises(CommandError, match="expected a time"):
        call_command("audit_export", trail / "x.jsonl", all=True, since="yesterday")
    assert not (trail / "x.jsonl").exists()


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        (f"UPDATE {TABLE} SET actor = 'mallory' WHERE chain = 'account:7' AND sequence = 2", "broken at event 2"),
        (f"DELETE FROM {TABLE} WHERE chain = 'account:7' AND sequence = 1", "broken at event 1"),
        (f"DELETE FROM {TABLE} WHERE chain = 'account:7' AND sequence = 5", "broken at event 5"),
        (f"DELETE FROM {TABLE} WHERE chain = 'account:7'", "broken at event 1"),
        ("DELETE FROM audit_auditchain WHERE name = 'account:7'", "account:7: broken at event 1"),
    ],
    ids=["altered", "first removed", "last removed", "all removed", "head removed"],
)
def test_audit_verify_names_what_a_superuser_changed(
    trail: Path, capsys: pytest.CaptureFixture[str], statement: str, found: str
) -> None:
    call_command("audit_verify")
    forge(statement)
    with pytest.raises(CommandError):
        call_command("audit_verify")
    assert found in capsys.readouterr().out


def write_anew(name: str, upto: int) -> None:
    """Everything a superuser can do: the chain rewritten from its first event, cut, its head set, triggers back on."""
    rows = list(AuditEvent.objects.filter(chain=name).order_by("sequence"))
    previous = GENESIS
    for row in rows[:upto]:
        row.actor, row.previous_hash = "mallory", previous
        content = {key: getattr(row, key) for key in EXPORT[1] if key not in ("previous_hash", "hash")}
        content["created_at"] = row.created_at.astimezone(UTC).isoformat(timespec="microseconds")
        previous = link_hash(previous, content)
        forge(
            f"UPDATE {TABLE} SET actor='mallory', previous_hash=%s, hash=%s WHERE id=%s",
            row.previous_hash,
            previous,
            row.pk,
        )
    forge(f"DELETE FROM {TABLE} WHERE chain = %s AND sequence > %s", name, upto)
    AuditChain.objects.filter(name=name).update(sequence=upto, hash=previous)
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {TABLE} ENABLE ALWAYS TRIGGER audit_event_no_truncate")


@pytest.mark.parametrize("upto", [5, 3], ids=["rewritten", "rewritten and cut off"])
def test_a_chain_written_anew_by_a_superuser_is_found_by_the_platforms_notes(trail: Path, upto: int) -> None:
    heads_note()
    assert not any(trail_breaks().values())
    write_anew("account:7", upto)
    found = trail_breaks()
    assert found["account:7"] is not None and found["platform"] is found["account:8"] is None


def test_a_platform_chain_written_anew_is_found_by_the_head_that_the_worker_kept(trail: Path) -> None:
    tasks.note_heads()
    assert tasks.verify_chains() == {}
    write_anew("platform", 6)
    assert "written anew" in tasks.verify_chains()["platform"]
    alert = Alert.objects.get(kind="audit_trail_broken")
    assert alert.level == "critical" and "platform" in alert.message
    django_settings.AUDIT_HEADS_FILE.unlink()
    assert tasks.verify_chains() == {}  # nothing but that file knew


def test_a_head_given_by_hand_is_compared(trail: Path) -> None:
    (head,) = [each for each in chain_heads() if each.chain == "account:8"]
    call_command("audit_verify", head=[str(head)])
    write_anew("account:8", 4)
    with pytest.raises(CommandError):
        call_command("audit_verify", head=[str(head)])
    with pytest.raises(CommandError, match="is no head"):
        call_command("audit_verify", head=["account:8"])


@pytest.mark.parametrize(
    "how", ["DISABLE TRIGGER audit_event_no_change", "ENABLE REPLICA TRIGGER audit_event_no_change"]
)
def test_a_trigger_that_was_switched_off_is_told(trail: Path, capsys: pytest.CaptureFixture[str], how: str) -> None:
    assert unprotected() == []
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {TABLE} {how}")
    with pytest.raises(CommandError, match="does not protect"):
        call_command("audit_verify")
    assert "audit_event_no_change is disabled" in capsys.readouterr().out
    assert "database" in tasks.verify_chains()


def test_a_session_that_calls_itself_a_replica_does_not_pass_the_trigger(trail: Path) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        with pytest.raises(Exception, match="append-only"), transaction.atomic():
            cursor.execute(f"UPDATE {TABLE} SET actor = 'mallory'")
        cursor.execute("SET LOCAL session_replication_role = DEFAULT")
