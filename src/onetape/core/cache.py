"""Answers worth keeping: fresh for a while, then stale for a while, then gone.

Sans-I/O: time comes in as seconds on the monotonic clock. An entry's life:

    put ──▶ fresh ── fresh_s ──▶ stale ── stale_s ──▶ gone
                                 (only to be served marked, when the vendor fails)

Values are handed out as they were put in: keep immutable ones (bytes, frozen
Structs). An own container: cachetools' has one lifetime per entry instead of two,
takes no `now`, and counts neither evictions nor expiries.
"""

from collections import OrderedDict
from enum import StrEnum
from typing import Final, Generic, NamedTuple, TypeVar

V = TypeVar("V")

SWEEP_S: Final = 60.0
"""How often a `put` looks through all entries for expired ones."""


class Freshness(StrEnum):
    """Whether an entry may be served as it is, or only marked."""

    FRESH = "fresh"
    STALE = "stale"


class Found(NamedTuple, Generic[V]):
    """What a lookup found: the value that was put in, and how old it is."""

    state: Freshness
    entry: V
    age_s: float


class CacheStatistics(NamedTuple):
    """A snapshot for metrics; `hits + stale_hits + misses` is the number of lookups."""

    hits: int
    stale_hits: int
    misses: int
    evictions: int  # removed to make room
    expired: int  # removed because their time was over
    entries: int
    size_bytes: int

    @property
    def hit_rate(self) -> float | None:
        """The share of lookups that found a fresh entry; None before the first lookup."""
        lookups = self.hits + self.stale_hits + self.misses
        return self.hits / lookups if lookups else None


class _Kept(Generic[V]):
    __slots__ = ("fresh_until", "kept_at", "size_bytes", "stale_until", "value")

    def __init__(
        self, value: V, size_bytes: int, kept_at: float, fresh_until: float, stale_until: float
    ) -> None:
        self.value = value
        self.size_bytes = size_bytes
        self.kept_at = kept_at
        self.fresh_until = fresh_until
        self.stale_until = stale_until


class Cache(Generic[V]):
    """Entries by key, at most `max_bytes` and `max_entries` of them; the least used go first.

    Lookups and changes are O(1), but for one pass over all entries each `SWEEP_S`.
    """

    def __init__(self, max_bytes: int, *, max_entries: int = 65_536) -> None:
        self._max_bytes = max_bytes
        self._max_entries = max_entries
        self._kept: OrderedDict[str, _Kept[V]] = OrderedDict()  # least recently used first
        self._size_bytes = 0
        self._sweep_from = float("-inf")
        self._hits = 0
        self._stale_hits = 0
        self._misses = 0
        self._evictions = 0
        self._expired = 0

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: str, now: float) -> Found[V] | None:
        """Return the entry, fresh or stale, and count the lookup."""
        kept = self._kept.get(key)
        if kept is None:
            self._misses += 1
            return None
        if now < kept.fresh_until:
            self._hits += 1
            self._kept.move_to_end(key)
            return Found(Freshness.FRESH, kept.value, now - kept.kept_at)
        if now < kept.stale_until:
            self._stale_hits += 1
            self._kept.move_to_end(key)
            return Found(Freshness.STALE, kept.value, now - kept.kept_at)
        self._misses += 1
        self._expired += 1
        self.drop(key)
        return None

    def put(
        self, key: str, value: V, *, size_bytes: int, fresh_s: float, stale_s: float, now: float
    ) -> bool:
        """Keep the value in place of any older one; False when it is not kept.

        An entry larger than the cache, or without a lifetime, is refused; the older
        one is dropped all the same, since it is known to be out of date.
        """
        if now >= self._sweep_from:
            self.sweep(now)
        self.drop(key)
        if not 0 <= size_bytes <= self._max_bytes or fresh_s + stale_s <= 0:
            return False
        fresh_until = now + fresh_s
        self._kept[key] = _Kept(value, size_bytes, now, fresh_until, fresh_until + stale_s)
        self._size_bytes += size_bytes
        while self._size_bytes > self._max_bytes or len(self._kept) > self._max_entries:
            _, evicted = self._kept.popitem(last=False)
            self._size_bytes -= evicted.size_bytes
            self._evictions += 1
        return True

    def drop(self, key: str) -> bool:
        """Forget one entry; return whether there was one."""
        kept = self._kept.pop(key, None)
        if kept is None:
            return False
        self._size_bytes -= kept.size_bytes
        return True

    def clear(self, glob: str = "*") -> int:
        """Forget the entries whose key matches; return how many.

        In the glob `*` stands for any run of characters and `?` for any one; all
        else stands for itself.
        """
        matching = [key for key in self._kept if matches(glob, key)]
        for key in matching:
            self.drop(key)
        return len(matching)

    def sweep(self, now: float) -> int:
        """Remove every expired entry; return how many. `put` calls it each `SWEEP_S`."""
        self._sweep_from = now + SWEEP_S
        gone = [key for key, kept in self._kept.items() if now >= kept.stale_until]
        for key in gone:
            self.drop(key)
        self._expired += len(gone)
        return len(gone)

    def statistics(self) -> CacheStatistics:
        """Count everything; O(1)."""
        return CacheStatistics(
            hits=self._hits,
            stale_hits=self._stale_hits,
            misses=self._misses,
            evictions=self._evictions,
            expired=self._expired,
            entries=len(self._kept),
            size_bytes=self._size_bytes,
        )


def matches(glob: str, key: str) -> bool:
    """Return whether the whole key matches, in at most O(len(glob) * len(key)) steps.

    A regular expression made of the glob would take exponential time for some globs.
    """
    at = key_at = 0
    star = -1  # where the last `*` is; what it stands for grows when the rest fails
    star_key_at = 0
    while key_at < len(key):
        if at < len(glob) and glob[at] == "*":
            star, star_key_at = at, key_at
            at += 1
        elif at < len(glob) and glob[at] in ("?", key[key_at]):
            at += 1
            key_at += 1
        elif star >= 0:
            star_key_at += 1
            at, key_at = star + 1, star_key_at
        else:
            return False
    return glob[at:].strip("*") == ""
