"""Every setting: a section is a Struct, a setting is a field of it.

Each field says its variable, its bounds and its sentence; all else is derived from
them. `setting_table` makes one table of all, `onetape.config` finds the values and
also gives out these names.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from onetape.errors import InvalidSymbol
from onetape.model import AssetClass
from onetape.secret import Secret
from onetape.symbols import INDICES, normalize_symbol


class Origin(StrEnum):
    """Where a value was found."""

    ENVIRONMENT = "environment"
    DOTENV = ".env"
    TOML = "onetape.toml"
    DEFAULT = "default"


class Setting(NamedTuple):
    """What a field of a section says about itself, beside its type and bounds."""

    variable: str
    doc: str
    alias: str | None = None
    default: str | None = None
    """How to write a default that depends on something."""
    check: Callable[[Any], Any] | None = None
    """Returns the value in its canonical form, or raises ValueError."""
    expects: str | None = None


# The checks. Their ValueErrors are caught where the variable is known.


def _url(*schemes: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        parts = urlsplit(text)
        bare = not (parts.username or parts.password or parts.query or parts.fragment)
        if parts.scheme not in schemes or not parts.hostname or not bare or not text.isascii():
            raise ValueError
        if parts.port == 0 or text.split() != [text]:
            raise ValueError
        return text.rstrip("/")

    return check


def _origins(texts: tuple[str, ...]) -> tuple[str, ...]:
    check = _url("http", "https")
    origins = tuple(check(text).lower() for text in texts)
    if any(urlsplit(origin).path for origin in origins):
        raise ValueError
    return origins


def _prefixes(texts: tuple[str, ...]) -> tuple[str, ...]:
    prefixes = tuple(text.rstrip("/") for text in texts)
    if not all(text[:1] == "/" and text[1:].isalnum() and text.isascii() for text in prefixes):
        raise ValueError
    return prefixes


def _networks(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(str(ip_network(text, strict=False)) for text in texts)


def _host(text: str) -> str:
    if text.split() != [text] or "/" in text or "://" in text:
        raise ValueError
    return text


def _distinct(assets: tuple[AssetClass, ...]) -> tuple[AssetClass, ...]:
    return tuple(dict.fromkeys(assets))  # a second login of one class evicts the first


def _names(texts: tuple[str, ...]) -> tuple[str, ...]:
    names = tuple(text.upper().removeprefix("I:") for text in texts)
    if not all(name.isascii() and name.isalnum() for name in names):
        raise ValueError
    return names


def _symbols(texts: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return tuple(dict.fromkeys(map(normalize_symbol, texts)))
    except InvalidSymbol as error:
        raise ValueError from error


_Count = Annotated[int, Meta(ge=1, le=1_000_000_000)]
_Seconds = Annotated[float, Meta(ge=0, le=86_400)]
_SomeSeconds = Annotated[float, Meta(gt=0, le=86_400)]
_Port = Annotated[int, Meta(ge=0, le=65_535)]


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class MassiveConfig(_Section, frozen=True, kw_only=True):
    """The vendor's side."""

    api_key: Annotated[
        Secret | None,
        Setting("MASSIVE_API_KEY", "The vendor's key. Never leaves the gateway. Required."),
    ] = None
    base_url: Annotated[
        str,
        Setting(
            "MASSIVE_BASE_URL",
            "Where the vendor's REST answers. Wins over its alias.",
            alias="MASSIVE_API_BASE",
            check=_url("https", "http"),
            expects="an https:// URL without user, query or fragment",
        ),
    ] = "https://api.massive.com"
    socket_url: Annotated[
        str,
        Setting(
            "MASSIVE_SOCKET_URL",
            "Where the vendor's WebSockets are; `/options`, `/indices` or `/stocks` is appended.",
            check=_url("wss", "ws"),
            expects="a wss:// URL without user, query or fragment",
        ),
    ] = "wss://socket.massive.com"
    allow_plain_http: Annotated[
        bool,
        Setting(
            "ONETAPE_ALLOW_PLAIN_HTTP",
            "Let keys travel over http:// and ws:// to hosts other than this one. For tests.",
        ),
    ] = False


class TradierConfig(_Section, frozen=True, kw_only=True):
    """The other vendor, asked when the first fails. Off without a token."""

    access_token: Annotated[
        Secret | None,
        Setting("TRADIER_ACCESS_TOKEN", "Tradier's token. Without it Tradier is disabled."),
    ] = None
    base_url: Annotated[
        str,
        Setting(
            "TRADIER_BASE_URL",
            "Where Tradier's REST answers; its sandbox is `https://sandbox.tradier.com/v1`.",
            check=_url("https", "http"),
            expects="an https:// URL without user, query or fragment",
        ),
    ] = "https://api.tradier.com/v1"
    socket_url: Annotated[
        str,
        Setting(
            "TRADIER_SOCKET_URL",
            "Where Tradier's WebSocket is; its sandbox has none.",
            check=_url("wss", "ws"),
            expects="a wss:// URL without user, query or fragment",
        ),
    ] = "wss://ws.tradier.com/v1/markets/events"


class GatewayConfig(_Section, frozen=True, kw_only=True):
    """The clients' side."""

    app_env: Annotated[
        Literal["development", "test", "production"],
        Setting(
            "APP_ENV",
            "What this process is for. Chooses the defaults of `PORT` and the log format.",
            alias="NODE_ENV",
        ),
    ] = "development"
    host: Annotated[
        str,
        Setting(
            "ONETAPE_HOST",
            "The address to listen on; `0.0.0.0` for every interface.",
            check=_host,
            expects="an address or host name, without scheme or port",
        ),
    ] = "127.0.0.1"
    port: Annotated[
        _Port,
        Setting("PORT", "The port to listen on.", default="3000, or 8080 in production"),
    ] = 3000
    state_dir: Annotated[
        Path,
        Setting(
            "ONETAPE_STATE_DIR",
            "Where client keys and the signing secret are kept, readable by this user only.",
            default="`$XDG_STATE_HOME/onetape`, else the platform's place for application state",
        ),
    ] = Path(".onetape")
    proxy_token: Annotated[
        Secret | None,
        Setting(
            "MASSIVE_PROXY_TOKEN",
            "The bootstrap credential with which a client mints short-lived tokens. Required.",
        ),
    ] = None
    client_token: Annotated[
        Secret | None,
        Setting(
            "MASSIVE_CLIENT_TOKEN",
            "A headless client's copy of `MASSIVE_PROXY_TOKEN`, for static mode. Deprecated.",
        ),
    ] = None
    vite_proxy_token: Annotated[
        Secret | None,
        Setting(
            "VITE_MASSIVE_PROXY_TOKEN",
            "Not used: a token in a browser bundle is public. Recognised in order to warn.",
        ),
    ] = None
    allow_static_token: Annotated[
        bool,
        Setting(
            "ONETAPE_ALLOW_STATIC_TOKEN",
            "Static mode: accept `MASSIVE_PROXY_TOKEN` itself where a minted token belongs. "
            "Deprecated.",
        ),
    ] = False
    web_origins: Annotated[
        tuple[str, ...],
        Setting(
            "WEB_ORIGIN",
            "Origins whose pages may call the gateway (CORS and WebSocket), besides its own.",
            check=_origins,
            expects="a comma-separated list of origins such as https://desk.example.com",
        ),
    ] = ()
    trusted_proxies: Annotated[
        tuple[str, ...],
        Setting(
            "ONETAPE_TRUSTED_PROXIES",
            "Addresses or networks whose `X-Forwarded-*` headers are believed.",
            check=_networks,
            expects="a comma-separated list of IP addresses or networks",
        ),
    ] = ()
    assets: Annotated[
        tuple[AssetClass, ...],
        Meta(min_length=1),
        Setting(
            "ONETAPE_ASSETS",
            "The sockets to offer; the vendor allows one login for each.",
            check=_distinct,
        ),
    ] = tuple(AssetClass)
    indices: Annotated[
        tuple[str, ...],
        Setting(
            "ONETAPE_INDICES",
            "Names read as an index when they come without `I:`.",
            check=_names,
            expects="a comma-separated list of names such as SPX,VIX",
        ),
    ] = tuple(sorted(INDICES))
    rest_prefixes: Annotated[
        tuple[str, ...],
        Setting(
            "ONETAPE_REST_PREFIXES",
            "First path segments of the vendor's REST that are passed on; all else is refused.",
            check=_prefixes,
            expects="a comma-separated list of single segments such as /v2,/v3",
        ),
    ] = ("/v1", "/v2", "/v3", "/vX")
    rate_per_minute: Annotated[
        _Count, Setting("ONETAPE_RATE_PER_MINUTE", "Requests a client may make in a minute.")
    ] = 1200
    raw_rate_per_minute: Annotated[
        _Count,
        Setting("ONETAPE_RAW_RATE_PER_MINUTE", "Of these, requests to the vendor's own paths."),
    ] = 300
    max_clients: Annotated[
        _Count, Setting("ONETAPE_MAX_CLIENTS", "Client sockets open at one time.")
    ] = 2000
    max_topics_per_client: Annotated[
        _Count, Setting("ONETAPE_MAX_TOPICS_PER_CLIENT", "Topics one client socket may hold.")
    ] = 5000
    max_frame_bytes: Annotated[
        int,
        Meta(ge=1024, le=16_777_216),
        Setting(
            "ONETAPE_MAX_FRAME_BYTES",
            "The largest frame read from a client; a thousand option topics are 25 kB.",
        ),
    ] = 262_144
    outbox_bytes: Annotated[
        int,
        Meta(ge=4096, le=1_073_741_824),
        Setting(
            "ONETAPE_OUTBOX_BYTES",
            "What may wait for one client that reads slowly; beyond it the client is cut.",
        ),
    ] = 1_048_576
    linger_s: Annotated[
        _Seconds,
        Setting("ONETAPE_LINGER_S", "How long a topic stays open upstream after its last reader."),
    ] = 5.0
    idle_s: Annotated[
        _Seconds,
        Setting("ONETAPE_IDLE_S", "How long an upstream socket stays open without topics."),
    ] = 5.0
    token_ttl_s: Annotated[
        int,
        Meta(ge=10, le=86_400),
        Setting("ONETAPE_TOKEN_TTL_S", "How long a minted token is good for."),
    ] = 300
    auth_timeout_s: Annotated[
        _SomeSeconds,
        Setting("ONETAPE_AUTH_TIMEOUT_S", "How long a client socket may stay unauthenticated."),
    ] = 5.0
    drain_s: Annotated[
        _Seconds,
        Setting("ONETAPE_DRAIN_S", "How long clients have to leave when the gateway stops."),
    ] = 10.0
    log_format: Annotated[
        Literal["json", "console"],
        Setting(
            "ONETAPE_LOG_FORMAT",
            "One JSON object a line, or lines for people.",
            default="console, or json in production",
        ),
    ] = "console"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Setting("ONETAPE_LOG_LEVEL", "The least severe event that is logged."),
    ] = "info"


class CacheConfig(_Section, frozen=True, kw_only=True):
    """The shared cache of REST answers."""

    max_bytes: Annotated[
        int,
        Meta(ge=0, le=1_099_511_627_776),
        Setting("ONETAPE_CACHE_BYTES", "What the cache may hold; 0 turns it off."),
    ] = 67_108_864
    ttl_s: Annotated[
        dict[str, _Seconds],
        Setting(
            "ONETAPE_CACHE_TTL",
            "Seconds an answer stays fresh, for endpoints that shall differ from the built-in "
            "table: `options_chain=5,aggregates=30`, or a table in the file.",
            expects="endpoint=seconds pairs, comma-separated",
        ),
    ] = {}


class UpstreamConfig(_Section, frozen=True, kw_only=True):
    """How the vendor is treated."""

    concurrency: Annotated[
        int,
        Meta(ge=1, le=1000),
        Setting("ONETAPE_UPSTREAM_CONCURRENCY", "REST requests in flight at one time."),
    ] = 16
    rate_per_s: Annotated[
        float,
        Meta(gt=0, le=10_000),
        Setting("ONETAPE_UPSTREAM_RATE_PER_S", "REST requests a second; more wait their turn."),
    ] = 90.0
    quota_per_minute: Annotated[
        int,
        Meta(ge=0, le=1_000_000_000),
        Setting(
            "ONETAPE_QUOTA_PER_MINUTE",
            "REST requests a minute that the vendor's plan allows, to warn at 80 % of it; 0: any.",
        ),
    ] = 0
    timeout_s: Annotated[
        _SomeSeconds,
        Setting("ONETAPE_UPSTREAM_TIMEOUT_S", "How long one REST attempt may take."),
    ] = 10.0
    ping_interval_s: Annotated[
        _SomeSeconds,
        Setting("ONETAPE_PING_INTERVAL_S", "How often a WebSocket is pinged, either side."),
    ] = 30.0
    pong_deadline_s: Annotated[
        _SomeSeconds,
        Setting(
            "ONETAPE_PONG_DEADLINE_S", "How long the answer may take before the socket is lost."
        ),
    ] = 10.0
    cool_down_s: Annotated[
        _Seconds,
        Setting(
            "ONETAPE_COOL_DOWN_S",
            "How long to stay away after another login took our connection.",
        ),
    ] = 60.0


class SimulatorConfig(_Section, frozen=True, kw_only=True):
    """The built-in vendors, for use without a key or with the market closed."""

    port: Annotated[
        _Port, Setting("ONETAPE_SIM_PORT", "The port the simulated vendors listen on.")
    ] = 3100
    seed: Annotated[
        int,
        Meta(ge=0, le=2**63 - 1),
        Setting("ONETAPE_SIM_SEED", "The same seed gives the same market."),
    ] = 7
    speed: Annotated[
        float,
        Meta(gt=0, le=100_000),
        Setting("ONETAPE_SIM_SPEED", "Market seconds that pass in a second."),
    ] = 1.0
    rate: Annotated[
        float,
        Meta(gt=0, le=100_000),
        Setting("ONETAPE_SIM_RATE", "Multiplies how many events there are."),
    ] = 1.0
    hours: Annotated[
        Literal["always", "exchange"],
        Setting("ONETAPE_SIM_HOURS", "Whether the market is always open or keeps exchange hours."),
    ] = "always"
    symbols: Annotated[
        tuple[str, ...],
        Setting("ONETAPE_SIM_SYMBOLS", "Stocks to invent besides the built-in ones."),
    ] = ()


class HubConfig(_Section, frozen=True, kw_only=True):
    """The gateway's own view of the market: what it watches, and how often it looks."""

    watchlist: Annotated[
        tuple[str, ...],
        Setting(
            "ONETAPE_WATCHLIST",
            "Stocks and indices whose chains and quotes the gateway keeps at hand.",
            check=_symbols,
            expects="a comma-separated list of symbols such as SPY,SPX",
        ),
    ] = ()
    refresh_s: Annotated[
        _SomeSeconds,
        Setting(
            "ONETAPE_REFRESH_S", "Seconds between two looks at what is watched and not streamed."
        ),
    ] = 5.0
    max_watched: Annotated[
        int,
        Meta(ge=1, le=10_000),
        Setting(
            "ONETAPE_MAX_WATCHED",
            "Chains, quotes, indices and flows that clients may have watched at one time.",
        ),
    ] = 500


class ClientConfig(_Section, frozen=True, kw_only=True):
    """How the commands that read market data reach a gateway."""

    url: Annotated[
        str,
        Setting(
            "ONETAPE_URL",
            "The gateway that `onetape quote` and its kin ask.",
            check=_url("https", "http"),
            expects="an http:// or https:// URL without user, query or fragment",
        ),
    ] = "http://127.0.0.1:3000"
    key: Annotated[
        Secret | None,
        Setting(
            "ONETAPE_KEY",
            "The client key they come in with; `onetape keys create` makes one.",
        ),
    ] = None


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """All settings; every component receives the section it needs."""

    massive: MassiveConfig = MassiveConfig()
    tradier: TradierConfig = TradierConfig()
    gateway: GatewayConfig = GatewayConfig()
    cache: CacheConfig = CacheConfig()
    upstream: UpstreamConfig = UpstreamConfig()
    simulator: SimulatorConfig = SimulatorConfig()
    hub: HubConfig = HubConfig()
    client: ClientConfig = ClientConfig()
    origins: Mapping[str, Origin] = {}
    """Where each variable was found; those not here have their default."""
    warnings: tuple[str, ...] = ()
    """Sentences for the start-up log; they hold no values."""
