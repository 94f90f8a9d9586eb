"""The emergency close: cancel and close everything while there is no database.

It needs what an engine or a worker left in the data folder (the accounts, their keys still encrypted) and the master
key. What it does is written to a journal before it is done; the first process that owns an account with the database
back books the journal and leaves the account stopped. A run that was killed goes on under its old name, so no order is
doubled.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO

import orjson
from django.conf import settings

from trading.gateways.base import Gateway, GatewayError
from trading.gateways.bybit import RECEIVE_WINDOW_MS
from trading.models import Account, Mode
from trading.reports import Submission
from trading.runtime.kill_execution import close_by_name
from trading.runtime.venue_link import StoredKeys, link_of, stored_keys
from trading.services.kill_switch import emergency_journal_import

log = logging.getLogger(__name__)

ROUND_SECONDS = 1.0


class EmergencyError(Exception):
    """It cannot be done; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class StoredAccount:
    """An account as an engine left it, with the keys of its mode only; they are as they are in the database."""

    account_id: int
    name: str
    environment: str
    key: str
    secret: str
    mode: str = Mode.REAL


def folder() -> Path:
    return Path(settings.DATA_DIR) / "emergency"


def export_accounts(accounts: Sequence[Account]) -> None:
    """Leave the accounts for an emergency; writes only what changed."""
    rows = [
        StoredAccount(account.pk, account.name, account.environment, keys.key.decode(), keys.secret.decode(), keys.mode)
        for account in accounts
        if (keys := stored_keys(account))
    ]
    content = orjson.dumps([asdict(row) for row in rows], option=orjson.OPT_INDENT_2)
    path = folder() / "accounts.json"
    if path.exists() and path.read_bytes() == content:
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_suffix(f".{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def stored_accounts() -> list[StoredAccount]:
    """The accounts that an engine or a worker left.

    Raises:
        EmergencyError: there is no such file, or it is none of ours.
    """
    path = folder() / "accounts.json"
    try:
        return [StoredAccount(**row) for row in orjson.loads(path.read_bytes())]
    except FileNotFoundError:
        raise EmergencyError(
            f"{path} is not there: engines and workers write the accounts and their encrypted keys to it while the "
            "database is up. Run this on a machine where one of them ran, with its data folder as BALLAST_DATA_DIR and "
            "the deployment's BALLAST_MASTER_KEY; or copy that file from there to here. While the database answers, "
            "`kill_switch prepare-emergency` writes it on any machine, and `kill_switch engage` needs none of this"
        ) from None
    except (orjson.JSONDecodeError, TypeError) as error:
        raise EmergencyError(f"{path} cannot be read: {error}") from None


class Journal:
    """One line for each thing done, on disk before it is done. Held by one process at a time."""

    def __init__(self, file: BinaryIO | FileIO, actor: str, reason: str) -> None:
        self._file, self._actor, self._reason = file, actor, reason
        self._lock = threading.Lock()

    def write(self, account: StoredAccount, run: str, step: str, **detail: Any) -> None:
        entry = {
            "id": uuid.uuid4().hex,
            "at": datetime.now(tz=UTC).isoformat(),
            "run": run,
            "step": step,
            "account_id": account.account_id,
            "actor": self._actor,
            "reason": self._reason,
            "detail": detail,
        }
        with self._lock:
            try:
                self._file.write(orjson.dumps(entry) + b"\n")
                os.fsync(self._file.fileno())
            except OSError as error:
                # A full disk is a usual reason why there is no database: closing is worth more than its journal.
                log.critical(
                    "account %s: %s is not in the journal (%s); engage its kill switch when the database is back, "
                    "before an engine trades on it",
                    account.name,
                    step,
                    error,
                )

    def unfinished(self, account: StoredAccount) -> str | None:
        """The run on this account that was interrupted."""
        open_runs: dict[str, None] = {}
        for entry in _entries(_path().read_bytes()):
            if entry["account_id"] == account.account_id:
                if entry["step"] == "done":
                    open_runs.pop(entry["run"], None)
                else:
                    open_runs[entry["run"]] = None
        return next(iter(open_runs), None)


@contextmanager
def journal(actor: str, reason: str) -> Iterator[Journal]:
    """The journal, held until the end.

    Raises:
        EmergencyError: another emergency close is running.
    """
    folder().mkdir(mode=0o700, parents=True, exist_ok=True)
    # Unbuffered: what did not fit on the disk is not tried again when the file is closed.
    with _path().open("ab", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EmergencyError("another emergency close is running, or its journal is being booked") from None
        if file.tell() and not _path().read_bytes().endswith(b"\n"):
            file.write(b"\n")  # the torn line of a run that was killed must not swallow our first one
        yield Journal(file, actor, reason)


def import_journal() -> bool:
    """Book what an emergency close did. False while one is running: then nobody may own an account.

    Raises:
        django.db.Error: the database does not answer; nothing was booked.
    """
    try:
        file = _path().open("rb")
    except FileNotFoundError:
        return True
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.warning("an emergency close is running; no account is taken before it ends")
            return False
        entries = _entries(file.read())
        if entries and _path().exists():
            count = emergency_journal_import(entries=entries)
            log.warning("%d entries of an emergency close were booked", count)
        # Its name says when it was booked; a second import of the same entries would book nothing.
        if _path().exists():
            _path().rename(folder() / f"journal-booked-{time.time_ns()}.jsonl")
    return True


def emergency_close(
    account: StoredAccount, book: Journal, say: Callable[[str], None], seconds: float, settle_seconds: float
) -> bool:
    """Cancel and close everything of one account; False when that was not proven within ``seconds``. The venue must
    show nothing for ``settle_seconds``: what an engine sent in its last moment may still be on its way."""
    keys = StoredKeys(account.mode, account.key.encode(), account.secret.encode())
    gateway = link_of(keys, account.environment).gateway(priority="kill")
    run = book.unfinished(account)
    if run is None:
        run = f"e{int(time.time())}"
        book.write(account, run, "begun")
    else:
        say(f"{account.name}: an interrupted run goes on")
    until, flat_since = time.monotonic() + seconds, None
    while time.monotonic() < until:
        try:
            left = _close_round(account, gateway, book, run)
        except GatewayError as error:
            say(f"{account.name}: {error}")
            left = 1
        flat_since = None if left else flat_since or time.monotonic()
        if flat_since is not None and time.monotonic() - flat_since >= settle_seconds:
            book.write(account, run, "done")
            say(f"{account.name}: nothing is open any more")
            return True
        time.sleep(ROUND_SECONDS)
    book.write(account, run, "unproven")
    say(f"{account.name}: NOT proven flat within {seconds:g} s; run it again")
    return False


def settle_seconds() -> float:
    """An engine's lease, which it may use to its end, and the receive window of what it sent by then."""
    return float(settings.LEASE_SECONDS) + RECEIVE_WINDOW_MS / 1000


def _close_round(account: StoredAccount, gateway: Gateway, book: Journal, run: str) -> int:
    """Returns how many orders and positions were open before."""
    orders = gateway.open_orders()
    if orders:
        book.write(account, run, "cancel", orders=[order.client_order_id or order.venue_order_id for order in orders])
        result = gateway.cancel_all()
        if result.outcome is not Submission.ACCEPTED:
            for order in orders:
                gateway.cancel(order.symbol, order.client_order_id, order.venue_order_id)
    positions = [report for report in gateway.positions() if report.quantity]
    for position in positions:
        detail = {"symbol": position.symbol, "side": position.side, "quantity": str(position.quantity)}

        def tell(identifier: str, detail: dict[str, str] = detail) -> None:
            book.write(account, run, "close", client_order_id=identifier, **detail)

        result_of_close = close_by_name(gateway, position, f"kill-{run}", tell)
        if result_of_close is not None:
            book.write(account, run, "answer", outcome=str(result_of_close.outcome), message=result_of_close.message)
    return len(orders) + len(positions)


def _path() -> Path:
    return folder() / "journal.jsonl"


def _entries(content: bytes) -> list[dict[str, Any]]:
    """Whole lines only: the last one of a process that was killed may be torn."""
    entries = []
    for line in content.split(b"\n")[:-1]:
        try:
            entries.append(orjson.loads(line))
        except orjson.JSONDecodeError:
            log.error("a line of the emergency journal is torn: %r", line[:200])
    return entries
