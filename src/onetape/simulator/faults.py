"""When something goes wrong at a simulated vendor, and how often: a script as data.

A script is a list of rules. A rule names a place (a stage of a socket's life, or a
REST path, of one of the vendors), how often it strikes, and one action (`actions`,
`tradier.actions`; both can be had from here). The first rule that strikes wins.

Sans-I/O: `Faults` only decides. The vendors' session machines, their frames and their
REST edges obey. The same seed over the same questions gives the same answers; every
rule has its own dice, so adding a rule changes nothing about the others.
"""

import random
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta

from onetape.errors import UNREADABLE, InvalidRequest
from onetape.simulator.actions import (
    Answer,
    BodyKind,
    Close,
    Cross,
    CrossQuotes,
    CutBody,
    CutSlow,
    Deny,
    Distort,
    Drop,
    Duplicate,
    EmptyAnswer,
    Evict,
    Garbage,
    GarbageKind,
    Gzip,
    Hang,
    Mute,
    Oversize,
    Refuse,
    RejectLogin,
    Reorder,
    Reset,
    RestAction,
    RestActions,
    Skew,
    SkewTimes,
    Slow,
    Stage,
    Stale,
    StalePage,
    StaleValues,
    StreamAction,
    StreamActions,
    Truncate,
    WithholdAck,
    WrongValues,
)
from onetape.simulator.tradier.actions import (
    STAGES,
    Fail,
    FailureKind,
    SendError,
    Shape,
    TradierActions,
    TradierStreamActions,
    ZeroSize,
)

__all__ = [
    "Answer",
    "BodyKind",
    "Close",
    "Cross",
    "CrossQuotes",
    "CutBody",
    "CutSlow",
    "Deny",
    "Distort",
    "Drop",
    "Duplicate",
    "EmptyAnswer",
    "Evict",
    "Fail",
    "FailureKind",
    "FaultScript",
    "Faults",
    "Garbage",
    "GarbageKind",
    "Gzip",
    "Hang",
    "Mute",
    "Occasion",
    "Oversize",
    "Refuse",
    "RejectLogin",
    "Reorder",
    "Reset",
    "RestAction",
    "RestActions",
    "RestRule",
    "Rule",
    "RuleStatistics",
    "SendError",
    "Shape",
    "Skew",
    "SkewTimes",
    "Slow",
    "Stage",
    "Stale",
    "StalePage",
    "StaleValues",
    "StreamAction",
    "StreamActions",
    "StreamRule",
    "TradierActions",
    "TradierRule",
    "TradierStreamActions",
    "TradierStreamRule",
    "Truncate",
    "WithholdAck",
    "WrongValues",
    "ZeroSize",
    "parse_script",
]


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


class TradierRule(Occasion, frozen=True, kw_only=True, tag="tradier"):
    """What requests to Tradier suffer whose path matches; paths begin with `/v1/`."""

    action: TradierActions
    path: str = "*"


class TradierStreamRule(Occasion, frozen=True, kw_only=True, tag="tradier_stream"):
    """What Tradier's streams suffer at one stage."""

    action: TradierStreamActions
    transport: str = "*"  # `websocket` or `http`
    stage: Stage | None = None  # None: the action's own first stage

    def __post_init__(self) -> None:
        allowed = [stage for stage in STAGES if stage in self.action.stages]
        if self.stage is not None and self.stage not in allowed:
            raise ValueError(f"this action strikes at {', '.join(allowed)}; not at {self.stage}")

    @property
    def at(self) -> Stage:
        """The stage the rule strikes at."""
        return self.stage or self.action.stages[0]


Rule = StreamRule | RestRule | TradierRule | TradierStreamRule


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
    except UNREADABLE as error:
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
        self._tradier: list[tuple[TradierRule, _Armed]] = []
        self._tradier_stream: list[tuple[TradierStreamRule, _Armed]] = []
        self.add(script.rules, now=now)

    def add(self, rules: Iterable[Rule], *, now: float) -> None:
        """Play these rules after the ones there are; their times begin now."""
        for rule in rules:
            dice = random.Random(f"{self._script.seed}:{len(self._armed)}")  # noqa: S311 - dice
            armed = _Armed(rule, now=now, dice=dice)
            self._armed.append(armed)
            match rule:
                case StreamRule():
                    self._stream.append((rule, armed))
                case RestRule():
                    self._rest.append((rule, armed))
                case TradierRule():
                    self._tradier.append((rule, armed))
                case TradierStreamRule():
                    self._tradier_stream.append((rule, armed))
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

    def for_tradier(self, path: str, now: float) -> TradierActions | None:
        """Decide what a request to Tradier suffers, if anything."""
        for rule, armed in self._tradier:
            if fnmatchcase(path, rule.path) and armed.strikes(now):
                return rule.action
        return None

    def for_tradier_stream(
        self, stage: Stage, transport: str, now: float
    ) -> TradierStreamActions | None:
        """Decide what a stream of Tradier's suffers at this stage, if anything."""
        for rule, armed in self._tradier_stream:
            matches = rule.at is stage and fnmatchcase(transport, rule.transport)
            if matches and armed.strikes(now):
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
