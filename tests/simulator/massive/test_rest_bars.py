"""Bars as a plan may see them."""

from typing import Any

import pytest

TODAY = "2025-11-24/2025-11-24"
LATE_MS = 1_764_000_000_000 - 15 * 60_000
BEFORE_END = (
    "Attempted to request today's data before end of day. "
    "Please upgrade your plan at https://massive.com/pricing"
)
WRONG_TIMEFRAME = (
    "Your plan doesn't include this data timeframe. "
    "Please upgrade your plan at https://massive.com/pricing"
)


def bars(rest: Any, size: str, span: str, key: str) -> list[Any]:
    body = rest.json(f"/v2/aggs/ticker/SPY/range/{size}/{span}?limit=50000", key=key)
    return body.get("results", [])


def test_a_delayed_plan_sees_no_minute_that_ended_too_late(rest: Any) -> None:
    stamps = [bar["t"] for bar in bars(rest, "1/minute", TODAY, "sim-starter-key")]

    assert stamps[-1] == LATE_MS - 60_000


def test_a_delayed_plan_sees_no_second_that_ended_too_late(rest: Any) -> None:
    span = f"{LATE_MS - 60_000}/{LATE_MS + 60_000}"
    stamps = [bar["t"] for bar in bars(rest, "7/second", span, "sim-starter-key")]

    assert max(stamps) + 7_000 <= LATE_MS


@pytest.mark.parametrize("size", ["1/hour", "1/day", "1/week"])
def test_a_delayed_window_holds_only_what_its_minutes_show(rest: Any, size: str) -> None:
    [late] = bars(rest, size, f"{TODAY[:10]}/2025-11-25", "sim-starter-key")[-1:] or [None]
    minutes = bars(rest, "1/minute", TODAY, "sim-starter-key")
    if late is None or size == "1/week":
        late = bars(rest, size, "2025-11-23/2025-11-25", "sim-starter-key")[-1]

    inside = [bar for bar in minutes if bar["t"] >= late["t"]]
    assert late["c"] == minutes[-1]["c"]
    assert late["h"] == max(bar["h"] for bar in inside)
    assert late["v"] == sum(bar["v"] for bar in inside)


def test_a_real_time_window_reaches_until_now(rest: Any) -> None:
    [day] = bars(rest, "1/day", TODAY, "sim-key")
    [late] = bars(rest, "1/day", TODAY, "sim-starter-key")

    assert day["v"] > late["v"]


def test_a_basic_plan_sees_nothing_of_today(rest: Any) -> None:
    stamps = [bar["t"] for bar in bars(rest, "1/day", "2025-11-20/2025-11-24", "sim-basic-key")]

    assert stamps == [1763614800000, 1763701200000]


def test_a_basic_plan_that_asks_for_today_alone_is_refused(rest_of_basic: Any) -> None:
    status, body = rest_of_basic(f"/v2/aggs/ticker/SPY/range/1/day/{TODAY}")

    assert (status, body["status"], body["message"]) == (403, "NOT_AUTHORIZED", BEFORE_END)


def test_a_range_before_the_plans_history_is_refused(rest_of_basic: Any) -> None:
    status, body = rest_of_basic("/v2/aggs/ticker/SPY/range/1/day/2023-01-01/2025-01-01")

    assert (status, body["status"], body["message"]) == (403, "NOT_AUTHORIZED", WRONG_TIMEFRAME)


def test_the_week_of_today_ends_yesterday_on_a_basic_plan(rest: Any) -> None:
    found = bars(rest, "1/month", "2025-11-01/2025-11-24", "sim-basic-key")
    days = bars(rest, "1/day", "2025-11-01/2025-11-21", "sim-basic-key")

    assert found[0]["c"] == days[-1]["c"]
    assert found[0]["v"] == sum(bar["v"] for bar in days)


def test_a_delayed_plan_says_so_in_its_status(rest: Any) -> None:
    url = f"/v2/aggs/ticker/SPY/range/1/day/{TODAY}"

    assert rest.json(url, key="sim-starter-key")["status"] == "DELAYED"
    assert rest.json(url)["status"] == "OK"
