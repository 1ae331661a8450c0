"""The page's forms."""

import re
from html import unescape

import pytest

from sandbox.faults import CATALOGUE
from sandbox.registry import PROVIDERS
from tests.sandbox.conftest import Start
from tests.sandbox.kit import Client


def _post(client: Client, path: str, **form: str) -> tuple[int, str]:
    answer = client.post(path, data=form, allow_redirects=False)
    return answer.status_code, answer.headers.get("Location", "")


def _rules(client: Client) -> list[dict[str, object]]:
    keep = ("provider", "match", "times", "after", "every", "share", "faults")
    return [{name: rule[name] for name in keep} for rule in client.get("/control/faults").json()]


NOTHING = dict.fromkeys(("provider", "match", "times", "after", "every", "share"), "")
NONE = dict.fromkeys(NOTHING)


def test_offers_every_fault_and_provider(client: Client) -> None:
    page = client.get("/").text

    for name in (*CATALOGUE, *(provider.name for provider in PROVIDERS)):
        assert f'<option value="{name}">' in page


@pytest.mark.parametrize(
    ("form", "rule"),
    [
        ({"fault": "drop", "value": ""}, {"faults": {"drop": True}}),
        ({"fault": "late", "value": " 30s "}, {"faults": {"late": 30.0}}),
        (
            {"fault": "429", "provider": "evolink", "match": "a cube", "times": "2"},
            {"faults": {"429": 1.0}, "provider": "evolink", "match": "a cube", "times": 2},
        ),
        (
            {"fault": "fail", "value": "timeout", "after": "3", "every": " 5 ", "share": "2.5%"},
            {"faults": {"fail": "timeout"}, "after": 3, "every": 5, "share": "2.5%"},
        ),
        ({"fault": "drop", "share": "20"}, {"faults": {"drop": True}, "share": "20%"}),
    ],
)
def test_adds_a_rule(client: Client, form: dict[str, str], rule: dict[str, object]) -> None:
    assert _post(client, "/", **{**NOTHING, **form}) == (303, "/")
    assert _rules(client) == [{**NONE, **rule}]


@pytest.mark.parametrize(
    ("form", "complaint"),
    [
        ({"fault": "late"}, "faults.late: 'late' is not allowed; allowed: late=SECONDS"),
        ({"fault": "duplicate", "value": "500"}, "faults.duplicate: '500' is not allowed"),
        ({"fault": "drop", "value": "5"}, "allowed: drop alone, it takes no value"),
        ({"fault": "dorp"}, "faults.dorp: 'dorp' is not allowed; allowed: 402, 429"),
        ({}, "faults.: '' is not allowed"),
        ({"fault": "drop", "times": "often"}, "times: 'often' is not allowed; allowed: a whole"),
        ({"fault": "drop", "times": 50 * "9"}, "times: '9999"),
        ({"fault": "drop", "share": "much"}, "share: 'much%' is not allowed"),
        ({"fault": "drop", "provider": "x"}, "provider: 'x' is not allowed; allowed: hiapi"),
        ({"fault": "cancelled", "provider": "hiapi"}, "any fault hiapi has"),
    ],
)
def test_says_what_is_wrong_and_keeps_what_was_typed(
    client: Client, form: dict[str, str], complaint: str
) -> None:
    answer = client.post("/", data={**NOTHING, "match": '"<b>', **form})
    (error,) = re.findall(r'role="alert">(.*?)</p>', answer.text)

    assert answer.status_code == 400
    assert complaint in unescape(error)
    assert 'value="&#34;&lt;b&gt;"' in answer.text
    assert "aria-invalid=true" in answer.text
    if "cancelled" in form.values():
        assert '<option value="cancelled" selected>' in answer.text
    assert _rules(client) == []


def test_removes_a_rule(client: Client) -> None:
    for fault in ("drop", "early"):
        _post(client, "/", fault=fault)
    paths = re.findall(r'action="(/remove/[^"]+)"', client.get("/").text)

    assert "<code>early</code>" in client.get("/live").text
    assert _post(client, paths[0]) == (303, "/")
    assert [rule["faults"] for rule in _rules(client)] == [{"early": True}]
    # Twice, as when two pages are open: nothing to complain about.
    assert _post(client, paths[0]) == (303, "/")


def test_forgets_everything(client: Client) -> None:
    _post(client, "/", fault="drop")
    client.submitted("hiapi")

    assert _post(client, "/forget") == (303, "/")
    assert (_rules(client), client.tasks()) == ([], [])
    assert client.get("/control/ledger").json() == {}


def test_shows_which_submissions_a_rule_is_for(client: Client) -> None:
    _post(client, "/", fault="late", value="500ms", after="1", every="2", share="50", times="3")
    _post(client, "/", fault="drop", times="1")
    client.submitted("hiapi")
    live = client.get("/live").text

    assert "after the first 1, one in 2, a share of 50%, 3 of 3 left" in live
    assert "<code>late=0.5s</code>" in live
    assert "0 of 1" in live
    # The other one is used up.
    assert live.count("/remove/") == 1


def test_renews_the_live_part_only(client: Client) -> None:
    task = client.submitted("evolink")
    client.finished("evolink", task)
    live, page = client.get("/live").text, client.get("/").text

    assert task in live
    assert live.strip() in page
    assert 'name="fault"' not in live
    assert 'fetch("/live")' in page


def test_shows_the_seed(start: Start) -> None:
    assert "--seed 4711" in start(seed=4711).get("/").text


@pytest.mark.parametrize(
    "path", ["/", "/forget", "/remove/fault-1", "/control/faults", "/control/tasks/x/callback"]
)
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "SELF", "Sec-Fetch-Site": "cross-site"},
    ],
)
def test_other_pages_cannot_post(client: Client, path: str, headers: dict[str, str]) -> None:
    _post(client, "/", fault="drop")
    own = {name: value.replace("SELF", client.url) for name, value in headers.items()}
    answer = client.post(path, data={"fault": "early"}, headers=own)

    assert answer.status_code == 403
    assert "is not allowed; allowed: " in answer.json()["error"]["message"]
    assert [rule["faults"] for rule in _rules(client)] == [{"drop": True}]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "SELF", "Sec-Fetch-Site": "same-origin"},
        {"Origin": "SELF"},
        {"Sec-Fetch-Site": "none"},
    ],
)
def test_its_own_page_can_post(client: Client, headers: dict[str, str]) -> None:
    own = {name: value.replace("SELF", client.url) for name, value in headers.items()}

    assert client.post("/", data={"fault": "drop"}, headers=own).status_code == 200
    assert len(_rules(client)) == 1


def test_other_pages_may_link_here(client: Client) -> None:
    assert client.get("/", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200
