from __future__ import annotations

from typing import Any

import pytest

from tests import builders
from trading.models import Account


@pytest.fixture
def instruments(db: None) -> None:
    builders.list_instruments()


@pytest.fixture
def alice(instruments: None) -> Any:
    return builders.user("alice")


@pytest.fixture
def account(alice: Any) -> Account:
    return builders.account(alice)
