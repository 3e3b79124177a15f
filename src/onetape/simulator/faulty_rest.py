"""What stands before a simulated REST API: counts its requests and spoils its answers.

The fault script decides what a request suffers; what a vendor's own failures look like,
the vendor says (`Vendor`).
"""

import asyncio
import gzip
import socket
import struct
from collections import Counter
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any, Final, NamedTuple, Protocol, cast

import msgspec

from onetape.asgi import ASGIApp, Message, Receive, Scope, Send
from onetape.simulator import spoiling
from onetape.simulator.actions import (
    CrossQuotes,
    CutBody,
    Gzip,
    Hang,
    Reset,
    RestAction,
    SkewTimes,
    Slow,
    StalePage,
    StaleValues,
    WrongValues,
)
from onetape.simulator.spoiling import Tree

SIMULATED: Final = (b"x-onetape-simulated", b"true")
_MOST_PATHS: Final = 1_000
_MOST_PAGES: Final = 16
_OTHER: Final = "other"

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

    @property
    def is_json(self) -> bool:
        """Whether it has data that can be changed."""
        kinds = (value for name, value in self.headers if name.lower() == b"content-type")
        return self.status == HTTPStatus.OK and next(kinds, b"").startswith(b"application/json")


class Vendor(Protocol):
    """How one vendor fails."""

    def suffers(self, path: str, *, cursor: bool) -> RestAction | None:
        """Decide what a request suffers, if anything."""
        ...

    def keeps_pages(self) -> bool:
        """Whether the script may want an older page again."""
        ...

    def answer(self, fault: RestAction) -> Page | None:
        """Return the answer that is the whole fault, if it is one."""
        ...

    def reshape(self, fault: RestAction, tree: Tree) -> None:
        """Do to a body what only this vendor knows how to do: empty it, at least."""
        ...


class FaultyRest:
    """An ASGI application that answers as another does, unless the script says otherwise."""

    def __init__(self, app: ASGIApp, *, vendor: Vendor) -> None:
        self._app = app
        self._vendor = vendor
        self._requests: Counter[str] = Counter()
        self._pages: dict[str, Page] = {}
        self._first: dict[str, dict[bytes, bytes]] = {}

    @property
    def requests(self) -> dict[str, int]:
        """How often each path was asked; beyond a thousand paths, `other`."""
        return dict(self._requests)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. A client that leaves is forgotten at once."""
        path = cast("str", scope["path"])
        self._count(path)
        cursor = b"cursor=" in cast("bytes", scope["query_string"])
        fault = self._vendor.suffers(path, cursor=cursor)
        if not isinstance(fault, StaleValues):
            self._first.pop(path, None)
        if fault is None and not self._vendor.keeps_pages():
            await self._app(scope, receive, send)
        elif fault is not None and (answer := self._vendor.answer(fault)) is not None:
            await _send_page(send, answer)
        elif isinstance(fault, Reset):
            await cut(receive, send, reset=True)
        elif fault == Hang():
            await _left(receive)
        else:
            page = await self._page(scope, receive, path, fault)
            await _spoil(page, fault, receive, send)

    def _count(self, path: str) -> None:
        known = path in self._requests or len(self._requests) < _MOST_PATHS
        self._requests[path if known else _OTHER] += 1

    async def _page(
        self, scope: Scope, receive: Receive, path: str, fault: RestAction | None
    ) -> Page:
        """Return what would be answered: an older page of the path if that is the fault."""
        if isinstance(fault, StalePage) and path in self._pages:
            return self._pages[path]
        page, asked = await _captured(self._app, scope, receive)
        if self._vendor.keeps_pages() and page.status == HTTPStatus.OK:
            self._pages.pop(path, None)
            self._pages[path] = page
            if len(self._pages) > _MOST_PAGES:
                del self._pages[next(iter(self._pages))]
        if fault is None or not page.is_json:
            return page
        if isinstance(fault, StaleValues):
            known = self._first.setdefault(path, {})
            body = _held(page.body, known.setdefault(asked, page.body), fault)
            if len(known) > _MOST_PAGES:
                del known[next(iter(known))]
        else:
            body = self._changed(page.body, fault)
        return page if body is page.body else page.replaced(body)

    def _changed(self, body: bytes, fault: RestAction) -> bytes:
        match fault:
            case Slow() | CutBody() | StalePage() | Gzip() | Hang():
                return body
            case _:
                return spoiling.respelt(body, self._change(fault))

    def _change(self, fault: RestAction) -> Callable[[Tree], None]:
        match fault:
            case CrossQuotes(by=by):
                return partial(spoiling.cross, by=by)
            case WrongValues(fields=fields, times=times):
                return partial(spoiling.multiply, fields=fields, times=times)
            case SkewTimes(by_s=by_s):
                return partial(spoiling.skew, by_s=by_s)
            case _:
                return partial(self._vendor.reshape, fault)


def _held(body: bytes, first: bytes, fault: StaleValues) -> bytes:
    """Return the body with what is stale as it was first told."""
    if fault.parts == "all" or first is body:
        return first
    old = cast("Tree", msgspec.json.decode(first))
    return spoiling.respelt(body, partial(spoiling.hold, first=old, parts=fault.parts))


async def _captured(app: ASGIApp, scope: Scope, receive: Receive) -> tuple[Page, bytes]:
    """Return the whole answer, and what was asked: the query and the body."""
    messages: list[Message] = []
    asked = [cast("bytes", scope["query_string"])]

    async def keep(message: Message) -> None:
        messages.append(message)

    async def note() -> Message:
        message = await receive()
        asked.append(message.get("body", b""))
        return message

    await app(scope, note, keep)
    body = b"".join(message.get("body", b"") for message in messages[1:])
    page = Page(messages[0]["status"], list(messages[0].get("headers", [])), body)
    return page, b"".join(asked)


async def _spoil(page: Page, fault: RestAction | None, receive: Receive, send: Send) -> None:
    match fault:
        case Slow():
            await _send_slowly(send, page, fault)
        case CutBody(how="json", keep=keep):
            await _send_page(send, page.replaced(page.body[: int(len(page.body) * keep)]))
        case CutBody(keep=keep):
            whole = page.replaced(page.body)  # with its length promised
            await _send_half(send, whole, keep)
            await cut(receive, send, reset=False)
        case Hang():
            await _send_half(send, page.replaced(page.body), 0.5)
            await _left(receive)
        case Gzip(broken=broken):
            body = gzip.compress(page.body, mtime=0)
            if broken:
                body = body[: len(body) // 2] + b"\x00" * (len(body) - len(body) // 2)
            encoding = (b"content-encoding", b"gzip")
            await _send_page(send, page.replaced(body, encoding, (b"vary", b"Accept-Encoding")))
        case _:
            await _send_page(send, page)


async def _start(send: Send, page: Page) -> None:
    await send({"type": "http.response.start", "status": page.status, "headers": page.headers})


async def _send_page(send: Send, page: Page) -> None:
    await _start(send, page)
    await send({"type": "http.response.body", "body": page.body, "more_body": False})


async def _send_half(send: Send, page: Page, keep: float) -> None:
    await _start(send, page)
    part = page.body[: int(len(page.body) * keep)]
    await send({"type": "http.response.body", "body": part, "more_body": True})


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


async def cut(receive: Receive, send: Send, *, reset: bool) -> None:
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
    await _left(receive)


async def _left(receive: Receive) -> None:
    """Wait until the client is gone, or we are."""
    while (await receive())["type"] != "http.disconnect":
        pass
