"""Backtests over the API: asked for, read, compared with live, exported; nobody else's; nonsense is named."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from strategies.models import Signal
from tests import builders
from tests.api.conftest import Cast
from tests.api.test_hostile_input import NUMBERS, SURROGATE, assert_refused, silent
from trading.models import BacktestRun

pytestmark = pytest.mark.django_db
PATH = "/api/v1/backtests"


def asked(cast: Cast, **changes: Any) -> Any:
    return cast.client(cast.alice).post(PATH, builders.backtest_request(**changes), format="json")


def test_a_backtest_is_asked_for_and_waits(cast: Cast) -> None:
    answer = asked(cast, name="my first")
    assert answer.status_code == 201, answer.json()
    found = cast.client(cast.alice).get(f"{PATH}/{answer.json()['id']}").json()
    assert (found["state"], found["name"], found["symbols"], found["figures"]) == (
        "queued",
        "my first",
        ["BTCUSDT"],
        None,
    )
    assert found["request"]["costs"]["fee"] == "0.001" and found["request"]["limits"]["max_positions"] == 10


def test_the_same_request_under_one_key_is_one_backtest(cast: Cast) -> None:
    client = cast.client(cast.alice)
    for _ in range(2):
        answer = client.post(PATH, builders.backtest_request(), format="json", headers={"Idempotency-Key": "one"})
        assert answer.status_code == 201
    assert BacktestRun.objects.count() == 1


def test_what_was_found_is_read_in_pages(cast: Cast) -> None:
    run, client = builders.backtest_run(cast.alice), cast.client(cast.alice)
    found = client.get(f"{PATH}/{run.pk}").json()
    assert found["state"] == "done" and found["summary"]["statistics"]["trades"] == 60
    assert set(found["summary"]) >= {"months", "curve", "by_symbol", "by_end", "refusals", "trade_order", "coverage"}
    trades = client.get(f"{PATH}/{run.pk}/trades?sort=-pnl&limit=4&page=2").json()
    assert trades["count"] == 60 and [row["pnl"] for row in trades["results"]] == ["170.5"] * 4
    worst = client.get(f"{PATH}/{run.pk}/trades?sort=pnl&side=Buy&limit=1").json()["results"][0]
    assert worst["pnl"] == "-160.5" and worst["side"] == "Buy"
    denied = client.get(f"{PATH}/{run.pk}/signals?outcome=denied").json()
    assert denied["count"] == 12 and "max_positions" in denied["results"][0]["words"]
    assert client.get(f"{PATH}/{run.pk}/fills?limit=200").json()["count"] == 120
    whole = client.get(f"{PATH}/{run.pk}/trades?sort=opened_ms&limit=1000").json()["results"]
    third, fifth = whole[2], whole[4]
    between = f"from={third['closed_ms']}&to={fifth['opened_ms']}"
    found = client.get(f"{PATH}/{run.pk}/trades?{between}&sort=opened_ms").json()["results"]
    assert found == [
        row for row in whole if row["closed_ms"] >= third["closed_ms"] and row["opened_ms"] <= fifth["opened_ms"]
    ]
    assert 3 <= len(found) < 60
    fills = client.get(f"{PATH}/{run.pk}/fills?from={third['opened_ms']}&to={third['closed_ms']}&limit=200").json()
    assert fills["results"] and all(
        third["opened_ms"] <= row["time_ms"] <= third["closed_ms"] for row in fills["results"]
    )
    curve = client.get(f"{PATH}/{run.pk}/equity?points=30").json()
    assert len(curve["equity"]) == len(curve["time_ms"]) <= 31 and max(curve["drawdown"]) > 0
    prices = client.get(f"{PATH}/{run.pk}/prices").json()
    assert prices[0]["symbol"] == "BTCUSDT" and len(prices[0]["close"]) <= 1_500
    assert [row["id"] for row in client.get(f"{PATH}?state=done").json()["results"]] == [run.pk]
    assert client.get(PATH).json()["results"][0]["figures"]["trades"] == 60


def test_nothing_of_it_is_another_tenants(cast: Cast) -> None:
    run = builders.backtest_run(cast.alice)
    parts = ["", *(f"/{name}" for name in ("trades", "fills", "signals", "equity", "prices", "live", "export"))]
    for user in (cast.bob, cast.charlie, cast.vera):
        client = cast.client(user)
        assert client.get(PATH).json()["count"] == 0
        for part in parts:
            assert client.get(f"{PATH}/{run.pk}{part}").status_code == 404, part
        assert client.post(f"{PATH}/{run.pk}/stop").status_code == 404
        assert client.delete(f"{PATH}/{run.pk}").status_code == 404
    for part in parts:
        assert cast.client(None).get(f"{PATH}/{run.pk}{part}").status_code == 403
    sam = cast.client(builders.user("sam", is_staff=True))
    assert sam.get(f"{PATH}/{run.pk}").json()["owner"] == "alice"
    assert BacktestRun.objects.filter(pk=run.pk).exists()


def test_one_is_stopped_and_deleted_in_that_order(cast: Cast) -> None:
    client, pk = cast.client(cast.alice), asked(cast).json()["id"]
    assert client.delete(f"{PATH}/{pk}").status_code == 409
    assert client.post(f"{PATH}/{pk}/stop").json()["state"] == "stopped"
    assert client.post(f"{PATH}/{pk}/stop").status_code == 409
    answer = client.get(f"{PATH}/{pk}/trades")
    assert answer.status_code == 400 and "there are no trades" in answer.json()["error"]["fields"][0]["rule"]
    assert client.delete(f"{PATH}/{pk}").status_code == 204
    assert client.get(f"{PATH}/{pk}").status_code == 404


@pytest.mark.parametrize("what", ["trades", "fills", "signals", "equity"])
def test_tables_are_exported_as_csv(cast: Cast, what: str) -> None:
    run = builders.backtest_run(cast.alice)
    answer = cast.client(cast.alice).get(f"{PATH}/{run.pk}/export?as=csv&what={what}")
    assert answer["Content-Disposition"] == f'attachment; filename="backtest-{run.pk}-{what}.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.content.decode())))
    assert len(rows) == {"trades": 60, "fills": 120, "signals": 79, "equity": 240}[what]
    assert next(iter(rows[0].values())) and "2026-01-" in str(rows[0])


def test_all_of_it_is_exported_as_json(cast: Cast) -> None:
    run = builders.backtest_run(cast.alice)
    found = json.loads(cast.client(cast.alice).get(f"{PATH}/{run.pk}/export").content)
    assert (len(found["trades"]), len(found["fills"]), len(found["equity"]["equity"])) == (60, 120, 240)
    assert found["request"]["seed"] == 7 and found["data"] and found["code"] == "test"


def test_the_html_file_needs_no_network_and_runs_no_words_of_strangers(cast: Cast) -> None:
    run = builders.backtest_run(cast.alice, name="</script><script>alert(1)</script>")
    page = cast.client(cast.alice).get(f"{PATH}/{run.pk}/export?as=html").content.decode()
    assert "<script>alert(1)" not in page
    for outside in ('src="', 'href="http', 'href="/', "@import", "url(http"):
        assert outside not in page, outside


def test_live_results_of_the_same_configuration_are_compared_signal_by_signal(cast: Cast) -> None:
    config = builders.strategy(cast.alices)
    run = builders.backtest_run(
        cast.alice, strategies=[{"strategy": "supertrend", "symbols": ["BTCUSDT"], "parameters": config.parameters}]
    )
    tested = builders.backtest_found().signals
    for place, time_ms in enumerate([tested[0].time_ms, tested[1].time_ms, tested[0].time_ms + 1]):
        Signal.objects.create(
            account=cast.alices, config=config, strategy="supertrend", symbol="BTCUSDT", side="Buy", strength=0.7,
            entry_price=1, take_profit=2, stop_loss=1, reason="x", trace_id=f"t{place}",
            signalled_at=datetime.fromtimestamp(time_ms / 1000, tz=UTC), outcome="ordered",
        )  # fmt: skip
    found = cast.client(cast.alice).get(f"{PATH}/{run.pk}/live").json()
    assert len(found) == 1
    assert (found[0]["signals"], found[0]["same_signals"], found[0]["only_live"]) == (3, 2, 1)
    assert found[0]["only_tested"] == len({each.time_ms for each in tested}) - 2
    assert (found[0]["account"], found[0]["badge"]) == (cast.alices.name, cast.alices.badge)
    # Staff without access to the account see the run, and nothing of the account.
    sam = builders.user("sam", is_staff=True)
    assert cast.client(sam).get(f"{PATH}/{run.pk}/live").json() == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("trades?sort=nonsense", "sort"),
        ("trades?side=up", "side"),
        ("signals?outcome=%00x", ""),
        ("signals?outcome=maybe", "outcome"),
        ("equity?points=1", "points"),
        ("equity?points=１２０", "points"),
        ("equity?points=99999999999", "points"),
        ("prices?symbol=NOPE&from=0&to=1", "symbol"),
        ("prices?symbol=BTCUSDT&from=-1&to=1", "from"),
        ("prices?symbol=BTCUSDT&from=0&to=4000000000000", "to"),
        ("prices?symbol=BTCUSDT&from=0", "to"),
        ("export?as=exe", "as"),
        ("export?as=csv&what=passwords", "what"),
    ],
)
def test_a_wrong_question_is_named(cast: Cast, query: str, field: str) -> None:
    run = builders.backtest_run(cast.alice)
    assert_refused(silent(cast.client(cast.alice)).get(f"{PATH}/{run.pk}/{query}"), field or None)
    assert silent(cast.client(cast.alice)).get(f"{PATH}/{run.pk}/trades?page=999").status_code == 404
    assert silent(cast.client(cast.alice)).get(f"{PATH}?state=maybe").status_code == 400


def test_whatever_is_sent_the_answer_names_the_field(cast: Cast) -> None:
    client = silent(cast.client(cast.alice))
    strange = ["1e999999999", "NaN", "", "１２", SURROGATE, "x" * 10_000, True, [], 10**400, -1, None, {"a": {"b": []}}]
    for field in (
        "strategies",
        "start",
        "source",
        "interval",
        "costs",
        "limits",
        "exit_rules",
        "groups",
        "seed",
        "name",
    ):
        for value in strange if field != "interval" else NUMBERS:
            body = builders.backtest_request(**{field: value})
            answer = client.post(PATH, json.dumps(body), content_type="application/json")
            if answer.status_code != 201:
                assert_refused(answer)
            BacktestRun.objects.all().delete()
    for body in ("", "[]", "5", '"x"', "null", "{", "[" * 100_000, json.dumps({SURROGATE: 1}), '{"balance": NaN}'):
        assert_refused(client.post(PATH, body, content_type="application/json"))
    assert_refused(asked(cast, balance="-5"), "balance")
    assert_refused(asked(cast, costs={"fee": 2}), "costs")
    assert_refused(asked(cast, strategies=[{"strategy": "supertrend", "symbols": ["NOPE"]}]), "strategies")
    assert not BacktestRun.objects.exists()


def test_the_documentation_shows_how_to_ask(cast: Cast) -> None:
    schema = cast.client(cast.alice).get("/api/v1/schema/?format=json").json()
    assert f"{PATH}/" in schema["paths"] or PATH in schema["paths"]
    text = json.dumps(schema)
    assert "a month of SuperTrend" in text and "of takers, fraction of a trade's worth" in text
