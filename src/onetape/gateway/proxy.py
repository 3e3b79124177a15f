"""The vendor's REST API, served by us: one key, one cache, one quota for all clients.

Raw ASGI, so that a cache hit costs little more than its write. The path of a request:

    identify ──▶ admit (per minute) ──▶ read the target ──▶ entitled? ──▶ answer ──▶ reply

GET and HEAD only. Nothing of the client's request goes upstream but the path and the
query, and of these only what `routes` found harmless: no header, cookie or credential.
The vendor's key is known to the upstream alone. `docs/rest.md` says what clients see.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from onetape.asgi import Receive, Scope, Send
from onetape.clock import Clock
from onetape.config import GatewayConfig
from onetape.core.limits import MinuteCounter, Verdict
from onetape.errors import MethodNotAllowed, NotEntitled, OnetapeError, Throttled
from onetape.gateway.answers import Answer, Copy, Header, refusal, short
from onetape.gateway.auth import Principal
from onetape.gateway.callers import Caller, Callers
from onetape.gateway.endpoints import credential_of
from onetape.gateway.replies import new_request_id
from onetape.gateway.routes import Routes, Target
from onetape.gateway.supply import Served, Supply
from onetape.massive.wire_rest import Endpoint

T = TypeVar("T")

METHODS: Final = frozenset({"GET", "HEAD"})
CLIENT_GONE: Final = 499
"""The status in the log of a request whose client left before the answer came."""

_ALLOW: Final[Header] = (b"allow", b"GET, HEAD")
_HOW: Final = {
    how: (b"x-onetape-cache", how.encode("ascii")) for how in ("hit", "miss", "coalesced", "stale")
}
_TOO_MANY: Final = (
    "You've exceeded the maximum requests per minute of this gateway's client, please wait"
)

_log: Final = logging.getLogger(__name__)


class Auth(Protocol):
    """What we need of `gateway.auth.Auth`."""

    def identify(self, credential: str | None, *, peer: str) -> Principal:
        """Say who it is; raises `Unauthorized` with the code that a client acts on."""
        ...


class Window(Protocol):
    """What we need of `core.limits.SlidingWindow`."""

    def admit(self, key: str, now: float, limit: int | None = None) -> Verdict:
        """Decide on one call of the key."""
        ...


class Limits(NamedTuple):
    """How much one client may ask."""

    total: Window  # shared with the normalised routes
    raw: Window  # of these, requests for the vendor's own paths


class RequestRecord(NamedTuple):
    """One request, as the canonical log line and the counters tell it."""

    method: str
    endpoint: Endpoint
    status: int
    duration_s: float
    sent_bytes: int
    client: str | None  # the key's public id; None: nobody we know
    how: str | None  # hit, miss, coalesced, stale; None: we never got so far
    code: str | None  # of the error, when there was one
    request_id: str | None
    peer: str | None  # the client's address


class Telemetry(Protocol):
    """What we tell about ourselves."""

    def rest_request(self, record: RequestRecord) -> None:
        """Count and log one request that is over."""
        ...


class _Reply(NamedTuple):
    status: int
    headers: Iterable[Header]
    body: bytes
    request_id: str
    code: str | None = None


class _Course:
    """How far one request came; what its log line is made of."""

    __slots__ = ("client", "endpoint", "how", "peer", "reply")

    def __init__(self) -> None:
        self.client: str | None = None
        self.endpoint = Endpoint.OTHER
        self.how: str | None = None
        self.peer: str | None = None
        self.reply: _Reply | None = None


class Proxy:
    """Serves the vendor's paths at the host root and under `/api/massive`."""

    def __init__(
        self,
        *,
        auth: Auth,
        supply: Supply,
        limits: Limits,
        telemetry: Telemetry,
        clock: Clock,
        config: GatewayConfig,
    ) -> None:
        self._auth = auth
        self._supply = supply
        self._limits = limits
        self._telemetry = telemetry
        self._clock = clock
        self._routes = Routes(config.rest_prefixes)
        self._callers = Callers(config.trusted_proxies)
        self._spent = MinuteCounter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request. Cancelling it disturbs nobody who asks the same."""
        began = self._clock.monotonic()
        course = _Course()
        try:
            reply = await self._reply(scope, receive, course, began)
            if reply is None:
                return
            if scope["method"] == "HEAD":
                reply = reply._replace(body=b"")
            course.reply = reply
            status, headers, body, *_ = reply
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body})
        finally:
            self._tell(scope, course, began)

    def spent(self) -> dict[str, int]:
        """Return how many of the last minute's requests to the vendor each client caused."""
        return self._spent.snapshot(self._clock.monotonic())

    async def _reply(
        self, scope: Scope, receive: Receive, course: _Course, now: float
    ) -> _Reply | None:
        try:
            return await self._answer(scope, receive, course, now)
        except OnetapeError as error:
            return _refused(error)
        except Exception:  # noqa: BLE001 - the boundary: a bug of ours must still be a reply
            request_id = new_request_id()
            _log.exception("rest.internal", extra={"request_id": request_id})
            return _refused(OnetapeError(""), request_id)

    async def _answer(
        self, scope: Scope, receive: Receive, course: _Course, now: float
    ) -> _Reply | None:
        caller = self._callers.of(scope)
        course.peer = caller.peer
        principal = self._auth.identify(credential_of(scope), peer=caller.peer)
        course.client = principal.key_id
        self._admit(principal, now)
        target = self._target(scope, principal)
        course.endpoint = target.endpoint
        served = self._supply.look(target, now)
        if served is None:
            served = await _unless_gone(receive, lambda: self._supply.fetch(target))
        if served is None:
            return None
        course.how = served.how
        if served.how == "miss":
            self._spent.add(principal.key_id, now)
        copy = await self._copy(served.answer, caller, target)
        return _Reply(
            served.answer.status,
            _headers(copy, served),
            copy.body,
            served.answer.request_id,
            served.answer.code,
        )

    def _admit(self, principal: Principal, now: float) -> None:
        own = principal.scopes.rate_per_minute  # given on purpose, it replaces both
        _count(self._limits.raw, principal.key_id, now, own)
        _count(self._limits.total, principal.key_id, now, own)

    def _target(self, scope: Scope, principal: Principal) -> Target:
        if scope["method"] not in METHODS:
            raise MethodNotAllowed("only GET and HEAD are answered here")
        target = self._routes.target(scope["raw_path"], scope["query_string"])
        if not principal.admits_path(target.plain_path):
            raise NotEntitled("the credential's scopes do not cover this path")
        return target

    async def _copy(self, answer: Answer, caller: Caller, target: Target) -> Copy:
        base = caller.origin + target.prefix
        if not caller.takes_gzip:
            return answer.plain(base)
        if answer.needs_packing(base):
            await self._supply.pack(answer, base)
        return answer.packed(base)

    def _tell(self, scope: Scope, course: _Course, began: float) -> None:
        reply = course.reply
        self._telemetry.rest_request(
            RequestRecord(
                method=scope["method"],
                endpoint=course.endpoint,
                status=reply.status if reply else CLIENT_GONE,
                duration_s=self._clock.monotonic() - began,
                sent_bytes=len(reply.body) if reply else 0,
                client=course.client,
                how=course.how,
                code=reply.code if reply else None,
                request_id=reply.request_id if reply else None,
                peer=course.peer,
            )
        )


def _count(window: Window, key: str, now: float, limit: int | None = None) -> None:
    verdict = window.admit(key, now, limit)
    if not verdict.admitted:
        raise Throttled(_TOO_MANY, retry_after_s=short(verdict.retry_after_s))


def _headers(copy: Copy, served: Served) -> tuple[Header, ...]:
    if served.age_s is None:
        return (*copy.headers, _HOW[served.how])
    age = (b"age", b"%d" % served.age_s)
    if served.stale_reason is None:
        return (*copy.headers, _HOW[served.how], age)
    reason = (b"x-onetape-stale-reason", served.stale_reason.encode("ascii"))
    return (*copy.headers, _HOW[served.how], age, reason)


def _refused(error: OnetapeError, request_id: str | None = None) -> _Reply:
    answer = refusal(error, request_id or new_request_id())
    headers, body = answer.plain("")
    if isinstance(error, MethodNotAllowed):
        headers = (*headers, _ALLOW)
    return _Reply(answer.status, headers, body, answer.request_id, answer.code)


async def _unless_gone(receive: Receive, work: Callable[[], Awaitable[T]]) -> T | None:
    """Return what the work gives, or None when the client left before."""
    async with asyncio.TaskGroup() as tasks:
        working = tasks.create_task(_outcome(work))
        watching = tasks.create_task(_cancel_when_gone(receive, working))
        await asyncio.wait([working])
        watching.cancel()
    if working.cancelled():
        return None
    outcome = working.result()
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


async def _outcome(work: Callable[[], Awaitable[T]]) -> T | Exception:
    # A TaskGroup would wrap what the work raises, and cancel the watcher for it.
    try:
        return await work()
    except Exception as error:  # noqa: BLE001 - delivered: `_unless_gone` raises it
        return error


async def _cancel_when_gone(receive: Receive, working: asyncio.Task[Any]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    working.cancel()
