"""Who should hold which resource: equal shares, and nobody moves that need not."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence


def assign(resources: Sequence[str], holders: Mapping[str, int], members: Collection[int]) -> dict[str, int]:
    """The member that each resource belongs to; empty without members.

    Every member gets an equal share (they differ by one at most) and keeps what it holds up to that; what is held by
    nobody, or by somebody with too much, goes to members with room. Which ones is decided by rendezvous hashing, so
    that everybody who sees the same holders and members comes to the same answer.
    """
    if not members:
        return {}
    held: dict[int, list[str]] = {member: [] for member in members}
    for resource in resources:
        holder = holders.get(resource)
        if holder in held:
            held[holder].append(resource)
    share, larger_shares = divmod(len(resources), len(held))
    # Larger shares go to those who hold most already: they would have to give away one more otherwise.
    ordered = sorted(held, key=lambda member: (-len(held[member]), member))
    room = {member: share + (place < larger_shares) for place, member in enumerate(ordered)}
    assigned: dict[str, int] = {}
    for member, own in held.items():
        for resource in sorted(own, key=lambda each: -affinity(each, member))[: room[member]]:
            assigned[resource] = member
        room[member] -= min(len(own), room[member])
    for resource in resources:
        if resource not in assigned:
            chosen = max((member for member in ordered if room[member]), key=lambda each: affinity(resource, each))
            room[chosen] -= 1
            assigned[resource] = chosen
    return assigned


def affinity(resource: str, member: int) -> int:
    """How much a resource would like to be with a member: the same in every process."""
    return int.from_bytes(hashlib.blake2b(f"{resource}/{member}".encode(), digest_size=8).digest(), "big")
