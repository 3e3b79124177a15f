"""Who reads what of Tradier's one stream: a `LiveFeed` whose topics are symbols there.

    Q.X, T.X, V.X ──▶ X ──▶ wanted as long as anybody reads it ──▶ TradierWebSocket.want
    an event of X ──▶ its readers, as one list for a frame

Tradier acknowledges nothing, and nobody knows whether it streams every index; so a symbol
counts as live when something came of it, and no longer when the stream is lost:

    silent ──an event──▶ live ──the stream is lost, or the symbol is refused──▶ silent

What is silent is polled by whoever reads it. Sans-I/O.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Final

from onetape.massive.notices import AuthFailed, Lost
from onetape.model import Quote, Topic, Trade
from onetape.providers.readers import Reader, Readers, ReadersStatistics, Take, Tell
from onetape.tradier.notices import SymbolsFailed, TradierNotice

MOST_SYMBOLS: Final = 1_000
"""How many symbols are streamed, the first that were read; Tradier publishes no limit."""

_CARRIED: Final = frozenset({"Q", "T", "V"})


class StreamReaders:
    """A `LiveFeed` over one `TradierWebSocket`. One event loop owns it.

    Args:
        most_symbols: How many symbols are streamed at one time.
    """

    def __init__(self, *, most_symbols: int = MOST_SYMBOLS) -> None:
        self._most = most_symbols
        self._want: Callable[[frozenset[str]], None] = _ignore
        self._readers = Readers("tradier", on_close=self._wish)

    def connect(self, want: Callable[[frozenset[str]], None]) -> None:
        """Say from now on what is wanted: `TradierWebSocket.want`."""
        self._want = want
        self._wish()

    def open(self, topics: frozenset[Topic], take: Take, tell: Tell) -> Reader:
        """Read topics; those of a symbol that is live are told at once."""
        reader = self._readers.open(_symbols_of(topics), take, tell)
        self._wish()
        self._readers.greet(reader)
        return reader

    def take(self, events: Sequence[Quote | Trade]) -> None:
        """Hand the events of one frame to their readers."""
        for event in events:
            for reader in self._readers.of(event.symbol):
                reader.pending.append(event)
        self._readers.set_live((event.symbol for event in events), is_live=True)
        self._readers.flush()

    def hear(self, notice: TradierNotice) -> None:
        """Take what happens to the stream."""
        match notice:
            case Lost() | AuthFailed():
                self._readers.set_live(self._readers.keys, is_live=False)
            case SymbolsFailed(symbols=symbols):
                self._readers.set_live(symbols, is_live=False)
            case _:
                pass

    def statistics(self) -> ReadersStatistics:
        """Count everything."""
        return self._readers.statistics()

    def _wish(self) -> None:
        self._want(frozenset(islice(self._readers.keys, self._most)))


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
