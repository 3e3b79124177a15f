"""How our own routes let in, answer and count; more of it with the routes themselves."""

import asyncio
import contextlib
import gzip
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from onetape.core.limits import SlidingWindow
from onetape.errors import UpstreamTimeout
from onetape.gateway.auth import Auth, AuthPolicy
from onetape.gateway.callers import Callers
from onetape.gateway.endpoints import Desk, packed_response
from onetape.gateway.keyring import KeyRing
from onetape.gateway.keys import KeyStore, Scopes
from onetape.gateway.operations import OPERATIONS
from onetape.testing import ManualClock

BOOT = "a bootstrap secret for tests only"
PATH = "/api/quotes"
LONG = b'"' + b"a" * 40_000 + b'"'


class Front:
    """One data route over a desk; `body` is what it answers, or raises."""

    def __init__(self, ring: KeyRing, clock: ManualClock) -> None:
        self.records: list[Any] = []
        self.body: bytes | Exception = b"{}"
        self.auth = Auth(
            ring, clock=clock, bootstrap=BOOT, policy=AuthPolicy(failures_per_minute=5)
        )
        self.desk = Desk(
            auth=self.auth,
            telemetry=self,
            callers=Callers(),
            limit=SlidingWindow(3, 60.0),
            clock=clock,
        )
        self.app = Starlette(routes=self.desk.routes(OPERATIONS["quotes"], self._handle))

    def rest_request(self, record: Any) -> None:
        self.records.append(record)

    async def ask(self, method: str = "GET", **options: Any) -> httpx2.Response:
        transport = httpx2.ASGITransport(app=self.app, client=("192.0.2.1", 123))
        async with httpx2.AsyncClient(transport=transport, base_url="http://gateway") as client:
            return await client.request(method, PATH, **options)

    async def _handle(self, request: Request) -> Response:
        self.desk.admit(request)
        body = self.body
        if isinstance(body, Exception):
            raise body
        return await packed_response(request, lambda: body, big=len(body) > 1_000)


@contextlib.asynccontextmanager
async def front(tmp_path: Path, **scopes: Any) -> AsyncGenerator[tuple[Front, dict[str, str]]]:
    clock = ManualClock()

    def made() -> str:
        with KeyStore(tmp_path) as store:
            return store.create("one", now_ns=clock.now_ns(), scopes=Scopes(**scopes)).secret

    secret = await asyncio.to_thread(made)
    async with KeyRing(tmp_path, clock=clock) as ring:
        yield Front(ring, clock), {"authorization": f"Bearer {secret}"}


async def test_either_header_lets_a_known_key_in(tmp_path: Path) -> None:
    """R29."""
    async with front(tmp_path) as (here, shown):
        secret = shown["authorization"].removeprefix("Bearer ")
        for headers in (shown, {"x-massive-proxy-token": secret}):
            assert (await here.ask(headers=headers)).status_code == 200


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "token_missing"),
        ({"authorization": "Bearer nonsense"}, "token_invalid"),
        ({"authorization": f"Bearer {BOOT}"}, "not_entitled"),
    ],
)
async def test_nobody_else_is_let_in(headers: dict[str, str], code: str, tmp_path: Path) -> None:
    """R29, C7: 403 with a code; a credential in the query is none here."""
    async with front(tmp_path) as (here, _):
        response = await here.ask(headers=headers, params={"apiKey": "x"})

        assert response.status_code == 403
        assert response.json()["code"] == code
        assert here.records[-1].status == 403


async def test_scopes_cover_paths(tmp_path: Path) -> None:
    async with front(tmp_path, rest=("/api/bars",)) as (here, shown):
        response = await here.ask(headers=shown)

        assert (response.status_code, response.json()["code"]) == (403, "not_entitled")


async def test_too_many_requests_are_told_when_to_come_back(tmp_path: Path) -> None:
    """R28."""
    async with front(tmp_path) as (here, shown):
        statuses = [(await here.ask(headers=shown)).status_code for _ in range(4)]
        response = await here.ask(headers=shown)

        assert statuses == [200, 200, 200, 429]
        assert int(response.headers["retry-after"]) >= 1


async def test_head_is_answered_and_anything_else_refused(tmp_path: Path) -> None:
    async with front(tmp_path) as (here, shown):
        head = await here.ask("HEAD", headers=shown)
        other = await here.ask("POST", headers=shown)

        assert head.status_code == 200
        assert (other.status_code, other.headers["allow"]) == (405, "GET, HEAD")


async def test_errors_have_our_shape_and_a_bug_says_nothing(tmp_path: Path) -> None:
    """R31."""
    async with front(tmp_path) as (here, shown):
        here.body = UpstreamTimeout("late", retry_after_s=2)
        late = await here.ask(headers=shown)
        here.body = ZeroDivisionError("a secret")
        bug = await here.ask(headers=shown)

        assert (late.status_code, late.json()["code"]) == (504, "upstream_timeout")
        assert late.headers["retry-after"] == "2"
        assert (bug.status_code, bug.json()["code"]) == (500, "internal")
        assert "secret" not in bug.text
        assert [one.endpoint for one in here.records] == ["quotes", "quotes"]


@pytest.mark.parametrize("length", ["5000", "9999999999", "x"])
async def test_a_body_that_is_too_long_is_not_read(length: str, tmp_path: Path) -> None:
    async with front(tmp_path) as (here, shown):
        response = await here.ask(headers={**shown, "content-length": length})

        assert response.status_code == (400 if length == "x" else 413)


@pytest.mark.parametrize(
    ("accepted", "body", "packed"),
    [("gzip", LONG, True), ("br, gzip;q=0", LONG, False), ("gzip", b"{}", False)],
)
async def test_long_answers_are_packed_for_those_who_take_it(
    accepted: str, body: bytes, packed: bool, tmp_path: Path
) -> None:
    async with front(tmp_path) as (here, shown):
        here.body = body
        response = await here.ask(headers={**shown, "accept-encoding": accepted})

        assert response.content == body
        assert ("content-encoding" in response.headers) == packed
        assert (response.headers["vary"], response.headers["cache-control"]) == (
            "accept-encoding",
            "no-store",
        )
        if packed:
            assert here.records[-1].sent_bytes == len(gzip.compress(body, 1, mtime=0))
