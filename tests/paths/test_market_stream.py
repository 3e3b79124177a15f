"""The path of a normalised tick, whole: simulated vendor, providers, hub, many clients."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from onetape.market_events import (
    ChainEvent,
    ChainView,
    EquityEvent,
    IndexEvent,
    MarketEvent,
    SnapshotEvent,
    SnapshotView,
    StatusEvent,
    decode,
)
from onetape.model import AssetClass, OptionChain
from onetape.simulator.faults import Answer, RestRule
from onetape.testing import Playground, until

E = TypeVar("E", StatusEvent, EquityEvent, IndexEvent, ChainEvent, SnapshotEvent)


class Reader:
    """A program that reads the market."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.waiting: list[MarketEvent] = []
        self.view = ChainView()

    async def say(self, action: str, params: object = None) -> None:
        await self.socket.send(msgspec.json.encode({"action": action, "params": params}).decode())

    async def next(self, kind: type[E], holds: Callable[[E], object] = lambda _: True) -> E:
        """Read on until there is such an event."""
        async with asyncio.timeout(20):
            while True:
                event = await self._any()
                if isinstance(event, kind) and holds(event):
                    return event

    async def chain(self) -> tuple[OptionChain, list[ChainEvent]]:
        """Read on until there is a chain that is whole; return the events that made it so too."""
        events = [await self.next(ChainEvent)]
        while (chain := self.view.apply(events[-1])) is None:
            events.append(await self.next(ChainEvent))
        return chain, events

    async def _any(self) -> MarketEvent:
        while not self.waiting:
            self.waiting = decode(await self.socket.recv())
        return self.waiting.pop(0)


@asynccontextmanager
async def reading(play: Playground, *keys: str, credential: str = "") -> AsyncGenerator[Reader]:
    headers = {"Authorization": f"Bearer {credential or await play.key()}"}
    url = f"ws://{play.gateway.netloc}/ws/market"
    async with connect(url, additional_headers=headers, max_queue=None) as socket:
        reader = Reader(socket)
        await reader.next(StatusEvent, lambda e: e.status == "auth_success")
        await reader.say("subscribe", list(keys))
        yield reader


async def test_one_subscription_brings_every_kind_judged_and_live(calm: Playground) -> None:
    """R228, R231, R235: the chain first whole, then what changed."""
    async with reading(calm, "equity:SPY", "index:SPX", "chain:SPY") as reader:
        equity = await reader.next(EquityEvent)
        index = await reader.next(IndexEvent)
        chain, [first, *_] = await reader.chain()
        changed, changes = await reader.chain()
        while changes[0].full:
            changed, changes = await reader.chain()

    assert first.full
    assert equity.data.simulated
    assert index.data.quality is not None
    assert chain.quality is not None
    assert 0 < sum(len(event.data.contracts) for event in changes) < len(changed.contracts)


async def test_many_clients_share_one_hub_and_one_subscription(calm: Playground) -> None:
    async with (
        reading(calm, "index:SPX") as one,
        reading(calm, "index:SPX") as other,
    ):
        first = await one.next(IndexEvent)
        async with asyncio.timeout(20):
            event = await other.next(IndexEvent)
            while event.sequence < first.sequence:
                event = await other.next(IndexEvent)
        hub = calm.gateway.market.hub.metrics()
        assert (hub.view.watched, hub.tick_subscribers) == (1, 1)

    await until(lambda: not calm.gateway.market.hub.metrics().view.watched)
    assert calm.gateway.market.hub.metrics().tick_subscribers == 0


async def test_a_snapshot_holds_all_that_is_read(calm: Playground) -> None:
    async with reading(calm, "equity:SPY", "index:SPX", "equity:QQQ") as reader:
        seen: set[str] = set()
        while len(seen) < 2:
            seen.add((await reader.next(EquityEvent)).symbol)
        await reader.next(IndexEvent)
        await reader.say("snapshot")
        told = SnapshotView().apply(await reader.next(SnapshotEvent))

    assert told is not None
    assert set(told.equities) == {"SPY", "QQQ"}
    assert set(told.indices) == {"I:SPX"}
    assert told.missing == {}
    assert told.simulated


async def test_what_the_vendor_has_not_is_said_with_its_reason(calm: Playground) -> None:
    async with reading(calm, "equity:NOSUCH", "equity:I:SPX") as reader:
        refused = await reader.next(StatusEvent, lambda e: e.status == "error")
        missing = await reader.next(StatusEvent, lambda e: e.status == "no_data_yet" and e.code)

    assert (refused.code, refused.topic) == ("invalid_symbol", "equity:I:SPX")
    assert (missing.code, missing.topic) == ("not_found", "equity:NOSUCH")


async def test_vendors_that_fail_are_said_with_their_reason(tmp_path: Path) -> None:
    async with Playground(tmp_path, tradier=False) as play:
        play.simulator.inject(RestRule(action=Answer(status=500), path="/v3/snapshot*"))
        async with reading(play, "chain:SPY") as reader:
            told = await reader.next(StatusEvent, lambda e: e.status == "no_data_yet" and e.code)

    assert (told.code, told.topic) == ("MASSIVE_API_ERROR", "chain:SPY")


async def test_a_narrow_key_reads_what_it_may_and_no_more(calm: Playground) -> None:
    narrow = await calm.key(assets=frozenset({AssetClass.INDICES}))
    async with reading(calm, "equity:SPY", "index:SPX", credential=narrow) as reader:
        refused = await reader.next(StatusEvent, lambda e: e.status == "error")
        assert (refused.code, refused.topic) == ("not_entitled", "equity:SPY")
        assert (await reader.next(IndexEvent)).symbol == "I:SPX"


async def test_a_revoked_key_loses_its_stream(calm: Playground) -> None:
    credential = await calm.key()
    async with reading(calm, "index:SPX", credential=credential) as reader:
        await reader.next(IndexEvent)
        await calm.revoke(credential)
        with pytest.raises(ConnectionClosed) as closed:
            await reader.next(StatusEvent, lambda e: e.status == "never")

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4401


async def test_there_is_no_vendors_door_to_it(calm: Playground) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await connect(f"ws://{calm.gateway.netloc}/market")

    assert refused.value.response.status_code == 404


async def test_a_client_that_does_not_read_disturbs_nobody_and_catches_up(calm: Playground) -> None:
    """The newest of each key, however long it did not look."""
    async with (
        reading(calm, "index:SPX", "chain:SPY") as brisk,
        reading(calm, "index:SPX", "chain:SPY") as stopped,
    ):
        await stopped.next(ChainEvent)
        stopped.socket.transport.pause_reading()
        first = await brisk.next(IndexEvent)
        last = await brisk.next(IndexEvent, lambda e: e.sequence > first.sequence + 20)
        stopped.socket.transport.resume_reading()
        caught_up = await stopped.next(IndexEvent, lambda e: e.sequence >= last.sequence)

    assert caught_up.data.quote.event_ns is not None
