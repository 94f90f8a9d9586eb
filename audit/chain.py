"""The hash chain behind the audit trail: each event's hash covers its content and the hash before it.

Altering, removing or reordering an event breaks every hash after it, which :func:`first_break` finds from an export
alone, without the database.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

GENESIS = "0" * 64


def canonical_json(content: Mapping[str, Any]) -> bytes:
    """One spelling for one content: sorted keys, no spaces, UTF-8. Decimals and times must already be text."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def link_hash(previous_hash: str, content: Mapping[str, Any]) -> str:
    """SHA-256, in lower-case hexadecimal, of the previous hash and the canonical content."""
    return hashlib.sha256(previous_hash.encode() + b"\n" + canonical_json(content)).hexdigest()


@dataclass(frozen=True, slots=True)
class Link:
    sequence: int
    previous_hash: str
    hash: str
    content: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Break:
    """Where a chain stops being believable, and why."""

    sequence: int
    reason: str


def first_break(
    links: Iterable[Link], *, head_sequence: int | None = None, head_hash: str | None = None
) -> Break | None:
    """The first place at which ``links`` (oldest first) is not an unbroken chain, or None.

    ``head_sequence`` and ``head_hash`` are what the chain's head claims, so that a cut-off tail is noticed too.
    """
    expected_sequence, expected_previous = 1, GENESIS
    for link in links:
        if link.sequence != expected_sequence:
            return Break(expected_sequence, f"event {expected_sequence} is missing; {link.sequence} follows instead")
        if link.previous_hash != expected_previous:
            return Break(link.sequence, "the previous hash is not that of the event before")
        if link_hash(link.previous_hash, link.content) != link.hash:
            return Break(link.sequence, "the content does not match its hash")
        expected_sequence, expected_previous = link.sequence + 1, link.hash
    if head_sequence is not None and head_sequence != expected_sequence - 1:
        return Break(expected_sequence, f"the chain ends at {expected_sequence - 1}; its head says {head_sequence}")
    if head_hash is not None and head_hash != expected_previous:
        return Break(expected_sequence - 1, "the last hash is not the one its head holds")
    return None
