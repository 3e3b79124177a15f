"""What the market keeps of what it made: an LRU bounded in bytes.

Everything in it can be made again, so dropping is never wrong, only slow. It has two
shelves, because a request for a year of bars makes hundreds of days once, and must not
push out the few that the stream reads ten times a second:

    recent   days near the newest asked for, and what belongs to no day   3/4 of the bytes
    past     all other days                                               1/4
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Final, TypeVar, cast

from onetape.simulator.seeded.records import MarketStatistics

Made = TypeVar("Made")
_RECENT_DAYS: Final = 6


class _Shelf:
    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.held: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self.size_bytes = 0

    def find(self, key: Hashable) -> tuple[Any, int] | None:
        found = self.held.get(key)
        if found is not None:
            self.held.move_to_end(key)
        return found

    def put(self, key: Hashable, made: object, size_bytes: int) -> None:
        self.held[key] = (made, size_bytes)
        self.size_bytes += size_bytes
        # The newest stays whatever its size: the caller is about to use it.
        while self.size_bytes > self.limit_bytes and len(self.held) > 1:
            _, (_, dropped) = self.held.popitem(last=False)
            self.size_bytes -= dropped


class Memory:
    """Values by key, least recently used first out. Not thread-safe."""

    def __init__(self, limit_bytes: int) -> None:
        self._recent = _Shelf(limit_bytes - limit_bytes // 4)
        self._past = _Shelf(limit_bytes // 4)
        self._newest = 0
        self._hits = 0
        self._misses = 0

    def get(
        self,
        key: Hashable,
        make: Callable[[], Made],
        size_bytes: Callable[[Made], int],
        *,
        day: int | None = None,
    ) -> Made:
        """Return what is held under the key, making it first if need be.

        Args:
            key: names the value; the market day is part of it when there is one.
            make: makes the value.
            size_bytes: weighs it.
            day: index of the market day it belongs to.
        """
        found = self._recent.find(key) or self._past.find(key)
        if found is not None:
            self._hits += 1
            return cast("Made", found[0])
        self._misses += 1
        made = make()
        self._shelf(day).put(key, made, size_bytes(made))
        return made

    def statistics(self) -> MarketStatistics:
        """Count what is held."""
        shelves = (self._recent, self._past)
        return MarketStatistics(
            cached=sum(len(shelf.held) for shelf in shelves),
            cached_bytes=sum(shelf.size_bytes for shelf in shelves),
            limit_bytes=sum(shelf.limit_bytes for shelf in shelves),
            hits=self._hits,
            misses=self._misses,
        )

    def _shelf(self, day: int | None) -> _Shelf:
        if day is None:
            return self._recent
        self._newest = max(self._newest, day)
        return self._recent if day > self._newest - _RECENT_DAYS else self._past
