"""What may go wrong at the simulated Tradier only, besides what both vendors suffer.

Its failures have shapes of their own: faults of its gateway in JSON, plain text, and the
documentation's HTML in place of data with a 200.
"""

from enum import StrEnum
from http import HTTPStatus
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from onetape.simulator.actions import (
    Close,
    Cross,
    DataAction,
    Distort,
    Drop,
    Duplicate,
    Evict,
    Garbage,
    Mute,
    Oversize,
    Refuse,
    Reorder,
    RestAction,
    SharedRestActions,
    Skew,
    Stage,
    Stale,
    StreamAction,
    Truncate,
)


class FailureKind(StrEnum):
    """In what shape a request fails, and with which status by default."""

    DATASTORE_ERROR = "datastore_error"
    """500, a fault of the gateway's in JSON; passing."""
    HTML = "html"
    """200, the documentation site instead of data."""
    BAD_GATEWAY = "bad_gateway"
    """502, HTML."""
    NOT_FOUND = "not_found"
    """404, plain text; may be passing."""
    TOO_BIG_BODY = "too_big_body"
    """502, a fault: the answer was too large."""
    QUOTA_TEXT = "quota_text"
    """429, plain text that ends in the reset time, epoch milliseconds."""
    QUOTA_FAULT = "quota_fault"
    """429, a fault in JSON."""
    TOKEN_EXPIRED = "token_expired"  # noqa: S105 - a name on the wire
    """401, a fault in JSON."""
    INVALID_TOKEN = "invalid_token"  # noqa: S105 - a name on the wire
    """401, the plain text of a bad token."""
    NOT_ENTITLED = "not_entitled"
    """403, plain text."""
    ERRORS = "errors"
    """200, an `errors` object in JSON."""
    TEXT = "text"
    """503, plain text: the shape for any other status."""
    EMPTY_BODY = "empty_body"
    """200, nothing at all."""


class Fail(RestAction, frozen=True, kw_only=True, tag="fail"):
    """Answer this instead; `status` and `message` replace those of the kind."""

    kind: FailureKind = FailureKind.DATASTORE_ERROR
    status: Annotated[int, Meta(ge=200, le=599)] | None = None
    message: str | None = None

    def __post_init__(self) -> None:
        if self.status is not None:
            HTTPStatus(self.status)


class Shape(RestAction, frozen=True, kw_only=True, tag="shape"):
    """Bring the answer to one of the shapes that XML turned into JSON takes.

    `items` keeps so many of them: one is no list, and none is `null`, the word "null" or
    an absent key, as `nothing` says. `nan` makes the numbers of the first bar "NaN".
    """

    items: Annotated[int, Meta(ge=0)] | None = None
    nothing: Literal["null", "text", "absent"] = "null"
    nan: bool = False


class SendError(StreamAction, frozen=True, kw_only=True, tag="error"):
    """Say that something is wrong, in a frame of its own; nothing else changes."""

    stages: ClassVar[tuple[Stage, ...]] = (Stage.SUBSCRIBE, Stage.LIVE)
    message: str = "session not found"


class ZeroSize(DataAction, frozen=True, kw_only=True, tag="zero_size"):
    """Repeat every trade with the size 0."""


TradierActions = Fail | Shape | SharedRestActions
TradierStreamActions = (
    Refuse
    | Drop
    | Close
    | Mute
    | Garbage
    | Evict
    | Truncate
    | Duplicate
    | Reorder
    | Stale
    | Skew
    | Cross
    | Oversize
    | Distort
    | SendError
    | ZeroSize
)

STAGES = (Stage.UPGRADE, Stage.ACCEPT, Stage.SUBSCRIBE, Stage.LIVE, Stage.DATA)
"""Where in the life of a Tradier stream something may go wrong: there is no login."""
