"""Seeded faults: what goes wrong, where, for whom and when, as rules that a file or a test gives."""

from __future__ import annotations
