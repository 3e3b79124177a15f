"""What stands before the simulated REST API: counts requests and spoils their answers."""

import asyncio
import gzip
import socket
import struct
import uuid
from collections import Counter
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Final, NamedTuple, cast

import msgspec

from onetape.asgi import ASGIApp, Message, Receive, Scope, Send
from onetape.clock import Clock
from onetape.simulator.faults import (
    Answer,
    BodyKind,
    CutBody,
    Faults,
    Gzip,
    Reset,
    RestActions,
    RestRule,
    Slow,
    StalePage,
)

_MOST_PATHS: Final = 1_000
_MOST_PAGES: Final = 16
_OTHER: Final = "other"
_TEXTS: Final = {
    HTTPStatus.FORBIDDEN: "You are not entitled to this data. "
    "Please upgrade your plan at https://massive.com/pricing",
    HTTPStatus.TOO_MANY_REQUESTS: "You've exceeded the maximum requests per minute, please wait "
    "or upgrade your subscription to continue. https://polygon.io/pricing",
}
_STATUSES: Final = {HTTPStatus.FORBIDDEN: "NOT_AUTHORIZED", HTTPStatus.NOT_FOUND: "NOT_FOUND"}
_TYPES: Final = {
    BodyKind.JSON: b"application/json",
    BodyKind.HTML: b"text/html",
    BodyKind.TEXT: b"text/plain; charset=utf-8",
}
_SIMULATED: Final = (b"x-onetape-simulated", b"true")

Headers = list[tuple[bytes, bytes]]


class Page(NamedTuple):
    """A whole answer."""

    status: int
    headers: Headers
    body: bytes

    def replaced(self, body: bytes, *extra: tuple[bytes, bytes]) -> "Page":
        """Return the same answer with another body."""
        stale = {b"content-length", *(name for name, _ in extra)}
        kept = [header for header in self.headers if header[0].lower() not in stale]
        length = (b"content-length", str(len(body)).encode())
        return Page(self.status, [*kept, *extra, length], body)


class FaultyRest:
    """An ASGI application that answers as another does, unless the script says otherwise."""

    def __init__(self, app: ASGIApp, *, faults: Faults, clock: Clock) -> None:
        self._app = app
        self._faults = faults
        self._clock = clock
        self._requests: Counter[str] = Counter()
        self._pages: dict[str, Page] = {}

    @property
    def requests(self) -> dict[str, int]:
        """How often each path was asked; beyond a thousand paths, `other`."""
        return dict(self._requests)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. A client that leaves is forgotten at once."""
        path = cast("str", scope["path"])
        self._count(path)
        cursor = b"cursor=" in cast("bytes", scope["query_string"])
        fault = self._faults.for_rest(path, self._clock.monotonic(), cursor=cursor)
        if fault is None and not self._keeps_pages():
            await self._app(scope, receive, send)
        elif isinstance(fault, Answer):
            await _send_page(send, _answer(fault, self._clock.now_ns()))
        elif isinstance(fault, Reset):
            await _cut(receive, send, reset=True)
        else:
            page = await self._page(scope, receive, path, fault)
            await _spoil(page, fault, receive, send)

    def _count(self, path: str) -> None:
        known = path in self._requests or len(self._requests) < _MOST_PATHS
        self._requests[path if known else _OTHER] += 1

    def _keeps_pages(self) -> bool:
        rules = self._faults.script.rules
        return any(
            isinstance(rule.action, StalePage) for rule in rules if isinstance(rule, RestRule)
        )

    async def _page(
        self, scope: Scope, receive: Receive, path: str, fault: RestActions | None
    ) -> Page:
        """Return what would be answered: an older page of the path if that is the fault."""
        if isinstance(fault, StalePage) and path in self._pages:
            return self._pages[path]
        page = await _captured(self._app, scope, receive)
        if self._keeps_pages() and page.status == HTTPStatus.OK:
            self._pages.pop(path, None)
            self._pages[path] = page
            if len(self._pages) > _MOST_PAGES:
                del self._pages[next(iter(self._pages))]
        return page


async def _captured(app: ASGIApp, scope: Scope, receive: Receive) -> Page:
    messages: list[Message] = []

    async def keep(message: Message) -> None:
        messages.append(message)

    await app(scope, receive, keep)
    body = b"".join(message.get("body", b"") for message in messages[1:])
    return Page(messages[0]["status"], list(messages[0].get("headers", [])), body)


async def _spoil(page: Page, fault: RestActions | None, receive: Receive, send: Send) -> None:
    match fault:
        case Slow():
            await _send_slowly(send, page, fault)
        case CutBody(keep=keep, how="json"):
            await _send_page(send, page.replaced(page.body[: int(len(page.body) * keep)]))
        case CutBody(keep=keep):
            whole = page.replaced(page.body)
            await _start(send, whole)
            part = whole.body[: int(len(whole.body) * keep)]
            await send({"type": "http.response.body", "body": part, "more_body": True})
            await _cut(receive, send, reset=False)
        case Gzip(broken=broken):
            body = gzip.compress(page.body, mtime=0)
            if broken:
                body = body[: len(body) // 2] + b"\x00" * (len(body) - len(body) // 2)
            encoding = (b"content-encoding", b"gzip")
            await _send_page(send, page.replaced(body, encoding, (b"vary", b"Accept-Encoding")))
        case _:
            await _send_page(send, page)


def _answer(fault: Answer, now_ns: int) -> Page:
    request_id = uuid.uuid4().hex
    headers: Headers = [_SIMULATED, (b"x-request-id", request_id.encode())]
    if fault.retry_after_s is not None:
        headers.append((b"retry-after", _retry_after(fault, fault.retry_after_s, now_ns)))
    if fault.body in _TYPES:
        headers.append((b"content-type", _TYPES[fault.body]))
    return Page(fault.status, headers, b"").replaced(_body(fault, request_id))


def _retry_after(fault: Answer, seconds: int, now_ns: int) -> bytes:
    if fault.retry_after_as == "date":
        return formatdate(now_ns / 1_000_000_000 + seconds, usegmt=True).encode()
    return str(seconds).encode()


def _body(fault: Answer, request_id: str) -> bytes:
    status = HTTPStatus(fault.status)
    text = fault.message or _TEXTS.get(status, status.phrase)
    match fault.body:
        case BodyKind.EMPTY:
            return b""
        case BodyKind.TEXT:
            return text.encode()
        case BodyKind.HTML:
            title = f"{status.value} {status.phrase}"
            return (
                f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n"
                f"<center><h1>{title}</h1></center>\r\n<hr><center>nginx</center>\r\n"
                "</body>\r\n</html>\r\n"
            ).encode()
        case BodyKind.JSON:
            word = _STATUSES.get(status, "ERROR")
            key = "error" if word == "ERROR" else "message"
            return msgspec.json.encode({"status": word, "request_id": request_id, key: text})


async def _start(send: Send, page: Page) -> None:
    await send({"type": "http.response.start", "status": page.status, "headers": page.headers})


async def _send_page(send: Send, page: Page) -> None:
    await _start(send, page)
    await send({"type": "http.response.body", "body": page.body, "more_body": False})


async def _send_slowly(send: Send, page: Page, fault: Slow) -> None:
    await asyncio.sleep(fault.before_s)
    await _start(send, page)
    size = max(1, -(-len(page.body) // fault.pieces))
    for at in range(0, len(page.body), size):
        if at:
            await asyncio.sleep(fault.between_s)
        piece = page.body[at : at + size]
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _cut(receive: Receive, send: Send, *, reset: bool) -> None:
    """End the connection under an unfinished answer.

    ASGI has no word for this. The `send` that uvicorn gives the outermost application
    is a method of its request cycle, which has the transport.
    """
    transport: asyncio.Transport = cast("Any", send).__self__.transport
    if reset:
        # A socket that closes with a linger of 0 says RST, as a crashed proxy would.
        cast("socket.socket", transport.get_extra_info("socket")).setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        transport.abort()
    else:
        transport.close()
    while (await receive())["type"] != "http.disconnect":
        pass
