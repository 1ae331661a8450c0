"""Callback tokens: only we can make one, and only for the attempt it names."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.callbacks.address import CallbackAddress, verified_address
from orchestrator.security import tokens
from orchestrator.security.secret import Secret
from orchestrator.settings.settings import Settings
from tests.support.cases import for_each
from tests.support.fakes import PUBLIC_URL, Harness

KEY, OTHER = Secret("0123456789abcdef0123456789abcdef"), Secret("another secret of some length")
JOB = "job_01jd0000000000000000000000" + "00"
ADDRESS = CallbackAddress("hiapi", JOB, 1)


def test_the_known_answer() -> None:
    # printf 'hiapi\njob_01jd0...00\n1' | openssl dgst -sha256 -hmac 0123... -binary | base64
    assert tokens.sign(KEY, "hiapi", JOB, 1) == "fb4Olz0y1hMZZtwm-9rk5YUxBewXSUZ69CuChGWW-6U"


def test_the_known_answer_is_hmac_sha256_over_provider_job_and_attempt() -> None:
    mac = hmac.new(KEY.reveal().encode(), f"hiapi\n{JOB}\n1".encode(), hashlib.sha256).digest()

    assert tokens.sign(KEY, "hiapi", JOB, 1) == base64.urlsafe_b64encode(mac).decode().rstrip("=")


@for_each(
    ("provider", "job_id", "attempt"),
    [
        ("evolink", JOB, 1),
        ("HIAPI", JOB, 1),
        ("hiapi", JOB[:-1] + "1", 1),
        ("hiapi", JOB, 2),
        ("hiapi", JOB, 11),
        ("hiapi\n" + JOB, "1", 1),
    ],
)
def test_a_token_is_good_for_its_own_attempt_only(provider: str, job_id: str, attempt: int) -> None:
    token = tokens.sign(KEY, "hiapi", JOB, 1)

    assert tokens.verify([KEY], token, "hiapi", JOB, 1)
    assert not tokens.verify([KEY], token, provider, job_id, attempt)


def test_a_token_of_another_secret_is_refused() -> None:
    assert not tokens.verify([KEY], tokens.sign(OTHER, "hiapi", JOB, 1), "hiapi", JOB, 1)


def test_no_secret_verifies_nothing() -> None:
    assert not tokens.verify([], tokens.sign(KEY, "hiapi", JOB, 1), "hiapi", JOB, 1)


def test_each_altered_character_is_refused() -> None:
    token = tokens.sign(KEY, "hiapi", JOB, 1)
    for place, character in enumerate(token):
        altered = token[:place] + ("A" if character != "A" else "B") + token[place + 1 :]
        assert not tokens.verify([KEY], altered, "hiapi", JOB, 1), place


@pytest.mark.parametrize(
    "make", [lambda t: t[:-1], lambda t: t + "=", lambda t: " " + t, str.lower]
)
def test_a_token_in_another_spelling_is_refused(make: Callable[[str], str]) -> None:
    assert not tokens.verify([KEY], make(tokens.sign(KEY, "hiapi", JOB, 1)), "hiapi", JOB, 1)


@given(st.text(st.characters()) | st.just("\ud800"))
def test_any_text_is_a_wrong_token_and_no_error(text: str) -> None:
    assert not tokens.verify([KEY], text, "hiapi", JOB, 1)


def test_older_secrets_still_verify_and_the_newest_signs(start: Callable[..., Harness]) -> None:
    old = ADDRESS.url(start(ORCHESTRATOR_SECRET_KEY=OTHER.reveal()).runtime.settings)

    rotated = start(
        ORCHESTRATOR_SECRET_KEY=KEY.reveal(), ORCHESTRATOR_SECRET_KEYS_OLD=OTHER.reveal()
    ).runtime.settings

    assert parts_verified(rotated, old) == ADDRESS
    assert parts_verified(rotated, ADDRESS.url(rotated)) == ADDRESS
    assert ADDRESS.url(rotated).endswith(tokens.sign(KEY, "hiapi", JOB, 1))


def test_a_secret_that_was_dropped_verifies_no_more(start: Callable[..., Harness]) -> None:
    old = ADDRESS.url(start(ORCHESTRATOR_SECRET_KEY=OTHER.reveal()).runtime.settings)

    assert parts_verified(start(ORCHESTRATOR_SECRET_KEY=KEY.reveal()).runtime.settings, old) is None


def test_the_address_of_a_callback_comes_back_from_its_url(harness: Harness) -> None:
    url = ADDRESS.url(harness.runtime.settings)

    assert url.startswith(f"{PUBLIC_URL}/callbacks/hiapi/{JOB}.1/")
    assert parts_verified(harness.runtime.settings, url) == ADDRESS


@pytest.mark.parametrize(
    "reference",
    [
        f"{JOB}.0",
        f"{JOB}.01",
        f"{JOB}.-1",
        f"{JOB}.1\n",
        f"{JOB}.",
        JOB,
        f"{JOB}.1000000",
        f"{JOB}.1.1",
        f"{JOB[:-2]}zz.1",
        f"{JOB}.\u0661",
        "job_.1",
        "",
    ],
)
def test_a_malformed_reference_is_refused_with_whatever_token(
    harness: Harness, reference: str
) -> None:
    job_id, _, attempt = reference.rpartition(".")
    number = int(attempt) if attempt.strip().isdecimal() else 1
    secret = harness.runtime.settings.secret_keys[0]

    token = tokens.sign(secret, "hiapi", job_id, number)

    assert verified_address(harness.runtime.settings, "hiapi", reference, token) is None


def parts_verified(settings: Settings, url: str) -> CallbackAddress | None:
    _, _, provider, reference, token = urlsplit(url).path.split("/")
    return verified_address(settings, provider, reference, token)
