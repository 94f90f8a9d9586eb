"""The keys of paper accounts: they follow from the deployment's master key, so that the platform makes them without
asking the paper venue, and the paper venue knows them without a database.

``paper-ACCOUNT-MASTER-NONCE`` names the account, the master key by its fingerprint, and a nonce that makes each entry
of keys a new one; the secret is a keyed hash of that name.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence

from trading.simulator.keys import ApiKey

_FORM = re.compile(r"paper-([0-9]{1,18})-([0-9a-f]{8})-[0-9a-f]{12}")


class PaperKeys:
    """``master_keys``: the first makes new keys, all of them know their own again."""

    def __init__(self, master_keys: Sequence[str]) -> None:
        # Not the master key itself: nothing that is told of these may say anything of it.
        derived = [hmac.digest(key.encode(), b"ballast paper venue", "sha256") for key in master_keys]
        self._by_fingerprint = {hashlib.sha256(each).hexdigest()[:8]: each for each in derived}

    def issue(self, account_id: int) -> ApiKey:
        """New keys of an account. The paper venue's user, and so its ledger, stays the same.

        Raises:
            ValueError: there is no master key.
        """
        if not self._by_fingerprint:
            raise ValueError("there is no master key to make paper keys from")
        fingerprint = next(iter(self._by_fingerprint))
        return self._key(f"paper-{account_id}-{fingerprint}-{secrets.token_hex(6)}", account_id, fingerprint)

    def key_of(self, api_key: str) -> ApiKey | None:
        """The whole key by its name; None for one that we never made."""
        found = _FORM.fullmatch(api_key)
        if found is None or found[2] not in self._by_fingerprint:
            return None
        return self._key(api_key, int(found[1]), found[2])

    def _key(self, name: str, account_id: int, fingerprint: str) -> ApiKey:
        secret = hmac.digest(self._by_fingerprint[fingerprint], name.encode(), "sha256").hex()
        return ApiKey(f"paper-{account_id}", name, secret)
