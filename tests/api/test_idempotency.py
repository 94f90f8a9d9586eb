"""A request under an Idempotency-Key happens once, whoever repeats it, at once or after a death half-way."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import connection, connections
from django.utils import timezone
from rest_framework.test import APIClient

from audit.models import AuditEvent
from tests import builders
from tests.api.conftest import Cast
from tests.processes import until
from trading.api import orders as endpoint
from trading.models import IdempotencyKey, KillSwitch, Order
from trading.services import idempotency
from trading.services.orders import order_place
from trading.tasks import prune_idempotency_keys

PATH = "/api/v1/trading/order"
ORDER = {"symbol": "BTCUSDT", "side": "Buy", "order_type": "Limit", "quantity": "0.01", "price": "60000.0"}


def post(client: APIClient, key: str | None = "key-1", path: str = PATH, **changes: Any) -> Any:
    headers = {} if key is None else {"Idempotency-Key": key}
    return client.post(path, ORDER | changes if path == PATH else changes, format="json", headers=headers)


@pytest.mark.django_db
def test_the_same_request_again_has_the_first_answer_and_changes_nothing(cast: Cast) -> None:
    client = cast.client(cast.alice)
    first, again = post(client), post(client)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content and Order.objects.count() == 1
    assert "Idempotent-Replayed" not in first and again["Idempotent-Replayed"] == "true"
    assert post(client, key="key-2").json()["id"] != first.json()["id"]
    assert post(client, key=None).status_code == 201 and Order.objects.count() == 3


@pytest.mark.django_db
def test_another_request_under_the_key_is_refused_in_words(cast: Cast) -> None:
    client = cast.client(cast.alice)
    order = post(client).json()
    other = post(client, quantity="0.02")
    assert other.status_code == 422 and "belongs to another request" in other.json()["error"]["message"]
    cancel = client.delete(f"{PATH}/{order['id']}", headers={"Idempotency-Key": "key-1"})
    assert cancel.status_code == 422 and Order.objects.get().state == "new"


@pytest.mark.django_db
def test_users_have_keys_of_their_own(cast: Cast) -> None:
    alices, bobs = post(cast.client(cast.alice)), post(cast.client(cast.bob))
    assert "Idempotent-Replayed" not in bobs
    assert (alices.json()["account"], bobs.json()["account"]) == (cast.alices.pk, cast.bobs.pk)


@pytest.mark.django_db
@pytest.mark.parametrize("key", ["", " ", "two words", "é", "x" * 256, "tab\t"])
def test_a_key_that_is_none_is_refused(cast: Cast, key: str) -> None:
    answer = post(cast.client(cast.alice), key=key)
    assert answer.status_code == 400
    assert answer.json()["error"]["fields"][0]["field"] == "Idempotency-Key"
    assert not Order.objects.exists()


@pytest.mark.django_db
def test_a_refusal_is_an_answer_too_and_is_told_once(cast: Cast) -> None:
    client = cast.client(cast.alice)
    first, again = post(client, quantity="0.0105"), post(client, quantity="0.0105")
    assert (first.status_code, again.status_code) == (400, 400)
    assert again.json() == first.json() and again["Idempotent-Replayed"] == "true"
    assert AuditEvent.objects.filter(action="request.refused").count() == 1


@pytest.mark.django_db
def test_a_mistake_of_ours_is_no_answer_and_the_next_one_is_the_first(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = cast.client(cast.alice)
    client.raise_request_exception = False

    def dies_after_the_order(**values: Any) -> Order:
        order_place(**values)
        raise RuntimeError("the process dies here")

    with monkeypatch.context() as broken:
        broken.setattr(endpoint, "order_place", dies_after_the_order)
        assert post(client).status_code == 500
    assert not Order.objects.exists() and not IdempotencyKey.objects.exists()
    answer = post(client)
    assert answer.status_code == 201 and "Idempotent-Replayed" not in answer
    assert Order.objects.count() == 1


@pytest.mark.django_db
def test_an_answer_is_kept_for_a_day(cast: Cast) -> None:
    client = cast.client(cast.alice)
    for key in ("old", "young"):
        post(client, key=key)
    IdempotencyKey.objects.filter(key="old").update(created_at=timezone.now() - timedelta(hours=25))
    assert "Idempotent-Replayed" not in post(client, key="old") and Order.objects.count() == 3
    IdempotencyKey.objects.filter(key="old").update(created_at=timezone.now() - timedelta(hours=25))
    assert prune_idempotency_keys() == 1
    assert IdempotencyKey.objects.get().key == "young"


@pytest.mark.django_db
def test_the_kill_switch_and_cancels_take_keys_too(cast: Cast) -> None:
    client = cast.client(cast.alice)
    wish = {"account": cast.alices.pk, "reason": "enough"}
    engaged = [post(client, path="/api/v1/kill-switch/engage", **wish) for _ in range(2)]
    assert engaged[0].content == engaged[1].content and KillSwitch.objects.count() == 1
    KillSwitch.objects.all().delete()
    order = post(client, key="order").json()
    ended = [client.delete(f"{PATH}/{order['id']}", headers={"Idempotency-Key": "cancel"}) for _ in range(2)]
    assert [answer.status_code for answer in ended] == [202, 202]


# With connections of their own, as other processes have them.


@pytest.fixture
def alices_client(transactional_db: None) -> Callable[[], APIClient]:
    builders.list_instruments()
    builders.account(builders.user("alice"))

    def client() -> APIClient:
        made = APIClient()
        made.force_authenticate(get_user_model().objects.get(username="alice"))
        return made

    return client


def elsewhere(work: Callable[[], Any]) -> Any:
    try:
        return work()
    finally:
        connections.close_all()


@pytest.mark.django_db(transaction=True)
def test_many_at_once_are_one(alices_client: Callable[[], APIClient]) -> None:
    with ThreadPoolExecutor(8) as pool:
        work = [pool.submit(elsewhere, lambda: post(alices_client())) for _ in range(8)]
        answers = [each.result(timeout=60) for each in work]
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1 and Order.objects.count() == 1
    assert [answer.get("Idempotent-Replayed") for answer in answers].count("true") == 7


class Slow:
    """An order's endpoint that stops between the order and its commit until it is told to go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.placed, self.go_on = threading.Event(), threading.Event()
        self.backend = 0
        monkeypatch.setattr(endpoint, "order_place", self.place)

    def place(self, **values: Any) -> Order:
        order = order_place(**values)
        if not self.placed.is_set():
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_backend_pid()")
                self.backend = cursor.fetchone()[0]
            self.placed.set()
            assert self.go_on.wait(60)
        return order


def alive(backend: int) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE pid = %s", [backend])
        return bool(cursor.fetchone()[0])


@pytest.mark.django_db(transaction=True)
def test_one_that_waits_too_long_is_told_to_come_back(
    alices_client: Callable[[], APIClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow(monkeypatch)
    monkeypatch.setattr(idempotency, "WAIT_SECONDS", 0.3)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(elsewhere, lambda: post(alices_client()))
        try:
            assert slow.placed.wait(60)
            early = post(alices_client())
        finally:
            slow.go_on.set()
        assert first.result(timeout=60).status_code == 201
    assert early.status_code == 409 and early["Retry-After"] == "1"
    assert "still at work" in early.json()["error"]["message"]
    assert post(alices_client())["Idempotent-Replayed"] == "true" and Order.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_first_attempt_that_died_half_way_leaves_nothing_and_the_second_places_the_order(
    alices_client: Callable[[], APIClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow(monkeypatch)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(elsewhere, lambda: post(alices_client()))
        try:
            assert slow.placed.wait(60)
            with connection.cursor() as cursor:  # what becomes of the connection of a process that is killed
                cursor.execute("SELECT pg_terminate_backend(%s)", [slow.backend])
            until(lambda: not alive(slow.backend))
            second = post(alices_client())
        finally:
            slow.go_on.set()
        with pytest.raises(Exception, match=r"terminat|closed"):
            first.result(timeout=60)
    assert second.status_code == 201 and "Idempotent-Replayed" not in second
    assert Order.objects.count() == 1 and IdempotencyKey.objects.count() == 1
