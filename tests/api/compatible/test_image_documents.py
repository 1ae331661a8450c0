"""Documents with images, for calls whose answers were held."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from flask import Flask
from werkzeug.exceptions import NotAcceptable

from orchestrator.api import holds, images
from orchestrator.api.compatible import image_documents
from orchestrator.api.compatible.image_documents import image_document
from tests.api.compatible.conftest import Compatible
from tests.support.archive_kit import Gallery, picture

#: The state of a call that was held, with a stream and without.
STREAM, JSON = SimpleNamespace(stream=object()), SimpleNamespace(stream=None)


def test_a_held_call_waits_for_its_turn_to_fetch_an_image(compatible: Compatible) -> None:
    """Many held calls end at the same time, and none may lose an image that is paid."""
    harness = compatible.harness
    job = harness.job(Gallery(harness).job(picture()))
    for _ in range(images.MAX_FETCHES):
        assert images._fetching.acquire(blocking=False)
    other = threading.Timer(0.2, images._fetching.release, [images.MAX_FETCHES])
    other.start()

    with (
        Flask("test").test_request_context(environ_overrides={holds.STATE_KEY: JSON}),
        image_document(harness.runtime, [job]) as document,
    ):
        assert document.content_type(0) == "image/png"
        document.write({"b64_json": document.base64(0)})
        document.answer("application/json").close()

    other.join()


@pytest.mark.parametrize(("state", "fits"), [(STREAM, False), (JSON, True), (None, True)])
def test_the_end_of_a_stream_has_a_limit(
    compatible: Compatible, monkeypatch: pytest.MonkeyPatch, state: object, fits: bool
) -> None:
    """Also images without a copy count, and links are short."""
    monkeypatch.setattr(image_documents, "MAX_STREAM_BYTES", 100)
    harness = compatible.harness
    job = harness.job(Gallery(harness).job(picture()))

    with (
        Flask("test").test_request_context(environ_overrides={holds.STATE_KEY: state}),
        nullcontext() if fits else pytest.raises(NotAcceptable, match=job.id),
        image_document(harness.runtime, [job]) as document,
    ):
        document.write({"b64_json": document.base64(0)})
        document.answer("text/event-stream").close()
