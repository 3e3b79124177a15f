"""Pages of rows and the opaque cursors between them.

Sans-I/O. A cursor is base64url without padding of the whole query plus `ap`, the
position after which the next page starts, as the vendor's are. Positions are
sort keys, never offsets, so rows that come or go between two pages neither repeat
nor hide the others.
"""

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Generic, NamedTuple, TypeVar
from urllib.parse import parse_qsl, urlencode

import msgspec

from onetape.errors import UNREADABLE

Row = TypeVar("Row")
Key = tuple[str | int | float, ...]

POSITION: Final = "ap"
"""The cursor's own parameter: "after primary"."""

_NEVER_CARRIED: Final = frozenset({"apiKey", "cursor", POSITION})


class InvalidCursor(Exception):
    """A cursor that this simulator did not make."""


class Page(NamedTuple, Generic[Row]):
    """Some rows, and the position after them when more follow."""

    rows: list[Row]
    position: str | None


def encode_cursor(params: Mapping[str, str], position: str | None) -> str:
    """Return the cursor that asks the same query from the position on, without any key."""
    carried = {name: value for name, value in params.items() if name not in _NEVER_CARRIED}
    if position is not None:
        carried = {POSITION: position, **carried}
    return base64.urlsafe_b64encode(urlencode(carried).encode()).rstrip(b"=").decode("ascii")


def decode_cursor(cursor: str) -> dict[str, str]:
    """Return the query inside the cursor, its position under `POSITION`."""
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        text = base64.b64decode(padded, altchars=b"-_", validate=True).decode()
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text))
    except (UnicodeError, binascii.Error, ValueError) as error:
        raise InvalidCursor("not a cursor") from error
    return dict(pairs)


def page_of(
    rows: Iterable[Row],
    *,
    key: Callable[[Row], Key],
    limit: int,
    position: str | None,
    descending: bool = False,
) -> Page[Row]:
    """Return the first `limit` rows after the position, in the order of their unique keys."""
    ordered = sorted(rows, key=key, reverse=descending)
    if position is not None and ordered:
        after = key_at(position, like=key(ordered[0]))
        ordered = [row for row in ordered if _follows(key(row), after, descending=descending)]
    taken = ordered[: limit + 1]
    if len(taken) <= limit:
        return Page(taken, None)
    return Page(taken[:limit], position_at(key(taken[limit - 1])))


def position_at(key: Key) -> str:
    """Write a row's key as a position."""
    return msgspec.json.encode(key).decode()


def _follows(key: Key, after: Key, *, descending: bool) -> bool:
    return key < after if descending else key > after


def key_at(position: str, *, like: Key) -> Key:
    """Read a position back, which must have the shape of the keys it will be compared with."""
    try:
        key = msgspec.json.decode(position, type=tuple[str | int | float, ...])
    except UNREADABLE as error:
        raise InvalidCursor("not a position") from error
    if len(key) != len(like) or not all(map(isinstance, like, map(type, key))):
        raise InvalidCursor("a position of another list")
    return key
