"""A kill switch without an engine: whoever runs this takes the account over and does what the switch asks for."""

from __future__ import annotations

import logging
import os
import socket
import time
from datetime import timedelta

from django.utils import timezone

from trading.gateways.bybit import BybitGateway
from trading.models import Account, KillSwitchTask
from trading.runtime.kill_execution import KillExecution
from trading.runtime.ownership import AccountLease, kept
from trading.runtime.venue_access import venue_guard
from trading.runtime.venue_link import venue_link
from trading.selectors import kill_switch_task
from trading.services.leases import account_owned

log = logging.getLogger(__name__)

# An owner that keeps its lease and does not get on with the switch for so long is evicted. Longer than a round with
# a venue that lets every question time out.
STUCK_AFTER = timedelta(seconds=45)


def carry_out(account: Account, seconds: float) -> bool:
    """Go on with the account's kill switch for at most ``seconds``; False when its owner does that, or nothing is to
    be done.

    Raises:
        CredentialsError: the account's keys do not open.
        django.db.Error: the database does not answer.
    """
    task = kill_switch_task(account.pk)
    if task is None or not needs_a_closer(task):
        return False
    closer = f"{socket.gethostname()}:{os.getpid()}"
    lease = AccountLease(account.pk, f"kill switch {task.switch_id} at {closer}", account.mode)
    reason = "its owner does not get on with the kill switch" if account_owned(account.pk) else ""
    if not lease.acquire(reason):
        return False
    with kept(lease):
        log.warning("account %s: taken over for kill switch %d", account.name, task.switch_id)
        execution = KillExecution(account.pk, _gateway(account, lease), lease, closer)
        until = time.monotonic() + seconds
        while time.monotonic() < until and lease.valid:
            pause = execution.step()
            if pause is None:
                break
            time.sleep(pause)
    return True


def needs_a_closer(task: KillSwitchTask) -> bool:
    """Whether nobody owns the account, or its owner does not get on."""
    return not account_owned(task.account_id) or timezone.now() - task.updated_at > STUCK_AFTER


def _gateway(account: Account, lease: AccountLease) -> BybitGateway:
    link = venue_link(account)
    return link.gateway(fence=lease.refusal, priority="kill", guard=venue_guard(link.endpoints.rest))
