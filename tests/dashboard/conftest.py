"""A running product and a browser, for all tests of the dashboard.

tests/support/scheduling.py lets one test process run all of them. The browser and the product stop
after the last one: while Playwright runs, no other test could start an event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, StorageState

from tests.dashboard import kit
from tests.dashboard.site import ADMIN, KEYS, Site, running
from tests.support import debian


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Debian's Chromium without windows."""
    program = debian.program(kit.PACKAGE)
    if program is None:
        pytest.skip(debian.missing(kit.PACKAGE))
    with kit.launched(program) as running_browser:
        yield running_browser


@pytest.fixture(scope="package")
def site(browser: Browser) -> Iterator[Site]:
    """The product with jobs of every kind. Nothing starts if there is no browser."""
    with running() as started:
        started.seed()
        yield started


@pytest.fixture(scope="package")
def session_of(browser: Browser, site: Site) -> Callable[[str], StorageState]:
    """A function that returns the session of a key in `KEYS`. Each key signs in once."""
    sessions: dict[str, StorageState] = {}

    def session(name: str) -> StorageState:
        if name not in sessions:
            sessions[name] = kit.session_of(browser, site.url, KEYS[name])
        return sessions[name]

    return session


@pytest.fixture
def faults() -> kit.Faults:
    """What goes wrong in the pages of the test. `faults.allow` expects a fault."""
    return kit.Faults()


@pytest.fixture
def open_page(
    browser: Browser,
    site: Site,
    session_of: Callable[[str], StorageState],
    faults: kit.Faults,
) -> Iterator[Callable[..., Page]]:
    """A function that opens a page of its own, signed in as one of `KEYS`, or as nobody.

    Its other arguments are options of `Browser.new_context`. The test fails at its end if something
    went wrong in a page.
    """
    with ExitStack() as closing:

        def open_one(name: str | None, **options: Any) -> Page:
            if name:
                options["storage_state"] = session_of(name)
            return closing.enter_context(kit.opened(browser, site.url, faults, **options))

        yield open_one


@pytest.fixture
def page(open_page: Callable[..., Page]) -> Page:
    """A page of the administrator, who sees all tenants."""
    return open_page(ADMIN)


@pytest.fixture
def visitor(open_page: Callable[..., Page]) -> Page:
    """A page of a person who is not signed in."""
    return open_page(None)
