"""How the simulated Tradier behaves where it varies, or where nobody knows."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta


class TradierPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The second vendor's habits. Times are of the host's clock, unless they say market."""

    sandbox: bool = False
    """Everything 15 minutes late; no ticks and no streams."""
    calls_per_minute: Annotated[int, Meta(ge=1)] | None = 120
    """None: no limit, and no headers that tell of one."""
    quota_body: Literal["text", "fault"] = "text"
    """How a 429 is written."""
    used_jitter: bool = False
    """Tell a count of used calls that is sometimes too low, as counters in many places do."""
    without_accept: Literal["xml", "refuse"] = "xml"
    """What a request gets that does not accept JSON: XML, or 406."""
    nothing: Literal["null", "text"] = "null"
    """How an empty answer is written: null, or the word "null"."""
    zero_dte_frozen: bool = True
    """Greeks of contracts that expire today stay those of the close before."""
    late_greeks: bool = False
    """No Greeks are refreshed before 10:00 in New York."""
    index_quotes: Literal["null", "zero"] = "null"
    """What an index has for bid and ask."""
    timesales_days: Annotated[int, Meta(ge=1)] = 59
    """How many days back bars within the day reach; ticks reach 5."""
    most_ticks: Annotated[int, Meta(ge=1)] = 20_000
    """An answer with more ticks fails as too big a body."""
    session_ttl_s: Annotated[float, Meta(gt=0)] = 300.0
    """How long a stream's session may wait to be used."""
    second_stream: Literal["evict", "reject"] = "evict"
    """What a second stream of one token does: ends the first, or is refused."""
    close_on_error: bool = False
    """Whether a stream ends after an error frame."""
    resend_s: Annotated[float, Meta(gt=0)] | None = 20.0
    """How often the old tick of an idle symbol comes again."""
    idle_close_s: Annotated[float, Meta(gt=0)] = 900.0
    """How long an HTTP stream may be without data before it ends."""
    nightly_close: bool = True
    """Streams end at 02:00 in New York, market time."""
    index_ticks: bool = True
    """Indices stream, as trades of size 0."""
    chunk_bytes: Annotated[int, Meta(ge=1)] | None = None
    """HTTP streams come in pieces of this size, in mid-object too."""
    buffer_bytes: Annotated[int, Meta(ge=1)] = 4 << 20
    """What may wait for a slow client before it is cut."""
