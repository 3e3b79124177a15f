"""How Massive's REST API fails: its error shapes, behind the fault script."""

import uuid
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

import msgspec

from onetape.asgi import ASGIApp
from onetape.clock import Clock
from onetape.simulator.actions import Answer, BodyKind, RestAction, StalePage
from onetape.simulator.faults import Faults, RestRule
from onetape.simulator.faulty_rest import SIMULATED, FaultyRest, Headers, Page
from onetape.simulator.spoiling import Tree

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


class MassiveFaults:
    """What the script has for Massive's REST API."""

    def __init__(self, faults: Faults, clock: Clock) -> None:
        self._faults = faults
        self._clock = clock

    def suffers(self, path: str, *, cursor: bool) -> RestAction | None:
        """Decide what a request suffers, if anything."""
        return self._faults.for_rest(path, self._clock.monotonic(), cursor=cursor)

    def keeps_pages(self) -> bool:
        """Whether the script may want an older page again."""
        rules = self._faults.script.rules
        return any(isinstance(r.action, StalePage) for r in rules if isinstance(r, RestRule))

    def answer(self, fault: RestAction) -> Page | None:
        """Return the answer that is the whole fault, if it is one."""
        return _answer(fault, self._clock.now_ns()) if isinstance(fault, Answer) else None

    def reshape(self, fault: RestAction, tree: Tree) -> None:
        """Empty a body: no rows, and no more pages."""
        del fault
        if not isinstance(tree, dict):
            tree.clear()
            return
        for key in ("results", "tickers", "ticker"):
            if isinstance(tree.get(key), list):
                tree[key] = []
            elif isinstance(tree.get(key), dict):
                del tree[key]
        tree.pop("next_url", None)
        tree.update({key: 0 for key in ("count", "resultsCount", "queryCount") if key in tree})


def faulty_rest(app: ASGIApp, *, faults: Faults, clock: Clock) -> FaultyRest:
    """Return an application that answers as Massive's does, unless the script says otherwise."""
    return FaultyRest(app, vendor=MassiveFaults(faults, clock))


def _answer(fault: Answer, now_ns: int) -> Page:
    request_id = uuid.uuid4().hex
    headers: Headers = [SIMULATED, (b"x-request-id", request_id.encode())]
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
