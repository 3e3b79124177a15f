"""The path of a REST request, whole: client, gateway, simulated vendor."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import msgspec
import pytest

from onetape.simulator.faults import Answer, BodyKind, CutBody, Reset, RestRule, Slow
from onetape.testing import Playground


class Reply(NamedTuple):
    status: int
    headers: Any
    body: Any


class Caller:
    """A client of the gateway that looks at everything."""

    def __init__(self, play: Playground, key: str, session: aiohttp.ClientSession) -> None:
        self.play, self.key, self._session = play, key, session

    async def get(self, path: str, **headers: str) -> Reply:
        own = {"Authorization": f"Bearer {self.key}", **headers}
        async with self._session.get(self.play.gateway.url + path, headers=own) as answer:
            raw = await answer.read()
            try:
                body: Any = msgspec.json.decode(raw)
            except msgspec.DecodeError:
                body = raw
            return Reply(answer.status, answer.headers, body)

    @property
    def upstream(self) -> int:
        return self.play.simulator.state().rest_requests


@pytest.fixture
async def caller(play: Playground) -> AsyncIterator[Caller]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        yield Caller(play, await play.key(), session)


EXCHANGES = "/v3/reference/exchanges?asset_class=options"
CHAIN = "/v3/snapshot/options/SPY?limit=5"


async def test_five_hundred_at_once_are_one_request_to_the_vendor(caller: Caller) -> None:
    """R13, W-25, W-73."""
    replies = await asyncio.gather(*(caller.get(CHAIN) for _ in range(500)))

    assert caller.upstream == 1
    assert {reply.status for reply in replies} == {200}
    assert len({msgspec.json.encode(reply.body) for reply in replies}) == 1
    assert Counter(reply.headers["X-Onetape-Cache"] for reply in replies)["miss"] == 1


async def test_the_second_answer_is_the_first_one_and_says_so(caller: Caller) -> None:
    """R104: the same question in another spelling is the same question."""
    first = await caller.get("/v3/reference/tickers/I:SPX?a=1&b=2")
    second = await caller.get("/v3/reference/tickers/I%3ASPX?b=2&a=1")

    assert (first.headers["X-Onetape-Cache"], second.headers["X-Onetape-Cache"]) == ("miss", "hit")
    assert first.body == second.body
    assert second.headers["X-Onetape-Simulated"] == "true", "the mark is kept with the copy"
    assert "Age" in second.headers
    assert caller.upstream == 1


@pytest.mark.parametrize("prefix", ["", "/api/massive"])
async def test_pages_lead_back_to_the_gateway_by_the_way_they_came(
    play: Playground, caller: Caller, prefix: str
) -> None:
    """R42: the caller's own origin and prefix, and the vendor's key nowhere."""
    path = f"{prefix}/v3/reference/options/contracts?underlying_ticker=SPY&limit=3"
    seen: list[str] = []
    for _ in range(4):
        reply = await caller.get(path)
        seen += [row["ticker"] for row in reply.body["results"]]
        assert reply.body["next_url"].startswith(f"{play.gateway.url}{prefix}/v3/")
        assert play.simulator.key not in reply.body["next_url"]
        path = reply.body["next_url"].removeprefix(play.gateway.url)

    assert len(set(seen)) == 12


@pytest.mark.parametrize(
    ("action", "status", "code"),
    [
        (Answer(status=503, body=BodyKind.HTML), 503, "upstream_down"),
        (Answer(status=502, body=BodyKind.HTML), 502, "upstream_down"),
        (Answer(status=504, body=BodyKind.HTML), 504, "upstream_timeout"),
        (Answer(status=429), 429, None),
        (Answer(status=429, body=BodyKind.EMPTY), 429, None),
        (Answer(status=401), 403, "upstream_forbidden"),
        (Answer(status=404), 404, None),
        (Reset(), 502, "upstream_down"),
        (CutBody(), 502, "upstream_garbled"),
        (CutBody(how="json"), 502, "upstream_garbled"),
        (Slow(before_s=3.0), 504, "upstream_timeout"),
    ],
    ids=lambda part: str(part)[:40],
)
async def test_a_fault_of_the_vendor_is_told_in_the_vendors_shape(
    tmp_path: Path, action: Any, status: int, code: str | None
) -> None:
    """R31: our fault, the vendor's fault and the caller's are told apart."""
    async with (
        Playground(tmp_path, upstream={"timeout_s": 1.0}) as play,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=50)) as session,
    ):
        caller = Caller(play, await play.key(), session)
        play.simulator.inject(RestRule(action=action, path="/v3/*"))

        reply = await caller.get(EXCHANGES)

    assert reply.status == status
    if code is not None:
        assert reply.body["code"] == code
        assert reply.body["error"]
        assert reply.headers["X-Request-Id"] == reply.body["request_id"]
    if status == 429:
        assert int(reply.headers["Retry-After"]) <= 5, "the official client sleeps that long thrice"


async def test_an_old_copy_stands_in_for_a_dead_vendor_and_says_so(tmp_path: Path) -> None:
    """W-75: marked by headers, never silently."""
    async with (
        Playground(tmp_path, upstream={"timeout_s": 1.0}) as play,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=50)) as session,
    ):
        caller = Caller(play, await play.key(), session)
        status = "/v1/marketstatus/now"
        fresh = await caller.get("/v3/snapshot/options/SPY/" + await a_contract(caller))
        assert fresh.headers["X-Onetape-Cache"] == "miss"
        play.simulator.inject(RestRule(action=Answer(status=503, body=BodyKind.HTML)))
        await asyncio.sleep(1.1)  # the copy is fresh for a second

        stale = await caller.get(
            "/v3/snapshot/options/SPY/" + fresh.body["results"]["details"]["ticker"]
        )
        nothing = await caller.get(status)

    assert (stale.status, stale.headers["X-Onetape-Cache"]) == (200, "stale")
    assert stale.body == fresh.body
    assert int(stale.headers["Age"]) >= 1
    assert stale.headers["X-Onetape-Stale-Reason"] == "upstream_down"
    assert nothing.status == 503


async def a_contract(caller: Caller) -> str:
    reply = await caller.get("/v3/reference/options/contracts?underlying_ticker=SPY&limit=1")
    return reply.body["results"][0]["ticker"]


@pytest.mark.parametrize(
    "path",
    [
        "/v3/../api/health",
        "/v3/%2e%2e/%2e%2e/etc",
        "/v9/anything",
        "/v3//snapshot",
        "/api/massive/http://elsewhere/v3/x",
        "/api/massive/v3/%2F%2Felsewhere",
        "/nothing",
    ],
)
async def test_what_is_not_the_vendors_does_not_reach_the_vendor(caller: Caller, path: str) -> None:
    """R45, W-42."""
    reply = await raw(caller, f"GET {path} HTTP/1.1")

    assert reply.split(b" ")[1] in {b"400", b"404"}
    assert caller.upstream == 0


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_only_reading_is_proxied(caller: Caller, method: str) -> None:
    """R45."""
    reply = await raw(caller, f"{method} /v3/reference/exchanges HTTP/1.1")

    assert reply.split(b" ")[1] == b"405"
    assert caller.upstream == 0


async def raw(caller: Caller, line: str) -> bytes:
    host, _, port = caller.play.gateway.netloc.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"{line}\r\nhost: {host}\r\nauthorization: Bearer {caller.key}\r\nconnection: close\r\n"
    writer.write(head.encode() + b"content-length: 0\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    await writer.wait_closed()
    return answer


async def test_a_client_over_its_rate_is_throttled_and_the_others_are_not(tmp_path: Path) -> None:
    """R28, C14: 429 in the vendor's shape, with a wait that does not hurt."""
    async with (
        Playground(tmp_path, raw_rate_per_minute=5) as play,
        aiohttp.ClientSession() as session,
    ):
        busy = Caller(play, await play.key(rate_per_minute=None), session)
        calm = Caller(play, await play.key(rate_per_minute=None), session)
        replies = [await busy.get(EXCHANGES) for _ in range(6)]
        other = await calm.get(EXCHANGES)

    assert [reply.status for reply in replies] == [200] * 5 + [429]
    assert (replies[-1].body["status"], replies[-1].body["code"]) == ("ERROR", "throttled")
    assert "exceeded the maximum requests per minute" in replies[-1].body["error"]
    assert other.status == 200
