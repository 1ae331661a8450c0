"""Writes pictures of each page of the dashboard to build/screenshots: `make screenshots`.

Those that pages of the documentation show go to docs/screenshots.

The pictures show the jobs of `orchestrator demo` and one job of each other kind. Prompts are the
same in each run; ids and times are not.
"""

from __future__ import annotations

import argparse
import io
import sys
from itertools import cycle, product
from typing import Any

from PIL import Image
from playwright.sync_api import Browser

from orchestrator.cli.demo_scenarios import SCENARIOS
from orchestrator.cli.stack import ROOT
from tests.dashboard import kit
from tests.dashboard.site import ADMIN, KEYS, KINDS, SHOP, STUDIO, Site, running, wait
from tests.dashboard.views import SCHEMES, SIZES, VIEWS, ColorScheme, View
from tests.support import debian

SHOWN_FOLDER, FOLDER = ROOT / "docs" / "screenshots", ROOT / "build" / "screenshots"
#: The pictures in the pages of the documentation: view, size and scheme.
SHOWN = frozenset(
    {
        *("overview-wide-light", "jobs-wide-light", "job-wide-dark", "money-wide-light"),
        *("providers-wide-dark", "overview-narrow-light", "jobs-narrow-light", "job-narrow-dark"),
    }
)
#: Colours of a picture. More make the file larger.
COLOURS = 128


def main() -> None:
    """Take the pictures of all pages, or of those that are named."""
    names = [view.name for view in VIEWS]
    parser = argparse.ArgumentParser(prog="make screenshots", description=__doc__)
    parser.add_argument("page", nargs="*", choices=[[], *names], help="only these pages")
    chosen = parser.parse_args().page or names
    program = debian.program(kit.PACKAGE)
    if program is None:
        sys.exit(debian.missing(kit.PACKAGE))
    FOLDER.mkdir(parents=True, exist_ok=True)
    _say("Starting the product and the browser ...")
    with kit.launched(program) as browser, running() as site:
        _say("Running the jobs of the demo ...")
        play_demo(site)
        # A reader of the pages would take the hostile prompt for a fault.
        site.seed({name: kind for name, kind in KINDS.items() if name != "hostile"})
        for view in VIEWS:
            if view.name in chosen:
                sizes = [picture(browser, site, view, s, c) for s, c in product(SIZES, SCHEMES)]
                _say(f"  {view.name:<16} {len(sizes)} pictures, {sum(sizes) // 1024} KiB")
    folders = [str(folder.relative_to(ROOT)) for folder in (FOLDER, SHOWN_FOLDER)]
    _say(f"The pictures are in {folders[0]}, and those of the pages in {folders[1]}.")


def play_demo(site: Site) -> None:
    """Run the jobs of the demo, for both tenants in turn. Return when each has its outcome."""
    jobs = []
    for scenario, tenant in zip(SCENARIOS, cycle((SHOP, STUDIO)), strict=False):
        request = scenario.request(site.stack.sandbox_url)
        jobs.append(site.call("POST", "/v1/jobs", KEYS[tenant], json=request)["id"])
    for job_id in jobs:
        wait(lambda job_id=job_id: site.job(job_id)["settled_at"] is not None)


def picture(browser: Browser, site: Site, view: View, size: str, scheme: ColorScheme) -> int:
    """Write one picture. Return its size in bytes."""
    session = kit.session_of(browser, site.url, KEYS[ADMIN]) if view.signed_in else None
    options: dict[str, Any] = {"viewport": SIZES[size], "color_scheme": scheme}
    with kit.opened(browser, site.url, storage_state=session, **options) as page:
        page.goto(view.path.format_map(site.jobs), wait_until="load")
        page.evaluate("() => document.fonts.ready")
        content = page.screenshot(animations="disabled", caret="hide")
    name = f"{view.name}-{size}-{scheme}"
    file = (SHOWN_FOLDER if name in SHOWN else FOLDER) / f"{name}.png"
    with Image.open(io.BytesIO(content)) as image:
        small = image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
        small.save(file, optimize=True)
    return file.stat().st_size


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
