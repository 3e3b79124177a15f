"""What the vendor does to the gateway, and how little of it clients see."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import ClientConnection, connect

from onetape.model import AssetClass
from onetape.simulator.app import SimulatorSettings
from onetape.simulator.faults import (
    Close,
    Deny,
    Drop,
    Evict,
    Garbage,
    GarbageKind,
    Mute,
    RejectLogin,
    Stage,
    StreamAction,
    StreamRule,
)
from onetape.testing import Playground, until

BUSY = SimulatorSettings(rate=20)
READ_ALL_THE_SAME = {GarbageKind.UNKNOWN_EVENT, GarbageKind.EMPTY, GarbageKind.NOT_ARRAY}
QUICK = {"ping_interval_s": 0.3, "pong_deadline_s": 0.3, "cool_down_s": 1.0}


class Watcher:
    """A client that keeps all it is told."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.events: list[dict[str, Any]] = []

    @classmethod
    async def enter(cls, play: Playground, asset: str, *topics: str) -> "Watcher":
        watcher = cls(await connect(f"ws://{play.gateway.netloc}/{asset}"))
        await watcher.send("auth", await play.key())
        await watcher.send("subscribe", ",".join(topics))
        return watcher

    async def send(self, action: str, params: str) -> None:
        await self.socket.send(msgspec.json.encode({"action": action, "params": params}).decode())

    async def until(self, holds: Callable[[], object], *, timeout_s: float = 15) -> None:
        async with asyncio.timeout(timeout_s):
            while not holds():
                self.events += msgspec.json.decode(await self.socket.recv())

    @property
    def statuses(self) -> list[str]:
        return [event["status"] for event in self.events if event["ev"] == "status"]

    def values(self) -> int:
        return sum(event["ev"] != "status" for event in self.events)


@pytest.fixture
def quick(tmp_path: Path) -> Playground:
    return Playground(tmp_path, simulator=BUSY, upstream=QUICK)


DROPS: list[tuple[Stage, StreamAction]] = [
    (Stage.ACCEPT, Drop()),
    (Stage.GREETED, Drop()),
    (Stage.AUTH, Drop()),
    (Stage.AUTHENTICATED, Close(code=1011)),
    (Stage.SUBSCRIBE, Drop()),
    (Stage.ACKED, Close(code=1008)),
    (Stage.LIVE, Drop()),
    (Stage.LIVE, Close(code=1000)),
    (Stage.LIVE, Close(code=1012)),
]


@pytest.mark.parametrize(("stage", "action"), DROPS, ids=lambda part: str(part)[:24])
async def test_a_drop_at_any_stage_is_survived(
    quick: Playground, stage: Stage, action: Any
) -> None:
    """R65, R108, W-03, W-44: redial, login, everything wanted, and the gap told."""
    async with quick as play:
        rule = StreamRule(stage=stage, action=action, cluster="indices", count=1)
        if stage is not Stage.LIVE:
            play.simulator.inject(rule)
        watcher = await Watcher.enter(play, "indices", "V.I:SPX", "V.I:NDX")
        await watcher.until(lambda: watcher.values() > 2)
        if stage is Stage.LIVE:
            play.simulator.inject(rule)
            await watcher.until(lambda: "upstream_restored" in watcher.statuses)
            restored = watcher.events[-1]
            before = watcher.values()
            await watcher.until(lambda: watcher.values() > before + 2)
            assert "upstream_disconnected" in watcher.statuses
            gap = next(e for e in watcher.events if e.get("status") == "upstream_restored")
            assert 0 < gap["gap_start_ns"] < gap["gap_end_ns"], restored

        state = play.simulator.state()
        assert state.connections_total["indices"] == 2
        assert set(state.topics[AssetClass.INDICES]) == {"V.I:SPX", "V.I:NDX"}
        await watcher.socket.close()


async def test_a_mute_vendor_is_noticed_by_its_missing_pong(quick: Playground) -> None:
    """R64, W-48."""
    async with quick as play:
        watcher = await Watcher.enter(play, "indices", "V.I:SPX")
        await watcher.until(lambda: watcher.values() > 0)

        play.simulator.inject(StreamRule(stage=Stage.LIVE, action=Mute(pong=False), count=1))
        await watcher.until(lambda: "upstream_restored" in watcher.statuses)
        before = watcher.values()
        await watcher.until(lambda: watcher.values() > before)
        await watcher.socket.close()


async def test_an_eviction_is_told_and_not_fought(quick: Playground) -> None:
    """The vendor evicts the older login: who redials at once evicts the other for ever."""
    async with quick as play:
        watcher = await Watcher.enter(play, "indices", "V.I:SPX")
        await watcher.until(lambda: watcher.values() > 0)
        loop = asyncio.get_running_loop()

        alien = await connect(play.simulator.socket_url + "/indices")
        await alien.send('{"action":"auth","params":"sim-key"}')
        await watcher.until(lambda: "upstream_evicted" in watcher.statuses)
        evicted_at = loop.time()
        logins = play.simulator.state().logins["indices"]
        await watcher.until(lambda: "upstream_restored" in watcher.statuses)

        # Seen from a client, which hears of it late: half the cool-down is proof enough.
        assert loop.time() - evicted_at >= QUICK["cool_down_s"] * 0.5
        assert logins == 2, "ours and the alien's"
        assert play.gateway.lines[AssetClass.INDICES].stream.statistics().evictions == 1
        await watcher.socket.close()
        await alien.close()


async def test_a_refused_login_is_told_to_every_waiting_client(tmp_path: Path) -> None:
    """R63, W-43, C18."""
    async with Playground(tmp_path, simulator=BUSY) as play:
        play.simulator.inject(
            StreamRule(stage=Stage.AUTH, action=RejectLogin(reason="plan"), cluster="options")
        )
        refused = await Watcher.enter(play, "options", "T.*")
        fine = await Watcher.enter(play, "indices", "V.I:SPX")

        await refused.until(lambda: "subscription_failed" in refused.statuses)
        await fine.until(lambda: fine.values() > 0)

        failure = next(e for e in refused.events if e.get("status") == "subscription_failed")
        assert failure["topic"] == "T.*"
        assert failure["code"] == "subscription_failed"
        assert "upstream_auth_failed" in refused.statuses
        await refused.socket.close()
        await fine.socket.close()


async def test_a_topic_outside_the_plan_is_told_and_the_others_flow(play: Playground) -> None:
    """R133, W-47: the vendor names nothing; we do."""
    play.simulator.inject(
        StreamRule(stage=Stage.SUBSCRIBE, action=Deny(topics="V.I:NDX"), cluster="indices")
    )
    watcher = await Watcher.enter(play, "indices", "V.I:SPX", "V.I:NDX")

    await watcher.until(lambda: "subscription_failed" in watcher.statuses)
    await watcher.until(lambda: watcher.values() > 0)

    failed = [e["topic"] for e in watcher.events if e.get("status") == "subscription_failed"]
    assert failed == ["V.I:NDX"]
    await watcher.socket.close()


@pytest.mark.parametrize("kind", list(GarbageKind))
async def test_vendor_garbage_is_counted_logged_once_and_skipped(
    play: Playground, kind: GarbageKind
) -> None:
    watcher = await Watcher.enter(play, "indices", "V.I:SPX", "V.I:NDX")
    await watcher.until(lambda: watcher.values() > 0)

    play.simulator.inject(
        StreamRule(stage=Stage.DATA, action=Garbage(kind=kind), cluster="indices", count=3)
    )
    line = play.gateway.lines[AssetClass.INDICES]
    before = watcher.values()
    if kind not in READ_ALL_THE_SAME:  # what was on its way already is not garbled
        await watcher.until(lambda: line.stream.statistics().garbled > 0)
    await watcher.until(lambda: watcher.values() > before + 5)

    logged = [entry for entry in play.lines if b"upstream.garbled" in entry]
    if kind not in READ_ALL_THE_SAME:
        assert line.stream.statistics().garbled >= 1
        assert len(logged) == 1
    assert line.stream.statistics().reconnects == 0
    await watcher.socket.close()


async def test_one_asset_class_in_trouble_leaves_the_others_alone(quick: Playground) -> None:
    """R69."""
    async with quick as play:
        play.simulator.inject(StreamRule(stage=Stage.ACCEPT, action=Drop(), cluster="options"))
        unlucky = await Watcher.enter(play, "options", "T.*")
        lucky = await Watcher.enter(play, "stocks", "T.SPY")

        await unlucky.until(lambda: "upstream_disconnected" in unlucky.statuses)
        await lucky.until(lambda: lucky.values() > 3)
        late = await Watcher.enter(play, "options", "T.O:SPY251219C00650000")
        await late.until(lambda: "upstream_disconnected" in late.statuses)

        assert "upstream_disconnected" not in lucky.statuses
        for watcher in (unlucky, lucky, late):
            await watcher.socket.close()


async def test_an_eviction_out_of_the_blue_is_counted_as_one(quick: Playground) -> None:
    async with quick as play:
        watcher = await Watcher.enter(play, "stocks", "T.SPY")
        await watcher.until(lambda: watcher.values() > 0)
        play.simulator.inject(StreamRule(stage=Stage.LIVE, action=Evict(), count=1))

        await watcher.until(lambda: "upstream_evicted" in watcher.statuses)
        await until(lambda: play.simulator.state().connections_open["stocks"] == 0)
        await watcher.socket.close()
