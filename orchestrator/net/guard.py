"""The rules for URLs that somebody else chose: image links and notify URLs.

A URL is checked twice: first its text (`target`), then the addresses of its host (`resolved`). The
connection goes to the checked addresses. Otherwise a name could resolve to a public address for the
check and to a private one for the connection.
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

#: The longest URL. Signed image links have one or two thousand characters.
MAX_URL_CHARACTERS = 8192
_MAX_NAME_CHARACTERS = 253
#: Below 1024 only the ports of web servers are allowed.
_LOW_PORTS = frozenset({80, 443})
# Ports of services that usually need no authentication, or that read commands from HTTP requests.
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
_METADATA_NAMES = "metadata.google.internal", "metadata.goog", "instance-data.ec2.internal"
_URL = re.compile(r"(https?)://([^/?#]*)([^?#]*)(\?[^#]*)?(?:#.*)?", re.IGNORECASE)
_AUTHORITY = re.compile(r"(\[[0-9a-fA-F:.]*\]|[^:\[\]]*)(?::([0-9]{1,5}))?")
# White space, control characters, and characters that programs treat differently in hosts.
_ODD = re.compile(
    r"[\s\x00-\x20\x7f-\xa0\\\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
# With a last label of this form, systems read the host as an IPv4 address: 127.1, 0x7f.1.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))
_ENTRY = re.compile(r"^(.*?)(?::([0-9]{1,5}))?$", re.DOTALL)
_ENTRIES = (
    "an exact host name, *.suffix.example, an IP address or a network like 10.0.0.0/8, "
    "each with an optional :port (then IPv6 in brackets)"
)


class Forbidden(Exception):
    """The URL or address must not be called.

    The message is the reason, without user, password and query of the URL.
    """


@dataclass(frozen=True, slots=True)
class Target:
    """An allowed URL in one canonical form.

    `host` is ASCII in lower case, without brackets and final dot. `path` includes the query.
    """

    scheme: str
    host: str
    port: int
    path: str

    @property
    def url(self) -> str:
        """The whole URL, without a default port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        is_default = self.port == _default_port(self.scheme)
        return f"{self.scheme}://{host}{'' if is_default else f':{self.port}'}{self.path}"


@dataclass(frozen=True, slots=True)
class Address:
    """The address of a connection: a socket family, an IP address as text, and a port."""

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
        # A network does not allow a metadata service: 0.0.0.0/0 does not mean that.
        alone = self.host.num_addresses == 1
        return ip in self.host and (alone or kind(ip) is not Kind.METADATA)


class Guard:
    """The rules for URLs that somebody else chose.

    Args:
        allow_private: allow loopback and private addresses, plain http and every port. Metadata
            services, link-local and special addresses stay forbidden.
        allow_hosts: exact host names, `*.suffix.example`, IP addresses or networks, each with an
            optional `:port`. A matching host may have a private address, any port and plain http.
            A name in a URL is matched by name for port and http. A network or address also allows
            the addresses of names. Metadata services must be listed one by one.

    Raises:
        ValueError: an entry of `allow_hosts` has another form. The message says what is allowed.
    """

    def __init__(self, *, allow_private: bool = False, allow_hosts: Sequence[str] = ()) -> None:
        self._private = allow_private
        self._allowed = tuple(map(_allowed, allow_hosts))

    def check(self, url: str) -> None:
        """Check a URL as it is written, without DNS.

        Raises:
            Forbidden: the URL must not be called.
        """
        self.target(url)

    def target(self, url: str, *, plain_http: bool = False) -> Target:
        """Check a URL as `check` does, and return its canonical form.

        Args:
            url: an absolute URL.
            plain_http: allow http:// too. The addresses and ports stay the same.

        Raises:
            Forbidden: the URL must not be called.
        """
        scheme, host, port, path = _parts(url)
        ip = literal(host)
        listed = self._lists(host, port) or (ip is not None and self._holds(ip, port))
        if not (listed or self._private):
            if scheme != "https" and not plain_http:
                raise Forbidden("only https:// is allowed")
            if port in _BAD_PORTS or (port < 1024 and port not in _LOW_PORTS):
                raise Forbidden(f"port {port} is not allowed")
        if ip is not None:
            self._check_ip(ip, host, port)
        elif not listed:
            self._check_name(host)
        return Target(scheme, host, port, path)

    def resolved(self, host: str, port: int) -> list[Address]:
        """Return the checked addresses of a host. Connect only to these.

        The system's resolver sets the time limit.

        Raises:
            Forbidden: one of the addresses is forbidden.
            OSError: the name has no address (`socket.gaierror`).
        """
        addresses = []
        for ip in resolve(host, port):
            self._check_ip(ip, host, port)
            addresses.append(Address.of(ip, port))
        return addresses

    def _check_name(self, host: str) -> None:
        if host in _METADATA_NAMES:
            raise Forbidden("a metadata service is not allowed")
        if not self._private and ("." not in host or is_local_name(host)):
            raise Forbidden("a name of the local network is not allowed")

    def _check_ip(self, ip: IpAddress, host: str, port: int) -> None:
        ip_kind = kind(ip)
        if ip_kind is Kind.PUBLIC or self._holds(ip, port):
            return
        own_network = ip_kind in {Kind.LOOPBACK, Kind.PRIVATE}
        if not own_network or not (self._private or self._lists(host, port)):
            raise Forbidden(f"a {ip_kind} address is not allowed")

    def _lists(self, host: str, port: int) -> bool:
        return any(entry.names(host, port) for entry in self._allowed)

    def _holds(self, ip: IpAddress, port: int) -> bool:
        return any(entry.holds(ip, port) for entry in self._allowed)


def _parts(url: str) -> tuple[str, str, int, str]:
    """Return scheme, host, port and path of a URL by strict rules."""
    if len(url) > MAX_URL_CHARACTERS:
        raise Forbidden(f"a URL has at most {MAX_URL_CHARACTERS} characters")
    if _ODD.search(url):
        raise Forbidden("a URL must not have white space, control characters or backslashes")
    match = _URL.fullmatch(url)
    if not match:
        raise Forbidden("only https:// is allowed")
    scheme, authority, path, query = match.groups()
    if "@" in authority:
        raise Forbidden("a user or password is not allowed in a URL")
    location = _AUTHORITY.fullmatch(authority)
    if not location:
        raise Forbidden("the host or port cannot be read")
    scheme = scheme.lower()
    port = int(location[2]) if location[2] else _default_port(scheme)
    if not 0 < port < 65536:
        raise Forbidden("a port is a number from 1 to 65535")
    quoted = quote((path or "/") + (query or ""), safe=_PRINTABLE)
    return scheme, _host(location[1]), port, quoted


def _host(text: str) -> str:
    """Return a host in the form for DNS, the Host header and certificates."""
    if text.startswith("["):
        try:
            return str(IPv6Address(text[1:-1]))
        except ValueError:
            raise Forbidden("the IPv6 address cannot be read") from None
    name = text.lower().removesuffix(".")
    if not name.isascii():
        try:  # strict: a name that needs a mapping, such as full-width digits, is refused
            name = idna.encode(name, strict=True).decode()
        except UnicodeError:
            raise Forbidden("the host is not a valid name") from None
    if len(name) > _MAX_NAME_CHARACTERS or not all(map(_LABEL.fullmatch, name.split("."))):
        raise Forbidden("the host is not a valid name")
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


def _default_port(scheme: str) -> int:
    return 443 if scheme == "https" else 80


def _allowed(entry: str) -> _Allowed:
    """Return one entry of `allow_hosts`."""
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
