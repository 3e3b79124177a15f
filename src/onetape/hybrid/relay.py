"""One live thing out of two providers, to one reader.

    primary.subscribe ──▶ ┌──────────┐
                          │ handover │ ──▶ take
    a question ─────────▶ └──────────┘
       asked when the primary falls silent or its values are poor; answered by either

`core.handover` decides; here is the task that asks, and the isolation of the reader.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Final, Generic, NamedTuple, TypeVar

from onetape.clock import Clock
from onetape.core.choice import Route
from onetape.core.handover import Feeding, Handover, Rhythm
from onetape.errors import OnetapeError
from onetape.hybrid.verdicts import Verdict
from onetape.providers.interfaces import Handle

T = TypeVar("T")

logger: Final = logging.getLogger("onetape.providers")


class Answered(NamedTuple, Generic[T]):
    """An answer, marked if need be, and who gave it."""

    value: T
    by: Route


class Kind(NamedTuple, Generic[T]):
    """What a relay must know of what it relays."""

    event_ns: Callable[[T], int | None]
    judge: Callable[[T, int], Verdict]
    is_open: Callable[[int], bool]


class Relay(Generic[T]):
    """Shows one thing to one reader. A `Handle`: `close` ends it, once or more often.

    What the reader raises is logged once, counted, and disturbs nobody.
    """

    def __init__(
        self,
        kind: Kind[T],
        *,
        ask: Callable[[], Awaitable[Answered[T]]],
        take: Callable[[T], None],
        rhythm: Rhythm,
        clock: Clock,
    ) -> None:
        self.reader_failures = 0
        self.unanswered = 0
        self._kind = kind
        self._ask = ask
        self._take = take
        self._clock = clock
        self._handover = Handover(rhythm)
        self._sooner = asyncio.Event()
        self._shown: T | None = None
        self._is_closed = False
        self._task: asyncio.Task[None] | None = None
        self._handle: Handle | None = None
        self._on_closed: Callable[[Relay[T]], None] = _ignore

    @property
    def is_polling(self) -> bool:
        """Whether the secondary feeds it now."""
        return self._handover.feeding is Feeding.POLLING

    def start(
        self,
        tasks: asyncio.TaskGroup,
        subscribe: Callable[[Callable[[T], None]], Handle],
        *,
        on_closed: "Callable[[Relay[T]], None]",
    ) -> None:
        """Begin. Called once; raises what `subscribe` raises."""
        self._handle = subscribe(self._heard)
        self._on_closed = on_closed
        self._task = tasks.create_task(self._run())

    def close(self) -> None:
        """End it; nothing is shown afterwards."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._task is not None:
            self._task.cancel()
        if self._handle is not None:
            self._handle.close()
        self._on_closed(self)

    # private

    def _heard(self, value: T) -> None:
        if self._is_closed:
            return
        is_good = self._kind.judge(value, self._clock.now_ns()).is_good
        if not is_good or self._handover.is_quiet:
            self._sooner.set()
        now = self._clock.monotonic()
        if self._handover.heard(self._kind.event_ns(value), now, is_good=is_good):
            self._show(value)

    async def _run(self) -> None:
        while True:
            await self._until_due()
            self._handover.asked(self._clock.monotonic())
            try:
                answered = await self._ask()
            except OnetapeError as error:
                self.unanswered += 1  # whoever was asked has logged it
                logger.debug("provider.not_relayed", extra={"outcome": error.code})
                continue
            if self._handover.answered(self._kind.event_ns(answered.value), answered.by):
                self._show(answered.value)

    async def _until_due(self) -> None:
        while (wait_s := self._due_at() - self._clock.monotonic()) > 0:
            self._sooner.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._sooner.wait()

    def _due_at(self) -> float:
        return self._handover.due_at(is_open=self._kind.is_open(self._clock.now_ns()))

    def _show(self, value: T) -> None:
        if value == self._shown:  # a primary that polls tells what it kept again
            return
        self._shown = value
        try:
            self._take(value)
        except Exception:  # a reader's own, and it must not cost the others theirs
            self.reader_failures += 1
            if self.reader_failures == 1:
                logger.exception("provider.reader_failed")


def _ignore(_relay: object) -> None:
    pass
