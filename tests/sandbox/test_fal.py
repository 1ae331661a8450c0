"""fal's twin: its queue, its errors, and callbacks that the published steps verify."""

import base64
import hashlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import requests
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tests.sandbox.kit import KEY, CallbackReceiver, ReceivedCallback, SandboxClient, wait_until

FLUX = "/fal/fal-ai/flux/schnell"


@pytest.fixture
def fal(client: SandboxClient) -> Iterator[SandboxClient]:
    """The shared sandbox, asked with fal's scheme of the key."""
    own = SandboxClient(client.url, client.state)
    own.session.headers["Authorization"] = f"Key {KEY}"
    with own.session:
        yield own


def submitted(fal: SandboxClient, prompt: str = "A red cube", **options: Any) -> dict[str, Any]:
    answer = fal.post(FLUX, json={"prompt": prompt}, **options)
    assert answer.status_code == 200, answer.text
    accepted: dict[str, Any] = answer.json()
    return accepted


def finished(fal: SandboxClient, accepted: Mapping[str, Any]) -> requests.Response:
    """Wait until the request is completed, and return its result."""
    address = f"/fal/fal-ai/flux/requests/{accepted['request_id']}"
    wait_until(lambda: fal.get(f"{address}/status").json()["status"] == "COMPLETED")
    return fal.get(address)


def verify(callback: ReceivedCallback, keys: Mapping[str, Any]) -> None:
    """Verify a callback by the steps of the page "Webhooks"."""
    names = ("Request-Id", "User-Id", "Timestamp")
    lines = [callback.headers[f"X-Fal-Webhook-{name}"] for name in names]
    assert abs(time.time() - int(lines[2])) <= 300
    message = "\n".join([*lines, hashlib.sha256(callback.body).hexdigest()]).encode()
    signature = bytes.fromhex(callback.headers["X-Fal-Webhook-Signature"])
    [key] = keys["keys"]
    public = base64.urlsafe_b64decode(key["x"] + "=" * (-len(key["x"]) % 4))
    Ed25519PublicKey.from_public_bytes(public).verify(signature, message)


def test_a_request_goes_through_the_queue_to_its_result(fal: SandboxClient) -> None:
    accepted = submitted(fal, "A red cube [sandbox: slow=0.3]")
    address = f"{fal.url}/fal/fal-ai/flux/requests/{accepted['request_id']}"
    assert accepted["status"] == "IN_QUEUE"
    assert (accepted["response_url"], accepted["status_url"]) == (address, f"{address}/status")
    early = fal.get(f"/fal/fal-ai/flux/requests/{accepted['request_id']}/status")
    assert (early.status_code, early.json()["status"]) == (202, "IN_QUEUE")
    assert fal.fetch(address).status_code == 400

    result = finished(fal, accepted)

    assert result.status_code == 200
    [image] = result.json()["images"]
    assert fal.fetch(image["url"]).headers["Content-Type"] == "image/png"
    assert fal.charged("fal") == 1


def test_a_failed_request_answers_with_the_models_error(fal: SandboxClient) -> None:
    for fault, status, kind in (
        ("fail", 422, "content_policy_violation"),
        ("fail=timeout", 504, "generation_timeout"),
        ("fail=generation_failed", 422, "no_media_generated"),
    ):
        result = finished(fal, submitted(fal, f"x [sandbox: {fault}]"))
        [detail] = result.json()["detail"]
        assert (result.status_code, detail["type"]) == (status, kind)


def test_callbacks_are_signed_with_the_published_key(
    fal: SandboxClient, receiver: CallbackReceiver
) -> None:
    keys = requests.get(f"{fal.url}/fal/.well-known/jwks.json", timeout=60).json()
    accepted = submitted(
        fal, "A red cube [sandbox: forged]", params={"fal_webhook": receiver.url()}
    )

    away, wrong, true = receiver.wait_for(3)

    assert away.path != true.path
    for signed in (away, true):
        verify(signed, keys)
        assert signed.headers["X-Fal-Webhook-Request-Id"] == accepted["request_id"]
    with pytest.raises(InvalidSignature):
        verify(wrong, keys)


def test_errors_have_the_forms_of_fal(fal: SandboxClient, client: SandboxClient) -> None:
    assert client.post(FLUX, json={"prompt": "x"}).status_code == 401  # the scheme is Bearer
    assert client.post("/fal/.well-known/jwks.json", json={"prompt": "x"}).status_code == 401
    wrong = fal.post(FLUX, json={"prompt": "x", "num_images": 5})
    assert wrong.status_code == 422
    assert wrong.json()["detail"][0]["loc"] == ["body", "num_images"]
    assert fal.post(FLUX, data=b"[]").json()["error_type"] == "bad_request"
    assert fal.get("/fal/fal-ai/flux/requests/none").status_code == 404
    assert fal.get("/fal/fal-ai/flux/requests/none/status").status_code == 404
    accepted = submitted(fal)
    assert fal.get(f"/fal/fal-ai/other/requests/{accepted['request_id']}").status_code == 404


@pytest.mark.parametrize("form", ["string", "object"])
def test_several_images_stay_a_list_in_a_form_of_one(fal: SandboxClient, form: str) -> None:
    accepted = submitted(fal, f"x [sandbox: result_form={form}]")
    several = fal.post(
        FLUX, json={"prompt": f"x [sandbox: result_form={form}]", "num_images": 2}
    ).json()

    assert not isinstance(finished(fal, accepted).json()["images"], list)
    assert len(finished(fal, several).json()["images"]) == 2
