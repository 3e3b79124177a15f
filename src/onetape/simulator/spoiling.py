"""What a fault does to the JSON of an answer, whichever vendor's it is.

A body is decoded, changed in place and encoded again: what is not named stays as it was.
Both vendors' names are known here, so a fault reads the same for either.
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any, Final, Literal, cast

import msgspec

from onetape.errors import UNREADABLE

Tree = dict[str, Any] | list[Any]

_BIDS: Final = (("bid", "ask"), ("bid_price", "ask_price"), ("p", "P"))
_QUOTE_KEYS: Final = frozenset(
    {
        *("last_quote", "lastQuote"),
        *("bid", "ask", "bidsize", "asksize", "bidexch", "askexch", "bid_date", "ask_date"),
    }
)
_GREEK_KEYS: Final = frozenset({"greeks", "implied_volatility"})
_PARTS: Final = {"quotes": _QUOTE_KEYS, "greeks": _GREEK_KEYS}
_TIME_KEYS: Final = frozenset(
    {
        *("last_updated", "fmv_last_updated", "sip_timestamp", "participant_timestamp"),
        *("trf_timestamp", "timestamp", "updated", "t", "y", "f"),
        *("trade_date", "bid_date", "ask_date", "updated_at", "time", "serverTime"),
    }
)
_PER_SECOND: Final = ((10**17, 10**9), (10**11, 10**3), (10**8, 1))
"""From which number on a time is in what fraction of a second."""


def dicts(tree: object) -> Iterator[dict[str, Any]]:
    """Yield every JSON object of a tree, outermost first."""
    if isinstance(tree, dict):
        found = cast("dict[str, Any]", tree)
        yield found
        for value in tuple(found.values()):
            yield from dicts(value)
    elif isinstance(tree, list):
        for value in cast("list[Any]", tree):
            yield from dicts(value)


def respelt(body: bytes, change: Callable[[Tree], None]) -> bytes:
    """Return the body with the change made; what is no JSON stays as it is."""
    try:
        tree = msgspec.json.decode(body)
    except UNREADABLE:
        return body
    change(tree)
    return msgspec.json.encode(tree)


def cross(tree: Tree, by: float) -> None:
    """Put every bid above its ask."""
    for found in dicts(tree):
        for bid, ask in _BIDS:
            if _is_number(found.get(bid)) and _is_number(found.get(ask)):
                found[bid] = round(found[ask] + by, 4)


def multiply(tree: Tree, fields: tuple[str, ...], times: float) -> None:
    """Multiply the numbers whose keys match, written as numbers or as text."""
    for found in dicts(tree):
        for key, value in found.items():
            if any(fnmatchcase(key, field) for field in fields):
                found[key] = _multiplied(value, times)


def _multiplied(value: Any, times: float) -> Any:
    if _is_number(value):
        product = value * times
        return round(product) if isinstance(value, int) else product
    if isinstance(value, str):
        try:
            return str(_multiplied(float(value), times))
        except ValueError:
            return value
    return value


def skew(tree: Tree, by_s: float) -> None:
    """Shift every time, in whatever unit it is."""
    for found in dicts(tree):
        for key in _TIME_KEYS & found.keys():
            found[key] = _shifted(found[key], by_s)


def _shifted(value: Any, by_s: float) -> Any:
    if _is_number(value):
        scale = next((per_s for least, per_s in _PER_SECOND if value >= least), None)
        return value if scale is None else value + round(by_s * scale)
    if isinstance(value, str):
        try:
            moved = datetime.fromisoformat(value) + timedelta(seconds=by_s)
        except ValueError:
            return value
        return moved.isoformat(sep="T" if "T" in value else " ")
    return value


def hold(tree: Tree, first: Tree, parts: Literal["quotes", "greeks"]) -> None:
    """Give every row the quotes, or the Greeks, that it had in the first tree."""
    keys = _PARTS[parts]
    known = {_name(row): row for row in dicts(first) if keys & row.keys()}
    for row in dicts(tree):
        old = known.get(_name(row)) if keys & row.keys() else None
        if old is not None:
            row.update({key: old[key] for key in keys & old.keys()})


def _name(row: dict[str, Any]) -> str | None:
    details: Any = row.get("details")
    inner: Any = cast("dict[str, Any]", details) if isinstance(details, dict) else {}
    name = inner.get("ticker") or row.get("symbol") or row.get("ticker")
    return name if isinstance(name, str) else None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
