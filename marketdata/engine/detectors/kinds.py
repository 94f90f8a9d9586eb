"""What can be detected, by number in kernels and by name everywhere else. No kernel is imported here."""

from __future__ import annotations

from enum import IntEnum


class DetectionKind(IntEnum):
    IMBALANCE = 0
    VOLUME_CLUSTER = 1
    CLUSTER_GONE = 2
    HOT_SPOT = 3
    SUPPORT = 4
    RESISTANCE = 5
    SPOOFING = 6
    LAYERING = 7
    ABSORPTION = 8
    LEVEL_LIFETIME = 9
    TOXICITY = 10
    EXPLOSION = 11


# All but the ends of large levels, of which a busy market has hundreds an hour.
DEFAULT_KINDS = ",".join(kind.name for kind in DetectionKind if kind is not DetectionKind.LEVEL_LIFETIME)


def kinds_from_text(text: str) -> frozenset[DetectionKind]:
    """Kinds by name, comma-separated; empty: none.

    Raises:
        ValueError: an unknown name; the message lists the known ones.
    """
    names = [name for name in text.replace(" ", "").split(",") if name]
    for name in names:
        if name not in DetectionKind.__members__:
            raise ValueError(f"{name} is not one of {', '.join(DetectionKind.__members__)}")
    return frozenset(DetectionKind[name] for name in names)
