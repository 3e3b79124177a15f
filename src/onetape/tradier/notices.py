"""The words of Tradier's feed: its policy and states, what its edge does, what its owner is told.

Declarations only; `feed` is the machine that speaks them. What both vendors' streams say
is `massive.notices`; here is what only this one does.
"""

from enum import StrEnum
from typing import Annotated, NamedTuple

import msgspec

from onetape.massive.notices import (
    AuthFailed,
    Connecting,
    Dial,
    Garbled,
    Hangup,
    Lost,
    Ping,
    Restored,
    SendText,
    VendorStatus,
)
from onetape.model import Quote, Trade
from onetape.tradier.wire_stream import Prints

Seconds = Annotated[float, msgspec.Meta(gt=0)]


class TradierFeedPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long to wait for what, and how much to take."""

    connect_timeout_s: Seconds = 10.0
    close_timeout_s: Seconds = 1.0
    ping_interval_s: Seconds = 30.0
    pong_deadline_s: Seconds = 10.0
    session_s: Seconds = 270.0  # Tradier takes a session for five minutes
    replace_s: Seconds = 0.25  # wishes of one moment are sent as one
    settle_s: Seconds = 2.0  # no error for that long, and the stream counts as restored
    rest_s: Annotated[float, msgspec.Meta(ge=0)] = 60.0
    silence_s: Seconds = 90.0  # while the market is open; doubled each time in a row
    silence_cap_s: Seconds = 900.0
    rotate_s: Seconds = 57_600.0  # and then when the market is closed
    stable_s: Seconds = 10.0
    backoff_base_s: Seconds = 1.0
    backoff_cap_s: Seconds = 30.0
    refused_retry_s: Seconds = 30.0
    refused_retry_cap_s: Seconds = 300.0
    max_frame_bytes: Annotated[int, msgspec.Meta(gt=0)] = 4 << 20
    prints: Prints = "timesale"
    round_lot: Seconds = 1.0


class TradierState(StrEnum):
    """Where the feed is."""

    IDLE = "idle"
    MINTING = "minting"
    CONNECTING = "connecting"
    LIVE = "live"
    CLOSING = "closing"
    BACKING_OFF = "backing_off"


class Mint(msgspec.Struct, frozen=True):
    """Ask for a session; report `minted` or `mint_failed`. There is one at a time."""


class SymbolsFailed(msgspec.Struct, frozen=True, kw_only=True, tag="symbols_failed"):
    """Tradier does not carry these; not asked for again while they are wanted."""

    symbols: frozenset[str]
    reason: str


class Ticks(NamedTuple):
    """The news of one frame, in order."""

    events: list[Quote | Trade]


TradierEffect = Mint | Dial | SendText | Ping | Hangup
TradierNotice = Connecting | AuthFailed | Lost | Restored | SymbolsFailed | Garbled | VendorStatus
TradierOutput = TradierEffect | TradierNotice | Ticks


class TradierFeedStatistics(NamedTuple):
    """A snapshot for metrics, health and the dashboard. Counts are since the start."""

    state: TradierState
    symbols_wanted: int
    symbols_failed: int
    frames: int
    events: int
    old: int
    ignored: int
    garbled: int
    bytes: int
    mints: int
    refusals: int
    reconnects: int
    last_frame_ns: int | None
    connected_since_ns: int | None
