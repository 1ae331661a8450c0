"""Live parts that were made, for other pages that show the same.

Two pages of the same key with the same URL differ in two texts only: the nonce of the answer and
the CSRF token of the session.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Self

from orchestrator.forks import renew_in_children

#: The most parts that a process keeps. A part with 50 jobs has 50 KB.
MAX_PARTS = 100
#: A longer part is not kept. Characters.
MAX_PART_CHARACTERS = 200_000


@dataclass(frozen=True, slots=True)
class Part:
    """A live part.

    Attributes:
        html: as it was sent to the page for which it was made.
        texts: what only that page has, in a fixed order. They are long and random.
        content: names the rest.
    """

    html: str
    texts: tuple[str, ...]
    content: str

    @classmethod
    def of(cls, html: str, texts: tuple[str, ...]) -> Self:
        """Return the part of a page with these texts."""
        rest = html
        for text in texts:
            rest = rest.replace(text, "")
        return cls(html, texts, sha256(rest.encode()).hexdigest()[:20])

    def html_for(self, texts: Iterable[str]) -> str:
        """Return the part for another page."""
        html = self.html
        for mine, other in zip(self.texts, texts, strict=True):
            html = html.replace(mine, other)
        return html


class SharedParts:
    """Keeps the newest parts, by the state from which each was made."""

    def __init__(self) -> None:
        self._parts: OrderedDict[str, Part] = OrderedDict()
        self._lock = threading.Lock()
        renew_in_children(self)

    def renew(self) -> None:
        """Replace the lock in the child of a fork."""
        self._lock = threading.Lock()

    def get(self, state: str) -> Part | None:
        """Return the part of a state, or None."""
        return self._parts.get(state)

    def put(self, state: str, part: Part) -> None:
        """Keep a part."""
        if len(part.html) > MAX_PART_CHARACTERS:
            return
        with self._lock:
            self._parts[state] = part
            while len(self._parts) > MAX_PARTS:
                self._parts.popitem(last=False)
