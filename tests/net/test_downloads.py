"""Downloads in a step loop, by libcurl: what every guarded session promises, and what differs."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator.net import downloads
from orchestrator.net.guard import Forbidden, Guard
from orchestrator.net.guarded_session import FetchedBody, GuardedSession
from orchestrator.step_loop import StepLoop
from tests.net import test_guarded_session as answers
from tests.net import test_guarded_session_connections as connections
from tests.net import test_guarded_session_encodings as encodings
from tests.net import test_guarded_session_redirects as redirects
from tests.net import test_guarded_session_time as times
from tests.net.asking import PNG, failure, fetch, serve, session
from tests.net.dns import Names, names
from tests.net.servers import Serve, answer, certificate, once, saying
from tests.support.steps import begin

__all__ = ["names", "serve"]

#: The longest wait for a download. Seconds.
LIMIT = 60


@pytest.fixture(autouse=True)
def in_step_loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have every download run in a step loop."""
    loop, plain = StepLoop(), GuardedSession.fetch

    def fetch_in_loop(self: GuardedSession, *args: Any, **options: Any) -> FetchedBody:
        return begin(loop, plain, self, *args, **options).result(LIMIT)

    monkeypatch.setattr(GuardedSession, "fetch", fetch_in_loop)
    yield
    loop.stop()


# What a thread that blocks promises, too --------------------------------------------------------

test_body = answers.test_a_body_is_written_and_told_by_length_digest_and_type
test_statuses = answers.test_any_status_but_200_fails_with_it
test_wait = answers.test_the_advised_wait_is_told
test_reset = answers.test_a_reset_in_the_body_fails_and_is_not_tried_again
test_name = answers.test_a_name_that_does_not_resolve_fails
test_secrets = answers.test_no_reason_and_no_log_holds_a_secret_of_the_url
test_file_error = answers.test_an_error_of_the_file_comes_through_and_spoils_the_connection
test_limit = answers.test_a_body_of_exactly_the_limit_is_taken
test_long = answers.test_a_length_above_the_limit_is_refused_before_reading
test_endless = answers.test_a_body_without_end_is_refused_while_reading
test_next_address = connections.test_the_next_address_is_tried_when_one_refuses
test_idna = connections.test_an_idna_name_is_one_name_for_dns_tls_and_host
test_environment = connections.test_the_environment_has_no_say
test_used_again = connections.test_a_connection_is_used_again
test_failed = connections.test_a_connection_that_failed_is_not_used_again
test_left_over = connections.test_what_comes_after_a_body_does_not_spoil_the_next
test_broken_idle = connections.test_an_idle_connection_that_broke_off_is_made_anew_for_a_get
test_encoding = encodings.test_an_encoding_that_nobody_asked_for_is_taken_off
test_cut_encoding = encodings.test_an_encoded_body_that_is_cut_fails
test_followed = redirects.test_a_redirect_is_followed
test_relative = redirects.test_a_relative_redirect_is_followed_and_may_be_utf8
test_as_browser = redirects.test_a_redirect_is_read_as_a_browser_reads_it
test_plain_http = redirects.test_plain_http_to_a_public_host_is_allowed_on_request
test_five = redirects.test_at_most_five_redirects_are_followed
test_nowhere = redirects.test_a_redirect_to_where_nobody_may_go_is_not_followed
test_shared_time = times.test_redirects_share_the_time
test_no_resolution = times.test_a_call_whose_time_is_over_resolves_nothing


# What differs -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (answer(PNG)[:-1], "the body broke off: the answer broke off"),
        (b"", "the connection was closed without an answer"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "the answer is not HTTP/1.1"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nab",
            "the body broke off: the answer is not HTTP/1.1",
        ),
    ],
    ids=["cut", "closed", "SSH", "two lengths"],
)
def test_an_answer_that_is_not_whole_fails(serve: Serve, said: bytes, reason: str) -> None:
    assert failure(serve(once(said)).url).reason == reason


def test_a_certificate_of_another_name_is_not_trusted(
    serve: Serve, names: Names, tmp_path: Any
) -> None:
    tls, trusting = certificate(tmp_path, "good.example")
    server = serve(saying(answer(PNG)), tls)
    names["cdn.good.example"] = (["127.0.0.1"],)

    failed = failure(f"https://cdn.good.example:{server.port}/", session(tls=trusting))

    assert failed.reason == "the TLS certificate is not trusted"
    assert server.requests == []


def test_only_the_checked_addresses_of_a_name_are_used(serve: Serve, names: Names) -> None:
    server = serve(once(answer(PNG)))
    names["cdn.example"] = (["127.0.0.1"], ["127.0.0.2", "169.254.169.254"])
    by, url = session(), f"http://cdn.example:{server.port}/"

    assert fetch(url, by)[0] == PNG
    assert fetch(url, by)[0] == PNG  # over a new connection
    assert names.asked == ["cdn.example"]

    again = session()
    names["cdn.example"] = (["127.0.0.1", "169.254.169.254"],)
    with pytest.raises(Forbidden):
        fetch(url, again)


def test_a_known_address_is_forgotten(
    serve: Serve, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "ADDRESS_SECONDS", -1.0)
    server, by = serve(once(answer(PNG))), session(Guard(allow_hosts=["cdn.example"]))
    names["cdn.example"] = (["127.0.0.1"], ["169.254.169.254"])

    assert fetch(f"http://cdn.example:{server.port}/", by)[0] == PNG
    with pytest.raises(Forbidden):
        fetch(f"http://cdn.example:{server.port}/", by)


def test_an_idle_connection_to_an_earlier_address_is_not_used(
    serve: Serve, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "ADDRESS_SECONDS", -1.0)
    server, by = serve(saying(answer(PNG))), session()
    names["cdn.example"] = (["127.0.0.1"], ["127.0.0.2"], ["127.0.0.2", "127.0.0.1"])
    url = f"http://cdn.example:{server.port}/"

    assert fetch(url, by)[0] == PNG
    assert failure(url, by).reason == "the connection was not made"
    assert fetch(url, by)[0] == PNG
    assert len(server.requests) == 2


def test_a_long_body_is_digested_in_a_thread(serve: Serve) -> None:
    body, threads = PNG * 3, list[bool]()
    into = io.BytesIO()

    def run(action: Any) -> Any:
        threads.append(True)
        return action()

    fetched = session().fetch(
        serve(once(answer(body))).url, into, seconds=15, max_bytes=len(body), run=run
    )

    assert into.getvalue() == body
    assert fetched.sha256 == hashlib.sha256(body).hexdigest()
    assert threads == [True]
