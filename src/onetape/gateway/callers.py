"""Who called, and by which name: the address behind a request and the origin it used.

`X-Forwarded-*` is believed only from the proxies that the configuration names, and of
a chain only what the nearest of them wrote: the rest is the client's own claim.
"""

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Final, NamedTuple

from onetape.asgi import Scope
from onetape.errors import InvalidRequest

Headers = Iterable[tuple[bytes, bytes]]

# A name, an IPv4 address or a bracketed IPv6 address, and a port: nothing that could
# end the origin inside a JSON string or a header.
_HOST: Final = re.compile(
    rb"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252})|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?"
)
_MEMO: Final = 1_024


class Caller(NamedTuple):
    """What a request says of its sender."""

    peer: str
    """The client's address; the socket's, unless a trusted proxy told another."""
    origin: str
    """Scheme and host by which we were called, as `next_url` must name us."""
    takes_gzip: bool


class Callers:
    """Reads callers; everything is remembered, as clients repeat themselves."""

    def __init__(self, trusted_proxies: Iterable[str] = ()) -> None:
        networks = tuple(ip_network(text, strict=False) for text in trusted_proxies)

        def trusts(address: str) -> bool:
            try:
                parsed = ip_address(address)
            except ValueError:
                return False
            return any(parsed in network for network in networks)

        self._trusts: Callable[[str], bool] = lru_cache(_MEMO)(trusts) if networks else _nobody

    def of(self, scope: Scope) -> Caller:
        """Read the caller of an HTTP request.

        Raises:
            InvalidRequest: it does not say to which host, or says it twice or badly.
        """
        host: bytes | None = None
        coding = b""
        headers: Headers = scope["headers"]
        for name, value in headers:
            if name == b"host":
                if host is not None:
                    raise InvalidRequest("more than one Host header")
                host = value
            elif name == b"accept-encoding":
                coding = coding + b"," + value if coding else value
        client = scope.get("client")
        peer: str = client[0] if client else ""
        scheme: str = scope["scheme"]
        if self._trusts(peer):
            peer, scheme, host = self._forwarded(headers, peer, scheme, host)
        if host is None:
            host = _server_name(scope)
        return Caller(peer, _origin(scheme, host), takes_gzip(coding))

    def peer_behind(self, peer: str, forwarded_for: str) -> str:
        """Read who connects from what a socket and its `X-Forwarded-For` say."""
        if not (forwarded_for and self._trusts(peer)):
            return peer
        return self._nearest_client(forwarded_for.encode("latin-1", "replace"), peer)

    def _forwarded(
        self, headers: Headers, peer: str, scheme: str, host: bytes | None
    ) -> tuple[str, str, bytes | None]:
        for name, value in headers:
            if name == b"x-forwarded-for":
                peer = self._nearest_client(value, peer)
            elif name == b"x-forwarded-proto" and _last(value) in {b"http", b"https"}:
                scheme = _last(value).decode("ascii")
            elif name == b"x-forwarded-host":
                host = _last(value)
        return peer, scheme, host

    def _nearest_client(self, value: bytes, peer: str) -> str:
        for hop in reversed(value.decode("latin-1").split(",")):
            peer = hop.strip()
            if not self._trusts(peer):
                break
        return peer


@lru_cache(_MEMO)
def takes_gzip(accept_encoding: bytes) -> bool:
    """Whether an `Accept-Encoding` admits gzip."""
    named: dict[bytes, bool] = {}
    for coding in accept_encoding.lower().split(b","):
        name, _, quality = coding.partition(b";")
        named[name.strip()] = quality.replace(b" ", b"").strip(b"0.") != b"q="
    return named.get(b"gzip", named.get(b"*", False))


@lru_cache(_MEMO)
def _origin(scheme: str, host: bytes) -> str:
    if len(host) > 260 or not _HOST.fullmatch(host):
        raise InvalidRequest("the Host header is no host")
    return f"{scheme}://{host.decode('ascii')}"


def _server_name(scope: Scope) -> bytes:
    # HTTP/1.0 may leave Host out; then the socket's own name is the best there is.
    server = scope.get("server")
    if not server:
        raise InvalidRequest("no Host header")
    name = f"[{server[0]}]" if ":" in server[0] else server[0]
    return f"{name}:{server[1]}".encode("ascii", "replace")


def _last(value: bytes) -> bytes:
    return value.rpartition(b",")[2].strip()


def _nobody(_address: str) -> bool:
    return False
