"""Signatures over timestamp and raw body, held against the provider's own SDK."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from hiapi import HiAPI as Client
from hiapi import WebhookVerificationError
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.providers import PROVIDERS
from orchestrator.security.secret import Secret
from orchestrator.security.signatures import BadSignature, verify_timestamped_hex
from tests.support.cases import for_each
from tests.support.fakes import NOON
from tests.support.strategies import TEXT

SECRET, OLD = Secret("whsec_0123456789abcdef"), Secret("whsec_the_one_before")
NOW = NOON // 1000
BODY = b'{"taskId":"t-1","model":"Nano-Banana-2","status":"success","output":[]}'


def signature(secret: Secret, timestamp: str, body: bytes = BODY) -> str:
    message = timestamp.encode() + b"." + body
    return hmac.new(secret.reveal().encode(), message, hashlib.sha256).hexdigest()


def check(timestamp: str | None, given: str | None, *secrets: Secret, body: bytes = BODY) -> None:
    verify_timestamped_hex(
        secrets or (SECRET,),
        timestamp=timestamp,
        signature=given,
        body=body,
        now=NOW,
        tolerance=300,
    )


def test_the_known_answer() -> None:
    # printf '1700000000.{}' | openssl dgst -sha256 -hmac whsec_0123456789abcdef
    known = "d0c329a0542d1a8e66b0b5503cf2d2f8f8e174c98224b843c11f74ea14c341e9"
    assert signature(SECRET, "1700000000", b"{}") == known


@for_each("off", [-301, -300, -299, 0, 299, 300, 301])
@for_each("forged", [False, True])
def test_we_accept_and_refuse_what_the_providers_sdk_does(off: int, forged: bool) -> None:
    timestamp = str(NOW + off)
    signed = signature(OLD if forged else SECRET, timestamp)
    sdk = Client(api_key="any", webhook_secret=SECRET.reveal()).webhooks
    headers = {"x-hiapi-timestamp": timestamp, "x-hiapi-signature": signed}

    try:
        PROVIDERS["hiapi"].verify_callback(headers, BODY, [SECRET], NOON)
        ours = True
    except BadSignature:
        ours = False
    try:
        sdk.verify(BODY, {"X-HiAPI-Timestamp": timestamp, "X-HiAPI-Signature": signed}, now=NOW)
        theirs = True
    except WebhookVerificationError:
        theirs = False

    assert ours == theirs == (abs(off) <= 300 and not forged)


@pytest.mark.parametrize("timestamp", [str(NOW - 300), str(NOW + 300)])
def test_a_timestamp_at_the_edge_of_the_window_is_accepted(timestamp: str) -> None:
    check(timestamp, signature(SECRET, timestamp))


@pytest.mark.parametrize("timestamp", [str(NOW - 301), str(NOW + 301), "0", "9" * 12])
def test_a_timestamp_outside_of_the_window_is_refused(timestamp: str) -> None:
    with pytest.raises(BadSignature, match="more than 300 s off"):
        check(timestamp, signature(SECRET, timestamp))


@for_each(
    "timestamp",
    [
        f"{NOW}.0",
        f" {NOW}",
        f"{NOW} ",
        f"+{NOW}",
        f"-{NOW}",
        f"{NOW:_}",
        f"{NOW}e0",
        "now",
        "0x6b",
        "9" * 5000,
        "\u0661\u0662\u0663",
        "1\n",
        "\ud800",
    ],
)
def test_a_malformed_timestamp_is_refused_even_when_it_is_signed(timestamp: str) -> None:
    message = timestamp.encode("utf-8", "surrogatepass") + b"." + BODY
    signed = hmac.new(SECRET.reveal().encode(), message, hashlib.sha256).hexdigest()

    with pytest.raises(BadSignature, match="not a number of seconds"):
        check(timestamp, signed)


@pytest.mark.parametrize(
    ("timestamp", "signed"), [(None, "ab"), (str(NOW), None), ("", "ab"), (str(NOW), "")]
)
def test_an_absent_header_is_refused(timestamp: str | None, signed: str | None) -> None:
    with pytest.raises(BadSignature, match="absent"):
        check(timestamp, signed)


@for_each(
    "altered",
    [
        "0" * 64,
        "ab",
        "zz" * 32,
        "\u00e9" * 64,
        "\u20ac",
        "\ud800",
        "v1,abc",
        " ",
        "a" * 100_000,
    ],
)
def test_a_malformed_signature_is_refused(altered: str) -> None:
    with pytest.raises(BadSignature, match="the signature is wrong"):
        check(str(NOW), altered)


def test_a_signature_in_another_spelling_is_refused() -> None:
    good = signature(SECRET, str(NOW))
    for altered in (good.upper(), good[:-1], good + "0", f" {good}", f"sha256={good}"):
        with pytest.raises(BadSignature, match="the signature is wrong"):
            check(str(NOW), altered)


def test_another_body_is_refused() -> None:
    with pytest.raises(BadSignature, match="the signature is wrong"):
        check(str(NOW), signature(SECRET, str(NOW)), body=BODY + b" ")


def test_another_timestamp_than_the_signed_one_is_refused() -> None:
    with pytest.raises(BadSignature, match="the signature is wrong"):
        check(str(NOW + 1), signature(SECRET, str(NOW)))


def test_an_older_secret_still_verifies_while_it_is_listed() -> None:
    check(str(NOW), signature(OLD, str(NOW)), SECRET, OLD)

    with pytest.raises(BadSignature, match="the signature is wrong"):
        check(str(NOW), signature(OLD, str(NOW)), SECRET)


@given(
    timestamp=st.none() | TEXT | st.just(str(NOW)),
    signed=st.none() | st.text(st.characters()),
    body=st.binary(),
)
def test_nothing_but_bad_signature_is_ever_raised(
    timestamp: str | None, signed: str | None, body: bytes
) -> None:
    with pytest.raises(BadSignature):
        check(timestamp, signed, body=body)


def test_a_provider_that_does_not_sign_verifies_nothing() -> None:
    with pytest.raises(BadSignature, match="EvoLink does not sign"):
        PROVIDERS["evolink"].verify_callback({}, b"{}", [SECRET], NOON)
