"""The grammar of a request for one of the vendor's paths, and its cache key.

A target is read once, from the bytes the client sent, and refused when any part of
it could mean one thing here and another upstream: two readings of one path are how
a path leaves its allow-list. What passes goes upstream byte for byte; only the
credentials are taken out.

    raw path and query ──▶ refuse the ambiguous ──▶ strip the prefix ──▶ allow-list
                                                                             │
      Target(path, query: as sent; plain_path, key: one spelling for all) ◀──┘

Equal questions have equal keys: parameters are sorted, `%3A` and `:` are one, and
no credential is part of a key.
"""

from collections.abc import Collection, Iterable, Iterator
from typing import Final, NamedTuple
from urllib.parse import quote_from_bytes

from onetape.errors import InvalidRequest, NotFound
from onetape.massive.wire_rest import Endpoint, endpoint_class

VENDOR_PREFIXES: Final = ("/v1", "/v2", "/v3", "/vX")
"""First path segments of the vendor's REST API."""

MOUNT: Final = "/api/massive"
"""The other place where the vendor's paths are served, for clients with a prefixed base."""

MAX_PATH_BYTES: Final = 2_048
MAX_QUERY_BYTES: Final = 16_384  # 250 option tickers in one `any_of` take 6.5 kB

CREDENTIALS: Final = frozenset({b"apikey", b"api_key", b"token", b"x-massive-proxy-token"})
"""Query parameters that never go upstream, in any case and any percent-encoding."""

_UNRESERVED: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
# RFC 3986 `pchar` and `query` without `;`: some readers end a parameter there, some do not.
_PATH_BYTES: Final = _UNRESERVED + b"%!$&'()*+,=:@/"
_QUERY_BYTES: Final = _PATH_BYTES + b"?[]|"
_CONTROLS: Final = bytes(range(0x20)) + b"\x7f"
# What an escape in a path may hide: a separator, a second escape, a control, a non-ASCII byte.
_NEVER_IN_A_PATH: Final = _CONTROLS + b" /\\%?#;" + bytes(range(0x80, 0x100))

_HEX: Final = "0123456789abcdefABCDEF"
_ESCAPES: Final = {(a + b).encode(): bytes([int(a + b, 16)]) for a in _HEX for b in _HEX}
_SAFE_IN_A_KEY: Final = ":,@/"

_MEMO_TARGETS: Final = 2_048
_MEMO_BYTES: Final = 1_024  # longer targets are read anew, so the memo stays small


class Target(NamedTuple):
    """One request for the vendor, read and found harmless."""

    path: str
    """The vendor's path as the client spelled it: what goes upstream."""
    query: str
    """The query as the client spelled it, without credentials: what goes upstream."""
    plain_path: str
    """The path without escapes: what scopes and endpoint classes are judged by."""
    key: str
    """The same for every spelling of the same question."""
    prefix: str
    """What we took off the front and must put back into a `next_url`: `/api/massive` or empty."""
    endpoint: Endpoint


class Routes:
    """Reads targets; remembers the recent ones, because programs poll the same few."""

    def __init__(self, prefixes: Iterable[str] = VENDOR_PREFIXES, *, mount: str = MOUNT) -> None:
        self._prefixes = tuple(prefix.rstrip("/") + "/" for prefix in prefixes)
        self._mount = mount
        self._known: dict[tuple[bytes, bytes], Target] = {}

    @property
    def known(self) -> Collection[tuple[bytes, bytes]]:
        """What is remembered: paths and queries, without credentials."""
        return self._known.keys()

    def target(self, raw_path: bytes, raw_query: bytes) -> Target:
        """Return what the request asks of the vendor.

        Raises:
            InvalidRequest: a part of it is ambiguous, malformed or too long.
            NotFound: the path is outside the allow-list.
        """
        target = self._known.get((raw_path, raw_query))
        if target is None:
            query = without_credentials(raw_query)
            target = self._known.get((raw_path, query)) or self._learn(raw_path, query)
        return target

    def _learn(self, raw_path: bytes, query: bytes) -> Target:
        target = self._read(raw_path, query)
        if len(raw_path) + len(query) <= _MEMO_BYTES:
            if len(self._known) >= _MEMO_TARGETS:
                self._known.clear()
            self._known[raw_path, query] = target
        return target

    def _read(self, raw_path: bytes, raw_query: bytes) -> Target:
        plain = _plain_path(raw_path)
        parameters = sorted(_parameters(raw_query), key=_name)
        path, prefix = raw_path.decode("ascii"), ""
        if path.startswith(self._mount + "/"):
            path, prefix = path.removeprefix(self._mount), self._mount
            plain = plain.removeprefix(self._mount)
        # Both spellings must be inside: an escaped prefix is no prefix of ours.
        if not (path.startswith(self._prefixes) and plain.startswith(self._prefixes)):
            raise NotFound("no such path here")
        key = plain + "?" + "&".join(f"{name}={value}" for name, value in parameters)
        query = raw_query.decode("ascii")
        return Target(path, query, plain, key, prefix, endpoint_class(plain))


def without_credentials(query: bytes) -> bytes:
    """Return the query without the parameters that carry a credential; the rest untouched."""
    parts = query.split(b"&")
    kept = [part for part in parts if not _is_credential(part)]
    return query if len(kept) == len(parts) else b"&".join(kept)


def _is_credential(part: bytes) -> bool:
    name = part.partition(b"=")[0]
    if b"%" in name:
        # Leniently: a malformed escape is refused later, when the whole query is read.
        head, *rest = name.split(b"%")
        name = head + b"".join(_ESCAPES.get(s[:2], s[:2]) + s[2:] for s in rest)
    return name.strip(b" +\t\r\n\0").lower() in CREDENTIALS


def _plain_path(raw: bytes) -> str:
    if len(raw) > MAX_PATH_BYTES:
        raise InvalidRequest("the path is too long")
    if not raw.startswith(b"/"):
        raise InvalidRequest("the path must start with a slash")
    if raw.translate(None, _PATH_BYTES):
        raise InvalidRequest("the path holds a character that a path may not hold")
    segments = [_unescaped(segment) for segment in raw[1:].split(b"/")]
    for at, segment in enumerate(segments, 1):
        if not segment and at < len(segments):
            raise InvalidRequest("the path holds an empty segment")
        if segment and not segment.strip(b"."):
            raise InvalidRequest("the path holds a dot segment")
        if _holds_any(segment, _NEVER_IN_A_PATH):
            raise InvalidRequest("the path hides a character behind an escape")
    return "/" + b"/".join(segments).decode("ascii")


def _parameters(raw: bytes) -> Iterator[tuple[str, str]]:
    if len(raw) > MAX_QUERY_BYTES:
        raise InvalidRequest("the query is too long")
    if raw.translate(None, _QUERY_BYTES):
        raise InvalidRequest("the query holds a character that a query may not hold")
    for part in raw.split(b"&"):
        if part:
            name, _, value = part.partition(b"=")
            yield _canonical(name), _canonical(value)


def _canonical(text: bytes) -> str:
    plain = _unescaped(text.replace(b"+", b" "))
    if _holds_any(plain, _CONTROLS):
        raise InvalidRequest("the query hides a control character behind an escape")
    return quote_from_bytes(plain, safe=_SAFE_IN_A_KEY)


def _unescaped(text: bytes) -> bytes:
    if b"%" not in text:
        return text
    head, *rest = text.split(b"%")
    try:
        return head + b"".join(_ESCAPES[part[:2]] + part[2:] for part in rest)
    except KeyError:
        raise InvalidRequest("a percent sign without two hexadecimal digits") from None


def _holds_any(text: bytes, banned: bytes) -> bool:
    return len(text.translate(None, banned)) != len(text)


def _name(parameter: tuple[str, str]) -> str:
    # Sorted by name only: the order of a repeated parameter may mean something.
    return parameter[0]
