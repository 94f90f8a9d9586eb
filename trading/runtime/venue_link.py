"""The one place that decides where an account's requests go and with which keys. Everybody who opens a gateway or a
private stream asks here, so that an account on paper has no way to the real venue, and a real one none to paper."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from django.conf import settings

from trading.credentials import decrypt
from trading.gateways.bybit import BybitEndpoints, BybitGateway
from trading.gateways.fence import Fence, no_fence
from trading.models import Account, Mode
from trading.resilience.guard import CallGuard


@dataclass(frozen=True, slots=True)
class StoredKeys:
    """The keys of one mode as they are stored, still encrypted: another encryption is another entry of them."""

    mode: str
    key: bytes
    secret: bytes


@dataclass(frozen=True, slots=True)
class VenueLink:
    """Addresses and keys of one mode, which belong together."""

    mode: str
    endpoints: BybitEndpoints
    api_key: str = field(repr=False)
    api_secret: str = field(repr=False)

    def gateway(
        self,
        *,
        fence: Fence = no_fence,
        guard: CallGuard | None = None,
        priority: Literal["normal", "kill"] = "normal",
    ) -> BybitGateway:
        return BybitGateway(
            self.endpoints,
            self.api_key,
            self.api_secret,
            mode=self.mode,
            fence=fence,
            guard=guard,
            priority=priority,
        )


def stored_keys(account: Account) -> StoredKeys:
    """The keys of the mode that the account is in."""
    if account.mode == Mode.REAL:
        return StoredKeys(account.mode, bytes(account.api_key_encrypted), bytes(account.api_secret_encrypted))
    return StoredKeys(Mode.PAPER, bytes(account.paper_key_encrypted), bytes(account.paper_secret_encrypted))


def venue_link(account: Account, real: BybitEndpoints | None = None) -> VenueLink:
    """``real``: where the account's venue is, when not at its environment's address.

    Raises:
        CredentialsError: the keys do not open.
    """
    return link_of(stored_keys(account), account.environment, real)


def link_of(keys: StoredKeys, environment: str, real: BybitEndpoints | None = None) -> VenueLink:
    """The link of keys that were taken from the database before."""
    if keys.mode == Mode.REAL:
        endpoints = real or BybitEndpoints.of_environment(environment, settings.SIMULATOR_URL)
    else:
        endpoints = BybitEndpoints.of_paper(settings.PAPER_URL)
    return VenueLink(keys.mode, endpoints, decrypt(keys.key), decrypt(keys.secret))
