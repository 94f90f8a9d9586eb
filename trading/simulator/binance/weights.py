"""Request weight by IP: so much a minute, 429 beyond it, and a ban (418) for who goes on regardless."""

from __future__ import annotations

from dataclasses import dataclass

MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True)
class Verdict:
    """``status`` is 200, 429 or 418; ``retry_after_s`` counts for the last two; ``used`` is the minute's weight."""

    status: int
    used: int
    retry_after_s: int = 0
    banned_until_ms: int = 0


@dataclass(slots=True)
class Usage:
    minute: int = -1
    used: int = 0
    refused: int = 0
    bans: int = 0
    banned_until_ms: int = 0


class RequestWeights:
    """Weight that each address used in the current minute.

    Args:
        limit: weight a minute.
        tolerated: refused requests, of one minute or during a ban, before the next ban.
        first_ban_s: how long the first ban is; each further one is twice as long.
        longest_ban_s: where that ends.
    """

    def __init__(
        self, limit: int, *, tolerated: int = 10, first_ban_s: int = 120, longest_ban_s: int = 3 * 86_400
    ) -> None:
        self.limit = limit
        self._tolerated, self._first_ban_s, self._longest_ban_s = tolerated, first_ban_s, longest_ban_s
        self._usage: dict[str, Usage] = {}

    def spend(self, address: str, weight: int, now_ms: int) -> Verdict:
        """Count one request; the answer says whether it may be served."""
        usage = self._usage.setdefault(address, Usage())
        minute = now_ms // MINUTE_MS
        banned = now_ms < usage.banned_until_ms
        if usage.minute != minute:
            usage.minute, usage.used = minute, 0
            usage.refused = usage.refused if banned else 0
        usage.used += weight
        if not banned and usage.used <= self.limit:
            return Verdict(200, usage.used)
        usage.refused += 1
        if usage.refused > self._tolerated:
            self._ban(usage, now_ms)
            banned = True
        until_ms = usage.banned_until_ms if banned else (minute + 1) * MINUTE_MS
        return Verdict(418 if banned else 429, usage.used, -(-(until_ms - now_ms) // 1_000), until_ms)

    def _ban(self, usage: Usage, now_ms: int) -> None:
        seconds = min(self._longest_ban_s, self._first_ban_s * 2**usage.bans)
        usage.bans, usage.refused = usage.bans + 1, 0
        usage.banned_until_ms = max(usage.banned_until_ms, now_ms + seconds * 1_000)
