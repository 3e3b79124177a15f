"""Tradier's REST grammar: what can be asked, and what an answer is worth.

An `Ask` is a path, its parameters and the member that a good answer has. Few refusals
are JSON, and few that are JSON look alike, so an answer is judged by all it shows:

    status 2xx, JSON, has the member ─────────────────────────────▶ good
    `fault` (the proxy before Tradier), `errors` (Tradier) ───────▶ by code
    `Invalid Access Token`, `Quota Violation …`, `Invalid parameter, …` ▶ by text
    anything else on 2xx: the page of an outage ──────────────────▶ try again
    anything else ────────────────────────────────────────────────▶ by status
"""

import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Any, Final, NamedTuple, cast

import msgspec

from onetape.calendar import NEW_YORK
from onetape.errors import (
    UNREADABLE,
    InvalidRequest,
    OnetapeError,
    UpstreamDown,
    UpstreamForbidden,
    UpstreamGarbled,
    UpstreamThrottled,
    UpstreamTimeout,
)
from onetape.symbols import to_tradier

# what can be asked


class Intraday(StrEnum):
    """The bars of `/markets/timesales`. Longer ones are made from these."""

    ONE_MINUTE = "1min"
    FIVE_MINUTES = "5min"
    FIFTEEN_MINUTES = "15min"

    @property
    def seconds(self) -> int:
        """How long one bar is."""
        return 60 * int(self.value.removesuffix("min"))


class Period(StrEnum):
    """The bars of `/markets/history`."""

    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"


class Hours(StrEnum):
    """Which trading hours bars are made of: all, or the regular session."""

    ALL = "all"
    OPEN = "open"


class Ask(NamedTuple):
    """One request. `root` is the member that its good answer has."""

    path: str
    root: str
    params: Mapping[str, str] = {}
    post: bool = False


def ask_quotes(symbols: Iterable[str], *, greeks: bool = False) -> Ask:
    """Ask for `/markets/quotes`, of any mix of symbols in Massive's form.

    Raises:
        InvalidSymbol: a symbol of no known shape.
        InvalidRequest: no symbol at all.
    """
    named = ",".join(dict.fromkeys(map(to_tradier, symbols)))
    if not named:
        raise InvalidRequest("a quotes request names at least one symbol")
    return Ask("/markets/quotes", "quotes", {"symbols": named, "greeks": _flag(greeks)})


def ask_chain(underlying: str, expiration: date, *, greeks: bool = True) -> Ask:
    """Ask for `/markets/options/chains`: one expiration; Tradier has no wider question.

    Raises:
        InvalidSymbol: an underlying of no known shape.
    """
    params = {"symbol": to_tradier(underlying), "expiration": expiration.isoformat()}
    return Ask("/markets/options/chains", "options", params | {"greeks": _flag(greeks)})


def ask_expirations(underlying: str) -> Ask:
    """Ask for `/markets/options/expirations` with all roots, types and contract sizes.

    Raises:
        InvalidSymbol: an underlying of no known shape.
    """
    wide = dict.fromkeys(("includeAllRoots", "contractSize", "expirationType"), "true")
    params = {"symbol": to_tradier(underlying)} | wide
    return Ask("/markets/options/expirations", "expirations", params)


def ask_strikes(underlying: str, expiration: date) -> Ask:
    """Ask for `/markets/options/strikes` of every root.

    Raises:
        InvalidSymbol: an underlying of no known shape.
    """
    params = {"symbol": to_tradier(underlying), "expiration": expiration.isoformat()}
    return Ask("/markets/options/strikes", "strikes", params | {"includeAllRoots": "true"})


def ask_lookup(underlying: str) -> Ask:
    """Ask for `/markets/options/lookup`: every contract of an underlying in one request.

    Raises:
        InvalidSymbol: an underlying of no known shape.
    """
    return Ask("/markets/options/lookup", "symbols", {"underlying": to_tradier(underlying)})


def ask_history(
    symbol: str, first: date, last: date, *, period: Period = Period.DAILY, hours: Hours = Hours.ALL
) -> Ask:
    """Ask for `/markets/history` from `first` to `last`, both included.

    Raises:
        InvalidSymbol: a symbol of no known shape.
    """
    params = {
        "symbol": to_tradier(symbol),
        "interval": period.value,
        "start": first.isoformat(),
        "end": last.isoformat(),
        "session_filter": hours.value,
    }
    return Ask("/markets/history", "history", params)


def ask_timesales(
    symbol: str, start_ns: int, end_ns: int, *, interval: Intraday, hours: Hours = Hours.ALL
) -> Ask:
    """Ask for `/markets/timesales`: the bars that start from `start_ns` to `end_ns`, both included.

    Both are cut to the minute, for Tradier takes New York's clock without seconds. In the
    hour that the clocks repeat in November, that clock names two instants.

    Raises:
        InvalidSymbol: a symbol of no known shape.
    """
    params = {
        "symbol": to_tradier(symbol),
        "interval": interval.value,
        "start": _clock_text(start_ns),
        "end": _clock_text(end_ns),
        "session_filter": hours.value,
    }
    return Ask("/markets/timesales", "series", params)


def ask_clock() -> Ask:
    """Ask for `/markets/clock`."""
    return Ask("/markets/clock", "clock")


def ask_calendar(year: int, month: int) -> Ask:
    """Ask for `/markets/calendar` of one month."""
    return Ask("/markets/calendar", "calendar", {"month": f"{month:02}", "year": f"{year:04}"})


def ask_session() -> Ask:
    """Ask for `/markets/events/session`: leave to connect one stream, within five minutes."""
    return Ask("/markets/events/session", "stream", post=True)


def _flag(value: bool) -> str:  # noqa: FBT001 - a formatter of booleans
    return "true" if value else "false"


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _clock_text(at_ns: int) -> str:
    at = _EPOCH + timedelta(seconds=at_ns // 1_000_000_000)
    return at.astimezone(NEW_YORK).strftime("%Y-%m-%d %H:%M")


# how values are written


def as_list(value: Any) -> list[Any]:
    """Undo what the conversion from XML did: one item is bare, none is null or "null"."""
    if value is None or value in ("", "null"):
        return []
    return cast("list[Any]", value) if isinstance(value, list) else [value]


def number(value: float | str | None) -> float | None:
    """Read a number, which may be a string; None for "NaN", "" and whatever is not finite."""
    if type(value) is float and math.isfinite(value):  # nearly all of them
        return value
    if value is None or isinstance(value, bool):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def date_of(text: str) -> date | None:
    """Read a day; None for what is none."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


_MILLISECONDS: Final = 1e11
"""Epoch numbers above this are milliseconds: as seconds they lie in the year 5138."""


def epoch_ns(value: float | str | None) -> int | None:
    """Read epoch milliseconds or seconds, a number or a string, as nanoseconds; 0 is None."""
    if isinstance(value, str) and value.isdecimal():
        value = int(value[:20])  # as a float it would lose its last digits
    found = value if isinstance(value, int) else number(value)
    if isinstance(found, bool) or not found or found < 0 or found > _MILLISECONDS * 100:
        return None
    # To the microsecond, which a float still holds: nanoseconds it would make up.
    return round(found * (1_000 if found > _MILLISECONDS else 1_000_000)) * 1_000


class RateLimits(NamedTuple):
    """What the `X-Ratelimit-…` headers say. Not monotonic: a brake, never a budget."""

    allowed: int | None
    available: int | None
    expires_ns: int | None


def rate_limits(headers: Mapping[str, str]) -> RateLimits:
    """Read the rate headers of an answer; the names are looked up as Tradier writes them."""

    def count(name: str) -> int | None:
        text = headers.get(f"X-Ratelimit-{name}", "").strip()
        return int(text) if text.isdecimal() and len(text) < 10 else None

    expires = headers.get("X-Ratelimit-Expiry", "").strip()
    return RateLimits(count("Allowed"), count("Available"), epoch_ns(expires or None))


# what an answer is worth


class Again(StrEnum):
    """Whether to ask again after a refusal: never, once more, or as often as we may."""

    NEVER = "never"
    ONCE = "once"
    LATER = "later"


class Refusal(NamedTuple):
    """Why an answer is not one, and what the caller can do about it.

    `earliest_ns` is the oldest `start` that Tradier takes, when it said so; `too_large`
    means that a shorter range may do.
    """

    error: OnetapeError
    again: Again
    earliest_ns: int | None = None
    too_large: bool = False


class _Detail(msgspec.Struct):
    errorcode: str = ""


class _Fault(msgspec.Struct):
    faultstring: str = ""
    detail: _Detail | None = None


class _Errors(msgspec.Struct):
    error: list[str] | str | None = None


class _Body(msgspec.Struct):
    fault: _Fault | None = None
    errors: _Errors | None = None


_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_refused = msgspec.json.Decoder(_Body)
_OK: Final = range(200, 300)
_HEAD_BYTES: Final = 4096
_EARLIEST: Final = re.compile(r"on or after (\d{4}-\d\d-\d\d(?: \d\d:\d\d(?::\d\d)?)?)")


def refusal_of(
    status: int, content_type: str, body: bytes, *, root: str, now_ns: int
) -> Refusal | None:
    """Judge one answer; None for a good one. The time is for the resets that it may name."""
    members = _members_of(body)
    if status in _OK and members is not None and "json" in content_type.lower():
        if root in members:
            return None
        if not members.keys() & {"fault", "errors"}:
            return Refusal(UpstreamGarbled(f"Tradier's answer has no {root}"), Again.NEVER)
    refusal = None if members is None else _by_code(body, now_ns)
    return refusal or _by_text(status, body, now_ns) or _by_status(status)


def _members_of(body: bytes) -> dict[str, msgspec.Raw] | None:
    try:
        return _members.decode(body)
    except UNREADABLE:
        return None


def _by_code(body: bytes, now_ns: int) -> Refusal | None:
    try:
        said = _refused.decode(body)
    except UNREADABLE:
        return None
    if said.errors is not None:
        texts = as_list(said.errors.error)
        return Refusal(_refused_for(" ".join(texts) or "an error without a word"), Again.NEVER)
    if said.fault is None:
        return None
    words = f"{said.fault.faultstring} {said.fault.detail.errorcode if said.fault.detail else ''}"
    if "TooBigBody" in words:
        return Refusal(
            UpstreamGarbled("Tradier's answer would be too large: ask for less"),
            Again.NEVER,
            too_large=True,
        )
    if "uota" in words:
        return _throttled(None, now_ns)
    if "oken" in words or "apiproduct" in words or "keymanagement" in words:
        return _forbidden(Again.NEVER)
    return Refusal(UpstreamDown(f"Tradier failed: {_shown(words)}"), Again.LATER)


def _by_text(status: int, body: bytes, now_ns: int) -> Refusal | None:
    text = body[:_HEAD_BYTES].decode("utf-8", "replace").strip()
    if text.startswith("Quota Violation"):
        return _throttled(epoch_ns(text.rsplit(None, 1)[-1]), now_ns)
    if text.startswith("Invalid Access Token") or "no apiproduct match" in text:
        # Lone refusals of a good token have been seen, and a second one settles it.
        return _forbidden(Again.ONCE if status == 401 else Again.NEVER)
    if text.startswith("Invalid parameter,"):
        return Refusal(_refused_for(text), Again.NEVER, earliest_ns=_earliest(text))
    if status == 400:
        return Refusal(_refused_for(text or "no reason given"), Again.NEVER)
    return None


def _by_status(status: int) -> Refusal:
    match status:
        case 401:
            return _forbidden(Again.ONCE)
        case 403:
            return _forbidden(Again.NEVER)
        case 408:
            return Refusal(UpstreamTimeout("Tradier gave up waiting for us"), Again.LATER)
        case 429:
            return Refusal(UpstreamThrottled("Tradier asks us to wait"), Again.LATER)
        case 404 | 409:  # our paths are fixed, so it is never the path
            return Refusal(UpstreamDown(f"Tradier answered {status}"), Again.LATER)
        case _ if status in _OK:
            return Refusal(UpstreamDown("Tradier shows a page instead of data"), Again.LATER)
        case _ if status >= 500:
            return Refusal(UpstreamDown(f"Tradier answered {status}"), Again.LATER)
        case _:
            return Refusal(InvalidRequest(f"Tradier answered {status}"), Again.NEVER)


def _forbidden(again: Again) -> Refusal:
    return Refusal(UpstreamForbidden("Tradier does not accept our token for this"), again)


def _refused_for(text: str) -> InvalidRequest:
    return InvalidRequest(f"Tradier refused: {_shown(text)}")


_WINDOW_S: Final = 61.0


def _throttled(reset_ns: int | None, now_ns: int) -> Refusal:
    # The window is a minute: what is further away is a fault of somebody's clock.
    wait_s = None if reset_ns is None else min(_WINDOW_S, max(0.0, (reset_ns - now_ns) / 1e9))
    error = UpstreamThrottled("Tradier asks us to wait", retry_after_s=wait_s)
    return Refusal(error, Again.LATER)


def _earliest(text: str) -> int | None:
    found = _EARLIEST.search(text)
    if found is None:
        return None
    try:
        at = datetime.fromisoformat(found[1]).replace(tzinfo=NEW_YORK)
    except ValueError:
        return None
    return round((at - _EPOCH).total_seconds()) * 1_000_000_000


def _shown(text: str) -> str:
    """Quote what came from outside: bounded, and harmless in a log or a terminal."""
    plain = " ".join(text.split())
    return ascii(plain if len(plain) <= 200 else plain[:197] + "...")[1:-1]
