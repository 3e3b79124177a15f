"""Who gets in, who is put out, and that the vendor's key never leaves."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from onetape.config import Secret
from onetape.model import AssetClass
from onetape.simulator.app import SimulatorSettings
from onetape.simulator.faults import Answer, BodyKind, RestRule
from onetape.simulator.massive.accounts import BUSINESS, Account, Plan
from onetape.testing import Playground

CANARY = "canary-vendor-key-0123456789abcdef"
BOOTSTRAP = "canary-bootstrap-secret-0123456789"


@pytest.fixture
async def web() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        yield session


async def mint(play: Playground, web: aiohttp.ClientSession, credential: str) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {credential}"}
    async with web.post(play.gateway.url + "/api/ws-token", headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


async def status(client: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(5):
        return msgspec.json.decode(await client.recv())[0]


async def entered(play: Playground, credential: str, asset: str = "indices") -> ClientConnection:
    client = await connect(f"ws://{play.gateway.netloc}/{asset}")
    await status(client)
    await client.send(msgspec.json.encode({"action": "auth", "params": credential}).decode())
    return client


@pytest.mark.parametrize("form", ["bearer", "header", "query"])
async def test_key_and_token_are_taken_in_the_same_places(
    play: Playground, web: aiohttp.ClientSession, form: str
) -> None:
    """R35."""
    key = await play.key()
    for credential in (key, (await mint(play, web, key))["token"]):
        headers = {
            "bearer": {"Authorization": f"Bearer {credential}"},
            "header": {"x-massive-proxy-token": credential},
            "query": {},
        }[form]
        query = f"?apiKey={credential}" if form == "query" else ""
        url = f"{play.gateway.url}/v1/marketstatus/now{query}"
        async with web.get(url, headers=headers) as answer:
            assert answer.status == 200
        client = await entered(play, credential)
        assert (await status(client))["status"] == "auth_success"
        await client.close()


async def test_a_token_opens_a_socket_with_the_upgrade(
    play: Playground, web: aiohttp.ClientSession
) -> None:
    """R57, W-06: the way of browsers, which cannot set headers."""
    token = (await mint(play, web, await play.key()))["token"]
    offered = [Subprotocol("onetape.v1"), Subprotocol(f"onetape.token.{token}")]

    async with connect(f"ws://{play.gateway.netloc}/ws/indices", subprotocols=offered) as client:
        assert client.subprotocol == "onetape.v1"
        assert [(await status(client))["status"] for _ in range(2)] == [
            "connected",
            "auth_success",
        ]
    with pytest.raises(InvalidStatus) as refused:
        await connect(f"ws://{play.gateway.netloc}/ws/indices?token=nonsense")
    assert refused.value.response.status_code == 403


async def test_a_revoked_key_closes_its_sockets_within_a_second(
    play: Playground, web: aiohttp.ClientSession
) -> None:
    """The revocation comes from another process, as the command line's does."""
    key, other = await play.key(), await play.key()
    token = (await mint(play, web, key))["token"]
    clients = [await entered(play, credential) for credential in (key, token, other)]
    for client in clients:
        assert (await status(client))["status"] == "auth_success"

    await play.revoke(key)

    async with asyncio.timeout(1):
        for client in clients[:2]:
            assert (await status(client))["code"] == "token_revoked"
            with pytest.raises(ConnectionClosed) as closed:
                await client.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 4401
    await clients[2].send('{"action":"ping"}')
    assert (await status(clients[2]))["status"] == "pong"
    async with web.get(
        play.gateway.url + "/v3/x", headers={"Authorization": f"Bearer {key}"}
    ) as answer:
        assert (answer.status, (await answer.json())["code"]) == (403, "token_revoked")
    await clients[2].close()


async def test_a_revoked_token_goes_alone(play: Playground, web: aiohttp.ClientSession) -> None:
    key = await play.key()
    token = (await mint(play, web, key))["token"]
    by_key, by_token = await entered(play, key), await entered(play, token)
    for client in (by_key, by_token):
        assert (await status(client))["status"] == "auth_success"

    url = play.gateway.url + "/api/ws-token"
    async with web.delete(url, headers={"Authorization": f"Bearer {token}"}) as answer:
        assert answer.status in {200, 204}

    assert (await status(by_token))["code"] == "token_revoked"
    await by_key.send('{"action":"ping"}')
    assert (await status(by_key))["status"] == "pong"
    await by_key.close()
    await by_token.close()


async def test_a_token_that_ran_out_is_told_so(tmp_path: Path, web: aiohttp.ClientSession) -> None:
    """C7, W-12."""
    async with Playground(tmp_path, token_ttl_s=1) as play:
        token = (await mint(play, web, await play.key()))["token"]
        await asyncio.sleep(2.1)  # a token's times are whole seconds
        url, headers = play.gateway.url + "/v3/x", {"Authorization": f"Bearer {token}"}
        async with web.get(url, headers=headers) as answer:
            assert (answer.status, (await answer.json())["code"]) == (403, "token_expired")


async def test_a_key_opens_no_more_than_its_scopes(
    play: Playground, web: aiohttp.ClientSession
) -> None:
    key = await play.key(
        assets=frozenset({AssetClass.INDICES}), rest=("/v1/marketstatus",), topics=("V.*",)
    )
    headers = {"Authorization": f"Bearer {key}"}
    async with web.get(play.gateway.url + "/v1/marketstatus/now", headers=headers) as answer:
        assert answer.status == 200
    async with web.get(play.gateway.url + "/v3/snapshot", headers=headers) as answer:
        assert (answer.status, (await answer.json())["code"]) == (403, "not_entitled")
    options, indices = await entered(play, key, "options"), await entered(play, key)
    assert (await status(options))["code"] == "not_entitled"
    assert (await status(indices))["status"] == "auth_success"
    await indices.send('{"action":"subscribe","params":"AM.I:SPX"}')
    assert (await status(indices))["message"] == "not authorized"
    await indices.close()
    await options.close()


@pytest.mark.parametrize("is_static", [False, True])
async def test_the_bootstrap_secret_mints_and_opens_data_only_in_static_mode(
    tmp_path: Path, web: aiohttp.ClientSession, *, is_static: bool
) -> None:
    """R18, R37, C2, W-13: off by default; counted and warned of when on."""
    settings: dict[str, Any] = {
        "proxy_token": Secret(BOOTSTRAP),
        "allow_static_token": is_static,
    }
    async with Playground(tmp_path, **settings) as play:
        token = (await mint(play, web, BOOTSTRAP))["token"]
        url = play.gateway.url + "/v1/marketstatus/now"
        async with web.get(url, headers={"x-massive-proxy-token": token}) as answer:
            assert answer.status == 200
        async with web.get(url, headers={"x-massive-proxy-token": BOOTSTRAP}) as answer:
            assert answer.status == (200 if is_static else 403)
        async with web.get(play.gateway.url + "/metrics") as answer:
            metrics = await answer.text()

    used = [line for line in metrics.splitlines() if line.startswith("onetape_static_token_uses")]
    assert used[-1].endswith(" 1.0" if is_static else " 0.0"), used
    assert any(b"static" in line for line in play.lines) == is_static


async def test_nobody_mints_without_a_credential(
    play: Playground, web: aiohttp.ClientSession
) -> None:
    """W-05, C5, R33: and GET is no way to mint (C3)."""
    url = play.gateway.url + "/api/ws-token"
    async with web.post(url) as answer:
        assert (answer.status, (await answer.json())["code"]) == (403, "token_missing")
    async with web.get(url) as answer:
        assert answer.status == 405


async def test_the_vendors_key_is_in_no_answer_no_line_and_no_metric(
    tmp_path: Path, web: aiohttp.ClientSession
) -> None:
    """R16, R26, W-14: whatever happens, good and bad, everything that came out is searched."""
    accounts = (Account(name="canary", keys=frozenset({CANARY}), plan=Plan.everywhere(BUSINESS)),)
    vendor = SimulatorSettings(key=CANARY, accounts=accounts, rate=20)
    out: list[bytes] = []
    settings: dict[str, Any] = {"log_level": "DEBUG", "proxy_token": Secret(BOOTSTRAP)}
    async with Playground(tmp_path, simulator=vendor, vendor_key=CANARY, **settings) as play:
        key = await play.key()
        headers = {"Authorization": f"Bearer {key}"}

        async def fetch(path: str, method: str = "GET", **own: str) -> None:
            async with web.request(
                method, play.gateway.url + path, headers=own or headers
            ) as answer:
                out.append(repr(answer.headers).encode())
                out.append(await answer.read())

        paths = [
            "/v3/reference/options/contracts?limit=2",
            "/v1/marketstatus/now",
            "/v3/x?apiKey=y",
        ]
        paths += ["/api/health", "/api/ws-health", "/metrics", "/api/health?ready=1", "/nothing"]
        for path in paths:
            await fetch(path)
            await fetch(path, Authorization="Bearer wrong")
        await fetch("/api/ws-token", "POST")
        await fetch("/api/ws-token", "POST", Authorization=f"Bearer {BOOTSTRAP}")
        for action in (Answer(status=503, body=BodyKind.HTML), Answer(status=401)):
            play.simulator.inject(RestRule(action=action))
            await fetch("/v3/reference/exchanges")
        client = await entered(play, key)
        await client.send('{"action":"subscribe","params":"V.*,nonsense"}')
        out += [str(await client.recv()).encode() for _ in range(5)]
        await client.close()
        client = await entered(play, "wrong")
        out.append(repr(await status(client)).encode())
        await client.close()
    out += play.lines

    assert len(play.lines) > 20
    for secret in (CANARY, BOOTSTRAP, key):
        leaks = [item[:200] for item in out if secret.encode() in item]
        assert not leaks
        prefix = secret[:12].encode()
        assert not [item for item in play.lines if prefix in item], "not even a part of it"
