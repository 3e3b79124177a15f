"""One piece of work for all who want its result at once.

Beside the cache: a hundred callers that miss the same key cause one request. The
work belongs to no caller, so one that leaves does not disturb the others; when the
last has left, the work is cancelled.

    join, first caller            work is done
  ─────────────────────▶ flying ───────────────▶ landed: every waiter has the outcome
                           │  ▲ │
             others join   └──┘ │ the last waiter left, or the block was
                                ▼ left (its waiters get `ShuttingDown`)
                            cancelled

Nothing is kept: the next caller after a landing, good or bad, starts afresh.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from types import TracebackType
from typing import Generic, NamedTuple, Self, TypeVar

from onetape.errors import OnetapeError, ShuttingDown
from onetape.own_tasks import OwnTasks

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class FlightsStatistics(NamedTuple):
    """A snapshot for metrics."""

    in_flight: int
    started: int
    coalesced: int  # calls that joined a flight another call had started
    abandoned: int  # flights cancelled because every waiter had left


class _Flight(Generic[V]):
    """One piece of work, and who waits for it."""

    task: asyncio.Task[None]  # there before anybody else sees the flight
    _value: V  # there once the flight landed without an error

    def __init__(self) -> None:
        self.waiters = 0
        self.landed = asyncio.Event()
        self._error: Exception | None = None
        self._traceback: TracebackType | None = None

    def succeed(self, value: V) -> None:
        self._value = value
        self.landed.set()

    def fail(self, error: Exception) -> None:
        self._error = error
        self._traceback = error.__traceback__
        self.landed.set()

    def result(self) -> V:
        if self._error is not None:
            # All waiters raise the one error: give each the traceback of the work
            # alone, or it grows by the stack of every waiter before.
            raise self._error.with_traceback(self._traceback)
        return self._value


class Flights(Generic[K, V]):
    """The work in progress, by key; use it as an async context manager.

    Leaving the block cancels what still flies and returns when all of it is over.
    """

    def __init__(self) -> None:
        self._flights: dict[K, _Flight[V]] = {}
        self._tasks = OwnTasks()
        self._open = False
        self._started = 0
        self._coalesced = 0
        self._abandoned = 0

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._open = True
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._open = False
        for flight in self._flights.values():
            flight.task.cancel()
        await self._tasks.__aexit__(kind, error, traceback)

    @property
    def in_flight(self) -> int:
        """How many pieces of work are in progress."""
        return len(self._flights)

    @property
    def coalesced(self) -> int:
        """How many calls joined a flight that another call had started."""
        return self._coalesced

    def joined(self, key: K) -> bool:
        """Return whether a call for the key would join work in progress."""
        return key in self._flights

    async def join(self, key: K, work: Callable[[], Awaitable[V]]) -> V:
        """Return the result of the key's work, doing it unless it is in progress.

        Cancel-safe: cancelling one caller does not disturb the others. A failure of
        the work is raised in every caller. `CancelledError` is raised only in callers
        that were cancelled.

        Raises:
            ShuttingDown: The block is being left.
        """
        flight = self._flights.get(key)
        if flight is None:
            flight = self._start(key, work)
        else:
            self._coalesced += 1
        flight.waiters += 1
        try:
            await flight.landed.wait()
        finally:
            flight.waiters -= 1
            if not flight.waiters and not flight.landed.is_set():
                self._abandon(key, flight)
        return flight.result()

    def statistics(self) -> FlightsStatistics:
        """Count everything; O(1)."""
        return FlightsStatistics(
            in_flight=len(self._flights),
            started=self._started,
            coalesced=self._coalesced,
            abandoned=self._abandoned,
        )

    def _start(self, key: K, work: Callable[[], Awaitable[V]]) -> _Flight[V]:
        if not self._open:
            raise ShuttingDown("no new work is started")
        flight = _Flight[V]()
        flight.task = self._tasks.create_task(self._fly(key, flight, work))
        # `_fly` alone cannot do it: a task cancelled before its first step never runs.
        flight.task.add_done_callback(lambda task: self._land(key, flight, task))
        self._flights[key] = flight
        self._started += 1
        return flight

    async def _fly(self, key: K, flight: _Flight[V], work: Callable[[], Awaitable[V]]) -> None:
        # A TaskGroup takes any exception as a reason to cancel every sibling, so a
        # failure is delivered to those who wait and never raised here.
        try:
            flight.succeed(await work())
        except Exception as error:  # noqa: BLE001 - delivered: every waiter raises it
            flight.fail(error)
        finally:
            self._forget(key, flight)

    def _abandon(self, key: K, flight: _Flight[V]) -> None:
        # Make room at once: the work may take a while to end, and who comes now
        # must not join what is being cancelled.
        self._forget(key, flight)
        self._abandoned += 1
        flight.task.cancel()

    def _land(self, key: K, flight: _Flight[V], task: asyncio.Task[None]) -> None:
        self._forget(key, flight)
        if not task.cancelled() and task.exception() is not None:
            self._open = False  # neither failure nor success, so the TaskGroup goes down
        if flight.landed.is_set():
            return
        if self._open:
            flight.fail(OnetapeError("the work was cancelled, though not by us"))
        else:
            flight.fail(ShuttingDown("the work was cancelled at shutdown"))

    def _forget(self, key: K, flight: _Flight[V]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
