"""Verification by Standard Webhooks, held against its reference library."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import webhooks
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from orchestrator.security.secret import Secret
from orchestrator.security.signatures import BadSignature, verify_id_and_time
from orchestrator.security.standard_webhooks import new_secret, verify_standard_webhook
from tests.support.cases import for_each
from tests.support.strategies import TEXT

SECRET, OLD = Secret(new_secret()), Secret(new_secret())
NOW = 1_800_000_000
BODY = '{"id":"p1","status":"succeeded","output":["https://e.example/é.png"]}'.encode()


class FixedTime(datetime):
    """The clock of the library, which stands still while many tests run."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> FixedTime:
        return cls.fromtimestamp(NOW, tz)


@pytest.fixture(scope="module", autouse=True)
def fixed_time() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(webhooks, "datetime", FixedTime)
        yield


def signed(secret: Secret = SECRET, at: int = NOW) -> dict[str, str]:
    """Return the headers that the library makes."""
    time_ = datetime.fromtimestamp(at, UTC)
    signature = Webhook(secret.reveal()).sign("msg_1", time_, BODY.decode())
    stamp = {"webhook-id": "msg_1", "webhook-timestamp": str(at)}
    return {**stamp, "webhook-signature": signature}


def check(headers: dict[str, str], *secrets: Secret, body: bytes = BODY) -> None:
    verify_standard_webhook(secrets or (SECRET,), headers=headers, body=body, now=NOW)


@for_each("off", [-310, -290, 0, 290, 310])
@for_each("forged", [False, True])
def test_we_accept_and_refuse_what_the_library_does(off: int, forged: bool) -> None:
    headers = signed(OLD if forged else SECRET, NOW + off)
    try:
        check(headers)
        ours = True
    except BadSignature:
        ours = False
    try:
        Webhook(SECRET.reveal()).verify(BODY, headers)
        theirs = True
    except WebhookVerificationError:
        theirs = False

    assert ours == theirs == (abs(off) <= 300 and not forged)


def test_any_of_our_secrets_and_any_of_the_senders_signatures_may_match() -> None:
    check(signed(OLD), SECRET, OLD)
    both = signed()
    both["webhook-signature"] = f"v2,abc v1a,abc {signed(OLD)['webhook-signature']}"
    check(both, OLD)
    with pytest.raises(BadSignature, match="the signature is wrong"):
        check(signed(OLD), SECRET)


@for_each(
    "changed",
    [
        {"webhook-id": "msg_2"},
        {"webhook-timestamp": str(NOW + 1)},
        {"webhook-signature": "v1,AAAA"},
        {"webhook-signature": signed()["webhook-signature"].removeprefix("v1,")},
        {"webhook-signature": signed()["webhook-signature"].replace("v1,", "v1a,")},
        {"webhook-signature": "v1,AAAA " * 20 + signed()["webhook-signature"]},
    ],
)
def test_one_wrong_part_is_a_bad_signature(changed: dict[str, str]) -> None:
    with pytest.raises(BadSignature, match="the signature is wrong"):
        check({**signed(), **changed})


def test_another_body_is_refused() -> None:
    with pytest.raises(BadSignature, match="the signature is wrong"):
        check(signed(), body=BODY + b" ")


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_an_absent_header_is_refused(name: str) -> None:
    with pytest.raises(BadSignature, match="absent"):
        check({**signed(), name: ""})


@given(st.dictionaries(st.sampled_from(sorted(signed())), TEXT), st.binary(), TEXT)
def test_nothing_but_bad_signature_is_ever_raised(
    headers: dict[str, str], body: bytes, secret: str
) -> None:
    with pytest.raises(BadSignature):
        verify_standard_webhook([Secret(secret)], headers=headers, body=body, now=NOW)


# HMAC over id and time -------------------------------------------------------------------------

#: printf 'task_1.1700000000' | openssl dgst -sha256 -hmac secret -binary | base64
KNOWN = "ZldUdpiTNjv8C3iG+Nsqf+/7MoUG8WN6i3/xqFapcCM="


def check_id(signature: str | None = KNOWN, *secrets: str, **changed: str | int | None) -> None:
    given = {"task_id": "task_1", "timestamp": "1700000000", "now": 1_700_000_300, **changed}
    verify_id_and_time(
        [Secret(each) for each in secrets or ("secret",)],
        signature=signature,
        tolerance=300,
        **given,  # type: ignore[arg-type]
    )


def test_the_known_answer_over_id_and_time() -> None:
    check_id()
    check_id(KNOWN, "newer", "secret")


@for_each(
    ("changed", "why"),
    [
        ({"task_id": "task_2"}, "wrong"),
        ({"timestamp": "1700000001"}, "wrong"),
        ({"now": 1_700_000_301}, "300 s off"),
        ({"now": 1_699_999_699}, "300 s off"),
        ({"timestamp": "1700000000.0"}, "not a number"),
        ({"timestamp": None}, "absent"),
        ({"signature": None}, "absent"),
        ({"signature": KNOWN.rstrip("=")}, "wrong"),
        ({"signature": "\ud800"}, "wrong"),
    ],
)
def test_a_wrong_part_of_id_and_time_is_refused(
    changed: dict[str, str | int | None], why: str
) -> None:
    with pytest.raises(BadSignature, match=why):
        check_id(**changed)  # type: ignore[arg-type]
    with pytest.raises(BadSignature, match="wrong"):
        check_id(KNOWN, "other")
