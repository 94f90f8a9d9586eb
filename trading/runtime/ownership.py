"""One owner per account: whoever holds the account's fenced lease sends its orders, and nobody else.

The database decides who it is (trading/services/leases.py). Here is what the owner itself may believe, by a clock that
nobody sets and that goes on while the machine sleeps: a process that was paused finds its time over when it wakes up,
before it has asked anybody.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from django.conf import settings
from django.db import Error, connection

from trading.crash_points import reach
from trading.runtime.database import with_connection
from trading.services.leases import Holder, LeaseToken, account_leases_take, session_close, sessions_renew

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Holding:
    """Swapped whole, so that other threads never read half of a change. ``valid_until`` is in seconds of the clock
    that :func:`elapsed` reads."""

    session_id: int
    token: LeaseToken
    valid_until: float


class AccountLease:
    """``acquire`` and ``release`` never at the same time; everything else from any thread. ``mode`` is that of the
    holder's gateways: in another mode the account is not taken."""

    def __init__(self, account_id: int, holder: str, mode: str | None = None) -> None:
        self.account_id = account_id
        self.holder = Holder(holder, mode)
        self._holding: _Holding | None = None
        self._changing = threading.Lock()

    @property
    def session_id(self) -> int | None:
        """The session to renew; None when there is none, and the account has to be acquired."""
        holding = self._holding
        return None if holding is None else holding.session_id

    @property
    def token(self) -> LeaseToken | None:
        """The proof for the database that the account is ours; None when it is not, or may not be any more."""
        holding = self._holding
        return holding.token if holding is not None and elapsed() < holding.valid_until else None

    @property
    def valid(self) -> bool:
        """Whether nobody else can own the account yet, whatever the database would say now."""
        return self.token is not None

    def refusal(self, timestamp_ms: int) -> str:
        """For the gateway's fence: why a request must not leave now."""
        return "" if self.valid else f"the lease of account {self.account_id} has run out; somebody else may own it"

    def acquire(self, evict_reason: str = "") -> bool:
        """Try to become the owner; False when somebody else is. With a reason a living owner is evicted.

        Raises:
            django.db.Error: the database does not answer.
        """
        acquire_all([self], evict_reason)
        return self._holding is not None

    def taken(self, session_id: int, token: LeaseToken, asked: float) -> None:
        """The account is ours, counted from when that was asked for."""
        with self._changing:
            self._holding = _Holding(session_id, token, asked + settings.LEASE_SECONDS)
        reach("lease.taken")

    def renew(self) -> bool:
        """Hold it for one more lease time; False when it is lost for good and has to be acquired anew.

        Raises:
            django.db.Error: the database does not answer; the lease holds until its time is over.
        """
        renew_all([self])
        return self._holding is not None

    def renewed(self, session_id: int, asked: float) -> None:
        """The session lives on, counted from when that was asked for."""
        with self._changing:
            if self._holding is None or self._holding.session_id != session_id:
                return  # given back meanwhile
            self._holding = replace(self._holding, valid_until=asked + settings.LEASE_SECONDS)
        reach("lease.renewed")

    def lost(self, session_id: int) -> None:
        """The session has ended, for good."""
        with self._changing:
            if self._holding is None or self._holding.session_id != session_id:
                return
            self._holding = None
        reach("lease.lost")

    def release(self) -> None:
        """Give it back, so that somebody else takes it at once."""
        with self._changing:
            holding, self._holding = self._holding, None
        if holding is not None:
            try:
                session_close(session_id=holding.session_id)
            except Error as error:
                log.warning("account %d is not given back, its lease expires: %s", self.account_id, error)


def acquire_all(leases: Sequence[AccountLease], evict_reason: str = "") -> None:
    """Become the owner of those accounts that nobody owns, with one question for all.

    Raises:
        django.db.Error: the database does not answer; none was taken.
    """
    # Counted from before the question: the answer may take long, and the lease runs from when it was given.
    asked = elapsed()
    holders = {lease.account_id: lease.holder for lease in leases}
    taken = account_leases_take(holders=holders, seconds=settings.LEASE_SECONDS, evict_reason=evict_reason)
    for lease in leases:
        if lease.account_id in taken:
            lease.taken(*taken[lease.account_id], asked)


def renew_all(leases: Sequence[AccountLease]) -> None:
    """Hold all of them for one more lease time, with one question; those that are lost say so.

    Raises:
        django.db.Error: the database does not answer; leases hold until their time is over.
    """
    asked = elapsed()
    held = {lease.session_id: lease for lease in leases if lease.session_id is not None}
    if not held:
        return
    renewed, ended = sessions_renew(session_ids=[pk for pk in held if pk is not None], seconds=settings.LEASE_SECONDS)
    for session_id in renewed:
        held[session_id].renewed(session_id, asked)
    for session_id in ended:
        held[session_id].lost(session_id)


@contextmanager
def kept(lease: AccountLease) -> Iterator[None]:
    """Renews an acquired lease from a thread of its own, and gives it back at the end."""
    over = threading.Event()

    def renew() -> None:
        try:
            while not over.wait(settings.LEASE_RENEWAL_SECONDS):
                try:
                    if not with_connection(lease.renew):
                        return
                except Error as error:
                    log.warning("the lease of account %d is not renewed: %s", lease.account_id, error)
        finally:
            connection.close()

    renewal = threading.Thread(target=renew, name=f"lease-{lease.account_id}", daemon=True)
    renewal.start()
    try:
        yield
    finally:
        over.set()
        renewal.join()
        lease.release()


def elapsed() -> float:
    """Seconds on a clock that nobody sets and that goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
