"""The gateway's REST API: addresses joined right, a good token, errors with our names.

One `get`:

    path, parameters ─▶ a token ─▶ MassiveREST: attempts, waits, the shared cool-down
                           ▲                     │
                           └─ refresh, once ◀────┤ 401, or 403 with a `token_…` code
                                                 ├ 2xx: the answer
                                                 └ else the error that its code names

The vendor's paths are behind `/api/massive`, the gateway's own stay as they are.
"""

import asyncio
import random as stdlib_random
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from types import TracebackType
from typing import Final, NamedTuple, Protocol, Self
from urllib.parse import urlsplit

import msgspec
from yarl import URL

from onetape.clock import Clock
from onetape.errors import (
    BY_CODE,
    UNREADABLE,
    ConfigInvalid,
    FrameTooLarge,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    OnetapeError,
    TokenInvalid,
    TokenMissing,
    UpstreamDown,
    UpstreamForbidden,
    UpstreamGarbled,
    UpstreamThrottled,
    UpstreamTimeout,
)
from onetape.massive.rest import MassiveREST, RestPolicy, RestResponse, RestStatistics
from onetape.massive.wire_rest import ParamValue, next_url_of, query_of
from onetape.secret import Secret

MOUNT: Final = "/api/massive"
"""Where the gateway serves the vendor's paths."""

PEER: Final = "the gateway"
"""What error messages call the other side."""

TOKEN_HEADER: Final = "x-massive-proxy-token"  # noqa: S105 - a header's name

CLIENT_POLICY: Final = RestPolicy(
    timeout_s=10.0,  # the gateway answers within 9.5 s
    deadline_s=30.0,
    attempts=3,
    backoff_base_s=1.0,
    backoff_cap_s=8.0,
    throttle_s=5.0,
    retry_after_cap_s=60.0,
    breaker_open_s=1.0,
)
"""How a client treats its gateway: at most three tries, then the caller decides.

The breaker is short, because a gateway that restarted is asked at once for what the streams
missed: while it is open, trades and bars are lost.
"""

MAX_PAGES: Final = 10_000
"""More pages than any answer has; what goes on after them does not end by itself."""

FAILURES_UNHEALTHY: Final = 3

_VENDORS: Final = MOUNT + "/v"  # v1, v2, v3, vX: what else is behind the mount is ours
_OK: Final = range(200, 300)
_FAULT: Final = 500
_TEXT_LIMIT: Final = 200
_BY_STATUS: Final[Mapping[int, type[OnetapeError]]] = {
    401: TokenInvalid,
    403: UpstreamForbidden,
    404: NotFound,
    405: MethodNotAllowed,
    408: UpstreamTimeout,
    413: FrameTooLarge,
    429: UpstreamThrottled,
    504: UpstreamTimeout,
}
"""For an answer without a code of ours: what stands between us and the gateway gave it."""


class GatewayStatistics(NamedTuple):
    """A snapshot for health and metrics."""

    healthy: bool  # fewer than three failures in a row
    refreshes: int  # requests for which a refused token was renewed
    rest: RestStatistics
    simulated: bool = False  # the vendor's last good answer was made up


class Credentials(Protocol):
    """What we need of `Tokens`."""

    @property
    def generation(self) -> int:
        """Which token is the current one."""
        ...

    def current(self) -> str:
        """Return the token at hand."""
        ...

    async def ensure_token(self) -> str:
        """Return a token that is good for a while."""
        ...

    async def refresh_token(self, *, generation: int | None = None) -> str:
        """Return a token newer than that generation."""
        ...


class _Shown:
    """What one request shows: at each attempt the newest token, and which that was."""

    def __init__(self, tokens: Credentials, token: str) -> None:
        self._tokens = tokens
        self._token = Secret(token)
        self.generation = tokens.generation

    def headers(self) -> Mapping[str, str]:
        try:
            self._token = Secret(self._tokens.current())
            self.generation = self._tokens.generation
        except TokenMissing:
            pass  # it ended while we waited; the gateway says so, and we fetch another
        return {TOKEN_HEADER: self._token.reveal()}


class GatewayREST:
    """Asks one gateway, for as long as its `async with` block is open.

    Every call is cancel-safe. Errors are those of the gateway's answer, by its code; see
    `docs/errors.md`. Their text names the status and the request id.
    """

    def __init__(  # noqa: PLR0913 - called once, by the composition root; all by name
        self,
        *,
        url: str,
        tokens: Credentials,
        clock: Clock,
        policy: RestPolicy = CLIENT_POLICY,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        random: Callable[[], float] = stdlib_random.random,  # noqa: S311 - jitter, not a secret
        tls: ssl.SSLContext | None = None,
    ) -> None:
        root = root_of(url)
        self._root = URL(root, encoded=True)
        self._tokens = tokens
        self._clock = clock
        self._policy = policy
        self._refreshes = 0
        self._simulated = False
        self._rest = MassiveREST(
            base_url=root,
            headers=dict,  # each request brings its own
            clock=clock,
            policy=policy,
            sleep=sleep,
            random=random,
            tls=tls,
            peer=PEER,
            mount=MOUNT,
        )

    async def __aenter__(self) -> Self:
        await self._rest.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._rest.__aexit__(kind, error, traceback)

    async def get(
        self,
        path: str,
        params: Mapping[str, ParamValue] | None = None,
        *,
        deadline_s: float | None = None,
    ) -> RestResponse:
        """Ask for a path, which may have a query of its own, and return the good answer.

        `received_ns` of a copy is when the gateway got the original.

        Raises:
            InvalidRequest: a path or parameter that cannot be sent.
            OnetapeError: of the type that the answer's `code` names, or without an answer
                an `UpstreamError`; `retry_after_s` is set when waiting helps.
        """
        return await self._get(*joined(path, params), deadline_s)

    async def pages(
        self,
        path: str,
        params: Mapping[str, ParamValue] | None = None,
        *,
        max_pages: int | None = None,
    ) -> AsyncGenerator[RestResponse]:
        """Ask for page after page, the next one when the one before has been dealt with.

        Raises:
            UpstreamGarbled: the next page is not at the gateway, or there is no last one.
            OnetapeError: as for `get`.
        """
        at = joined(path, params)
        seen: set[tuple[str, str]] = set()
        while max_pages is None or len(seen) < max_pages:
            seen.add(at)
            response = await self._get(*at, None)
            yield response
            next_url = next_url_of(response.body)
            if not next_url or len(seen) == max_pages:
                return
            at = self._inside(next_url)
            if at in seen or len(seen) >= MAX_PAGES:
                raise UpstreamGarbled("the pages go round in a circle, or never end")

    def statistics(self) -> GatewayStatistics:
        """Count everything."""
        rest = self._rest.statistics()
        return GatewayStatistics(
            rest.consecutive_failures < FAILURES_UNHEALTHY, self._refreshes, rest, self._simulated
        )

    # private

    async def _get(self, path: str, query: str, deadline_s: float | None) -> RestResponse:
        allowed_s = self._policy.deadline_s if deadline_s is None else deadline_s
        deadline = self._clock.monotonic() + allowed_s
        token = await self._in_time(self._tokens.ensure_token(), deadline)
        shown = _Shown(self._tokens, token)
        response = await self._ask(path, query, deadline, shown)
        if is_token_fault(response):
            self._refreshes += 1
            newer = self._tokens.refresh_token(generation=shown.generation)
            shown = _Shown(self._tokens, await self._in_time(newer, deadline))
            response = await self._ask(path, query, deadline, shown)
        if response.status not in _OK:
            raise error_of(response)
        if path.startswith(_VENDORS):  # of the gateway's own answers each says it by itself
            self._simulated = response.simulated
        return _dated_back(response)

    async def _ask(self, path: str, query: str, deadline: float, shown: _Shown) -> RestResponse:
        left_s = deadline - self._clock.monotonic()
        return await self._rest.get(path, query, deadline_s=left_s, headers=shown.headers)

    async def _in_time(self, token: Awaitable[str], deadline: float) -> str:
        try:
            async with asyncio.timeout(max(0.0, deadline - self._clock.monotonic())):
                return await token
        except TimeoutError:
            raise UpstreamTimeout("the deadline passed before there was a token") from None

    def _inside(self, next_url: str) -> tuple[str, str]:
        """Return the path and query of a page, if it is the gateway's.

        They are asked for at the address we were given, so a token never goes elsewhere.
        """
        try:
            url = URL(next_url, encoded=True)
            is_ours = _origin(url) == _origin(self._root)
        except ValueError:
            raise UpstreamGarbled("the address of the next page cannot be read") from None
        path = url.raw_path.removeprefix(self._root.raw_path.rstrip("/"))
        if not is_ours or not path.startswith(MOUNT + "/"):
            raise UpstreamGarbled(
                "the next page is not at the gateway's address; "
                "a gateway behind a proxy needs ONETAPE_TRUSTED_PROXIES"
            )
        return path, url.raw_query_string


# addresses


def root_of(url: str) -> str:
    """Bring a gateway's address to the form that everything is joined to.

    Raises:
        ConfigInvalid: not the http:// or https:// address of a host. It is not repeated:
            people put credentials into addresses.
    """
    try:
        parts = urlsplit(url.strip())
        is_good = parts.scheme in {"http", "https"} and bool(parts.hostname)
        is_good = is_good and (parts.port is None or parts.port > 0)
    except ValueError:
        raise ConfigInvalid("the gateway's address cannot be read") from None
    if not is_good or parts.query or parts.fragment or "@" in parts.netloc:
        raise ConfigInvalid(
            "the gateway's address is http://host:port or https://host, and nothing more"
        )
    path = parts.path.rstrip("/").removesuffix(MOUNT)
    return f"{parts.scheme}://{parts.netloc}{path.rstrip('/')}"


def joined(path: str, params: Mapping[str, ParamValue] | None = None) -> tuple[str, str]:
    """Return the gateway's path and the query for one of its own or the vendor's paths.

    Raises:
        InvalidRequest: an address instead of a path, or a parameter that cannot be sent.
    """
    path, _, own = path.partition("?")
    if "://" in path:
        raise InvalidRequest("a path is asked for, not an address")
    path = "/" + path.lstrip("/")
    if not path.startswith("/api/"):
        path = MOUNT + path
    return path, "&".join(filter(None, (own, query_of(params or {}))))


def _origin(url: URL) -> tuple[str, str | None, int | None]:
    return url.scheme.lower(), url.host and url.host.lower(), url.port


# answers


def _dated_back(response: RestResponse) -> RestResponse:
    """A copy is as old as it is: what is made of it was learned when the gateway learned it."""
    if not response.age_s:
        return response
    since_ns = response.received_ns - round(response.age_s * 1_000_000_000)
    return msgspec.structs.replace(response, received_ns=since_ns)


class _Refusal(msgspec.Struct):
    code: str | None = None
    error: str | None = None
    message: str | None = None


_refusal = msgspec.json.Decoder(_Refusal)


def is_token_fault(response: RestResponse) -> bool:
    """Whether another token may help; the vendor's own 403 says nothing about ours."""
    if response.status == 403:
        return (_code_of(response, _read(response)) or "").startswith("token_")
    return response.status == 401


def error_of(response: RestResponse) -> OnetapeError:
    """Return what an answer other than 2xx means.

    Only a gateway's words are repeated, which name no secret: those of whoever else
    answered may show the request.
    """
    refusal = _read(response)
    code = _code_of(response, refusal)
    kind = BY_CODE[code] if code else _kind_of(response.status)
    text = _shown(refusal.error or refusal.message or "") if code else ""
    retry_after_s = response.retry_after_s
    if retry_after_s is None and response.status == 429:
        retry_after_s = CLIENT_POLICY.throttle_s
    facts = [f"status {response.status}"]
    if response.request_id:
        facts.append(f"request {_shown(response.request_id)}")
    if response.attempts > 1:
        facts.append(f"{response.attempts} tries")
    return kind(
        f"{text or PEER + ' refused the request'} ({', '.join(facts)})",
        retry_after_s=retry_after_s,
    )


def _read(response: RestResponse) -> _Refusal:
    try:
        return _refusal.decode(response.body)
    except UNREADABLE:
        return _Refusal()


def _code_of(response: RestResponse, refusal: _Refusal) -> str | None:
    return next((code for code in (response.code, refusal.code) if code in BY_CODE), None)


def _kind_of(status: int) -> type[OnetapeError]:
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status >= _FAULT:
        return UpstreamDown
    return InvalidRequest if status >= 400 else UpstreamGarbled


def _shown(text: str) -> str:
    """Keep what came from outside short, and harmless in a log or a terminal."""
    printable = "".join(one if one.isprintable() else " " for one in text[:_TEXT_LIMIT])
    return printable.strip()
