"""Callbacks in envelopes, forms and encodings have the same meaning as the plain ones."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from urllib.parse import urlencode

import pytest

from orchestrator.jobs.model import SettledBy, Status
from orchestrator.jsonio import dump, parse
from tests.webhooks.conftest import Open
from tests.webhooks.kit import LINK, SECRET, SUCCESS, Receiver, signed


def deflated(body: bytes) -> bytes:
    """Deflate without zlib's header, as some servers send it."""
    encoder = zlib.compressobj(wbits=-15)
    return encoder.compress(body) + encoder.flush()


def form(body: bytes) -> bytes:
    """A form with one field per field of the task. Lists and objects are JSON text."""
    fields = {
        name: value if isinstance(value, str) else dump(value)
        for name, value in parse(body).items()
    }
    return urlencode(fields).encode()


def multipart(body: bytes) -> bytes:
    head = b'--x1\r\nContent-Disposition: form-data; name="data"\r\n'
    return head + b"Content-Type: application/json\r\n\r\n" + body + b"\r\n--x1--\r\n"


#: How a provider, a gateway or a proxy may send a task.
FORMS: dict[str, Callable[[bytes], bytes]] = {
    "an envelope": lambda body: b'{"code":200,"message":"ok","data":' + body + b"}",
    "an event": lambda body: b'{"id":"evt_1","type":"task.done","payload":' + body + b"}",
    "an envelope in an envelope": lambda body: b'{"data":{"task":' + body + b"}}",
    "an envelope of an unknown name": lambda body: b'{"imageTask":' + body + b"}",
    "an envelope with JSON text": lambda body: dump({"code": 200, "data": body.decode()}),
    "a list of one": lambda body: b"[" + body + b"]",
    "JSON text": lambda body: dump(body.decode()),
    "a BOM": lambda body: b"\xef\xbb\xbf" + body,
    "UTF-16": lambda body: body.decode().encode("utf-16"),
    "NULs": lambda body: body + b"\0\0",
    "odd values": lambda body: body[:-1] + b',"x":[NaN,1e400,"\\ud83d","a\nb"]}',
    "gzip": gzip.compress,
    "gzip twice": lambda body: gzip.compress(gzip.compress(body)),
    "zlib": zlib.compress,
    "deflate": deflated,
    "a form with JSON": lambda body: urlencode({"data": body}).encode(),
    "a form": form,
    "a form, compressed": lambda body: gzip.compress(form(body)),
    "a multipart form": multipart,
}


@pytest.mark.parametrize("provider", sorted(SUCCESS))
@pytest.mark.parametrize("name", FORMS)
def test_a_task_in_another_form_settles_its_job(
    receiver: Receiver, name: str, provider: str
) -> None:
    job_id = receiver.running(provider)

    answer = receiver.deliver(job_id, FORMS[name](dump(SUCCESS[provider])), provider)

    job = receiver.job(job_id)
    assert (answer.status_code, answer.json) == (200, {"result": "settled"})
    assert (job.status, job.settled_by) == (Status.SUCCEEDED, SettledBy.CALLBACK)
    assert [image.source_url for image in job.images] == [LINK]


@pytest.mark.parametrize("name", ["gzip", "a form", "a BOM"])
def test_the_signature_is_over_the_bytes_as_received(open_receiver: Open, name: str) -> None:
    receiver = open_receiver(HIAPI_WEBHOOK_SECRET=SECRET)
    job_id, plain = receiver.running(), dump(SUCCESS["hiapi"])
    body, now = FORMS[name](plain), receiver.harness.clock() // 1000

    of_plain = receiver.send(receiver.path(job_id), body, headers=signed(plain, now))
    of_raw = receiver.send(receiver.path(job_id), body, headers=signed(body, now))

    assert (of_plain.status_code, of_raw.status_code) == (401, 200)


@pytest.mark.parametrize(
    "kind", ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data", ""]
)
def test_the_content_type_does_not_count(receiver: Receiver, kind: str) -> None:
    path = receiver.path(receiver.running())

    answer = receiver.client.post(path, data=dump(SUCCESS["hiapi"]), content_type=kind)

    assert answer.status_code == 200
