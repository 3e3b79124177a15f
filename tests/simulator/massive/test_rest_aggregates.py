"""Bars over ranges and whole days: windows, limits, pages, stamps."""

from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

DAYS = "2025-11-19/2025-11-21"


def ranged(ticker: str, size: str, span: str = DAYS, **params: object) -> str:
    query = "&".join(f"{name}={value}" for name, value in params.items())
    return f"/v2/aggs/ticker/{ticker}/range/{size}/{span}?{query}"


# ---- ranges ----


def test_day_bars_are_stamped_at_midnight_in_new_york(rest: Any) -> None:
    body = rest.json(ranged("AAPL", "1/day"))

    assert [bar["t"] for bar in body["results"]] == [1763528400000, 1763614800000, 1763701200000]
    assert (body["ticker"], body["adjusted"], body["status"]) == ("AAPL", True, "OK")
    assert body["queryCount"] == body["resultsCount"] == body["count"] == 3


def test_index_bars_have_prices_alone(rest: Any) -> None:
    body = rest.json(ranged("I:SPX", "1/day"))

    assert {frozenset(bar) for bar in body["results"]} == {frozenset("ohlct")}
    assert "adjusted" not in body


def test_an_empty_range_has_no_results_at_all(rest: Any) -> None:
    body = rest.json(ranged("AAPL", "1/day", "2025-11-22/2025-11-23"))

    assert "results" not in body
    assert "next_url" not in body
    assert body["resultsCount"] == body["queryCount"] == body["count"] == 0


def test_an_unknown_ticker_has_no_bars(rest: Any) -> None:
    assert rest.json(ranged("NONE", "1/day"))["resultsCount"] == 0


def test_both_ends_of_a_range_are_inclusive(rest: Any) -> None:
    body = rest.json(ranged("SPY", "1/minute", "1763996400000/1763996520000"))

    assert [bar["t"] for bar in body["results"]] == [
        1763996400000,
        1763996460000,
        1763996520000,
    ]


def test_the_limit_counts_the_minutes_inside_the_windows(rest: Any) -> None:
    """Vendor facts 3.9: a five-minute query with limit 50 yields at most ten bars, then a next page."""
    body = rest.json(ranged("SPY", "5/minute", "1763649000000/2025-11-20", limit=50))

    assert body["resultsCount"] == 10
    assert body["queryCount"] == 50
    assert "next_url" in body


def test_a_window_larger_than_the_limit_is_still_whole(rest: Any) -> None:
    whole = rest.json(ranged("SPY", "1/hour", "2025-11-20/2025-11-20"))["results"]

    pages = rest.pages(ranged("SPY", "1/hour", "2025-11-20/2025-11-20", limit=1))

    assert [len(page["results"]) for page in pages] == [1] * len(whole)
    assert [bar for page in pages for bar in page["results"]] == whole


@pytest.mark.parametrize(("sort", "place"), [("asc", -2), ("desc", -1)])
def test_the_next_page_starts_at_a_millisecond_in_its_path(
    rest: Any, sort: str, place: int
) -> None:
    body = rest.json(ranged("SPY", "1/minute", "2025-11-20/2025-11-20", limit=100, sort=sort))

    parts = urlsplit(str(body["next_url"]))
    edge = int(parts.path.split("/")[place])
    step = 60_000 if sort == "asc" else -60_000
    assert edge == body["results"][-1]["t"] + step
    assert parts.query.startswith("cursor=")


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    limit=st.integers(300, 3_000),
    size=st.sampled_from(["1/minute", "7/minute", "15/minute", "1/hour"]),
    sort=st.sampled_from(["asc", "desc"]),
)
def test_the_limit_does_not_change_the_bars(rest: Any, limit: int, size: str, sort: str) -> None:
    pages = rest.pages(ranged("SPY", size, limit=limit, sort=sort))

    bars = [bar for page in pages for bar in page["results"]]
    assert bars == rest.json(ranged("SPY", size, limit=50_000, sort=sort))["results"]
    assert all(page["queryCount"] <= limit for page in pages)
    stamps = [bar["t"] for bar in bars]
    assert stamps == sorted(set(stamps), reverse=sort == "desc")


@pytest.mark.parametrize("size", ["1/week", "1/month", "1/quarter", "1/year", "2/day", "30/second"])
def test_every_timespan_has_bars(rest: Any, size: str) -> None:
    span = "2025-11-20/2025-11-20" if "second" in size else "2025-10-01/2025-11-21"
    body = rest.json(ranged("AAPL", size, span, limit=50_000))

    assert body["resultsCount"] >= (0 if "year" in size else 1)
    assert body["queryCount"] >= body["resultsCount"]


def test_ascending_and_descending_are_each_others_mirror(rest: Any) -> None:
    up = rest.json(ranged("SPY", "1/hour"))["results"]
    down = rest.json(ranged("SPY", "1/hour", sort="desc"))["results"]

    assert up == down[::-1]


def test_adjusted_is_said_back(rest: Any) -> None:
    assert rest.json(ranged("AAPL", "1/day", adjusted="false"))["adjusted"] is False


@pytest.mark.parametrize(
    ("size", "span", "text"),
    [
        ("1/day", "soon/2025-11-20", "'from'. Use YYYY-MM-DD or Unix MS Timestamps"),
        ("1/day", "2025-11-20/then", "'to'. Use YYYY-MM-DD or Unix MS Timestamps"),
        ("1/day", "2025-11-21/2025-11-20", "'to' cannot be a time that occurs before 'from'"),
        ("0/day", DAYS, "'multiplier'"),
        ("x/day", DAYS, "'multiplier'"),
        ("1/fortnight", DAYS, "'timespan'"),
    ],
)
def test_a_range_that_cannot_be_read_is_refused(rest: Any, size: str, span: str, text: str) -> None:
    status, body = rest.refusal(ranged("AAPL", size, span))

    assert (status, body["status"]) == (400, "ERROR")
    assert text in body["error"]


def test_more_than_50000_base_bars_are_refused(rest: Any) -> None:
    assert rest.refusal(ranged("AAPL", "1/day", limit=50_001))[0] == 400


@pytest.mark.parametrize("ticker", ["X:BTCUSD", "C:EURUSD"])
def test_crypto_and_forex_are_not_found(rest: Any, ticker: str) -> None:
    assert rest.refusal(ranged(ticker, "1/day"))[0] == 404


# ---- whole days ----


def test_the_previous_day_is_stamped_at_its_close(rest: Any) -> None:
    [bar] = rest.json("/v2/aggs/ticker/AAPL/prev")["results"]

    assert bar["T"] == "AAPL"
    assert bar["t"] == 1763758800000  # Friday, 16:00 in New York
    day = rest.json(ranged("AAPL", "1/day", "2025-11-21/2025-11-21"))["results"][0]
    assert {**bar, "t": 0, "T": 0} == {**day, "t": 0, "T": 0}


def test_nothing_came_before_an_unknown_ticker(rest: Any) -> None:
    assert "results" not in rest.json("/v2/aggs/ticker/NONE/prev")


def test_a_grouped_day_has_every_stock_once(rest: Any) -> None:
    body = rest.json("/v2/aggs/grouped/locale/us/market/stocks/2025-11-20")

    names = [bar["T"] for bar in body["results"]]
    assert len(names) == len(set(names)) == body["resultsCount"]
    assert {bar["t"] for bar in body["results"]} == {1763672400000}
    assert "ticker" not in body


def test_a_grouped_day_without_trading_has_no_results(rest: Any) -> None:
    body = rest.json("/v2/aggs/grouped/locale/us/market/stocks/2025-11-22")

    assert body["resultsCount"] == 0
    assert "results" not in body


def test_a_day_flat_agrees_with_its_bar(rest: Any) -> None:
    flat = rest.json("/v1/open-close/AAPL/2025-11-20")
    [bar] = rest.json(ranged("AAPL", "1/day", "2025-11-20/2025-11-20"))["results"]

    assert (flat["from"], flat["symbol"], flat["status"]) == ("2025-11-20", "AAPL", "OK")
    assert [flat[name] for name in ("open", "high", "low", "close")] == [bar[k] for k in "ohlc"]
    assert flat["preMarket"] > 0
    assert flat["afterHours"] > 0
    assert "request_id" not in flat


def test_a_day_of_an_index_has_no_volume(rest: Any) -> None:
    flat = rest.json("/v1/open-close/I:SPX/2025-11-20")

    assert flat["from"] == "2025-11-20T00:00:00.000Z"
    assert {"volume", "preMarket", "afterHours"}.isdisjoint(flat)


@pytest.mark.parametrize("path", ["AAPL/2025-11-22", "NONE/2025-11-20", "AAPL/2026-01-02"])
def test_a_day_without_data_is_not_found(rest: Any, path: str) -> None:
    status, body = rest.refusal(f"/v1/open-close/{path}")

    assert (status, body["status"]) == (404, "NOT_FOUND")
