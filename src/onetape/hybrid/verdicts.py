"""What an answer is worth when another provider could be asked, and how one is marked.

    an answer ──▶ good        it is given
              └─▶ doubtful    poor (confidence below 40), or empty and perhaps not truly so:
                              given only if the other provider has nothing better

    an error  ──▶ not there   `not_found`, `CONTRACT_NOT_FOUND`: an answer too (W-59)
              └─▶ a failure   in words of ours, never the vendor's

Sans-I/O. Confidence is read at the moment of the answer. A chain that a filter emptied is
good: the provider lists contracts, and nothing else is wrong with it (W-60).
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import date
from enum import StrEnum
from typing import Final, NamedTuple, TypeVar

import msgspec

from onetape.calendar import new_york_date
from onetape.errors import (
    ContractNotFound,
    NotFound,
    OnetapeError,
    UpstreamDown,
    UpstreamForbidden,
    UpstreamGarbled,
    UpstreamThrottled,
    UpstreamTimeout,
)
from onetape.model import Bar, Flow, IndexSnapshot, OptionChain, OptionSnapshot, Quote
from onetape.provenance import FAIR_FROM, Quality, Reason, Severity
from onetape.quality.candles import judge_bars
from onetape.quality.reasons import reason
from onetape.quality.score import noted
from onetape.rows import Rows
from onetape.timeframes import Moment, moment_ns

T = TypeVar("T")
M = TypeVar("M", Quote, Bar, IndexSnapshot, OptionSnapshot)

CONFIDENCE_FROM: Final = FAIR_FROM
"""What a better answer is looked for below."""

_CHAIN_EMPTY: Final = "chain_empty"
_CERTAIN: Final = 100
_DEPTH: Final = 8  # errors beneath errors
_JUST_NOW_NS: Final = 10_000_000_000  # a question "until now" was asked a moment ago
_replace: Final = msgspec.structs.replace


class Why(StrEnum):
    """Why an answer was not taken; a label of metrics and of the log, so a closed set."""

    TIMEOUT = "timeout"
    DOWN = "down"
    THROTTLED = "throttled"
    REFUSED = "refused"
    GARBLED = "garbled"
    FAILED = "failed"
    MISSING = "missing"
    POOR = "poor"
    EMPTY = "empty"
    OPEN = "open"
    SLOW = "slow"
    HELD = "held"


WORDS: Final[Mapping[Why, str]] = {
    Why.TIMEOUT: "did not answer in time",
    Why.DOWN: "is down",
    Why.THROTTLED: "asks us to wait",
    Why.REFUSED: "does not accept our key, or the plan lacks this",
    Why.GARBLED: "answered what cannot be read",
    Why.FAILED: "failed",
    Why.MISSING: "has no such thing",
    Why.POOR: "answered poorly",
    Why.EMPTY: "answered with nothing",
    Why.OPEN: "failed several times in a row and is left alone for a while",
    Why.SLOW: "took longer than usual",
    Why.HELD: "failed and is not asked first for a while",
}
"""What is said of the provider, after its name."""

_WHY: Final[Mapping[type[OnetapeError], Why]] = {
    UpstreamTimeout: Why.TIMEOUT,
    UpstreamDown: Why.DOWN,
    UpstreamThrottled: Why.THROTTLED,
    UpstreamForbidden: Why.REFUSED,
    UpstreamGarbled: Why.GARBLED,
    NotFound: Why.MISSING,
    ContractNotFound: Why.MISSING,
}


class Verdict(NamedTuple):
    """What an answer is worth. `why` it is doubtful, or None."""

    confidence: int = _CERTAIN
    why: Why | None = None
    detail: str = ""

    @property
    def is_good(self) -> bool:
        """Whether it needs no comparing."""
        return self.why is None

    def told_of(self, provider: str) -> str:
        """Say in our words what is wrong with a provider's answer."""
        words = WORDS[self.why or Why.FAILED]
        return f"{provider} {words}" + (f" ({self.detail})" if self.detail else "")


GOOD: Final = Verdict()
_EMPTY: Final = Verdict(0, Why.EMPTY)


def why_of(error: BaseException) -> Why:
    """Name what went wrong, by the error or by what is beneath it."""
    cause: BaseException | None = error
    for _ in range(_DEPTH):
        if cause is None:
            break
        for kind, why in _WHY.items():
            if isinstance(cause, kind):
                return why
        cause = cause.__cause__
    return Why.FAILED


def is_absent(error: OnetapeError) -> bool:
    """Tell whether an error is the answer that there is no such thing."""
    return isinstance(error, NotFound | ContractNotFound)


# judging


def of_quality(quality: Quality | None, now_ns: int) -> Verdict:
    """Judge by the confidence at an instant; what nobody judged is taken as it is."""
    if quality is None:
        return GOOD
    confidence = quality.confidence(now_ns)
    if confidence >= CONFIDENCE_FROM:
        return Verdict(confidence)
    return Verdict(
        confidence, Why.POOR, f"confidence {confidence}{_errors_in_words(quality, now_ns)}"
    )


def of_datum(datum: Quote | IndexSnapshot | OptionSnapshot, now_ns: int) -> Verdict:
    """Judge a quote, an index or a contract."""
    return of_quality(datum.quality, now_ns)


def of_chain(chain: OptionChain, now_ns: int) -> Verdict:
    """Judge a chain."""
    if chain.contracts:
        return of_quality(chain.quality, now_ns)
    wrong = [one.code for one in _errors(chain.quality) if one.code != _CHAIN_EMPTY]
    if wrong:
        return Verdict(0, Why.POOR, f"confidence 0: {', '.join(wrong)}")
    return GOOD if chain.listed else _EMPTY


def of_many(answer: Rows[Bar] | tuple[object, ...], _now_ns: int) -> Verdict:
    """Judge a series or a list that one may expect something in."""
    return GOOD if answer else _EMPTY


def of_bars(
    bars: Rows[Bar], now_ns: int, *, until: Moment, is_open: Callable[[int], bool]
) -> Verdict:
    """Judge a series: one that was asked for up to now is as good as its last bar is young."""
    if not bars:
        return _EMPTY
    end = moment_ns(until)
    reaches_now = (
        end >= new_york_date(now_ns) if isinstance(end, date) else end >= now_ns - _JUST_NOW_NS
    )
    judged = judge_bars(
        bars[-1:],
        provider=bars[-1].provider,
        now_ns=now_ns,
        market_open=is_open(now_ns),
        reaches_now=reaches_now,
    )
    return of_quality(judged.quality, now_ns)


def of_flow(flow: Flow, _now_ns: int) -> Verdict:
    """Judge a flow; one that is not available says nothing."""
    return GOOD if flow.available else _EMPTY


def of_indicators(answer: Mapping[str, float | None], _now_ns: int) -> Verdict:
    """Judge a set of indicators."""
    return GOOD if any(value is not None for value in answer.values()) else _EMPTY


def _errors_in_words(quality: Quality, now_ns: int) -> str:
    codes = [one.code for one in quality.reasons_at(now_ns) if one.severity is Severity.ERROR]
    return f": {', '.join(codes)}" if codes else ""


def _errors(quality: Quality | None) -> Iterator[Reason]:
    if quality is not None:
        yield from (one for one in quality.reasons if one.severity is Severity.ERROR)


# marking


def as_fallback(quality: Quality | None, why: str) -> Quality | None:
    """Return a quality that says that, and why, another provider should have answered."""
    if quality is None:
        return None
    return noted(quality, reason("fallback", why), fallback_reason=why)


def marked(datum: M, why: str) -> M:
    """Return a datum marked as a fallback."""
    return _replace(datum, quality=as_fallback(datum.quality, why))


def marked_chain(chain: OptionChain, why: str) -> OptionChain:
    """Return a chain marked as a fallback, with each of its contracts."""
    return _replace(
        chain,
        contracts=tuple(marked(one, why) for one in chain.contracts),
        quality=as_fallback(chain.quality, why),
    )


def marked_bars(bars: Rows[Bar], why: str) -> Rows[Bar]:
    """Return a series marked as a fallback, bar by bar."""
    return Rows(
        (marked(_with_quality(bar), why) for bar in bars),
        kind=Bar,
        errors=bars.errors.values(),
        simulated=bars.simulated,
    )


def _with_quality(bar: Bar) -> Bar:
    """Give a bar in which nothing was found the quality that the mark goes into."""
    if bar.quality is not None:
        return bar
    quality = Quality(
        provider=bar.provider,
        source=bar.source,
        received_ns=bar.received_ns,
        event_ns=min(bar.end_ns, bar.received_ns),
        delayed=bar.delayed,
        simulated=bar.simulated,
    )
    return _replace(bar, quality=quality)


def marked_flow(flow: Flow, why: str) -> Flow:
    """Return a flow that says why it is not the first provider's, where it can."""
    if flow.available:
        return flow
    return _replace(flow, reason=f"{why}; {flow.reason}" if flow.reason else why)


def unmarked(answer: T, _why: str) -> T:
    """Return what has no place for a mark as it is; the log and the counters have it."""
    return answer
