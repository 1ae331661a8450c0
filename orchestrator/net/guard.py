"""Where we may connect to when somebody else chose the URL: image links, notify URLs.

A URL is judged twice: as it is written (`target`), and by the addresses that its name has at the
moment of connecting (`resolved`). A caller connects to these addresses and resolves nothing again,
or a name could answer a public address to the judge and a private one to the connection.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from socket import AF_INET, AF_INET6, EAI_NONAME, SOCK_STREAM, gaierror, getaddrinfo
from urllib.parse import quote

import idna

from orchestrator.net.addresses import IpAddress, Kind, is_local_name, kind, literal

#: Characters. Signed links to images take one or two thousand.
LONGEST_URL = 8192
_LONGEST_NAME = 253
#: Below 1024 stand the services of old (mail, SSH, DNS...): only the web's own ports.
_LOW_PORTS = frozenset({80, 443})
# Above, anybody may run a web server, and image hosts do. These are left out since what listens
# there by custom obeys whoever reaches it, or reads commands out of an HTTP request.
_BAD_PORTS = frozenset(
    {
        *(1433, 1521, 3306, 5432, 5433, 5984, 7474, 8086, 8123, 9042),  # databases
        *(6379, 6380, 16379, 26379, 11211, 27017, 27018, 27019, 28015),  # stores and caches
        *(9200, 9300, 8983, 9092, 2181, 4222, 61613, 61616, 1883, 8883),  # search, queues
        *(5671, 5672, 15672, 25672, 4369),  # RabbitMQ
        *(2375, 2376, 2377, 2379, 2380, 6443, 10250, 10255, 10256, 8500),  # containers, clusters
        *(2049, 3128, 3260, 3389, 5900, 5901, 5985, 5986, 6000, 1080),  # files, proxies, desktops
        *(5060, 5061, 6660, 6665, 6666, 6667, 6668, 6669, 6697),  # phones and chats
    }
)
_KEPT_OUT = "metadata.google.internal", "metadata.goog", "instance-data.ec2.internal"
_URL = re.compile(r"(https?)://([^/?#]*)([^?#]*)(\?[^#]*)?(?:#.*)?", re.IGNORECASE)
_AUTHORITY = re.compile(r"(\[[0-9a-fA-F:.]*\]|[^:\[\]]*)(?::([0-9]{1,5}))?")
# White space, controls, and the signs by which programs disagree where a host ends.
_ODD = re.compile(
    r"[\s\x00-\x20\x7f-\xa0\\\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
# A last label of this form makes a system read the whole as an IPv4 address: 127.1, 0x7f.1.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))
_ENTRY = re.compile(r"^(.*?)(?::([0-9]{1,5}))?$", re.DOTALL)
_ENTRIES = (
    "an exact host name, *.suffix.example, an IP address or a network like 10.0.0.0/8, "
    "each with :port if need be (IPv6 in brackets then)"
)


class Forbidden(Exception):
    """An address that may not be asked.

    The message says why in a few words, without user, password or query of the URL.
    """


@dataclass(frozen=True, slots=True)
class Target:
    """A URL that may be asked, in the one form that all who handle it read alike.

    `host` is in lower case and ASCII, without brackets or a dot at the end; `path` has the query.
    """

    scheme: str
    host: str
    port: int
    path: str

    @property
    def url(self) -> str:
        """The whole URL, without a port that goes without saying."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = self.port == _usual_port(self.scheme)
        return f"{self.scheme}://{host}{'' if usual else f':{self.port}'}{self.path}"


@dataclass(frozen=True, slots=True)
class Address:
    """Where to connect to: a socket's family, an IP address as text, and a port."""

    family: int
    ip: str
    port: int

    @classmethod
    def of(cls, ip: IpAddress, port: int) -> Address:
        """Return the address of a port at an IP address."""
        return cls(AF_INET if ip.version == 4 else AF_INET6, str(ip), port)


@dataclass(frozen=True, slots=True)
class _Allowed:
    """An entry of `allow_hosts`: a name, a suffix with its dot, or a network."""

    host: str | IPv4Network | IPv6Network
    port: int | None

    def names(self, host: str, port: int) -> bool:
        if not isinstance(self.host, str) or self.port not in {None, port}:
            return False
        return host.endswith(self.host) if self.host[0] == "." else host == self.host

    def holds(self, ip: IpAddress, port: int) -> bool:
        if isinstance(self.host, str) or self.port not in {None, port}:
            return False
        # A network is not enough for a metadata service: 0.0.0.0/0 does not mean that.
        alone = self.host.num_addresses == 1
        return ip in self.host and (alone or kind(ip) is not Kind.METADATA)


class Guard:
    """The rules on addresses that somebody else chose.

    Args:
        allow_private: let loopback and private addresses, plain http and every port through.
            Metadata services, link-local and special addresses stay forbidden.
        allow_hosts: exact host names, `*.suffix.example`, IP addresses or networks, each with
            `:port` if need be. What matches may have a private address, any port, and plain http.
            A URL with a name is matched by its name for port and http; a network or address also
            lets the addresses of names through. Metadata services have to be listed one by one.

    Raises:
        ValueError: an entry of `allow_hosts` is none of these; the message says what is allowed.
    """

    def __init__(self, *, allow_private: bool = False, allow_hosts: Sequence[str] = ()) -> None:
        self._private = allow_private
        self._allowed = tuple(map(_allowed, allow_hosts))

    def check(self, url: str) -> None:
        """Judge a URL as it is written, without DNS.

        Raises:
            Forbidden: it may not be asked.
        """
        self.target(url)

    def target(self, url: str) -> Target:
        """The same as `check`, and what to ask then: nobody should read the URL a second time.

        Raises:
            Forbidden: it may not be asked.
        """
        scheme, host, port, path = _parts(url)
        ip = literal(host)
        listed = self._lists(host, port) or (ip is not None and self._holds(ip, port))
        if not (listed or self._private):
            if scheme != "https":
                raise Forbidden("only https:// is allowed")
            if port in _BAD_PORTS or (port < 1024 and port not in _LOW_PORTS):
                raise Forbidden(f"port {port} is not allowed")
        if ip is not None:
            self._judge(ip, host, port)
        elif not listed:
            self._judge_name(host)
        return Target(scheme, host, port, path)

    def resolved(self, host: str, port: int) -> list[Address]:
        """The addresses of a target's host, resolved once: connect to one of these, to no other.

        Takes as long as the system's resolver takes.

        Raises:
            Forbidden: one of the addresses is forbidden.
            OSError: the name has no address (`socket.gaierror`).
        """
        found = []
        for ip in resolve(host, port):
            self._judge(ip, host, port)
            found.append(Address.of(ip, port))
        return found

    def _judge_name(self, host: str) -> None:
        if host in _KEPT_OUT:
            raise Forbidden("a metadata service is not allowed")
        if not self._private and ("." not in host or is_local_name(host)):
            raise Forbidden("a name of the local network is not allowed")

    def _judge(self, ip: IpAddress, host: str, port: int) -> None:
        what = kind(ip)
        if what is Kind.PUBLIC or self._holds(ip, port):
            return
        ours = what in {Kind.LOOPBACK, Kind.PRIVATE}
        if not ours or not (self._private or self._lists(host, port)):
            raise Forbidden(f"a {what} address is not allowed")

    def _lists(self, host: str, port: int) -> bool:
        return any(entry.names(host, port) for entry in self._allowed)

    def _holds(self, ip: IpAddress, port: int) -> bool:
        return any(entry.holds(ip, port) for entry in self._allowed)


def _parts(url: str) -> tuple[str, str, int, str]:
    """Scheme, host, port and path of a URL, by one strict reading."""
    if len(url) > LONGEST_URL:
        raise Forbidden(f"a URL has at most {LONGEST_URL} characters")
    if _ODD.search(url):
        raise Forbidden("a URL has no white space, control characters or backslashes")
    match = _URL.fullmatch(url)
    if not match:
        raise Forbidden("only https:// is allowed")
    scheme, authority, path, query = match.groups()
    if "@" in authority:
        raise Forbidden("a user or password is not allowed in a URL")
    place = _AUTHORITY.fullmatch(authority)
    if not place:
        raise Forbidden("the host or port cannot be read")
    scheme = scheme.lower()
    port = int(place[2]) if place[2] else _usual_port(scheme)
    if not 0 < port < 65536:
        raise Forbidden("a port is a number from 1 to 65535")
    asked = quote((path or "/") + (query or ""), safe=_PRINTABLE)
    return scheme, _host(place[1]), port, asked


def _host(text: str) -> str:
    """A host in the form in which it is resolved, sent and compared with a certificate."""
    if text.startswith("["):
        try:
            return str(IPv6Address(text[1:-1]))
        except ValueError:
            raise Forbidden("the IPv6 address cannot be read") from None
    name = text.lower().removesuffix(".")
    if not name.isascii():
        try:  # strict: what has to be mapped to be a name (full-width digits, say) is none
            name = idna.encode(name, strict=True).decode()
        except UnicodeError:
            raise Forbidden("the host is no valid name") from None
    if len(name) > _LONGEST_NAME or not all(map(_LABEL.fullmatch, name.split("."))):
        raise Forbidden("the host is no valid name")
    if _NUMBER.fullmatch(name.rpartition(".")[2]) and literal(name) is None:
        raise Forbidden("an IPv4 address has four decimal numbers")
    return name


def resolve(host: str, port: int) -> list[IpAddress]:
    """Return the IP addresses of a host. The system's resolver sets the time limit.

    Raises:
        OSError: the name has no address (`socket.gaierror`).
    """
    address = literal(host)
    if address is not None:
        return [address]
    try:
        answers = getaddrinfo(host, port, type=SOCK_STREAM)
    except UnicodeError:  # for example a label that is too long
        raise gaierror(EAI_NONAME, "the name cannot be resolved") from None
    # The text after % is the interface of a link-local address.
    return [ip_address(str(answer[4][0]).partition("%")[0]) for answer in answers]


def _usual_port(scheme: str) -> int:
    return 443 if scheme == "https" else 80


def _allowed(entry: str) -> _Allowed:
    """One entry of `allow_hosts`."""
    text = entry.strip().lower()
    network = _network(text)
    if network:
        return _Allowed(network, None)
    host, digits = _ENTRY.findall(text)[0]
    port = int(digits) if digits else None
    bracketed = host.startswith("[") and host.endswith("]")
    network = _network(host[1:-1] if bracketed else host)
    try:
        if port is not None and not 0 < port < 65536:
            raise Forbidden
        if network:
            return _Allowed(network, port)
        name = _host(host.removeprefix("*."))
    except Forbidden:
        message = f"{entry!r} cannot be allowed: write {_ENTRIES}"
        raise ValueError(message) from None
    return _Allowed(f".{name}" if host.startswith("*.") else name, port)


def _network(text: str) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(text)
    except ValueError:
        return None
