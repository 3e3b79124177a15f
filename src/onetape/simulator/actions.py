"""What may go wrong at either simulated vendor: one frozen struct per misfortune.

A socket's stages, in the order it meets them:

    upgrade ─▶ accept ─▶ greeted ─▶ auth ─▶ authenticated ─▶ subscribe ─▶ acked
       │          │          │        │           │              │           │
    HTTP, no   open, not   after    login     after           asked,      after
    101 yet    greeted   `connected`  came  `auth_success`   not acked    the acks
                                                  └──── live: every step ────┘
                                                  └──── data: every batch ───┘

Rules give these a place and an occasion (`faults`); `tradier.actions` has those that
only Tradier suffers.
"""

from enum import StrEnum
from http import HTTPStatus
from typing import Annotated, ClassVar, Final, Literal

import msgspec
from msgspec import Meta


class Stage(StrEnum):
    """Where in a socket's life a stream rule may strike."""

    UPGRADE = "upgrade"
    ACCEPT = "accept"
    GREETED = "greeted"
    AUTH = "auth"
    AUTHENTICATED = "authenticated"
    SUBSCRIBE = "subscribe"
    ACKED = "acked"
    LIVE = "live"
    DATA = "data"


_OPEN: Final = (
    Stage.LIVE,
    Stage.ACCEPT,
    Stage.GREETED,
    Stage.AUTH,
    Stage.AUTHENTICATED,
    Stage.SUBSCRIBE,
    Stage.ACKED,
    Stage.DATA,
)
_LOGGED_IN: Final = tuple(
    stage for stage in _OPEN if stage not in {Stage.ACCEPT, Stage.GREETED, Stage.AUTH}
)


class StreamAction(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="do"
):
    """Something a socket suffers. `stages` says where it may; the first is the default."""

    stages: ClassVar[tuple[Stage, ...]] = _OPEN


class Refuse(StreamAction, frozen=True, kw_only=True, tag="refuse"):
    """Answer the upgrade with an HTTP error."""

    stages: ClassVar[tuple[Stage, ...]] = (Stage.UPGRADE,)
    status: Annotated[int, Meta(ge=400, le=599)] = 503

    def __post_init__(self) -> None:
        HTTPStatus(self.status)  # a ValueError, which msgspec makes its own, if there is no such


class Drop(StreamAction, frozen=True, kw_only=True, tag="drop"):
    """Cut the connection without a close frame; the client sees 1006."""


class Close(StreamAction, frozen=True, kw_only=True, tag="close"):
    """Close with a code; 1006 cannot travel and cuts without a close frame."""

    code: Annotated[int, Meta(ge=1000, le=4999)] = 1001
    reason: Annotated[str, Meta(max_length=40)] = ""


class Mute(StreamAction, frozen=True, kw_only=True, tag="mute"):
    """Say nothing more and keep the socket open; without `pong`, not even pongs."""

    pong: bool = True
    for_s: Annotated[float, Meta(gt=0)] | None = None


class GarbageKind(StrEnum):
    """What is wrong with a frame that should not be there."""

    NOT_JSON = "not_json"
    NOT_UTF8 = "not_utf8"
    NOT_ARRAY = "not_array"
    WRONG_TYPES = "wrong_types"
    UNKNOWN_EVENT = "unknown_event"
    NO_SYMBOL = "no_symbol"
    EMPTY = "empty"


class Garbage(StreamAction, frozen=True, kw_only=True, tag="garbage"):
    """Send what no client should have to read, beside the data; nothing else changes."""

    stages: ClassVar[tuple[Stage, ...]] = (Stage.DATA, *_OPEN[:-1])
    kind: GarbageKind = GarbageKind.NOT_JSON


class Evict(StreamAction, frozen=True, kw_only=True, tag="evict"):
    """Another login of the account took the connection: `max_connections`, then 1008."""

    stages: ClassVar[tuple[Stage, ...]] = _LOGGED_IN


class CutSlow(StreamAction, frozen=True, kw_only=True, tag="slow_consumer"):
    """Treat the client as one that does not keep up: `slow_consumer`, then close."""

    stages: ClassVar[tuple[Stage, ...]] = _LOGGED_IN


class RejectLogin(StreamAction, frozen=True, kw_only=True, tag="auth_failed"):
    """Refuse a good key: `auth_failed`, then the connection is cut."""

    stages: ClassVar[tuple[Stage, ...]] = (Stage.AUTH,)
    reason: Literal["key", "plan"] = "key"


class Deny(StreamAction, frozen=True, kw_only=True, tag="not_authorized"):
    """Refuse the topics that match, as if the plan lacked them."""

    stages: ClassVar[tuple[Stage, ...]] = (Stage.SUBSCRIBE,)
    topics: str = "*"


class WithholdAck(StreamAction, frozen=True, kw_only=True, tag="withhold_ack"):
    """Answer nothing for the topics that match; carry them anyway if `carried`."""

    stages: ClassVar[tuple[Stage, ...]] = (Stage.SUBSCRIBE,)
    topics: str = "*"
    carried: bool = False


class DataAction(StreamAction, frozen=True, kw_only=True):
    """Something one batch of market events suffers."""

    stages: ClassVar[tuple[Stage, ...]] = (Stage.DATA,)


class Truncate(DataAction, frozen=True, kw_only=True, tag="truncate"):
    """Cut the frame's text off in the middle; the frame itself is well-formed."""

    keep: Annotated[float, Meta(gt=0, lt=1)] = 0.5


class Duplicate(DataAction, frozen=True, kw_only=True, tag="duplicate"):
    """Send every event of the batch more than once."""

    times: Annotated[int, Meta(ge=2, le=100)] = 2


class Reorder(DataAction, frozen=True, kw_only=True, tag="reorder"):
    """Turn the batch around and send it after the next one."""


class Stale(DataAction, frozen=True, kw_only=True, tag="stale"):
    """Repeat each topic's first event of the fault in place of what is new."""


class Skew(DataAction, frozen=True, kw_only=True, tag="skew"):
    """Shift every time in the batch; negative is the past."""

    by_s: float = -900.0


class Cross(DataAction, frozen=True, kw_only=True, tag="cross"):
    """Put every quote's bid above its ask."""

    by: Annotated[float, Meta(gt=0)] = 0.05


class Oversize(DataAction, frozen=True, kw_only=True, tag="oversize"):
    """Blow the frame up with blanks beyond what the official clients read."""

    size_bytes: Annotated[int, Meta(gt=0, le=64 << 20)] = 1_100_000


class Distort(DataAction, frozen=True, kw_only=True, tag="wrong"):
    """Multiply the numbers of these fields, as a feed in wrong units would."""

    fields: tuple[str, ...] = ("p", "bp", "ap", "val", "price", "last", "bid", "ask")
    times: float = 10.0


class RestAction(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="do"
):
    """Something one REST request suffers."""


class BodyKind(StrEnum):
    """What a faulty answer's body is written in."""

    JSON = "json"
    HTML = "html"
    TEXT = "text"
    EMPTY = "empty"


class Answer(RestAction, frozen=True, kw_only=True, tag="answer"):
    """Answer this instead: a 429, nginx's 502 in HTML, a 403 in mid-pagination, a false 200."""

    status: Annotated[int, Meta(ge=200, le=599)] = 503
    body: BodyKind = BodyKind.JSON
    message: str | None = None
    retry_after_s: Annotated[int, Meta(ge=0)] | None = None
    retry_after_as: Literal["seconds", "date"] = "seconds"

    def __post_init__(self) -> None:
        HTTPStatus(self.status)


class Slow(RestAction, frozen=True, kw_only=True, tag="slow"):
    """Take long: before the head, and between pieces of the body."""

    before_s: Annotated[float, Meta(ge=0)] = 0.0
    between_s: Annotated[float, Meta(ge=0)] = 0.0
    pieces: Annotated[int, Meta(ge=1, le=1000)] = 1


class CutBody(RestAction, frozen=True, kw_only=True, tag="cut_body"):
    """Stop in mid-body: the length promised is not sent, or the JSON ends too soon."""

    keep: Annotated[float, Meta(ge=0, lt=1)] = 0.5
    how: Literal["length", "json"] = "length"


class Reset(RestAction, frozen=True, kw_only=True, tag="reset"):
    """Reset the connection before any answer."""


class StalePage(RestAction, frozen=True, kw_only=True, tag="stale_page"):
    """Serve the body last served at this path again, whatever was asked."""


class Gzip(RestAction, frozen=True, kw_only=True, tag="gzip"):
    """Compress the body whether or not it was asked for; `broken` spoils it."""

    broken: bool = False


class Hang(RestAction, frozen=True, kw_only=True, tag="hang"):
    """Never finish: no byte comes, or the head and half the body and then nothing."""

    after: Literal["request", "head"] = "request"


class StaleValues(RestAction, frozen=True, kw_only=True, tag="stale_values"):
    """Repeat what the same request was answered first during the fault: all of it, or a part."""

    parts: Literal["all", "quotes", "greeks"] = "all"


class CrossQuotes(RestAction, frozen=True, kw_only=True, tag="cross"):
    """Put every bid of the answer above its ask."""

    by: Annotated[float, Meta(gt=0)] = 0.05


class EmptyAnswer(RestAction, frozen=True, kw_only=True, tag="empty"):
    """Answer 200 as if there were nothing to tell: no contracts, no rows."""


class WrongValues(RestAction, frozen=True, kw_only=True, tag="wrong"):
    """Multiply every number whose key matches: negative gamma, prices times ten."""

    fields: tuple[str, ...] = ("gamma",)
    times: float = -1.0


class SkewTimes(RestAction, frozen=True, kw_only=True, tag="skew"):
    """Shift every time in the answer; negative is the past."""

    by_s: float = -900.0


StreamActions = (
    Refuse
    | Drop
    | Close
    | Mute
    | Garbage
    | Evict
    | CutSlow
    | RejectLogin
    | Deny
    | WithholdAck
    | Truncate
    | Duplicate
    | Reorder
    | Stale
    | Skew
    | Cross
    | Oversize
    | Distort
)
SharedRestActions = (
    Slow
    | CutBody
    | Reset
    | StalePage
    | Gzip
    | Hang
    | StaleValues
    | CrossQuotes
    | EmptyAnswer
    | WrongValues
    | SkewTimes
)
RestActions = Answer | SharedRestActions
