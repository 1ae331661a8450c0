"""Sets how often a long-lived process looks for unreachable cycles of objects."""

from __future__ import annotations

import gc

#: New objects until Python looks for cycles among them. Its default is 700, which is after every
#: second request or step. That took about 7 % of the CPU time. A request or a step leaves few.
NEW_OBJECTS = 10_000


def tune() -> None:
    """Call it once everything is loaded: what exists now is never looked at again."""
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS, 10, 10)
