"""One reader's end of a subscription: an iterator, a context manager, and its own cancellation.

    async for quote in subscription: …          what comes is queued, bounded
    async with subscription: …                  closed when the block is left
    subscription() or subscription.close()      closed; idempotent
    Subscription(keys, callback=…)              called with each event, nothing is queued

    open ──▶ closed   by its reader: what is queued is dropped, iteration ends
      │
      └────▶ ended    by us: what is queued is still read, then iteration ends, or raises
                      the error that ended it

What happens when a reader does not keep up has a name. Of quotes only the latest of each
symbol matters, so they are conflated. Of trades and bars every one does, so the reader is
cut: it reads what was queued before the loss, then `SlowReader`. Nobody loses in silence.

A dashboard has a hundred callbacks on one symbol, so a subscription with a plain callback
is four slots and no more; what the others need besides is in `_Inbox`.
"""

import asyncio
import contextlib
import inspect
import logging
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence, Set
from enum import StrEnum
from typing import Any, Final, Generic, NamedTuple, Protocol, Self, TypeVar, cast

from onetape.client._notices import Change, Key, Kind, Reason, SourceChanged
from onetape.errors import InvalidRequest, SlowReader
from onetape.model import Bar, Quote, Trade
from onetape.provenance import Source
from onetape.symbols import normalize_symbol

logger: Final = logging.getLogger("onetape.client.subscription")

T = TypeVar("T", Quote, Trade, Bar)
Callback = Callable[[T], object] | Callable[[T], Awaitable[object]]
OnChange = Callable[[Change], object]

MAX_EVENTS: Final = 10_000


class Overflow(StrEnum):
    """What happens when a reader does not keep up."""

    CONFLATE = "conflate"
    """A newer event takes the place of the one of its symbol that was not read yet."""
    DROP_OLDEST = "drop_oldest"
    CUT = "cut"
    """The subscription ends with `SlowReader`."""


class SubscriptionStatistics(NamedTuple):
    """A snapshot for health. `delivered` is what the reader got, `pending` what waits for it."""

    delivered: int
    pending: int
    dropped: int
    conflated: int
    failures: int  # of the callbacks


class Carrier(Protocol):
    """What a subscription needs of the one who feeds it."""

    def release(self, subscription: "Subscription[Any]") -> None:
        """Feed it no more."""
        ...

    def source_of(self, key: Key) -> Source | None:
        """Return where the events of the key come from now."""
        ...

    def delivered(self, keys: Sequence[Key]) -> int:
        """Return how many events of the keys were handed over so far."""
        ...


class Start(Protocol):
    """How the carrier starts a task that it owns."""

    def __call__(self, work: Coroutine[Any, Any, None], /) -> "asyncio.Task[None]":
        """Start it."""
        ...


class _Inbox:
    """What not all subscriptions need: a queue, other callbacks, a history of faults."""

    __slots__ = (
        "callback",
        "conflated",
        "delivered",
        "dropped",
        "error",
        "failures",
        "is_async",
        "judge",
        "latest",
        "max_events",
        "on_change",
        "overflow",
        "queue",
        "task",
        "waiter",
    )

    def __init__(self) -> None:
        self.overflow = Overflow.CUT
        self.max_events = MAX_EVENTS
        self.queue: deque[Any] | None = None
        self.latest: OrderedDict[str, Any] | None = None
        self.waiter: asyncio.Future[None] | None = None
        self.callback: Callable[[Any], object] | None = None
        self.is_async = False
        self.judge: Callable[[Any], Any] | None = None
        self.task: asyncio.Task[None] | None = None
        self.on_change: OnChange | None = None
        self.error: Exception | None = None
        self.delivered = 0
        self.dropped = 0
        self.conflated = 0
        self.failures = 0

    @property
    def queues(self) -> bool:
        """Whether events wait here; a sync callback gets them at once."""
        return self.callback is None or self.is_async

    @property
    def pending(self) -> int:
        """How many wait."""
        return len(self.queue or ()) + len(self.latest or ())

    def call(self, event: Any) -> object:
        """Call the callback, whatever it is."""
        return None if self.callback is None else self.callback(event)

    def call_judged(self, event: Any) -> object:
        """Call the callback with what is handed over at once, and so was not judged yet."""
        return self.call(event if self.judge is None else self.judge(event))

    def put(self, events: Sequence[Any]) -> bool:
        """Queue events; False: one did not fit, and the reader is to be cut."""
        fits = True
        if self.overflow is Overflow.CONFLATE:
            self._conflate(events)
        else:
            fits = self._append(events)
        self.wake()
        return fits

    def get(self) -> Any:
        """Return the oldest event, or None: an event is never None."""
        if self.queue:
            return self.queue.popleft()
        if self.latest:
            return self.latest.popitem(last=False)[1]
        return None

    def clear(self) -> None:
        self.queue = self.latest = None

    def wake(self) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    async def wait(self) -> None:
        """Wait for `wake`. Cancel-safe."""
        if self.waiter is not None:
            raise InvalidRequest("a subscription has one reader: somebody iterates it already")
        self.waiter = asyncio.get_running_loop().create_future()
        try:
            await self.waiter
        finally:
            self.waiter = None

    def _append(self, events: Sequence[Any]) -> bool:
        if self.queue is None:
            self.queue = deque()
        room = self.max_events - len(self.queue)
        if len(events) <= room:
            self.queue.extend(events)
            return True
        if self.overflow is Overflow.CUT:
            self.queue.extend(events[:room])
            self.dropped += len(events) - room
            return False
        self.queue.extend(events)
        excess = len(self.queue) - self.max_events
        self.dropped += excess
        for _ in range(excess):
            self.queue.popleft()
        return True

    def _conflate(self, events: Sequence[Any]) -> None:
        if self.latest is None:
            self.latest = OrderedDict()
        latest = self.latest
        before = len(latest)
        # A replaced event keeps its turn: were it sent to the end, the busiest symbol
        # would be read last, or never.
        for event in events:
            latest[event.symbol] = event
        self.conflated += len(events) - (len(latest) - before)


class Subscription(Generic[T]):
    """What one reader reads. All calls are from the event loop's thread.

    Args:
        keys: One kind of data of any number of symbols.
        callback: Called with each event, in order, sync or async; then there is nothing to
            iterate. What it raises is counted and logged once, and changes nothing.
        on_change: Called when the source of a symbol changes or events were missed.
        overflow: What happens when the reader does not keep up; by default quotes are
            conflated, and who reads trades or bars is cut.
        max_events: How many may wait for the reader.
        judge: Applied to each event as it is handed over: to what is read, not to what comes.
    """

    # What a callback got is not counted here: a hundred of them would hold a hundred
    # numbers. It is what the carrier handed over, less what it had before.
    __slots__ = ("_before", "_carrier", "_keys", "_sink")

    def __init__(
        self,
        keys: Sequence[Key],
        *,
        callback: Callback[T] | None = None,
        on_change: OnChange | None = None,
        overflow: Overflow | None = None,
        max_events: int = MAX_EVENTS,
        judge: Callable[[T], T] | None = None,
    ) -> None:
        self._keys = tuple(dict.fromkeys(keys))
        kinds = {key.kind for key in self._keys}
        if len(kinds) > 1:
            raise InvalidRequest("a subscription is to one kind of data")
        if max_events < 1:
            raise InvalidRequest("room for one event at least")
        self._carrier: Carrier | None = None
        self._before: int | None = None
        self._sink: _Inbox | Callable[[T], object]
        is_plain = callback is not None and on_change is None and judge is None
        if callback is not None and is_plain and not _is_async(callback):
            self._sink = callback
            return
        self._sink = inbox = _Inbox()
        inbox.callback = callback
        inbox.is_async = callback is not None and _is_async(callback)
        inbox.on_change = on_change
        inbox.overflow = _named(overflow) or _default_overflow(kinds)
        inbox.max_events = max_events
        inbox.judge = judge

    def __repr__(self) -> str:
        state = "closed" if self.is_closed else "open"
        what = f"{self._keys[0].kind} {self._keys[0].symbol}" if self._keys else "nothing"
        more = f" and {len(self._keys) - 1} more" if len(self._keys) > 1 else ""
        return f"<Subscription {state}: {what}{more}>"

    # what it is

    @property
    def keys(self) -> tuple[Key, ...]:
        """What is read."""
        return self._keys

    @property
    def is_closed(self) -> bool:
        """Whether nothing more comes."""
        return self._carrier is None

    def source_of(self, symbol: str) -> Source | None:
        """Return where the events of a symbol come from now; None: from nowhere.

        Raises:
            InvalidSymbol: it is no symbol.
        """
        wanted = normalize_symbol(symbol)
        key = next((key for key in self._keys if key.symbol == wanted), None)
        if self._carrier is None or key is None:
            return None
        return self._carrier.source_of(key)

    def statistics(self) -> SubscriptionStatistics:
        """Count everything; O(1)."""
        inbox = self._inbox
        if inbox is None:
            return SubscriptionStatistics(self._called(), 0, 0, 0, 0)
        return SubscriptionStatistics(
            delivered=inbox.delivered if inbox.queues else self._called(),
            pending=inbox.pending,
            dropped=inbox.dropped,
            conflated=inbox.conflated,
            failures=inbox.failures,
        )

    # reading

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        """Return the next event. Cancel-safe: no event is lost.

        Raises:
            SlowReader: the reader was cut; what it could not take is lost.
            InvalidRequest: the subscription has a callback, or another reader.
        """
        inbox = self._inbox
        if inbox is None or inbox.callback is not None:
            raise InvalidRequest("a subscription with a callback is not iterated")
        return await self._next(inbox)

    # its end

    def close(self) -> None:
        """Read no more. Idempotent; may be called from within the callback."""
        self._release()
        inbox = self._inbox
        if inbox is not None:
            inbox.clear()
            inbox.wake()
            if inbox.task is not None and inbox.task is not asyncio.current_task():
                inbox.task.cancel()

    def __call__(self) -> None:
        """Close it: a subscription is its own cancellation."""
        self.close()

    async def aclose(self) -> None:
        """Close it, and return when its async callback is over."""
        self.close()
        task = None if self._inbox is None else self._inbox.task
        if task is not None and task is not asyncio.current_task():
            await asyncio.wait([task])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    # for the carrier

    def bind(self, carrier: Carrier, keys: tuple[Key, ...], start: Start) -> None:
        """Take note of who feeds it with what, and begin to serve an async callback."""
        before = carrier.delivered(keys)
        self._before = before if self._before is None else before + self._before
        self._carrier = carrier
        self._keys = keys
        inbox = self._inbox
        if inbox is not None and inbox.is_async and inbox.task is None:
            inbox.task = start(self._serve(inbox))

    def unbind(self) -> None:
        """Take note that the keys are about to change, or nothing more comes."""
        self._before = -self._called()
        self._carrier = None

    def offer(self, events: Sequence[T]) -> None:
        """Hand over events, in order. The hot path. Never raises what a reader raised."""
        if self.is_closed:  # another reader closed us just now
            return
        callback = self._sink
        if isinstance(callback, _Inbox):
            if callback.queues:
                if not callback.put(events):
                    self._cut(callback, events[-1].received_ns)
                return
            callback = callback.call_judged
        for count, event in enumerate(events, 1):
            try:
                result = callback(event)
            except Exception as error:  # noqa: BLE001 - one reader's fault is not another's
                self._fault(error)
            else:
                if result is not None:
                    self._refuse(result)
            if self._carrier is None:  # the callback closed us, before these were counted
                self._before = (self._before or 0) - count
                return

    def tell(self, change: Change) -> None:
        """Tell the reader of a change, if it asked to be told."""
        inbox = self._inbox
        if self._carrier is None or inbox is None or inbox.on_change is None:
            return
        try:
            self._refuse(inbox.on_change(change))
        except Exception as error:  # noqa: BLE001 - one reader's fault is not another's
            self._fault(error)

    def end(self, error: Exception | None = None) -> None:
        """End it: the reader gets what is queued, then the error or the end."""
        self._release()
        inbox = self._inbox
        if inbox is not None:
            inbox.error = inbox.error or error
            inbox.wake()

    # private

    @property
    def _inbox(self) -> _Inbox | None:
        return self._sink if isinstance(self._sink, _Inbox) else None

    def _more(self) -> _Inbox:
        """Return the inbox; of a plain callback, make one around it."""
        if not isinstance(self._sink, _Inbox):
            callback, self._sink = self._sink, _Inbox()
            self._sink.callback = callback
        return self._sink

    def _called(self) -> int:
        now = 0 if self._carrier is None else self._carrier.delivered(self._keys)
        return now - (self._before or 0)

    def _release(self) -> None:
        carrier = self._carrier
        if carrier is not None:
            self.unbind()
            carrier.release(self)

    async def _next(self, inbox: _Inbox) -> T:
        while True:
            event = inbox.get()
            if event is not None:
                inbox.delivered += 1
                return event if inbox.judge is None else inbox.judge(event)
            if inbox.error is not None:
                raise inbox.error
            if self._carrier is None:
                raise StopAsyncIteration
            await inbox.wait()

    def _cut(self, inbox: _Inbox, at_ns: int) -> None:
        logger.warning("subscription.cut", extra={"pending": inbox.pending})
        for key in self._keys:
            self.tell(SourceChanged(key=key, source=None, reason=Reason.SLOW_READER, at_ns=at_ns))
        self.end(SlowReader(f"more than {inbox.max_events} events waited to be read"))

    async def _serve(self, inbox: _Inbox) -> None:
        with contextlib.suppress(StopAsyncIteration, SlowReader):  # that was told and logged
            while True:
                event = await self._next(inbox)
                try:
                    await cast("Awaitable[object]", inbox.call(event))
                except Exception as error:  # noqa: BLE001 - one reader's fault is not another's
                    self._fault(error)

    def _refuse(self, result: object) -> None:
        """A callback that is not `async def` and returns an awaitable would never run."""
        if inspect.isawaitable(result):
            if inspect.iscoroutine(result):
                result.close()
            self._fault(TypeError("the callback returns an awaitable: declare it async def"))

    def _fault(self, error: Exception) -> None:
        inbox = self._more()
        inbox.failures += 1
        if inbox.failures == 1:
            logger.error(
                "subscription.callback_failed",
                extra={"subscription": repr(self)},
                exc_info=error,
            )


def _is_async(callback: Callable[..., object]) -> bool:
    call = getattr(callback, "__call__", None)  # noqa: B004 - of an object that is called
    return inspect.iscoroutinefunction(callback) or inspect.iscoroutinefunction(call)


def _named(overflow: Overflow | str | None) -> Overflow | None:
    """Take a policy by its name too: one that is not known must not pass for another."""
    try:
        return None if overflow is None else Overflow(overflow)
    except ValueError:
        raise InvalidRequest(f"overflow is one of {', '.join(Overflow)}") from None


def _default_overflow(kinds: Set[Kind]) -> Overflow:
    return Overflow.CONFLATE if Kind.QUOTE in kinds else Overflow.CUT
