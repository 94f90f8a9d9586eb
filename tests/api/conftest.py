from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from django.core.cache import cache
from rest_framework.test import APIClient

from tests import builders
from trading.models import Account, Membership
from trading.services.accounts import membership_grant


@dataclass
class Cast:
    """Alice and Bob have an account each; Vera may look at Alice's; Charlie has no access to anything."""

    alice: Any
    bob: Any
    vera: Any
    charlie: Any
    alices: Account
    bobs: Account

    def client(self, user: Any) -> APIClient:
        client = APIClient()
        if user is not None:
            client.force_authenticate(user)
        return client


@pytest.fixture
def cast(db: None) -> Cast:
    cache.clear()  # throttles count there
    builders.list_instruments()
    users = {name: builders.user(name) for name in ("alice", "bob", "vera", "charlie")}
    made = Cast(**users, alices=builders.account(users["alice"]), bobs=builders.account(users["bob"]))
    membership_grant(account=made.alices, user=made.vera, role=Membership.Role.VIEWER, actor="test")
    return made
