"""The hash chain behind the audit trail: each event's hash covers its content and the hash before it.

Altering, removing or reordering an event breaks every hash after it, which :func:`first_break` finds. Whoever computes
all hashes anew, or cuts the end off, is found by heads that were noted elsewhere before. Nothing but the standard
library: the verifier of exports runs with this file beside it and without the project.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

GENESIS = "0" * 64
PLATFORM = "platform"
# Heads of the other chains, written on the platform's chain: its own head then stands for all of them.
HEADS_NOTED = "audit.heads_noted"

REWRITTEN = "the hash is not the one that was noted earlier: this event or one before it was written anew"

NONE_NOTED: Mapping[int, str] = MappingProxyType({})
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode
_HEAD = re.compile(r"(?P<chain>platform|account:[0-9]{1,19})#(?P<sequence>[0-9]{1,19})=(?P<hash>[0-9a-f]{64})")


def canonical_json(content: Mapping[str, Any]) -> bytes:
    """One spelling for one content: sorted keys, no spaces, UTF-8. Decimals and times must already be text."""
    return _encode(content).encode()


def link_hash(previous_hash: str, content: Mapping[str, Any]) -> str:
    """SHA-256, in lower-case hexadecimal, of the previous hash and the canonical content."""
    return hashlib.sha256(previous_hash.encode() + b"\n" + canonical_json(content)).hexdigest()


def account_chain(account_id: int) -> str:
    return f"account:{account_id}"


class Link(NamedTuple):
    sequence: int
    previous_hash: str
    hash: str
    content: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Head:
    """Where a chain stood at some moment, written as ``platform#12=<64 hexadecimal digits>``."""

    chain: str
    sequence: int
    hash: str

    def __str__(self) -> str:
        return f"{self.chain}#{self.sequence}={self.hash}"

    @classmethod
    def parse(cls, text: str) -> Head:
        """Raises ValueError with what was expected."""
        found = _HEAD.fullmatch(text.strip())
        if found is None:
            raise ValueError(
                f"{text.strip()[:120]!r} is no head; expected CHAIN#SEQUENCE=HASH, like platform#12=0a1b..."
            )
        return cls(found["chain"], int(found["sequence"]), found["hash"])


@dataclass(frozen=True, slots=True)
class Break:
    """Where a chain stops being believable, and why."""

    sequence: int
    reason: str


def first_break(
    links: Iterable[Link],
    *,
    head_sequence: int | None = None,
    head_hash: str | None = None,
    after: int = 0,
    after_hash: str = GENESIS,
    noted: Mapping[int, str] = NONE_NOTED,
    digest: Callable[[str, Mapping[str, Any]], str] = link_hash,
) -> Break | None:
    """The first place at which ``links`` (oldest first) is not an unbroken chain, or None.

    ``head_sequence`` and ``head_hash`` are what the chain's head claims, so that a cut-off tail is noticed too.
    ``after`` and ``after_hash``: the link before the first one, where the beginning is not among them. ``noted``: hash
    by sequence, of heads that were noted earlier; those before ``after`` cannot be compared. ``digest``: a faster
    ``link_hash``, whose word counts only where it agrees.
    """
    sequence, last = after, after_hash
    if noted.get(after, after_hash) != after_hash:
        return Break(after, REWRITTEN)
    for link in links:
        if link.sequence != sequence + 1:
            reason = f"event {sequence + 1} is missing; {link.sequence} follows instead"
            return Break(sequence + 1, reason if link.sequence > sequence else f"event {link.sequence} is out of order")
        if link.previous_hash != last:
            return Break(link.sequence, "the previous hash is not that of the event before")
        if digest(last, link.content) != link.hash and link_hash(last, link.content) != link.hash:
            return Break(link.sequence, "the content does not match its hash")
        sequence, last = link.sequence, link.hash
        if noted and noted.get(sequence, last) != last:
            return Break(sequence, REWRITTEN)
    if head_sequence is not None and head_sequence != sequence:
        return Break(sequence + 1, f"the chain ends at {sequence}; its head says {head_sequence}")
    if head_hash is not None and head_hash != last:
        return Break(sequence, "the last hash is not the one its head holds")
    if noted and max(noted) > sequence:
        return Break(sequence + 1, f"the chain ends at {sequence}; it had {max(noted)} events when its head was noted")
    return None


def heads_in(link: Link) -> list[Head]:
    """The heads of other chains that an event of the platform's chain holds."""
    if link.content.get("action") != HEADS_NOTED:
        return []
    parameters = link.content.get("parameters")
    texts = parameters.get("heads") if isinstance(parameters, dict) else None
    # A forged event may hold anything; its hash tells, not this.
    return [Head.parse(text) for text in texts or () if isinstance(text, str) and _HEAD.fullmatch(text)]


def noted_by_chain(heads: Iterable[Head]) -> dict[str, dict[int, str]]:
    """Hash by sequence, by chain. Of two different hashes for one event the first stays: one of them will not do."""
    found: dict[str, dict[int, str]] = {}
    for head in heads:
        found.setdefault(head.chain, {}).setdefault(head.sequence, head.hash)
    return found
