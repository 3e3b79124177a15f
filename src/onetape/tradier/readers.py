"""Who reads what of Tradier's one stream: a `LiveFeed` whose topics are symbols there.

    Q.X, T.X, V.X ──▶ X ──▶ wanted as long as anybody reads it ──▶ TradierWebSocket.want
    an event of X ──▶ its readers, as one list for a frame

Tradier acknowledges nothing, and nobody knows whether it streams every index; so a symbol
counts as live when something came of it, and no longer when the stream is lost:

    silent ──an event──▶ live ──the stream is lost, or the symbol is refused──▶ silent

What is silent is polled by whoever reads it. Sans-I/O.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Final, NamedTuple

from onetape.massive.notices import AuthFailed, Lost
from onetape.model import Bar, Quote, Topic, Trade
from onetape.tradier.notices import SymbolsFailed, TradierNotice

MOST_SYMBOLS: Final = 1_000
"""How many symbols are streamed, the first that were read; Tradier publishes no limit."""

_CARRIED: Final = frozenset({"Q", "T", "V"})

Take = Callable[[Sequence[Quote | Trade | Bar]], None]
Tell = Callable[[frozenset[Topic], bool], None]

logger: Final = logging.getLogger("onetape.tradier.readers")


class ReadersStatistics(NamedTuple):
    """A snapshot for metrics."""

    readers: int
    symbols: int
    live: int
    failures: int  # callbacks that raised


class Reader:
    """One who reads; a `Handle`."""

    __slots__ = ("_close", "symbols", "take", "tell")

    def __init__(
        self,
        symbols: dict[str, frozenset[Topic]],
        take: Take,
        tell: Tell,
        close: "Callable[[Reader], None]",
    ) -> None:
        self.symbols = symbols
        self.take = take
        self.tell = tell
        self._close = close

    def close(self) -> None:
        """Read no more; once or more often."""
        self._close(self)


class StreamReaders:
    """A `LiveFeed` over one `TradierWebSocket`. One event loop owns it.

    Args:
        most_symbols: How many symbols are streamed at one time.
    """

    def __init__(self, *, most_symbols: int = MOST_SYMBOLS) -> None:
        self._most = most_symbols
        self._want: Callable[[frozenset[str]], None] = _ignore
        # Dicts used as ordered sets: who came first is streamed, and told first.
        self._by_symbol: dict[str, dict[Reader, None]] = {}
        self._readers: dict[Reader, None] = {}
        self._live: set[str] = set()
        self._failures = 0

    def connect(self, want: Callable[[frozenset[str]], None]) -> None:
        """Say from now on what is wanted: `TradierWebSocket.want`."""
        self._want = want
        self._wish()

    # readers

    def open(self, topics: frozenset[Topic], take: Take, tell: Tell) -> Reader:
        """Read topics; those of a symbol that is live are told at once."""
        reader = Reader(_symbols_of(topics), take, tell, self._close)
        self._readers[reader] = None
        for symbol in reader.symbols:
            self._by_symbol.setdefault(symbol, {})[reader] = None
        self._wish()
        self._tell((reader,), self._live & reader.symbols.keys(), is_live=True)
        return reader

    def _close(self, reader: Reader) -> None:
        if reader not in self._readers:
            return
        del self._readers[reader]
        for symbol in reader.symbols:
            readers = self._by_symbol[symbol]
            del readers[reader]
            if not readers:
                del self._by_symbol[symbol]
                self._live.discard(symbol)
        self._wish()

    def _wish(self) -> None:
        self._want(frozenset(islice(self._by_symbol, self._most)))

    # what the stream says

    def take(self, events: Sequence[Quote | Trade]) -> None:
        """Hand the events of one frame to their readers."""
        news: dict[Reader, list[Quote | Trade | Bar]] = {}
        heard: set[str] = set()
        for event in events:
            for reader in self._by_symbol.get(event.symbol, ()):
                news.setdefault(reader, []).append(event)
            heard.add(event.symbol)
        fresh = (heard - self._live) & self._by_symbol.keys()
        if fresh:
            self._live |= fresh
            self._tell(tuple(self._readers), fresh, is_live=True)
        for reader, own in news.items():
            if reader in self._readers:  # another one may have closed it meanwhile
                self._call(reader.take, own)

    def hear(self, notice: TradierNotice) -> None:
        """Take what happens to the stream."""
        match notice:
            case Lost() | AuthFailed():
                gone = set(self._live)
            case SymbolsFailed(symbols=symbols):
                gone = self._live & symbols
            case _:
                return
        self._live -= gone
        self._tell(tuple(self._readers), gone, is_live=False)

    def statistics(self) -> ReadersStatistics:
        """Count everything."""
        return ReadersStatistics(
            len(self._readers), len(self._by_symbol), len(self._live), self._failures
        )

    # private

    def _tell(self, readers: Iterable[Reader], symbols: set[str], *, is_live: bool) -> None:
        if not symbols:
            return
        for reader in readers:
            topics = [reader.symbols[one] for one in symbols & reader.symbols.keys()]
            if topics:
                self._call(reader.tell, frozenset[Topic]().union(*topics), is_live)

    def _call(self, callback: Callable[..., None], *arguments: object) -> None:
        try:
            callback(*arguments)
        except Exception:  # one reader's fault is not the others'
            self._failures += 1
            if self._failures == 1:
                logger.exception("tradier.reader_failed")


def _symbols_of(topics: Iterable[Topic]) -> dict[str, frozenset[Topic]]:
    """Return the symbols of the topics that Tradier carries."""
    found: dict[str, frozenset[Topic]] = {}
    for topic in sorted(topics):
        channel, _, symbol = topic.partition(".")
        if channel in _CARRIED:
            found[symbol] = found.get(symbol, frozenset[Topic]()) | {topic}
    return found


def _ignore(_symbols: frozenset[str]) -> None:
    pass
