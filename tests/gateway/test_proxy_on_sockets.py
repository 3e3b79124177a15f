"""The proxy between real sockets: uvicorn in front, `MassiveREST` and a vendor behind."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from aiohttp import web
from massive import RESTClient  # pyright: ignore[reportMissingTypeStubs] - it ships none

from onetape.asgi import Server
from onetape.clock import SystemClock
from onetape.config import GatewayConfig
from onetape.core.cache import Cache
from onetape.core.limits import SlidingWindow
from onetape.errors import TokenInvalid
from onetape.flights import Flights
from onetape.gateway.answers import Answer
from onetape.gateway.auth import Principal
from onetape.gateway.keys import Scopes
from onetape.gateway.proxy import Limits, Proxy, RequestRecord
from onetape.gateway.supply import Supply
from onetape.massive.rest import MassiveREST, RestPolicy

CANARY = "canary-that-must-not-fly"
VENDOR_KEY = "vendor-key-that-stays-here"


class Vendor:
    """A vendor on a real socket that remembers what was said to it."""

    def __init__(self) -> None:
        self.heads: list[tuple[str, dict[str, str]]] = []
        self.script: list[tuple[int, str, str]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.arrived = asyncio.Event()
        self.given_up = asyncio.Event()

    async def answer(self, request: web.BaseRequest) -> web.Response:
        self.heads.append((request.raw_path, {k.lower(): v for k, v in request.headers.items()}))
        self.arrived.set()
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.given_up.set()
            raise
        page = '{"results":[1],"next_url":"https://api.massive.com/v3/x?cursor=c"}'
        script = self.script
        status, kind, text = script.pop(0) if script else (200, "application/json", page)
        return web.Response(status=status, content_type=kind, text=text)


class Doorkeeper:
    """Knows one credential."""

    def identify(self, credential: str | None, *, peer: str) -> Principal:
        if credential != CANARY:
            raise TokenInvalid(f"who is that, {peer}")
        return Principal(key_id="alice", name="alice", kind="token", scopes=Scopes())


class Ledger:
    """Keeps what was told."""

    def __init__(self) -> None:
        self.records: list[RequestRecord] = []

    def rest_request(self, record: RequestRecord) -> None:
        self.records.append(record)


class Street:
    """A client's side of the proxy, and the vendor at the other end."""

    def __init__(self, vendor: Vendor, ledger: Ledger, port: int) -> None:
        self.vendor = vendor
        self.ledger = ledger
        self.port = port

    @property
    def asked(self) -> list[str]:
        return [raw_path for raw_path, _ in self.vendor.heads]

    async def say(self, line: str | bytes, *headers: str) -> bytes:
        """Send a request line as it is; return all that comes back until the close."""
        line = line if isinstance(line, bytes) else line.encode("latin-1")
        lines = [f"Authorization: Bearer {CANARY}", *headers, "Host: gw.test", "Connection: close"]
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(line + b"\r\n" + "\r\n".join(lines).encode() + b"\r\n\r\n")
        try:
            async with asyncio.timeout(5):
                return await reader.read()
        finally:
            writer.close()
            await writer.wait_closed()


@pytest.fixture
async def vendor() -> AsyncIterator[tuple[Vendor, str]]:
    vendor = Vendor()
    runner = web.ServerRunner(web.Server(vendor.answer, handler_cancellation=True))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield vendor, f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.fixture
async def street(vendor: tuple[Vendor, str]) -> AsyncIterator[Street]:
    clock, ledger, window = SystemClock(), Ledger(), SlidingWindow(1_000, 60)
    rest = MassiveREST(
        base_url=vendor[1],
        headers=lambda: {"Authorization": f"Bearer {VENDOR_KEY}"},
        clock=clock,
        policy=RestPolicy(attempts=1),
    )
    async with rest, Flights[str, Answer]() as flights:
        proxy = Proxy(
            auth=Doorkeeper(),
            supply=Supply(cache=Cache(1 << 20), flights=flights, upstream=rest, clock=clock),
            limits=Limits(window, window),
            telemetry=ledger,
            clock=clock,
            config=GatewayConfig(),
        )
        async with Server(
            proxy, host="127.0.0.1", port=0, websocket=lambda _request, _peer: None
        ) as server:
            yield Street(vendor[0], ledger, server.port)


def body_of(reply: bytes) -> Any:
    return msgspec.json.decode(reply.partition(b"\r\n\r\n")[2])


async def test_the_vendor_sees_its_key_and_nothing_of_ours(street: Street) -> None:
    """R30: a canary in every place a client may put a credential."""
    names = (
        "X-Massive-Proxy-Token",
        "Cookie",
        "User-Agent",
        "Accept",
        "X-Massive-Edge-ID",
        "Referer",
    )

    reply = await street.say(
        f"GET /api/massive/v3/x?a=1&apiKey={CANARY}&%61piKey={CANARY} HTTP/1.1",
        *(f"{name}: {CANARY}" for name in names),
    )

    assert reply.startswith(b"HTTP/1.1 200 OK\r\n")
    assert body_of(reply)["next_url"] == "http://gw.test/api/massive/v3/x?cursor=c"
    [(raw_path, heard)] = street.vendor.heads
    assert raw_path == "/v3/x?a=1"
    assert heard["authorization"] == f"Bearer {VENDOR_KEY}"
    assert CANARY not in str(heard)
    assert VENDOR_KEY not in f"{reply!r}{street.ledger.records}"


@pytest.mark.parametrize(
    "target",
    [
        "/v3/snapshot/options/I%3aSPX/O:SPXW?limit=250&ticker.any_of=A%2cB,C",
        "/v3/trades/BRK%2EB?timestamp.gte=2024-01-01T00%3A00%3A00Z&a=b+c%20d",
        "/v3/trades/~a!$&'()*+,=:@?a=[]|?/:@!$'()*",
        "/v3/snapshot/?a=&&b",
    ],
)
async def test_the_vendor_reads_the_bytes_the_client_wrote(street: Street, target: str) -> None:
    """W-42: what was judged is what is sent."""
    assert (await street.say(f"GET {target} HTTP/1.1")).startswith(b"HTTP/1.1 200")
    assert street.asked == [target]


async def test_the_vendors_page_never_reaches_a_client(street: Street) -> None:
    street.vendor.script = [(502, "text/html", "<html>502</html>")]

    reply = await street.say("GET /v3/x HTTP/1.1")

    assert reply.startswith(b"HTTP/1.1 502")
    assert body_of(reply)["code"] == "upstream_down"


async def test_a_head_ends_with_its_headers(street: Street) -> None:
    reply = await street.say("HEAD /v3/trades/A HTTP/1.1")

    assert b"content-length: " in reply
    assert reply.endswith(b"\r\n\r\n")


async def test_the_authority_of_an_absolute_request_line_is_nobody_to_us(street: Street) -> None:
    """W-42: HTTP makes servers accept the form; the server drops the host before we see it."""
    reply = await street.say("GET http://evil.example/v3/trades/A HTTP/1.1")

    assert reply.startswith(b"HTTP/1.1 200")
    assert street.asked == ["/v3/trades/A"]


@pytest.mark.parametrize(
    "target",
    [
        "http://evil.example",
        "//evil.example/v3/x",
        "/v3/../v1/x",
        "/v3/\xff",
        "/v3/%00",
        "/v3/a\\b",
        "/v3/a;b",
        "*",
        "/v3/" + "a" * 5_000,
    ],
)
async def test_a_hostile_request_line_gets_a_4xx_and_reaches_nobody(
    street: Street, target: str
) -> None:
    """R45, W-42."""
    assert (await street.say(f"GET {target} HTTP/1.1")).startswith(b"HTTP/1.1 4")
    assert street.asked == []


@pytest.mark.parametrize("line", ["CONNECT evil.example:443 HTTP/1.1", "POST /v3/x HTTP/1.1"])
async def test_another_method_gets_a_4xx_and_reaches_nobody(street: Street, line: str) -> None:
    assert (await street.say(line)).startswith(b"HTTP/1.1 4")
    assert street.asked == []


async def test_the_official_client_reads_all_pages(street: Street) -> None:
    """massive-api 6.1.3: unchanged but for the base URL and the token as key."""
    next_url = "https://api.massive.com/v3/reference/options/contracts?cursor=c"
    street.vendor.script = [
        (200, "application/json", f'{{"results":[{{"ticker":"O:A"}}],"next_url":"{next_url}"}}'),
        (200, "application/json", '{"results":[{"ticker":"O:B"}]}'),
    ]
    client: Any = RESTClient(api_key=CANARY, base=f"http://127.0.0.1:{street.port}", retries=0)

    def tickers() -> list[str]:
        try:
            return [contract.ticker for contract in client.list_options_contracts("A", limit=1)]
        finally:
            client.client.clear()

    assert await asyncio.to_thread(tickers) == ["O:A", "O:B"]
    path = "/v3/reference/options/contracts"
    assert street.asked == [f"{path}?underlying_ticker=A&limit=1", f"{path}?cursor=c"]


async def test_closing_the_socket_cancels_the_vendors_request(street: Street) -> None:
    """R89."""
    street.vendor.open.clear()
    _, writer = await asyncio.open_connection("127.0.0.1", street.port)
    writer.write(f"GET /v3/x?apiKey={CANARY} HTTP/1.1\r\nHost: gw\r\n\r\n".encode())

    async with asyncio.timeout(5):
        await street.vendor.arrived.wait()
        writer.close()
        await writer.wait_closed()
        await street.vendor.given_up.wait()
