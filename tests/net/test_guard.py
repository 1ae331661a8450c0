"""Which URLs of strangers may be asked: as they are written, and by their names' addresses."""

from __future__ import annotations

import pickle
import socket
from ipaddress import ip_address

import pytest

from orchestrator.net.addresses import Kind, kind
from orchestrator.net.guard import Address, Forbidden, Guard, Target
from tests.net.dns import Names, names
from tests.net.urls import (
    GOOD,
    LINK_LOCAL,
    LOOPBACK,
    MALFORMED,
    METADATA,
    NEVER,
    PRIVATE,
    SPECIAL,
    UNWELCOME,
)

__all__ = ["names"]


def told(guard: Guard, url: str) -> str:
    with pytest.raises(Forbidden) as caught:
        guard.check(url)
    return str(caught.value)


def test_a_hostile_url_is_refused_with_the_reason(names: Names) -> None:
    for case in [*MALFORMED, *UNWELCOME, *NEVER]:
        url, reason = {**MALFORMED, **UNWELCOME, **NEVER}[case]
        private = Guard(allow_private=True)

        assert told(Guard(), url).endswith(reason), case
        assert names.asked == []
        # Private networks may be allowed, with HTTP and every port. That allows nothing else.
        if case in UNWELCOME:
            private.check(url)
        else:
            assert told(private, url) == reason, case


def test_a_good_url_is_read_in_one_way(names: Names) -> None:
    for case in GOOD:
        url, parts = GOOD[case]

        Guard().check(url)

        target = Guard().target(url)
        assert target == Target(*parts), case
        assert Guard().target(target.url) == target
        assert names.asked == []


def test_a_url_is_written_without_the_usual_port() -> None:
    assert Guard().target("https://A.example:443/x?y").url == "https://a.example/x?y"
    assert Guard().target("https://[2606::1]:4444").url == "https://[2606::1]:4444/"


def test_no_reason_holds_a_secret_of_the_url() -> None:
    for url, _ in {**MALFORMED, **UNWELCOME, **NEVER}.values():
        said = told(Guard(), url.replace("user:pass", "hunter2:hunter2") + "?hunter2#hunter2")
        assert "hunter2" not in said
        assert len(said) < 80


def test_the_error_survives_pickle() -> None:
    assert str(pickle.loads(pickle.dumps(Forbidden("no")))) == "no"


# Resolving -----------------------------------------------------------------------------------


def test_a_name_is_resolved_to_all_its_addresses(names: Names) -> None:
    names["cdn.example"] = (["8.8.8.8", "2606:4700::1111"],)

    assert Guard().resolved("cdn.example", 443) == [
        Address(socket.AF_INET, "8.8.8.8", 443),
        Address(socket.AF_INET6, "2606:4700::1111", 443),
    ]
    assert names.asked == ["cdn.example"]


@pytest.mark.parametrize(
    ("ip", "reason"),
    [
        ("127.0.0.1", LOOPBACK),
        ("10.0.0.1", PRIVATE),
        ("169.254.169.254", METADATA),
        ("::ffff:10.0.0.1", PRIVATE),
        ("fe80::1%eth0", LINK_LOCAL),
        ("0.0.0.0", SPECIAL),
    ],
)
def test_one_forbidden_address_is_enough(names: Names, ip: str, reason: str) -> None:
    names["cdn.example"] = (["8.8.8.8", ip],)

    with pytest.raises(Forbidden) as caught:
        Guard().resolved("cdn.example", 443)

    assert str(caught.value) == reason


def test_an_address_is_resolved_to_itself_without_dns(names: Names) -> None:
    assert Guard().resolved("8.8.8.8", 443) == [Address(socket.AF_INET, "8.8.8.8", 443)]
    with pytest.raises(Forbidden):
        Guard().resolved("::1", 443)
    assert names.asked == []


def test_a_name_without_address_is_an_error_of_the_network(names: Names) -> None:
    with pytest.raises(socket.gaierror):
        Guard().resolved("nobody.example", 443)


def test_a_name_that_no_resolver_takes_is_an_error_of_the_network() -> None:
    with pytest.raises(socket.gaierror):
        Guard().resolved("a" * 64 + ".example", 443)


def test_the_system_resolves() -> None:
    assert Guard(allow_private=True).resolved("localhost", 80)
    with pytest.raises(Forbidden):
        Guard().resolved("localhost", 80)


# What self-hosters allow ---------------------------------------------------------------------


def allows(guard: Guard, url: str) -> bool:
    """Whether both judges let a URL through."""
    try:
        target = guard.target(url)
        guard.resolved(target.host, target.port)
    except Forbidden:
        return False
    return True


def test_what_is_listed_is_let_through_and_nothing_else(names: Names) -> None:
    for entry, allowed, forbidden in [
        (
            "minio",
            ["http://minio/", "https://minio:9000/", "http://minio:22/"],
            ["https://redis/", "https://minio.corp.example/", "https://xminio/"],
        ),
        (
            "Minio:9000",
            ["http://minio:9000/", "https://MINIO:9000/"],
            ["http://minio/", "https://minio/", "http://minio:9001/"],
        ),
        (
            "*.corp.example",
            ["http://a.corp.example:6379/", "https://a.b.corp.example/"],
            ["http://corp.example/", "http://acorp.example/", "https://corp.example.evil.example/"],
        ),
        ("*.corp.example:8000", ["http://a.corp.example:8000/"], ["https://a.corp.example/"]),
        (
            "10.1.2.3",
            ["http://10.1.2.3/", "https://10.1.2.3:22/", "https://named.example/"],
            ["https://10.1.2.4/", "http://named.example/", "https://[::ffff:10.1.2.3]/"],
        ),
        ("10.1.2.3:9000", ["http://10.1.2.3:9000/"], ["https://10.1.2.3/"]),
        (
            "10.1.0.0/16",
            ["http://10.1.255.255/", "https://named.example/"],
            ["https://10.2.0.0/", "https://127.0.0.1/", "https://both.example/"],
        ),
        ("10.1.0.0/16:8000", ["http://10.1.1.1:8000/"], ["http://10.1.1.1/"]),
        ("fd00::/8", ["http://[fd00::1]/"], ["http://[fd00:ec2::254]/", "http://[::1]/"]),
        ("[fd00::/8]:81", ["http://[fd00::1]:81/"], ["http://[fd00::1]/"]),
        ("::1", ["http://[::1]/"], ["http://[::2]/"]),
        ("[::1]", ["http://[::1]/", "http://[::1]:81/"], ["http://[::2]/"]),
        ("[::1]:81", ["http://[::1]:81/"], ["http://[::1]/"]),
        ("169.254.169.254", ["http://169.254.169.254/"], ["http://169.254.170.2/"]),
        ("169.254.0.0/16", ["http://169.254.1.1/"], ["http://169.254.169.254/"]),
        ("0.0.0.0/0", ["http://10.0.0.1/", "http://8.8.8.8/"], ["http://169.254.169.254/"]),
        ("meta.example", ["https://8.8.8.8/"], ["https://meta.example/", "https://10.1.2.3/"]),
        ("bücher.example", ["http://xn--bcher-kva.example/"], ["http://bucher.example/"]),
        (" 10.1.2.3 ", ["http://10.1.2.3/"], ["http://10.1.2.4/"]),
    ]:
        for name in ("minio", "a.corp.example", "a.b.corp.example", "named.example"):
            names[name] = (["10.1.2.3"],)
        for name in ("redis", "xminio", "minio.corp.example", "corp.example", "acorp.example"):
            names[name] = (["10.1.2.3"],)
        for name in ("corp.example.evil.example", "bucher.example", "xn--bcher-kva.example"):
            names[name] = (["10.1.2.3"],)
        names["both.example"] = (["10.1.2.3", "10.2.0.0"],)
        names["meta.example"] = (["169.254.169.254"],)
        guard = Guard(allow_hosts=[entry])

        assert [url for url in allowed if not allows(guard, url)] == []
        assert [url for url in forbidden if allows(guard, url)] == []


def test_several_entries_hold_together(names: Names) -> None:
    guard = Guard(allow_private=True, allow_hosts=["minio", "metadata.google.internal"])
    names["metadata.google.internal"] = (["169.254.169.254"],)

    guard.check("http://metadata.google.internal/")
    assert not allows(guard, "http://metadata.google.internal/")
    assert allows(guard, "http://127.0.0.1:9/")
    assert allows(
        Guard(allow_hosts=["metadata.google.internal", "169.254.169.254"]),
        "http://metadata.google.internal/",
    )


def test_a_malformed_entry_is_refused_with_what_is_allowed() -> None:
    for entry in [
        *("", " ", "*", "*.", "*:80", "a.*.example", "*example.com", "http://minio", "minio/path"),
        *("minio:", "minio:0", "minio:65536", "minio:http", "user@minio", "10.0.0.1/8", "10.1"),
        *("10.0.0.0/33", "[::1", "[minio]", "0x7f.1", "*.10.0.0.1x:80:80", "a..b", "-a"),
        *("10.0.0.0/8:0", "mi nio", "minio,redis"),
    ]:
        with pytest.raises(ValueError, match="an exact host name") as caught:
            Guard(allow_hosts=["minio", entry])

        assert repr(entry) in str(caught.value)


def test_each_kind_of_address_has_its_name() -> None:
    assert kind(ip_address("8.8.8.8")) is Kind.PUBLIC
    assert kind(ip_address("2606:4700::1111")) is Kind.PUBLIC
    assert kind(ip_address("fe80::a9fe:a9fe")) is Kind.METADATA
