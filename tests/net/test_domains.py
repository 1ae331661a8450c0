"""The registered domain of a host."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.net.domains import registered_domain
from tests.support.strategies import CHARACTERS


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        ("example.com", "example.com"),
        ("a.b.Example.COM:8443", "example.com"),
        ("a.example.com.", "example.com"),
        ("hooks.example.co.uk", "example.co.uk"),
        ("bücher.example.de", "example.de"),
        # Customers of one hosting company have domains of their own.
        ("one.s3.amazonaws.com", "one.s3.amazonaws.com"),
        ("d1.cloudfront.net", "d1.cloudfront.net"),
        # A name that nobody registers.
        ("shop:8080", "shop"),
        ("com", "com"),
        ("192.0.2.7:8080", "192.0.2.7"),
        ("[2001:db8:1:2:3::4]:443", "2001:db8:1:2::/64"),
        ("[2001:db8:1:2:ffff::1]", "2001:db8:1:2::/64"),
        ("", ""),
        ("[::1", "[::1"),
    ],
)
def test_a_host_has_a_registered_domain(host: str, domain: str) -> None:
    assert registered_domain(host) == domain


@given(st.text(CHARACTERS, max_size=40))
def test_any_text_has_a_domain(text: str) -> None:
    assert isinstance(registered_domain(text), str)


def test_nothing_is_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object) -> None:
        raise AssertionError("a connection was made")

    monkeypatch.setattr(socket.socket, "connect", no_network)

    assert registered_domain("a.never-asked-before.example.org") == "example.org"
