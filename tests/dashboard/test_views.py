"""Each page of the dashboard, wide and narrow, light and dark."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, ViewportSize

from tests.dashboard.kit import accessible, fits
from tests.dashboard.site import ADMIN, Site
from tests.dashboard.views import SCHEMES, SIZES, VIEWS, View

WIDEST = ViewportSize(width=2560, height=1440)


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_a_page_is_accessible_and_fits(
    view: View, site: Site, open_page: Callable[..., Page]
) -> None:
    page = open_page(ADMIN if view.signed_in else None)
    page.goto(view.path.format_map(site.jobs))
    # Colours and sizes do not depend on each other, so two of the four combinations show all.
    for size, scheme in zip(SIZES.values(), SCHEMES, strict=True):
        page.set_viewport_size(size)
        page.emulate_media(color_scheme=scheme)
        accessible(page)
        fits(page)
    page.set_viewport_size(WIDEST)
    fits(page)
