"""The journal of an emergency close keeps what was done through whatever interrupts it."""

from __future__ import annotations

from typing import Any

import pytest

from trading.models import Account, KillSwitch
from trading.runtime import emergency
from trading.runtime.emergency import StoredAccount

pytestmark = pytest.mark.django_db


@pytest.fixture
def stored(account: Account, settings: Any, tmp_path: Any) -> StoredAccount:
    settings.DATA_DIR = tmp_path
    return StoredAccount(account.pk, account.name, account.environment, "", "")


def test_a_line_that_was_torn_does_not_swallow_the_next_runs_first(account: Account, stored: StoredAccount) -> None:
    emergency.folder().mkdir()
    (emergency.folder() / "journal.jsonl").write_bytes(b'{"id": "to')
    with emergency.journal("ops", "why") as book:
        book.write(stored, "e1", "begun")
    assert emergency.import_journal()
    assert KillSwitch.objects.get().account == account
