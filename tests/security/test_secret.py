"""A secret does not print, however it is asked."""

from __future__ import annotations

import logging
import pprint
import traceback
from collections.abc import Callable

from orchestrator.net.http_types import Call
from orchestrator.providers import BUILT_IN
from orchestrator.providers.client import ProviderClient
from orchestrator.security.secret import Secret
from tests.support.cases import for_each
from tests.support.fakes import Harness
from tests.support.log_text import log_text

HIDDEN = "hidden-4f1c9a"


@for_each(
    "show",
    [
        str,
        repr,
        "{}".format,
        "{!s:>40}".format,
        "{!r}".format,
        lambda secret: "%s %r" % (secret, secret),  # noqa: UP031
        lambda secret: f"{secret}{secret!r}{[secret]}{(secret,)}{ {'key': secret} }",
        pprint.pformat,
        lambda secret: str(ValueError(secret)),
    ],
)
def test_a_secret_does_not_print(show: Callable[[Secret], str]) -> None:
    assert HIDDEN not in show(Secret(HIDDEN))


def test_a_secret_says_that_it_is_one() -> None:
    assert str(Secret(HIDDEN)) == "***"


def test_a_secret_can_be_read_on_purpose() -> None:
    assert Secret(HIDDEN).reveal() == HIDDEN


def test_a_secret_is_not_logged() -> None:
    with log_text() as logged:
        logging.getLogger("test").error("%s %r", Secret(HIDDEN), {"key": Secret(HIDDEN)})

    assert HIDDEN not in logged.getvalue()
    assert "***" in logged.getvalue()


def test_a_secret_is_not_in_a_traceback() -> None:
    secret = Secret(HIDDEN)
    try:
        raise ValueError(f"refused: {secret}") from KeyError(secret)
    except ValueError as error:
        told = traceback.TracebackException.from_exception(error, capture_locals=True)

    assert HIDDEN not in "".join(told.format())


def test_no_secret_of_the_settings_is_printed(start: Callable[..., Harness]) -> None:
    settings = start(
        ORCHESTRATOR_SECRET_KEY=f"{HIDDEN}-signing-key",
        ORCHESTRATOR_SECRET_KEYS_OLD=f"{HIDDEN}-older-signing-key",
        ORCHESTRATOR_API_KEYS=f"tests:{HIDDEN}-api",
        ORCHESTRATOR_REDIS_URL=f"redis://user:{HIDDEN}-redis@127.0.0.1:6379/0",
        ORCHESTRATOR_BROKER_URL=f"redis://user:{HIDDEN}-broker@127.0.0.1:6379/0",
        HIAPI_API_KEY=f"{HIDDEN}-hiapi",
        HIAPI_WEBHOOK_SECRET=f"{HIDDEN}-webhook",
        HIAPI_WEBHOOK_SECRETS_OLD=f"{HIDDEN}-older-webhook",
    ).runtime.settings

    for shown in (repr(settings), str(settings), f"{settings}", pprint.pformat(settings)):
        assert HIDDEN not in shown


def test_the_key_of_a_call_is_not_in_the_reason_that_it_failed(
    start: Callable[..., Harness],
) -> None:
    settings = start(HIAPI_API_KEY=HIDDEN, HIAPI_BASE_URL="http://127.0.0.1:1").runtime.settings

    told = ProviderClient(connect_timeout=1, read_timeout=1).call(
        BUILT_IN["hiapi"],
        Call("GET", "/"),
        base_url=settings.providers["hiapi"].base_url,
        api_key=settings.providers["hiapi"].api_key,
    )

    assert HIDDEN not in repr(told)
