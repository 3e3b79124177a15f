"""History and timesales, against the first vendor's bars of the same market."""

from collections.abc import Callable
from datetime import date, datetime, time
from typing import Any, cast

import msgspec
import pytest

from onetape import calendar

AT = Callable[..., Any]
SYMBOLS = ["SPY", "SPX", "SPY251219C00674000"]
AS_MASSIVE = {"SPX": "I:SPX", "SPY251219C00674000": "O:SPY251219C00674000"}


def ns(day: str, at: str = "00:00") -> int:
    return calendar.instant_ns(date.fromisoformat(day), time.fromisoformat(at))


def sales(tradier: Any, symbol: str, start: str, end: str, **params: str) -> list[Any]:
    answer = tradier.json("timesales", symbol=symbol, start=start, end=end, **params)["series"]
    return [] if answer is None else cast("list[Any]", answer["data"])


# ---- history ----


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_days_are_the_other_vendors_bars(tradier: Any, symbol: str) -> None:
    rows = tradier.json("history", symbol=symbol, start="2025-11-10", end="2025-11-21")
    bars = tradier.market.bars(
        AS_MASSIVE.get(symbol, symbol), 1, "day", ns("2025-11-10"), ns("2025-11-22")
    )

    assert [
        (r["date"], r["open"], r["high"], r["low"], r["close"], r["volume"])
        for r in rows["history"]["day"]
    ] == [
        (str(calendar.new_york_date(b.start_ns)), b.open, b.high, b.low, b.close, b.volume or 0)
        for b in bars
    ]


def test_today_is_told_as_far_as_it_has_gone(tradier: Any) -> None:
    row = tradier.json("history", symbol="SPY", start="2025-11-24")["history"]["day"]
    quote = tradier.quote("SPY")

    assert row["date"] == "2025-11-24"
    assert (row["open"], row["close"], row["volume"]) == (
        quote["open"],
        quote["last"],
        quote["volume"],
    )


def test_the_regular_session_has_less_volume_and_the_same_prices(tradier: Any) -> None:
    params = {"symbol": "SPY", "start": "2025-11-20", "end": "2025-11-20"}
    every = tradier.json("history", **params)["history"]["day"]
    regular = tradier.json("history", session_filter="open", **params)["history"]["day"]

    assert 0 < regular["volume"] < every["volume"]
    assert regular | {"volume": 0} == every | {"volume": 0}


def test_weeks_are_named_by_monday_and_months_by_the_first(tradier: Any) -> None:
    days = tradier.json("history", symbol="SPY", start="2025-10-06", end="2025-11-21")
    params = {"symbol": "SPY", "start": "2025-10-06", "end": "2025-11-21"}
    weeks = tradier.json("history", interval="weekly", **params)["history"]["day"]
    months = tradier.json("history", interval="monthly", **params)["history"]["day"]
    week = [d for d in days["history"]["day"] if "2025-10-06" <= d["date"] <= "2025-10-10"]

    assert weeks[0]["date"] == "2025-10-06"
    assert [month["date"] for month in months] == ["2025-10-01", "2025-11-01"]
    assert weeks[0]["high"] == max(day["high"] for day in week)
    assert weeks[0]["volume"] == sum(day["volume"] for day in week)
    assert (weeks[0]["open"], weeks[0]["close"]) == (week[0]["open"], week[-1]["close"])


@pytest.mark.parametrize(
    "params",
    [
        {"symbol": "NOPE"},
        {"symbol": "SPY", "interval": "1min"},
        {"symbol": "SPY251121C00675000"},
        {"symbol": "SPY", "start": "2025-11-22", "end": "2025-11-23"},
        {"symbol": "SPY", "start": "2025-11-25"},
        {"symbol": "SPY", "end": "0001-01-01"},
    ],
)
def test_what_has_no_history_is_null(tradier: Any, params: dict[str, str]) -> None:
    assert tradier.json("history", **params) == {"history": None}


def test_nothing_may_be_a_word(at: AT) -> None:
    assert at(nothing="text").json("history", symbol="NOPE") == {"history": "null"}


# ---- timesales ----


@pytest.mark.parametrize("symbol", SYMBOLS)
@pytest.mark.parametrize("minutes", [1, 5, 15])
def test_bars_are_the_other_vendors_and_labelled_in_new_york(
    tradier: Any, symbol: str, minutes: int
) -> None:
    rows = sales(tradier, symbol, "2025-11-21 09:00", "2025-11-21 16:30", interval=f"{minutes}min")
    bars = tradier.market.bars(
        AS_MASSIVE.get(symbol, symbol), minutes, "minute", ns("2025-11-21", "09:00"), ns("2025-11-21", "16:30") + 1
    )  # fmt: skip

    assert [(r["timestamp"], r["open"], r["close"], r["volume"]) for r in rows] == [
        (b.start_ns // 10**9, b.open, b.close, b.volume or 0) for b in bars
    ]
    assert all(r["price"] == round((r["high"] + r["low"]) / 2, 5) for r in rows)
    assert rows[0]["time"] == _label(bars[0].start_ns)


def _label(at_ns: int) -> str:
    return datetime.fromtimestamp(at_ns // 10**9, calendar.NEW_YORK).strftime("%Y-%m-%dT%H:%M:%S")


def test_the_end_is_the_last_bars_label(tradier: Any) -> None:
    """Captured: 09:30 to 11:30 in quarters of an hour is nine bars."""
    rows = sales(tradier, "SPY", "2025-11-21 09:30", "2025-11-21 11:30", interval="15min")

    assert len(rows) == 9
    assert (rows[0]["time"], rows[-1]["time"]) == ("2025-11-21T09:30:00", "2025-11-21T11:30:00")


def test_the_session_may_be_the_regular_one(tradier: Any) -> None:
    span = ("2025-11-21 04:00", "2025-11-21 20:00")
    every = sales(tradier, "SPY", *span, interval="5min")
    regular = sales(tradier, "SPY", *span, interval="5min", session_filter="open")

    assert every[0]["time"] < "2025-11-21T09:30" <= regular[0]["time"]
    assert regular[-1]["time"] <= "2025-11-21T16:00:00"


def test_minutes_without_a_trade_have_no_row(tradier: Any) -> None:
    rows = sales(
        tradier, "SPY251219C00600000", "2025-11-21 09:30", "2025-11-21 15:59", interval="1min"
    )

    assert len(rows) < 390


def test_an_index_has_no_vwap(tradier: Any) -> None:
    rows = sales(tradier, "SPX", "2025-11-21 10:00", "2025-11-21 10:05", interval="1min")

    assert {(row["vwap"], row["volume"]) for row in rows} == {("NaN", 0)}


def test_bars_are_told_until_now_and_today_by_default(tradier: Any) -> None:
    rows = tradier.json("timesales", symbol="SPY", interval="15min")["series"]["data"]

    assert rows[0]["time"].startswith("2025-11-24T04:00")
    assert rows[-1]["time"] <= "2025-11-24T11:00:00"


def test_what_is_too_old_is_refused_and_says_since_when(at: AT) -> None:
    """Captured 2026-04-27: `must be on or after` in plain text."""
    words = "Invalid parameter, start: must be on or after {} 00:00:00."
    tradier = at()

    assert tradier.refusal(
        "timesales", symbol="SPY", interval="1min", start="2025-09-25 00:00"
    ) == (
        400,
        words.format("2025-09-26"),
    )
    assert (
        tradier.ask("timesales", symbol="SPY", interval="1min", start="2025-09-26").status_code
        == 200
    )
    assert tradier.refusal("timesales", symbol="SPY", start="2025-11-18") == (
        400,
        words.format("2025-11-19"),
    )


def test_ticks_are_trades_by_default(tradier: Any) -> None:
    rows = sales(tradier, "SPY", "2025-11-24 10:00", "2025-11-24 10:01")
    trades = tradier.market.trades("SPY", ns("2025-11-24", "10:00"), ns("2025-11-24", "10:01") + 1)

    assert [(r["price"], r["volume"], r["timestamp"]) for r in rows] == [
        (t.price, t.size, t.event_ns // 10**9) for t in trades
    ]
    assert rows[0]["time"].startswith("2025-11-24T15:00"), "a tick's time is UTC"
    assert sales(tradier, "SPX", "2025-11-24 10:00", "2025-11-24 10:01") == []


def test_too_many_ticks_are_too_big_a_body(at: AT) -> None:
    tradier = at(most_ticks=100)
    status, text = tradier.refusal("timesales", symbol="SPY", start="2025-11-24 09:30")

    fault = msgspec.json.decode(text)["fault"]
    assert status == 502
    assert fault["detail"]["errorcode"] == "protocol.http.TooBigBody"


@pytest.mark.parametrize(
    ("params", "name"),
    [
        ({"symbol": "NOPE"}, "symbol"),
        ({"symbol": "SPY", "interval": "30min"}, "interval"),
        ({"symbol": "SPY", "start": "yesterday"}, "start"),
        ({"symbol": "SPY", "end": "1901-01-01"}, "end"),
    ],
)
def test_parameters_are_checked(tradier: Any, params: dict[str, str], name: str) -> None:
    status, text = tradier.refusal("timesales", **params)

    assert status == 400
    assert text.startswith(f"Invalid parameter, {name}: ")


def test_the_sandbox_has_no_ticks(at: AT) -> None:
    assert at(sandbox=True).refusal("timesales", symbol="SPY")[0] == 400


def test_a_weekend_is_null(at: AT) -> None:
    assert at("2025-11-23 12:00").json("timesales", symbol="SPY", interval="5min") == {
        "series": None
    }
