"""The ring answers from memory and follows the file; blockbuster holds it to that."""

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import pytest

from onetape.errors import ConfigInvalid
from onetape.gateway.keyring import KeyRing
from onetape.gateway.keys import FILE_NAME, KeyRecord, KeyStore
from onetape.testing import ManualClock


def in_file(state_dir: Path, work: Callable[[KeyStore], KeyRecord]) -> KeyRecord:
    """Do what another process would."""
    with KeyStore(state_dir) as store:
        return work(store)


@contextlib.asynccontextmanager
async def following(ring: KeyRing) -> AsyncGenerator[None]:
    async with asyncio.TaskGroup() as tasks:
        run = tasks.create_task(ring.run())
        yield
        run.cancel()


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0.01)


async def test_a_ring_starts_with_a_signing_key_and_what_the_file_holds(tmp_path: Path) -> None:
    clock = ManualClock()
    key = await asyncio.to_thread(
        in_file, tmp_path, lambda store: store.create("bot", now_ns=1).record
    )

    async with KeyRing(tmp_path, clock=clock) as ring:
        assert ring.snapshot.keys == {key.key_id: key}
        assert ring.snapshot.signer is not None


async def test_a_key_revoked_by_another_process_is_seen_within_a_second(tmp_path: Path) -> None:
    async with KeyRing(tmp_path, clock=ManualClock(), poll_s=0.01) as ring, following(ring):
        changes: list[int] = []
        ring.on_change(lambda: changes.append(len(ring.snapshot.keys)))
        key = await asyncio.to_thread(
            in_file, tmp_path, lambda store: store.create("bot", now_ns=1).record
        )
        await eventually(lambda: ring.snapshot.is_live(key.key_id))

        started = asyncio.get_running_loop().time()
        await asyncio.to_thread(in_file, tmp_path, lambda store: store.revoke("bot", now_ns=2))
        await eventually(lambda: not ring.snapshot.is_live(key.key_id))

        assert asyncio.get_running_loop().time() - started < 1
        assert changes
        assert ring.statistics()[:2] == (0, 1)


async def test_a_token_revoked_here_is_refused_at_once(tmp_path: Path) -> None:
    clock = ManualClock()
    async with KeyRing(tmp_path, clock=clock) as ring:
        heard: list[str] = []
        ring.on_change(lambda: heard.append("change"))

        await ring.revoke_token("abc", expires_ns=clock.now_ns() + 1)

        assert "abc" in ring.snapshot.revoked_tokens
        assert heard == ["change"]
        assert ring.statistics().tokens_revoked == 1


async def test_without_changes_nothing_is_read_again(tmp_path: Path) -> None:
    async with KeyRing(tmp_path, clock=ManualClock()) as ring:
        await ring.refresh()
        await ring.refresh()

        assert ring.statistics().reloads == 0


async def test_uses_are_written_now_and_then_and_at_the_end(tmp_path: Path) -> None:
    clock = ManualClock()
    key = await asyncio.to_thread(
        in_file, tmp_path, lambda store: store.create("bot", now_ns=1).record
    )

    def last_use() -> int | None:
        with KeyStore(tmp_path) as store:
            return store.records()[0].last_used_ns

    async with KeyRing(tmp_path, clock=clock, flush_s=30) as ring:
        ring.note_use(key.key_id, 5)
        await ring.refresh()
        assert await asyncio.to_thread(last_use) is None

        clock.advance(30)
        await ring.refresh()
        assert await asyncio.to_thread(last_use) == 5

        ring.note_use(key.key_id, 7)
    assert await asyncio.to_thread(last_use) == 7


async def test_a_file_that_cannot_be_read_leaves_memory_answering(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key = await asyncio.to_thread(
        in_file, tmp_path, lambda store: store.create("bot", now_ns=1).record
    )

    def run(sql: str) -> None:
        with contextlib.closing(sqlite3.connect(tmp_path / FILE_NAME)) as database:
            database.execute(sql)

    with caplog.at_level(logging.WARNING):
        async with KeyRing(tmp_path, clock=ManualClock(), poll_s=0.005) as ring, following(ring):
            await asyncio.to_thread(run, "ALTER TABLE keys RENAME TO hidden")
            await eventually(lambda: ring.statistics().failures > 2)
            assert ring.snapshot.is_live(key.key_id)

            await asyncio.to_thread(run, "ALTER TABLE hidden RENAME TO keys")
            await eventually(lambda: ring.statistics().reloads > 0)
            assert ring.snapshot.is_live(key.key_id)

    assert [record.message for record in caplog.records] == ["keys.unreadable"], "throttled"


async def test_a_ring_that_cannot_open_its_file_leaves_no_thread(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"not a database, but long enough to be taken for one" * 9)

    with pytest.raises(ConfigInvalid):
        async with KeyRing(tmp_path, clock=ManualClock()):
            pass


async def test_cancelling_a_ring_in_use_leaves_a_store_that_opens(tmp_path: Path) -> None:
    opened = asyncio.Event()

    async def use() -> None:
        async with KeyRing(tmp_path, clock=ManualClock(), poll_s=0.001) as ring:
            opened.set()
            await ring.run()

    task = asyncio.get_running_loop().create_task(use())
    await opened.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    async with KeyRing(tmp_path, clock=ManualClock()) as ring:
        assert ring.snapshot.signer is not None


async def test_two_processes_make_do_with_each_others_signing_keys(tmp_path: Path) -> None:
    async with (
        KeyRing(tmp_path, clock=ManualClock()) as one,
        KeyRing(tmp_path, clock=ManualClock()) as two,
    ):
        await one.refresh()

        assert one.snapshot.signing_keys == two.snapshot.signing_keys
