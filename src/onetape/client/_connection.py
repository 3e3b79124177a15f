"""The client put together, and what runs between `connect` and `disconnect`.

    new ── open ──▶ opening ── a token, REST, sockets on their way ──▶ open
                       │ the gateway refuses, or is not there            │ close, or
                       └────────────────────▶ spent ◀────────────────────┘ a fault of ours

A connection is opened once; a provider that connects again makes another. One task holds
every part's block, so that `open` and `close` may be called from different tasks, as a
notebook's cells do; ended, it leaves nothing behind.
"""

import asyncio
import contextlib
from collections.abc import (
    AsyncGenerator,
    Callable,
    Generator,
    Iterable,
    Mapping,
    Sequence,
)
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from onetape.client._cache import ClientCache
from onetape.client._endpoint import (
    Denied,
    EndpointDown,
    EndpointHealth,
    EndpointUp,
    Event,
    Evicted,
    StreamNotice,
    TopicFailed,
    TopicLive,
    UpstreamDown,
    UpstreamUp,
)
from onetape.client._health import Health, Status, judge
from onetape.client._judging import Judge
from onetape.client._market import MarketQuestions
from onetape.client._notices import WINDOW_NS, Key, Kind, TransportPolicy
from onetape.client._polling import Fetches, LiveTransport
from onetape.client._queries import DISCONNECTED, Queries
from onetape.client._rest import (
    CLIENT_POLICY,
    PEER,
    GatewayREST,
    GatewayStatistics,
    root_of,
)
from onetape.client._streams import Streams
from onetape.client._subscription import Subscription
from onetape.client._tokens import Tokens, TokenStatistics
from onetape.client._watchlist import Watchlist
from onetape.clock import Clock
from onetape.errors import NotConnected
from onetape.massive.questions import Asker, MassiveQuestions
from onetape.massive.rest import MassiveREST, RestPolicy, RestResponse
from onetape.massive.wire_rest import Params
from onetape.model import AssetClass, Bar, Quote, Topic, Trade
from onetape.secret import Secret
from onetape.timeframes import BarLength, Timespan

T = TypeVar("T", Quote, Trade, Bar)

SETTLE_S: Final = 2.0
"""How long `open` waits for the sockets at most; they are dialled on regardless."""

_LENGTHS: Final = {
    "second": BarLength(1, Timespan.SECOND),
    "minute": BarLength(1, Timespan.MINUTE),
}
OnEvents = Callable[[AssetClass, list[Event]], None]
OnState = Callable[[StreamNotice], None]


class TokensPart(Protocol):
    """What stands in for `Tokens`."""

    @property
    def generation(self) -> int: ...
    async def __aenter__(self) -> Any: ...
    async def __aexit__(self, kind: Any, error: Any, traceback: Any, /) -> Any: ...
    async def ensure_token(self) -> str: ...
    async def refresh_token(self, *, generation: int | None = None) -> str: ...
    def current(self) -> str: ...
    async def run(self) -> None: ...
    def statistics(self) -> TokenStatistics: ...


class RestPart(Asker, Protocol):
    """What stands in for `GatewayREST`."""

    async def __aenter__(self) -> Any: ...
    async def __aexit__(self, kind: Any, error: Any, traceback: Any, /) -> Any: ...
    def statistics(self) -> GatewayStatistics: ...


class StreamsPart(Protocol):
    """What stands in for `Streams`."""

    def want(self, topics: frozenset[Topic]) -> None: ...
    def connect(self, assets: Iterable[AssetClass] | None = None) -> None: ...
    def renew(self) -> None: ...
    async def run(self) -> None: ...
    def health(self) -> Mapping[AssetClass, EndpointHealth]: ...


class Parts(NamedTuple):
    """Parts to use in place of our own: for tests, and for unusual wiring."""

    tokens: TokensPart | None = None
    rest: RestPart | None = None
    cache: ClientCache | None = None
    streams: Callable[[OnEvents, OnState], StreamsPart] | None = None
    transport: TransportPolicy | None = None
    policy: RestPolicy = CLIENT_POLICY


class Connection:
    """Every part once, and their one owner."""

    def __init__(  # noqa: PLR0913 - called once, by the provider; all by name
        self,
        *,
        url: str,
        credential: Secret,
        streams: frozenset[AssetClass],
        cache_dir: Path | None,
        cache_bytes: int,
        clock: Clock,
        parts: Parts,
    ) -> None:
        self.url = root_of(url)
        self._clock = clock
        self.judge = Judge(clock)
        self._mint = _mint(self.url, credential, clock, parts.policy)
        self.tokens = parts.tokens or Tokens(
            rest=self._mint, clock=clock, on_renewed=self._renew_streams
        )
        self.rest = parts.rest or GatewayREST(
            url=self.url, tokens=self.tokens, clock=clock, policy=parts.policy
        )
        self.cache = parts.cache or self._make_cache(cache_dir, cache_bytes)
        self._stop = asyncio.Event()
        asking = _Asking(self.rest, self._stop.is_set)
        self._market = MarketQuestions(asking)
        self._questions = MassiveQuestions(asking, clock)
        self._queries = Queries(
            market=self._market,
            questions=self._questions,
            judge=self.judge,
            cache=self.cache,
            clock=clock,
            is_over=self._stop.is_set,
        )
        self._streamed = streams
        self.transport = LiveTransport(
            streamed=streams,
            fetches=Fetches(self._market.quotes, self._trades_since, self._bars_since),
            want=self._want,
            clock=clock,
            policy=parts.transport,
        )
        make = parts.streams or self._our_streams
        self.streams = make(self.transport.on_events, self._hear)
        self._begin_watching()
        self._answered: set[AssetClass] = set()
        self._settled = asyncio.Event()
        self._turn = asyncio.Lock()
        self._life: asyncio.Task[None] | None = None
        self._is_open = False

    def _make_cache(self, directory: Path | None, max_bytes: int) -> ClientCache:
        return ClientCache(
            clock=self._clock,
            max_bytes=max_bytes,
            directory=None if directory is None else directory / _folder(self.url),
            simulated=lambda: self.health().simulated,
        )

    def _begin_watching(self) -> None:
        self._watchlist = Watchlist()
        self._watched: dict[str, Quote] = {}  # the last quote of each, for who follows later
        self._keeper: Subscription[Quote] | None = None
        self._followers: dict[Subscription[Quote], float | None] = {}  # how often each is polled
        self._changed = asyncio.Event()

    # life

    @property
    def is_open(self) -> bool:
        """Whether it is connected."""
        return self._is_open

    @property
    def queries(self) -> Queries:
        """The questions.

        Raises:
            NotConnected: outside of `open` and `close`.
        """
        if not self.is_open:
            raise NotConnected("not connected: use `async with`, or call connect first")
        return self._queries

    async def open(self) -> bool:
        """Connect; connected already, do nothing. Cancelled, it leaves nothing behind.

        Returns:
            False when it was connected once, or failed to be: then make another.
        """
        async with self._turn:
            if self._life is not None:
                return self._is_open
            loop = asyncio.get_running_loop()
            ready: asyncio.Future[None] = loop.create_future()
            # The one task without a parent: `open` and `close` are its owners.
            life = self._life = loop.create_task(self._live(ready))
            try:
                await ready
            except BaseException:
                life.cancel()
                await asyncio.wait([life])
                raise
            return True

    async def close(self) -> None:
        """Disconnect; return when everything is over. Idempotent.

        An async callback of ours may call this, and is cancelled by it like any other.
        """
        async with self._turn:
            life = self._life
            if life is None:
                return
            self._is_open = False
            self._stop.set()
            # Not `await life`: the callback that waits here would be cancelled through it.
            await asyncio.wait([life])
            if not life.cancelled():
                life.result()

    async def _live(self, ready: "asyncio.Future[None]") -> None:
        try:
            async with contextlib.AsyncExitStack() as stack:
                await stack.enter_async_context(self._mint)
                await stack.enter_async_context(self.tokens)
                await stack.enter_async_context(self.rest)
                await self.tokens.ensure_token()
                await stack.enter_async_context(self.cache)
                await self._run(ready)
        except Exception as error:
            if ready.cancelled():  # nobody waits for it any more, and nobody would see it
                return
            if ready.done():
                raise
            ready.set_exception(error)
        finally:
            self._is_open = False
            self._stop.set()
            ready.cancel()  # no-op when done

    async def _run(self, ready: "asyncio.Future[None]") -> None:
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(work)
                for work in (self.tokens.run(), self.streams.run(), self._keep_watch())
            ]
            async with self.transport:
                self.streams.connect()
                await self._first_answers()
                if not ready.cancelled():
                    self._is_open = True
                    ready.set_result(None)
                    await self._stop.wait()
            for task in running:
                task.cancel()

    async def _first_answers(self) -> None:
        """Wait until each socket is up or known not to be; not for ever."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_S if self._streamed else 0):
                await self._settled.wait()

    # what the parts say to each other

    def _our_streams(self, on_events: OnEvents, on_state: OnState) -> StreamsPart:
        return Streams(
            url=self.url,
            assets=self._streamed,
            tokens=self.tokens,
            clock=self._clock,
            on_events=on_events,
            on_state=on_state,
        )

    def _renew_streams(self) -> None:
        self.streams.renew()

    def _want(self, topics: frozenset[Topic]) -> None:
        self.streams.want(topics)

    def _hear(self, notice: StreamNotice) -> None:
        transport = self.transport
        match notice:
            case EndpointUp(asset=asset):
                transport.endpoint_up(asset)
                self._settle(asset)
            case EndpointDown(asset=asset, since_ns=since_ns, reason=reason):
                transport.endpoint_down(asset, since_ns, reason)
                self._settle(asset)
            case UpstreamDown(asset=asset, since_ns=since_ns, reason=reason):
                transport.upstream_down(asset, since_ns, reason)
            case UpstreamUp(asset=asset):
                transport.upstream_up(asset)
            case TopicLive(topics=topics):
                transport.topics_live(topics)
            case TopicFailed(topics=topics, reason=reason):
                transport.topics_failed(topics, reason)
            case Denied() | Evicted():
                pass  # `EndpointDown` and `UpstreamDown` came before

    def _settle(self, asset: AssetClass) -> None:
        self._answered.add(asset)
        if self._answered >= self._streamed:
            self._settled.set()

    async def _trades_since(self, symbol: str, since_ns: int, /) -> Sequence[Trade]:
        return await self._questions.trades(symbol, start=since_ns)

    async def _bars_since(self, symbol: str, timespan: str, since_ns: int, /) -> Sequence[Bar]:
        end_ns = self._clock.now_ns() + max(WINDOW_NS.values())
        return await self._questions.bars(symbol, _LENGTHS[timespan], since_ns, end_ns)

    # live

    def subscribe(
        self, subscription: Subscription[T], *, poll_interval_s: float | None = None
    ) -> Subscription[T]:
        """Feed a subscription until it is closed.

        Raises:
            NotConnected: outside of `open` and `close`.
            InvalidRequest: there is no such data.
        """
        return self.transport.carry(subscription, poll_interval_s=poll_interval_s)

    def follow(
        self, subscription: Subscription[Quote], *, poll_interval_s: float | None = None
    ) -> Subscription[Quote]:
        """Feed a subscription the quotes of the watchlist, as it is and as it becomes."""
        self.transport.carry(subscription)
        self._followers = {**self._open_followers(), subscription: poll_interval_s}
        keys = _quotes_of(self._watchlist.symbols)
        self.transport.change(subscription, keys, poll_interval_s=poll_interval_s)
        known = [self._watched[s] for s in self._watchlist.symbols if s in self._watched]
        if known:
            subscription.offer(known)
        return subscription

    def watch(self, symbols: Iterable[str], *, at_once: bool) -> None:
        """Watch these in place of those watched now.

        Raises:
            NotConnected: outside of `open` and `close`.
            InvalidRequest: there are no quotes of one of them; nothing changes.
        """
        if not self.is_open:
            raise NotConnected("not connected: use `async with`, or call connect first")
        wanted = tuple(symbols)
        for key in _quotes_of(wanted):
            _ = key.topic  # raises for what has no quotes
        now = self._clock.monotonic()
        self._watchlist.update(wanted, now)
        if at_once:
            self._settle_watch(float("inf"))
        self._changed.set()

    async def _keep_watch(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            while (due := self._watchlist.due_at) is not None:
                await asyncio.sleep(max(0.0, due - self._clock.monotonic()))
                self._settle_watch(self._clock.monotonic())

    def _settle_watch(self, now: float) -> None:
        difference = self._watchlist.settle(now)
        if difference is None or self._stop.is_set():
            return
        for symbol in difference.removed:
            self._watched.pop(symbol, None)
        keys = _quotes_of(self._watchlist.symbols)
        if self._keeper is None:
            self._keeper = self.transport.carry(Subscription((), callback=self._keep))
        self._followers = self._open_followers()
        for subscription, interval_s in ((self._keeper, None), *self._followers.items()):
            if not subscription.is_closed:  # by the callback of one before
                self.transport.change(subscription, keys, poll_interval_s=interval_s)

    def _open_followers(self) -> dict[Subscription[Quote], float | None]:
        return {one: each for one, each in self._followers.items() if not one.is_closed}

    def _keep(self, quote: Quote) -> None:
        self._watched[quote.symbol] = quote

    # how it goes

    @property
    def status(self) -> str:
        """One line."""
        return f"{self.url} {self.health().status if self.is_open else Status.DISCONNECTED}"

    def health(self) -> Health:
        """Look at every part."""
        rest = self.rest.statistics()
        return judge(
            is_connected=self.is_open,
            rest=rest._replace(simulated=rest.simulated or self._market.simulated),
            streams=self.streams.health(),
            token=self.tokens.statistics(),
            cache=self.cache.statistics(),
            transport=self.transport.statistics(),
        )


def _mint(url: str, credential: Secret, clock: Clock, policy: RestPolicy) -> MassiveREST:
    """Make the edge where tokens come from; it alone shows the credential."""
    return MassiveREST(
        base_url=url,
        headers=lambda: {"Authorization": f"Bearer {credential.reveal()}"},
        clock=clock,
        policy=policy,
        peer=PEER,
    )


class _Asking:
    """Asks while connected. What the end cuts off is `NotConnected`, whatever broke first."""

    def __init__(self, rest: RestPart, is_over: Callable[[], bool]) -> None:
        self._rest = rest
        self._is_over = is_over

    async def get(self, path: str, params: Params | None = None) -> RestResponse:
        with self._while_connected():
            return await self._rest.get(path, params)

    async def pages(
        self, path: str, params: Params | None = None, *, max_pages: int | None = None
    ) -> AsyncGenerator[RestResponse]:
        async with contextlib.aclosing(
            self._rest.pages(path, params, max_pages=max_pages)
        ) as pages:
            with self._while_connected():
                async for page in pages:
                    yield page

    @contextlib.contextmanager
    def _while_connected(self) -> Generator[None]:
        if self._is_over():
            raise NotConnected(DISCONNECTED)
        try:
            yield
        except Exception:
            if not self._is_over():
                raise
            raise NotConnected(DISCONNECTED) from None


def _folder(url: str) -> str:
    """What one gateway told is not for another's clients."""
    return "".join(one if one.isalnum() or one in ".-" else "_" for one in url.partition("://")[2])


def _quotes_of(symbols: Iterable[str]) -> tuple[Key, ...]:
    return tuple(Key(Kind.QUOTE, symbol) for symbol in symbols)
