"""One owner per account: whoever holds the account's fenced lease sends its orders, and nobody else.

The database decides who it is (trading/services/leases.py). Here is what the owner itself may believe, by a clock that
nobody sets and that goes on while the machine sleeps: a process that was paused finds its time over when it wakes up,
before it has asked anybody.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from django.conf import settings
from django.db import Error, connection

from trading.crash_points import reach
from trading.runtime.database import with_connection
from trading.services.leases import LeaseToken, account_lease_take, session_close, session_renew

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Holding:
    """Swapped whole, so that other threads never read half of a change. ``valid_until`` is in seconds of the clock
    that :func:`elapsed` reads."""

    session_id: int
    token: LeaseToken
    valid_until: float


class AccountLease:
    """``acquire``, ``renew`` and ``release`` never at the same time; everything else from any thread. ``mode`` is that
    of the holder's gateways: in another mode the account is not taken."""

    def __init__(self, account_id: int, holder: str, mode: str | None = None) -> None:
        self.account_id, self._mode = account_id, mode
        self._holder = holder
        self._holding: _Holding | None = None

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
        # Counted from before the question: the answer may take long, and the lease runs from when it was given.
        asked = elapsed()
        taken = account_lease_take(
            account_id=self.account_id,
            holder=self._holder,
            seconds=settings.LEASE_SECONDS,
            evict_reason=evict_reason,
            mode=self._mode,
        )
        self._holding = None if taken is None else _Holding(*taken, asked + settings.LEASE_SECONDS)
        if taken is not None:
            reach("lease.taken")
        return taken is not None

    def renew(self) -> bool:
        """Hold it for one more lease time; False when it is lost for good and has to be acquired anew.

        Raises:
            django.db.Error: the database does not answer; the lease holds until its time is over.
        """
        holding, asked = self._holding, elapsed()
        if holding is None:
            return False
        if session_renew(session_id=holding.session_id, seconds=settings.LEASE_SECONDS, report={}):
            self._holding = _Holding(holding.session_id, holding.token, asked + settings.LEASE_SECONDS)
            reach("lease.renewed")
            return True
        self._holding = None
        reach("lease.lost")
        return False

    def release(self) -> None:
        """Give it back, so that somebody else takes it at once."""
        holding, self._holding = self._holding, None
        if holding is not None:
            try:
                session_close(session_id=holding.session_id)
            except Error as error:
                log.warning("account %d is not given back, its lease expires: %s", self.account_id, error)


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
