"""The order of an orderly end, and the seconds that each part adds to its time: less than ten together."""

from __future__ import annotations

from platform_site.supervisor.child import Stage

# Orders before the venue they go to, and the stores last: whatever is still being written has somewhere to go.
ORDER: tuple[tuple[Stage, float], ...] = (
    (Stage.APPLICATION, 4.5),
    (Stage.VENUE, 1.5),
    (Stage.CACHE, 1.0),
    (Stage.DATABASE, 2.0),
)
# A killed process disappears at once; this bounds the wait for the kernel to say so.
AFTER_KILL_SECONDS = 0.5
