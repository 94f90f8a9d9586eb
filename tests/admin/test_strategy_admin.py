"""Strategies in the admin: made, changed and refused through their service."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from audit.models import AuditEvent
from strategies.models import StrategyConfig
from tests import builders

pytestmark = pytest.mark.django_db


def test_a_strategy_is_added_to_an_account(db: Any) -> None:
    builders.list_instruments()
    account = builders.account(builders.user("alice"))
    client = Client()
    client.force_login(builders.user("desk", is_staff=True, is_superuser=True))
    values = {"account": account.pk, "name": "trend", "strategy": "supertrend", "symbols": '["BTCUSDT"]'}
    values |= {"sizing_mode": "percent", "sizing_value": "1", "leverage": "10", "parameters": "{}"}
    answer = client.post(reverse("admin:strategies_strategyconfig_add"), values)
    assert answer.status_code == 302, answer.context["adminform"].form.errors
    config = StrategyConfig.objects.get()
    assert (config.name, config.enabled, config.adaptive_leverage) == ("trend", False, False)
    assert AuditEvent.objects.filter(action="strategy.created", actor="desk").exists()
