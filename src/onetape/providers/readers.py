"""Who reads what of one stream: what every `LiveFeed` does with its readers.

    open ───────▶ keys ──▶ carried for as long as anybody reads them
    an event ───▶ `pending` of those who read its key; `flush` ──▶ one `take` for each
    set_live ───▶ one `tell` for each who reads any of the keys

A key is what the stream carries or does not: a topic; or a symbol, at a vendor without
channels, which then stands for several topics. Callbacks may open and close whatever they
like; what they raise is logged once for each reader, counted, and disturbs nobody.
Sans-I/O.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set as AbstractSet
from typing import Final, NamedTuple

from onetape.model import Bar, Quote, Topic, Trade

Event = Quote | Trade | Bar
Take = Callable[[Sequence[Event]], None]
Tell = Callable[[frozenset[Topic], bool], None]

logger: Final = logging.getLogger("onetape.providers")


class ReadersStatistics(NamedTuple):
    """A snapshot for metrics."""

    readers: int
    keys: int
    live: int
    failures: int  # callbacks that raised


class Reader:
    """One who reads; a `Handle`."""

    __slots__ = ("_close", "has_failed", "keys", "pending", "take", "tell")

    def __init__(
        self,
        keys: Mapping[str, frozenset[Topic]],
        take: Take,
        tell: Tell,
        close: "Callable[[Reader], None]",
    ) -> None:
        self.keys = keys
        self.take = take
        self.tell = tell
        self.pending: list[Event] = []  # to be taken at the next flush
        self.has_failed = False
        self._close = close

    def close(self) -> None:
        """Read no more; once or more often."""
        self._close(self)


class Readers:
    """The readers of one stream.

    Args:
        feed: What the stream is called in the log.
        on_close: Called when somebody reads no more: less may be wanted.
    """

    def __init__(self, feed: str, *, on_close: Callable[[], None]) -> None:
        self._feed = feed
        self._on_close = on_close
        # Dicts used as ordered sets: who came first is streamed, and told first.
        self._readers: dict[Reader, None] = {}
        self._by_key: dict[str, dict[Reader, None]] = {}
        self._live: set[str] = set()
        self._failures = 0

    # who reads what

    @property
    def keys(self) -> AbstractSet[str]:
        """A live view of what is read, what was read first coming first."""
        return self._by_key.keys()

    def of(self, key: str) -> Collection[Reader]:
        """Return a live view of who reads this."""
        return self._by_key.get(key, ())

    def open(self, keys: Mapping[str, frozenset[Topic]], take: Take, tell: Tell) -> Reader:
        """Let somebody read; `greet` it when what it reads is on its way.

        Args:
            keys: Each with the topics of the reader's that it stands for.
            take: See `LiveFeed.open`.
            tell: See `LiveFeed.open`.
        """
        reader = Reader(keys, take, tell, self._close)
        self._readers[reader] = None
        for key in keys:
            self._by_key.setdefault(key, {})[reader] = None
        return reader

    # what they are told

    def greet(self, reader: Reader) -> None:
        """Tell a new reader what of its keys is live already."""
        self._announce(self._live & reader.keys.keys(), is_live=True, to=(reader,))

    def set_live(self, keys: Iterable[str], *, is_live: bool) -> None:
        """Note that keys are live, or no more; tell those whom it is news to."""
        known = set(keys) & self.keys
        changed = known - self._live if is_live else known & self._live
        if changed:
            self._live ^= changed
            self._announce(changed, is_live=is_live, to=tuple(self._readers))

    @property
    def live(self) -> AbstractSet[str]:
        """A live view of what is live, and read."""
        return self._live

    def tell(self, reader: Reader, topics: frozenset[Topic], *, is_live: bool) -> None:
        """Tell one reader of topics, whatever they are."""
        if topics:
            self._call(reader, reader.tell, topics, is_live)

    # what they take

    def flush(self) -> None:
        """Hand each reader what is pending, in one call."""
        for reader in [reader for reader in self._readers if reader.pending]:
            events = reader.pending.copy()  # routes append to this very list
            reader.pending.clear()
            if events:  # else another one closed it meanwhile
                self._call(reader, reader.take, events)

    def statistics(self) -> ReadersStatistics:
        """Count everything."""
        return ReadersStatistics(
            len(self._readers), len(self._by_key), len(self._live), self._failures
        )

    # private

    def _close(self, reader: Reader) -> None:
        if reader not in self._readers:
            return
        del self._readers[reader]
        reader.pending.clear()
        for key in reader.keys:
            readers = self._by_key[key]
            del readers[reader]
            if not readers:
                del self._by_key[key]
                self._live.discard(key)
        self._on_close()

    def _announce(self, keys: set[str], *, is_live: bool, to: Iterable[Reader]) -> None:
        concerned: dict[Reader, list[str]] = {}
        for key in keys:
            for reader in self.of(key):
                concerned.setdefault(reader, []).append(key)
        for reader in to:
            if reader not in self._readers:
                continue  # another one closed it meanwhile
            # And what another one's callback changed since then was told since then.
            own = [key for key in concerned.get(reader, ()) if (key in self._live) is is_live]
            topics = frozenset[Topic]().union(*(reader.keys[key] for key in own))
            self.tell(reader, topics, is_live=is_live)

    def _call(self, reader: Reader, callback: Callable[..., None], *arguments: object) -> None:
        try:
            callback(*arguments)
        except Exception:  # one reader's fault is not the others'
            self._failures += 1
            if not reader.has_failed:
                reader.has_failed = True
                logger.exception("provider.reader_failed", extra={"feed": self._feed})
