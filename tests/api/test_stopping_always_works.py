"""Stopping and getting out work over the API whatever else is away, used up or in the way."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.cache import cache
from rest_framework.test import APIClient
from rest_framework.throttling import UserRateThrottle

from tests.api.conftest import Cast
from trading.models import KillSwitch

pytestmark = pytest.mark.django_db
ORDER = {"symbol": "BTCUSDT", "side": "Buy", "order_type": "Limit", "quantity": "0.01", "price": "60000.0"}


@pytest.fixture
def valkey_away(settings: Any) -> None:
    """A cache that nobody answers for; port 1 is nobody's."""
    settings.CACHES = {"default": {**settings.CACHES["default"], "LOCATION": "redis://127.0.0.1:1/0"}}


def engage(client: APIClient, account_id: int) -> Any:
    return client.post("/api/v1/kill-switch/engage", {"account": account_id, "reason": "a test"}, format="json")


def test_with_valkey_away_orders_are_taken_and_an_account_is_stopped(cast: Cast, valkey_away: None) -> None:
    client = cast.client(cast.alice)
    client.raise_request_exception = False
    assert client.post("/api/v1/trading/order", ORDER, format="json").status_code == 201
    assert engage(client, cast.alices.pk).status_code == 201
    assert KillSwitch.objects.get().account == cast.alices


def test_a_bot_that_used_up_its_users_requests_does_not_keep_the_user_from_stopping(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(UserRateThrottle, "rate", "2/min", raising=False)
    client = cast.client(cast.alice)
    assert [client.get("/api/v1/accounts").status_code for _ in range(3)] == [200, 200, 429]
    assert engage(client, cast.alices.pk).status_code == 201
    assert engage(cast.client(cast.bob), cast.alices.pk).status_code == 404
    cache.clear()
