"""The path of a tick, whole: simulated vendor, gateway, many clients, one loop."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import ClientConnection, connect

from onetape.model import AssetClass
from onetape.simulator.app import SimulatorSettings
from onetape.testing import Playground, until

TOPICS = {
    AssetClass.INDICES: "V.I:SPX",
    AssetClass.STOCKS: "T.SPY",
    AssetClass.OPTIONS: "T.*",
}


async def events(client: ClientConnection) -> list[dict[str, Any]]:
    async with asyncio.timeout(10):
        return msgspec.json.decode(await client.recv())


async def say(client: ClientConnection, action: str, params: object = None) -> None:
    await client.send(msgspec.json.encode({"action": action, "params": params}).decode())


async def enter(url: str, credential: str, *topics: str) -> ClientConnection:
    client = await connect(url)
    await events(client)
    await say(client, "auth", credential)
    assert (await events(client))[0]["status"] == "auth_success"
    if topics:
        await say(client, "subscribe", ",".join(topics))
    return client


async def test_hundreds_arriving_at_once_make_one_upstream_socket_each(play: Playground) -> None:
    """R2, R60: in both client forms; and it closes when the last has gone."""
    key = await play.key()
    gateway, simulator = play.gateway, play.simulator
    urls = [
        f"ws://{gateway.netloc}{form}/{asset}"
        for form in ("", "/ws")
        for asset in TOPICS
        for _ in range(50)
    ]

    clients = await asyncio.gather(
        *(enter(url, key, TOPICS[AssetClass(url.rpartition("/")[2])]) for url in urls)
    )
    await until(lambda: all(simulator.state().topics.values()))
    state = simulator.state()
    assert state.connections_total == dict.fromkeys(AssetClass, 1)
    assert state.connections_open == dict.fromkeys(AssetClass, 1)
    assert {asset: len(topics) for asset, topics in state.topics.items()} == dict.fromkeys(
        TOPICS, 1
    )

    await asyncio.gather(*(client.close() for client in clients))
    await until(lambda: not any(simulator.state().connections_open.values()))
    assert play.simulator.state().connections_total == dict.fromkeys(AssetClass, 1)
    await until(
        lambda: all(line.hub.statistics()[:5] == (0,) * 5 for line in gateway.lines.values())
    )


async def test_a_reader_gets_only_what_it_asked_for_and_all_of_it(play: Playground) -> None:
    """R66: what the gateway hands on is what one client at the vendor would get."""
    key = await play.key()
    through = await enter(f"ws://{play.gateway.netloc}/stocks", key, "T.SPY", "T.AAPL")
    other = await enter(f"ws://{play.gateway.netloc}/ws/stocks", key, "T.QQQ")
    got: list[dict[str, Any]] = []
    async with asyncio.timeout(20):
        while len(got) < 10:
            got += [event for event in await events(through) if event["ev"] != "status"]
    alien = [event for event in await events(other) if event["ev"] != "status"]

    assert {event["sym"] for event in got} <= {"SPY", "AAPL"}
    assert {event["sym"] for event in alien} <= {"QQQ"}
    spy = [event for event in got if event["sym"] == "SPY"]
    # The stream's times are milliseconds: widen by one, and look for each by its number.
    tape = play.simulator.market.trades(
        "SPY", spy[0]["t"] * 1_000_000, (spy[-1]["t"] + 1) * 1_000_000
    )
    numbers = [tick.sequence for tick in tape]
    start = numbers.index(spy[0]["q"])
    assert [event["q"] for event in spy] == numbers[start : start + len(spy)], "no loss, no order"
    await through.close()
    await other.close()


async def test_the_union_is_carried_and_nothing_more(play: Playground) -> None:
    """R61, R62: subscribed before the upstream is authenticated, carried once."""
    key = await play.key()
    url = f"ws://{play.gateway.netloc}/indices"
    first = await enter(url, key, "V.I:SPX", "V.I:NDX")
    second = await enter(url, key, "V.I:NDX", "V.I:VIX")
    carried = lambda: set(play.simulator.state().topics[AssetClass.INDICES])  # noqa: E731

    await until(lambda: carried() == {"V.I:SPX", "V.I:NDX", "V.I:VIX"})
    await say(first, "unsubscribe", "V.I:SPX,V.I:NDX")
    await until(lambda: carried() == {"V.I:NDX", "V.I:VIX"})
    await first.close()
    second.transport.abort()
    await until(lambda: carried() == set())
    await second.wait_closed()


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ("not json", "invalid_frame"),
        (b"\x00\x01\xff\xfe", "invalid_frame"),
        ('{"action":"fly"}', "unknown_action"),
        ('{"action":"subscribe","params":"X.SPY"}', "invalid_topic"),
        ('{"action":"subscribe","params":"SPY"}', "invalid_topic"),
        ('{"action":"subscribe","params":"V.I:SPX"}', "invalid_topic"),
        ('{"action":"subscribe","params":"' + "T.SPY," * 60_000 + '"}', "frame_too_large"),
        (
            '{"action":"subscribe","params":"'
            + ",".join(
                f"T.A{chr(65 + n % 26)}{chr(65 + n // 26 % 26)}{n // 676:X}" for n in range(40)
            )
            + '"}',
            "too_many_topics",
        ),
    ],
    ids=["text", "binary", "action", "channel", "topic", "cluster", "frame", "many"],
)
async def test_bad_input_is_answered_and_disturbs_nobody(
    tmp_path: Path, frame: str | bytes, code: str
) -> None:
    """W-46, W-47, W-49: the session survives, and so does everybody else's."""
    busy = SimulatorSettings(rate=20)
    async with Playground(tmp_path, simulator=busy, max_topics_per_client=30) as play:
        key = await play.key()
        good = await enter(f"ws://{play.gateway.netloc}/stocks", key, "T.SPY")
        bad = await enter(f"ws://{play.gateway.netloc}/stocks", key)

        await bad.send(frame)
        answer = (await events(bad))[0]
        await say(bad, "ping")
        while "pong" not in [event.get("status") for event in await events(bad)]:
            pass
        async with asyncio.timeout(10):
            while not any(event["ev"] == "T" for event in await events(good)):
                pass

        assert (answer["status"], answer["code"]) == ("error", code)
        assert len(answer["message"]) > 10
        await bad.close()
        await good.close()


async def test_a_thousand_contracts_in_one_frame_are_carried(play: Playground) -> None:
    """The official client sends them all in one frame of some 25 kB."""
    contracts = [c.ticker for c in play.simulator.market.contracts("SPY")[:1_001]]
    client = await enter(f"ws://{play.gateway.netloc}/options", await play.key())

    await say(client, "subscribe", ",".join(f"Q.{ticker}" for ticker in contracts))
    acks: list[dict[str, Any]] = []
    async with asyncio.timeout(10):
        while len(acks) < 1_001:
            acks += [event for event in await events(client) if event["ev"] == "status"]
    await until(lambda: len(play.simulator.state().topics[AssetClass.OPTIONS]) == 1_000)

    assert Counter(ack["status"] for ack in acks) == {"success": 1_000, "error": 1}
    [refusal] = [ack for ack in acks if ack["status"] == "error"]
    assert refusal["code"] == "too_many_topics"
    await client.close()
