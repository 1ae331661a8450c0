"""Signed links: one image, for a limited time, without a key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from werkzeug.test import TestResponse

from orchestrator.api.image_links import DEFAULT_SECONDS, MAX_SECONDS
from tests.api.conftest import Api
from tests.support import archive_kit
from tests.support.archive_kit import Gallery, archived, picture
from tests.support.fakes import Harness
from tests.support.web import WebApp


@pytest.fixture
def api(start: Callable[..., Harness], tmp_path: Path) -> Api:
    harness = archive_kit.harness(start, tmp_path)
    return Api(harness, WebApp(harness.runtime))


@pytest.fixture
def kept(api: Api) -> str:
    """A job whose one image is archived; its id."""
    return archived(api.harness, Gallery(api.harness).job(picture()))


def link(api: Api, job_id: str, query: str = "") -> str:
    """Return the path of a link to the first image."""
    answer = api.get(f"/v1/jobs/{job_id}/images/0/link{query}").json
    assert answer is not None
    return urlsplit(str(answer["url"])).path


def opened(api: Api, path: str) -> TestResponse:
    """Open a link without a key."""
    return api.app.test_client().get(path, buffered=True)


def test_whoever_has_the_link_sees_the_image(api: Api, kept: str) -> None:
    response = opened(api, link(api, kept))

    assert (response.status_code, response.mimetype, response.data) == (200, "image/png", picture())
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Referrer-Policy"] == "no-referrer"


def test_the_link_is_our_public_address(api: Api, kept: str) -> None:
    answer = api.get(f"/v1/jobs/{kept}/images/0/link").json

    assert answer is not None
    assert answer["url"].startswith(f"{api.harness.runtime.settings.public_url}/images/")
    assert answer["expires_at"].endswith("Z")


@pytest.mark.parametrize(("query", "seconds"), [("", DEFAULT_SECONDS), ("?expires_in=60", 60)])
def test_a_link_expires(api: Api, kept: str, query: str, seconds: int) -> None:
    path = link(api, kept, query)

    api.harness.clock.forward(seconds - 2)
    assert opened(api, path).status_code == 200
    api.harness.clock.forward(2)
    assert opened(api, path).status_code == 410


@pytest.mark.parametrize("part", range(2, 6))
def test_a_link_that_was_changed_is_no_link(api: Api, kept: str, part: int) -> None:
    parts = link(api, kept).split("/")
    parts[part] = parts[part][:-1] + ("1" if parts[part][-1] != "1" else "2")

    answer = opened(api, "/".join(parts))
    assert answer.status_code == 404
    assert "the link is not valid" in answer.text


def test_a_cache_does_not_keep_the_image_longer_than_the_link_lives(api: Api, kept: str) -> None:
    path = link(api, kept, "?expires_in=60")
    api.harness.clock.forward(20)

    assert 38 <= (opened(api, path).cache_control.max_age or 0) <= 40


@pytest.mark.parametrize("value", ["0", "-1", str(MAX_SECONDS + 1), "soon", "1.5", ""])
def test_an_odd_lifetime_is_refused(api: Api, kept: str, value: str) -> None:
    response = api.get(f"/v1/jobs/{kept}/images/0/link?expires_in={value}")

    assert response.status_code == 422
    assert "expires_in must be a whole number from 1 to 604800" in response.text


def test_there_is_no_link_to_an_image_that_does_not_exist(api: Api, kept: str) -> None:
    answer = api.get(f"/v1/jobs/{kept}/images/1/link")
    assert answer.status_code == 404
    assert "with an image 1; numbers start at 0" in answer.text
    assert api.get("/v1/jobs/none/images/0/link").status_code == 404


def test_without_a_public_url_there_are_no_links(
    start: Callable[..., Harness], tmp_path: Path
) -> None:
    harness = archive_kit.harness(start, tmp_path, ORCHESTRATOR_PUBLIC_URL="")
    job_id = archived(harness, Gallery(harness).job(picture()))

    answer = Api(harness, WebApp(harness.runtime)).get(f"/v1/jobs/{job_id}/images/0/link")

    assert answer.status_code == 409
    assert "ORCHESTRATOR_PUBLIC_URL" in answer.text


def test_each_image_has_its_own_link(api: Api) -> None:
    job_id = archived(api.harness, Gallery(api.harness).job(picture(1), picture(2)))
    answer = api.get(f"/v1/jobs/{job_id}/images/1/link").json

    assert answer is not None
    assert opened(api, urlsplit(str(answer["url"])).path).data == picture(2)
