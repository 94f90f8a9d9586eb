"""Dead letters: nothing that could not be handled is lost, and a replay goes through the code that failed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from celery import shared_task
from django.test import Client
from django.urls import reverse

from audit import services
from audit.dead_letters import DeadLetterQueue, LetterGone
from audit.models import AuditEvent
from audit.services import dead_letters
from platform_site.celery import application
from platform_site.supervisor.ports import free_port
from tests import builders
from tests.api.conftest import Cast
from tests.trading.resilience.own_valkey import OwnValkey
from trading.models import Fill
from trading.report_text import reports_as_text, reports_from_text
from trading.reports import PositionReport, WalletReport
from trading.runtime.dead_letters import NotReplayed, letter_replay

D = Decimal
URL = "/api/v1/dlq/"
EXECUTION = {
    "category": "linear",
    "symbol": "BTCUSDT",
    "side": "Buy",
    "execId": "execution-9",
    "orderId": "venue-9",
    "execPrice": "60000",
    "execQty": "0.01",
    "execTime": "1795000000000",
}


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[OwnValkey]:
    server = OwnValkey(tmp_path)
    yield server
    server.kill()


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[DeadLetterQueue]:
    """The deployment's queue, empty."""
    monkeypatch.setattr(services.settings, "REDIS_PREFIX", f"test-{tmp_path.name}")
    monkeypatch.setattr(services.settings, "DATA_DIR", tmp_path)
    services._queue.cache_clear()
    yield dead_letters()
    services._queue.cache_clear()


def put(queue: DeadLetterQueue, kind: str = "private_frame", **changes: Any) -> str:
    values: dict[str, Any] = {"error": "it broke", "payload": "{}"}
    queue.put(kind, **(values | changes))
    return queue.newest(limit=1)[0].identifier


def frame(**changes: Any) -> str:
    return json.dumps({"topic": "execution", "data": [EXECUTION | changes]})


def test_a_letter_keeps_what_it_was_where_it_came_from_and_why_it_broke(queue: DeadLetterQueue) -> None:
    put(queue, payload='{"ü": 1}', context={"account": 7}, trace_id="trace-1")
    (letter,) = queue.newest()
    assert (letter.kind, letter.error, letter.payload) == ("private_frame", "it broke", '{"ü": 1}')
    assert (letter.context, letter.trace_id) == ({"account": 7}, "trace-1") and letter.at > 1.7e9


def test_letters_are_listed_newest_first_by_kind_and_page_by_page(queue: DeadLetterQueue) -> None:
    identifiers = [put(queue, "task" if number % 2 else "reports", payload=str(number)) for number in range(6)]
    assert [letter.payload for letter in queue.newest()] == ["5", "4", "3", "2", "1", "0"]
    assert [letter.payload for letter in queue.newest(limit=2, before=identifiers[4])] == ["3", "2"]
    assert [letter.payload for letter in queue.newest(kind="task")] == ["5", "3", "1"]
    assert queue.count() == 6


def test_the_same_trouble_again_is_one_letter_and_another_one_is_another(queue: DeadLetterQueue) -> None:
    for same in ("a", "a", "b", "a", "", ""):
        queue.put("task", error="it broke", payload="", same=same)
    assert queue.count() == 4


def test_while_valkey_is_away_letters_wait_in_a_file_and_all_of_them_arrive_once(
    own_valkey: OwnValkey, tmp_path: Path
) -> None:
    file = tmp_path / "waiting.jsonl"
    queue = DeadLetterQueue(own_valkey.url, "test", file)
    queue.put("task", error="before", payload="0")
    own_valkey.kill()
    for number in range(1, 4):
        queue.put("task", error="meanwhile", payload=str(number))
    assert queue.waiting() == 3
    # As after a crash between the last letter's arrival and the end of the file.
    kept = file.read_bytes()
    own_valkey.start_again()
    queue.put("task", error="after", payload="4")
    assert queue.waiting() == 0 and not file.exists()
    file.write_bytes(kept + b'{"kind": "cut off by a cra')
    queue.drain()
    assert sorted(letter.payload for letter in queue.newest()) == ["0", "1", "2", "3", "4"]


def test_putting_a_letter_never_raises_even_when_nothing_works(tmp_path: Path) -> None:
    blocked = tmp_path / "a file"
    blocked.write_text("where a folder should be")
    queue = DeadLetterQueue(f"redis://127.0.0.1:{free_port()}/0", "test", blocked / "waiting.jsonl")
    queue.put("task", error="it broke", payload="")


def test_reports_survive_their_way_through_text_exactly() -> None:
    reports = [
        builders.fill_report(price=D("60000.10"), payload={"execId": "x"}),
        builders.order_report(average_price=D("1E-12")),
        PositionReport("BTCUSDT", "Buy", D("0.3"), D(60_000), D(10), None, D("55000.5"), None, None, 5),
        WalletReport(D(1), D(2), D("3.000"), D(4), D(5)),
    ]
    again = reports_from_text(reports_as_text(reports))
    assert again == reports and [str(D) for D in [again[3].available_balance]] == ["3.000"]  # type: ignore[union-attr]
    for text in ("{", "[1]", '[{"type": "Nothing"}]', '[{"type": "WalletReport", "equity": "x"}]'):
        with pytest.raises(ValueError, match="not reports"):
            reports_from_text(text)


@pytest.mark.django_db
def test_a_frame_that_is_replayed_is_booked_once_however_often_it_is_replayed(
    queue: DeadLetterQueue, cast: Cast
) -> None:
    for _ in range(2):
        identifier = put(queue, payload=frame(), context={"account": cast.alices.pk})
        letter_replay(identifier=identifier, actor="root")
    assert Fill.objects.get().execution_id == "execution-9"
    assert queue.count() == 0
    events = AuditEvent.objects.filter(action="dead_letter.replayed", chain=f"account:{cast.alices.pk}")
    assert [event.actor for event in events] == ["root", "root"]


@pytest.mark.django_db
def test_reports_that_could_not_be_booked_are_booked_by_a_replay(queue: DeadLetterQueue, cast: Cast) -> None:
    text = reports_as_text([builders.fill_report(execution_id="late")])
    letter_replay(identifier=put(queue, "reports", payload=text, context={"account": cast.alices.pk}), actor="root")
    assert Fill.objects.get().execution_id == "late"


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("kind", "payload", "reason"),
    [
        ("private_frame", frame(execPrice="many"), "execPrice is 'many'"),
        ("private_frame", "{broken", "unreadable private frame"),
        ("reports", "[1]", "not reports"),
        ("task", '{"name": "no.such.task", "args": [], "kwargs": {}}', "no task no.such.task"),
        ("engine_command", '{"command": "fly", "id": "1"}', "no command"),
        ("browser_command", "{}", "cannot be replayed"),
    ],
)
def test_a_letter_that_fails_again_stays_and_says_why(
    queue: DeadLetterQueue, cast: Cast, kind: str, payload: str, reason: str
) -> None:
    identifier = put(queue, kind, payload=payload, context={"account": cast.alices.pk})
    with pytest.raises(NotReplayed, match=reason):
        letter_replay(identifier=identifier, actor="root")
    assert queue.count() == 1 and not AuditEvent.objects.filter(action="dead_letter.replayed").exists()


@pytest.mark.django_db
def test_a_letter_of_an_account_that_is_gone_is_not_booked_anywhere(queue: DeadLetterQueue) -> None:
    with pytest.raises(NotReplayed, match="not known"):
        letter_replay(identifier=put(queue, payload=frame(), context={"account": 10**9}), actor="root")


def test_a_task_that_fails_is_a_letter_and_a_scheduled_one_is_one_letter_however_often_it_fails(
    queue: DeadLetterQueue,
) -> None:
    @shared_task(name="tests.breaks")
    def breaks(*numbers: int) -> None:
        raise RuntimeError("not today")

    task = application.tasks["tests.breaks"]
    for arguments in ((), (), (1,), (1,)):
        task.apply(args=arguments)
    letters = queue.newest(kind="task")
    assert [json.loads(letter.payload)["args"] for letter in letters] == [[1], [1], []]
    assert letters[0].error == "RuntimeError: not today" and letters[0].trace_id
    del application.tasks["tests.breaks"]


@pytest.mark.django_db
def test_only_staff_read_replay_and_discard(queue: DeadLetterQueue, cast: Cast) -> None:
    first = put(queue, payload=frame(), context={"account": cast.alices.pk})
    second = put(queue, payload="secret of alice")
    staff = cast.client(builders.user("staff", is_staff=True))
    for user in (cast.alice, cast.bob, cast.charlie, None):
        client = cast.client(user)
        answers = [client.get(URL), client.get(f"{URL}{first}/"), client.delete(f"{URL}{first}/")]
        answers.append(client.post(f"{URL}{first}/replay"))
        assert {answer.status_code for answer in answers} == {403}
        assert "secret" not in "".join(answer.content.decode() for answer in answers)
    listed = staff.get(URL).json()
    assert (listed["count"], [row["id"] for row in listed["results"]]) == (2, [second, first])
    assert staff.get(f"{URL}{second}/").json()["payload"] == "secret of alice"
    assert staff.post(f"{URL}{first}/replay").status_code == 200 and Fill.objects.count() == 1
    failed = staff.post(f"{URL}{second}/replay")
    assert failed.status_code == 409 and "not known" in failed.json()["error"]["message"]
    assert staff.delete(f"{URL}{second}").status_code == 204
    assert staff.delete(f"{URL}{second}").status_code == 404
    assert AuditEvent.objects.get(action="dead_letter.discarded").parameters["payload"] == "secret of alice"


@pytest.mark.django_db
@pytest.mark.parametrize(("name", "value"), [("limit", "0"), ("limit", "x"), ("before", "now")])
def test_a_question_that_makes_no_sense_is_refused_by_field(
    queue: DeadLetterQueue, cast: Cast, name: str, value: str
) -> None:
    staff = cast.client(builders.user("staff", is_staff=True))
    answer = staff.get(URL, {name: value})
    assert answer.status_code == 400
    assert [each["field"] for each in answer.json()["error"]["fields"]] == [name]


@pytest.mark.django_db
def test_while_valkey_is_away_the_api_says_so(
    queue: DeadLetterQueue, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    staff = builders.user("staff", is_staff=True)
    monkeypatch.setattr(services.settings, "REDIS_URL", f"redis://127.0.0.1:{free_port()}/0")
    answer = cast.client(staff).get(URL)
    assert answer.status_code == 503 and "Valkey" in answer.json()["error"]["message"]
    page = Client()
    page.force_login(staff)
    assert b"Valkey is away" in page.get(reverse("dead-letters")).content


@pytest.mark.django_db
def test_the_admin_page_lists_shows_replays_and_discards(queue: DeadLetterQueue, cast: Cast) -> None:
    first = put(queue, payload=frame(), context={"account": cast.alices.pk})
    second = put(queue, payload="<script>alert(1)</script>")
    stranger, staff = Client(), Client()
    stranger.force_login(cast.alice)
    staff.force_login(builders.user("staff", is_staff=True))
    url = reverse("dead-letters")
    assert stranger.get(url).status_code == 302
    stranger.post(url, {"action": "discard", "letter": first})
    assert queue.count() == 2
    page = staff.get(url, {"letter": second}).content.decode()
    assert first in page and "<script>alert(1)" not in page and "&lt;script&gt;" in page
    staff.post(url, {"action": "replay", "letter": first})
    assert Fill.objects.count() == 1
    shown = staff.post(url, {"action": "replay", "letter": second}, follow=True).content.decode()
    assert "not known" in shown
    staff.post(url, {"action": "discard", "letter": second})
    with pytest.raises(LetterGone):
        queue.get(second)
    assert "Choose a letter" in staff.post(url, {"action": "fly", "letter": "x"}, follow=True).content.decode()
