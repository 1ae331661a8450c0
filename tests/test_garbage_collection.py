"""A tuned process looks for cycles less often, and still finds them."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import gc, weakref
from orchestrator import garbage_collection

class Node: pass

def cycle():
    node = Node()
    node.itself = node
    return weakref.ref(node)

garbage_collection.tune()
few = [cycle() for _ in range(1_000)]
print(sum(each() is not None for each in few))
many = [cycle() for _ in range(2 * garbage_collection.NEW_OBJECTS)]
print(sum(each() is not None for each in few), gc.get_freeze_count() > 1_000)
"""


def test_cycles_are_found_after_many_new_objects_and_old_objects_are_left_alone() -> None:
    """The first cycles are alive at first. The collection of the later ones finds them."""
    ended = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["1000", "0", "True"], ended.stderr
