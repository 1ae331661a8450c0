"""The inbox' check of a signature, held against the package of the specification's authors."""

import base64
import time
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from sandbox.signing import BadSecretError, problem, read_secret, sign

KEY = b"a key of at least 24 bytes"
SECRET = "whsec_" + base64.b64encode(KEY).decode()
OTHER = "whsec_" + base64.b64encode(b"quite another key, as long").decode()
BODY = '{"type": "job.succeeded", "data": {"id": "job_1", "prompt": "Würfel 立方体"}}'
NOW = 1_700_000_000


def _problem(**changes: object) -> str | None:
    given: dict[str, object] = {
        "message_id": "msg_1",
        "timestamp": str(NOW),
        "signature": sign(KEY, "msg_1", str(NOW), BODY.encode()),
        "body": BODY.encode(),
        "now": float(NOW),
    }
    return problem(KEY, **{**given, **changes})  # type: ignore[arg-type]


def test_signs_as_the_package_does() -> None:
    theirs = Webhook(SECRET).sign("msg_1", datetime.fromtimestamp(NOW, UTC), BODY)

    assert sign(KEY, "msg_1", str(NOW), BODY.encode()) == theirs
    assert _problem(signature=theirs) is None


def test_signs_the_vector_of_the_specification() -> None:
    key = read_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signature = sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}')

    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def _theirs(secret: str, signature: str, body: str, seconds: int) -> bool:
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


@pytest.mark.parametrize("secret", [SECRET, OTHER])
@pytest.mark.parametrize("body", [BODY, '{"type": "job.failed"}'])
@pytest.mark.parametrize("age", [-400, -200, 0, 200, 400])
@pytest.mark.parametrize("form", ["{}", "v1a,xxxx {}", "v1,AAAA {}", "v2,AAAA"])
def test_decides_as_the_package_does(secret: str, body: str, age: int, form: str) -> None:
    now = time.time()
    seconds = int(now) - age
    signature = form.format(sign(KEY, "msg_1", str(seconds), BODY.encode()))
    ours = problem(
        read_secret(secret),
        message_id="msg_1",
        timestamp=str(seconds),
        signature=signature,
        body=body.encode(),
        now=now,
    )

    assert (ours is None) == _theirs(secret, signature, body, seconds)
    right = secret == SECRET and body == BODY and abs(age) <= 300 and "v2" not in form
    assert (ours is None) == right


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"message_id": None}, "no webhook-id"),
        ({"message_id": ""}, "no webhook-id"),
        ({"timestamp": None}, "no webhook-timestamp"),
        ({"signature": None}, "no webhook-signature"),
        ({"timestamp": "soon"}, "webhook-timestamp is no Unix time in seconds"),
        ({"timestamp": f"{NOW}.5"}, "webhook-timestamp is no Unix time in seconds"),
        ({"timestamp": "9" * 5000}, "webhook-timestamp is no Unix time in seconds"),
        ({"timestamp": "²"}, "webhook-timestamp is no Unix time in seconds"),
        ({"now": NOW + 301.0}, "webhook-timestamp is 301 seconds old"),
        ({"now": NOW - 301.0}, "webhook-timestamp is 301 seconds ahead"),
        ({"message_id": "msg_2"}, "no signature fits"),
        ({"message_id": "msg_é"}, "no signature fits"),
        ({"timestamp": str(NOW + 1)}, "no signature fits"),
        ({"body": BODY.encode() + b" "}, "no signature fits"),
        ({"body": b"\xff\xfe"}, "no signature fits"),
        ({"signature": "v1"}, "no signature fits"),
        ({"signature": "v1,é 立"}, "no signature fits"),
        ({"signature": "v2," + sign(KEY, "msg_1", str(NOW), BODY.encode())[3:]}, "no signature"),
    ],
    ids=[
        *("no-id", "empty-id", "no-time", "no-signature", "word-time", "broken-time"),
        *("long-time", "odd-digit-time", "old", "ahead", "other-id", "odd-id", "other-time"),
        *("longer-body", "body-no-text", "no-comma", "odd-signature", "other-version"),
    ],
)
def test_says_what_is_wrong(changes: dict[str, object], words: str) -> None:
    assert (_problem(**changes) or "").startswith(words)


@pytest.mark.parametrize("now", [NOW - 300.0, NOW + 300.0])
def test_a_time_a_little_off_is_right(now: float) -> None:
    assert _problem(now=now) is None


@pytest.mark.parametrize("text", ["", "whsec_", "whsec_é", "whsec_abc", "whsec_!!!!", SECRET[6:]])
def test_refuses_what_is_no_secret(text: str) -> None:
    with pytest.raises(BadSecretError, match="allowed: whsec_ and then a key in base64") as error:
        read_secret(text)

    assert len(text) <= len("whsec_") or text not in str(error.value)
