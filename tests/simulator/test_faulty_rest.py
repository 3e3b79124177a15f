"""What both vendors' REST edges share; `massive/test_rest_faults` has the rest of it."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import aiohttp
import msgspec
import pytest
from picows import WSUpgradeRequest

from onetape.asgi import Receive, Scope, Send, Server
from onetape.simulator.faults import (
    CrossQuotes,
    EmptyAnswer,
    Faults,
    FaultScript,
    Hang,
    RestActions,
    RestRule,
    SkewTimes,
    StaleValues,
    WrongValues,
)
from onetape.simulator.massive.rest_faults import faulty_rest
from onetape.testing import ManualClock

HOUR_MS = 1_764_000_000_000


class Api:
    """Counts its answers: the nth has the nth bid."""

    def __init__(self) -> None:
        self._numbers = count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        number = next(self._numbers)
        posted = (await receive()).get("body", b"").decode()
        tree = {
            "results": [
                {
                    "ticker": "SPY",
                    "last_quote": {"bid": float(number), "ask": number + 0.1},
                    "greeks": {"gamma": number / 100},
                    "asked": scope["query_string"].decode() + posted,
                    "updated": HOUR_MS,
                }
            ],
            "next_url": "there",
            "count": 1,
        }
        kind = b"text/plain" if scope["path"] == "/text" else b"application/json"
        status = 500 if scope["path"] == "/broken" else 200
        start = {
            "type": "http.response.start",
            "status": status,
            "headers": [(b"content-type", kind)],
        }
        await send(start)
        await send({"type": "http.response.body", "body": msgspec.json.encode(tree)})


def no_sockets(request: WSUpgradeRequest, peer: str) -> None:
    del request, peer


class Client:
    def __init__(self, base: str, session: aiohttp.ClientSession, faults: Faults) -> None:
        self.base = base
        self.session = session
        self.faults = faults

    async def row(self, path: str, **options: Any) -> Any:
        async with self.session.request(
            options.pop("method", "GET"), self.base + path, **options
        ) as answer:
            return msgspec.json.decode(await answer.read())["results"][0]


@asynccontextmanager
async def vendor(*rules: RestRule) -> AsyncGenerator[Client]:
    clock = ManualClock()
    faults = Faults(FaultScript(rules=rules), now=clock.monotonic())
    rest = faulty_rest(Api(), faults=faults, clock=clock)
    async with (
        asyncio.timeout(10),
        Server(rest, host="127.0.0.1", port=0, websocket=no_sockets) as server,
        aiohttp.ClientSession() as session,
    ):
        yield Client(f"http://{server.netloc}", session, faults)


def always(action: RestActions, path: str = "*") -> RestRule:
    return RestRule(action=action, path=path)


async def test_stale_values_are_those_of_the_first_answer_to_the_same_request() -> None:
    async with vendor(always(StaleValues())) as client:
        bids = [(await client.row(path))["last_quote"]["bid"] for path in ("/a?x", "/a?y", "/a?x")]

    assert bids == [1.0, 2.0, 1.0]


async def test_what_is_posted_is_part_of_the_request() -> None:
    async with vendor(always(StaleValues())) as client:
        rows = [await client.row("/a", method="POST", data=body) for body in (b"x", b"y", b"x")]

    assert [row["asked"] for row in rows] == ["x", "y", "x"]
    assert [row["last_quote"]["bid"] for row in rows] == [1.0, 2.0, 1.0]


async def test_only_quotes_or_only_greeks_may_be_stale() -> None:
    rules = (
        always(StaleValues(parts="quotes"), "/quotes"),
        always(StaleValues(parts="greeks"), "/greeks"),
    )
    async with vendor(*rules) as client:
        rows = [await client.row(path) for path in ("/quotes", "/greeks") * 2]

    assert (rows[2]["last_quote"]["bid"], rows[2]["greeks"]["gamma"]) == (1.0, 0.03)
    assert (rows[3]["last_quote"]["bid"], rows[3]["greeks"]["gamma"]) == (4.0, 0.02)


async def test_a_fault_that_ends_forgets_what_was_first() -> None:
    async with vendor(RestRule(action=StaleValues(), count=2)) as client:
        bids = [(await client.row("/a"))["last_quote"]["bid"] for _ in range(3)]
        client.faults.add([always(StaleValues())], now=0)
        bids += [(await client.row("/a"))["last_quote"]["bid"] for _ in range(2)]

    assert bids == [1.0, 1.0, 3.0, 4.0, 4.0]


async def test_only_so_many_first_answers_are_remembered() -> None:
    async with vendor(always(StaleValues())) as client:
        for number in range(18):
            await client.row(f"/a?{number}")
        forgotten = await client.row("/a?0")

    assert forgotten["last_quote"]["bid"] == 19.0


async def test_values_quotes_and_times_may_be_wrong() -> None:
    rules = (
        always(CrossQuotes(), "/cross"),
        always(WrongValues(), "/wrong"),
        always(SkewTimes(by_s=-1), "/skew"),
    )
    async with vendor(*rules) as client:
        crossed, wrong, skewed = [await client.row(path) for path in ("/cross", "/wrong", "/skew")]

    assert crossed["last_quote"]["bid"] > crossed["last_quote"]["ask"]
    assert wrong["greeks"]["gamma"] == -0.02
    assert skewed["updated"] == HOUR_MS - 1000


async def test_an_answer_may_be_empty() -> None:
    async with (
        vendor(always(EmptyAnswer())) as client,
        client.session.get(f"{client.base}/v3/snapshot") as answer,
    ):
        body = msgspec.json.decode(await answer.read())

    assert (answer.status, body) == (200, {"results": [], "count": 0})


@pytest.mark.parametrize("path", ["/text", "/broken"])
async def test_only_good_json_is_spoilt(path: str) -> None:
    async with vendor(always(WrongValues())) as client:
        assert (await client.row(path))["greeks"]["gamma"] == 0.01


async def test_a_request_may_hang_before_its_head() -> None:
    async with vendor(always(Hang())) as client:
        with pytest.raises(TimeoutError):
            await client.row("/a", timeout=aiohttp.ClientTimeout(total=0.1))


async def test_or_in_mid_body() -> None:
    timeout = aiohttp.ClientTimeout(total=0.2)
    async with (
        vendor(always(Hang(after="head"))) as client,
        client.session.get(f"{client.base}/a", timeout=timeout) as answer,
    ):
        assert answer.status == 200
        with pytest.raises(TimeoutError):
            await answer.read()
