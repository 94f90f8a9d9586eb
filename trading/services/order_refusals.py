"""Why an order must not be, or cannot be cancelled."""

from __future__ import annotations

from collections.abc import Sequence

from marketdata.instruments import Violation
from trading.selectors import stopped_by


class OrderRefused(Exception):
    """An order that must not be: each violation names the field, its value and the rule."""

    def __init__(self, found: Sequence[Violation]) -> None:
        self.violations = tuple(found)
        super().__init__("; ".join(f"{each.field} {each.value}: {each.rule}" for each in found))


class ClientOrderIdTaken(OrderRefused):
    """The id was used before, for something else."""


class OrderNotCancellable(Exception):
    """The order has ended, or is being cancelled already; the message says which."""


class KillSwitchEngaged(OrderRefused):
    """Trading is stopped until a person re-arms it; only orders that reduce a position pass."""


def stopped_refuse(account_id: int) -> None:
    """Call it after :func:`lease_confirm`, in the transaction that commits an order: engaging waits for the lease.

    Raises:
        KillSwitchEngaged: the account or the platform is stopped.
    """
    stopped = stopped_by(account_id)
    if stopped is not None:
        raise KillSwitchEngaged([Violation("account", str(account_id), stopped.sentence)])
