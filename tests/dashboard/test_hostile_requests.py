"""Requests that no page of ours sends: they are refused, and cost little."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlencode

import pytest

from orchestrator.operations.filters import MAX_FILTERS
from tests.api.conftest import KEY
from tests.dashboard.visitor import Visitor
from tests.support.fakes import Harness


@pytest.fixture
def visitor(start: Callable[..., Harness]) -> Visitor:
    return Visitor(start())


@pytest.mark.parametrize("path", ["/", "/jobs", "/money", "/keys", "/deliveries", "/unconfirmed"])
def test_a_wrong_tenant_is_named_on_every_page(visitor: Visitor, path: str) -> None:
    answer = visitor.signed_in().client.get(f"{path}?tenant=%00%ff")

    assert answer.status_code == 422
    assert "tenant must be" in answer.text
    assert "Sign out" in answer.text


@pytest.mark.parametrize("path", ["/sign-in", "/keys/tenants/shop"])
def test_a_page_without_a_live_part_is_answered_whole(visitor: Visitor, path: str) -> None:
    answer = visitor.signed_in().client.get(path, headers={"HX-Request": "true"})

    assert answer.status_code == 200
    assert answer.text.lstrip().startswith("<!doctype html>")


def test_a_wrong_link_is_refused_to_a_script_too(visitor: Visitor) -> None:
    answer = visitor.client.get("/link?token=x", headers={"HX-Request": "true"})

    assert answer.status_code == 401


@pytest.mark.parametrize("names", [lambda n: f"a{n}", lambda n: f"metadata.a{n}", lambda n: "q"])
def test_a_search_has_few_filters(visitor: Visitor, names: Callable[[int], str]) -> None:
    # Each filter has links to the search without it. So thousands would take minutes.
    pairs = urlencode([(names(number), "1") for number in range(MAX_FILTERS + 1)])
    person = visitor.signed_in(KEY)

    answer = person.client.get(f"/jobs?{pairs}")

    assert answer.status_code == 422
    assert f"at most {MAX_FILTERS} filters" in answer.text
