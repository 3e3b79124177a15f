"""One thing shown live: asked for now and then, fed by a stream, told at a bearable pace.

    fetch ──an answer, every so often──▶ ┌──────┐
                                         │ view │ ──at most every `pace_s`──▶ take
    feed ──events of the topics────────▶ └──────┘
      └─ a topic lost: fetch at once, then oftener, until all are live again

Two tasks, so that a slow answer holds up no event. A view is a machine that merges the
two; newest exchange time wins in it. What cannot be fetched stays as it was, and ages.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from onetape.clock import Clock
from onetape.errors import OnetapeError
from onetape.model import Bar, Quote, Topic, Trade
from onetape.providers.interfaces import Handle, LiveFeed

T = TypeVar("T")

Event = Quote | Trade | Bar

logger: Final = logging.getLogger("onetape.providers")


class View(Protocol[T]):
    """What is shown. Sans-I/O; all calls are from the event loop, and quick."""

    @property
    def topics(self) -> frozenset[Topic]:
        """What a stream may feed it with, as of the last answer."""
        ...

    def renew(self, answer: T, /) -> None:
        """Take a whole answer; what is known to be newer stays."""
        ...

    def apply(self, events: Sequence[Event], /) -> bool:
        """Take events; return whether there is now something to tell."""
        ...

    def value(self, now_ns: int, /) -> T:
        """Return it as it is now, judged. Not asked for before the first `renew`."""
        ...


class Cadence(NamedTuple):
    """How often, in seconds."""

    poll_s: float
    """Between two answers, while not everything is streamed."""
    streamed_s: float
    """The same while everything is."""
    pace_s: float
    """Between two tellings, at least."""


class Follower(Generic[T]):
    """Shows one view to one reader. A `Handle`: `close` ends it, once or more often.

    What the reader raises is logged once, counted, and disturbs nobody.
    """

    def __init__(  # noqa: PLR0913 - called once, by the vendor; all by name
        self,
        view: View[T],
        *,
        fetch: Callable[[], Awaitable[T]],
        take: Callable[[T], None],
        feed: LiveFeed | None,
        cadence: Cadence,
        clock: Clock,
        on_closed: "Callable[[Follower[T]], None]",
    ) -> None:
        self.reader_failures = 0
        self.fetch_failures = 0
        self._view = view
        self._fetch = fetch
        self._take = take
        self._feed = feed
        self._cadence = cadence
        self._clock = clock
        self._is_closed = False
        self._handle: Handle | None = None
        self._topics: frozenset[Topic] = frozenset()
        self._live: frozenset[Topic] = frozenset()
        self._asked_at = self._told_at = float("-inf")
        self._lost = asyncio.Event()  # ask earlier than was meant
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._on_closed = on_closed

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Begin, with tasks of the group. Called once."""
        self._tasks = [tasks.create_task(self._ask()), tasks.create_task(self._tell())]

    def close(self) -> None:
        """End it; nothing is told afterwards."""
        if self._is_closed:
            return
        self._is_closed = True
        for task in self._tasks:
            task.cancel()
        if self._handle is not None:
            self._handle.close()
        self._on_closed(self)

    @property
    def is_streamed(self) -> bool:
        """Whether everything is live that a stream could carry."""
        return bool(self._topics) and self._topics <= self._live

    # private, asking

    async def _ask(self) -> None:
        while True:
            try:
                self._renew(await self._fetch())
            except OnetapeError as error:  # whoever asks the vendor logs each
                self.fetch_failures += 1
                logger.debug("provider.not_renewed", extra={"outcome": error.code})
            except Exception:  # a bug must end neither this nor the other subscriptions
                self.fetch_failures += 1
                logger.exception("provider.not_renewed")
            self._asked_at = self._clock.monotonic()
            await self._until_next()

    def _renew(self, answer: T) -> None:
        self._view.renew(answer)
        self._changed.set()
        self._read()

    async def _until_next(self) -> None:
        while (wait_s := self._asked_at + self._every_s() - self._clock.monotonic()) > 0:
            self._lost.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._lost.wait()

    def _every_s(self) -> float:
        return self._cadence.streamed_s if self.is_streamed else self._cadence.poll_s

    # private, streaming

    def _read(self) -> None:
        """Read the topics that the view names now."""
        topics, before = self._view.topics, self._topics
        if self._feed is None or topics == before:
            return
        old, self._topics = self._handle, topics
        self._live &= topics
        try:
            # The new before the old is closed, so that what both name is not let go meanwhile.
            self._handle = self._feed.open(topics, self._heard, self._told) if topics else None
        except OnetapeError:
            self._topics = before  # asked again with the next answer
            raise
        if old is not None:
            old.close()

    def _heard(self, events: Sequence[Event]) -> None:
        if not self._is_closed and self._view.apply(events):
            self._changed.set()

    def _told(self, topics: frozenset[Topic], is_live: bool) -> None:  # noqa: FBT001 - the feed's
        was_streamed = self.is_streamed
        self._live = self._live | topics if is_live else self._live - topics
        if was_streamed and not self.is_streamed:
            self._asked_at = float("-inf")
            self._lost.set()

    # private, telling

    async def _tell(self) -> None:
        while True:
            await self._changed.wait()
            wait_s = self._told_at + self._cadence.pace_s - self._clock.monotonic()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            self._changed.clear()
            self._told_at = self._clock.monotonic()
            self._tell_once()

    def _tell_once(self) -> None:
        try:
            self._take(self._view.value(self._clock.now_ns()))
        except Exception:  # a reader's own, and it must not cost the others theirs
            self.reader_failures += 1
            if self.reader_failures == 1:
                logger.exception("provider.reader_failed")
