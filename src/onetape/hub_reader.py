"""One subscriber's end of the hub: what it has not read yet, bounded, and its callback.

Of each key only the latest waits. A subscriber that hangs fills its own queue, one that
raises is counted and logged once; neither is noticed by anybody else.
"""

import asyncio
import inspect
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from typing import Final, Generic, TypeVar

from onetape.model import MarketDataSnapshot, MarketDataTick

logger: Final = logging.getLogger("onetape.hub")

T = TypeVar("T", MarketDataTick, MarketDataSnapshot)


class Reader(Generic[T]):
    """One subscriber's end: an async iterator, or the callback's; closing is idempotent."""

    def __init__(self, name: str, max_pending: int, done: Callable[["Reader[T]"], None]) -> None:
        self.name = name
        self.delivered = self.dropped = self.failures = 0
        self._pending: OrderedDict[object, T] = OrderedDict()
        self._max_pending = max_pending
        self._waiting = asyncio.Event()
        self._done = done
        self._is_closed = False
        self.task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Reader {self.name!r}, {len(self._pending)} waiting>"

    def offer(self, key: object, one: T) -> None:
        """Let it be read, in place of what waits under the same key; the oldest goes first."""
        if self._is_closed:
            return
        if self._pending.pop(key, None) is not None:
            self.dropped += 1
        elif len(self._pending) >= self._max_pending:
            self._pending.popitem(last=False)
            self.dropped += 1
        self._pending[key] = one
        self._waiting.set()

    def close(self) -> None:
        """Read no more."""
        if not self._is_closed:
            self._is_closed = True
            self._pending.clear()
            self._waiting.set()
            self._done(self)
            if self.task is not None and self.task is not asyncio.current_task():
                self.task.cancel()

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        """Return the next; cancel-safe."""
        while not self._pending:
            if self._is_closed:
                raise StopAsyncIteration
            self._waiting.clear()
            await self._waiting.wait()
        self.delivered += 1
        return self._pending.popitem(last=False)[1]

    async def serve(self, callback: Callable[[T], object]) -> None:
        """Call the callback with each; what it raises is counted, and logged once."""
        async for one in self:
            try:
                result = callback(one)
                if inspect.isawaitable(result):
                    await result
            except Exception:  # one subscriber's fault is not another's
                self.failures += 1
                if self.failures == 1:
                    logger.exception("hub.subscriber_failed", extra={"subscriber": self.name})
