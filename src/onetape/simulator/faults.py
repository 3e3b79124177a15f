"""What goes wrong at the simulated vendor, when, and how often: a script as data.

A script is a list of rules. A rule names a place (a stage of a socket's life, or a
REST path), how often it strikes, and one action. The first rule that strikes wins.

A socket's stages, in the order it meets them:

    upgrade ─▶ accept ─▶ greeted ─▶ auth ─▶ authenticated ─▶ subscribe ─▶ acked
       │          │          │        │           │              │           │
    HTTP, no   open, not   after    login     after           asked,      after
    101 yet    greeted   `connected`  came  `auth_success`   not acked    the acks
                                                  └──── live: every step ────┘
                                                  └──── data: every batch ───┘

Sans-I/O: `Faults` only decides. The vendor's session machine, its frames
(`mangling`) and its REST edge (`rest_faults`) obey. The same seed over the same
questions gives the same answers; every rule has its own dice, so adding a rule
changes nothing about the others.
"""

import random
from collections.abc import Iterable
from enum import StrEnum
from fnmatch import fnmatchcase
from http import HTTPStatus
from typing import Annotated, ClassVar, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta

from onetape.errors import InvalidRequest


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
)
RestActions = Answer | Slow | CutBody | Reset | StalePage | Gzip


class Occasion(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="where"
):
    """How often a rule strikes, of the chances it gets; times count from when it was set."""

    after_s: Annotated[float, Meta(ge=0)] = 0.0
    for_s: Annotated[float, Meta(gt=0)] | None = None
    skip: Annotated[int, Meta(ge=0)] = 0
    count: Annotated[int, Meta(ge=1)] | None = None
    probability: Annotated[float, Meta(ge=0, le=1)] = 1.0


class StreamRule(Occasion, frozen=True, kw_only=True, tag="stream"):
    """What sockets of the clusters that match suffer at one stage."""

    action: StreamActions
    cluster: str = "*"
    stage: Stage | None = None  # None: the action's own first stage

    def __post_init__(self) -> None:
        if self.stage is not None and self.stage not in self.action.stages:
            allowed = ", ".join(self.action.stages)
            raise ValueError(f"this action strikes at {allowed}; not at {self.stage}")

    @property
    def at(self) -> Stage:
        """The stage the rule strikes at."""
        return self.stage or self.action.stages[0]


class RestRule(Occasion, frozen=True, kw_only=True, tag="rest"):
    """What requests whose path matches suffer."""

    action: RestActions
    path: str = "*"
    pages: Literal["any", "first", "next"] = "any"  # next: only requests that carry a cursor


Rule = StreamRule | RestRule


class FaultScript(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A list of rules, and the seed of their dice."""

    seed: int = 0
    rules: tuple[Rule, ...] = ()


class RuleStatistics(NamedTuple):
    """How one rule has fared."""

    chances: int
    struck: int


_script = msgspec.json.Decoder(FaultScript)


def parse_script(body: bytes) -> FaultScript:
    """Read a script.

    Raises:
        InvalidRequest: not a script; the message says where.
    """
    try:
        return _script.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"not a fault script: {error}") from error


class Faults:
    """Decides what strikes. Every method is O(rules), none awaits; one task owns it."""

    def __init__(self, script: FaultScript | None = None, *, now: float = 0.0) -> None:
        self.play(script or FaultScript(), now=now)

    @property
    def script(self) -> FaultScript:
        """The script being played."""
        return self._script

    def play(self, script: FaultScript, *, now: float) -> None:
        """Replace the script; its times and counts begin now."""
        self._script = msgspec.structs.replace(script, rules=())
        self._armed: list[_Armed] = []
        self._stream: list[tuple[StreamRule, _Armed]] = []
        self._rest: list[tuple[RestRule, _Armed]] = []
        self.add(script.rules, now=now)

    def add(self, rules: Iterable[Rule], *, now: float) -> None:
        """Play these rules after the ones there are; their times begin now."""
        for rule in rules:
            dice = random.Random(f"{self._script.seed}:{len(self._armed)}")  # noqa: S311 - dice
            armed = _Armed(rule, now=now, dice=dice)
            self._armed.append(armed)
            if isinstance(rule, StreamRule):
                self._stream.append((rule, armed))
            else:
                self._rest.append((rule, armed))
        played = tuple(armed.rule for armed in self._armed)
        self._script = msgspec.structs.replace(self._script, rules=played)

    def clear(self, *, now: float) -> None:
        """Let nothing go wrong any more."""
        self.play(FaultScript(), now=now)

    def for_stream(self, stage: Stage, cluster: str, now: float) -> StreamActions | None:
        """Decide what a socket of the cluster suffers at this stage, if anything."""
        for rule, armed in self._stream:
            if rule.at is stage and fnmatchcase(cluster, rule.cluster) and armed.strikes(now):
                return rule.action
        return None

    def for_rest(self, path: str, now: float, *, cursor: bool = False) -> RestActions | None:
        """Decide what a request suffers, if anything; `cursor`: it asks for a later page."""
        page = "next" if cursor else "first"
        for rule, armed in self._rest:
            if rule.pages in {"any", page} and fnmatchcase(path, rule.path) and armed.strikes(now):
                return rule.action
        return None

    def statistics(self) -> tuple[RuleStatistics, ...]:
        """Count each rule's chances and strikes, in the script's order."""
        return tuple(RuleStatistics(armed.chances, armed.struck) for armed in self._armed)


class _Armed:
    """A rule, its dice and its counts."""

    def __init__(self, rule: Rule, *, now: float, dice: random.Random) -> None:
        self.rule = rule
        self.chances = 0
        self.struck = 0
        self._from = now + rule.after_s
        self._until = None if rule.for_s is None else self._from + rule.for_s
        self._dice = dice

    def strikes(self, now: float) -> bool:
        """Take one chance: whether the rule strikes now, which counts."""
        if now < self._from or (self._until is not None and now >= self._until):
            return False
        if self.rule.count is not None and self.struck >= self.rule.count:
            return False
        self.chances += 1
        if self.chances <= self.rule.skip or self._dice.random() >= self.rule.probability:
            return False
        self.struck += 1
        return True
