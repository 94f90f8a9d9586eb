"""A trace as a timeline: from the signal or request over verdict, decision and order to fills and positions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

# Of steps at the same moment the cause comes first.
ORDER = ("signal", "verdict", "decision", "event", "order", "sent", "transition", "fill", "booked")


@dataclass(frozen=True, slots=True)
class Step:
    """``gap_ms`` is the time since the step before, ``since_ms`` since the first; a fill's time is the venue's."""

    at: datetime
    kind: str
    text: str
    account: int | None
    subject: str
    detail: Mapping[str, Any] = field(default_factory=dict)
    gap_ms: float = 0.0
    since_ms: float = 0.0


def timeline(steps: Iterable[Step]) -> list[Step]:
    """In their order, with the time between them."""
    found = sorted(steps, key=lambda step: (step.at, ORDER.index(step.kind)))
    told = []
    for before, step in zip([*found[:1], *found[:-1]], found, strict=True):
        gap, since = step.at - before.at, step.at - found[0].at
        told.append(replace(step, gap_ms=gap.total_seconds() * 1e3, since_ms=since.total_seconds() * 1e3))
    return told


def signal_steps(signal: Any) -> list[Step]:
    account, subject = signal.account_id, f"signal:{signal.pk}"
    verdict = signal.verdict
    wanted = (
        f"{signal.strategy} wants {signal.side} {signal.symbol} at {signal.entry_price.normalize():f}: {signal.reason}"
    )
    judged = f"{'execute' if verdict.get('executed') else 'veto'}: {verdict.get('reason', '')}".rstrip(": ")
    steps = [
        Step(signal.signalled_at, "signal", wanted, account, subject, {"strength": signal.strength}),
        Step(signal.recorded_at, "verdict", judged, account, subject, verdict),
    ]
    if signal.outcome != "vetoed":
        refusals = "; ".join(str(refusal.get("message", "")) for refusal in signal.refusals)
        text = f"{signal.outcome}: {refusals}" if refusals else signal.outcome
        steps.append(Step(signal.recorded_at, "decision", text, account, subject, {"refusals": signal.refusals}))
    return steps


def order_steps(order: Any, transitions: Iterable[Any]) -> list[Step]:
    account, subject = order.account_id, f"order:{order.pk}"
    price = "" if order.price is None else f" at {order.price.normalize():f}"
    text = f"{order.actor} wants {order.side} {order.quantity.normalize():f} {order.instrument.symbol}{price}"
    detail = {"client_order_id": order.client_order_id, "strategy": order.strategy, "reason": order.reason}
    steps = [Step(order.created_at, "order", text, account, subject, detail)]
    if order.sent_at is not None:
        steps.append(Step(order.sent_at, "sent", f"request {order.client_order_id} may leave", account, subject))
    for moved in transitions:
        text = f"{moved.source or 'nothing'} -> {moved.target} by {moved.event}: {moved.cause}"
        steps.append(Step(moved.created_at, "transition", text, account, subject, moved.payload))
    return steps


def fill_steps(fill: Any) -> list[Step]:
    text = f"{fill.side} {fill.quantity.normalize():f} at {fill.price.normalize():f}"
    detail = {"execution_id": fill.execution_id, "fee": f"{fill.fee.normalize():f}", "is_maker": fill.is_maker}
    return [Step(fill.executed_at, "fill", text, fill.account_id, f"fill:{fill.pk}", detail)]


def event_steps(event: Any) -> list[Step]:
    """One event of the audit trail. That of a fill tells what became of the position."""
    chain, _, number = event.chain.partition(":")
    account = int(number) if chain == "account" else None
    if event.action == "fill.booked":
        before, after = event.before or {}, event.after or {}
        text = f"position {after.get('event', '')}: {_position(before)} -> {_position(after)}"
        return [Step(event.created_at, "booked", text, account, event.subject, {"before": before, "after": after})]
    text = f"{event.action} by {event.actor}" + (f": {event.reason}" if event.reason else "")
    return [Step(event.created_at, "event", text, account, event.subject, event.parameters)]


def _position(state: Mapping[str, Any]) -> str:
    if "quantity" not in state:
        return str(state.get("position", "unknown"))
    return f"{state.get('position')} {state['quantity']} at {state.get('entry_price')}"
