"""All runs in one JSON object, and whether anything was wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from typing import Any

from platform_site.chaos.judge import Kind
from trading.crash_points import POINTS


def summarise(
    runs: Sequence[Mapping[str, Any]], *, seed: int, asked: int, lanes: int, seconds: float, about: Mapping[str, Any]
) -> dict[str, Any]:
    """``runs``: what lanes told of each run. ``about``: version and settings, taken over as they are."""
    done = [run for run in runs if run["kind"] == "run"]
    ends = [run for run in runs if run["kind"] == "end"]
    violations = [{"run": run["run"], **each} for run in done for each in run["violations"]]
    violations += [{"run": None, "kind": str(Kind.AUDIT), "evidence": text} for end in ends for text in end["breaks"]]
    kinds = Counter(each["kind"] for each in violations)
    labels = Counter(run["blow"]["label"] for run in done if run["reached"] and run["blow"]["label"])
    blows = Counter(f"{run['blow']['target']} {run['blow']['action']}" for run in done if run["struck"])
    times = [run["seconds_to_consistent"] for run in done if run["seconds_to_consistent"] is not None]
    return {
        **about,
        "seed": seed,
        "runs": len(done),
        "runs_asked": asked,
        "lanes": lanes,
        "seconds": round(seconds, 1),
        "seconds_a_run": _percentiles([run["seconds"] for run in done]),
        "seconds_to_consistent": _percentiles(times),
        "never_consistent": sum(run["seconds_to_consistent"] is None for run in done),
        "blows": dict(sorted(blows.items())),
        "labels": {name: labels[name] for name in POINTS if labels[name]},
        "labels_not_reached": [name for name in POINTS if not labels[name]],
        "faults": dict(sorted(Counter(fault["kind"] for run in done for fault in run["faults"]).items())),
        "restarts": dict(sorted(Counter(name for run in done for name in run["restarted"]).items())),
        "orders_intended": sum(run["orders_intended"] for run in done),
        "orders_on_exchange": sum(end["orders_on_exchange"] for end in ends),
        "orders_never_placed": sum(end["orders_never_placed"] for end in ends),
        "fills": sum(end["fills"] for end in ends),
        "requests_repeated": sum(run["requests_repeated"] for run in done),
        "orders_duplicated": kinds[Kind.DUPLICATED],
        "orders_lost": kinds[Kind.LOST],
        "orders_stuck": kinds[Kind.STUCK],
        "order_states_differ": kinds[Kind.STATE],
        "fills_missed": kinds[Kind.FILL_MISSED],
        "fills_doubled": kinds[Kind.FILL_DOUBLED],
        "fills_differ": kinds[Kind.FILL_DIFFERS],
        "position_differences": kinds[Kind.POSITION],
        "balance_differences": kinds[Kind.BALANCE],
        "audit_chain_breaks": kinds[Kind.AUDIT],
        "violations": violations,
        "trouble": [run["text"] for run in runs if run["kind"] == "trouble"],
        "passed": not violations and len(done) == asked and all(run["kind"] != "trouble" for run in runs),
    }


def _percentiles(values: Iterable[float]) -> dict[str, float] | None:
    """Median, 95th percentile (nearest rank) and maximum, in seconds."""
    ordered = sorted(values)
    if not ordered:
        return None
    ranks = {"p50": 0.5, "p95": 0.95, "max": 1.0}
    return {name: round(ordered[max(0, ceil(len(ordered) * share) - 1)], 2) for name, share in ranks.items()}
