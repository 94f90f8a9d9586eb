"""What still works while a part is away: a name that stays the same for scripts, and a sentence for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Mode(NamedTuple):
    name: str
    sentence: str


class AccountsHeldBack(NamedTuple):
    """How many accounts do not trade, and why. Not which: everybody may read it."""

    platform_stopped: bool = False
    stopped: int = 0
    not_reconciled: int = 0


ALL_TRADE = AccountsHeldBack()


CACHE_AWAY = Mode(
    "cache_away",
    "Valkey is away: orders go out and fills are booked as always; pages get no live data, doorbells wait for timers, "
    "each process asks the exchange no more than its share, dead letters wait in a file",
)
DATABASE_AWAY = Mode(
    "database_away",
    "PostgreSQL is away: no new order is placed; orders and positions stay at the exchange with their stops, and "
    "engines keep the last known positions and their marks in memory",
)
ENGINE_AWAY = Mode(
    "engine_away",
    "no engine: no strategy acts and no order is sent; orders and positions stay at the exchange with their stops, and "
    "reconciliation by the worker goes on",
)
WORKER_AWAY = Mode(
    "worker_away",
    "no worker: engines go on trading and reconcile by themselves; scheduled reconciliation and checks of the audit "
    "trail wait",
)
BEAT_AWAY = Mode("beat_away", "no beat: nothing scheduled runs; engines go on trading")
# Where a component alone tells the mode.
BY_COMPONENT: Mapping[str, Mode] = {
    "cache": CACHE_AWAY,
    "database": DATABASE_AWAY,
    "engine": ENGINE_AWAY,
    "worker": WORKER_AWAY,
    "beat": BEAT_AWAY,
}
AUDIT_BROKEN = Mode(
    "audit_broken", "the audit trail is not what it was: `manage.py audit_verify` names the event; trading goes on"
)
GROUPS: Mapping[str, str] = {
    "orders": "no order is sent and only the kill switch cancels and closes",
    "account": "positions and orders are not compared with the exchange, which waits for the next answer",
    "market": "the exchange's clock is not asked, so that no order's absence is concluded",
}


def degraded_modes(
    components: Mapping[str, Mapping[str, str]],
    accesses: Mapping[str, Mapping[str, Any]],
    accounts: AccountsHeldBack = ALL_TRADE,
) -> list[dict[str, str]]:
    """The modes that hold now. ``accesses``: each process's breakers and budget (``venue_access_status``)."""
    database_down = components["database"]["status"] == "down"
    found = [
        mode
        for name, mode in BY_COMPONENT.items()
        if components[name]["status"] == "down" and (name == "database" or not database_down or name == "cache")
    ]
    if components.get("audit", {}).get("status") == "degraded":
        found.append(AUDIT_BROKEN)
    found += account_modes(accounts)
    found += breaker_modes(accesses)
    found += [
        Mode("rate_budget_local", f"{process} asks the exchange no more than its share: {budget['reason']}")
        for process, budget in sorted((process, access.get("budget", {})) for process, access in accesses.items())
        if budget.get("mode") == "local"
    ]
    return [mode._asdict() for mode in found]


def account_modes(accounts: AccountsHeldBack) -> list[Mode]:
    reduce = "only orders that reduce a position pass"
    found = []
    if accounts.platform_stopped:
        found.append(Mode("kill_switch", f"the whole platform is stopped by the kill switch: {reduce}"))
    if accounts.stopped:
        sentence = f"accounts stopped by their own kill switch: {accounts.stopped}; {reduce} there"
        found.append(Mode("kill_switch_accounts", sentence))
    if accounts.not_reconciled:
        sentence = f"accounts that were not compared with the exchange lately: {accounts.not_reconciled}"
        found.append(Mode("accounts_not_reconciled", f"{sentence}; what is shown of them may be old"))
    return found


def breaker_modes(accesses: Mapping[str, Mapping[str, Any]]) -> list[Mode]:
    found = []
    for process, access in sorted(accesses.items()):
        for venue, groups in access.get("breakers", {}).items():
            for group, row in groups.items():
                if row["state"] != "closed":
                    words = f"{process} gets no answers from {venue} ({group}, {row['state'].replace('_', '-')}): "
                    words += f"{GROUPS.get(group, 'nothing of it is asked')}; {row['reason']}"
                    found.append(Mode(f"breaker_open_{group}", words))
    return found
