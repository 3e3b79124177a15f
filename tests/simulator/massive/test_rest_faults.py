import asyncio
import gzip
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import msgspec
import pytest
from picows import WSUpgradeRequest

from onetape.asgi import Receive, Scope, Send, Server
from onetape.simulator.faults import (
    Answer,
    BodyKind,
    CutBody,
    EmptyAnswer,
    Faults,
    FaultScript,
    Gzip,
    Reset,
    RestActions,
    RestRule,
    Slow,
    StalePage,
)
from onetape.simulator.faulty_rest import FaultyRest
from onetape.simulator.massive.rest_faults import MassiveFaults, faulty_rest
from onetape.testing import ManualClock

ROWS = [{"n": n, "name": "row"} for n in range(50)]


async def api(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer the query back, with rows, as an API would."""
    body = msgspec.json.encode({"asked": scope["query_string"].decode(), "results": ROWS})
    status = 404 if scope["path"] == "/missing" else 200
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def no_sockets(request: WSUpgradeRequest, peer: str) -> None:
    del request, peer


class Vendor:
    def __init__(self, rest: FaultyRest, base: str, session: aiohttp.ClientSession) -> None:
        self.rest = rest
        self.base = base
        self._session = session

    async def get(self, path: str) -> tuple[aiohttp.ClientResponse, bytes]:
        async with self._session.get(self.base + path) as response:
            return response, await response.read()


@asynccontextmanager
async def vendor(*rules: RestRule, **options: Any) -> AsyncGenerator[Vendor]:
    clock = ManualClock()
    faults = Faults(FaultScript(rules=rules), now=clock.monotonic())
    rest = faulty_rest(api, faults=faults, clock=clock)
    async with (
        asyncio.timeout(10),
        Server(rest, host="127.0.0.1", port=0, websocket=no_sockets) as server,
        aiohttp.ClientSession(**options) as session,
    ):
        yield Vendor(rest, f"http://{server.netloc}", session)


def always(action: RestActions) -> RestRule:
    return RestRule(action=action)


async def test_without_a_fault_the_answer_is_the_apis() -> None:
    async with vendor() as one:
        response, body = await one.get("/v3/snapshot?ticker=SPY")

    assert response.status == 200
    assert msgspec.json.decode(body) == {"asked": "ticker=SPY", "results": ROWS}


async def test_every_request_is_counted_by_its_path() -> None:
    async with vendor(RestRule(action=Answer(), path="/b")) as one:
        for path in ("/a?x=1", "/a?x=2", "/b"):
            await one.get(path)

        assert one.rest.requests == {"/a": 2, "/b": 1}


async def test_counting_is_bounded_however_many_paths_are_asked() -> None:
    faults = Faults(FaultScript(rules=(always(Answer()),)))
    rest = faulty_rest(api, faults=faults, clock=ManualClock())

    async def heard(message: object) -> None: ...

    async def never() -> dict[str, Any]:
        return {}

    for n in range(1_100):
        await rest({"path": f"/{n}", "query_string": b""}, never, heard)

    assert len(rest.requests) == 1_001
    assert rest.requests["other"] == 100


@pytest.mark.parametrize(
    ("fault", "status", "text"),
    [
        (Answer(status=429), "ERROR", "error"),
        (Answer(status=403), "NOT_AUTHORIZED", "message"),
        (Answer(status=404), "NOT_FOUND", "message"),
        (Answer(status=400, message="no"), "ERROR", "error"),
    ],
)
async def test_a_refusal_has_the_vendors_shape(fault: Answer, status: str, text: str) -> None:
    async with vendor(always(fault)) as one:
        response, body = await one.get("/v3/trades/SPY")

    answer = msgspec.json.decode(body)
    assert response.status == fault.status
    assert answer["status"] == status
    assert answer["request_id"] == response.headers["X-Request-Id"]
    assert answer[text]
    assert fault.message in {None, answer[text]}
    assert "Retry-After" not in response.headers


async def test_a_429_may_say_when_to_come_back_in_either_form_or_be_empty() -> None:
    seconds = Answer(status=429, retry_after_s=7)
    date = Answer(status=429, retry_after_s=7, retry_after_as="date", body=BodyKind.EMPTY)
    async with vendor(RestRule(action=seconds, count=1), always(date)) as one:
        first, _ = await one.get("/")
        second, body = await one.get("/")

    assert first.headers["Retry-After"] == "7"
    at = parsedate_to_datetime(second.headers["Retry-After"]).timestamp()
    assert at == ManualClock().now_ns() // 1_000_000_000 + 7
    assert body == b""


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_a_proxys_error_is_html(status: int) -> None:
    async with vendor(always(Answer(status=status, body=BodyKind.HTML))) as one:
        response, body = await one.get("/")

    assert (response.status, response.content_type) == (status, "text/html")
    assert b"<center>nginx</center>" in body


async def test_a_false_success_is_no_json() -> None:
    async with vendor(always(Answer(status=200, body=BodyKind.TEXT, message="hello"))) as one:
        response, body = await one.get("/")

    assert (response.status, response.content_type, body) == (200, "text/plain", b"hello")


async def test_a_slow_answer_takes_its_time_before_the_head_and_within_the_body() -> None:
    async with vendor(always(Slow(before_s=0.05, between_s=0.02, pieces=5))) as one:
        begin = asyncio.get_running_loop().time()
        _, body = await one.get("/")
        took = asyncio.get_running_loop().time() - begin

    assert took > 0.12
    assert msgspec.json.decode(body)["results"] == ROWS


async def test_an_answer_slower_than_its_client_is_given_up() -> None:
    timeout = aiohttp.ClientTimeout(total=0.1)
    async with vendor(always(Slow(before_s=0.3)), timeout=timeout) as one:
        with pytest.raises(TimeoutError):
            await one.get("/")


async def test_a_body_cut_short_of_its_length_ends_the_connection() -> None:
    async with vendor(RestRule(action=CutBody(), count=1)) as one:
        with pytest.raises(aiohttp.ClientPayloadError):
            await one.get("/")
        response, _ = await one.get("/")

    assert response.status == 200


async def test_a_body_of_half_a_json_arrives_in_good_order() -> None:
    async with vendor(always(CutBody(how="json", keep=0.5))) as one:
        response, body = await one.get("/")

    assert response.status == 200
    assert len(body) == int(response.headers["Content-Length"])
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(body)


async def test_a_reset_is_no_answer_at_all() -> None:
    """The first bytes come on a new connection, so no client retries by itself."""
    async with vendor(always(Reset())) as one:
        host, port = one.base.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
        with pytest.raises(aiohttp.ClientOSError):
            await one.get("/")


async def test_a_fault_in_mid_pagination_spares_the_first_page() -> None:
    async with vendor(RestRule(action=Answer(status=400), pages="next")) as one:
        first, _ = await one.get("/v3/trades/SPY?limit=1")
        second, _ = await one.get("/v3/trades/SPY?cursor=abc")

    assert (first.status, second.status) == (200, 400)


async def test_a_stale_page_is_the_last_one_of_its_path_again() -> None:
    async with vendor(RestRule(action=StalePage(), pages="next")) as one:
        _, nothing_known = await one.get("/v3/quotes/SPY?cursor=1")
        _, first = await one.get("/v3/trades/SPY?limit=1")
        again, second = await one.get("/v3/trades/SPY?cursor=1")
        await one.get("/missing")

    assert msgspec.json.decode(nothing_known)["asked"] == "cursor=1"
    assert again.status == 200
    assert second == first


async def test_only_so_many_pages_are_remembered_and_no_failures() -> None:
    async with vendor(RestRule(action=StalePage(), pages="next")) as one:
        for n in range(17):
            await one.get(f"/{n}?first")
        _, forgotten = await one.get("/0?cursor=1")
        _, known = await one.get("/16?cursor=1")
        await one.get("/missing?first")
        missing, _ = await one.get("/missing?cursor=1")

    assert msgspec.json.decode(forgotten)["asked"] == "cursor=1"
    assert msgspec.json.decode(known)["asked"] == "first"
    assert missing.status == 404


async def test_a_body_may_come_compressed_and_broken() -> None:
    rules = RestRule(action=Gzip(), count=1), always(Gzip(broken=True))
    async with vendor(*rules, auto_decompress=False) as one:
        response, body = await one.get("/")
        _, broken = await one.get("/")

    assert response.headers["Content-Encoding"] == "gzip"
    assert msgspec.json.decode(gzip.decompress(body))["results"] == ROWS
    with pytest.raises(Exception, match=r"(?i)invalid|crc|error"):
        gzip.decompress(broken)


@pytest.mark.parametrize(
    ("body", "emptied"),
    [
        ([{"date": "2025-12-25"}], []),
        ({"results": {"p": 1}, "status": "OK"}, {"status": "OK"}),
        ({"tickers": [1], "count": 1}, {"tickers": [], "count": 0}),
        ({"ticker": {"day": 1}, "status": "OK"}, {"status": "OK"}),
        (
            {"ticker": "SPY", "resultsCount": 2, "results": [1, 2]},
            {"ticker": "SPY", "resultsCount": 0, "results": []},
        ),
    ],
)
def test_an_emptied_body_keeps_its_envelope(body: Any, emptied: Any) -> None:
    MassiveFaults(Faults(), ManualClock()).reshape(EmptyAnswer(), body)

    assert body == emptied
