"""The summary: counts of what lanes told, and whether anything was wrong."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.management import CommandError, call_command

from platform_site.chaos.command import line_of
from platform_site.chaos.summary import summarise
from trading.crash_points import POINTS


def run(number: int, **changes: Any) -> dict[str, Any]:
    blow = {"target": "engine", "action": "kill", "label": "order.committed", "passage": 2}
    values: dict[str, Any] = {
        "kind": "run",
        "run": number,
        "blow": blow,
        "struck": True,
        "reached": True,
        "faults": [{"kind": "delay"}],
        "restarted": ["engine-1"],
        "seconds": 8.0,
        "seconds_to_consistent": float(number),
        "orders_intended": 14,
        "requests_repeated": 1,
        "violations": [],
    }
    return values | changes


def end(*breaks: str) -> dict[str, Any]:
    counts = {"orders_on_exchange": 20, "orders_never_placed": 8, "fills": 15}
    return {"kind": "end", "lane": 0, "breaks": list(breaks), **counts}


def summary_of(*told: dict[str, Any], asked: int) -> dict[str, Any]:
    return summarise(told, seed=1, asked=asked, lanes=2, seconds=60.0, about={"version": "1.2.3"})


def test_runs_without_a_violation_pass_and_are_counted() -> None:
    summary = summary_of(*(run(number) for number in range(1, 21)), end(), end(), asked=20)
    assert summary["passed"] and summary["version"] == "1.2.3"
    assert (summary["runs"], summary["orders_intended"], summary["orders_on_exchange"]) == (20, 280, 40)
    assert summary["seconds_to_consistent"] == {"p50": 10.0, "p95": 19.0, "max": 20.0}
    assert summary["blows"] == {"engine kill": 20} and summary["restarts"] == {"engine-1": 20}
    assert summary["labels"] == {"order.committed": 20}
    assert summary["labels_not_reached"] == [name for name in POINTS if name != "order.committed"]
    assert summary["orders_duplicated"] == summary["fills_missed"] == summary["audit_chain_breaks"] == 0


@pytest.mark.parametrize(
    ("kind", "counted"),
    [
        ("duplicated", "orders_duplicated"),
        ("lost", "orders_lost"),
        ("stuck", "orders_stuck"),
        ("state", "order_states_differ"),
        ("fill missed", "fills_missed"),
        ("fill doubled", "fills_doubled"),
        ("fill differs", "fills_differ"),
        ("position", "position_differences"),
        ("balance", "balance_differences"),
        ("audit", "audit_chain_breaks"),
    ],
)
def test_one_violation_of_any_kind_fails_all_runs(kind: str, counted: str) -> None:
    found = {"kind": kind, "account": "alice", "subject": "x", "evidence": "here and there"}
    summary = summary_of(run(0), run(1, violations=[found]), end(), asked=2)
    assert not summary["passed"] and summary[counted] == 1
    assert summary["violations"] == [{"run": 1, **found}]


def test_a_chain_that_only_the_last_look_finds_broken_fails_them_too() -> None:
    summary = summary_of(run(0), end("account:1: event 3: the content does not match its hash"), asked=1)
    assert not summary["passed"] and summary["audit_chain_breaks"] == 1


@pytest.mark.parametrize(
    "told",
    [[run(0), end()], [run(0), run(1), end(), {"kind": "trouble", "text": "lane 0 ended with 1"}]],
    ids=["a run that is missing", "a lane that ended badly"],
)
def test_what_was_not_run_has_not_passed(told: list[dict[str, Any]]) -> None:
    assert not summary_of(*told, asked=2)["passed"]


def test_a_label_that_was_armed_and_not_reached_is_told_so() -> None:
    missed = run(7, struck=False, reached=False)
    assert summary_of(missed, end(), asked=1)["labels"] == {}
    assert "engine kill at order.committed:2 (not reached), consistent after 7.0 s" in line_of(missed, 1, 1)
    assert "NOT CONSISTENT" in line_of(run(8, seconds_to_consistent=None), 1, 1)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"runs": 0}, "--runs is 0; expected 1 to 100000"),
        ({"lanes": 17}, "--lanes is 17; expected 1 to 16"),
        ({"lease_seconds": 2}, "--lease-seconds is 2; expected 3 to 60"),
        ({"seed": -1}, "--seed and --first are whole numbers from 0"),
    ],
)
def test_options_that_cannot_be_are_refused_with_a_sentence(options: dict[str, int], told: str) -> None:
    with pytest.raises(CommandError, match=told):
        call_command("chaos", **options)
