"""Signals on their way from the engine that made them to the engine that owns their account."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from django.db import transaction

from audit import bus
from audit.services import recorded_together
from mlops.validation import Verdict
from risk.checks import Decision, Refusal
from risk.intents import OrderIntent
from strategies.models import Signal
from strategies.services import signal_record, signal_settle
from strategies.signals import Signal as SignalValue
from trading.models import Order
from trading.selectors import stopped_by
from trading.services.leases import LeaseLost, LeaseToken, lease_confirm, symbol_resource
from trading.services.modes import mode_held
from trading.services.order_commits import order_intend
from trading.services.order_gate import OrderGate, order_gate
from trading.services.shared_limits import shared_refusals


def signal_note(
    *,
    account_id: int,
    config_id: int | None,
    signal: SignalValue,
    verdict: Verdict,
    decision: Decision | None,
    trace_id: str,
    lease: LeaseToken,
    code: str = "",
) -> Signal:
    """Keep a signal that becomes no order, with its reasons.

    Raises:
        LeaseLost: the symbol is another engine's by now; nothing is kept, that one sees the same market.
    """
    lease_confirm(lease)
    return _noted(account_id, config_id, signal, verdict, decision, trace_id, lease, code)


@transaction.atomic
def signal_order(
    *,
    account_id: int,
    config_id: int | None,
    signal: SignalValue,
    verdict: Verdict,
    decision: Decision | None,
    trace_id: str,
    lease: LeaseToken,
    intent: OrderIntent,
    receive_window_ms: int,
    owner: LeaseToken,
    prices: Mapping[str, Decimal] | None = None,
    code: str = "",
) -> Order:
    """A signal and its approved order, ready to be sent when this returns. ``prices`` as for :func:`order_intend`.

    Raises:
        LeaseLost: the symbol or the account is another engine's by now; nothing is kept, and nothing may be sent.
        RiskDenied: orders of other accounts have used up a limit meanwhile, the strategy was disabled, or the account
            halted.
        KillSwitchEngaged: the account is stopped, and the order does not only reduce a position.
    """
    with recorded_together():
        gate = order_gate(owner, lease, account_id=account_id, symbol=intent.symbol, config_id=config_id)
        row = _noted(account_id, config_id, signal, verdict, decision, trace_id, lease, code, gate)
        return order_intend(
            account_id=account_id,
            intent=intent,
            signal_id=row.pk,
            receive_window_ms=receive_window_ms,
            owner=owner,
            gate=gate,
            prices=prices,
        )


def _noted(
    account_id: int,
    config_id: int | None,
    signal: SignalValue,
    verdict: Verdict,
    decision: Decision | None,
    trace_id: str,
    lease: LeaseToken,
    code: str,
    gate: OrderGate | None = None,
) -> Signal:
    ordered = decision is not None and decision.approved
    outcome = Signal.Outcome.ORDERED if ordered else Signal.Outcome.DENIED
    return signal_record(
        account_id=account_id,
        config_id=config_id,
        signal=signal,
        outcome=str(outcome if verdict.executed else Signal.Outcome.VETOED),
        verdict=_verdict(verdict),
        refusals=_refusals(decision.refusals if decision is not None else ()),
        trace_id=trace_id,
        lease_epoch=lease.epoch,
        signal_id=gate.signal_id if gate is not None else None,
        mode=gate.mode if gate is not None else mode_held(account_id),
        code=code,
    )


@transaction.atomic
def signal_hand_over(
    *,
    account_id: int,
    config_id: int,
    signal: SignalValue,
    verdict: Verdict,
    trace_id: str,
    reference_price: Decimal,
    lease: LeaseToken,
    code: str = "",
) -> Signal:
    """Leave a signal to the engine that owns the account, which judges its risk exactly once: the row is the message,
    and pending until it is answered. Raises LeaseLost as :func:`signal_note`."""
    lease_confirm(lease)
    row = signal_record(
        account_id=account_id,
        config_id=config_id,
        signal=signal,
        outcome=str(Signal.Outcome.PENDING),
        verdict=_verdict(verdict),
        refusals=[],
        trace_id=trace_id,
        lease_epoch=lease.epoch,
        reference_price=reference_price,
        mode=mode_held(account_id),
        code=code,
    )
    bus.engines_command("signal_take", row.pk)
    return row


def signal_take(
    *,
    signal: Signal,
    intent: OrderIntent | None,
    decision: Decision,
    receive_window_ms: int,
    owner: LeaseToken,
    prices: Mapping[str, Decimal] | None = None,
) -> Order | None:
    """The owner's answer to a pending signal, and its order, in one transaction. None when there is no order, or when
    the signal was answered before. Raises LeaseLost when the account is somebody else's by now, who will answer it."""
    with transaction.atomic(), recorded_together():
        gate = order_gate(owner, account_id=signal.account_id, symbol=signal.symbol, config_id=signal.config_id)
        if decision.approved and intent is not None:
            forbidden = gate.refusals(reduce_only=intent.reduce_only)
            stopped = stopped_by(signal.account_id) if gate.stopped and not intent.reduce_only else None
            if stopped is not None:
                forbidden = (Refusal("kill_switch", "engaged", "new risk", stopped.sentence), *forbidden)
            decision = Decision(not forbidden, forbidden)
        if decision.approved and signal.mode != gate.mode:
            message = f"the signal was made {signal.mode}, and the account is {gate.mode} by now"
            decision = Decision(False, (Refusal("mode", gate.mode, signal.mode, message),))
        if decision.approved:
            try:
                lease_confirm(LeaseToken(symbol_resource(signal.symbol), signal.lease_epoch or 0))
            except LeaseLost as error:
                message = f"the engine that saw it has lost the symbol meanwhile: {error}"
                decision = Decision(False, (Refusal("lease", str(signal.lease_epoch), "newer", message),))
        if decision.approved and intent is not None and prices is not None:
            refusals = shared_refusals(account_id=signal.account_id, intent=intent, prices=prices)
            decision = Decision(not refusals, refusals)
        outcome = Signal.Outcome.ORDERED if decision.approved else Signal.Outcome.DENIED
        settled = signal_settle(signal_id=signal.pk, outcome=str(outcome), refusals=_refusals(decision.refusals))
        if settled is None or intent is None or not decision.approved:
            return None
        return order_intend(
            account_id=signal.account_id,
            intent=intent,
            signal_id=signal.pk,
            receive_window_ms=receive_window_ms,
            owner=owner,
            gate=gate,
        )


def _verdict(verdict: Verdict) -> Mapping[str, Any]:
    return {
        "executed": verdict.executed,
        "confidence": verdict.confidence,
        "model": verdict.model,
        "reason": verdict.reason,
    }


def _refusals(refusals: Sequence[Refusal]) -> list[dict[str, str]]:
    return [{"limit": r.limit, "value": r.value, "requested": r.requested, "message": r.message} for r in refusals]
