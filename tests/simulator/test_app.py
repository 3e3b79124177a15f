# The vendor's client is not typed:
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from massive import WebSocketClient
from massive.exceptions import AuthError
from massive.websocket.models import (
    EquityAgg,
    EquityQuote,
    EquityTrade,
    IndexValue,
)
from websockets.asyncio.client import connect

from onetape.simulator.app import Simulator, SimulatorSettings
from onetape.simulator.faults import Answer, Close, Drop, RejectLogin, RestRule, StreamRule
from onetape.simulator.links import Pace
from onetape.simulator.massive.session import StreamPolicy
from onetape.simulator.tradier.policy import TradierPolicy

MONDAY = datetime(2025, 11, 24, 15, 0, tzinfo=UTC)
START_NS = int(MONDAY.timestamp()) * 1_000_000_000
BUSY = SimulatorSettings(start_ns=START_NS, rate=20.0, speed=30.0, pace=Pace(step_s=0.02))


def near_the_money(simulator: Simulator, count: int) -> list[str]:
    """The contracts of SPY that trade most: next to expire, around the price."""
    market = simulator.market
    contracts = market.contracts("SPY")
    (day,) = {min(contract.expiration for contract in contracts)}
    last = market.last_trade("SPY", market.now_ns())
    assert last is not None
    nearest = sorted(
        (contract for contract in contracts if contract.expiration == day),
        key=lambda contract: abs(contract.strike - last.price),
    )
    return [contract.ticker for contract in nearest[:count]]


async def heard(
    simulator: Simulator,
    market: str,
    topics: list[str],
    enough: Callable[[list[Any]], bool],
    *,
    key: str | None = None,
) -> list[Any]:
    """What the vendor's official client hands its user, until that is enough."""
    client = WebSocketClient(
        api_key=key or simulator.key,
        feed=simulator.netloc,
        market=market,
        secure=False,
        subscriptions=topics,
    )
    models: list[Any] = []
    done = asyncio.Event()

    async def processor(batch: list[Any]) -> None:
        models.extend(batch)
        if enough(models):
            done.set()

    run: Callable[..., Awaitable[None]] = client.connect
    async with asyncio.timeout(15), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(_quietly(run(processor, proxy=None)))
        await done.wait()
        await client.close()
        await running
    return models


async def _quietly(connecting: Awaitable[None]) -> None:
    with suppress(asyncio.CancelledError):
        await connecting


def kinds(models: list[Any]) -> set[str]:
    return {model.event_type for model in models}


async def test_the_official_client_reads_option_trades_quotes_and_bars() -> None:
    async with Simulator(BUSY) as simulator:
        tickers = near_the_money(simulator, 4)
        wanted = {"T", "Q", "A", "AM"}
        models = await heard(
            simulator,
            "options",
            [f"{channel}.{ticker}" for channel in sorted(wanted) for ticker in tickers],
            lambda models: kinds(models) >= wanted,
        )

    by_kind: dict[str, Any] = {model.event_type: model for model in models}
    assert [type(by_kind[kind]) for kind in "TQA"] == [EquityTrade, EquityQuote, EquityAgg]
    minute = by_kind["AM"]
    assert minute.end_timestamp - minute.start_timestamp == 60_000
    assert by_kind["Q"].bid_price <= by_kind["Q"].ask_price
    assert all(model.symbol.startswith("O:") for model in models)


async def test_the_official_client_reads_index_values_and_bars() -> None:
    async with Simulator(BUSY) as simulator:
        models = await heard(
            simulator, "indices", ["V.I:SPX", "A.*"], lambda models: kinds(models) >= {"V", "A"}
        )

    value: Any = next(model for model in models if model.event_type == "V")
    assert type(value) is IndexValue
    assert value.ticker == "I:SPX"
    assert value.value is not None


async def test_the_official_client_reads_stock_trades_quotes_and_bars() -> None:
    async with Simulator(BUSY) as simulator:
        models = await heard(
            simulator,
            "stocks",
            ["T.SPY", "Q.SPY", "A.SPY", "AM.*"],
            lambda models: kinds(models) >= {"T", "Q", "A", "AM"},
        )

    assert {model.symbol for model in models if model.event_type != "AM"} == {"SPY"}


async def test_the_official_client_comes_back_after_a_drop_and_misses_only_the_gap() -> None:
    async with Simulator(BUSY) as simulator:
        simulator.inject(StreamRule(action=Drop(), after_s=0.5, count=1))
        models = await heard(
            simulator,
            "indices",
            ["V.I:SPX"],
            lambda models: simulator.state().logins["indices"] == 2 and bool(models[-1:]),
        )

    times = [model.timestamp for model in models]
    assert times == sorted(times)
    assert simulator.state().connections_total["indices"] == 2


async def test_the_official_client_stays_away_after_a_normal_close() -> None:
    async with Simulator(BUSY) as simulator, asyncio.timeout(10):
        simulator.inject(StreamRule(action=Close(code=1000), after_s=0.2))
        client = WebSocketClient("sim-key", simulator.netloc, "stocks", secure=False)

        async def processor(batch: list[Any]) -> None: ...

        await client.connect(processor, proxy=None)

        assert simulator.state().connections_total["stocks"] == 1


async def test_the_official_client_raises_on_a_refused_key() -> None:
    async with Simulator(BUSY) as simulator, asyncio.timeout(10):
        simulator.inject(StreamRule(action=RejectLogin()))
        client = WebSocketClient("sim-key", simulator.netloc, "stocks", secure=False)

        async def processor(batch: list[Any]) -> None: ...

        with pytest.raises(AuthError, match="authentication failed"):
            await client.connect(processor, proxy=None)


async def test_rest_and_stream_tell_of_the_same_trades() -> None:
    """The tape is one: what the stream said, REST says of the same interval."""
    async with Simulator(BUSY) as simulator, aiohttp.ClientSession() as session:
        models = await heard(simulator, "stocks", ["T.SPY"], lambda models: len(models) >= 30)
        first, last = models[0].timestamp, models[-1].timestamp
        query = f"timestamp.gte={first}000000&timestamp.lte={last}999999&order=asc&limit=50000"
        headers = {"Authorization": f"Bearer {simulator.key}"}
        async with session.get(f"{simulator.url}/v3/trades/SPY?{query}", headers=headers) as answer:
            rows = (await answer.json())["results"]

    streamed = [(model.sequence_number, model.price, model.size) for model in models]
    served = [(row["sequence_number"], row["price"], row["size"]) for row in rows]
    assert [trade for trade in served if trade[0] <= streamed[-1][0]] == streamed


async def test_the_state_tells_what_a_gateway_has_done() -> None:
    async with (
        Simulator(SimulatorSettings(start_ns=START_NS)) as simulator,
        aiohttp.ClientSession(headers={"Authorization": "Bearer sim-key"}) as session,
        connect(f"{simulator.socket_url}/options", proxy=None) as client,
    ):
        for frame in (
            b'{"action":"auth","params":"sim-key"}',
            b'{"action":"subscribe","params":"Q.O:NONE,T.O:NONE"}',
        ):
            await client.send(frame)
        for _ in range(3):
            await client.recv()
        for _ in range(2):
            async with session.get(f"{simulator.url}/v1/marketstatus/now"):
                pass
        async with session.get(f"{simulator.url}/_simulator/state") as answer:
            state = await answer.json()

    assert state["logins"] == {"options": 1, "indices": 0, "stocks": 0}
    assert state["connections_open"]["options"] == state["connections_total"]["options"] == 1
    assert state["topics"]["options"] == ["Q.O:NONE", "T.O:NONE"]
    assert (state["rest_requests"], state["rest_paths"]) == (2, {"/v1/marketstatus/now": 2})
    assert simulator.state().connections_open["options"] == 0


async def test_faults_are_switched_at_run_time_from_this_host() -> None:
    rule = RestRule(action=Answer(status=502), path="/v1/*")
    async with Simulator(BUSY) as simulator, aiohttp.ClientSession() as session:
        faults = f"{simulator.url}/_simulator/faults"
        async with session.put(faults, data=msgspec.json.encode({"rules": [rule]})) as answer:
            assert answer.status == 200
        async with session.get(f"{simulator.url}/v1/marketstatus/now") as answer:
            assert answer.status == 502
        await session.delete(faults)
        async with session.get(f"{simulator.url}/v1/marketstatus/now") as answer:
            assert answer.status == 401


async def test_tradier_is_under_its_prefix_and_at_the_vendors_own_paths() -> None:
    async with (
        Simulator(BUSY) as simulator,
        aiohttp.ClientSession(
            headers={
                "Authorization": f"Bearer {simulator.tradier_token}",
                "Accept": "application/json",
            }
        ) as session,
    ):
        for base in (simulator.tradier_url, f"{simulator.url}/v1"):
            async with session.post(f"{base}/markets/events/session") as answer:
                stream = (await answer.json(content_type=None))["stream"]
            assert stream["url"] == f"{base}/markets/events"
        async with session.get(f"{simulator.tradier_url}/nothing") as answer:
            assert answer.status == 404
        async with session.get(f"{simulator.url}/v1/marketstatus/now") as answer:
            assert answer.status == 401, "the other vendor's, for whom this is no key"
        state = simulator.state()

    assert state.tradier_paths == {"/v1/markets/events/session": 2, "/v1/nothing": 1}
    assert state.tradier_requests == 3
    assert state.tradier_stream["sessions_minted"] == 2
    assert (state.rest_requests, state.rest_paths) == (1, {"/v1/marketstatus/now": 1})


async def test_both_vendors_tell_the_same_price_of_the_same_instant() -> None:
    settings = SimulatorSettings(start_ns=START_NS, speed=1e-6)
    async with Simulator(settings) as simulator, aiohttp.ClientSession() as session:
        massive = f"{simulator.url}/v3/snapshot?ticker=SPY&apiKey={simulator.key}"
        async with session.get(massive) as answer:
            snapshot = (await answer.json())["results"][0]
        headers = {"Authorization": f"Bearer {simulator.tradier_token}"}
        headers |= {"Accept": "application/json"}
        url = f"{simulator.tradier_url}/markets/quotes?symbols=SPY"
        async with session.get(url, headers=headers) as answer:
            quote = (await answer.json(content_type=None))["quotes"]["quote"]

    assert quote["bid"] == snapshot["last_quote"]["bid"]
    assert quote["ask"] == snapshot["last_quote"]["ask"]
    assert quote["last"] == snapshot["session"]["close"]
    assert quote["prevclose"] == snapshot["session"]["previous_close"]


async def test_tradiers_faults_are_switched_at_run_time_and_spare_the_other_vendor() -> None:
    rules = [{"where": "tradier", "action": {"do": "fail", "kind": "datastore_error"}}]
    async with Simulator(BUSY) as simulator, aiohttp.ClientSession() as session:
        faults = f"{simulator.url}/_simulator/faults"
        async with session.put(faults, data=msgspec.json.encode({"rules": rules})) as answer:
            assert answer.status == 200
        async with session.get(f"{simulator.tradier_url}/markets/clock") as answer:
            assert answer.status == 500
            assert b"Datastore Error" in await answer.read()
        async with session.get(f"{simulator.url}/v1/marketstatus/now") as answer:
            assert answer.status == 401
        await session.delete(faults)
        async with session.get(f"{simulator.tradier_url}/markets/clock") as answer:
            assert answer.status == 401


async def test_market_time_can_be_hurried_and_pushed_ahead() -> None:
    settings = SimulatorSettings(start_ns=START_NS, speed=2.0)
    async with Simulator(settings) as simulator, aiohttp.ClientSession() as session:
        clock = f"{simulator.url}/_simulator/clock"
        async with session.post(clock, data=b'{"speed":50,"jump_s":3600}') as answer:
            shown = await answer.json()

        assert shown["speed"] == 50
        assert 3600 <= (shown["market_ns"] - START_NS) / 1e9 < 3700
        async with session.post(clock, data=b'{"jump_s":10}') as answer:
            assert (await answer.json())["market_ns"] >= shown["market_ns"] + 10_000_000_000


async def test_nothing_is_left_when_a_simulator_is_over() -> None:
    tasks, threads = asyncio.all_tasks(), threading.active_count()
    for _ in range(5):
        async with (
            Simulator(BUSY) as simulator,
            connect(f"{simulator.socket_url}/stocks", proxy=None) as client,
        ):
            await client.recv()

    assert asyncio.all_tasks() == tasks
    assert threading.active_count() <= threads


async def test_an_error_inside_the_block_comes_out_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        async with Simulator(BUSY):
            _ = 1 / 0


async def test_a_cancelled_simulator_is_over() -> None:
    started = asyncio.Event()

    async def run() -> None:
        async with Simulator(BUSY):
            started.set()
            await asyncio.Event().wait()

    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(run())
        await started.wait()
        running.cancel()

    assert running.cancelled()


@pytest.mark.parametrize("struct", [SimulatorSettings, Pace, StreamPolicy, TradierPolicy])
def test_every_setting_is_documented(struct: type[msgspec.Struct]) -> None:
    docs = (Path(__file__).parents[2] / "docs/simulator.md").read_text("utf-8")

    assert [name for name in struct.__struct_fields__ if f"`{name}`" not in docs] == []
