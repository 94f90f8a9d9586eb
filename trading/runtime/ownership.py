"""One owner per account: whoever holds the account's PostgreSQL advisory lock sends its orders, and nobody else.

The lock belongs to a database session of its own, so it is gone the moment the owner's process or its connection is.
"""

from __future__ import annotations

import psycopg
from django.conf import settings

# First half of the advisory lock's key pair: keeps our locks apart from anybody else's in the database.
LOCK_SPACE = 0x0BA11A57 & 0x7FFFFFFF


class AccountLock:
    """Use from one thread. ``held`` asks the session itself, so a broken connection is a lost lock."""

    def __init__(self, account_id: int) -> None:
        self._account_id = account_id
        self._connection: psycopg.Connection | None = None

    def acquire(self) -> bool:
        """Try to become the owner; False when somebody else is."""
        self.release()
        database = settings.DATABASES["default"]
        connection = psycopg.connect(
            host=database["HOST"],
            port=database["PORT"],
            user=database["USER"],
            password=database["PASSWORD"],
            dbname=database["NAME"],
            autocommit=True,
            connect_timeout=5,
            application_name=f"ballast owner of account {self._account_id}",
        )
        row = connection.execute("SELECT pg_try_advisory_lock(%s, %s)", (LOCK_SPACE, self._account_id)).fetchone()
        if row is None or not row[0]:
            connection.close()
            return False
        self._connection = connection
        return True

    def held(self) -> bool:
        if self._connection is None:
            return False
        try:
            self._connection.execute("SELECT 1")
        except psycopg.Error:
            self.release()
            return False
        return True

    def release(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
