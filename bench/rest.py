"""(d) REST cache hits against a bare Starlette route, and 500 requests that are one."""

import asyncio
import re
import time
from typing import Any, NamedTuple

import uvloop
from picows import WSUpgradeRequest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from bench.load import CONTEXT, LOAD, UNDER_TEST, cpu_s, pin
from bench.rig import Running, gateway
from onetape.asgi import Server

PATH = "/v3/reference/exchanges"
BODY = {
    "status": "OK",
    "request_id": "6a7e466379af0a71039d60cc78e72282",
    "results": [{"id": n, "type": "exchange", "name": f"Exchange {n}"} for n in range(10)],
}


async def _bare(port: Any, calls: Any, ready: Any, stop: Any) -> None:
    """The vendor and the baseline: one bare Starlette route on our own server."""

    async def answer(request: Request) -> JSONResponse:
        calls.value += 1
        if "slow" in request.url.query:
            await asyncio.sleep(0.5)
        return JSONResponse(BODY)

    def nothing(request: WSUpgradeRequest, peer: str) -> None:
        return None

    app = Starlette(routes=[Route("/{path:path}", answer)])
    async with Server(app, host="127.0.0.1", port=0, websocket=nothing) as server:
        port.value = server.port
        ready.release()
        while not stop.is_set():
            await asyncio.sleep(0.05)


def _run_bare(port: Any, calls: Any, ready: Any, stop: Any) -> None:
    pin(UNDER_TEST)
    uvloop.run(_bare(port, calls, ready, stop))


class _Caller(asyncio.Protocol):
    """Asks again as soon as it is answered."""

    LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)

    def __init__(self, request: bytes, total: list[int]) -> None:
        self._request, self._total, self._buffer = request, total, b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, mark, body = self._buffer.partition(b"\r\n\r\n")
        length = self.LENGTH.search(head)
        if mark and length and len(body) >= int(length[1]):
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(head.decode())
            self._total[0] += 1
            self._buffer = b""
            self._transport.write(self._request)


class Rate(NamedTuple):
    per_s: float
    cpu_us: float


def request_of(running: Running, query: str = "") -> bytes:
    return (
        f"GET {PATH}{query} HTTP/1.1\r\nhost: {running.netloc}\r\n"
        f"authorization: Bearer {running.credential}\r\n\r\n"
    ).encode()


async def _hammer(running: Running, seconds: float, connections: int = 64) -> Rate:
    host, _, port = running.netloc.partition(":")
    loop, total = asyncio.get_running_loop(), [0]
    request = request_of(running)
    transports = [
        (await loop.create_connection(lambda: _Caller(request, total), host, int(port)))[0]
        for _ in range(connections)
    ]
    await asyncio.sleep(0.5)
    began, count, cpu = time.monotonic(), total[0], cpu_s(running.pid)
    await asyncio.sleep(seconds)
    took, count, cpu = time.monotonic() - began, total[0] - count, cpu_s(running.pid) - cpu
    for transport in transports:
        transport.abort()
    await asyncio.sleep(0.1)
    return Rate(count / took, cpu / count * 1e6)


async def _at_once(running: Running, count: int) -> None:
    """Send so many identical requests and wait for every answer."""
    host, _, port = running.netloc.partition(":")
    request = request_of(running, "?slow=1")

    async def ask() -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(request)
        status = await reader.readline()
        assert b" 200 " in status, status
        writer.close()

    await asyncio.gather(*(ask() for _ in range(count)))


def main() -> list[str]:
    port, calls = CONTEXT.Value("i", 0), CONTEXT.Value("i", 0)
    ready, stop = CONTEXT.Semaphore(0), CONTEXT.Event()
    process = CONTEXT.Process(target=_run_bare, args=(port, calls, ready, stop))
    process.start()
    pin(LOAD)
    ready.acquire()
    try:
        bare = Running(process.pid or 0, f"127.0.0.1:{port.value}", "none")
        with gateway(1, rest_url=f"http://127.0.0.1:{port.value}") as ours:
            calls.value = 0
            uvloop.run(_at_once(ours, 500))
            upstream = calls.value
            pairs = [(uvloop.run(_hammer(bare, 3)), uvloop.run(_hammer(ours, 3))) for _ in range(3)]
    finally:
        stop.set()
        process.join(10)
    base = min((base for base, _ in pairs), key=lambda rate: rate.cpu_us)
    hit = min((hit for _, hit in pairs), key=lambda rate: rate.cpu_us)
    return [
        f"REST, bare Starlette route   {base.per_s:8,.0f} requests/s   {base.cpu_us:5.1f} µs CPU each",
        f"REST, gateway cache hit      {hit.per_s:8,.0f} requests/s   {hit.cpu_us:5.1f} µs CPU each",
        f"REST, ratio                  {hit.per_s / base.per_s:8.2f} by requests/s,"
        f" {base.cpu_us / hit.cpu_us:.2f} by CPU",
        f"REST, 500 identical requests at once made {upstream} upstream",
    ]


if __name__ == "__main__":
    print("\n".join(main()))
