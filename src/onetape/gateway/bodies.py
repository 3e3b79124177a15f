"""What our routes about the gateway itself answer, as `/openapi.json` tells it.

`health`, `auth` and `api` make these bodies; a test holds them to what is said here.
"""

from typing import Any, NotRequired, TypedDict

from onetape.massive.notices import State


class RestPart(TypedDict):
    """The vendor's REST API."""

    healthy: bool
    latencyMs: float | None
    lastError: str | None


class SocketPart(TypedDict):
    """The vendor's sockets; the time in milliseconds UTC."""

    healthy: bool
    lastMessageTime: int | None
    activeSubscriptions: int


class UpstreamPart(TypedDict):
    """The vendor as a whole."""

    healthy: bool
    rateLimitRemaining: int | None


class Parts(TypedDict):
    """How each part does."""

    rest: RestPart
    websocket: SocketPart
    upstream: UpstreamPart


class ProviderPart(TypedDict):
    """One provider, for one kind of data: `model.ProviderHealth` and what it is asked for."""

    data: str
    provider: str
    enabled: bool
    healthy: bool
    status: str
    last_success_ns: int | None
    last_failure_ns: int | None
    last_failure: str | None
    last_failure_code: str | None
    consecutive_errors: int
    requests: int
    failures: int
    fallbacks: int
    response_time_s: float | None
    mean_response_time_s: float | None


class HubPart(TypedDict):
    """The gateway's own view of the market."""

    watched: int
    healthy: bool
    known: int
    failed: int
    confidence: int | None
    subscribers: int
    last_update_age_s: float | None
    last_poll_age_s: float | None
    poll_failures: int


class Liveness(TypedDict):
    """Whether the gateway lives, and how its parts do; times in milliseconds UTC."""

    status: str
    reasons: list[str]
    version: str
    simulated: bool
    uptime_s: float
    timestamp: int
    components: Parts
    providers: NotRequired[list[ProviderPart]]
    hub: NotRequired[HubPart]


class Readiness(TypedDict):
    """Whether clients may be sent here, and why not."""

    ready: bool
    reasons: list[str]


class LiveLine(TypedDict):
    """One asset class; times in milliseconds UTC."""

    totalClients: int
    upstreamConnections: int
    activeSubscriptions: int
    connectionState: str
    upstreamState: State
    lastError: str | None
    lastConnectedAt: int | None
    lastMessageTime: int | None
    reconnectAttempts: int


class LiveSide(TypedDict):
    """The live side, asset class by asset class."""

    healthy: bool
    timestamp: int
    metrics: dict[str, LiveLine]
    warnings: list[str]
    limits: dict[str, int]


class MintedToken(TypedDict):
    """A token, valid for `expires_in` seconds; `expiresAt` in milliseconds UTC."""

    token: str
    expiresAt: int
    expires_in: int
    token_id: str


class RevokedToken(TypedDict):
    """The id of the token that is no longer one."""

    revoked: str


class Description(TypedDict):
    """A description of an HTTP API, OpenAPI 3.1."""

    openapi: str
    info: dict[str, Any]
    paths: dict[str, Any]
    components: dict[str, Any]


class Error(TypedDict):
    """What went wrong: in words, and as a code that never changes its meaning."""

    status: str
    request_id: str
    error: str
    code: str
