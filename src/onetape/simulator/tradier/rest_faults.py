"""How Tradier's REST API fails: faults of its gateway, plain text, HTML, and odd shapes."""

from http import HTTPStatus
from typing import Any, Final, cast

import msgspec

from onetape.asgi import ASGIApp
from onetape.clock import Clock
from onetape.simulator.actions import EmptyAnswer, RestAction, StalePage
from onetape.simulator.faults import Faults, TradierRule
from onetape.simulator.faulty_rest import SIMULATED, FaultyRest, Page
from onetape.simulator.spoiling import Tree, dicts
from onetape.simulator.tradier.actions import Fail, FailureKind, Shape
from onetape.simulator.tradier.bars import NOT_A_NUMBER
from onetape.simulator.tradier.rest import (
    INVALID_TOKEN,
    JSON_TYPE,
    QUOTA_CODE,
    expiry_ms,
    fault_body,
    quota_fault_text,
    quota_text,
)

_TEXT: Final = "text/plain;charset=UTF-8"
_HTML: Final = "text/html;charset=UTF-8"
_FAULTS: Final = {
    FailureKind.DATASTORE_ERROR: (500, "Datastore Error", "datastore.ErrorWhileAccessingDataStore"),
    FailureKind.TOO_BIG_BODY: (502, "Body buffer overflow", "protocol.http.TooBigBody"),
    FailureKind.QUOTA_FAULT: (429, quota_fault_text(120), QUOTA_CODE),
    FailureKind.TOKEN_EXPIRED: (
        401,
        "Access Token expired",
        "keymanagement.service.access_token_expired",
    ),
}
_TEXTS: Final = {
    FailureKind.NOT_FOUND: (404, "Not Found", _TEXT),
    FailureKind.INVALID_TOKEN: (401, INVALID_TOKEN, "plain/text"),
    FailureKind.NOT_ENTITLED: (403, "Forbidden", _TEXT),
    FailureKind.TEXT: (503, "Service Unavailable", _TEXT),
    FailureKind.EMPTY_BODY: (200, "", JSON_TYPE),
    FailureKind.BAD_GATEWAY: (
        502,
        "<html><head><title>502 Bad Gateway</title></head></html>",
        _HTML,
    ),
    FailureKind.HTML: (
        200,
        "<!DOCTYPE html><html><head><title>Tradier API</title></head><body></body></html>",
        _HTML,
    ),
}
_ITEMS: Final = {
    "quotes": "quote",
    "options": "option",
    "strikes": "strike",
    "history": "day",
    "series": "data",
    "securities": "security",
}
_BAR_NUMBERS: Final = ("open", "high", "low", "close", "price", "vwap")


class TradierFaults:
    """What the script has for Tradier's REST API."""

    def __init__(self, faults: Faults, clock: Clock) -> None:
        self._faults = faults
        self._clock = clock

    def suffers(self, path: str, *, cursor: bool) -> RestAction | None:
        """Decide what a request suffers, if anything; nothing is paged here."""
        del cursor
        return self._faults.for_tradier(path, self._clock.monotonic())

    def keeps_pages(self) -> bool:
        """Whether the script may want an older page again."""
        rules = self._faults.script.rules
        return any(isinstance(r.action, StalePage) for r in rules if isinstance(r, TradierRule))

    def answer(self, fault: RestAction) -> Page | None:
        """Return the answer that is the whole fault, if it is one."""
        return _failure(fault, self._clock.now_ns()) if isinstance(fault, Fail) else None

    def reshape(self, fault: RestAction, tree: Tree) -> None:
        """Empty a body, or bring it to another shape."""
        if isinstance(tree, list):
            return
        if isinstance(fault, EmptyAnswer):
            _keep(tree, Shape(items=0))
        elif isinstance(fault, Shape):
            _keep(tree, fault)
            if fault.nan:
                _forget_first_bar(tree)


def faulty_rest(app: ASGIApp, *, faults: Faults, clock: Clock) -> FaultyRest:
    """Return an application that answers as Tradier's does, unless the script says otherwise."""
    return FaultyRest(app, vendor=TradierFaults(faults, clock))


def _failure(fault: Fail, now_ns: int) -> Page:
    kind = fault.kind
    if kind in _FAULTS:
        status, text, code = _FAULTS[kind]
        body, media = fault_body(fault.message or text, code), JSON_TYPE
    elif kind is FailureKind.QUOTA_TEXT:
        status, media = 429, _TEXT
        body = (fault.message or quota_text(expiry_ms(now_ns))).encode()
    elif kind is FailureKind.ERRORS:
        status, media = 200, JSON_TYPE
        body = _errors(fault.message or "Something went wrong downstream")
    else:
        status, text, media = _TEXTS[kind]
        body = (fault.message or text).encode()
    headers = [SIMULATED, (b"content-type", media.encode())]
    return Page(HTTPStatus(fault.status or status), headers, b"").replaced(body)


def _errors(message: str) -> bytes:
    return msgspec.json.encode({"errors": {"error": message}})


def _keep(tree: dict[str, Any], shape: Shape) -> None:
    """Keep so many items of the answer's one list."""
    if shape.items is None:
        return
    ((root, inner),) = list(tree.items())[:1]
    if isinstance(inner, list):  # symbols: a list directly
        tree[root] = cast("list[Any]", inner)[: shape.items] or None
        return
    key = _item_key(root, inner)
    if key is None:
        return
    found = cast("dict[str, Any]", inner)
    rows = cast("list[Any]", found[key] if isinstance(found[key], list) else [found[key]])
    kept = rows[: shape.items]
    if kept:
        found[key] = kept[0] if len(kept) == 1 else kept
    elif shape.nothing == "absent" or root == "quotes":
        del found[key]
        _say_unmatched(root, found, rows)
    else:
        tree[root] = None if shape.nothing == "null" else "null"


def _item_key(root: str, inner: object) -> str | None:
    if not isinstance(inner, dict):
        return None
    wanted = ("date", "expiration") if root == "expirations" else (_ITEMS.get(root, ""),)
    return next((key for key in wanted if key in inner), None)


def _say_unmatched(root: str, found: dict[str, Any], rows: list[Any]) -> None:
    if root == "quotes" and rows:
        missing = [row["symbol"] for row in rows]
        found["unmatched_symbols"] = {"symbol": missing[0] if len(missing) == 1 else missing}


def _forget_first_bar(tree: dict[str, Any]) -> None:
    for row in dicts(tree):
        if "open" in row and "volume" in row:
            row.update({key: NOT_A_NUMBER for key in _BAR_NUMBERS if key in row})
            return
