"""Why a start cannot go on, said in one sentence that a person can act on."""

from __future__ import annotations


class StartRefused(Exception):
    """The start cannot go on. The text names what is wrong, where, and what to do; it is shown without a traceback."""


class StopRequested(Exception):
    """Somebody asked for the end (Ctrl-C, SIGTERM, a closed terminal) while something was being waited for."""
