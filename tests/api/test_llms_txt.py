"""`/llms.txt` is served without a key, and names what exists."""

from __future__ import annotations

import re

from orchestrator.cli.stack import ROOT
from orchestrator.jobs.model import Status
from tests.api.conftest import Api
from tests.docs.pages import DocPage


def text(api: Api) -> str:
    answer = api.app.test_client().get("/llms.txt")
    assert (answer.status_code, answer.content_type) == (200, "text/plain; charset=utf-8")
    return answer.text


def test_the_file_of_the_documentation_is_the_served_one(api: Api) -> None:
    assert (ROOT / "docs" / "llms.txt").read_text("utf-8") == text(api)


def test_every_call_that_it_names_exists(api: Api) -> None:
    document = api.get("/openapi.json").json
    assert document is not None
    calls = {(m.upper(), path) for path, methods in document["paths"].items() for m in methods}
    named = set(re.findall(r"`(GET|POST|PUT|DELETE) ([^`]+)`", text(api)))
    assert calls & named
    client = api.app.test_client()
    for method, path in named - calls:  # those of other services have documents of their own
        answer = client.open(path.replace("{model}", "x"), method=method, headers=api.headers)
        assert answer.status_code not in (404, 405), path
    fields = set(document["components"]["schemas"]["JobRequest"]["properties"])
    [request] = re.findall(r"A request has (.*?)\n\n", text(api), re.S)
    assert set(re.findall(r"`(\w+)`", request)) <= fields


def test_its_links_lead_somewhere(api: Api) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", text(api)):
        assert api.app.test_client().get(link).status_code == 200, link


def test_it_has_every_state(api: Api) -> None:
    assert DocPage("docs/llms.txt").column("state") == [status.value for status in Status]
