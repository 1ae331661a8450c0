"""Each page of the dashboard, wide and narrow, light and dark."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache

import pytest
from playwright.sync_api import Browser, Page, StorageState, ViewportSize, expect

from tests.dashboard import kit
from tests.dashboard.kit import accessible, fits, words_are_whole
from tests.dashboard.site import ADMIN, Kind, Site
from tests.dashboard.views import SCHEMES, SIZES, VIEWS, View

#: More widths of windows: a large screen, laptops, both sides of a change of the layout, a phone.
WIDTHS_PX = (2560, 1280, 1240, 1239, 1024, 977, 976, 768, 390)
#: A name of a tenant that is as long as it may be, without a place for a line end.
LONGEST_NAME = "a_tenant_" + "x" * 55


@pytest.fixture(scope="module")
def pages(
    browser: Browser, site: Site, session_of: Callable[[str], StorageState]
) -> Iterator[Callable[[bool], tuple[Page, kit.Faults]]]:
    """A function that returns a page of the administrator, or of nobody, and its faults.

    The tests share both pages, because the start of one takes as long as the checks of a view.
    """
    with ExitStack() as closing:

        @cache
        def page(signed_in: bool) -> tuple[Page, kit.Faults]:
            faults = kit.Faults()
            options = {"storage_state": session_of(ADMIN)} if signed_in else {}
            return closing.enter_context(kit.opened(browser, site.url, faults, **options)), faults

        yield page


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_a_page_is_accessible_and_fits(
    view: View, site: Site, pages: Callable[[bool], tuple[Page, kit.Faults]]
) -> None:
    page, faults = pages(view.signed_in)
    faults.found.clear()  # those of a test that failed
    page.goto(view.path.format_map(site.jobs))
    # Colours and sizes do not depend on each other, so two of the four combinations show all.
    for size, scheme in zip(SIZES.values(), SCHEMES, strict=True):
        page.set_viewport_size(size)
        page.emulate_media(color_scheme=scheme)
        accessible(page)
        fits(page)
    for width in WIDTHS_PX:
        page.set_viewport_size(ViewportSize(width=width, height=900))
        fits(page)
        words_are_whole(page, LONGEST_NAME)
    page.evaluate(kit.SETTLE)
    faults.check()


def test_the_page_of_the_sandbox_fits(
    site: Site, pages: Callable[[bool], tuple[Page, kit.Faults]]
) -> None:
    site.enqueue(Kind("hiapi", "nano-banana-2", "w" * 200))
    page, faults = pages(False)
    faults.found.clear()
    page.goto(f"{site.stack.sandbox_url}/")
    expect(page.get_by_role("heading", name="Tasks")).to_be_visible()
    for width in WIDTHS_PX:
        page.set_viewport_size(ViewportSize(width=width, height=900))
        fits(page)
