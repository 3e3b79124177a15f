"""The words of a feed: its policy and states, what its edge does, what its owner is told.

Declarations only; `feed` is the machine that speaks them, and hands them on.
"""

from enum import StrEnum
from typing import Annotated, NamedTuple

import msgspec

from onetape.massive.wire_stream import Batch, Split, Status
from onetape.model import Topic

Seconds = Annotated[float, msgspec.Meta(gt=0)]


class FeedPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long to wait for what, and how much to take."""

    connect_timeout_s: Seconds = 10.0
    greet_timeout_s: Seconds = 10.0
    auth_timeout_s: Seconds = 10.0
    ack_timeout_s: Seconds = 5.0
    ping_interval_s: Seconds = 30.0
    pong_deadline_s: Seconds = 10.0
    close_timeout_s: Seconds = 1.0
    idle_s: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    cool_down_s: Seconds = 60.0
    stable_s: Seconds = 10.0  # live for that long, the next loss counts as the first
    backoff_base_s: Seconds = 1.0
    backoff_cap_s: Seconds = 30.0
    auth_retry_s: Seconds = 30.0
    auth_retry_cap_s: Seconds = 300.0
    retry_topics_s: Seconds = 60.0  # one frame of failed topics is tried again that often
    chunk_topics: Annotated[int, msgspec.Meta(gt=0)] = 200
    max_frame_bytes: Annotated[int, msgspec.Meta(gt=0)] = 16 << 20


class State(StrEnum):
    """Where the feed is."""

    IDLE = "idle"
    CONNECTING = "connecting"
    GREETING = "greeting"
    AUTHENTICATING = "authenticating"
    LIVE = "live"
    CLOSING = "closing"
    BACKING_OFF = "backing_off"
    COOLING = "cooling"


# what the edge does


class Dial(msgspec.Struct, frozen=True):
    """Connect; report `opened`, then `closed`, or `closed` alone, of this generation."""

    generation: int


class SendText(msgspec.Struct, frozen=True):
    """Send one text frame. It may hold the credential, so it is not shown."""

    data: bytes

    def __repr__(self) -> str:
        return "SendText(…)"


class Ping(msgspec.Struct, frozen=True):
    """Ask for a sign of life."""


class Hangup(msgspec.Struct, frozen=True):
    """Close with the code, or abort when there is none; `closed` must follow soon."""

    code: int | None


# what the owner is told


class Connecting(msgspec.Struct, frozen=True, kw_only=True, tag="connecting"):
    """A dial begins; `attempt` counts those since the stream was last stable."""

    attempt: int


class Authenticated(msgspec.Struct, frozen=True, kw_only=True, tag="authenticated"):
    """The vendor admitted us; these topics are being asked for."""

    topics: frozenset[Topic]


class AuthFailed(msgspec.Struct, frozen=True, kw_only=True, tag="auth_failed"):
    """The vendor did not; tried again slowly, with the credential read anew.

    `code` is the public code of the reason where there is one: a gateway gives it.
    """

    message: str
    code: str | None = None


class Lost(msgspec.Struct, frozen=True, kw_only=True, tag="lost"):
    """The stream is down, nothing came since; told once per outage. Redialled for ever."""

    reason: str
    code: int | None
    since_ns: int


class Restored(msgspec.Struct, frozen=True, kw_only=True, tag="restored"):
    """The outage is over: every topic that can be is carried; events between were missed."""

    gap_start_ns: int
    gap_end_ns: int


class TopicsFailed(msgspec.Struct, frozen=True, kw_only=True, tag="topics_failed"):
    """The vendor does not carry these; tried again slowly. Told once per connection."""

    topics: frozenset[Topic]
    reason: str


class TopicsLive(msgspec.Struct, frozen=True, kw_only=True, tag="topics_live"):
    """The vendor carries these."""

    topics: frozenset[Topic]


class Evicted(msgspec.Struct, frozen=True, kw_only=True, tag="evicted"):
    """Another login on the account took the connection; no dial before the cool-down ends."""

    cool_down_s: float


class Garbled(msgspec.Struct, frozen=True, kw_only=True, tag="garbled"):
    """The vendor sent what we cannot read; told once per connection, all are counted."""

    count: int
    sample: str


class VendorStatus(msgspec.Struct, frozen=True, kw_only=True, tag="vendor_status"):
    """A status that means nothing to the machine, or a refusal that names nothing."""

    status: str
    message: str


class PeerStatus(msgspec.Struct, frozen=True, kw_only=True, tag="peer_status"):
    """The upstream is a gateway, and says how its own side fares; told each time.

    `upstream_disconnected`, `upstream_restored`, `upstream_evicted` and
    `upstream_auth_failed`; `auth_expiring`; and `auth_failed` when it was a renewal.
    What it says of topics comes as `TopicsFailed` and `TopicsLive`.
    """

    status: Status


Effect = Dial | SendText | Ping | Hangup
Notice = (
    Connecting
    | Authenticated
    | AuthFailed
    | Lost
    | Restored
    | TopicsFailed
    | TopicsLive
    | Evicted
    | Garbled
    | VendorStatus
    | PeerStatus
)
Output = Effect | Notice | Split | Batch


class FeedStatistics(NamedTuple):
    """A snapshot for metrics, health and the dashboard. Counts are since the start."""

    state: State
    topics_wanted: int
    topics_acked: int
    topics_failed: int
    frames: int
    events: int
    bytes: int
    garbled: int
    reconnects: int
    evictions: int
    auth_failures: int
    last_frame_ns: int | None
    connected_since_ns: int | None
