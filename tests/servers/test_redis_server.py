"""What each URL of Redis means, and which ones are refused."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from orchestrator.servers.redis_server import RedisServer
from orchestrator.servers.url_parts import BadServerUrl
from tests.support.cases import for_each

SECRET = "p%40ss%2Fw%3Ard%23%3F"
PASSWORD = "p@ss/w:rd#?"


@for_each(
    ("url", "hosts", "database"),
    [
        ("redis://redis.example", [("redis.example", 6379)], 0),
        ("redis://redis.example/", [("redis.example", 6379)], 0),
        ("redis://redis.example:1/5", [("redis.example", 1)], 5),
        ("redis://redis.example?db=5", [("redis.example", 6379)], 5),
        ("redis://redis.example/5?db=5", [("redis.example", 6379)], 5),
        ("REDIS://redis.example/5", [("redis.example", 6379)], 5),
        ("redis://[::1]:7/2", [("::1", 7)], 2),
        ("rediss://redis.example", [("redis.example", 6379)], 0),
        ("unix:///run/redis.sock", [], 0),
        ("unix:///run/redis.sock?db=5", [], 5),
        ("sentinel://a?master_name=m", [("a", 26379)], 0),
        ("sentinel://a:1,b,[::1]:3/4?master_name=m", [("a", 1), ("b", 26379), ("::1", 3)], 4),
        ("sentinel://a:1;sentinel://b:2?master_name=m", [("a", 1), ("b", 2)], 0),
        ("sentinel://a:1/3;sentinel://b:2/3?master_name=m", [("a", 1), ("b", 2)], 3),
        ("sentinel://:p@a:1;sentinel://:p@b:2/3?master_name=m", [("a", 1), ("b", 2)], 3),
        ("redis://[fe80::1%25eth0]/0", [("fe80::1%eth0", 6379)], 0),
    ],
)
def test_a_url_names_hosts_and_a_database(
    url: str, hosts: list[tuple[str, int]], database: int
) -> None:
    server = RedisServer.parse(url)

    assert (list(server.hosts), server.database) == (hosts, database)


@for_each(
    ("user", "expected"),
    [
        ("", (None, None)),
        (f":{SECRET}@", (None, PASSWORD)),
        (f"us%65r:{SECRET}@", ("user", PASSWORD)),
        ("default:x@", ("default", "x")),
    ],
)
@for_each("place", ["redis://{}h/0", "unix://{}/run/redis.sock", "sentinel://{}h"])
def test_user_and_password_are_decoded_and_never_shown(
    place: str, user: str, expected: tuple[str | None, str | None]
) -> None:
    query = "?master_name=m" if place.startswith("sentinel") else ""

    server = RedisServer.parse(place.format(user) + query)

    assert (server.username, server.password) == expected
    assert PASSWORD not in repr(server)


def test_options_are_typed() -> None:
    query = "client_name=web&health_check_interval=5&socket_timeout=1.5&socket_keepalive=yes"

    server = RedisServer.parse(f"redis://h?{query}&socket_connect_timeout=2")

    assert server.for_redis_py() == {
        "username": None,
        "password": None,
        "db": 0,
        "client_name": "web",
        "health_check_interval": 5,
        "socket_timeout": 1.5,
        "socket_keepalive": True,
        "socket_connect_timeout": 2.0,
    }


def test_a_certificate_is_checked_unless_the_url_says_no(tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    authority.touch()

    checked = RedisServer.parse(f"rediss://h?ssl_ca_certs={authority}").for_redis_py()
    unchecked = RedisServer.parse("rediss://h?ssl_cert_reqs=CERT_NONE")

    assert checked["ssl_cert_reqs"] is ssl.CERT_REQUIRED
    assert checked["ssl_check_hostname"] is True
    assert checked["ssl_ca_certs"] == str(authority)
    assert unchecked.tls
    assert not unchecked.tls.is_verified


def test_sentinels_have_their_own_password_and_the_masters_tls() -> None:
    url = "sentinels://:master@a?master_name=m&sentinel_username=u&sentinel_password=watch"

    server = RedisServer.parse(url)

    assert server.for_sentinels()["password"] == "watch"
    assert server.for_sentinels()["ssl"] is True
    assert server.for_sentinels()["retry"] is None, "each Sentinel is asked once"
    assert server.for_redis_py()["password"] == "master"
    assert "watch" not in repr(server)


REFUSED = [
    ("redis.example:6379", "begins with redis:// or"),
    ("http://redis.example", "begins with redis:// or"),
    ("redis+cluster://h", "begins with redis:// or"),
    ("redis://", "names a host"),
    ("redis://:secret@", "names a host"),
    ("redis://h/abc", "number of a database, a whole number from 0"),
    ("redis://h/-1", "number of a database"),
    ("redis://h/1/2", "number of a database"),
    ("redis://h/1?db=2", "one database"),
    ("redis://h?db=abc", "db=a whole number"),
    ("redis://h?db=1&db=1", "option db once"),
    ("redis://h:99999", "port"),
    ("redis://h:0", "port"),
    ("redis://h:port", "port"),
    ("redis://:se/cret@h", "password has / "),
    ("redis://:secret@h#x", "password has / "),
    ("redis://:pass?secret@h", "password has / "),
    ("redis://h%40secret/0", "port"),
    ("redis://h%2Fx/0", "port"),
    ("redis://%68/0", "names a host"),
    ("redis://h;x=1/0", "port"),
    ("redis://a..b/0", "names a host"),
    (f"redis://{'h' * 64}/0", "names a host"),
    ("redis://:p\nw@h", "without line breaks"),
    ("redis://:secret/0", "names a host"),
    ("redis://user:secret/0", "port"),
    ("redis://user@h", "password for its user"),
    ("redis://h?bogus=1", "without the option bogus"),
    ("redis://:se?cret", "without such an option"),
    ("redis://h?socket_timout=1", "did you mean socket_timeout"),
    ("redis://h?socket_timeout=fast", "socket_timeout=a number of seconds"),
    ("redis://h?socket_timeout=nan", "socket_timeout=a number of seconds"),
    ("redis://h?health_check_interval=-1", "health_check_interval=a whole number"),
    ("redis://h?password=secret", "without the option password"),
    ("redis://h?protocol=4", "protocol=a whole number from 2 to 3"),
    ("redis://h?ssl_cert_reqs=none", "without the option ssl_cert_reqs"),
    ("rediss://h?ssl_cert_reqs=maybe", "ssl_cert_reqs=required, optional or none"),
    ("rediss://h?ssl_check_hostname=perhaps", "ssl_check_hostname=true or false"),
    ("rediss://h?ssl_ca_certs=/no/such/file", "ssl_ca_certs=the path of a readable file"),
    ("rediss://h?ssl_ca_certs=/", "ssl_ca_certs=the path of a readable file"),
    ("redis://a,b", "one host"),
    ("redis://a,,b", "names a host"),
    ("unix://", "path of a socket"),
    ("unix://run/redis.sock", "path of a socket"),
    ("unix:///run/redis.sock?password=secret", "without the option password"),
    ("unix:///run/redis.sock?socket_keepalive=1", "without the option socket_keepalive"),
    ("sentinel://a", "master_name"),
    ("sentinel://:p@a;sentinel://:q@b?master_name=m", "one user, one password"),
    ("sentinel://a/1;sentinel://b/2?master_name=m", "one database"),
    ("redis://h?master_name=m", "without the option master_name"),
]


@for_each(("url", "allowed"), REFUSED)
def test_a_wrong_url_is_refused_with_what_is_allowed(url: str, allowed: str) -> None:
    with pytest.raises(BadServerUrl) as error:
        RedisServer.parse(url)

    assert allowed in str(error.value)
    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("redis://h/1", "database 0"),
        ("unix:///run/redis.sock", "node of the cluster"),
        ("sentinel://a?master_name=m", "node of the cluster"),
    ],
)
def test_a_cluster_has_one_database_and_needs_tcp(url: str, allowed: str) -> None:
    with pytest.raises(BadServerUrl, match=allowed):
        RedisServer.parse(url, is_cluster=True)


def test_a_cluster_may_have_several_first_nodes() -> None:
    server = RedisServer.parse("rediss://a:1,b:2", is_cluster=True)

    assert server.hosts == (("a", 1), ("b", 2))
