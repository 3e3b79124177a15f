from datetime import date, timedelta

import msgspec
import pytest

from onetape.calendar import new_york_date
from onetape.errors import (
    ContractNotFound,
    MassiveApiError,
    NotFound,
    OnetapeError,
    UpstreamDown,
    UpstreamTimeout,
)
from onetape.hybrid.verdicts import (
    GOOD,
    WORDS,
    Why,
    as_fallback,
    is_absent,
    marked,
    marked_bars,
    marked_chain,
    marked_flow,
    of_bars,
    of_chain,
    of_datum,
    of_flow,
    of_indicators,
    of_many,
    of_quality,
    unmarked,
    why_of,
)
from onetape.model import Bar, Flow, OptionChain, Quote
from onetape.provenance import Ageing, Quality, Reason, Severity, Source
from onetape.quality.reasons import reason
from onetape.rows import Rows
from onetape.timeframes import Moment

S = 1_000_000_000
NOW_NS = 1_763_740_800 * S
AGES = Ageing(stale_s=5, alert_s=10, old_s=15, unusable_s=30)
WARNING = Reason(code="spread_wide", severity=Severity.WARNING)


def quality(*codes: str, warnings: int = 0, age_s: float = 0.0) -> Quality:
    return Quality(
        provider="massive",
        source=Source.REST,
        received_ns=NOW_NS,
        event_ns=NOW_NS - round(age_s * S),
        reasons=tuple(map(reason, codes)) + (WARNING,) * warnings,
        ageing=AGES,
    )


def quote(judged: Quality | None) -> Quote:
    return Quote(
        symbol="SPY", event_ns=NOW_NS, received_ns=NOW_NS, provider="massive", quality=judged
    )


def chain(judged: Quality | None = None, *, listed: int | None = None) -> OptionChain:
    return OptionChain(
        underlying="SPY",
        underlying_price=100.0,
        contracts=(),
        received_ns=NOW_NS,
        provider="massive",
        listed=listed,
        quality=judged,
    )


@pytest.mark.parametrize(
    ("judged", "confidence", "why", "detail"),
    [
        (quality(), 100, None, ""),
        (quality(warnings=12), 40, None, ""),
        (quality(warnings=13), 35, Why.POOR, "confidence 35"),
        (quality(warnings=8, age_s=10), 54, None, ""),
        (quality(age_s=31), 0, Why.POOR, "confidence 0: too_old"),
        (quality("crossed"), 0, Why.POOR, "confidence 0: crossed"),
    ],
)
def test_confidence_below_forty_is_poor(
    judged: Quality, confidence: int, why: Why | None, detail: str
) -> None:
    """R219: read at the moment of the answer."""
    verdict = of_datum(quote(judged), NOW_NS)

    assert (verdict.confidence, verdict.why, verdict.detail) == (confidence, why, detail)
    assert verdict.is_good is (why is None)


def test_what_was_good_is_poor_later() -> None:
    """W-53: age is reckoned when it is read."""
    judged = quality()

    assert of_quality(judged, NOW_NS).is_good
    assert not of_quality(judged, NOW_NS + 31 * S).is_good


def test_what_nobody_judged_is_taken_as_it_is() -> None:
    assert of_quality(None, NOW_NS) == GOOD


@pytest.mark.parametrize(
    ("empty", "why"),
    [
        (chain(quality("chain_empty"), listed=500), None),
        (chain(quality("chain_empty", "underlying_price_missing"), listed=500), None),
        (chain(quality("chain_empty"), listed=0), Why.EMPTY),
        (chain(quality("chain_empty"), listed=None), Why.EMPTY),
        (chain(quality("chain_empty", "too_many_invalid"), listed=500), Why.POOR),
        (chain(None, listed=3), None),
    ],
)
def test_an_empty_chain_is_an_answer_only_if_a_filter_emptied_it(
    empty: OptionChain, why: Why | None
) -> None:
    """W-60."""
    assert of_chain(empty, NOW_NS).why is why


def test_what_is_wrong_with_an_empty_chain_is_told() -> None:
    verdict = of_chain(chain(quality("chain_empty", "too_many_invalid"), listed=5), NOW_NS)

    assert verdict.told_of("massive") == "massive answered poorly (confidence 0: too_many_invalid)"


def test_lists_series_flows_and_indicators_are_good_if_there_is_anything_in_them() -> None:
    flow = Flow(underlying="SPY", available=True, provider="massive")

    assert of_many((date(2027, 1, 15),), NOW_NS).is_good
    assert of_many((), NOW_NS).why is Why.EMPTY
    assert of_many(Rows[Bar](kind=Bar), NOW_NS).why is Why.EMPTY
    assert of_flow(flow, NOW_NS).is_good
    assert of_flow(msgspec.structs.replace(flow, available=False), NOW_NS).why is Why.EMPTY
    assert of_indicators({"rsi": 50.0, "macd": None}, NOW_NS).is_good
    assert of_indicators({"rsi": None}, NOW_NS).why is Why.EMPTY


def test_a_failure_is_named_by_what_is_beneath_it() -> None:
    deep = MassiveApiError("x", causes=[MassiveApiError("y", causes=[UpstreamTimeout("z")])])

    assert why_of(deep) is Why.TIMEOUT
    assert why_of(UpstreamDown("x")) is Why.DOWN
    assert why_of(MassiveApiError("x")) is Why.FAILED


def test_a_circle_of_causes_ends() -> None:
    error = MassiveApiError("x")
    error.__cause__ = error

    assert why_of(error) is Why.FAILED


@pytest.mark.parametrize(
    ("error", "is_not_there"),
    [(NotFound("x"), True), (ContractNotFound("x"), True), (UpstreamDown("x"), False)],
)
def test_not_there_is_an_answer(error: OnetapeError, is_not_there: bool) -> None:
    """W-59."""
    assert is_absent(error) is is_not_there


def test_a_fallback_says_so_and_why() -> None:
    """R220."""
    found = marked(quote(quality()), "massive is down").quality

    assert found is not None
    assert found.fallback_reason == "massive is down"
    assert found.flags(NOW_NS).warnings == ("fallback",)
    assert found.confidence(NOW_NS) == 95
    assert as_fallback(None, "x") is None


MINUTE_NS = 60_000_000_000


@pytest.mark.parametrize(
    ("minutes_ago", "until", "is_open", "why"),
    [
        (1, NOW_NS, True, None),
        (8, NOW_NS, True, None),
        (10, NOW_NS, True, Why.POOR),
        (10, new_york_date(NOW_NS), True, Why.POOR),
        (10, NOW_NS, False, None),
        (10, NOW_NS - MINUTE_NS, True, None),
        (10, new_york_date(NOW_NS) - timedelta(days=1), True, None),
    ],
    ids=["now", "late", "stale", "all day", "closed", "until then", "until yesterday"],
)
def test_a_series_up_to_now_is_as_good_as_its_last_bar_is_young(
    minutes_ago: int, until: Moment, is_open: bool, why: Why | None
) -> None:
    """R201: nine lengths of a bar; what was asked for up to an earlier time is history."""
    end_ns = NOW_NS - minutes_ago * MINUTE_NS
    bar = Bar(
        symbol="SPY", event_ns=end_ns - MINUTE_NS, end_ns=end_ns, received_ns=NOW_NS,
        provider="massive", open=1.0, high=1.0, low=1.0, close=1.0,
    )  # fmt: skip

    verdict = of_bars(Rows([bar], kind=Bar), NOW_NS, until=until, is_open=lambda _: is_open)

    assert verdict.why is why
    assert of_bars(Rows([], kind=Bar), NOW_NS, until=until, is_open=bool).why is Why.EMPTY


def test_the_mark_reaches_every_row() -> None:
    bar = Bar(
        symbol="SPY", event_ns=1, end_ns=2, received_ns=3, provider="tradier",
        open=1.0, high=1.0, low=1.0, close=1.0, quality=quality(),
    )  # fmt: skip
    plain = msgspec.structs.replace(bar, quality=None)
    bars = marked_bars(Rows([bar, plain], kind=Bar, simulated=True), "why")

    assert all(one.quality and one.quality.fallback_reason == "why" for one in bars)
    assert bars.simulated
    whole = marked_chain(chain(quality()), "why")
    assert whole.quality is not None
    assert whole.quality.fallback_reason == "why"


def test_a_flow_that_is_not_available_says_why_it_is_not_the_firsts() -> None:
    """W-63."""
    flow = Flow(underlying="SPY", available=False, provider="tradier")

    assert marked_flow(flow, "massive is down").reason == "massive is down"
    told = msgspec.structs.replace(flow, reason="no tape")
    assert marked_flow(told, "massive is down").reason == "massive is down; no tape"
    there = msgspec.structs.replace(flow, available=True)
    assert marked_flow(there, "massive is down") is there
    assert unmarked((1,), "why") == (1,)


def test_no_word_promises_what_a_vendor_said() -> None:
    assert all(words.isascii() and words == words.strip() for words in WORDS.values())
