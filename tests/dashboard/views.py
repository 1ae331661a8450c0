"""The pages of the dashboard: each is checked by axe-core and gets pictures: screenshots.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from playwright.sync_api import ViewportSize

ColorScheme = Literal["light", "dark"]


@dataclass(frozen=True)
class View:
    """A page of the dashboard.

    Attributes:
        name: the first part of its pictures' names.
        path: where it is. `{failed}` stands for the id of that job in `site.KINDS`.
        signed_in: the operator opens it. Otherwise nobody is signed in.
    """

    name: str
    path: str
    signed_in: bool = True


#: Add a line for each page.
VIEWS = (
    View("sign-in", "/sign-in", signed_in=False),
    View("overview", "/"),
    View("providers", "/providers"),
    View("keys", "/keys"),
    View("tenant", "/keys/tenants/shop"),
    View("audit", "/audit"),
    View("deliveries", "/deliveries"),
    View("rejected", "/rejected"),
    View("system", "/system"),
    View("jobs", "/jobs"),
    View("bulk-actions", "/bulk"),
    View("jobs-filters", "/jobs?status=failed&provider=evolink"),
    View("money", "/money"),
    View("job", "/jobs/{succeeded}"),
    View("unconfirmed", "/unconfirmed"),
    View("at-risk", "/at-risk"),
)
#: The sizes of the pictures.
SIZES = {
    "wide": ViewportSize(width=1440, height=900),
    "narrow": ViewportSize(width=360, height=740),
}
SCHEMES: tuple[ColorScheme, ...] = ("light", "dark")
