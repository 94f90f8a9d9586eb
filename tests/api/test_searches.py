"""Searches over the API: asked for, followed, read, stopped, gone on with; nobody else's; nonsense is named."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest

from tests import builders
from tests.api.conftest import Cast
from tests.api.test_hostile_input import NUMBERS, SURROGATE, assert_refused, silent
from trading.models import Search
from trading.runtime import backtest_run

pytestmark = pytest.mark.django_db
PATH = "/api/v1/searches"


@pytest.fixture(autouse=True)
def no_pulse(monkeypatch: pytest.MonkeyPatch) -> None:
    # Its thread would not see what the test's transaction holds.
    monkeypatch.setattr(backtest_run, "PULSE_SECONDS", 600.0)


def test_a_search_is_asked_for_and_waits(cast: Cast) -> None:
    client = cast.client(cast.alice)
    answer = client.post(PATH, builders.search_request(name="how fast"), format="json")
    assert answer.status_code == 201, answer.json()
    found = client.get(f"{PATH}/{answer.json()['id']}").json()
    assert (found["state"], found["name"], found["done"], found["total"]) == ("queued", "how fast", 0, 20)
    assert (found["strategy"], found["symbols"], found["figures"]) == ("supertrend", ["BTCUSDT"], None)
    assert found["request"]["walk_forward"] is None and found["request"]["objective"] == "sharpe"


def test_the_same_request_under_one_key_is_one_search(cast: Cast) -> None:
    for _ in range(2):
        headers = {"Idempotency-Key": "one"}
        answer = cast.client(cast.alice).post(PATH, builders.search_request(), format="json", headers=headers)
        assert answer.status_code == 201
    assert Search.objects.count() == 1


def test_the_best_never_goes_without_what_it_is_worth(cast: Cast) -> None:
    walk = {"splits": 2, "train_days": 6}
    search, client = builders.search(cast.alice, folds=2, trials=12, walk_forward=walk), cast.client(cast.alice)
    (line,) = client.get(f"{PATH}?state=done").json()["results"]
    assert set(line["figures"]) == {"value", "parameters", "deflated_sharpe", "overfitting", "walk_forward_return"}
    found = client.get(f"{PATH}/{search.pk}").json()["summary"]
    assert found["verdict"] and found["best"]["statistics"]["trades"] == 40
    assert len(found["walk_forward"]["splits"]) == 2


def test_trials_are_read_in_pages_sorted_and_as_a_file(cast: Cast) -> None:
    search, client = builders.search(cast.alice, folds=2, trials=15), cast.client(cast.alice)
    found = client.get(f"{PATH}/{search.pk}/trials?sort=-value&limit=5").json()
    values = [row["value"] for row in found["results"]]
    assert found["count"] == 15 and values == sorted(values, reverse=True)
    assert found["results"][0]["parameters"] == search.summary["best"]["parameters"]
    pruned = client.get(f"{PATH}/{search.pk}/trials?outcome=pruned").json()
    assert pruned["count"] == search.summary["outcomes"].get("pruned", 0)
    assert client.get(f"{PATH}/{search.pk}/trials?training=1").json()["count"] == 0
    table = list(csv.DictReader(io.StringIO(client.get(f"{PATH}/{search.pk}/trials.csv").content.decode())))
    assert [int(row["number"]) for row in table] == list(range(15)) and 5 <= int(table[0]["period"]) <= 30


def test_one_is_stopped_gone_on_with_and_deleted(cast: Cast) -> None:
    search, client = builders.search(cast.alice, done=False), cast.client(cast.alice)
    assert_refused(client.delete(f"{PATH}/{search.pk}"))
    assert client.post(f"{PATH}/{search.pk}/stop").json()["state"] == "stopped"
    answer = client.post(f"{PATH}/{search.pk}/stop")
    assert answer.status_code == 409
    assert_refused(answer)
    assert client.post(f"{PATH}/{search.pk}/resume").json()["state"] == "queued"
    client.post(f"{PATH}/{search.pk}/stop")
    assert client.delete(f"{PATH}/{search.pk}").status_code == 204
    assert client.get(f"{PATH}/{search.pk}").status_code == 404


def test_anothers_search_is_not_there(cast: Cast) -> None:
    search = builders.search(cast.alice, done=False)
    bob = cast.client(cast.bob)
    assert bob.get(PATH).json()["count"] == 0
    for method, path in [
        *(("get", each) for each in ("", "/trials", "/trials.csv")),
        *(("post", each) for each in ("/stop", "/resume")),
        ("delete", ""),
    ]:
        answer = getattr(bob, method)(f"{PATH}/{search.pk}{path}")
        assert answer.status_code == 404, path
    assert Search.objects.get().state == "queued"
    assert cast.client(None).get(PATH).status_code in (401, 403)


CHOICES: list[Any] = ["", "SHARPE", SURROGATE, 5, [], {}, None, "x" * 10_000]
HOSTILE: dict[str, list[Any]] = {
    "trials": [*NUMBERS, None],
    "folds": [*NUMBERS, None],
    "objective": CHOICES,
    "sampler": CHOICES,
    "prune": ["maybe", SURROGATE, [], {}, None, 7],
    "backtest": ["", SURROGATE, 5, [], None, [{}]],
    "space": ["", 5, [], None, {}, {"x" * 10_000: {}}],
    "walk_forward": [[], "x", 5, {"splits": 1}],
    "name": ["x" * 81, "\u0000", 5, [], {}, None],
    "x": [1],
}


@pytest.mark.parametrize("field", HOSTILE)
def test_a_hostile_value_is_refused_by_field(cast: Cast, field: str) -> None:
    client = silent(cast.client(cast.alice))
    for value in HOSTILE[field]:
        body = json.dumps(builders.search_request() | {field: value})
        assert_refused(client.post(PATH, body, content_type="application/json"), field)
    assert not Search.objects.exists()


def test_hostile_ranges_name_the_parameter(cast: Cast) -> None:
    client = silent(cast.client(cast.alice))
    for value in [*NUMBERS, SURROGATE, [], "x", 1e300]:
        for name in ("low", "high", "step"):
            body = json.dumps(builders.search_request(space={"period": {name: value}}))
            assert_refused(client.post(PATH, body, content_type="application/json"), "space")


def test_hostile_addresses_are_refused(cast: Cast) -> None:
    search, client = builders.search(cast.alice, done=False), silent(cast.client(cast.alice))
    for query in ("sort=returns", "sort=--value", "sort=%00", "outcome=x", "training=-1", "training=99", "training=x"):
        assert_refused(client.get(f"{PATH}/{search.pk}/trials?{query}"))
    for path in (f"{PATH}/0", f"{PATH}/{'9' * 18}", f"{PATH}/{'9' * 30}", f"{PATH}/x", f"{PATH}?state=x"):
        assert_refused(client.get(path))
