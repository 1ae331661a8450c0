"""The inbox's check of a signature, compared with the package of the specification's authors."""

import base64
import time
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from sandbox.signing import BadSecretError, problem, read_secret, sign
from tests.sandbox.notices import KEY, SECRET
from tests.support.cases import for_each

OTHER_SECRET = "whsec_" + base64.b64encode(b"quite another key, as long").decode()
BODY = '{"type": "job.succeeded", "data": {"id": "job_1", "prompt": "Würfel 立方体"}}'
NOW = 1_700_000_000


def _problem(**changes: object) -> str | None:
    arguments: dict[str, object] = {
        "message_id": "msg_1",
        "timestamp": str(NOW),
        "signature": sign(KEY, "msg_1", str(NOW), BODY.encode()),
        "body": BODY.encode(),
        "now": float(NOW),
    }
    return problem(KEY, **{**arguments, **changes})  # type: ignore[arg-type]


def test_signs_as_the_package_does() -> None:
    expected = Webhook(SECRET).sign("msg_1", datetime.fromtimestamp(NOW, UTC), BODY)

    assert sign(KEY, "msg_1", str(NOW), BODY.encode()) == expected
    assert _problem(signature=expected) is None


def test_signs_the_vector_of_the_specification() -> None:
    key = read_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signature = sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}')

    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def _package_accepts(secret: str, signature: str, body: str, seconds: int) -> bool:
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(seconds),
        "webhook-signature": signature,
    }
    try:
        Webhook(secret).verify(body, headers)
    except WebhookVerificationError:
        return False
    return True


@for_each(
    ("secret", "body", "age", "form", "valid"),
    [
        (SECRET, BODY, 0, "{}", True),
        (SECRET, BODY, 200, "{}", True),
        (SECRET, BODY, -200, "{}", True),
        (SECRET, BODY, 0, "v1a,xxxx {}", True),
        (SECRET, BODY, 0, "v1,AAAA {}", True),
        (SECRET, BODY, 0, "v2,AAAA", False),
        (SECRET, BODY, 400, "{}", False),
        (SECRET, BODY, -400, "{}", False),
        (SECRET, '{"type": "job.failed"}', 0, "{}", False),
        (OTHER_SECRET, BODY, 0, "{}", False),
    ],
)
def test_decides_as_the_package_does(
    secret: str, body: str, age: int, form: str, valid: bool
) -> None:
    now = time.time()
    seconds = int(now) - age
    signature = form.format(sign(KEY, "msg_1", str(seconds), BODY.encode()))
    reason = problem(
        read_secret(secret),
        message_id="msg_1",
        timestamp=str(seconds),
        signature=signature,
        body=body.encode(),
        now=now,
    )

    assert (reason is None) == _package_accepts(secret, signature, body, seconds) == valid


@for_each(
    ("changes", "reason"),
    [
        ({"message_id": None}, "webhook-id is missing"),
        ({"message_id": ""}, "webhook-id is missing"),
        ({"timestamp": None}, "webhook-timestamp is missing"),
        ({"signature": None}, "webhook-signature is missing"),
        ({"timestamp": "soon"}, "webhook-timestamp is not a Unix time in seconds"),
        ({"timestamp": f"{NOW}.5"}, "webhook-timestamp is not a Unix time in seconds"),
        ({"timestamp": "9" * 5000}, "webhook-timestamp is not a Unix time in seconds"),
        ({"timestamp": "²"}, "webhook-timestamp is not a Unix time in seconds"),
        ({"now": NOW + 301.0}, "webhook-timestamp is 301 seconds old"),
        ({"now": NOW - 301.0}, "webhook-timestamp is 301 seconds ahead"),
        ({"now": NOW + 300.0}, None),
        ({"now": NOW - 300.0}, None),
        ({"message_id": "msg_2"}, "no signature matches"),
        ({"message_id": "msg_é"}, "no signature matches"),
        ({"timestamp": str(NOW + 1)}, "no signature matches"),
        ({"body": BODY.encode() + b" "}, "no signature matches"),
        ({"body": b"\xff\xfe"}, "no signature matches"),
        ({"signature": "v1"}, "no signature matches"),
        ({"signature": "v1,é 立"}, "no signature matches"),
        (
            {"signature": "v2," + sign(KEY, "msg_1", str(NOW), BODY.encode())[3:]},
            "no signature matches",
        ),
    ],
)
def test_names_the_reason(changes: dict[str, object], reason: str | None) -> None:
    assert _problem(**changes) == reason


@for_each("text", ["", "whsec_", "whsec_é", "whsec_abc", "whsec_!!!!", SECRET[6:]])
def test_refuses_a_wrong_secret_without_repeating_it(text: str) -> None:
    with pytest.raises(BadSecretError) as error:
        read_secret(text)

    assert str(error.value) == "must be whsec_ followed by a key in base64"
