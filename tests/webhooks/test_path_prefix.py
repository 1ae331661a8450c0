"""The application below a path: `ORCHESTRATOR_PUBLIC_URL=https://example.com/orch`."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from pathlib import Path

import pytest

from orchestrator import dashboard
from tests.api.conftest import KEY, UNIFIED, Api
from tests.dashboard.visitor import Visitor
from tests.support import job_states
from tests.support.fakes import PUBLIC_URL, Harness
from tests.support.web import WebApp
from tests.webhooks.kit import SUCCESS, Receiver

Start = Callable[..., Harness]
#: What a browser or htmx asks for.
LINK = re.compile(r'\b(href|src|action|hx-get)="([^"]*)"')
#: The answers of pages that are no 200. There is no history here.
STATUS = {"/orch/no-such-page": 404, "/orch/money": 503}


@pytest.fixture
def harness(start: Start) -> Harness:
    return start(ORCHESTRATOR_PUBLIC_URL=f"{PUBLIC_URL}/orch")


@pytest.fixture
def api(harness: Harness) -> Api:
    return Api(harness, WebApp(harness.runtime))


@pytest.mark.parametrize("given", ["", "/orch"], ids=["removed", "left"])
def test_each_location_has_the_path_whether_the_proxy_removes_it_or_not(
    api: Api, given: str
) -> None:
    made = api.post(f"{given}/v1/jobs", json=UNIFIED)
    by_flask = api.post(f"{given}/v1/jobs?tenant=tests", json=UNIFIED)
    batch = api.post(f"{given}/v1/jobs/batch", json={"jobs": [UNIFIED]})
    asked = {"action": "cancel", "filter": {"status": "queued"}, "dry_run": True}
    shown = api.post(f"{given}/v1/bulk", json=asked).json or {}
    run = api.post(f"{given}/v1/bulk", json={"action": "cancel", "preview": shown["id"]})

    answers = (made, by_flask, batch, run)
    assert [answer.status_code for answer in answers] == [202] * 4, [a.text for a in answers]
    for answer in answers:
        place = answer.headers["Location"]
        assert place.startswith("/orch/v1/")
        assert api.get(place).status_code == 200
        assert api.get(place.removeprefix("/orch")).status_code == 200


@pytest.mark.parametrize("given", ["", "/orch"], ids=["removed", "left"])
def test_callbacks_arrive(harness: Harness, given: str) -> None:
    receiver = Receiver.on(harness)
    job_id = receiver.running("evolink")
    path = receiver.path(job_id, "evolink")
    assert path.startswith("/orch/callbacks/")

    answer = receiver.send(given + path.removeprefix("/orch"), SUCCESS["evolink"])

    assert answer.json == {"result": "settled"}, answer.text


def test_each_address_in_a_page_has_the_path(harness: Harness) -> None:
    visitor = Visitor(harness).signed_in()
    for provider in ("hiapi", "evolink"):
        job_states.ended(harness, job_states.failure(), provider)
        job_states.ended(harness, provider=provider)
        job_states.running(harness, provider)
    made = Api(harness, WebApp(harness.runtime)).as_admin()
    assert made.post(f"/v1/jobs/{harness.enqueue('hiapi')}/cancel").status_code == 200
    seen, wanted = set[str](), ["/orch/", "/orch/sign-in", "/orch/no-such-page"]
    while wanted:
        place = wanted.pop()
        kind = re.sub("(job|bulk)_[0-9a-z]+", "ID", place.partition("?")[0])
        if kind in seen:
            continue
        seen.add(kind)
        answer = visitor.client.get(place, headers={"Accept": "text/html"})
        assert answer.status_code == STATUS.get(place, 200), place
        if "html" not in answer.content_type:
            continue
        named = [(how, unescape(link)) for how, link in LINK.findall(answer.text)]
        wrong = [link for _, link in named if link.startswith("/") and not _below(link)]
        assert not wrong, (place, wrong)
        wanted += [link for how, link in named if _below(link) and how != "action"]
    assert seen >= {"/orch/jobs/ID", "/orch/audit", "/orch/static/dashboard.js"}


def _below(link: str) -> bool:
    return link == "/orch" or link.startswith(("/orch/", "/orch?"))


def test_no_template_names_a_path_by_itself() -> None:
    templates = Path(dashboard.__file__).with_name("templates")
    for file in templates.rglob("*.html"):
        assert not re.search(r'(href|src|action|hx-\w+)="/', file.read_text()), file


def test_a_sign_in_leads_to_the_page_that_was_asked_for(harness: Harness) -> None:
    client = WebApp(harness.runtime).test_client(cookies=True)
    asked = client.get("/orch/jobs?status=failed")
    assert asked.headers["Location"] == "/orch/sign-in?next=/jobs?status%3Dfailed"

    entered = client.post(asked.headers["Location"], data={"key": KEY})

    assert entered.headers["Location"] == "/orch/jobs?status=failed"
    assert client.get("/orch/jobs?status=failed").status_code == 200


@pytest.mark.parametrize(
    ("url", "path", "place"),
    [
        (f"{PUBLIC_URL}", "/v1/jobs", "/v1/jobs/"),
        (f"{PUBLIC_URL}/", "/v1/jobs", "/v1/jobs/"),
        (f"{PUBLIC_URL}/a/b.c/", "/a/b.c/v1/jobs", "/a/b.c/v1/jobs/"),
        (f"{PUBLIC_URL}/b%C3%BCro", "/büro/v1/jobs", "/b%C3%BCro/v1/jobs/"),
        # This path is also one of ours, so only the proxy can know which one is meant.
        (f"{PUBLIC_URL}/v1", "/v1/jobs", "/v1/v1/jobs/"),
        (f"{PUBLIC_URL}/jobs", "/v1/jobs", "/jobs/v1/jobs/"),
        (f"{PUBLIC_URL}/orch", "/orch/orch/v1/jobs", None),
        (f"{PUBLIC_URL}/orch", "/orchestra/v1/jobs", None),
        (f"{PUBLIC_URL}/orch", "/ORCH/v1/jobs", None),
    ],
)
def test_other_paths(start: Start, url: str, path: str, place: str | None) -> None:
    harness = start(ORCHESTRATOR_PUBLIC_URL=url)
    answer = Api(harness, WebApp(harness.runtime)).post(path, json=UNIFIED)
    if place is None:
        assert answer.status_code == 404
    else:
        assert answer.status_code == 202, answer.text
        assert answer.headers["Location"].startswith(f"{place}job_")
