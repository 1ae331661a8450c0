"""Opens pages in Debian's Chromium without windows, and collects what goes wrong in them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Error,
    Page,
    Request,
    Response,
    StorageState,
    expect,
    sync_playwright,
)
from playwright.sync_api import TimeoutError as PlaywrightTimeout

#: A wait that is this long has failed. It is long, because other work may use all cores. ms.
WAIT_MS = 60_000
#: Debian's package. It uses half of the processor time of the package chromium.
PACKAGE = "chromium-headless-shell"
#: The only host that a page may use.
HOST = "127.0.0.1"
#: The page is as a person in this zone sees it.
ZONE = "Europe/Berlin"
AXE = Path(__file__).with_name("axe") / "axe.min.js"
#: Rules of every level. The tags turn on the rules that axe-core leaves out by default.
TAGS = (
    *("wcag2a", "wcag2aa", "wcag2aaa", "wcag21a", "wcag21aa", "wcag22aa"),
    "best-practice",
)
#: Reports violations of the page's Content-Security-Policy. It runs before the page's own scripts.
WATCH_POLICY = """
addEventListener("securitypolicyviolation", event => reportViolation(
    `${event.effectiveDirective} blocked ${event.blockedURI || "inline"}`
    + ` at ${event.sourceFile}:${event.lineNumber} ${event.sample}`))
"""
#: Returns after the events that the page has already caused.
SETTLE = "() => new Promise(done => setTimeout(() => setTimeout(done)))"
RUN_AXE = """
async tags => {
    const result = await axe.run(document, {runOnly: tags, resultTypes: ["violations"]});
    return result.violations.map(({id, impact, help, nodes}) => ({
        id, impact, help,
        nodes: nodes.map(({target, failureSummary}) => [target.join(" "), failureSummary]),
    }));
}
"""


class PageFaults(AssertionError):
    """Something went wrong in a page during a test."""


@dataclass
class Faults:
    """What went wrong in the pages of one browser context.

    Attributes:
        found: a line for each fault.
        allowed: a fault that has one of these texts is expected.
    """

    found: list[str] = field(default_factory=list)
    allowed: list[str] = field(default_factory=list)

    def allow(self, text: str) -> None:
        """Expect faults that contain a text, such as "status of 403"."""
        self.allowed.append(text)

    def check(self) -> None:
        """Fail if there is a fault that is not allowed."""
        wrong = [line for line in self.found if not any(text in line for text in self.allowed)]
        if wrong:
            raise PageFaults("\n".join(["The browser reported:", *wrong]))

    def watch(self, context: BrowserContext) -> None:
        """Collect the faults of a context from now on."""
        context.on("console", self._console)
        context.on("weberror", lambda error: self.found.append(f"page error: {error.error}"))
        context.on("request", self._request)
        context.on("response", self._response)
        context.expose_binding("reportViolation", self._violation)
        context.add_init_script(WATCH_POLICY)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            place = message.location
            self.found.append(
                f"console {message.type}: {message.text} ({place['url']}:{place['lineNumber']})"
            )

    def _request(self, request: Request) -> None:
        url = urlsplit(request.url)
        if url.scheme in ("http", "https", "ws", "wss") and url.hostname != HOST:
            self.found.append(f"request to another host: {request.url}")

    def _response(self, response: Response) -> None:
        if response.status >= 500:
            self.found.append(f"status {response.status}: {response.request.method} {response.url}")

    def _violation(self, _source: object, text: str) -> None:
        self.found.append(f"policy violation: {text}")


@contextmanager
def launched(program: Path) -> Iterator[Browser]:
    """Run the browser of this program. It can reach no other machine."""
    expect.set_options(timeout=WAIT_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program,
            args=[f"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE {HOST}"],
            timeout=WAIT_MS,
        )
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(
    browser: Browser, base_url: str, faults: Faults | None = None, **options: Any
) -> Iterator[Page]:
    """Open an empty page in a new context. Fail at the end if something went wrong in it.

    Args:
        browser: the running browser.
        base_url: the URL that paths belong to, as in `page.goto("/jobs")`.
        faults: collects the faults; a test may allow some.
        options: of `Browser.new_context`, such as `viewport` or `color_scheme`.

    Raises:
        PageFaults: there was a console error or warning, a page error, a violation of the policy,
            an answer with status 500 or more, or a request to another host.
    """
    faults = faults or Faults()
    usual = {
        "locale": "en-GB",
        "timezone_id": ZONE,
        "reduced_motion": "reduce",
        "service_workers": "block",
    }
    context = browser.new_context(base_url=base_url, **{**usual, **options})
    try:
        context.set_default_timeout(WAIT_MS)
        faults.watch(context)
        yield context.new_page()
        # Without scripts, a timer may never run, and the wait for it has no end.
        scripts = options.get("java_script_enabled", True)
        for page in context.pages if scripts else ():
            with suppress(Error):  # the page is being left, or has crashed
                page.evaluate(SETTLE)
    finally:
        context.close()
    faults.check()


def sign_in(page: Page, key: str) -> None:
    """Sign in with a key, as a person does."""
    page.goto("/sign-in")
    page.locator("input[name=key]").fill(key)
    page.locator("input[name=key]").press("Enter")
    expect(page.locator("input[name=key]")).to_have_count(0)


def session_of(browser: Browser, base_url: str, key: str) -> StorageState:
    """Return the cookies of a new session. A context with this `storage_state` is signed in."""
    any_fault = Faults(allowed=[""])  # the tests of the pages find them
    with opened(browser, base_url, any_fault) as page:
        sign_in(page, key)
        return page.context.storage_state()


def accessible(page: Page) -> None:
    """Check the page, as it is now, with the rules of axe-core of every level."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(_axe())
    violations = page.evaluate(RUN_AXE, TAGS)
    assert not violations, "\n".join([f"{page.url}, axe-core:", *map(_described, violations)])


#: What is wider than its place: the page, or a table in it.
_TOO_WIDE = """() => [document.documentElement, ...document.querySelectorAll(".table-frame")]
  .filter((each) => each.scrollWidth > each.clientWidth)
  .map((each) => `${each.localName}: ${each.scrollWidth} px in ${each.clientWidth} px`)"""


def fits(page: Page) -> None:
    """Check that neither the page nor a table in it scrolls sideways.

    A chart is drawn again a moment after its window has another size.
    """
    with suppress(PlaywrightTimeout):
        page.wait_for_function(f"() => !({_TOO_WIDE})().length")
    wide = page.evaluate(_TOO_WIDE)
    assert not wide, f"{page.url} in a window of {page.viewport_size}: {wide}"


#: Shows the longest text in the place of each text of somebody else. Returns what does not fit
#: then, and the words of ours in tables that a line end breaks.
_BROKEN = r"""(longest) => {
  const others = [...document.querySelectorAll(".text")];
  const kept = others.map((place) => [...place.childNodes]);
  for (const place of others) place.replaceChildren(longest);
  const frames = [document.documentElement, ...document.querySelectorAll(".table-frame")];
  const broken = frames
    .filter((frame) => frame.scrollWidth > frame.clientWidth)
    .map((frame) => `${frame.localName}: ${frame.scrollWidth} px in ${frame.clientWidth} px`);
  const range = document.createRange();
  const ours = "td:not(.text, .prompt, .id, .model), th:not(.text)";
  for (const cell of document.querySelectorAll(ours)) {
    const cards = getComputedStyle(cell.closest("table")).display === "block";
    if (cards && cell.closest("thead")) continue; // it is hidden
    const texts = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
    for (let text; (text = texts.nextNode()); ) {
      if (text.parentElement.closest(".visually-hidden")) continue;
      for (const word of text.data.matchAll(/[\p{L}\p{N},.]+/gu)) {
        range.setStart(text, word.index);
        range.setEnd(text, word.index + word[0].length);
        const lines = [...range.getClientRects()].map((part) => Math.round(part.top));
        if (new Set(lines).size > 1) broken.push(word[0]);
      }
    }
  }
  others.forEach((place, number) => place.replaceChildren(...kept[number]));
  return broken;
}"""


def words_are_whole(page: Page, longest: str) -> None:
    """Check that no table breaks a word or a number of ours, and that all texts of others fit.

    Args:
        page: the page.
        longest: it is shown in each place for a text of somebody else.
    """
    broken = page.evaluate(_BROKEN, longest)
    assert not broken, f"{page.url} in a window of {page.viewport_size}: {broken}"


def _described(violation: dict[str, Any]) -> str:
    lines = [f"{violation['id']} ({violation['impact']}): {violation['help']}"]
    for target, summary in violation["nodes"]:
        lines += [f"    {target}", *(f"        {line}" for line in summary.splitlines())]
    return "\n".join(lines)


@cache
def _axe() -> str:
    return AXE.read_text("utf-8")
