"""Renews objects in the child of a fork.

A child has copies of the parent's connections, so both would read each other's answers. It has
copies of locks that a thread of the parent held, and it has none of the parent's threads. So an
object with a connection, a lock or a thread registers itself here, and makes new ones in the child.
The parent keeps its own.
"""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Renewable(Protocol):
    """An object with connections, locks or threads."""

    def renew(self) -> None:
        """Replace connections, locks and threads, without using the present ones."""


_registered: WeakSet[Renewable] = WeakSet()


def renew_in_children(renewable: Renewable) -> None:
    """Call `renew` of this object in every process that is forked from this one."""
    _registered.add(renewable)


def _renew() -> None:
    for renewable in list(_registered):
        renewable.renew()


os.register_at_fork(after_in_child=_renew)
