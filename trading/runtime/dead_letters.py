"""What becomes of dead letters: each kind goes through the same code again as when it came."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import orjson
from celery import current_app

from audit import bus
from audit.dead_letters import DeadLetter
from audit.services import dead_letter_close, dead_letters
from trading.gateways.bybit_stream import reports_of_frame
from trading.models import Account
from trading.report_text import Report, reports_from_text
from trading.reports import FillReport, OrderReport
from trading.services.reports import reports_apply

ENGINE_COMMANDS = frozenset({"order_send", "order_amend", "order_cancel", "signal_take", "reconcile"})


class NotReplayed(Exception):
    """The letter could not be handled now either, or never can; it stays where it is."""


def letter_replay(*, identifier: str, actor: str) -> DeadLetter:
    """Handle a letter once more; when that works it is gone from the queue. A letter that is replayed twice at once
    changes nothing twice: what handles it is idempotent.

    Raises:
        LetterGone: there is no such letter.
        NotReplayed: it fails again, and stays.
    """
    letter = dead_letters().get(identifier)
    handler = HANDLERS.get(letter.kind)
    if handler is None:
        raise NotReplayed(f"a {letter.kind} cannot be replayed: whoever sent it has gone; discard it")
    try:
        handler(letter)
    except NotReplayed:
        raise
    except Exception as error:
        raise NotReplayed(f"it fails again: {type(error).__name__}: {error}") from error
    dead_letter_close(letter=letter, actor=actor, action="dead_letter.replayed")
    return letter


def letter_discard(*, identifier: str, actor: str, reason: str = "") -> DeadLetter:
    """Raises LetterGone."""
    letter = dead_letters().get(identifier)
    dead_letter_close(letter=letter, actor=actor, action="dead_letter.discarded", reason=reason)
    return letter


def _account_of(letter: DeadLetter) -> int:
    account_id = letter.context.get("account")
    if not isinstance(account_id, int) or not Account.objects.filter(pk=account_id).exists():
        raise NotReplayed(f"its account {account_id!r} is not known here (any more); discard it")
    return account_id


def _private_frame(letter: DeadLetter) -> None:
    account_id = _account_of(letter)
    reports, troubles = reports_of_frame(letter.payload.encode())
    _book(letter, account_id, reports)
    if troubles:
        raise NotReplayed(f"it fails again: {'; '.join(troubles)}")


def _reports(letter: DeadLetter) -> None:
    account_id = _account_of(letter)
    _book(letter, account_id, reports_from_text(letter.payload))


def _book(letter: DeadLetter, account_id: int, reports: Sequence[Report]) -> None:
    """Orders and fills are true for ever; what the venue said of a position or a wallet then is old now, and is asked
    for anew by the account's owner instead."""
    lasting = [report for report in reports if isinstance(report, (OrderReport, FillReport))]
    mode = letter.context.get("mode")
    refused = reports_apply(account_id=account_id, reports=lasting, mode=None if mode is None else str(mode))
    bus.engines_command("reconcile", account_id)
    if refused:
        raise NotReplayed(f"it contradicts our books still: {'; '.join(reason for _, reason in refused)}")


def _task(letter: DeadLetter) -> None:
    call = orjson.loads(letter.payload)
    if call["name"] not in current_app.tasks:
        raise NotReplayed(f"there is no task {call['name']} any more; discard it")
    current_app.send_task(call["name"], args=call["args"], kwargs=call["kwargs"])


def _engine_command(letter: DeadLetter) -> None:
    command = orjson.loads(letter.payload)
    name, identifier = str(command.get("command", "")), str(command.get("id", ""))
    if name not in ENGINE_COMMANDS or not identifier.isdigit():
        raise NotReplayed(f"{name!r} of {identifier!r} is no command of an engine; discard it")
    bus.engines_command(name, identifier)


def _desk_work(letter: DeadLetter) -> None:
    """The work is found again in the database; a reconciliation looks for what the venue knows of it."""
    bus.engines_command("reconcile", _account_of(letter))


HANDLERS: Mapping[str, Callable[[DeadLetter], None]] = {
    "private_frame": _private_frame,
    "reports": _reports,
    "task": _task,
    "engine_command": _engine_command,
    "desk_work": _desk_work,
}
