"""The gateway as a whole: starting, stopping, and what is sent where."""

import asyncio
import gc
import os
import threading
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from onetape.config import CacheConfig, Config, GatewayConfig, MassiveConfig, Secret
from onetape.errors import ConfigInvalid
from onetape.gateway.app import Gateway
from onetape.model import AssetClass
from onetape.simulator.app import Simulator
from onetape.simulator.faults import Drop, Stage, StreamRule
from onetape.testing import Playground, until

IMPORTED = Simulator  # in the loop an import would block


def config_in(path: Path, *, port: int = 0) -> Config:
    """Point at a vendor that is not there; a gateway starts without one."""
    return Config(
        massive=MassiveConfig(
            api_key=Secret("nobody-accepts-this"),
            base_url="http://127.0.0.1:9",
            socket_url="ws://127.0.0.1:9",
        ),
        gateway=GatewayConfig(port=port, state_dir=path, drain_s=0.5),
    )


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - not a directory of files


async def test_starting_and_stopping_fifty_times_leaves_nothing_behind(tmp_path: Path) -> None:
    """Tasks, threads and file descriptors return to the start."""
    async with Gateway(config_in(tmp_path)):
        pass  # what is made once for the process is made now
    gc.collect()
    before = (len(asyncio.all_tasks()), threading.active_count(), descriptors())

    for _ in range(50):
        async with Gateway(config_in(tmp_path)) as gateway:
            assert gateway.url.startswith("http://127.0.0.1:")
    gc.collect()
    await asyncio.sleep(0)

    assert len(asyncio.all_tasks()) == before[0]
    assert threading.active_count() <= before[1]
    assert descriptors() <= before[2] + 1


async def test_without_a_key_there_is_no_gateway(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="MASSIVE_API_KEY"):
        Gateway(Config(gateway=GatewayConfig(port=0, state_dir=tmp_path)))


async def test_a_port_in_use_is_told_and_nothing_stays_behind(tmp_path: Path) -> None:
    async with Gateway(config_in(tmp_path)) as first:
        tasks = len(asyncio.all_tasks())
        port = int(first.netloc.rpartition(":")[2])
        with pytest.raises(OSError, match="in use"):
            async with Gateway(config_in(tmp_path / "other", port=port)):
                pass
        assert len(asyncio.all_tasks()) == tasks


async def test_a_ttl_for_an_endpoint_that_is_none_is_refused_by_naming_those_there_are(
    tmp_path: Path,
) -> None:
    config = config_in(tmp_path)
    wrong = Config(
        massive=config.massive, gateway=config.gateway, cache=CacheConfig(ttl_s={"aggs": 5.0})
    )

    with pytest.raises(ConfigInvalid, match="aggregates"):
        async with Gateway(wrong):
            pass


async def get(url: str, **headers: str) -> tuple[int, Any, Any]:
    timeout = aiohttp.ClientTimeout(total=10)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.get(url, headers=headers) as answer,
    ):
        is_json = answer.content_type == "application/json"
        return answer.status, await (answer.json() if is_json else answer.text()), answer.headers


async def test_health_is_public_and_says_that_the_vendor_is_simulated(tmp_path: Path) -> None:
    """R32, R258."""
    async with Playground(tmp_path) as play:
        status, health, headers = await get(play.gateway.url + "/api/health")
        ready, _, _ = await get(play.gateway.url + "/api/health/ready")
        sockets, _, _ = await get(play.gateway.url + "/api/ws-health")

    assert (status, ready, sockets) == (200, 200, 200)
    assert (health["status"], health["simulated"]) == ("ok", True)
    assert headers["X-Content-Type-Options"] == "nosniff", "R27: on every answer"
    assert "connect-src 'self'" in headers["Content-Security-Policy"]


async def test_health_says_which_upstream_is_down_while_somebody_needs_it(tmp_path: Path) -> None:
    """R25, R32: degraded, told, and well again by itself."""
    async with Playground(tmp_path) as play:
        rule = StreamRule(stage=Stage.ACCEPT, action=Drop(), cluster="options", count=3)
        play.simulator.inject(rule)
        client = await connect(f"ws://{play.gateway.netloc}/options")
        await client.send(f'{{"action":"auth","params":"{await play.key()}"}}')
        line = play.gateway.lines[AssetClass.OPTIONS]
        await until(lambda: line.facts().state == "backing_off")

        _, down, _ = await get(play.gateway.url + "/api/health?ready=1")
        assert "stream_down:options" in down["reasons"]
        assert line.facts().last_error

        await until(lambda: line.facts().state == "live", timeout_s=15)
        _, well, _ = await get(play.gateway.url + "/api/health?ready=1")
        assert well["ready"]
        await client.close()


async def test_metrics_count_what_happened(tmp_path: Path) -> None:
    """R70, R261: no label names a symbol."""
    async with Playground(tmp_path) as play:
        key = await play.key()
        await get(play.gateway.url + "/v1/marketstatus/now", Authorization=f"Bearer {key}")
        status, text, _ = await get(play.gateway.url + "/metrics")

    assert status == 200
    assert 'onetape_requests_total{endpoint="market_status",status="2xx"} 1.0' in text
    assert 'onetape_upstream_state{asset="options",state="idle"} 1.0' in text
    assert "SPX" not in text


@pytest.mark.parametrize("path", ["/nothing", "/api/nothing", "/api/massive"])
async def test_what_is_nowhere_is_a_404(tmp_path: Path, path: str) -> None:
    async with Playground(tmp_path) as play:
        status, body, _ = await get(play.gateway.url + path)

    assert (status, body["code"]) == (404, "not_found")


async def test_leaving_drains_sockets_with_1012(tmp_path: Path) -> None:
    async with Playground(tmp_path) as play:
        key = await play.key()
        client = await connect(f"ws://{play.gateway.netloc}/indices")
        await client.send(f'{{"action":"auth","params":"{key}"}}')
        await client.recv()
        await client.recv()
    with pytest.raises(ConnectionClosed) as closed:
        assert [frame async for frame in client] == []

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012
    assert any(b"session.closed" in line for line in play.lines), "the canonical line"
    assert any(b"shutting_down" in line for line in play.lines)


async def test_pages_of_a_named_origin_may_read_answers(tmp_path: Path) -> None:
    """R20."""
    async with Playground(tmp_path, web_origins=("https://desk.example",)) as play:
        url = play.gateway.url + "/api/health"
        _, _, named = await get(url, Origin="https://desk.example")
        _, _, strange = await get(url, Origin="https://evil.example")

    assert named["Access-Control-Allow-Origin"] == "https://desk.example"
    assert "Access-Control-Allow-Origin" not in strange
