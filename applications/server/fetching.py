"""A video fetched from a URL that the server's owner allows, and from nowhere else.

A URL comes from a stranger, who may want the server to ask what only it can reach. So it must match a pattern of the
command line; the address that its name stands for is looked up once, must be public, and is the one that is connected
to; and a redirect must stay at the same scheme, host and port.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fnmatch
import http.client
import ipaddress
import re
import socket
import ssl
import time
import urllib.parse
from collections.abc import Callable, Sequence
from pathlib import Path

from dtfsal.applications.server.refusals import Refusal
from dtfsal.engines.errors import UsageError, printable

_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[a-z0-9._:-]{1,253}")
_TARGET = re.compile(r"[!-~]*")
_DOTS = re.compile(r"(^|/)(\.|%2e){1,2}(/|$)", re.IGNORECASE)
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 3
_PATIENCE_SECONDS = 10.0  # for a connection, and for each read
_BLOCK_BYTES = 2**18
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


@dataclasses.dataclass(frozen=True)
class UrlPattern:
    """URLs that may be fetched: the scheme and port as they are, shell patterns for the host and for the path.

    A star in the host stands for any characters, dots among them; one in the path for slashes too. A star never reaches
    from the host into the path.
    """

    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, text: str) -> UrlPattern:
        """A pattern such as https://media.example.org/*.

        Raises:
            UsageError: it is not one.
        """
        try:
            parts = urllib.parse.urlsplit(text)
            port = parts.port or _PORTS[parts.scheme]
        except (ValueError, KeyError):
            parts, port = None, 0
        if parts is None or not parts.hostname or "@" in parts.netloc or parts.fragment:
            raise UsageError(f"a pattern of URLs looks like https://media.example.org/*, not {printable(text)!r}")
        path = parts.path or "/"
        return cls(parts.scheme, parts.hostname, port, f"{path}?{parts.query}" if parts.query else path)

    def matches(self, place: Place) -> bool:
        """Whether a place may be fetched."""
        return (
            (place.scheme, place.port) == (self.scheme, self.port)
            and fnmatch.fnmatchcase(place.host, self.host)
            and fnmatch.fnmatchcase(place.target, self.path)
        )


@dataclasses.dataclass(frozen=True)
class Place:
    """A URL in its parts: `target` is path and query, as they are sent."""

    scheme: str
    host: str
    port: int
    target: str

    @classmethod
    def parse(cls, url: str) -> Place:
        """The parts of a URL.

        Raises:
            Refusal: 400, it is not a plain HTTP or HTTPS URL.
        """
        try:
            parts = urllib.parse.urlsplit(url)
            port = parts.port or _PORTS[parts.scheme]
            host = parts.hostname or ""
        except (ValueError, KeyError):
            host, port = "", 0
        target = "" if not host else (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if (
            len(url) > 2000
            or not _HOST.fullmatch(host)
            or "@" in parts.netloc
            or not _TARGET.fullmatch(target)
            or "\\" in url
            or _DOTS.search(parts.path)
        ):
            raise Refusal(
                400, "wrong-url", "the URL must be plain http or https: no user, no spaces, no dots for folders"
            )
        return cls(parts.scheme, host, port, target)


def fetch(
    url: str,
    path: Path,
    *,
    patterns: Sequence[UrlPattern],
    max_bytes: int,
    private_addresses: bool,
    deadline: float,
    check: Callable[[], None] = lambda: None,
) -> int:
    """Fetch a URL into a file.

    Args:
        url: as a client gave it.
        path: the file.
        patterns: what may be fetched.
        max_bytes: the most that is taken.
        private_addresses: whether an address that is not public may be asked.
        deadline: of `time.monotonic()`.
        check: called between blocks; raises to end it.

    Returns:
        Bytes of the file.

    Raises:
        Refusal: 400 wrong URL, 403 not allowed, 413 too large, 502 not given, 504 too slow.
    """
    place = _allowed(Place.parse(url), patterns)
    for _ in range(_MOST_REDIRECTS + 1):
        connection = _connection(place, private_addresses)
        with contextlib.closing(connection):
            try:
                connection.request(
                    "GET", place.target, headers={"Accept-Encoding": "identity", "User-Agent": "dtfsal-serve"}
                )
                response = connection.getresponse()
                if response.status in _REDIRECTS:
                    place = _redirected(place, response.getheader("Location", ""), patterns)
                    continue
                if response.status != 200:
                    raise Refusal(502, "not-given", f"the URL's server answers {response.status} instead of the video")
                return _read(response, path, max_bytes, deadline, check)
            except TimeoutError as error:
                raise Refusal(504, "url-too-slow", "the URL's server takes too long") from error
            except (OSError, http.client.HTTPException) as error:
                if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
                    raise
                raise Refusal(502, "not-given", "the URL's server cannot be asked, or breaks off") from error
    raise Refusal(502, "not-given", f"the URL leads on more than {_MOST_REDIRECTS} times")


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public network, and not one that stands for another that is not."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        inner = [found.ipv4_mapped, found.sixtofour, *(found.teredo or ())]
        if found in _NAT64:
            inner.append(ipaddress.IPv4Address(int(found) & 0xFFFFFFFF))
        if any(one is not None and not is_public(str(one)) for one in inner):
            return False
        if found.ipv4_mapped is not None:
            return True
    return found.is_global and not found.is_multicast


def _allowed(place: Place, patterns: Sequence[UrlPattern]) -> Place:
    if not any(pattern.matches(place) for pattern in patterns):
        raise Refusal(403, "url-not-allowed", "this server may not fetch that URL; --allow-urls says which it may")
    return place


def _redirected(place: Place, location: str, patterns: Sequence[UrlPattern]) -> Place:
    base = f"{place.scheme}://{_netloc(place)}{place.target}"
    new = Place.parse(urllib.parse.urljoin(base, location))
    if (new.scheme, new.host, new.port) != (place.scheme, place.host, place.port):
        raise Refusal(403, "url-not-allowed", "the URL leads on to another server, which is not followed")
    return _allowed(new, patterns)


def _netloc(place: Place) -> str:
    host = f"[{place.host}]" if ":" in place.host else place.host
    return host if place.port == _PORTS[place.scheme] else f"{host}:{place.port}"


def _connection(place: Place, private_addresses: bool) -> http.client.HTTPConnection:
    """A connection to the address that was checked, whatever the name stands for a moment later."""
    try:
        found = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Refusal(502, "not-given", "the URL's host is not known") from error
    addresses = [str(entry[4][0]) for entry in found]
    if not private_addresses and not all(is_public(address) for address in addresses):
        raise Refusal(403, "url-not-allowed", "the URL's host has an address that is not public")
    connection = http.client.HTTPConnection(place.host, place.port, timeout=_PATIENCE_SECONDS)
    try:
        connected = socket.create_connection((addresses[0], place.port), _PATIENCE_SECONDS)
        if place.scheme == "https":
            connected = ssl.create_default_context().wrap_socket(connected, server_hostname=place.host)
    except TimeoutError as error:
        raise Refusal(504, "url-too-slow", "the URL's server takes too long") from error
    except OSError as error:
        raise Refusal(502, "not-given", "the URL's server cannot be reached") from error
    connection.sock = connected
    return connection


def _read(
    response: http.client.HTTPResponse, path: Path, max_bytes: int, deadline: float, check: Callable[[], None]
) -> int:
    too_large = Refusal(
        413, "too-large", f"the video is larger than the {max_bytes // 10**6} MB that this server takes"
    )
    stated = response.length
    if stated is not None and stated > max_bytes:
        raise too_large
    count = 0
    with path.open("wb") as file:
        while block := response.read1(_BLOCK_BYTES):
            check()
            count += len(block)
            if count > max_bytes:
                raise too_large
            if time.monotonic() > deadline:
                raise TimeoutError
            file.write(block)
    if stated is not None and count < stated:
        raise http.client.IncompleteRead(b"")
    return count
