"""The gateway, put together. Read this first: every part is named here once.

    clients ── Door ── Session ─┐                       ┌─ MassiveWebSocket ── vendor
    (WebSocket)                 ├── MassiveHub (one per │
                                ┘   asset class) ───────┘
    clients ── Browsers ─┬─ Proxy ── Supply (cache, flights) ── MassiveREST ── vendor
    (HTTP)               └─ Api (health, tokens, metrics)

    MarketApi, MarketDesk ── Market: both vendors' providers, over MassiveREST and Taps on
    (/api/…)   (/ws/market)          the hubs, and one judged view

    Auth and its KeyRing know who may; Telemetry counts and tells.

Nothing else constructs things of other floors, and nothing here does any work.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from types import TracebackType
from typing import Self

from starlette.applications import Starlette
from starlette.routing import BaseRoute

from onetape import __version__
from onetape.asgi import Limits as SocketLimits, Receive, Scope, Send, Server
from onetape.clock import Clock, SystemClock
from onetape.config import Config, Secret
from onetape.core.cache import Cache
from onetape.core.limits import SlidingWindow
from onetape.errors import ConfigInvalid
from onetape.flights import Flights
from onetape.gateway import market
from onetape.gateway.answers import Answer
from onetape.gateway.api import Api
from onetape.gateway.auth import Auth, AuthPolicy
from onetape.gateway.browsers import Browsers
from onetape.gateway.callers import Callers
from onetape.gateway.fanout import HubPolicy, MassiveHub
from onetape.gateway.health import GatewayFacts, Health, HubFacts, RestFacts
from onetape.gateway.keyring import KeyRing
from onetape.gateway.logs import Bridge, Renderer, Write, bridged, event_log, redactor
from onetape.gateway.market import Market, MarketFacts
from onetape.gateway.market_api import MarketApi
from onetape.gateway.market_session import MarketDesk, MarketPolicy
from onetape.gateway.proxy import Limits, Proxy
from onetape.gateway.session import SessionPolicy
from onetape.gateway.sockets import Door, DoorPolicy
from onetape.gateway.supply import Supply
from onetape.gateway.taps import Taps
from onetape.gateway.telemetry import Telemetry, TelemetryPolicy
from onetape.hub import Providers
from onetape.massive import notices
from onetape.massive.notices import FeedPolicy, Notice
from onetape.massive.rest import MassiveREST, RestPolicy
from onetape.massive.stream import MassiveWebSocket, is_delayed
from onetape.massive.wire_rest import TTL, Endpoint, Ttl
from onetape.model import AssetClass

_TICK_S = 0.5
_ANSWER_BY_S = 9.5  # official clients hang up after 10 s, and ask three times more
_FAILURES_UNHEALTHY = 3


class Line:
    """One asset class: its hub, its upstream socket, and what health says of them."""

    def __init__(
        self,
        asset: AssetClass,
        *,
        config: Config,
        key: Secret,
        clock: Clock,
        hub: MassiveHub,
        on_notice: Callable[[Notice], None],
    ) -> None:
        self.asset = asset
        self.hub = hub
        self._on_notice = on_notice
        self.stream = MassiveWebSocket(
            url=f"{config.massive.socket_url}/{asset}",
            asset=asset,
            credential=key.reveal,
            clock=clock,
            policy=_feed_policy(config),
            on_split=hub.deliver,
            on_notice=self._notice,
        )
        self._last_error: str | None = None
        hub.connect(self.stream)

    def facts(self) -> HubFacts:
        """Say how it is now."""
        hub, feed = self.hub.statistics(), self.stream.statistics()
        return HubFacts(
            asset=self.asset,
            state=feed.state,
            clients=hub.clients,
            topics=hub.topics_read,
            last_frame_ns=feed.last_frame_ns,
            reconnects=feed.reconnects,
            last_error=self._last_error,
            connected_since_ns=feed.connected_since_ns,
        )

    def _notice(self, notice: Notice) -> None:
        match notice:
            case notices.Lost(reason=reason):
                self._last_error = reason
            case notices.AuthFailed():
                self._last_error = "the vendor did not accept the key"
            case notices.Evicted():
                self._last_error = "another login took the connection"
            case notices.Restored():
                self._last_error = None
            case _:
                pass
        self.hub.notice(notice)
        self._on_notice(notice)


class Gateway:
    """A running gateway for as long as its `async with` block is open.

    Leaving the block drains: nobody new comes in, sockets are closed 1012 so that
    their clients come back, running requests are finished, and nothing stays behind.

    Args:
        config: All settings; `massive.api_key` must be set.
        write: Takes finished log lines, from any thread.
        lines_dropped: Says how many of them it had to drop; a metric.
        simulated: Whether the vendor is the simulator; health says so.
        is_open: Whether its market is open at an instant; by default the calendar's word.
    """

    def __init__(
        self,
        config: Config,
        *,
        clock: Clock | None = None,
        write: Write = lambda line: None,
        lines_dropped: Callable[[], int] = lambda: 0,
        simulated: bool = False,
        is_open: Callable[[int], bool] | None = None,
    ) -> None:
        if config.massive.api_key is None:
            raise ConfigInvalid("MASSIVE_API_KEY is not set")
        self._config = config
        self._key = config.massive.api_key
        self._clock = clock or SystemClock()
        self._write = write
        self._lines_dropped = lines_dropped
        self._simulated = simulated
        self._is_open = is_open
        self._stack = AsyncExitStack()
        self._is_draining = False
        self.lines: dict[AssetClass, Line] = {}

    @property
    def netloc(self) -> str:
        """`host:port`: the `feed` of the official WebSocket client."""
        return self._server.netloc

    @property
    def url(self) -> str:
        """Where REST is: the `base` of the official REST client."""
        return f"http://{self.netloc}"

    async def __aenter__(self) -> Self:
        await self._stack.__aenter__()
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_draining = True
        self._door.drain()
        await self._stack.aclose()

    # private: in the order of the drawing, from the middle outwards

    async def _start(self) -> None:
        config, clock, enter = self._config, self._clock, self._stack.enter_async_context
        self._telemetry = self._make_telemetry()
        self.ring = await enter(KeyRing(config.gateway.state_dir, clock=clock))
        self._auth = self._make_auth()
        self._rest = await enter(self._make_rest())
        flights = await enter(Flights[str, Answer]())
        self._start_lines()
        self.market = await enter(self._make_market())
        self._callers = Callers(config.gateway.trusted_proxies)
        self._total = SlidingWindow(config.gateway.rate_per_minute, 60.0)
        self._market_api = await enter(self._make_market_api())
        self._desk = MarketDesk(
            self.market.hub,
            clock=clock,
            loop=asyncio.get_running_loop(),
            policy=MarketPolicy(linger_s=config.gateway.linger_s),
        )
        self._door = self._make_door()
        self._auth.on_change(lambda: self._door.recheck(self._auth.why_not))
        self._telemetry.on_scrape(self._observe)
        await self._start_tasks()
        front = self._make_front(flights)
        self._server = await enter(
            Server(
                Browsers(front, origins=config.gateway.web_origins),
                host=config.gateway.host,
                port=config.gateway.port,
                websocket=self._door.route,
                limits=SocketLimits(drain_s=config.gateway.drain_s),
            )
        )

    def _make_auth(self) -> Auth:
        gateway = self._config.gateway
        policy = AuthPolicy(
            token_ttl_s=round(gateway.token_ttl_s), allow_static_token=gateway.allow_static_token
        )
        bootstrap = _revealed(gateway.proxy_token)
        return Auth(self.ring, clock=self._clock, bootstrap=bootstrap, policy=policy)

    def _make_front(self, flights: Flights[str, Answer]) -> "Front":
        config, clock = self._config, self._clock
        supply = Supply(
            cache=Cache[Answer](config.cache.max_bytes),
            flights=flights,
            upstream=self._rest,
            clock=clock,
            ttl=_ttl(config),
        )
        proxy = self._proxy = Proxy(
            auth=self._auth,
            supply=supply,
            limits=Limits(self._total, SlidingWindow(config.gateway.raw_rate_per_minute, 60.0)),
            telemetry=self._telemetry,
            clock=clock,
            config=config.gateway,
        )
        api = self._make_api()
        routes = [*api.routes(), *self._market_api.routes()]
        return Front(proxy, routes, api.nowhere(), prefixes=config.gateway.rest_prefixes)

    def _make_telemetry(self) -> Telemetry:
        gateway = self._config.gateway
        secrets = [_revealed(self._key), _revealed(gateway.proxy_token)]
        secrets += [_revealed(gateway.client_token), _revealed(self._config.tradier.access_token)]
        renderer = Renderer(
            gateway.log_format, clock=self._clock, redact=redactor(filter(None, secrets))
        )
        level = gateway.log_level
        self._stack.enter_context(bridged(Bridge(self._write, renderer), level=level))
        log = event_log(self._write, renderer, level=level)
        for warning in self._config.warnings:
            log.warning("config.warning", message=warning)
        policy = TelemetryPolicy(quota_per_minute=self._config.upstream.quota_per_minute or None)
        return Telemetry(clock=self._clock, log=log, version=__version__, policy=policy)

    def _make_rest(self) -> MassiveREST:
        upstream = self._config.upstream
        return MassiveREST(
            base_url=self._config.massive.base_url,
            headers=lambda: {"Authorization": f"Bearer {self._key.reveal()}"},
            clock=self._clock,
            policy=RestPolicy(
                concurrency=upstream.concurrency,
                rate_per_s=upstream.rate_per_s,
                timeout_s=upstream.timeout_s,
                deadline_s=_ANSWER_BY_S,
            ),
        )

    def _start_lines(self) -> None:
        gateway = self._config.gateway
        policy = HubPolicy(linger_s=gateway.linger_s, outbox_bytes=gateway.outbox_bytes)
        loop = asyncio.get_running_loop()
        for asset in gateway.assets:
            hub = MassiveHub(asset, clock=self._clock, loop=loop, policy=policy)
            self.lines[asset] = Line(
                asset,
                config=self._config,
                key=self._key,
                clock=self._clock,
                hub=hub,
                on_notice=partial(self._heard, asset),
            )
        self._taps = Taps(self.lines, clock=self._clock)

    def _heard(self, asset: AssetClass, notice: Notice) -> None:
        self._taps.notice(asset, notice)

    def _make_market(self) -> AbstractAsyncContextManager[Market]:
        return market.running(
            self._config,
            rest=self._rest,
            feed=self._taps,
            clock=self._clock,
            simulated=self._simulated,
            is_open=self._is_open,
        )

    def _make_door(self) -> Door:
        gateway, upstream = self._config.gateway, self._config.upstream
        return Door(
            {asset: line.hub for asset, line in self.lines.items()},
            desks=[self._desk],
            auth=self._auth,
            clock=self._clock,
            on_end=self._telemetry.session_closed,
            on_query_token=self._telemetry.query_tokens.add,
            policy=DoorPolicy(
                max_clients=gateway.max_clients,
                web_origins=gateway.web_origins,
                trusted_proxies=gateway.trusted_proxies,
                simulated=self._simulated,
                delayed=is_delayed(self._config.massive.socket_url),
                session=SessionPolicy(
                    auth_timeout_s=gateway.auth_timeout_s,
                    ping_interval_s=upstream.ping_interval_s,
                    pong_deadline_s=upstream.pong_deadline_s,
                    max_frame_bytes=gateway.max_frame_bytes,
                    max_topics=gateway.max_topics_per_client,
                ),
            ),
        )

    def _make_market_api(self) -> MarketApi:
        hybrids = self.market.providers
        return MarketApi(
            providers=Providers(hybrids.options, hybrids.indices, hybrids.broker),
            asker=self.market.asker,
            hub=self.market.hub,
            auth=self._auth,
            limit=self._total,
            callers=self._callers,
            telemetry=self._telemetry,
            clock=self._clock,
            is_open=self._is_open,
        )

    def _make_api(self) -> Api:
        health = Health(
            GatewayFacts(__version__, key_present=True, simulated=self._simulated),
            list(self.lines.values()),
            clock=self._clock,
            rest=self._rest_facts,
            market=self._market_facts,
            is_draining=lambda: self._is_draining,
        )
        return Api(
            auth=self._auth,
            telemetry=self._telemetry,
            health=health,
            callers=self._callers,
            limit=self._total,
            clock=self._clock,
            vendor_status=self._market_api.market_status,
        )

    async def _start_tasks(self) -> None:
        tasks = await self._stack.enter_async_context(asyncio.TaskGroup())
        running = [
            tasks.create_task(self._auth.run(), name="onetape.auth"),
            tasks.create_task(self._telemetry.run(), name="onetape.telemetry"),
            tasks.create_task(self._tick(), name="onetape.tick"),
            *(
                tasks.create_task(line.stream.run(), name=f"onetape.stream.{asset}")
                for asset, line in self.lines.items()
            ),
        ]
        self._stack.callback(_cancel, running)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            self._door.tick()
            for line in self.lines.values():
                line.hub.tick()
            self._desk.tick()
            self._telemetry.observe_rest(self._rest.statistics())  # warns when the quota runs out

    def _observe(self) -> None:
        for asset, line in self.lines.items():
            self._telemetry.observe_hub(asset, line.hub.statistics(), line.stream.statistics())
        self._telemetry.observe_auth(self._auth.statistics())
        self._telemetry.observe_rest(self._rest.statistics())
        self._telemetry.observe_market(self._market_facts())
        self._telemetry.observe_desk(self._desk.statistics())
        self._telemetry.observe_clients(self._proxy.spent())
        self._telemetry.log_lines_dropped.put(self._lines_dropped())

    def _market_facts(self) -> MarketFacts:
        return self.market.facts(self._clock.now_ns())

    def _rest_facts(self) -> RestFacts:
        rest = self._rest.statistics()
        latency_s = rest.latency_p50_s
        quota = self._config.upstream.quota_per_minute
        return RestFacts(
            healthy=rest.consecutive_failures < _FAILURES_UNHEALTHY,
            latency_ms=None if latency_s is None else round(latency_s * 1e3, 3),
            last_error=rest.last_failure,
            quota_remaining=max(0, quota - sum(rest.per_minute.values())) if quota else None,
        )


class Front:
    """Sends a request to the vendor's paths or to our own."""

    def __init__(
        self,
        proxy: Proxy,
        routes: Sequence[BaseRoute],
        nowhere: BaseRoute,
        *,
        prefixes: Iterable[str],
    ) -> None:
        self._proxy = proxy
        self._own = Starlette(routes=[*routes, nowhere])
        self._own_paths = frozenset(getattr(route, "path", "") for route in routes)
        self._prefixes = tuple(f"{prefix}/" for prefix in prefixes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        path: str = scope["path"]
        is_vendors = path.startswith(self._prefixes) or (
            path.startswith("/api/massive/") and path not in self._own_paths
        )
        await (self._proxy if is_vendors else self._own)(scope, receive, send)


def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()


def _revealed(secret: Secret | None) -> str | None:
    return secret.reveal() if secret is not None else None


def _feed_policy(config: Config) -> FeedPolicy:
    return FeedPolicy(
        ping_interval_s=config.upstream.ping_interval_s,
        pong_deadline_s=config.upstream.pong_deadline_s,
        cool_down_s=config.upstream.cool_down_s,
        idle_s=config.gateway.idle_s,
    )


def _ttl(config: Config) -> dict[Endpoint, Ttl]:
    """The vendor's endpoints, each with its time to live.

    Raises:
        ConfigInvalid: a setting names an endpoint that there is not.
    """
    ttl = dict(TTL)
    for name, fresh_s in config.cache.ttl_s.items():
        try:
            endpoint = Endpoint(name)
        except ValueError:
            known = ", ".join(sorted(Endpoint))
            raise ConfigInvalid(
                f"cache.ttl_s: no endpoint of that name; there are {known}"
            ) from None
        ttl[endpoint] = Ttl(fresh_s, ttl[endpoint].stale_s)
    return ttl
