"""The journal of an emergency close keeps what was done through whatever interrupts it."""

from __future__ import annotations

import errno
import io
import logging
import os
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from trading.models import Account, KillSwitch
from trading.runtime import emergency
from trading.runtime.emergency import StoredAccount

pytestmark = pytest.mark.django_db


@pytest.fixture
def stored(account: Account, settings: Any, tmp_path: Any) -> StoredAccount:
    settings.DATA_DIR = tmp_path
    return StoredAccount(account.pk, account.name, account.environment, "", "")


def test_a_machine_without_the_accounts_is_told_what_to_do_and_prepared_by_one_command(
    account: Account, settings: Any, tmp_path: Any
) -> None:
    settings.DATA_DIR = tmp_path
    with pytest.raises(CommandError, match="copy that file from there to here") as refused:
        call_command("kill_switch", "emergency-close", "--reason", "a test")
    assert "prepare-emergency" in str(refused.value) and str(tmp_path) in str(refused.value)
    said = io.StringIO()
    call_command("kill_switch", "prepare-emergency", stdout=said)
    assert "1 accounts are in" in said.getvalue()
    (stored,) = emergency.stored_accounts()
    assert (stored.account_id, stored.name) == (account.pk, account.name)
    assert "secret" not in (emergency.folder() / "accounts.json").read_text().replace('"secret":', "")


def test_a_line_that_was_torn_does_not_swallow_the_next_runs_first(account: Account, stored: StoredAccount) -> None:
    emergency.folder().mkdir()
    (emergency.folder() / "journal.jsonl").write_bytes(b'{"id": "to')
    with emergency.journal("ops", "why") as book:
        book.write(stored, "e1", "begun")
    assert emergency.import_journal()
    assert KillSwitch.objects.get().account == account


def test_a_full_disk_keeps_nobody_from_closing_and_says_what_is_to_be_done(
    stored: StoredAccount, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with caplog.at_level(logging.CRITICAL), emergency.journal("ops", "why") as book:
        book.write(stored, "e1", "begun")
    assert "No space left" in caplog.text and "engage its kill switch" in caplog.text
