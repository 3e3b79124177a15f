"""The words of the transport: what is read, its policy, what its edge does, what readers are told.

Declarations only; `_transport` is the machine that speaks them.

    kind           options  indices  stocks     falls back to
    quote          Q.       V.       Q.         snapshots, one request for many symbols
    trade          T.       -        T.         trades since the last one
    second_bar     A.       A.       A.         aggregates since the last one
    minute_bar     AM.      AM.      AM.        the same
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, Final, NamedTuple, Protocol

import msgspec

from onetape import symbols
from onetape.errors import InvalidRequest
from onetape.model import AssetClass, Bar, Quote, Topic, Trade
from onetape.provenance import Source

Event = Quote | Trade | Bar
Seconds = Annotated[float, msgspec.Meta(gt=0)]


class Kind(StrEnum):
    """What of a symbol is read."""

    QUOTE = "quote"
    TRADE = "trade"
    SECOND_BAR = "second_bar"
    MINUTE_BAR = "minute_bar"


WINDOW_NS: Final[Mapping[Kind, int]] = {
    Kind.SECOND_BAR: 1_000_000_000,
    Kind.MINUTE_BAR: 60_000_000_000,
}
"""How long one bar of each kind is."""

TIMESPANS: Final[Mapping[Kind, str]] = {Kind.SECOND_BAR: "second", Kind.MINUTE_BAR: "minute"}
"""What the vendor calls it."""

_CHANNELS: Final[Mapping[Kind, Mapping[AssetClass, str]]] = {
    Kind.QUOTE: {AssetClass.OPTIONS: "Q", AssetClass.INDICES: "V", AssetClass.STOCKS: "Q"},
    Kind.TRADE: {AssetClass.OPTIONS: "T", AssetClass.STOCKS: "T"},
    Kind.SECOND_BAR: dict.fromkeys(AssetClass, "A"),
    Kind.MINUTE_BAR: dict.fromkeys(AssetClass, "AM"),
}


class Key(NamedTuple):
    """One kind of data of one symbol, in the vendor's form: what a line carries."""

    kind: Kind
    symbol: str

    @property
    def asset(self) -> AssetClass:
        """What the symbol is. In the vendor's form what has no prefix is a stock."""
        prefix = self.symbol[:2]
        if prefix == "O:":
            return AssetClass.OPTIONS
        return AssetClass.INDICES if prefix == "I:" else AssetClass.STOCKS

    @property
    def topic(self) -> Topic:
        """The topic that carries it.

        Raises:
            InvalidRequest: there is none: the symbol is none, or an index has no trades.
        """
        asset = self.asset
        channel = _CHANNELS[self.kind].get(asset)
        if channel is None:
            raise InvalidRequest(f"{asset.value} have no {self.kind.value}s")
        if self.symbol == symbols.WILDCARD:
            raise InvalidRequest("name the symbols: a wildcard cannot fall back to REST")
        return symbols.topic(channel, self.symbol, asset)


class TransportPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When to poll, how often, and how much to hold."""

    options_interval_s: Seconds = 2.0
    stocks_interval_s: Seconds = 4.0
    indices_interval_s: Seconds = 5.0
    closed_interval_s: Seconds = 12.0  # at least that, while the market is closed
    unchanged_polls: Annotated[int, msgspec.Meta(gt=0)] = 3  # from then on, each adds a step
    unchanged_step_s: Seconds = 2.0
    interval_cap_s: Seconds = 15.0
    calm_atr_percent: Seconds = 0.8  # a symbol whose ATR is below that is calm
    calm_factor: Annotated[float, msgspec.Meta(ge=1)] = 1.5
    grace_s: Seconds = 0.05  # asked for while the stream is down: poll when it is still down then
    ack_grace_s: Seconds = 2.0  # asked for while it is up: poll when not confirmed by then
    silence_s: Seconds = 3.0  # without an event while the market is open: look once
    missed_after_s: Seconds = 2.0  # what the stream has not brought by then, it has lost
    settle_s: Seconds = 0.25  # what happened before that, REST knows
    bar_settle_s: Seconds = 1.0  # a window that ended before that has all of its trades
    bridge_attempts: Annotated[int, msgspec.Meta(gt=0)] = 3
    bridge_retry_s: Seconds = 1.0  # doubled each time
    hold_events: Annotated[int, msgspec.Meta(gt=0)] = 10_000  # of one key, while it is bridged

    def interval_s(self, asset: AssetClass) -> float:
        """Return how often one asset class is polled, when nothing speaks against it."""
        if asset is AssetClass.OPTIONS:
            return self.options_interval_s
        return self.stocks_interval_s if asset is AssetClass.STOCKS else self.indices_interval_s


class State(StrEnum):
    """Where a key is."""

    WAITING = "waiting"
    STREAMING = "streaming"
    POLLING = "polling"
    BRIDGING = "bridging"
    UNSTREAMED = "unstreamed"


class Reason(StrEnum):
    """Why the source of a key changed, or what made a gap."""

    LIVE = "live"
    """The stream carries the topic."""
    RESUMED = "resumed"
    """The stream carries it again, and what could be made up for was."""
    STREAM_DOWN = "stream_down"
    TOPIC_FAILED = "topic_failed"
    NOT_LIVE_IN_TIME = "not_live_in_time"
    SILENT = "silent"
    """The stream is up and did not bring what REST shows."""
    UNSTREAMED = "unstreamed"
    """The plan does not stream this asset class."""
    POLL_FAILED = "poll_failed"
    """Neither source answers; REST is tried again."""
    POLL_ANSWERED = "poll_answered"
    BRIDGE_FAILED = "bridge_failed"
    """REST did not tell what happened while the stream was away."""
    HELD_TOO_MUCH = "held_too_much"
    """More came than may be held until REST has told it."""
    LATE = "late"
    """An event older than one already delivered, and never delivered itself."""
    SLOW_READER = "slow_reader"
    """This reader did not keep up and was cut."""


# what the edge does


class Want(msgspec.Struct, frozen=True):
    """The stream shall carry exactly these topics from now on."""

    topics: frozenset[Topic]


class Request(NamedTuple):
    """What to ask REST of one symbol: trades and bars that began at `since_ns` or later."""

    key: Key
    since_ns: int | None


class Poll(msgspec.Struct, frozen=True):
    """Ask REST; report each key of the batch once, as `polled` or `poll_failed`."""

    batch: int
    asset: AssetClass
    kind: Kind
    requests: tuple[Request, ...]


class Deliver(msgspec.Struct, frozen=True, gc=False):
    """Hand events to the readers of the key, in this order."""

    key: Key
    events: list[Any]


class Tagged(Protocol):
    """What a key's line shows of itself: the edge's own mark saves it a lookup an event."""

    @property
    def key(self) -> Key:
        """What it carries."""
        ...

    @property
    def tag(self) -> Any:
        """What the edge gave to `tag`."""
        ...


class Streamed(msgspec.Struct, frozen=True, gc=False):
    """Hand over what one frame brought, in this order: `events[i]` is of `lines[i]`."""

    lines: Sequence[Tagged]
    events: Sequence[Any]


# what readers are told


class SourceChanged(msgspec.Struct, frozen=True, kw_only=True, tag="source_changed"):
    """From here on the events of the key come from another source; None: from nowhere."""

    key: Key
    source: Source | None
    reason: Reason
    at_ns: int
    detail: str = ""


class Gap(msgspec.Struct, frozen=True, kw_only=True, tag="gap"):
    """Events of the key that happened in `[start_ns, end_ns]` were missed, or may have been.

    Told of quotes whenever the stream was away: REST gave some of them at best. Told of
    trades and bars only when they could not be backfilled.
    """

    key: Key
    start_ns: int
    end_ns: int
    reason: Reason
    detail: str = ""


Change = SourceChanged | Gap
Output = Want | Poll | Streamed | Deliver | SourceChanged | Gap


class TransportStatistics(NamedTuple):
    """A snapshot for health and metrics. Counts are since the start, in events or requests."""

    waiting: int
    streaming: int
    polling: int
    bridging: int
    unstreamed: int
    streamed_events: int
    polled_events: int
    batches: int
    requests: int
    failures: int
    verifications: int
    bridges: int
    fallbacks: int
    gaps: int
    stale: int  # events that came when newer ones, or the same, had been delivered
