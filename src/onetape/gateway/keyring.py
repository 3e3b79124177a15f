"""The key store in memory, as the running gateway holds it.

The file is behind a worker thread; the loop only ever reads a frozen `Snapshot`, which
is replaced as a whole. What other processes write (`onetape keys revoke`) is seen
within a poll, so that a revoked key's sockets close within a second.
"""

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self, TypeVar

import msgspec

from onetape.clock import Clock
from onetape.errors import OnetapeError
from onetape.gateway.keys import KeyStore, Snapshot

_log: Final = logging.getLogger(__name__)
_T = TypeVar("_T")


class KeyRingStatistics(NamedTuple):
    """A snapshot for metrics."""

    keys: int
    keys_revoked: int
    tokens_revoked: int
    reloads: int
    failures: int  # polls that could not read the file; memory still answers


class KeyRing:
    """The store in memory, for as long as its `async with` block is open.

    Reading is synchronous and never touches the file. `run` follows the file; without
    it nothing breaks but revocations by other processes go unseen.
    """

    def __init__(
        self, state_dir: Path, *, clock: Clock, poll_s: float = 0.25, flush_s: float = 30.0
    ) -> None:
        self._state_dir = state_dir
        self._clock = clock
        self._poll_s = poll_s
        self._flush_s = flush_s
        # One worker: SQLite calls never overlap, and closing comes after all of them.
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="onetape.keys")
        self._store: KeyStore | None = None
        self._seen = 0
        self._snapshot = Snapshot()
        self._last_used: dict[str, int] = {}
        self._flush_at = clock.monotonic() + flush_s
        self._listeners: list[Callable[[], None]] = []
        self._reloads = 0
        self._failures = 0

    async def __aenter__(self) -> Self:
        try:
            self._snapshot = await self._in_worker(self._start)
        except BaseException:
            self._worker.shutdown(wait=False)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self._in_worker(partial(self._stop, self._take_uses()))
        finally:
            self._worker.shutdown(wait=False)

    @property
    def snapshot(self) -> Snapshot:
        """What the store held when last read."""
        return self._snapshot

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call the listener, in the loop, after every change of the snapshot."""
        self._listeners.append(listener)

    def note_use(self, key_id: str, now_ns: int) -> None:
        """Remember a use of a key; written with the next flush."""
        self._last_used[key_id] = now_ns

    async def revoke_token(self, token_id: str, *, expires_ns: int) -> None:
        """Refuse one token from now on. Once begun it is done, cancelled or not."""
        now_ns = self._clock.now_ns()

        def revoke() -> Snapshot:
            store = self._opened
            store.revoke_token(token_id, expires_ns=expires_ns, now_ns=now_ns)
            return store.snapshot()

        self._take(await self._in_worker(revoke))

    async def refresh(self) -> None:
        """Read the file again if anything was written to it."""
        used: dict[str, int] = {}
        if self._clock.monotonic() >= self._flush_at:
            self._flush_at = self._clock.monotonic() + self._flush_s
            used = self._take_uses()
        snapshot = await self._in_worker(partial(self._poll, used))
        if snapshot is not None:
            self._take(snapshot)

    async def run(self) -> None:
        """Follow the file until cancelled; trouble with it is counted, never raised."""
        broken = False
        while True:
            await asyncio.sleep(self._poll_s)
            try:
                await self.refresh()
            except (sqlite3.Error, OSError, OnetapeError, msgspec.MsgspecError) as error:
                self._failures += 1
                if not broken:
                    _log.warning("keys.unreadable", extra={"reason": type(error).__name__})
                broken = True
            else:
                broken = False

    def statistics(self) -> KeyRingStatistics:
        """Count everything."""
        revoked = sum(record.revoked_ns is not None for record in self._snapshot.keys.values())
        return KeyRingStatistics(
            keys=len(self._snapshot.keys) - revoked,
            keys_revoked=revoked,
            tokens_revoked=len(self._snapshot.revoked_tokens),
            reloads=self._reloads,
            failures=self._failures,
        )

    # private

    def _take(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._reloads += 1
        for listener in self._listeners:
            listener()

    async def _in_worker(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)

    def _take_uses(self) -> dict[str, int]:
        # Swapped in the loop, where it is written: the worker owns what it is given.
        used, self._last_used = self._last_used, {}
        return used

    # private, in the worker

    @property
    def _opened(self) -> KeyStore:
        if self._store is None:
            raise sqlite3.ProgrammingError("the key ring is closed")
        return self._store

    def _start(self) -> Snapshot:
        self._store = store = KeyStore(self._state_dir)
        store.ensure_signing_key(now_ns=self._clock.now_ns())
        self._seen = store.version()  # before the snapshot: a change between is read twice
        return store.snapshot()

    def _poll(self, used: Mapping[str, int]) -> Snapshot | None:
        store = self._opened
        if used:
            store.touch(used)
        version = store.version()
        if version == self._seen:
            return None
        snapshot = store.snapshot()
        self._seen = version
        return snapshot

    def _stop(self, used: Mapping[str, int]) -> None:
        if self._store is None:
            return
        with contextlib.suppress(sqlite3.Error):
            self._store.touch(used)
        self._store.close()
        self._store = None
