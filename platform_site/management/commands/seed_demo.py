from __future__ import annotations

import json
import os
import secrets
from decimal import Decimal
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand
from django.db import transaction

from marketdata.depth.services import collector_switch, collector_symbols_add
from marketdata.instruments import rules_from_bybit
from marketdata.models import DepthCollector
from marketdata.services import instruments_sync
from risk.models import RiskLimit
from risk.services import risk_limit_set
from strategies.models import StrategyConfig
from strategies.services import strategy_config_create, strategy_enable
from trading.models import Account, Membership, Mode
from trading.services.accounts import account_create, membership_grant
from trading.simulator.instruments import DEFAULT_SYMBOLS, INSTRUMENTS
from trading.simulator.keys import DEMO_KEYS

ACTOR = "seed_demo"
# Their depth is collected with every change, that of the others once a minute.
STREAMED = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
# At a paper venue that follows the demo's simulator, as one of a real deployment follows the real venue.
PAPER_ACCOUNT = "Paper demo"
LOGINS = "demo_logins.json"
PEOPLE = (
    ("admin", "administrator: everything, Django admin"),
    ("desk", "head of desk: sees all accounts, sets limits, stops everything"),
    ("alice", "trader: her own account, SuperTrend runs on it"),
    ("bob", "trader: his own account, order-book imbalance runs on it"),
    ("charlie", "researcher: no account yet"),
)


class Command(BaseCommand):
    help = "Create the demo users, accounts and strategies of a deployment that trades against the simulator."

    def handle(self, *args: Any, **options: Any) -> None:
        if settings.EXCHANGE != "simulator":
            # Known passwords have no place beside real keys.
            self._write_logins([])
            self.stdout.write(
                "No demo users: this deployment trades at a real venue. Create yours with createsuperuser."
            )
            return
        instruments_sync([rules_from_bybit(each.listing(), "linear") for each in INSTRUMENTS[:DEFAULT_SYMBOLS]])
        with transaction.atomic():
            logins = self._people()
            self._limits()
            self._accounts()
            self._depth()
        self._write_logins(logins)
        self.stdout.write(f"Demo users: {', '.join(login['username'] for login in logins)}.")

    def _people(self) -> list[dict[str, str]]:
        """Passwords are made once and kept in the data folder; a password changed by its owner is left alone."""
        path = self._path()
        known = {row["username"]: row for row in json.loads(path.read_text())} if path.exists() else {}
        logins = []
        for username, role in PEOPLE:
            password = known.get(username, {}).get("password") or f"{username}-{secrets.token_hex(4)}"
            user, created = get_user_model().objects.get_or_create(username=username)
            if created:
                user.is_staff = user.is_superuser = username in ("admin", "desk")
                user.set_password(password)
                user.save()
            logins.append({"username": username, "password": password, "role": role})
        return logins

    def _depth(self) -> None:
        """The first time: what is removed later stays away."""
        if not DepthCollector.objects.exists():
            collector_switch(running=True, actor=ACTOR)
            collector_symbols_add(symbols=STREAMED, source="stream", actor=ACTOR)
            others = [each.symbol for each in INSTRUMENTS[:DEFAULT_SYMBOLS] if each.symbol not in STREAMED]
            collector_symbols_add(symbols=others, source="rest", actor=ACTOR)

    def _limits(self) -> None:
        if RiskLimit.objects.filter(level="platform").exists():
            return
        risk_limit_set(
            level="platform",
            actor=ACTOR,
            max_order_notional=Decimal(50_000),
            max_position_notional=Decimal(300_000),
            max_open_orders=200,
            max_leverage=Decimal(50),
            price_collar_percent=Decimal(5),
            max_order_rate=10,
        )

    def _accounts(self) -> None:
        users = {user.username: user for user in get_user_model().objects.all()}
        for username in ("alice", "bob", "desk"):
            name = f"{username.capitalize()} demo"
            if Account.objects.filter(name=name).exists():
                continue
            key = DEMO_KEYS[username]
            account = account_create(
                owner=users[username],
                name=name,
                environment=Account.Environment.SIMULATOR,
                api_key=key.api_key,
                api_secret=key.api_secret,
                actor=ACTOR,
            )
            if username != "desk":
                membership_grant(account=account, user=users["desk"], role=Membership.Role.MANAGER, actor=ACTOR)
            self._strategies(account, username)

        if not Account.objects.filter(name=PAPER_ACCOUNT).exists():
            account_create(
                owner=users["desk"],
                name=PAPER_ACCOUNT,
                environment=Account.Environment.SIMULATOR,
                mode=Mode.PAPER,
                actor=ACTOR,
            )

    def _strategies(self, account: Account, username: str) -> None:
        if username == "alice":
            config = strategy_config_create(
                account=account,
                name="supertrend-1m",
                strategy="supertrend",
                symbols=["BTCUSDT", "ETHUSDT", "SOLUSDT"],
                parameters={"timeframe": "1", "period": 10, "multiplier": 2.0},
                sizing_mode=StrategyConfig.Sizing.PERCENT_OF_BALANCE,
                sizing_value=Decimal(1),
                leverage=Decimal(10),
                actor=ACTOR,
                user=account.owner,
            )
        elif username == "bob":
            config = strategy_config_create(
                account=account,
                name="imbalance",
                strategy="scalping.imbalance",
                symbols=["BTCUSDT", "SOLUSDT"],
                parameters={"levels": "5", "threshold": 0.8, "hold_ms": 300, "cooldown_s": 60},
                sizing_mode=StrategyConfig.Sizing.FIXED_USD,
                sizing_value=Decimal(100),
                leverage=Decimal(10),
                actor=ACTOR,
                user=account.owner,
            )
        else:
            return
        strategy_enable(config=config, actor=ACTOR)

    def _path(self) -> Path:
        return Path(settings.DATA_DIR) / LOGINS

    def _write_logins(self, logins: list[dict[str, str]]) -> None:
        path = self._path()
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(logins, file, indent=2)
