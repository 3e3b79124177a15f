"""The client for programs without a loop: the same methods, blocking.

    from onetape.sync import MassiveDataProvider

    with MassiveDataProvider("http://127.0.0.1:3000", key) as massive:
        print(massive.get_quote("SPY").price)
        for quote in massive.subscribe_quotes(["SPX", "VIX"]):
            ...

An event loop runs in a thread of its own between `connect` and `disconnect`; calls are
handed to it and waited for, from any number of threads. What the async methods return
pages of is returned whole. A callback is called in a thread of its subscription's, so one
that blocks holds up nobody else. Ctrl-C ends a wait.
"""

# The wrappers below are the class's own, though they stand before it.
# pyright: reportPrivateUsage=false

import asyncio
import contextlib
import inspect
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import CancelledError, Future
from functools import wraps
from pathlib import Path
from types import TracebackType
from typing import (
    Any,
    Concatenate,
    Final,
    Generic,
    ParamSpec,
    Protocol,
    Self,
    TypeVar,
    cast,
    overload,
)

from onetape.client import (
    MAX_BYTES,
    STREAMED,
    MassiveDataProvider as _Async,
    Subscription,
    SubscriptionStatistics,
)
from onetape.errors import InvalidRequest, NotConnected, SlowReader
from onetape.model import AssetClass, Bar, Quote, Trade
from onetape.pages import Pages
from onetape.rows import Rows
from onetape.secret import Secret

__all__ = ["BlockingSubscription", "MassiveDataProvider"]

P = ParamSpec("P")
T = TypeVar("T")
R_co = TypeVar("R_co", covariant=True)
E = TypeVar("E", Quote, Trade, Bar)

_BATCH: Final = 1_000


class _Loop:
    """An event loop in a thread, from `start` to `stop`."""

    def __init__(self) -> None:
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="onetape.sync", daemon=True)
        self._waiting: set[Future[Any]] = set()
        self._is_over = False

    def start(self) -> None:
        self._thread.start()
        self._ready.wait()

    def stop(self) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def run(self, work: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        """Do the work in the loop and wait for it; leaving early cancels it."""
        if self._loop is None or not self._thread.is_alive():
            work.close()
            raise NotConnected("not connected: use `with`, or call connect first")
        if threading.current_thread() is self._thread:
            work.close()
            raise NotConnected("the blocking client cannot be waited for in its own loop")
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        self._waiting.add(future)
        if self._is_over:  # it ended just now, and nobody would answer
            future.cancel()
        try:
            return future.result(timeout_s)
        except BaseException as error:
            future.cancel()
            if self._is_over and isinstance(error, CancelledError):
                raise NotConnected("the client is disconnected") from None
            raise
        finally:
            self._waiting.discard(future)

    def _run(self) -> None:
        with asyncio.Runner() as runner:
            self._loop = runner.get_loop()
            self._loop.call_soon(self._ready.set)
            self._loop.run_forever()
            self._is_over = True
        for future in tuple(self._waiting):
            future.cancel()


class BlockingSubscription(Generic[E]):
    """What one reader reads: iterate over it, or give a callback; close it when done."""

    def __init__(
        self, loop: _Loop, subscription: Subscription[E], callback: Callable[[E], object] | None
    ) -> None:
        self._loop = loop
        self._subscription = subscription
        self._pump: threading.Thread | None = None
        self._unread: deque[E] = deque()  # of a loop that was left before its end
        if callback is not None:
            self._pump = threading.Thread(
                target=self._serve, args=(callback,), name="onetape.sync.callback", daemon=True
            )
            self._pump.start()

    def __repr__(self) -> str:
        return f"<Blocking{repr(self._subscription)[1:]}"

    def read(self, timeout_s: float | None = None) -> list[E]:
        """Return what came, waiting for the first; an empty list when it was closed.

        Raises:
            TimeoutError: nothing came in time.
            SlowReader: the reader was cut; what it could not take is lost.
        """
        if self._unread:
            batch = list(self._unread)
            self._unread.clear()
            return batch
        try:
            return self._loop.run(_batch(self._subscription, timeout_s))
        except NotConnected:
            if not self._subscription.is_closed:
                raise
            return self._left()

    def __iter__(self) -> Iterator[E]:
        while (event := self._next()) is not None:
            yield event

    @property
    def is_closed(self) -> bool:
        """Whether nothing more comes."""
        return self._subscription.is_closed

    def statistics(self) -> SubscriptionStatistics:
        """Count everything."""
        return self._subscription.statistics()

    def close(self) -> None:
        """Read no more, and return when the callback is over. Idempotent."""
        with contextlib.suppress(NotConnected):  # then it was closed with everything else
            self._loop.run(self._subscription.aclose())
        self._unread.clear()
        pump = self._pump
        if pump is not None and pump is not threading.current_thread():
            pump.join()

    def __call__(self) -> None:
        """Close it: a subscription is its own cancellation."""
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _next(self) -> E | None:
        if not self._unread:
            self._unread.extend(self.read())
        with contextlib.suppress(IndexError):  # closed, or it was just now by another thread
            return self._unread.popleft()
        return None

    def _left(self) -> list[E]:
        """Return what was queued when the client was disconnected: nothing waits any more."""
        work = _left(self._subscription)
        try:
            work.send(None)
        except StopIteration as done:
            return cast("list[E]", done.value)
        work.close()
        raise NotConnected("the client is disconnected")

    def _serve(self, callback: Callable[[E], object]) -> None:
        with contextlib.suppress(NotConnected, SlowReader, CancelledError):  # told and logged
            for event in self:
                try:
                    callback(event)
                except Exception as error:  # noqa: BLE001 - a reader's fault is its own
                    threading.excepthook(
                        threading.ExceptHookArgs(
                            (type(error), error, error.__traceback__, threading.current_thread())
                        )
                    )


async def _batch(subscription: Subscription[E], timeout_s: float | None) -> list[E]:
    try:
        async with asyncio.timeout(timeout_s):
            first = await anext(subscription)
    except StopAsyncIteration:
        return []
    return [first, *await _queued(subscription)]


async def _left(subscription: Subscription[E]) -> list[E]:
    """Return what is left of an ended subscription. It never waits."""
    batch = await _queued(subscription)
    with contextlib.suppress(StopAsyncIteration):
        return batch or [await anext(subscription)]
    return []


async def _queued(subscription: Subscription[E]) -> list[E]:
    waiting = min(subscription.statistics().pending, _BATCH)
    return [await anext(subscription) for _ in range(waiting)]


class _Method(Protocol[P, R_co]):
    """A method as a type checker has to see it: bound when it is taken from an object."""

    @overload
    def __get__(
        self, one: None, owner: type
    ) -> Callable[Concatenate["MassiveDataProvider", P], R_co]: ...
    @overload
    def __get__(self, one: "MassiveDataProvider", owner: type) -> Callable[P, R_co]: ...


def _blocking(
    method: Callable[Concatenate[_Async, P], Coroutine[Any, Any, T]],
) -> _Method[P, T]:
    """Wait for what the async method does."""

    @wraps(method)
    def blocking(self: "MassiveDataProvider", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._run(method(self._provider, *args, **kwargs))

    return cast("_Method[P, T]", blocking)


def _at_once(
    method: Callable[Concatenate[_Async, P], T],
) -> _Method[P, T]:
    """Call a method that does not wait, in the loop's thread."""

    @wraps(method)
    def called(self: "MassiveDataProvider", /, *args: P.args, **kwargs: P.kwargs) -> T:
        async def call() -> T:
            return method(self._provider, *args, **kwargs)

        return self._run(call())

    return cast("_Method[P, T]", called)


def _collected(
    method: Callable[Concatenate[_Async, P], Pages[T]],
) -> _Method[P, Rows[T]]:
    """Return the rows of all pages."""

    @wraps(method)
    def collected(self: "MassiveDataProvider", /, *args: P.args, **kwargs: P.kwargs) -> Rows[T]:
        async def collect() -> Rows[T]:
            return await method(self._provider, *args, **kwargs)

        return self._run(collect())

    return cast("_Method[P, Rows[T]]", collected)


def _streamed(
    method: Callable[Concatenate[_Async, P], Subscription[E]],
) -> _Method[P, BlockingSubscription[E]]:
    """Subscribe, and call the callback in a thread of its own."""
    signature = inspect.signature(method)

    @wraps(method)
    def streamed(
        self: "MassiveDataProvider", /, *args: P.args, **kwargs: P.kwargs
    ) -> BlockingSubscription[E]:
        bound = signature.bind(self._provider, *args, **kwargs)
        callback = cast("Callable[[E], object] | None", bound.arguments.pop("callback", None))
        if inspect.iscoroutinefunction(callback):
            raise InvalidRequest("the blocking client's callbacks are plain: write def")

        async def subscribe() -> Subscription[E]:
            return cast("Callable[..., Subscription[E]]", method)(**bound.arguments)

        return BlockingSubscription(self._loop, self._run(subscribe()), callback)

    return cast("_Method[P, BlockingSubscription[E]]", streamed)


class MassiveDataProvider:
    """Market data through one gateway, blocking. Takes what the async client takes.

    Args:
        url: The gateway's address: `http://127.0.0.1:3000`.
        credential: A client key of the gateway's (`ot_…`). Never the vendor's key.
        streams: The asset classes the plan streams. What is not among them is polled.
        cache_dir: Where holidays and contracts outlive the process; None for nowhere.
        cache_bytes: What the cache may hold.
    """

    def __init__(
        self,
        url: str,
        credential: str | Secret,
        *,
        streams: Iterable[AssetClass | str] = STREAMED,
        cache_dir: Path | None = None,
        cache_bytes: int = MAX_BYTES,
    ) -> None:
        self._provider = _Async(
            url, credential, streams=streams, cache_dir=cache_dir, cache_bytes=cache_bytes
        )
        self._loop = _Loop()
        self._turn = threading.Lock()
        self._is_open = False

    def __repr__(self) -> str:
        return repr(self._provider)

    # life

    def connect(self) -> None:
        """Fetch a token and open the sockets; connected already, do nothing.

        Raises:
            Unauthorized: the gateway does not accept the credential.
            UpstreamError: the gateway cannot be reached.
        """
        with self._turn:
            if self._is_open:
                return
            self._loop.start()
            try:
                self._loop.run(self._provider.connect())
            except BaseException:
                self._end()
                raise
            self._is_open = True

    def disconnect(self) -> None:
        """End every subscription, close the sockets, and leave no thread behind."""
        with self._turn:
            if self._is_open:
                self._is_open = False
                try:
                    self._loop.run(self._provider.disconnect())
                finally:
                    self._end()

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.disconnect()

    get_health = _at_once(_Async.get_health)
    clear_cache = _at_once(_Async.clear_cache)

    # questions

    get_market_status = _blocking(_Async.get_market_status)
    get_market_holidays = _blocking(_Async.get_market_holidays)
    get_quote = _blocking(_Async.get_quote)
    get_quotes = _blocking(_Async.get_quotes)
    get_index = _blocking(_Async.get_index)
    get_indices = _blocking(_Async.get_indices)
    get_options_chain = _blocking(_Async.get_options_chain)
    get_option_contract = _blocking(_Async.get_option_contract)
    get_option_trades = _collected(_Async.get_option_trades)
    get_aggregates = _collected(_Async.get_aggregates)
    get_rsi = _blocking(_Async.get_rsi)

    # live

    subscribe_quotes = _streamed(_Async.subscribe_quotes)
    subscribe_aggregates = _streamed(_Async.subscribe_aggregates)
    subscribe_trades = _streamed(_Async.subscribe_trades)
    update_watchlist = _at_once(_Async.update_watchlist)

    # private

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run(work)

    def _end(self) -> None:
        self._loop.stop()
        self._loop = _Loop()  # a thread starts once
