"""The transport's edge: a timer, the REST requests, and the readers of each key.

    streams ──▶ on_events, endpoint_up, …  ┐                ┌──▶ want (the streams)
                                           ├─▶ Transport ──▶├──▶ readers
    REST  ◀── quotes, trades, bars ◀───────┘                └──▶ polls, one task each

It does what the machine says and reports what happened; whatever an answer is, the
machine decides whether it still counts. Every task belongs to the `async with` block.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, NamedTuple, Protocol, Self, TypeVar

from onetape.calendar import Session, session_of
from onetape.client._notices import (
    TIMESPANS,
    Change,
    Deliver,
    Event,
    Key,
    Kind,
    Output,
    Poll,
    Request,
    State,
    Streamed,
    Tagged,
    TransportPolicy,
    TransportStatistics,
    Want,
)
from onetape.client._subscription import Subscription
from onetape.client._transport import Transport
from onetape.clock import Clock
from onetape.errors import (
    InvalidRequest,
    NotConnected,
    NotFound,
    OnetapeError,
    StreamClosed,
    UpstreamTimeout,
)
from onetape.model import AssetClass, Bar, Quote, Topic, Trade
from onetape.own_tasks import OwnTasks
from onetape.provenance import Source
from onetape.rows import Rows

logger: Final = logging.getLogger("onetape.client.polling")

T = TypeVar("T", Quote, Trade, Bar)

_AT_ONCE: Final = 8  # requests for trades and bars, one symbol each
_DEADLINE_S: Final = 30.0  # for an edge below that never ends
_MARKET_S: Final = 30.0  # the calendar is looked at that often at least


class FetchQuotes(Protocol):
    """One request for many symbols; what has no quote is in `errors`."""

    def __call__(self, symbols: Sequence[str], /) -> Awaitable[Rows[Quote]]:
        """Fetch them."""
        ...


class FetchTrades(Protocol):
    """All trades of one symbol from an instant on, included."""

    def __call__(self, symbol: str, since_ns: int, /) -> Awaitable[Sequence[Trade]]:
        """Fetch them."""
        ...


class FetchBars(Protocol):
    """All bars of one symbol from an instant on, included; `timespan` is second or minute."""

    def __call__(self, symbol: str, timespan: str, since_ns: int, /) -> Awaitable[Sequence[Bar]]:
        """Fetch them."""
        ...


class Fetches(NamedTuple):
    """How REST is asked."""

    quotes: FetchQuotes
    trades: FetchTrades
    bars: FetchBars


def market_is_open(now_ns: int) -> bool:
    """Return whether anything trades, before and after hours included; if unknown, True."""
    try:
        return session_of(now_ns) is not Session.CLOSED
    except InvalidRequest:
        return True


class _Readers:
    """Who reads a key. The tuples are replaced, never changed: readers come and go meanwhile."""

    __slots__ = ("delivered", "keys", "subscriptions")

    def __init__(self, key: Key) -> None:
        self.delivered = 0
        self.keys = (key,)  # shared by all subscriptions to it alone
        self.subscriptions: tuple[Subscription[Any], ...] = ()


class LiveTransport:
    """Live data of any key, from the best source there is, to any number of readers.

    Use it as an async context manager; all calls are from the event loop's thread.

    Args:
        streamed: The asset classes that the plan streams.
        fetches: How REST is asked.
        want: Called with all topics that the streams shall carry, whenever they change.
        clock: The time.
        policy: Intervals and bounds.
        is_open: Whether the market trades at an instant.
        on_change: Called with every change of source and every gap, whoever reads the key.
    """

    def __init__(  # noqa: PLR0913 - called once, by the composition root; all by name
        self,
        *,
        streamed: Collection[AssetClass],
        fetches: Fetches,
        want: Callable[[frozenset[Topic]], None],
        clock: Clock,
        policy: TransportPolicy | None = None,
        is_open: Callable[[int], bool] = market_is_open,
        on_change: Callable[[Change], None] | None = None,
    ) -> None:
        self._transport = Transport(policy, streamed=streamed)
        self._fetches = fetches
        self._want = want
        self._clock = clock
        self._is_open = is_open
        self._on_change = on_change
        self._readers: dict[Key, _Readers] = {}
        self._keyless: set[Subscription[Any]] = set()
        self._group = OwnTasks()
        self._tasks: set[asyncio.Task[None]] = set()
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._poke = asyncio.Event()  # the timer has to look again
        self._armed_at: float | None = None
        self._open = False
        self._draining = False
        self._ailing = False  # a callback of our owner's raised, and that was logged

    def __repr__(self) -> str:
        return f"<LiveTransport {self._transport!r}>"

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        self._open = True
        self._start(self._run())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End every subscription and every task; return when they are over."""
        self._open = False
        for subscription in self._subscriptions():
            subscription.end()
        for task in tuple(self._tasks):
            task.cancel()
        await self._group.__aexit__(kind, error, traceback)

    # readers

    def carry(
        self, subscription: Subscription[T], *, poll_interval_s: float | None = None
    ) -> Subscription[T]:
        """Feed a subscription until it is closed.

        Raises:
            InvalidRequest: there is no such data for one of its symbols; nothing is carried.
            NotConnected: the block is not open.
        """
        if not self._open:
            raise NotConnected("connect first")
        keys = subscription.keys
        for key in keys:
            _ = key.topic  # raises before anything was opened
        for key in keys:
            self._join(key, subscription, poll_interval_s)
        self._bind(subscription, keys)
        self.pump()
        return subscription

    def change(
        self,
        subscription: Subscription[T],
        keys: Iterable[Key],
        *,
        poll_interval_s: float | None = None,
    ) -> None:
        """Let a subscription read these keys from now on; those it keeps are not disturbed.

        Raises:
            InvalidRequest: there is no such data for one of them; nothing is changed.
            StreamClosed: the subscription is closed.
        """
        if subscription.is_closed:
            raise StreamClosed("the subscription is closed")
        wanted = tuple(dict.fromkeys(keys))
        before = frozenset(subscription.keys)
        for key in wanted:
            _ = key.topic
        for key in wanted:
            if key not in before:
                self._join(key, subscription, poll_interval_s)
        subscription.unbind()
        for key in before.difference(wanted):
            self._leave(key, subscription)
        self._bind(subscription, wanted)
        self.pump()

    def release(self, subscription: Subscription[Any]) -> None:
        """Feed it no more; for `Subscription`, which calls it once."""
        self._keyless.discard(subscription)
        for key in subscription.keys:
            self._leave(key, subscription)
        if self._open:
            self.pump()

    def source_of(self, key: Key) -> Source | None:
        """Return where the key's events come from now; None: from nowhere."""
        return self._transport.source_of(key)

    def delivered(self, keys: Sequence[Key]) -> int:
        """Return how many events of the keys were handed over since they are carried."""
        if len(keys) == 1:
            return self._readers[keys[0]].delivered
        return sum(self._readers[key].delivered for key in keys)

    def states(self) -> Mapping[Key, State]:
        """Where each key is: a copy. Each key is there once, however many read it."""
        return self._transport.states()

    def statistics(self) -> TransportStatistics:
        """Count everything."""
        return self._transport.statistics()

    # what the streams tell

    def on_events(self, asset: AssetClass, events: Sequence[Event]) -> None:
        """Take the events of one frame. The hot path."""
        transport = self._transport
        transport.events(asset, events, self._clock.monotonic(), self._clock.now_ns())
        if transport.has_output:
            self._drain()
        self._arm()

    def endpoint_up(self, asset: AssetClass) -> None:
        """The socket is up and logged in."""
        self._transport.endpoint_up(asset, *self._now())
        self.pump()

    def endpoint_down(self, asset: AssetClass, since_ns: int, detail: str = "") -> None:
        """The socket is gone; nothing came since."""
        now, now_ns = self._now()
        self._transport.endpoint_down(asset, now, since_ns, now_ns, detail)
        self.pump()

    def upstream_up(self, asset: AssetClass) -> None:
        """The gateway has its vendor back."""
        self._transport.upstream_up(asset, *self._now())
        self.pump()

    def upstream_down(self, asset: AssetClass, since_ns: int, detail: str = "") -> None:
        """The gateway lost the vendor; nothing came since."""
        now, now_ns = self._now()
        self._transport.upstream_down(asset, now, since_ns, now_ns, detail)
        self.pump()

    def topics_live(self, topics: Iterable[Topic]) -> None:
        """The stream carries these."""
        self._transport.topics_live(topics, *self._now())
        self.pump()

    def topics_failed(self, topics: Iterable[Topic], detail: str = "") -> None:
        """The stream does not carry these."""
        self._transport.topics_failed(topics, *self._now(), detail)
        self.pump()

    def volatility(self, symbol: str, atr_percent: float | None) -> None:
        """Say how much a symbol moves: its average true range, in percent of its price."""
        self._transport.volatility(symbol, atr_percent)

    def pump(self) -> None:
        """Do what is due, do what the machine says, and let the timer look again."""
        now, now_ns = self._now()
        self._transport.market(now, is_open=self._is_open(now_ns))
        self._transport.tick(now, now_ns)
        self._drain()
        self._arm()

    # private; doing

    def _drain(self) -> None:
        if self._draining:  # a reader called us; the loop below does what it caused
            return
        self._draining = True
        try:
            while self._transport.has_output:
                for output in self._transport.drain():
                    self._perform(output)
        finally:
            self._draining = False

    def _perform(self, output: Output) -> None:
        match output:
            case Streamed(lines=lines, events=events):
                self._spread(lines, events)
            case Deliver():
                self._hand_over(output)
            case Poll():
                self._begin(output)
            case Want():
                self._call(self._want, output.topics)
            case change:
                readers = self._readers.get(change.key)
                for subscription in () if readers is None else readers.subscriptions:
                    subscription.tell(change)
                if self._on_change is not None:
                    self._call(self._on_change, change)

    def _spread(self, lines: Sequence[Tagged], events: Sequence[Event]) -> None:
        """Give each subscription its events of one frame at once. The hot path."""
        batches: dict[Subscription[Any], list[Event]] = {}
        before: Subscription[Any] | None = None  # one after the other is mostly the same
        batch: list[Event] = []
        for line, event in zip(lines, events, strict=True):
            for subscription in line.tag.subscriptions:
                if subscription is not before:
                    before = subscription
                    batch = batches.setdefault(subscription, [])
                batch.append(event)
        for subscription, batch in batches.items():
            subscription.offer(batch)
        for line in lines:
            line.tag.delivered += 1

    def _hand_over(self, output: Deliver) -> None:
        readers = self._readers.get(output.key)
        if readers is not None:
            for subscription in readers.subscriptions:
                subscription.offer(output.events)
            readers.delivered += len(output.events)

    def _call(self, callback: Callable[[Any], None], argument: object) -> None:
        try:
            callback(argument)
        except Exception:  # a fault there must not cost every reader its data
            if not self._ailing:
                self._ailing = True
                logger.exception("transport.callback_failed")

    # private; readers

    def _join(
        self, key: Key, subscription: Subscription[Any], poll_interval_s: float | None
    ) -> None:
        self._transport.open(key, *self._now(), poll_interval_s=poll_interval_s)
        readers = self._readers.setdefault(key, _Readers(key))
        self._transport.tag(key, readers)
        readers.subscriptions = (*readers.subscriptions, subscription)

    def _leave(self, key: Key, subscription: Subscription[Any]) -> None:
        readers = self._readers[key]
        readers.subscriptions = tuple(
            one for one in readers.subscriptions if one is not subscription
        )
        if not readers.subscriptions:
            del self._readers[key]
        self._transport.close(key)

    def _bind(self, subscription: Subscription[Any], keys: Sequence[Key]) -> None:
        shared = [self._readers[key].keys for key in keys]
        one = shared[0] if len(shared) == 1 else tuple(key for keys in shared for key in keys)
        (self._keyless.discard if keys else self._keyless.add)(subscription)
        subscription.bind(self, one, self._start)

    def _subscriptions(self) -> set[Subscription[Any]]:
        reading = {one for readers in self._readers.values() for one in readers.subscriptions}
        return reading | self._keyless

    # private; polls

    def _begin(self, poll: Poll) -> None:
        if poll.kind is Kind.QUOTE:
            self._start(self._poll_quotes(poll))
            return
        for request in poll.requests:
            self._start(self._poll_one(poll, request))

    async def _poll_quotes(self, poll: Poll) -> None:
        keys = [request.key for request in poll.requests]
        try:
            async with asyncio.timeout(_DEADLINE_S):
                rows = await self._fetches.quotes([key.symbol for key in keys])
        except Exception as error:  # noqa: BLE001 - whatever it is, the machine asks again
            self._failed(poll, keys, _why(error))
            return
        quotes = rows.by_symbol
        now, now_ns = self._now()
        for key in keys:
            quote = quotes.get(key.symbol)
            if quote is not None:
                self._transport.polled(poll.batch, key, [quote], now, now_ns)
            else:
                fault = rows.errors.get(key.symbol)
                why = NotFound.code if fault is None else fault.error
                self._transport.poll_failed(poll.batch, key, now, now_ns, why)
        self.pump()

    async def _poll_one(self, poll: Poll, request: Request) -> None:
        key, since_ns = request
        try:
            async with self._turns, asyncio.timeout(_DEADLINE_S):
                events = await self._ask(key, since_ns or 0)
        except Exception as error:  # noqa: BLE001 - whatever it is, the machine asks again
            self._failed(poll, [key], _why(error))
            return
        self._transport.polled(poll.batch, key, events, *self._now())
        self.pump()

    def _ask(self, key: Key, since_ns: int) -> Awaitable[Sequence[Event]]:
        if key.kind is Kind.TRADE:
            return self._fetches.trades(key.symbol, since_ns)
        return self._fetches.bars(key.symbol, TIMESPANS[key.kind], since_ns)

    def _failed(self, poll: Poll, keys: Iterable[Key], why: str) -> None:
        now, now_ns = self._now()
        for key in keys:
            self._transport.poll_failed(poll.batch, key, now, now_ns, why)
        self.pump()

    # private; tasks and time

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _run(self) -> None:
        while True:
            self._poke.clear()
            self.pump()
            now = self._clock.monotonic()
            wake_at = now + _MARKET_S if self._armed_at is None else self._armed_at
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, min(wake_at - now, _MARKET_S))):
                    await self._poke.wait()

    def _arm(self) -> None:
        wake_at = self._transport.wake_at()
        if wake_at != self._armed_at:
            self._armed_at = wake_at
            self._poke.set()

    def _now(self) -> tuple[float, int]:
        return self._clock.monotonic(), self._clock.now_ns()


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return UpstreamTimeout.code
    return error.code if isinstance(error, OnetapeError) else type(error).__name__
