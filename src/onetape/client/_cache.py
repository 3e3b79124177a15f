"""What the client remembers of answers: typed, immutable, and no longer than it is true.

    get_or_fetch ── fresh ──────────────────────────────────────────────▶ hit
        ├── stale, with `revalidate` ── at once, and renewed behind ────▶ stale hit
        └── else the fetch, one for all ── an answer, kept ─────────────▶ miss
                                        └─ a failure ── a stale copy ───▶ miss, stood in
                                                     └─ none ───────────▶ the error

Failures are never kept. Holidays and contracts alone may outlive the process, in a
directory of the user's, by the wall clock; prices never do.
"""

import asyncio
import logging
import tempfile
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Final, NamedTuple, Self, TypeVar, cast
from urllib.parse import quote

import msgspec

from onetape.calendar import Holiday
from onetape.clock import Clock
from onetape.core.cache import Cache, Freshness
from onetape.errors import UNREADABLE, OnetapeError, UpstreamError
from onetape.flights import Flights
from onetape.massive.wire_rest import ParamValue, Scalar, query_of, text_of
from onetape.model import OptionContract
from onetape.own_tasks import OwnTasks

T = TypeVar("T")

TTL_S: Final[Mapping[str, float]] = {
    "contract": 900.0,
    "aggs": 60.0,
    "aggs_closed": 86_400.0,  # a range that lies in the past
    "holidays": 86_400.0,
    "indicators": 60.0,
    "chain": 10.0,
    "chain_closed": 60.0,  # while the market is closed
}
"""How long answers are fresh, in seconds. Status, quotes, RSI, index snapshots and trades are
not here: they are joined in flight and never kept."""

STALE_S: Final[Mapping[str, float]] = {"contract": 86_400.0, "holidays": 30 * 86_400.0}
"""How long after that the last good answer may stand in for a failing gateway."""

PERSISTED: Final[Mapping[str, Any]] = {"contract": OptionContract, "holidays": tuple[Holiday, ...]}
"""The namespaces that may be kept on disk, and what their values are."""

MAX_BYTES: Final = 32 << 20
SAVE_AFTER_S: Final = 2.0
"""Changes are saved together, this long after the first."""

_OVERHEAD_BYTES: Final = 512
_MAX_FILE_BYTES: Final = 64 << 20
_MUTABLE: Final = (list, dict, set, bytearray)

logger: Final = logging.getLogger("onetape.client.cache")


class ClientCacheStatistics(NamedTuple):
    """A snapshot for health and metrics; `hits + stale_hits + misses` is the number of lookups."""

    hits: int
    stale_hits: int  # a stale entry was returned at once
    misses: int  # somebody had to wait for a fetch
    stood_in: int  # of these, a stale entry was returned because the fetch failed
    coalesced: int  # calls that joined a fetch of another
    uncached: int  # calls for what is never kept; no lookups
    renewal_failures: int
    evictions: int
    expired: int
    entries: int
    size_bytes: int
    restored: int  # read from disk at the start
    unreadable: int  # on disk, and could not be read
    save_failures: int

    @property
    def hit_rate(self) -> float | None:
        """The share of lookups answered at once; None before the first."""
        lookups = self.hits + self.stale_hits + self.misses
        return (self.hits + self.stale_hits) / lookups if lookups else None


class ClientCache:
    """Answers by key. Use it as an async context manager: it owns the fetches and its tasks.

    Values are handed out as they were put in, to all alike, so they are frozen Structs,
    tuples of them, or text; what is plainly mutable is refused.

    Args:
        clock: The time.
        max_bytes: How much is kept; the least recently used goes first.
        directory: Where holidays and contracts outlive the process. None: nowhere. One
            gateway's are not another's: give each its own.
        simulated: Whether answers are made up at the moment; then none is saved.
        sleep: How the saving waits.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        max_bytes: int = MAX_BYTES,
        directory: Path | None = None,
        simulated: Callable[[], bool] = lambda: False,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._clock = clock
        self._simulated = simulated
        self._sleep = sleep
        self._cache = Cache[object](max_bytes)
        self._flights = Flights[str, object]()
        self._tasks = OwnTasks()
        self._saver: asyncio.Task[None] | None = None
        self._renewals: dict[str, asyncio.Task[None]] = {}
        self._shelf = None if directory is None else _Shelf(directory)
        self._lives: dict[str, _Life] = {}  # of what is to outlive us
        self._changed = asyncio.Event()
        self._is_open = False
        self._era = 0
        self._hits = self._stale_hits = self._misses = self._stood_in = self._uncached = 0
        self._renewal_failures = self._restored = self._unreadable = self._save_failures = 0

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        await self._flights.__aenter__()
        self._is_open = True
        if self._shelf is not None:
            self._restore(await asyncio.to_thread(self._shelf.read))
            self._saver = self._tasks.create_task(self._save_changes(self._shelf))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_open = False
        for task in filter(None, (self._saver, *self._renewals.values())):
            task.cancel()
        try:
            await self._flights.__aexit__(kind, error, traceback)
        finally:
            try:
                await self._tasks.__aexit__(kind, error, traceback)
            finally:
                if self._shelf is not None and self._changed.is_set():
                    await self._save(self._shelf)

    @staticmethod
    def key(namespace: str, /, *parts: Scalar, **params: ParamValue) -> str:
        """Name an answer: `chain:I:SPX:limit=250&strike_price.gte=6000`.

        Parts are in order, symbols in the vendor's form; parameters in any order, None left
        out. Equal questions have equal keys.
        """
        query = query_of(params)
        texts = [quote(text_of(part), safe=":,@/") for part in parts]
        return ":".join([namespace, *texts, query] if query else [namespace, *texts])

    # answers

    async def get_or_fetch(
        self,
        key: str,
        fetch: Callable[[], Awaitable[T]],
        *,
        ttl_s: float,
        stale_s: float = 0.0,
        size: Callable[[T], int | None] | None = None,
        revalidate: bool = False,
    ) -> T:
        """Return the fresh answer, fetching it once for all who wait. Cancel-safe.

        Args:
            key: Made by `key`; one key has one type of answer.
            fetch: What to do without a fresh answer; its failures are raised, not kept.
            ttl_s: How long the answer is fresh; 0 for never: it is joined in flight only.
            stale_s: For how long after that it stands in when `fetch` fails for the moment.
            size: How many bytes an answer takes, None for one that is not to be kept; without
                it it is encoded to find out.
            revalidate: Return a stale answer at once and renew it meanwhile.
        """
        if ttl_s + stale_s <= 0:
            self._uncached += 1
            return cast("T", await self._flights.join(key, fetch))
        found = self._cache.get(key, self._clock.monotonic())
        if found is not None and found.state is Freshness.FRESH:
            self._hits += 1
            return cast("T", found.entry)

        async def work() -> T:
            era = self._era
            value = await fetch()
            if era == self._era:  # else it was begun before a `clear`
                taken = None if size is None else size(value)
                if size is None or taken is not None:
                    self._keep(key, value, ttl_s=ttl_s, stale_s=stale_s, size_bytes=taken)
            return value

        if found is not None and revalidate:
            self._stale_hits += 1
            self._renew(key, work)
            return cast("T", found.entry)
        self._misses += 1
        try:
            return cast("T", await self._flights.join(key, work))
        except OnetapeError as error:
            return cast("T", self._stand_in(key, error))

    def get(self, key: str) -> object | None:
        """Return the fresh answer, or None. Asks nobody."""
        found = self._cache.get(key, self._clock.monotonic())
        if found is None or found.state is Freshness.STALE:
            self._misses += 1
            return None
        self._hits += 1
        return found.entry

    def put(
        self,
        key: str,
        value: object,
        *,
        ttl_s: float,
        stale_s: float = 0.0,
        size_bytes: int | None = None,
    ) -> bool:
        """Keep an answer that came by another way; False when it is too large."""
        return self._keep(key, value, ttl_s=ttl_s, stale_s=stale_s, size_bytes=size_bytes)

    def clear(self, glob: str | None = None) -> int:
        """Forget all, or what matches; return how many. What is being fetched is not kept.

        In the glob `*` stands for any run of characters and `?` for any one. One that ends
        in `:` or `:*` names an entry and all below it: `chain:SPX:*` is `chain:SPX` and
        `chain:SPX:limit=9`, and not `chain:SPXW`.
        """
        self._era += 1
        dropped = 0
        for one in _globs(glob):
            dropped += self._cache.clear(one)
        if self._lives:
            self._changed.set()  # saving looks at what is left
        return dropped

    def statistics(self) -> ClientCacheStatistics:
        """Count everything."""
        core = self._cache.statistics()
        return ClientCacheStatistics(
            hits=self._hits,
            stale_hits=self._stale_hits,
            misses=self._misses,
            stood_in=self._stood_in,
            coalesced=self._flights.coalesced,
            uncached=self._uncached,
            renewal_failures=self._renewal_failures,
            evictions=core.evictions,
            expired=core.expired,
            entries=core.entries,
            size_bytes=core.size_bytes,
            restored=self._restored,
            unreadable=self._unreadable,
            save_failures=self._save_failures,
        )

    # private

    def _keep(
        self, key: str, value: object, *, ttl_s: float, stale_s: float, size_bytes: int | None
    ) -> bool:
        if isinstance(value, _MUTABLE):
            raise TypeError(f"{key}: keep a tuple or a frozen Struct, which nobody can change")
        if size_bytes is None:
            size_bytes = len(msgspec.json.encode(value)) + _OVERHEAD_BYTES
        now = self._clock.monotonic()
        kept = self._cache.put(
            key, value, size_bytes=size_bytes, fresh_s=ttl_s, stale_s=stale_s, now=now
        )
        if self._shelf is not None and _namespace(key) in PERSISTED:
            self._lives.pop(key, None)
            if kept and not self._simulated():
                self._lives[key] = _Life(self._clock.now_ns(), ttl_s, stale_s, size_bytes)
            self._changed.set()
        return kept

    def _stand_in(self, key: str, error: OnetapeError) -> object:
        found = None
        if isinstance(error, UpstreamError) or error.retryable:
            found = self._cache.get(key, self._clock.monotonic())
        if found is None:
            raise error
        self._stood_in += 1
        return found.entry

    def _renew(self, key: str, work: Callable[[], Awaitable[object]]) -> None:
        if self._is_open and key not in self._renewals:
            self._renewals[key] = self._tasks.create_task(self._renewed(key, work))

    async def _renewed(self, key: str, work: Callable[[], Awaitable[object]]) -> None:
        try:
            await self._flights.join(key, work)
        except Exception as error:  # nobody waits for it: counted, and told in the log
            self._renewal_failures += 1
            bug = None if isinstance(error, OnetapeError) else error
            logger.warning("cache.renewal_failed", extra={"key": key}, exc_info=bug)
        finally:
            del self._renewals[key]

    # private, outliving the process

    def _restore(self, reading: "_Reading") -> None:
        now, now_ns = self._clock.monotonic(), self._clock.now_ns()
        for key, value, life in reading.entries:
            # The wall clock may have been set back: nothing lives longer for that.
            age_s = max(0.0, (now_ns - life.kept_ns) / 1e9)
            fresh_s = max(0.0, life.fresh_s - age_s)
            stale_s = life.fresh_s + life.stale_s - age_s - fresh_s
            if fresh_s + stale_s > 0 and self._cache.put(
                key, value, size_bytes=life.size_bytes, fresh_s=fresh_s, stale_s=stale_s, now=now
            ):
                self._lives[key] = life
                self._restored += 1
        self._unreadable += reading.unreadable
        if reading.unreadable:
            logger.warning("cache.unreadable", extra={"entries": reading.unreadable})

    async def _save_changes(self, shelf: "_Shelf") -> None:
        while True:
            await self._changed.wait()
            await self._sleep(SAVE_AFTER_S)
            await self._save(shelf)

    async def _save(self, shelf: "_Shelf") -> None:
        self._changed.clear()
        now = self._clock.monotonic()
        entries: list[_Entry] = []
        for key, life in list(self._lives.items()):
            found = self._cache.get(key, now)  # and so these count as used
            if found is None:
                del self._lives[key]
            else:
                entries.append(_Entry(key, found.entry, life))
        try:
            await asyncio.to_thread(shelf.write, entries)
        except asyncio.CancelledError:
            self._changed.set()  # it may or may not be written: save again before we go
            raise
        except (OSError, TypeError, ValueError, msgspec.MsgspecError) as error:
            if not self._save_failures:
                logger.warning("cache.save_failed", extra={"error": type(error).__name__})
            self._save_failures += 1


def _globs(glob: str | None) -> tuple[str, ...]:
    if glob is None:
        return ("*",)
    stem = glob.removesuffix("*")
    return (stem[:-1], stem + "*") if stem.endswith(":") else (glob,)


def _namespace(key: str) -> str:
    return key.partition(":")[0]


# on disk

_Span = Annotated[float, msgspec.Meta(ge=0, le=1e9)]


class _Life(msgspec.Struct, frozen=True, array_like=True):
    """When an entry was kept, by the wall clock, and for how long."""

    kept_ns: int
    fresh_s: _Span
    stale_s: _Span
    size_bytes: Annotated[int, msgspec.Meta(ge=0)]


class _Entry(NamedTuple):
    key: str
    value: object
    life: _Life


class _Reading(NamedTuple):
    entries: list[_Entry]
    unreadable: int


class _Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    key: str
    life: _Life
    value: msgspec.Raw


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    records: list[msgspec.Raw]  # read one by one, so that a bad one spoils no other


_VERSION: Final = 1
_file = msgspec.json.Decoder(_File)
_record = msgspec.json.Decoder(_Record)
_values: Final = {name: msgspec.json.Decoder(kind) for name, kind in PERSISTED.items()}


class _Shelf:
    """One JSON file per namespace, replaced as a whole. Its methods block: call them in a thread.

    Several processes may share a directory; the last to save wins, and none sees half a file.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        # A cancelled save goes on in its thread; the next one waits for it here.
        self._one = threading.Lock()

    def read(self) -> _Reading:
        entries: list[_Entry] = []
        unreadable = 0
        for namespace in PERSISTED:
            found = self._read(namespace)
            entries += found.entries
            unreadable += found.unreadable
        return _Reading(entries, unreadable)

    def write(self, entries: Iterable[_Entry]) -> None:
        records: dict[str, list[msgspec.Raw]] = {namespace: [] for namespace in PERSISTED}
        for key, value, life in entries:
            record = _Record(key, life, msgspec.Raw(msgspec.json.encode(value)))
            records[_namespace(key)].append(msgspec.Raw(msgspec.json.encode(record)))
        with self._one:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            for namespace, kept in records.items():
                self._replace(namespace, msgspec.json.encode(_File(_VERSION, kept)))

    def _path(self, namespace: str) -> Path:
        return self._directory / f"{namespace}.json"

    def _read(self, namespace: str) -> _Reading:
        path = self._path(namespace)
        try:
            if path.stat().st_size > _MAX_FILE_BYTES:
                return _Reading([], 1)
            file = _file.decode(path.read_bytes())
        except FileNotFoundError:
            return _Reading([], 0)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return _Reading([], 1)
        if file.version != _VERSION:
            return _Reading([], 1)
        entries = [entry for raw in file.records if (entry := _entry_of(raw, namespace))]
        return _Reading(entries, len(file.records) - len(entries))

    def _replace(self, namespace: str, text: bytes) -> None:
        with tempfile.NamedTemporaryFile(
            dir=self._directory, prefix=f".{namespace}.", delete=False
        ) as file:
            temporary = Path(file.name)
            try:
                file.write(text)
                file.close()
                temporary.replace(self._path(namespace))
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise


def _entry_of(raw: msgspec.Raw, namespace: str) -> _Entry | None:
    try:
        record = _record.decode(raw)
        value = _values[namespace].decode(record.value)
    except UNREADABLE:
        return None
    if _namespace(record.key) != namespace:
        return None
    return _Entry(record.key, value, record.life)
