"""Which hosts are private, as they are written; and which callback URLs a provider would take."""

from __future__ import annotations

import pytest

from orchestrator.net.addresses import callback_refusal, is_private

PRIVATE = (
    *("127.0.0.1", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254"),
    *("0.0.0.0", "100.64.0.1", "::1", "fe80::1", "fc00::1", "::ffff:127.0.0.1"),
    *("127.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.0.0.1.", "10.1"),
    *("localhost", "LOCALHOST", "localhost.", "a.localhost", "printer.local", "db.internal"),
)
PUBLIC = ("8.8.8.8", "172.32.0.1", "2606:4700::1111", "example.com", "localhost.example.com", "1.1")


def test_a_host_of_this_machine_or_network_is_private() -> None:
    for host in PRIVATE:
        assert is_private(host)


@pytest.mark.parametrize("host", PUBLIC)
def test_any_other_host_is_public(host: str) -> None:
    assert not is_private(host)


@pytest.mark.parametrize(
    ("url", "refused"),
    [
        ("https://hooks.example.com/c", None),
        ("http://hooks.example.com/c", "only https:// is accepted"),
        ("https://127.1/c", "a private or loopback host is refused"),
        ("https://[::1]/c", "a private or loopback host is refused"),
        ("https://h.example/" + "x" * 2030, None),
        ("https://h.example/" + "x" * 2031, "at most 2048 characters are accepted"),
    ],
)
def test_a_callback_url_is_taken_or_refused_with_the_reason(url: str, refused: str | None) -> None:
    assert callback_refusal(url, public=True, longest=2048) == refused


def test_a_provider_that_sets_no_more_rules_wants_https_alone() -> None:
    assert callback_refusal("https://127.0.0.1/" + "x" * 9000) is None
