"""Indicators over the market's own bars."""

from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

WINDOWS = {
    "sma": "window=5",
    "ema": "window=4",
    "rsi": "window=3",
    "macd": "short_window=2&long_window=4&signal_window=3",
}


def url(name: str, ticker: str = "SPY", /, **params: Any) -> str:
    query = "&".join(f"{key}={value}" for key, value in params.items())
    return f"/v1/indicators/{name}/{ticker}?{WINDOWS[name]}&{query}"


def points(rest: Any, address: str) -> list[Any]:
    return [point for page in rest.pages(address) for point in page["results"].get("values", [])]


def test_the_newest_ten_values_come_first(rest: Any) -> None:
    body = rest.json("/v1/indicators/sma/SPY")

    stamps = [point["timestamp"] for point in body["results"]["values"]]
    assert len(stamps) == 10
    assert stamps == sorted(stamps, reverse=True)
    assert stamps[0] == 1763960400000  # today, midnight in New York


def test_a_simple_average_is_that_of_the_bars(rest: Any) -> None:
    [point] = rest.json(url("sma", limit=1))["results"]["values"]
    bars = rest.json("/v2/aggs/ticker/SPY/range/1/day/2025-11-01/2025-11-24?sort=desc")["results"]

    assert point["timestamp"] == bars[0]["t"]
    assert point["value"] == pytest.approx(sum(bar["c"] for bar in bars[:5]) / 5)


def test_another_price_of_the_bars_may_be_averaged(rest: Any) -> None:
    [high] = rest.json(url("sma", limit=1, series_type="high"))["results"]["values"]
    [close] = rest.json(url("sma", limit=1))["results"]["values"]

    assert high["value"] > close["value"]


@pytest.mark.parametrize("name", WINDOWS)
@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages_of_any_size_hold_the_same_values(rest: Any, name: str, order: str) -> None:
    params: dict[str, object] = {"order": order, "timestamp.gte": "2025-09-01"}
    whole = points(rest, url(name, limit=5_000, **params))

    assert points(rest, url(name, limit=19, **params)) == whole
    stamps = [point["timestamp"] for point in whole]
    assert len(whole) > 50
    assert stamps == sorted(set(stamps), reverse=order == "desc")


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(limit=st.integers(20, 500), name=st.sampled_from(sorted(WINDOWS)))
def test_minutes_agree_whatever_the_page(rest: Any, limit: int, name: str) -> None:
    params: dict[str, object] = {
        "timespan": "minute",
        "timestamp.gte": 1763996400000,
        "timestamp.lt": 1764000000000,
    }

    assert points(rest, url(name, limit=limit, **params)) == points(
        rest, url(name, limit=5_000, **params)
    )


def test_the_first_values_of_all_history_need_a_full_window(rest: Any) -> None:
    first = points(rest, url("sma", limit=5_000, order="asc"))[0]
    bars = rest.json("/v2/aggs/ticker/SPY/range/1/day/2000-01-01/2025-11-24")["results"]

    assert first["timestamp"] == bars[4]["t"]


def test_the_bars_used_are_where_the_url_says(rest: Any) -> None:
    results = rest.json(url("ema", limit=3, expand_underlying="true"))["results"]

    parts = urlsplit(str(results["underlying"]["url"]))
    fetched = rest.json(f"{parts.path}?{parts.query}")["results"]
    assert fetched == results["underlying"]["aggregates"]


def test_the_bars_used_are_left_out_unless_asked_for(rest: Any) -> None:
    underlying = rest.json(url("ema", limit=3))["results"]["underlying"]

    assert underlying.keys() == {"url"}
    assert underlying["url"].startswith("http://testserver/v2/aggs/ticker/SPY/range/1/day/")


def test_macd_has_a_signal_and_a_histogram(rest: Any) -> None:
    for point in rest.json(url("macd", "I:SPX"))["results"]["values"]:
        assert point["histogram"] == pytest.approx(point["value"] - point["signal"])


@pytest.mark.parametrize("params", [{"timestamp": 1483958600}, {"timestamp.gt": "2026-01-01"}])
def test_a_time_without_bars_has_no_values_but_an_underlying(
    rest: Any, params: dict[str, object]
) -> None:
    """6.1.5: the official client needs `underlying`, whatever else is missing."""
    results = rest.json(url("sma", timespan="quarter", **params))["results"]

    assert "values" not in results
    assert results["underlying"]["url"]


def test_an_unknown_ticker_has_no_values(rest: Any) -> None:
    assert "values" not in rest.json(url("rsi", "NONE"))["results"]


@pytest.mark.parametrize(
    "bad", ["timespan=second", "limit=5001", "window=0", "series_type=vwap", "order=up"]
)
def test_what_cannot_be_read_is_refused(rest: Any, bad: str) -> None:
    status, body = rest.refusal(f"/v1/indicators/sma/SPY?{bad}")

    assert (status, body["status"]) == (400, "ERROR")


def test_a_cursor_of_another_list_is_refused(rest: Any) -> None:
    assert rest.refusal("/v1/indicators/sma/SPY?cursor=YXA9JTVCJTIyYSUyMiU1RA")[0] == 400


def test_a_basic_plan_has_no_value_for_today(rest: Any) -> None:
    [point] = rest.json(url("sma", limit=1), key="sim-basic-key")["results"]["values"]

    assert point["timestamp"] < 1763960400000
