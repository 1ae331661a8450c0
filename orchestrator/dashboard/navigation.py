"""The menu of the dashboard."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Item:
    """A page in the menu.

    Attributes:
        endpoint: of its route.
        title: its words.
        admin: whether only administrators see it.
    """

    endpoint: str
    title: str
    admin: bool = False


MENU: tuple[tuple[str, tuple[Item, ...]], ...] = (
    (
        "Jobs",
        (
            Item("overview", "Overview"),
            Item("jobs", "Jobs"),
            Item("unconfirmed", "Unconfirmed"),
            Item("at_risk", "Images at risk"),
            Item("deliveries", "Deliveries"),
        ),
    ),
    ("Money", (Item("money", "Money"), Item("providers", "Providers"))),
    (
        "Operation",
        (
            Item("rejected", "Rejected messages", admin=True),
            Item("keys", "Keys and tenants", admin=True),
            Item("audit", "Audit log", admin=True),
            Item("system", "System", admin=True),
        ),
    ),
)
