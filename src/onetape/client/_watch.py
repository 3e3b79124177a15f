"""What programs usually build on the client: boards, tapes and trackers that keep themselves.

    QuoteBoard    the latest quote of some symbols, which may change
    ChainWatch    one chain at a time, renewed; the answer for an old question is dropped
    OptionTape    the last prints of one option, and its quote
    PnlTracker    what a position in one option is worth against its price of entry
    MacroWatch    SPX, NDX and VIX, fetched once for all who look

Each is an async context manager and owns what it starts. None invents a number: what is
not known is None. `providing` and `provided` hand one client to code that is far away.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Final, NamedTuple, Protocol, Self

from onetape.client._subscription import Subscription
from onetape.clock import Clock, SystemClock
from onetape.errors import NotConnected, OnetapeError
from onetape.flights import Flights
from onetape.massive.questions import normalized
from onetape.model import IndexSnapshot, OptionChain, Quote, Trade
from onetape.rows import Rows
from onetape.symbols import normalize_symbol

logger: Final = logging.getLogger("onetape.client.watch")

TAPE_TRADES: Final = 100
"""How many prints a tape keeps."""

MACRO_S: Final = 30.0
"""How long the macro picture is shared before it is fetched again."""

MACRO: Final = ("I:SPX", "I:NDX", "I:VIX")


class Client(Protocol):
    """What is needed of `MassiveDataProvider`."""

    def subscribe_quotes(
        self,
        symbols: Iterable[str] | None = None,
        callback: Callable[[Quote], object] | None = None,
    ) -> Subscription[Quote]:
        """Stream quotes."""
        ...

    def subscribe_trades(
        self, symbols: Iterable[str], callback: Callable[[Trade], object] | None = None
    ) -> Subscription[Trade]:
        """Stream prints."""
        ...

    async def get_options_chain(self, underlying: str) -> OptionChain:
        """Return a chain."""
        ...

    async def get_indices(self, symbols: Iterable[str]) -> Rows[IndexSnapshot]:
        """Return indices."""
        ...


_provided: ContextVar[Client] = ContextVar("onetape.provided")


@contextlib.contextmanager
def providing(massive: Client) -> Generator[None]:
    """Let `provided` return this client, here and in the tasks that are started here."""
    token = _provided.set(massive)
    try:
        yield
    finally:
        _provided.reset(token)


def provided() -> Client:
    """Return the client of the nearest `providing`.

    Raises:
        NotConnected: there is none.
    """
    try:
        return _provided.get()
    except LookupError:
        raise NotConnected("no client is provided here: use `with providing(massive)`") from None


class QuoteBoard(Mapping[str, Quote]):
    """The latest quote of each symbol, as a mapping; only what came is in it.

    Args:
        massive: A connected client.
        symbols: What to watch first.
        callback: Called with each quote.
    """

    def __init__(
        self,
        massive: Client,
        symbols: Iterable[str] = (),
        *,
        callback: Callable[[Quote], object] | None = None,
    ) -> None:
        self._massive = massive
        self._callback = callback
        self._first = normalized(symbols)
        self._open: dict[str, Subscription[Quote]] = {}
        self._latest: dict[str, Quote] = {}

    async def __aenter__(self) -> Self:
        try:
            self.watch(self._first)
        except BaseException:
            self.watch(())
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.watch(())

    @property
    def symbols(self) -> tuple[str, ...]:
        """What is watched, in order."""
        return tuple(self._open)

    def watch(self, symbols: Iterable[str]) -> None:
        """Watch these instead; what is watched already is not disturbed."""
        wanted = normalized(symbols)
        for symbol in self._open.keys() - set(wanted):
            self._open.pop(symbol).close()
            self._latest.pop(symbol, None)
        for symbol in wanted:  # one by one: when one is refused, the others are still ours
            if symbol not in self._open:
                self._open[symbol] = self._massive.subscribe_quotes([symbol], self._take)
        self._open = {symbol: self._open[symbol] for symbol in wanted}

    def __getitem__(self, symbol: str) -> Quote:
        return self._latest[symbol]

    def __iter__(self) -> Iterator[str]:
        return (symbol for symbol in self._open if symbol in self._latest)

    def __len__(self) -> int:
        return len(self._latest)

    def _take(self, quote: Quote) -> None:
        if quote.symbol in self._open:
            self._latest[quote.symbol] = quote
            if self._callback is not None:
                self._callback(quote)


class ChainState(NamedTuple):
    """What is known of the chain that is watched."""

    underlying: str | None = None
    chain: OptionChain | None = None
    loading: bool = False
    error: OnetapeError | None = None


class ChainWatch:
    """One chain at a time, fetched anew every `refresh_s` seconds.

    Asked for another underlying, it forgets the old one at once, and the answer that was
    on its way. When fetching fails the last chain stays, beside the error.
    """

    def __init__(
        self,
        massive: Client,
        *,
        refresh_s: float = 10.0,
        on_change: Callable[[ChainState], object] = lambda _: None,
    ) -> None:
        self._massive = massive
        self._refresh_s = refresh_s
        self._on_change = on_change
        self._tasks = asyncio.TaskGroup()
        self._task: asyncio.Task[None] | None = None
        self.state = ChainState()

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        self.stop()
        await self._tasks.__aexit__(*error)

    def watch(self, underlying: str) -> None:
        """Watch the chain of this underlying instead."""
        symbol = normalize_symbol(underlying)
        self.stop()
        self._tell(ChainState(symbol, loading=True))
        self._task = self._tasks.create_task(self._keep(symbol))

    def stop(self) -> None:
        """Watch nothing; the state stays as it is."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _keep(self, symbol: str) -> None:
        while True:
            try:
                self._tell(ChainState(symbol, await self._massive.get_options_chain(symbol)))
            except OnetapeError as error:
                self._tell(ChainState(symbol, self.state.chain, error=error))
            await asyncio.sleep(self._refresh_s)

    def _tell(self, state: ChainState) -> None:
        self.state = state
        try:
            self._on_change(state)
        except Exception:  # a reader's own fault must not end the watch
            logger.exception("watch.callback_failed")


class OptionTape:
    """The last prints of one option, oldest first, and its quote."""

    def __init__(self, massive: Client, symbol: str, *, keep: int = TAPE_TRADES) -> None:
        self.symbol = normalize_symbol(symbol)
        self._massive = massive
        self._trades: deque[Trade] = deque(maxlen=keep)
        self._open = contextlib.ExitStack()
        self.quote: Quote | None = None

    async def __aenter__(self) -> Self:
        quotes = self._massive.subscribe_quotes([self.symbol], self._quoted)
        self._open.callback(quotes.close)
        self._open.callback(self._massive.subscribe_trades([self.symbol], self._traded).close)
        return self

    async def __aexit__(self, *error: object) -> None:
        self._open.close()

    @property
    def trades(self) -> tuple[Trade, ...]:
        """The prints that were kept."""
        return tuple(self._trades)

    @property
    def spread_percent(self) -> float | None:
        """The spread in percent of the middle; None without both sides and a positive middle."""
        spread, mid = (None, None) if self.quote is None else (self.quote.spread, self.quote.mid)
        return None if spread is None or not mid or mid < 0 else round(100 * spread / mid, 6)

    def _quoted(self, quote: Quote) -> None:
        self.quote = quote

    def _traded(self, trade: Trade) -> None:
        self._trades.append(trade)


class PnlTracker:
    """What a position in one option would gain if it were closed in the middle of the market.

    Args:
        massive: A connected client.
        symbol: The option.
        entry_price: Per share, in dollars.
        quantity: Contracts; negative when short.
        multiplier: Shares per contract.
    """

    def __init__(
        self,
        massive: Client,
        symbol: str,
        *,
        entry_price: float,
        quantity: float = 1,
        multiplier: float = 100,
    ) -> None:
        self.symbol = normalize_symbol(symbol)
        self.entry_price = entry_price
        self.quantity = quantity
        self.multiplier = multiplier
        self._board = QuoteBoard(massive, [self.symbol])

    async def __aenter__(self) -> Self:
        await self._board.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._board.__aexit__(*error)

    @property
    def quote(self) -> Quote | None:
        """The quote it is reckoned with."""
        return self._board.get(self.symbol)

    @property
    def pnl(self) -> float | None:
        """Gain in dollars, negative for a loss; None until both sides of the market are known."""
        mid = None if self.quote is None else self.quote.mid
        return None if mid is None else (mid - self.entry_price) * self.quantity * self.multiplier

    @property
    def pnl_percent(self) -> float | None:
        """Gain in percent of what was paid or received."""
        paid = abs(self.entry_price * self.quantity * self.multiplier)
        return None if self.pnl is None or not paid else 100 * self.pnl / paid


class MacroWatch:
    """SPX, NDX and VIX for any number of readers, fetched once in 30 s at most."""

    def __init__(self, massive: Client, *, clock: Clock | None = None) -> None:
        self._massive = massive
        self._clock = clock or SystemClock()
        self._flights: Flights[str, Rows[IndexSnapshot]] = Flights()
        self._rows: Rows[IndexSnapshot] | None = None
        self._good_until = float("-inf")

    async def __aenter__(self) -> Self:
        await self._flights.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._flights.__aexit__(*error)

    async def get(self) -> Rows[IndexSnapshot]:
        """Return the three, as far as they are known; joins whoever asks at the same time.

        Raises:
            OnetapeError: as `get_indices`.
        """
        if self._rows is not None and self._clock.monotonic() < self._good_until:
            return self._rows
        return await self._flights.join("macro", self._fetch)

    async def _fetch(self) -> Rows[IndexSnapshot]:
        self._rows = await self._massive.get_indices(MACRO)
        self._good_until = self._clock.monotonic() + MACRO_S
        return self._rows
