"""Notices within a second that somebody else trades the account: positions of the venue that our books do not hold."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any

from trading.reports import PositionReport
from trading.runtime.position_guard import OnBooks
from trading.services.outside_changes import outside_position_note

# Position, execution and order are told in no order that the venue promises: the execution may be right behind.
GRACE_SECONDS = 0.3


class OutsideWatch:
    """``reconcile`` makes our books agree with the venue's."""

    def __init__(self, account_id: int, *, on_books: OnBooks, reconcile: Callable[[str], Awaitable[None]]) -> None:
        self._account_id, self._on_books, self._reconcile = account_id, on_books, reconcile
        self._newest: dict[str, PositionReport] = {}
        self._comparing: set[str] = set()

    def heard(self, reports: Iterable[Any]) -> Sequence[Awaitable[None]]:
        """Positions that the stream told; returns the work that compares them, to be run beside everything else."""
        work = []
        for report in reports:
            if isinstance(report, PositionReport):
                self._newest[report.symbol] = report
                if report.symbol not in self._comparing:
                    self._comparing.add(report.symbol)
                    work.append(self._compare(report.symbol))
        return work

    async def _compare(self, symbol: str) -> None:
        try:
            await asyncio.sleep(GRACE_SECONDS)
        finally:
            self._comparing.discard(symbol)
        report = self._newest.pop(symbol)
        is_hedged = report.position_index != 0  # the reconciliation stops such an account
        note = partial(outside_position_note, account_id=self._account_id, report=report)
        if is_hedged or await self._on_books(note):
            await self._reconcile("stream")
