"""The page and its forms."""

import re
from html import unescape

import pytest

from sandbox.catalogue import CATALOGUE
from sandbox.registry import PROVIDERS
from tests.sandbox.conftest import Start
from tests.sandbox.kit import CallbackReceiver, SandboxClient

RULE_FIELDS = ("provider", "match", "times", "after", "every", "share")
EMPTY_FORM = dict.fromkeys(RULE_FIELDS, "")
EMPTY_RULE = dict.fromkeys(RULE_FIELDS)


def _post(client: SandboxClient, path: str, **form: str) -> tuple[int, str]:
    answer = client.post(path, data=form, allow_redirects=False)
    return answer.status_code, answer.headers.get("Location", "")


def _rules(client: SandboxClient) -> list[dict[str, object]]:
    names = (*RULE_FIELDS, "faults")
    return [{name: rule[name] for name in names} for rule in client.get("/control/faults").json()]


def test_shows_tasks_rules_and_faults(client: SandboxClient, receiver: CallbackReceiver) -> None:
    client.post("/control/faults", json={"match": "cube", "faults": {"late": 2}})
    task = client.submitted("hiapi", "<b>A red ball</b>", callback=receiver.url())
    client.callbacks(task, 1)
    page = client.get("/")

    assert page.headers["Content-Type"].startswith("text/html")
    assert task in page.text
    assert "&lt;b&gt;A red ball&lt;/b&gt;" in page.text
    assert "<code>late=2s</code>" in page.text
    for kind in CATALOGUE.values():
        assert f"<code>{kind.syntax}</code>" in page.text
        assert f'<option value="{kind.name}">' in page.text
        for choice in kind.choices.values():
            assert f"<code>{kind.name}</code><td><code>{choice.syntax}</code>" in page.text
    for provider in PROVIDERS:
        assert f'<option value="{provider.name}">' in page.text
        assert f"{client.url}/{provider.name}" in page.text


def test_loads_nothing_from_another_site(client: SandboxClient) -> None:
    client.run("hiapi")
    page = client.get("/").text
    loaded = re.findall(r"""(?:src|href)=["']?([^"'> ]+)""", page)

    assert "http-equiv" not in page
    assert loaded
    assert all(link.startswith(client.url) for link in loaded)


def test_shows_an_empty_page_on_a_new_sandbox(start: Start) -> None:
    page = start(seed=4711).get("/").text

    assert "No tasks yet" in page
    assert "--seed 4711" in page


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
def test_adds_a_rule(client: SandboxClient, form: dict[str, str], rule: dict[str, object]) -> None:
    assert _post(client, "/", **{**EMPTY_FORM, **form}) == (303, "/")
    assert _rules(client) == [{**EMPTY_RULE, **rule}]


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({}, "faults. is not a known fault"),
        ({"fault": "late"}, "faults.late must be late=SECONDS; got 'late'"),
        ({"fault": "drop", "times": "often"}, "times must be a whole number"),
        ({"fault": "drop", "times": 50 * "9"}, "times must be a whole number"),
        ({"fault": "drop", "share": "much"}, "share must be a percentage"),
        (
            {"fault": "cancelled", "provider": "hiapi"},
            "faults.cancelled must be a fault that hiapi",
        ),
    ],
)
def test_shows_an_error_and_keeps_the_form(
    client: SandboxClient, form: dict[str, str], error: str
) -> None:
    answer = client.post("/", data={**EMPTY_FORM, "match": '"<b>', **form})
    (alert,) = re.findall(r'role="alert">(.*?)</p>', answer.text)

    assert answer.status_code == 400
    assert unescape(alert).startswith(error)
    assert 'value="&#34;&lt;b&gt;"' in answer.text
    assert "aria-invalid=true" in answer.text
    if "cancelled" in form.values():
        assert '<option value="cancelled" selected>' in answer.text
    assert _rules(client) == []


def test_removes_a_rule(client: SandboxClient) -> None:
    for fault in ("drop", "early"):
        _post(client, "/", fault=fault)
    paths = re.findall(r'action="(/remove/[^"]+)"', client.get("/").text)

    assert "<code>early</code>" in client.get("/live").text
    assert _post(client, paths[0]) == (303, "/")
    assert [rule["faults"] for rule in _rules(client)] == [{"early": True}]
    # Another open page may still show the removed rule, so a second removal is no error.
    assert _post(client, paths[0]) == (303, "/")


def test_forgets_everything(client: SandboxClient) -> None:
    _post(client, "/", fault="drop")
    client.submitted("hiapi")

    assert _post(client, "/forget") == (303, "/")
    assert (_rules(client), client.tasks()) == ([], [])
    assert client.get("/control/ledger").json() == {}


def test_shows_which_submissions_a_rule_applies_to(client: SandboxClient) -> None:
    _post(client, "/", fault="late", value="500ms", after="1", every="2", share="50", times="3")
    _post(client, "/", fault="drop", times="1")
    client.submitted("hiapi")
    live = client.get("/live").text

    assert "after the first 1, one in 2, a share of 50%, 3 of 3 left" in live
    assert "<code>late=0.5s</code>" in live
    assert "0 of 1" in live
    # The second rule is used up and is not shown.
    assert live.count("/remove/") == 1


def test_the_live_part_is_a_part_of_the_page(client: SandboxClient) -> None:
    task = client.submitted("evolink")
    client.finished("evolink", task)
    live, page = client.get("/live").text, client.get("/").text

    assert task in live
    assert live.strip() in page
    assert 'name="fault"' not in live
    assert 'fetch("/live")' in page


def _own_headers(client: SandboxClient, headers: dict[str, str]) -> dict[str, str]:
    return {name: value.replace("SELF", client.url) for name, value in headers.items()}


_OTHER_SITE = {"Sec-Fetch-Site": "cross-site"}


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("POST", "/", {"Origin": "http://evil.example"}),
        ("POST", "/", {"Origin": "null"}),
        ("POST", "/", {"Origin": "http://127.0.0.1:1"}),
        ("POST", "/", _OTHER_SITE),
        ("POST", "/", {"Sec-Fetch-Site": "same-site"}),
        ("POST", "/", {"Origin": "SELF", **_OTHER_SITE}),
        ("POST", "/forget", _OTHER_SITE),
        ("POST", "/control/faults", _OTHER_SITE),
        ("DELETE", "/control/faults", _OTHER_SITE),
        ("PUT", "/control/inbox/a", _OTHER_SITE),
        ("POST", "/inbox/a", _OTHER_SITE),
    ],
)
def test_another_site_changes_nothing(
    client: SandboxClient, method: str, path: str, headers: dict[str, str]
) -> None:
    _post(client, "/", fault="drop")
    own = _own_headers(client, headers)
    answer = client.request(method, path, data={"fault": "early"}, headers=own)

    assert answer.status_code == 403
    assert " must be " in answer.json()["error"]["message"]
    assert [rule["faults"] for rule in _rules(client)] == [{"drop": True}]
    assert client.get("/control/inbox").json() == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "SELF", "Sec-Fetch-Site": "same-origin"},
        {"Origin": "SELF"},
        {"Sec-Fetch-Site": "none"},
    ],
)
def test_its_own_page_can_post(client: SandboxClient, headers: dict[str, str]) -> None:
    answer = client.post("/", data={"fault": "drop"}, headers=_own_headers(client, headers))

    assert answer.status_code == 200
    assert len(_rules(client)) == 1


def test_another_site_can_link_to_the_page(client: SandboxClient) -> None:
    assert client.get("/", headers=_OTHER_SITE).status_code == 200
