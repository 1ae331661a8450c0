"""Keys and secrets in the environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.providers import BUILT_IN
from tests.settings.kit import ALL, HIDDEN, PUBLIC, refusal


def test_secrets_are_listed_newest_first(read: Any) -> None:
    old = f"{'a' * 16}, {'b' * 16},,"

    settings = read(**PUBLIC, ORCHESTRATOR_SECRET_KEYS_OLD=old)

    assert [key.reveal()[0] for key in settings.secret_keys] == ["k", "a", "b"]


@pytest.mark.parametrize("name", ["ORCHESTRATOR_SECRET_KEY", "ORCHESTRATOR_SECRET_KEYS_OLD"])
def test_a_short_secret_is_refused_without_being_shown(read: Any, name: str) -> None:
    text = refusal(read, **{**PUBLIC, name: "hush-hush"})

    assert text.startswith(f"{name} must be ")
    assert text.endswith("; got ***")
    assert "at least 16 characters" in text
    assert "hush" not in text


def test_api_keys_have_names(read: Any) -> None:
    settings = read(ORCHESTRATOR_API_KEYS=" one:a:with-a-colon-of-16 , two.x-y_z:c-and-14-more-of ")

    assert {name: key.reveal() for name, key in settings.api_keys.items()} == {
        "one": "a:with-a-colon-of-16",
        "two.x-y_z": "c-and-14-more-of",
    }


def test_a_short_key_is_accepted_when_only_this_machine_calls_us(read: Any) -> None:
    local = {
        "ORCHESTRATOR_ALLOW_PRIVATE_NETWORKS": "1",
        "ORCHESTRATOR_SECRET_KEY": "k" * 16,
        "ORCHESTRATOR_API_KEYS": "one:dev",
    }

    assert "one" in read(**local, ORCHESTRATOR_PUBLIC_URL="http://127.0.0.1:8080").api_keys
    text = refusal(read, **local, ORCHESTRATOR_PUBLIC_URL="http://hooks.example.com")
    assert "at least 16 characters" in text


@pytest.mark.parametrize(
    ("tenants", "admins", "reason"),
    [
        ("one:fifteen-letters", "", "keys of at least 16 characters"),
        ("one:{key}", "ops:fifteen-letters", "keys of at least 16 characters"),
        ("one:{key},two:{key}", "", "different keys; got the key of two twice"),
        ("one:{key}", "ops:{key}", "different keys; got the key of ops twice"),
    ],
)
def test_a_short_key_and_a_key_with_two_owners_are_refused_without_being_shown(
    read: Any, tenants: str, admins: str, reason: str
) -> None:
    values = {"ORCHESTRATOR_API_KEYS": tenants, "ORCHESTRATOR_ADMIN_KEYS": admins}

    text = refusal(read, **{name: value.format(key=HIDDEN) for name, value in values.items()})

    assert reason in text
    assert "fifteen-letters" not in text
    assert HIDDEN not in text


@pytest.mark.parametrize(
    "keys",
    [HIDDEN, f":{HIDDEN}", f"{HIDDEN}:", f"a b:{HIDDEN}", f"a:{HIDDEN},a:x", "x" * 65 + ":y"],
)
def test_malformed_api_keys_are_refused_without_being_shown(read: Any, keys: str) -> None:
    text = refusal(read, ORCHESTRATOR_API_KEYS=keys)

    assert text.startswith("ORCHESTRATOR_API_KEYS must be ")
    assert text.endswith("; got ***")
    assert "name:key,name:key" in text
    assert HIDDEN not in text


@pytest.mark.parametrize(
    "url",
    [
        f"redis://user:{HIDDEN}@host:port/0",
        f"http://user:{HIDDEN}@host/0",
        f"redis://:{HIDDEN}/with/slash@host:port",
        f"redis://user:{HIDDEN}@x@[host",
        f"http://host/?password={HIDDEN}",
        f"redis://:{HIDDEN}",
        f"redis://user:{HIDDEN}/0",
        f"redis://:pass?{HIDDEN}@host/0",
        f"//user:{HIDDEN}@host",
    ],
)
@pytest.mark.parametrize("name", ["REDIS_URL", "BROKER_URL"])
def test_a_password_in_a_url_is_not_shown(read: Any, name: str, url: str) -> None:
    assert HIDDEN not in refusal(read, **{f"ORCHESTRATOR_{name}": url})


WHSEC = "whsec_c2VjcmV0LW9mLXRoZS10ZXN0cy0zMi1ieXRlcyEh"
OLDER = "whsec_b2xkZXItc2VjcmV0LW9mLXRoZS10ZXN0cy4uLi4u"


def test_secrets_that_sign_notifications_are_listed_newest_first(read: Any) -> None:
    settings = read(ORCHESTRATOR_NOTIFY_SECRET=WHSEC, ORCHESTRATOR_NOTIFY_SECRETS_OLD=f"{OLDER},")

    assert [secret.reveal() for secret in settings.notify_secrets] == [WHSEC, OLDER]


def test_without_a_secret_nothing_can_be_signed(read: Any) -> None:
    assert read(ORCHESTRATOR_NOTIFY_SECRETS_OLD=OLDER).notify_secrets == ()


@pytest.mark.parametrize(
    "secret", [f"whsec_{HIDDEN}", HIDDEN, "whsec_aGlkZGVu", WHSEC[6:], f"whsec_{WHSEC[6:] * 3}"]
)
@pytest.mark.parametrize("name", ["NOTIFY_SECRET", "NOTIFY_SECRETS_OLD"])
def test_a_secret_of_another_form_is_refused_without_being_shown(
    read: Any, name: str, secret: str
) -> None:
    others = {"ORCHESTRATOR_NOTIFY_SECRET": WHSEC}

    text = refusal(read, **{**others, f"ORCHESTRATOR_{name}": secret})

    assert text.startswith(f"ORCHESTRATOR_{name} must be ")
    assert text.endswith("; got ***")
    assert 'echo "whsec_$(openssl rand -base64 32)"' in text
    assert secret.removeprefix("whsec_") not in text


def test_a_password_in_the_archives_url_is_refused_without_being_shown(read: Any) -> None:
    text = refusal(read, ORCHESTRATOR_ARCHIVE_URL=f"s3://key:{HIDDEN}@images/here")

    assert text.startswith("ORCHESTRATOR_ARCHIVE_URL must be ")
    assert HIDDEN not in text


def test_the_archive_is_in_the_data_folder_wherever_the_process_stands(
    read: Any, tmp_path: Path
) -> None:
    assert read(ORCHESTRATOR_DATA_DIR=str(tmp_path)).archive_url == f"file://{tmp_path}/archive"


BASE_URLS = [f"{name.upper()}_BASE_URL" for name in BUILT_IN]


@pytest.mark.parametrize("name", ["ORCHESTRATOR_PUBLIC_URL", *BASE_URLS])
def test_a_base_url_has_no_password_since_it_would_replace_our_key(read: Any, name: str) -> None:
    text = refusal(read, **{**ALL, name: f"https://user:{HIDDEN}@api.example.com"})

    assert "without user, password" in text
    assert HIDDEN not in text


@pytest.mark.parametrize("odd", [f"{HIDDEN} \u00e9", f"{HIDDEN}\nx", f"{HIDDEN}\x7f"])
@pytest.mark.parametrize(
    "name", [*(f"{name.upper()}_API_KEY" for name in BUILT_IN), "HIAPI_WEBHOOK_SECRET"]
)
def test_a_key_that_no_header_can_carry_is_refused_without_being_shown(
    read: Any, name: str, odd: str
) -> None:
    text = refusal(read, **{**ALL, name: odd})

    assert text.startswith(f"{name} must be ")
    assert text.endswith("; got ***")
    assert HIDDEN not in text


def test_text_that_is_no_utf_8_is_refused(read: Any) -> None:
    text = refusal(read, **{**PUBLIC, "ORCHESTRATOR_SECRET_KEY": "k" * 16 + "\udcff"})

    assert text.startswith("ORCHESTRATOR_SECRET_KEY must be ")
    assert text.endswith("; got ***")


def test_no_secret_is_in_the_settings_text(read: Any) -> None:
    settings = read(
        ORCHESTRATOR_PUBLIC_URL="https://hooks.example.com",
        ORCHESTRATOR_SECRET_KEY=HIDDEN,
        ORCHESTRATOR_API_KEYS=f"one:{HIDDEN}",
        ORCHESTRATOR_REDIS_URL=f"redis://user:{HIDDEN}@host/0",
        HIAPI_API_KEY=HIDDEN,
        HIAPI_WEBHOOK_SECRET=HIDDEN,
    )

    assert settings.broker_url == settings.redis_url
    assert HIDDEN not in repr(settings)
