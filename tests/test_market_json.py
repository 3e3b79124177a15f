"""Judged data as JSON: lossless for those who decode it, spelled out for those who look."""

from types import MappingProxyType

import msgspec
import pytest
from hypothesis import given, strategies as st

from onetape.market_json import Reading, as_of, encode, reading
from onetape.model import MarketDataSnapshot, Quote
from onetape.provenance import Ageing, Quality, Reason, Severity, Source
from onetape.rows import SymbolFault

NOW_NS = 1_764_000_000_000_000_000
AGEING = Ageing(stale_s=5.0, alert_s=10.0, old_s=15.0, unusable_s=30.0, greeks_s=60.0)


def quality(age_s: float = 0.0, *reasons: Reason, greeks_age_s: float | None = None) -> Quality:
    return Quality(
        provider="massive",
        source=Source.REST,
        received_ns=NOW_NS,
        event_ns=NOW_NS - round(age_s * 1e9),
        reasons=reasons,
        ageing=AGEING,
        greeks_ns=None if greeks_age_s is None else NOW_NS - round(greeks_age_s * 1e9),
    )


def quote(symbol: str = "SPY", judged: Quality | None = None) -> Quote:
    return Quote(
        symbol=symbol,
        event_ns=NOW_NS,
        received_ns=NOW_NS,
        provider="massive",
        source=Source.REST,
        last=1.0,
        quality=judged,
    )


REASONS = st.builds(
    Reason, code=st.sampled_from(("a", "b")), severity=st.sampled_from(Severity), detail=st.text()
)


@st.composite
def qualities(draw: st.DrawFn) -> Quality:
    reasons = draw(st.lists(REASONS, max_size=3))
    greeks_age_s = draw(st.none() | st.floats(0.0, 120.0))
    return quality(draw(st.floats(-1.0, 60.0)), *reasons, greeks_age_s=greeks_age_s)


@given(st.none() | qualities())
def test_whoever_decodes_it_has_the_very_datum(judged: Quality | None) -> None:
    datum = quote(judged=judged)

    assert msgspec.json.decode(encode(datum, NOW_NS), type=Quote) == datum


@given(qualities())
def test_a_quality_says_how_it_reads_and_what_its_age_adds(judged: Quality) -> None:
    """R187: stale, score and level are reckoned when they are read."""
    plain = as_of(quote(judged=judged), NOW_NS)["quality"]
    flags = judged.flags(NOW_NS)

    assert plain["confidence"] == flags.confidence
    assert (plain["level"], plain["freshness"]) == (flags.level, flags.freshness)
    assert (plain["is_stale"], plain["stale_since_ns"]) == (flags.is_stale, flags.stale_since_ns)
    assert (plain["age_s"], plain["updated_ns"]) == (flags.age_s, flags.updated_ns)
    codes = [one["code"] for one in plain["reasons"] + plain["aged"]]
    assert codes == [one.code for one in flags.reasons]


def test_the_same_datum_reads_worse_later() -> None:
    """R202: not stale at 4.999 s, stale at 5.001 s."""
    datum = quote(judged=quality())
    confidences = [
        (read["confidence"], read["is_stale"])
        for after_ns in (4_999_000_000, 5_001_000_000, 15_001_000_000, 30_001_000_000)
        for read in [as_of(datum, NOW_NS + after_ns)["quality"]]
    ]

    assert confidences == [(100, False), (90, True), (75, True), (0, True)]


def test_every_quality_of_a_view_is_spelled_out_wherever_it_is() -> None:
    view = MarketDataSnapshot(
        at_ns=NOW_NS,
        sequence=1,
        equities=MappingProxyType({"SPY": quote(judged=quality()), "QQQ": quote("QQQ")}),
        missing=MappingProxyType({"chain:SPY": "not asked for yet"}),
    )
    plain = as_of(view, NOW_NS)

    assert plain["equities"]["SPY"]["quality"]["confidence"] == 100
    assert plain["equities"]["QQQ"]["quality"] is None
    assert msgspec.json.decode(encode(view, NOW_NS), type=MarketDataSnapshot) == view


def test_lists_and_mappings_of_data_and_what_is_no_datum_pass() -> None:
    fault = SymbolFault(symbol="X", error="not_found", message="there is none")
    plain = as_of({"results": [quote(judged=quality())], "errors": {"X": fault}}, NOW_NS)

    assert plain["results"][0]["quality"]["level"] == "excellent"
    assert plain["errors"]["X"]["error"] == "not_found"
    assert as_of(3, NOW_NS) == 3


def test_what_json_has_no_word_for_is_refused() -> None:
    with pytest.raises(TypeError):
        encode(object(), NOW_NS)


def test_a_reading_is_what_a_quality_says_at_an_instant() -> None:
    read = reading(quality(31.0), NOW_NS)

    assert isinstance(read, Reading)
    assert read.confidence == 0
    assert [one.code for one in read.aged] == ["too_old"]
