"""MarketDataHub: one consolidated, judged, immutable view of what is watched.

    polls (fixed rate, no overlap) ─┐                  ┌─▶ tick subscribers
                                    ├─▶ Consolidation ─┤   each its own queue and task
    streams (by the providers) ─────┘   flushed        └─▶ snapshot subscribers
                                        every 100 ms

What is streamed is not polled, and what fell silent is. Data that cannot be renewed stays,
marked as the last good; what was removed from the watchlist is gone. A subscriber that is
slow loses ticks of its own, the latest of each key excepted, and knows how many; nobody
else notices. Leaving the block leaves nothing running.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, Final, NamedTuple, Self, TypeVar

import msgspec

from onetape import calendar
from onetape.calendar import stocks_trade
from onetape.chain_query import ChainQuery
from onetape.clock import Clock, SystemClock
from onetape.consolidation import (
    Changed,
    Consolidation,
    ConsolidationStatistics,
    HubPolicy,
    Key,
    Kind,
    Part,
    price_key,
)
from onetape.errors import InvalidSymbol, OnetapeError, TooManyTopics
from onetape.hub_reader import Reader
from onetape.model import (
    AssetClass,
    Flow,
    IndexSnapshot,
    MarketDataSnapshot,
    MarketDataTick,
    OptionChain,
    ProviderHealth,
    Quote,
)
from onetape.own_tasks import OwnTasks
from onetape.providers.interfaces import (
    BrokerDataProvider,
    Handle,
    IndicesDataProvider,
    OptionsDataProvider,
)
from onetape.symbols import asset_class, normalize_symbol

logger: Final = logging.getLogger("onetape.hub")

T = TypeVar("T", MarketDataTick, MarketDataSnapshot)

_AROUND: Final = 25
"""Strikes on either side of the money, of a chain whose price is not known."""

POLL_DEADLINE_S: Final = 30.0
"""How long one poll may take; the next round does not wait for it."""


class Providers(NamedTuple):
    """Who answers."""

    options: OptionsDataProvider
    indices: IndicesDataProvider
    broker: BrokerDataProvider


class HubMetrics(NamedTuple):
    """A snapshot for metrics and the dashboard."""

    view: ConsolidationStatistics
    tick_subscribers: int
    snapshot_subscribers: int
    dropped: int  # ticks and snapshots that a newer one of the same key replaced unread
    failures: int  # of subscribers' callbacks
    polls: int
    poll_failures: int
    rounds: int
    late_rounds: int  # began later than planned, for the loop was busy
    last_poll_ns: int | None
    last_update_ns: int | None
    providers: tuple[ProviderHealth, ...]


class MarketDataHub:
    """The view. Use it as an async context manager; one event loop owns it.

    Args:
        providers: Who answers; whoever made them opens and closes them.
        policy: What is watched, and how often.
        clock: The time.
        sleep: How the loops wait.
        is_open: Whether anything trades at an instant; by default the calendar's word.
    """

    def __init__(
        self,
        providers: Providers,
        policy: HubPolicy | None = None,
        *,
        clock: Clock | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        is_open: Callable[[int], bool] | None = None,
    ) -> None:
        self._providers = providers
        self.policy = policy or HubPolicy()
        self._clock = clock or SystemClock()
        self._sleep = sleep
        self._view = Consolidation(self.policy)
        self._is_open = is_open or stocks_trade
        self._watched: tuple[str, ...] = ()
        self._demand: Counter[Key] = Counter()  # what handles want, and how many of them
        self._is_running = False
        self._handles: dict[Key, Handle] = {}
        self._ticks: dict[int, Reader[MarketDataTick]] = {}
        self._snapshots: dict[int, Reader[MarketDataSnapshot]] = {}
        self._tasks = OwnTasks()
        self._running: set[asyncio.Task[None]] = set()
        self._asking: set[Key] = set()
        self._dirty = asyncio.Event()
        self._centres: dict[str, float] = {}  # the price that a streamed chain is around
        self._polls = self._poll_failures = self._rounds = self._late = 0
        self._dropped = self._failures = 0  # of readers that are gone
        self._last_poll_ns: int | None = None
        self._last_update_ns: int | None = None

    def __repr__(self) -> str:
        seen = self._view.statistics()
        return f"<MarketDataHub {seen.known} of {seen.watched} parts, {len(self._ticks)} readers>"

    async def __aenter__(self) -> Self:
        """Watch, ask for everything once, answered or not, and go on from there."""
        await self._tasks.__aenter__()
        try:
            self.update_watchlist(self.policy.watchlist)
            self._rounds += 1
            await self._ask_in_order(self._due())
            self._publish()
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        self._is_running = True
        self._start(self._flushing())
        self._start(self._polling())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_running = False
        for reader in (*self._ticks.values(), *self._snapshots.values()):
            reader.close()
        for handle in self._handles.values():
            handle.close()
        self._handles.clear()
        for task in tuple(self._running):
            task.cancel()
        await self._tasks.__aexit__(kind, error, traceback)

    # what is watched

    @property
    def watchlist(self) -> tuple[str, ...]:
        """The symbols that are watched, beside the policy's indices."""
        return self._watched

    def update_watchlist(self, symbols: Iterable[str]) -> Changed:
        """Watch these symbols instead; only the difference is begun and ended.

        Raises:
            InvalidSymbol: one has no shape that we know; nothing changes.
        """
        self._watched = tuple(dict.fromkeys(map(normalize_symbol, symbols)))
        return self._rewatch()

    def watch(self, keys: Iterable[Key]) -> Handle:
        """Watch parts beside the watchlist until the handle is closed; ask for them at once.

        A chain is asked for around its underlying's price, which is watched with it.

        Raises:
            InvalidSymbol: a symbol has no shape that we know, or no such part.
            TooManyTopics: more than `max_watched` parts; nothing changes.
        """
        wanted = frozenset(_with_prices(map(_checked, keys)))
        if len(wanted.union(self._view.keys)) > self.policy.max_watched:
            raise TooManyTopics(f"all {self.policy.max_watched} places of the hub are taken")
        self._demand.update(wanted)
        self._rewatch()
        return _Demand(wanted, self._unwatch)

    def _unwatch(self, keys: frozenset[Key]) -> None:
        self._demand.subtract(keys)
        self._demand = +self._demand
        if self._is_running:
            self._rewatch()

    def _rewatch(self) -> Changed:
        """Bring what is watched in line with the watchlist and the handles."""
        changed = self._view.watch((*self._view.keys_of(self._watched), *self._demand))
        for key in changed.removed:
            if (handle := self._handles.pop(key, None)) is not None:
                handle.close()
            if key.kind is Kind.CHAIN:
                self._centres.pop(key.symbol, None)
        for key in changed.added:
            if self.policy.streaming and key.kind is not Kind.CHAIN:  # a chain needs its price
                self._stream(key)
        if changed.added and self._is_running:
            self._start(self._ask_in_order(self._due()))
        self._dirty.set()
        return changed

    # what is known

    def get_option_chain(self, underlying: str) -> OptionChain | None:
        """Return the watched part of a chain; None when `why` says so."""
        part = self._view.get(Key(Kind.CHAIN, normalize_symbol(underlying)))
        return part if isinstance(part, OptionChain) else None

    def get_index(self, symbol: str) -> IndexSnapshot | None:
        """Return an index; None when `why` says so."""
        part = self._view.get(Key(Kind.INDEX, normalize_symbol(symbol)))
        return part if isinstance(part, IndexSnapshot) else None

    def get_equity(self, symbol: str) -> Quote | None:
        """Return a stock's quote; None when `why` says so."""
        part = self._view.get(Key(Kind.EQUITY, normalize_symbol(symbol)))
        return part if isinstance(part, Quote) else None

    def get_flow(self, underlying: str) -> Flow | None:
        """Return what the tape says; None when `why` says so."""
        part = self._view.get(Key(Kind.FLOW, normalize_symbol(underlying)))
        return part if isinstance(part, Flow) else None

    def why(self, kind: Kind, symbol: str) -> str | None:
        """Return why a part is not there, or is not the newest; None when all is well."""
        return self._view.why(Key(kind, normalize_symbol(symbol)))

    def snapshot(self) -> MarketDataSnapshot:
        """Return the whole view."""
        return self._view.snapshot(self._clock.now_ns())

    def metrics(self) -> HubMetrics:
        """Count everything."""
        readers = (*self._ticks.values(), *self._snapshots.values())
        health = (self._providers.options, self._providers.indices, self._providers.broker)
        return HubMetrics(
            view=self._view.statistics(),
            tick_subscribers=len(self._ticks),
            snapshot_subscribers=len(self._snapshots),
            dropped=self._dropped + sum(reader.dropped for reader in readers),
            failures=self._failures + sum(reader.failures for reader in readers),
            polls=self._polls,
            poll_failures=self._poll_failures,
            rounds=self._rounds,
            late_rounds=self._late,
            last_poll_ns=self._last_poll_ns,
            last_update_ns=self._last_update_ns,
            providers=tuple(one for provider in health for one in provider.health()),
        )

    # who reads it

    def subscribe_tick(
        self, name: str, callback: Callable[[MarketDataTick], object] | None = None
    ) -> Reader[MarketDataTick]:
        """Read every change, at most one of each key in 100 ms.

        The name is for the log; two subscribers may have the same.
        """
        return self._subscribe(self._ticks, name, callback)

    def subscribe_snapshot(
        self, name: str, callback: Callable[[MarketDataSnapshot], object] | None = None
    ) -> Reader[MarketDataSnapshot]:
        """Read the whole view after every change, at most once in 100 ms; the latest only."""
        return self._subscribe(self._snapshots, name, callback)

    def _subscribe(
        self, readers: dict[int, Reader[T]], name: str, callback: Callable[[T], object] | None
    ) -> Reader[T]:
        def done(reader: Reader[T]) -> None:
            del readers[id(reader)]
            self._dropped += reader.dropped
            self._failures += reader.failures

        reader: Reader[T] = Reader(name, self.policy.max_pending, done)
        readers[id(reader)] = reader
        if callback is not None:
            reader.task = self._start(reader.serve(callback))
        return reader

    # private, streams

    def _stream(self, key: Key) -> None:
        """Let a provider tell of one key; what it cannot stream is polled."""

        def take(part: Part) -> None:
            self._offer(key, part)

        options, indices, broker = self._providers
        try:
            match key.kind:
                case Kind.CHAIN:
                    handle = options.subscribe_chain(key.symbol, take, self._chain_query(key))
                case Kind.INDEX:
                    handle = indices.subscribe_index(key.symbol, take)
                case Kind.EQUITY:
                    handle = broker.subscribe_equity(key.symbol, take)
                case Kind.FLOW:
                    return
        except OnetapeError as error:
            self._view.fail(key, error.code)
            return
        self._handles[key] = handle

    def _follow(self, key: Key) -> None:
        """Stream a chain around its price, and around the new one when that has moved far."""
        price, centre = self._price_of(key.symbol), self._centres.get(key.symbol)
        if price is None or key not in self._view.keys:
            return
        if centre is None or abs(price - centre) > centre * self.policy.chain_width / 2:
            if (handle := self._handles.pop(key, None)) is not None:
                handle.close()
            self._centres[key.symbol] = price
            self._stream(key)

    def _offer(self, key: Key, part: Part) -> None:
        if self._view.offer(key, part, self._clock.monotonic()):
            self._last_update_ns = self._clock.now_ns()
            self._dirty.set()

    async def _flushing(self) -> None:
        while True:
            await self._dirty.wait()
            await self._sleep(self.policy.batch_s)
            self._dirty.clear()
            self._publish()

    def _publish(self) -> None:
        now_ns = self._clock.now_ns()
        ticks = self._view.flush(now_ns)
        for reader in tuple(self._ticks.values()):
            for tick in ticks:
                reader.offer((tick.kind, tick.symbol), tick)
        if ticks and self._snapshots:
            snapshot = self._view.snapshot(now_ns)
            for reader in tuple(self._snapshots.values()):
                reader.offer(None, snapshot)

    # private, polls

    async def _polling(self) -> None:
        """Begin a round every `refresh_s`, whatever the rounds before still do."""
        every_s = self.policy.refresh_s
        next_at = self._clock.monotonic() + every_s
        while True:
            await self._sleep(max(0.0, next_at - self._clock.monotonic()))
            self._begin_round()
            now = self._clock.monotonic()
            missed = int((now - next_at) // every_s)
            self._late += missed > 0
            next_at += (missed + 1) * every_s

    def _begin_round(self) -> None:
        """Ask for what is due and not being asked for."""
        self._rounds += 1
        self._ask(self._due())
        for key in self._view.keys:
            if key.kind is Kind.CHAIN and self.policy.streaming:
                self._follow(key)

    async def _ask_in_order(self, due: Sequence[Key]) -> None:
        """Ask and wait: prices first, for chains are asked for around them."""
        for keys in (
            [key for key in due if key.kind is not Kind.CHAIN],
            [key for key in due if key.kind is Kind.CHAIN],
        ):
            if tasks := self._ask(keys):
                await asyncio.wait(tasks)

    def _due(self) -> list[Key]:
        is_open = self._is_open(self._clock.now_ns())
        due = self._view.due(self._clock.monotonic(), market_open=is_open)
        return [key for key in due if key not in self._asking]

    def _ask(self, keys: Sequence[Key]) -> list[asyncio.Task[None]]:
        works: list[Any] = []
        if indices := [key for key in keys if key.kind is Kind.INDEX]:
            works.append(self._poll(indices, self._ask_indices))
        if equities := [key for key in keys if key.kind is Kind.EQUITY]:
            works.append(self._poll(equities, self._ask_equities))
        works += [self._poll([key], self._ask_chain) for key in keys if key.kind is Kind.CHAIN]
        works += [self._poll([key], self._ask_flow) for key in keys if key.kind is Kind.FLOW]
        return [self._start(work) for work in works]

    async def _poll(
        self, keys: Sequence[Key], ask: Callable[[Sequence[Key]], Awaitable[None]]
    ) -> None:
        self._asking.update(keys)
        self._polls += 1
        try:
            async with asyncio.timeout(POLL_DEADLINE_S):
                await ask(keys)
            self._last_poll_ns = self._clock.now_ns()
        except Exception as error:
            self._poll_failures += 1
            why = error.code if isinstance(error, OnetapeError) else type(error).__name__
            if not isinstance(error, OnetapeError | TimeoutError):
                logger.exception("hub.poll_failed", extra={"keys": len(keys)})
            for key in keys:
                self._view.fail(key, why)
            self._dirty.set()
        finally:
            self._asking.difference_update(keys)

    async def _ask_indices(self, keys: Sequence[Key]) -> None:
        rows = await self._providers.indices.get_index_snapshots([key.symbol for key in keys])
        self._spread(keys, rows.by_symbol, rows.errors)

    async def _ask_equities(self, keys: Sequence[Key]) -> None:
        rows = await self._providers.broker.get_quotes([key.symbol for key in keys])
        self._spread(keys, rows.by_symbol, rows.errors)

    def _spread(self, keys: Sequence[Key], found: Any, faults: Any) -> None:
        for key in keys:
            if key.symbol in found:
                self._offer(key, found[key.symbol])
            else:
                fault = faults.get(key.symbol)
                self._view.fail(key, "not_found" if fault is None else fault.error)

    async def _ask_chain(self, keys: Sequence[Key]) -> None:
        (key,) = keys
        query = self._chain_query(key)
        self._offer(key, await self._providers.options.get_option_chain(key.symbol, query))
        if self.policy.streaming:
            self._follow(key)

    async def _ask_flow(self, keys: Sequence[Key]) -> None:
        (key,) = keys
        self._offer(key, await self._providers.options.get_flow(key.symbol))

    def _chain_query(self, key: Key) -> ChainQuery:
        """Bound a chain to what is looked at: soon, and near the money."""
        today = calendar.new_york_date(self._clock.now_ns())
        query = ChainQuery(
            first_expiration=today,
            last_expiration=today + timedelta(days=self.policy.chain_days),
            around=_AROUND,
        )
        price = self._price_of(key.symbol)
        if price is None:
            return query
        width = price * self.policy.chain_width
        return msgspec.structs.replace(
            query,
            around=None,
            min_strike=round(price - width, 2),
            max_strike=round(price + width, 2),
        )

    def _price_of(self, symbol: str) -> float | None:
        quote = self.get_equity(symbol)
        index = self.get_index(symbol)
        if index is not None:
            quote = index.quote
        return None if quote is None else quote.price

    # private, tasks

    def _start(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = self._tasks.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task


class _Demand:
    """What one handle of `watch` wants."""

    __slots__ = ("_is_closed", "_keys", "_release")

    def __init__(self, keys: frozenset[Key], release: Callable[[frozenset[Key]], None]) -> None:
        self._is_closed = False
        self._keys = keys
        self._release = release

    def close(self) -> None:
        """Want it no more."""
        if not self._is_closed:
            self._is_closed = True
            self._release(self._keys)


def _checked(key: Key) -> Key:
    symbol = normalize_symbol(key.symbol)
    is_price = key.kind in {Kind.EQUITY, Kind.INDEX}
    if asset_class(symbol) is AssetClass.OPTIONS or (
        is_price and price_key(symbol) != (key.kind, symbol)
    ):
        raise InvalidSymbol(f"{symbol} has no {key.kind}")
    return Key(key.kind, symbol)


def _with_prices(keys: Iterable[Key]) -> Iterator[Key]:
    for key in keys:
        yield key
        if key.kind is Kind.CHAIN:
            yield price_key(key.symbol)
