"""How kernels read a parameter: its place in the block, by name, resolved when the module is imported."""

from __future__ import annotations

from marketdata.engine.detectors.layout import PARAMETERS
from marketdata.engine.detectors.parameters import NAMES


def place_of(name: str) -> int:
    """The word of a parameter (float). ValueError where there is none of this name."""
    return PARAMETERS + NAMES.index(name)
