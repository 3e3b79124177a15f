import asyncio
from pathlib import Path

import aiohttp
import pytest

from onetape.gateway.app import Gateway
from onetape.simulator.app import Simulator
from onetape.testing import LeapClock, ManualClock, Playground, leaping, until

IMPORTED = (Gateway, Simulator)  # in the loop an import would block


async def status_of(url: str, key: str | None = None) -> int:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        return answer.status


def test_a_manual_clock_moves_only_when_told() -> None:
    clock = ManualClock(monotonic=5.0, now_ns=7)

    clock.advance(1.5)

    assert (clock.monotonic(), clock.now_ns()) == (6.5, 1_500_000_007)


def test_an_hour_of_timers_takes_a_moment_on_a_leaping_loop() -> None:
    clock = LeapClock(start_ns=7)
    rang: list[tuple[float, int]] = []

    @leaping
    async def an_hour(every_s: float) -> float:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(asyncio.sleep(3600))
            for _ in range(3):
                await asyncio.sleep(every_s)
                rang.append((clock.monotonic(), clock.now_ns()))
        return clock.monotonic()

    assert an_hour(0.5) == 3600
    assert rang == [(0.5, 500_000_007), (1.0, 1_000_000_007), (1.5, 1_500_000_007)]


def test_a_leaping_loop_says_so_when_everybody_waits_for_ever() -> None:
    @leaping
    async def waiting() -> None:
        await asyncio.Event().wait()

    with pytest.raises(RuntimeError, match="for ever"):
        waiting()


async def test_until_returns_as_soon_as_it_holds() -> None:
    done = asyncio.Event()
    asyncio.get_running_loop().call_later(0.02, done.set)

    await until(done.is_set)
    await until(lambda: "anything true")

    assert done.is_set()


async def test_until_gives_up_in_time() -> None:
    with pytest.raises(TimeoutError):
        await until(lambda: None, timeout_s=0.02)


async def test_a_playground_is_a_gateway_before_a_vendor_with_keys_to_give(
    tmp_path: Path,
) -> None:
    async with Playground(tmp_path) as play:
        url = f"{play.gateway.url}/v1/marketstatus/now"
        key, other = await play.key(), await play.key(loopback_only=True)
        assert [await status_of(url, one) for one in (key, other)] == [200, 200]

        await play.revoke(key)
        await until(lambda: not play.gateway.ring.snapshot.is_live(key.split("_")[1]))
        assert [await status_of(url, one) for one in (key, other)] == [403, 200]
        assert play.simulator.state().rest_requests >= 1

    assert any(b"request" in line for line in play.lines)
    with pytest.raises(aiohttp.ClientConnectionError):
        await status_of(url)


async def test_another_gateway_of_a_playground_shares_its_vendor_and_its_keys(
    tmp_path: Path,
) -> None:
    async with Playground(tmp_path, upstream={"concurrency": 2}) as play:
        key = await play.key()
        async with play.another(rate_per_minute=5) as second:
            assert second.netloc != play.gateway.netloc
            assert await status_of(f"{second.url}/v1/marketstatus/now", key) == 200


async def test_a_playground_that_cannot_start_leaves_no_vendor_behind(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    play = Playground(tmp_path / "file")
    with pytest.raises(Exception, match="ONETAPE_STATE_DIR"):
        async with play:
            raise AssertionError("it must not start")

    with pytest.raises(aiohttp.ClientConnectionError):
        await status_of(play.simulator.url)
