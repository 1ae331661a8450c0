"""The message to a caller, and its signature for the library of Standard Webhooks."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode, b64encode
from dataclasses import replace
from time import time
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from orchestrator.delivery.message import message
from orchestrator.jobs.model import Image, Outcome, SettledBy
from orchestrator.jobs.views import job_view
from orchestrator.jsonio import dump, parse
from orchestrator.security import standard_webhooks
from orchestrator.security.secret import Secret
from tests.support import job_states
from tests.support.cases import for_each
from tests.support.fakes import PUBLIC_URL, Harness
from tests.support.notify_kit import OLD_SECRET, SECRET, whsec

STREAM: dict[str, Any] = {"notify_stream": "tests"}
BODY = b'{"type":"job.succeeded","data":{"prompt":"\xf0\x9f\xa6\x8a"}}'


# The message ---------------------------------------------------------------------------------


def test_each_outcome_has_its_type(harness: Harness) -> None:
    jobs = {
        "job.succeeded": job_states.ended(harness, **STREAM),
        "job.failed": job_states.ended(harness, job_states.failure(), **STREAM),
        "job.cancelled": job_states.cancelled(harness, **STREAM),
    }

    for kind, job_id in jobs.items():
        made = message(harness.job(job_id), PUBLIC_URL)
        assert (made.type, made.content["type"]) == (kind, kind)


def test_a_late_result_has_its_own_type_and_id(harness: Harness) -> None:
    job_id = job_states.ended(harness, job_states.failure(), **STREAM)
    late = replace(harness.job(job_id), notifies_late_result=True)

    made = message(late, PUBLIC_URL)

    assert (made.id, made.type) == (f"msg_{job_id}_late", "job.late_result")
    assert made.content["type"] == "job.late_result"


def test_a_second_late_result_is_another_message(harness: Harness) -> None:
    """A receiver that knows the id of the first one would ignore its images otherwise."""
    lease, now = job_states.resubmitted(harness, **STREAM), harness.clock.now
    job_id = lease.job.id
    harness.ledger.settle(lease, job_states.failure(), SettledBy.SUBMIT, now=now)
    ids_and_images = []
    for number in (1, 2):
        made = Outcome.succeeded((Image(f"https://cdn.example.com/{number}.png"),))
        harness.ledger.settle_attempt(job_id, number, f"task-{number}", made, now=now)
        late = replace(harness.job(job_id), notifies_late_result=True)
        ids_and_images.append((message(late, PUBLIC_URL).id, len(late.late_images)))

    assert ids_and_images == [(f"msg_{job_id}_late", 1), (f"msg_{job_id}_late2", 2)]


def test_a_message_has_the_job_as_the_api_shows_it_and_the_time_of_its_outcome(
    harness: Harness,
) -> None:
    job_id = job_states.ended(harness, **STREAM)
    harness.clock.forward(90)

    made = message(harness.job(job_id), PUBLIC_URL)

    assert made.content == {
        "type": "job.succeeded",
        "timestamp": "2026-11-30T00:53:20.000Z",
        "data": job_view(harness.job(job_id), PUBLIC_URL),
    }
    assert parse(made.body) == parse(dump(made.content))
    assert made.content["data"]["images"][0]["url"].startswith(f"{PUBLIC_URL}/v1/jobs/{job_id}/")


def test_the_id_of_a_message_names_the_job_and_is_stable(harness: Harness) -> None:
    job_id = job_states.ended(harness, **STREAM)
    first = message(harness.job(job_id), PUBLIC_URL)
    harness.clock.forward(7200)

    assert first.id == message(harness.job(job_id), None).id == f"msg_{job_id}"


# The signature -------------------------------------------------------------------------------


def signed(*secrets: str, age: int = 0) -> dict[str, str]:
    """Return the headers of a message that was sent `age` seconds ago."""
    sent = int(time()) - age
    return standard_webhooks.headers(tuple(map(Secret, secrets)), "msg_job_1", sent, BODY)


def test_the_reference_library_verifies_it() -> None:
    assert Webhook(SECRET).verify(BODY, signed(SECRET)) == parse(BODY)


@pytest.mark.parametrize("known", [SECRET, OLD_SECRET], ids=["new", "old"])
def test_a_receiver_may_know_the_new_or_the_old_secret(known: str) -> None:
    headers = signed(SECRET, OLD_SECRET)

    assert Webhook(known).verify(BODY, headers)
    assert len(headers["webhook-signature"].split(" ")) == 2


def test_the_newest_secret_signs_first() -> None:
    def signatures(*secrets: str) -> str:
        keys = tuple(map(Secret, secrets))
        return standard_webhooks.headers(keys, "msg_job_1", 1, BODY)["webhook-signature"]

    first, second = signatures(SECRET, OLD_SECRET).split(" ")

    assert (first, second) == (signatures(SECRET), signatures(OLD_SECRET))


@pytest.mark.parametrize(
    ("body", "changes"),
    [
        (BODY.replace(b"succeeded", b"cancelled"), {}),
        (BODY + b" ", {}),
        (BODY, {"webhook-id": "msg_job_2"}),
        (BODY, {"webhook-signature": "v1,AAAA"}),
    ],
    ids=["body", "blank", "id", "signature"],
)
def test_the_reference_library_refuses_a_changed_message(
    body: bytes, changes: dict[str, str]
) -> None:
    with pytest.raises(WebhookVerificationError, match="No matching signature"):
        Webhook(SECRET).verify(body, {**signed(SECRET), **changes})


def test_the_reference_library_refuses_a_changed_timestamp() -> None:
    headers = signed(SECRET, age=1)
    later = {"webhook-timestamp": str(int(headers["webhook-timestamp"]) + 1)}

    with pytest.raises(WebhookVerificationError, match="No matching signature"):
        Webhook(SECRET).verify(BODY, {**headers, **later})


def test_another_secret_does_not_verify() -> None:
    with pytest.raises(WebhookVerificationError, match="No matching signature"):
        Webhook(whsec("somebody else's")).verify(BODY, signed(SECRET, OLD_SECRET))


def test_an_old_delivery_cannot_be_replayed() -> None:
    with pytest.raises(WebhookVerificationError, match="too old"):
        Webhook(SECRET).verify(BODY, signed(SECRET, age=600))


def test_the_key_is_the_base64_content_of_the_secret() -> None:
    key = b64decode(SECRET.removeprefix("whsec_"))
    headers = signed(SECRET)
    content = f"msg_job_1.{headers['webhook-timestamp']}.".encode() + BODY
    expected = hmac.new(key, content, hashlib.sha256).digest()

    version, signature = headers["webhook-signature"].split(",")

    assert (version, b64decode(signature)) == ("v1", expected)


def test_new_secrets_are_valid_and_different() -> None:
    made = {standard_webhooks.new_secret() for _ in range(20)}

    assert len(made) == 20
    assert all(map(standard_webhooks.is_secret, made))


@pytest.mark.parametrize("bytes_", [24, 32, 64])
def test_secrets_of_the_right_length_are_accepted(bytes_: int) -> None:
    secret = f"whsec_{b64encode(b'k' * bytes_).decode()}"

    assert standard_webhooks.is_secret(secret)
    assert Webhook(secret).verify(BODY, signed(secret))


@for_each(
    "text",
    [
        "",
        "whsec_",
        SECRET.removeprefix("whsec_"),
        SECRET.replace("whsec_", "whpk_"),
        SECRET + "!",
        SECRET[:-1],
        whsec("x" * 65),
        "whsec_" + "a" * 28,  # 21 bytes
        "whsec_\u00e9" + "a" * 43,
        SECRET.replace("whsec_", "whsec_whsec_"),
    ],
)
def test_an_invalid_secret_is_recognised(text: str) -> None:
    assert not standard_webhooks.is_secret(text)
