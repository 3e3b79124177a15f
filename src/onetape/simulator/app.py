"""The simulated vendors, put together: REST, streams and control on one port.

    async with Simulator(SimulatorSettings(port=0)) as simulator:
        simulator.url, simulator.socket_url, simulator.key
        simulator.tradier_url, simulator.tradier_socket_url, simulator.tradier_token

    /_simulator/…                    control
    /tradier/v1/…, /v1/markets/…     Tradier
    everything else                  Massive

It runs in the caller's loop; leaving the block leaves no task and no socket behind.
REST reads its market in a thread and the stream reads its own in the loop: the market
is a pure function of seed and time, so the two say the same.
"""

import asyncio
from asyncio import CancelledError, Task, TaskGroup
from collections.abc import Callable
from types import TracebackType
from typing import Annotated, Self, cast

import msgspec
from anyio import CapacityLimiter
from msgspec import Meta
from picows import WSUpgradeRequest

from onetape.asgi import ASGIApp, Receive, Scope, Send, Server, Upgrade
from onetape.clock import Clock, SystemClock
from onetape.simulator.control import PREFIX, ClockChange, Control, SimulatorState
from onetape.simulator.elastic_clock import ElasticClock
from onetape.simulator.faults import Faults, FaultScript, Rule
from onetape.simulator.faulty_rest import FaultyRest
from onetape.simulator.links import Pace
from onetape.simulator.market import Hours, Market, SimClock
from onetape.simulator.massive.accounts import Account, Accounts
from onetape.simulator.massive.rest import MassiveRestSimulator
from onetape.simulator.massive.rest_faults import faulty_rest
from onetape.simulator.massive.session import StreamPolicy, VendorSockets
from onetape.simulator.massive.stream import MassiveStream
from onetape.simulator.tradier.policy import TradierPolicy
from onetape.simulator.tradier.rest import PREFIX as PREFIX_OF_TRADIER, STREAM_PATH, TradierRest
from onetape.simulator.tradier.rest_faults import faulty_rest as faulty_tradier_rest
from onetape.simulator.tradier.session import TradierStreams
from onetape.simulator.tradier.stream import TradierStream

_BREATH_S = 0.01
_WARM_EVERY_S = 60.0
_TRADIER_PATHS = (f"{PREFIX_OF_TRADIER}/", "/v1/markets/")


class SimulatorSettings(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """What is simulated, and where it is served."""

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 0
    seed: int = 7
    start_ns: int | None = None  # None: the market is at wall time
    speed: Annotated[float, Meta(gt=0)] = 1.0
    rate: Annotated[float, Meta(gt=0)] = 1.0
    hours: Hours = Hours.ALWAYS
    extra: tuple[str, ...] = ()
    key: str = "sim-key"  # which account `Simulator.key` logs in to
    accounts: tuple[Account, ...] | None = None
    pace: Pace = Pace()
    stream: StreamPolicy = StreamPolicy()
    faults: FaultScript = FaultScript()
    tradier_token: str = "sim-tradier-token"  # noqa: S105 - of a simulator
    tradier: TradierPolicy = TradierPolicy()


class Simulator:
    """A vendor to connect to, for as long as its `async with` block is open."""

    def __init__(self, settings: SimulatorSettings | None = None, *, clock: Clock | None = None):
        self._settings = settings = settings or SimulatorSettings()
        self._clock = clock or SystemClock()
        self._elastic = ElasticClock(self._clock)
        self._sim_clock = SimClock(
            clock=self._elastic, start_ns=settings.start_ns, speed=settings.speed
        )
        self.faults = Faults(settings.faults, now=self._clock.monotonic())
        accounts = Accounts(settings.accounts)
        # Both vendors' REST read one market in a thread, one at a time.
        rest_market, thread = self._market(), CapacityLimiter(1)
        rest = MassiveRestSimulator(rest_market, accounts, self._clock, thread=thread)
        self._rest = faulty_rest(cast("ASGIApp", rest), faults=self.faults, clock=self._clock)
        self._sockets = VendorSockets(accounts=accounts, policy=settings.stream, faults=self.faults)
        self.market = self._market()
        self._stream = MassiveStream(
            sockets=self._sockets,
            tape=self.market,
            now_ns=self._sim_clock.now_ns,
            clock=self._clock,
            pace=settings.pace,
        )
        self._tradier_streams = TradierStreams(policy=settings.tradier, faults=self.faults)
        self._tradier_rest = self._make_tradier_rest(rest_market, thread)
        self._tradier_stream = self._make_tradier_stream()
        self._app = _OnePort(
            control=Control(
                faults=self.faults,
                clock=self._clock,
                state=self.state,
                change_clock=self.change_clock,
            ),
            massive=self._rest,
            tradier=self._tradier_rest,
            tradier_stream=self._tradier_stream,
        )
        self._tasks = TaskGroup()

    def _market(self) -> Market:
        settings = self._settings
        return Market(
            clock=self._sim_clock,
            seed=settings.seed,
            extra=settings.extra,
            rate=settings.rate,
            hours=settings.hours,
        )

    def _make_tradier_rest(self, market: Market, thread: CapacityLimiter) -> FaultyRest:
        rest = TradierRest(
            market,
            token=self._settings.tradier_token,
            policy=self._settings.tradier,
            clock=self._clock,
            thread=thread,
            open_session=lambda: self._tradier_streams.mint(self._clock.monotonic()),
        )
        return faulty_tradier_rest(rest, faults=self.faults, clock=self._clock)

    def _make_tradier_stream(self) -> TradierStream:
        return TradierStream(
            streams=self._tradier_streams,
            market=self.market,
            clock=self._clock,
            pace=self._settings.pace,
            policy=self._settings.tradier,
        )

    @property
    def key(self) -> str:
        """An API key that the vendor accepts."""
        return self._settings.key

    @property
    def netloc(self) -> str:
        """`host:port`: the `feed` of the official WebSocket client."""
        return self._server.netloc

    @property
    def url(self) -> str:
        """Where REST is."""
        return f"http://{self.netloc}"

    @property
    def socket_url(self) -> str:
        """Where the WebSockets are; a cluster's path goes behind it."""
        return f"ws://{self.netloc}"

    @property
    def is_open(self) -> Callable[[int], bool] | None:
        """Tells whether its market is open at an instant; None: it keeps the exchanges' hours."""
        return _always if self._settings.hours is Hours.ALWAYS else None

    @property
    def tradier_token(self) -> str:
        """The access token that Tradier accepts."""
        return self._settings.tradier_token

    @property
    def tradier_url(self) -> str:
        """Where Tradier's REST is; `/markets/…` goes behind it."""
        return f"{self.url}{PREFIX_OF_TRADIER}/v1"

    @property
    def tradier_stream_url(self) -> str:
        """Where Tradier's HTTP stream is."""
        return f"{self.url}{PREFIX_OF_TRADIER}{STREAM_PATH}"

    @property
    def tradier_socket_url(self) -> str:
        """Where Tradier's WebSocket is."""
        return f"{self.socket_url}{PREFIX_OF_TRADIER}{STREAM_PATH}"

    def inject(self, *rules: Rule) -> None:
        """Let these things go wrong too, from now on."""
        self.faults.add(rules, now=self._clock.monotonic())

    def change_clock(self, change: ClockChange) -> None:
        """Hurry market time, or jump ahead; the stream leaves out what is jumped over."""
        if change.speed is not None:
            self._elastic.stretch(change.speed / self._settings.speed)
        if change.jump_s:
            self._elastic.jump(change.jump_s / self._settings.speed)
            self._stream.resync()
            self._tradier_stream.resync()

    def state(self) -> SimulatorState:
        """Return what the simulator has seen so far."""
        clusters = self._sockets.statistics()
        rest_paths = self._rest.requests

        def each(name: str) -> dict[str, int]:
            return {cluster.value: getattr(one, name) for cluster, one in clusters.items()}

        return SimulatorState(
            connections_open=each("connections_open"),
            connections_total=each("connections_total"),
            logins=each("logins"),
            logins_failed=each("logins_failed"),
            evictions=each("evictions"),
            slow_consumers=each("slow_consumers"),
            events=each("events"),
            topics={cluster.value: one.topics for cluster, one in clusters.items()},
            rest_requests=sum(rest_paths.values()),
            rest_paths=rest_paths,
            market_ns=self._sim_clock.now_ns(),
            speed=self._settings.speed * self._elastic.factor,
            tradier_requests=sum(self._tradier_rest.requests.values()),
            tradier_paths=self._tradier_rest.requests,
            tradier_stream=self._tradier_streams.statistics()._asdict(),
        )

    async def __aenter__(self) -> Self:
        """Listen, and let the market run."""
        settings = self._settings
        server = Server(self._app, host=settings.host, port=settings.port, websocket=self._route)
        self._server = await server.__aenter__()
        self._stream.resync()
        self._tradier_stream.resync()
        await self._tasks.__aenter__()
        self._running: list[Task[None]] = [
            self._tasks.create_task(self._stream.run(), name="onetape.simulator"),
            self._tasks.create_task(self._tradier_stream.run(), name="onetape.simulator.tradier"),
            self._tasks.create_task(self._keep_warm(), name="onetape.simulator.warm"),
        ]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the market and close everything."""
        for task in self._running:
            task.cancel()
        try:
            # Only a cancellation is the group's affair: it would wrap any other error.
            if isinstance(error, CancelledError):
                await self._tasks.__aexit__(kind, error, trace)
            else:
                await self._tasks.__aexit__(None, None, None)
        finally:
            await self._server.__aexit__(kind, error, trace)

    def _route(self, request: WSUpgradeRequest, peer: str) -> Upgrade:
        """Take an upgrade to either vendor."""
        return self._stream.route(request, peer) or self._tradier_stream.route(request, peer)

    async def _keep_warm(self) -> None:
        """Make each market day's tapes before somebody waits for them, a piece at a time."""
        while True:
            for _ in self.market.warm(self.market.now_ns()):
                await asyncio.sleep(_BREATH_S)
            await asyncio.sleep(_WARM_EVERY_S)


class _OnePort:
    """The ASGI application: the switchboard and Tradier under their prefixes, else Massive."""

    def __init__(
        self,
        *,
        control: ASGIApp,
        massive: ASGIApp,
        tradier: ASGIApp,
        tradier_stream: ASGIApp,
    ) -> None:
        self._control = control
        self._massive = massive
        self._tradier = tradier
        self._tradier_stream = tradier_stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path = cast("str", scope["path"])
        if path.startswith(f"{PREFIX}/"):
            await self._control(scope, receive, send)
        elif path.startswith(_TRADIER_PATHS):
            bare = path.removeprefix(PREFIX_OF_TRADIER)
            app = self._tradier_stream if TradierStream.is_for(bare) else self._tradier
            mount = path.removesuffix(bare)
            await app({**scope, "path": bare, "mount": mount}, receive, send)
        else:
            await self._massive(scope, receive, send)


def _always(_now_ns: int) -> bool:
    return True
