"""One vendor as its providers see it: asked once, kept a while, timed, and its failures named.

    kept   a fresh answer ──▶ at once
             └─ none ──▶ one question for all who want it ──▶ kept as long as it is true
    ask    a question ──▶ an answer, or one error of the provider's own kind
    follow what is shown live, for as long as somebody looks (`following`)

Every provider has one of its own, and with it the tasks that it starts. Failures are
never kept.
"""

import logging
from collections.abc import Awaitable, Callable, Hashable
from types import TracebackType
from typing import Annotated, Any, Final, NamedTuple, Self, TypeVar, cast

import msgspec

from onetape.clock import Clock
from onetape.core.cache import Cache, CacheStatistics, Freshness
from onetape.errors import DataProviderError, NotConnected, OnetapeError
from onetape.flights import Flights, FlightsStatistics
from onetape.model import OptionChain, ProviderHealth
from onetape.own_tasks import OwnTasks
from onetape.providers.following import Cadence, Follower, View
from onetape.providers.health import HealthMeter, as_failure, is_failure
from onetape.providers.interfaces import Handle, LiveFeed

T = TypeVar("T")

Seconds = Annotated[float, msgspec.Meta(ge=0)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
Count = Annotated[int, msgspec.Meta(ge=0)]

CONTRACT_BYTES: Final = 1_600
"""What a contract of a chain takes in memory, measured."""
BAR_BYTES: Final = 300
_ENTRY_BYTES: Final = 512

logger: Final = logging.getLogger("onetape.providers")


class ProviderPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long each kind of answer is kept (R210), and how often a subscription tells.

    All `_s` are seconds; what is kept 0 s is asked for anew, but once for all who ask
    at the same time. Quotes of stocks are never kept.
    """

    chain_s: Annotated[float, msgspec.Meta(ge=0, le=30)] = 10.0
    chain_closed_s: Seconds = 60.0  # while the market is closed
    snapshot_s: Seconds = 5.0  # of an index or of one contract
    indicators_s: Seconds = 60.0
    bars_s: Seconds = 60.0
    expirations_s: Seconds = 300.0
    flow_s: Seconds = 60.0
    chain_poll_s: Positive = 10.0  # between polls of a subscribed chain that is not streamed
    index_poll_s: Positive = 5.0
    equity_poll_s: Positive = 4.0
    chain_live_s: Positive = 20.0  # the same while it is streamed: for Greeks and open interest
    streamed_s: Positive = 60.0  # of an index or a stock that is
    chain_pace_s: Seconds = 0.1  # a subscriber is told of a chain at most that often
    streamed_contracts: Count = 250  # of one chain, those nearest to the money
    cache_bytes: Count = 32 << 20
    enable_logging: bool = True  # of every answer; failures are logged whatever it says


class VendorStatistics(NamedTuple):
    """A snapshot for metrics."""

    cache: CacheStatistics
    flights: FlightsStatistics
    followed: int  # open subscriptions
    reader_failures: int  # callbacks that raised


class Vendor:
    """What a provider of one vendor is made on. Use it as an async context manager.

    Args:
        name: What the vendor is called in health, in errors and in the log.
        failure: What its failures are.
        clock: The time.
        policy: How long what is kept.
    """

    def __init__(
        self, name: str, *, failure: type[DataProviderError], clock: Clock, policy: ProviderPolicy
    ) -> None:
        self.name = name
        self._failure = failure
        self._clock = clock
        self._policy = policy
        self._meter = HealthMeter(name)
        self._cache = Cache[object](policy.cache_bytes)
        self._flights = Flights[Hashable, object]()
        self._tasks = OwnTasks()
        self._followers: set[Follower[Any]] = set()
        self._reader_failures = 0  # of those that are closed
        self._is_open = False

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        await self._flights.__aenter__()
        self._is_open = True
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_open = False
        for follower in tuple(self._followers):
            follower.close()
        try:
            await self._flights.__aexit__(kind, error, traceback)
        finally:
            await self._tasks.__aexit__(kind, error, traceback)

    # answers

    async def ask(self, what: str, question: Awaitable[T]) -> T:
        """Wait for an answer; time it, count it, and name what goes wrong. Cancel-safe.

        Raises:
            DataProviderError: of the vendor's kind, with the cause in it; or what was
                not found.
            RequestError: the caller's mistake, as it came.
        """
        started = self._clock.monotonic()
        try:
            answer = await question
        except OnetapeError as error:
            if isinstance(error, DataProviderError) and is_failure(error):
                raise  # counted where it was made
            self._note(what, error, started)
            if is_failure(error):
                raise as_failure(error, self._failure, self.name) from error
            raise
        self._note(what, None, started)
        return answer

    async def kept(
        self,
        key: str,
        fetch: Callable[[], Awaitable[T]],
        *,
        ttl_s: float,
        size: Callable[[T], int] | None = None,
        worth_keeping: Callable[[T], bool] | None = None,
    ) -> T:
        """Return the fresh answer, fetching it once for all who want it. Cancel-safe.

        Args:
            key: What it is, `kind:symbol:…`; one key has one type of answer.
            fetch: What to do without one.
            ttl_s: How long it is fresh, in seconds; 0 for never.
            size: How many bytes it takes; without it, little.
            worth_keeping: Whether this very answer is.

        Raises:
            NotConnected: outside of the `async with` block.
        """
        self._check_open()
        if ttl_s > 0:
            found = self._cache.get(key, self._clock.monotonic())
            if found is not None and found.state is Freshness.FRESH:
                return cast("T", found.entry)

        async def work() -> T:
            answer = await fetch()
            if ttl_s > 0 and (worth_keeping is None or worth_keeping(answer)):
                self._cache.put(
                    key,
                    answer,
                    size_bytes=_ENTRY_BYTES + (0 if size is None else size(answer)),
                    fresh_s=ttl_s,
                    stale_s=0.0,
                    now=self._clock.monotonic(),
                )
            return answer

        return cast("T", await self._flights.join(key, work))

    def forget(self, glob: str = "*") -> int:
        """Forget the answers whose key matches; return how many."""
        return self._cache.clear(glob)

    # live

    def follow(
        self,
        view: View[T],
        *,
        fetch: Callable[[], Awaitable[T]],
        take: Callable[[T], None],
        feed: LiveFeed | None,
        cadence: Cadence,
    ) -> Handle:
        """Show something live until the handle, or we, are closed; see `Follower`.

        Raises:
            NotConnected: outside of the `async with` block.
        """
        self._check_open()
        follower = Follower(
            view,
            fetch=fetch,
            take=take,
            feed=feed,
            cadence=cadence,
            clock=self._clock,
            on_closed=self._closed,
        )
        self._followers.add(follower)
        follower.start(self._tasks)
        return follower

    # how it does

    def health(self) -> ProviderHealth:
        """Return how the vendor does, as far as this provider knows."""
        return self._meter.health()

    def statistics(self) -> VendorStatistics:
        """Count everything."""
        failures = sum(follower.reader_failures for follower in self._followers)
        return VendorStatistics(
            cache=self._cache.statistics(),
            flights=self._flights.statistics(),
            followed=len(self._followers),
            reader_failures=self._reader_failures + failures,
        )

    # private

    def _check_open(self) -> None:
        if not self._is_open:
            raise NotConnected(f"the provider of {self.name} is used within `async with`")

    def _closed(self, follower: Follower[Any]) -> None:
        self._followers.discard(follower)
        self._reader_failures += follower.reader_failures

    def _note(self, what: str, error: OnetapeError | None, started: float) -> None:
        took_s = self._clock.monotonic() - started
        now_ns = self._clock.now_ns()
        facts: dict[str, object] = {"provider": self.name, "what": what, "took_s": round(took_s, 6)}
        if error is None or not is_failure(error):
            self._meter.answered(took_s=took_s, now_ns=now_ns)
            if self._policy.enable_logging:
                outcome = "ok" if error is None else error.code
                logger.info("provider.answered", extra={**facts, "outcome": outcome})
        else:
            self._meter.failed(error, took_s=took_s, now_ns=now_ns)
            streak = self._meter.health().consecutive_errors
            if streak & (streak - 1) == 0:  # the first, second, fourth, eighth … in a row
                facts |= {"outcome": error.code, "in_a_row": streak}
                logger.warning("provider.failed", extra=facts)


# sizes


def chain_bytes(chain: OptionChain) -> int:
    """Estimate what a chain takes in memory."""
    return CONTRACT_BYTES * len(chain.contracts)
