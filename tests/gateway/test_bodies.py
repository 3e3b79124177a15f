"""What our routes about themselves answer is what is said of it."""

from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from onetape.gateway import bodies
from onetape.gateway.app import Gateway
from onetape.simulator.app import Simulator
from onetape.testing import Playground

IMPORTED = (Gateway, Simulator)  # in the loop an import would read files, and so block
ROUTES = [
    ("GET", "/api/health", bodies.Liveness),
    ("GET", "/api/health/ready", bodies.Readiness),
    ("GET", "/api/ws-health", bodies.LiveSide),
    ("GET", "/openapi.json", bodies.Description),
    ("GET", "/api/nowhere", bodies.Error),
    ("POST", "/api/ws-token", bodies.MintedToken),
]


@pytest.fixture
async def play(tmp_path: Path) -> Any:
    async with Playground(tmp_path) as running:
        yield running


async def test_bodies_are_as_they_are_described(play: Playground) -> None:
    body: Any = {}
    headers = {"Authorization": f"Bearer {await play.key()}"}
    async with aiohttp.ClientSession(play.gateway.url, headers=headers) as client:
        for method, path, kind in ROUTES:
            async with client.request(method, path) as answer:
                body = await answer.json()
                msgspec.convert(body, kind)
        shown = {"Authorization": f"Bearer {body['token']}"}
        async with client.delete("/api/ws-token", headers=shown) as answer:
            revoked = msgspec.convert(await answer.json(), bodies.RevokedToken)

    assert revoked == {"revoked": body["token_id"]}
