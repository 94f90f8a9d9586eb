"""What the files of a recording are called."""

from __future__ import annotations

SUFFIX, INDEX_SUFFIX = ".jsonl.zst", ".index.jsonl"
