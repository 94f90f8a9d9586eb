"""What owners look after is read for all accounts at once, and is for each what it would be alone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Collection, Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from risk.exposure import Exposure
from risk.models import RiskLimit
from risk.selectors import limits_for
from tests import builders
from trading.lifecycle import OrderState
from trading.models import Account, KillSwitchTask, Order
from trading.runtime import exposure_reader
from trading.runtime.exposure_reader import ExposureReader
from trading.services.exposures import account_exposure
from trading.services.kill_switch import kill_switch_engage
from trading.services.orders import order_place
from trading.services.owner_work import accounts_being_stopped, owner_work

D = Decimal


@pytest.fixture
def accounts(db: None) -> list[Account]:
    builders.list_instruments()
    return [builders.account(builders.user(f"user{number}")) for number in range(4)]


def place(account: Account, state: OrderState = OrderState.NEW) -> int:
    order = order_place(
        account=account, actor="somebody", symbol="BTCUSDT", side="Buy", order_type="Limit", quantity=D("0.01"),
        price=D(50_000), stop_loss=D(49_000),
    )  # fmt: skip
    Order.objects.filter(pk=order.pk).update(state=str(state), sent_at=timezone.now())
    return order.pk


def test_each_account_gets_its_own_work(accounts: list[Account]) -> None:
    first, second, third, _ = accounts
    intent, cancel = place(first), place(first, OrderState.PENDING_CANCEL)
    lost, underway = place(second, OrderState.UNKNOWN), place(second, OrderState.PENDING_SUBMIT)
    work = owner_work([account.pk for account in accounts])
    assert (work[first.pk].intents, work[first.pk].changes, work[first.pk].unresolved) == ([intent], [cancel], [])
    assert (work[second.pk].intents, work[second.pk].unresolved) == ([], [lost])
    assert not work[third.pk].intents and not work[third.pk].unresolved
    # An answer that does not come is looked for.
    Order.objects.filter(pk=underway).update(sent_at=timezone.now() - timedelta(seconds=5))
    assert owner_work([second.pk])[second.pk].unresolved == [lost, underway]


def test_what_is_read_for_many_is_what_is_read_for_one(accounts: list[Account]) -> None:
    for account, state in zip(accounts, (OrderState.ACKNOWLEDGED, OrderState.UNKNOWN, OrderState.NEW), strict=False):
        place(account, state)
    RiskLimit.objects.create(level="platform", max_positions=9)
    RiskLimit.objects.create(level="user", user=accounts[0].owner, max_open_orders=3)
    RiskLimit.objects.create(level="account", account=accounts[1], max_order_notional=D(77))
    # Sent long ago: how many left in the last second is another number at each reading.
    Order.objects.update(sent_at=timezone.now() - timedelta(hours=1))
    work = owner_work([account.pk for account in accounts])
    for account in accounts:
        assert work[account.pk].exposure == account_exposure(account.pk)
        assert work[account.pk].limits == limits_for(account)
    assert work[accounts[3].pk].exposure.platform.positions == 2, "others' orders that may fill"


def test_more_accounts_are_no_more_questions(accounts: list[Account]) -> None:
    for account in accounts:
        place(account, OrderState.ACKNOWLEDGED)
    RiskLimit.objects.create(level="platform", max_positions=9)
    counted = []
    for some in (accounts[:1], accounts):
        with CaptureQueriesContext(connection) as asked:
            owner_work([account.pk for account in some])
        counted.append(len(asked))
    assert counted[0] == counted[1]


def test_an_account_that_is_gone_keeps_nobody_from_being_looked_after(accounts: list[Account]) -> None:
    assert set(owner_work([accounts[0].pk, 10**6])) == {accounts[0].pk}


def test_only_accounts_that_a_kill_switch_still_stops_are_named(accounts: list[Account]) -> None:
    first, second, *_ = accounts
    kill_switch_engage(account=first, actor="somebody", reason="a test")
    identifiers = [account.pk for account in accounts]
    assert accounts_being_stopped(identifiers) == [first.pk]
    KillSwitchTask.objects.filter(account=first).update(phase=KillSwitchTask.Phase.DONE)
    assert accounts_being_stopped(identifiers) == [] and accounts_being_stopped([second.pk]) == []


class Books:
    """In the place of the database: each reading waits until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[list[int]] = []
        self.fails: Exception | None = None
        self.go = threading.Semaphore(0)
        monkeypatch.setattr(exposure_reader, "account_exposures", self.read)
        monkeypatch.setattr(exposure_reader, "with_connection", lambda work: work())

    def read(self, account_ids: Collection[int], prices: Mapping[str, Decimal]) -> dict[int, Exposure]:
        self.asked.append(sorted(account_ids))
        self.go.acquire(timeout=10)
        if self.fails is not None:
            raise self.fails
        return {account_id: Exposure(known=True) for account_id in account_ids if account_id < 100}


@pytest.fixture
def books(monkeypatch: pytest.MonkeyPatch) -> Books:
    return Books(monkeypatch)


async def asked_for(reader: ExposureReader, *account_ids: int) -> list[asyncio.Task[Any]]:
    tasks = [asyncio.create_task(reader.read(account_id)) for account_id in account_ids]
    await asyncio.sleep(0)
    return tasks


async def test_who_asks_while_the_books_are_read_shares_the_next_reading(books: Books) -> None:
    reader = ExposureReader(dict)
    first = await asked_for(reader, 1)
    while not books.asked:
        await asyncio.sleep(0.001)
    later = await asked_for(reader, 1, 2, 3, 2)
    books.go.release(2)
    answers = await asyncio.gather(*first, *later)
    assert books.asked == [[1], [1, 2, 3]]
    assert answers[0][1] < answers[1][1], "what had changed after the first reading began is in the second"
    reader.close()


async def test_a_database_that_does_not_answer_is_told_to_all_who_asked_and_asked_again_later(books: Books) -> None:
    reader = ExposureReader(dict)
    books.fails = OperationalError("the connection is lost")
    books.go.release(2)
    for answer in await asyncio.gather(*await asked_for(reader, 1, 2), return_exceptions=True):
        assert isinstance(answer, OperationalError)
    books.fails = None
    exposure, _ = await reader.read(1)
    assert exposure.known
    reader.close()


async def test_an_account_whose_books_are_not_understood_is_the_only_one_that_is_not_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def read(account_ids: Collection[int], prices: Mapping[str, Decimal]) -> dict[int, Exposure]:
        if 2 in account_ids:
            raise ValueError("a row that nobody expected")
        return {account_id: Exposure(known=True) for account_id in account_ids}

    monkeypatch.setattr(exposure_reader, "account_exposures", read)
    monkeypatch.setattr(exposure_reader, "with_connection", lambda work: work())
    reader = ExposureReader(dict)
    one, two, three = await asyncio.gather(*await asked_for(reader, 1, 2, 3), return_exceptions=True)
    assert isinstance(two, ValueError) and one[0].known and three[0].known
    reader.close()


async def test_an_account_that_does_not_exist_is_an_error_for_who_asked(books: Books) -> None:
    reader = ExposureReader(dict)
    books.go.release()
    with pytest.raises(Account.DoesNotExist):
        await reader.read(100)
    reader.close()
