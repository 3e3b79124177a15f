from collections.abc import Callable
from typing import Any

import pytest

from onetape.simulator.market import Hours

AT = Callable[..., Any]


@pytest.mark.parametrize(
    ("now", "state", "change", "following"),
    [
        ("2025-11-24 05:00", "closed", "07:00", "premarket"),
        ("2025-11-24 07:00", "premarket", "09:30", "open"),
        ("2025-11-24 09:30", "open", "16:00", "postmarket"),
        ("2025-11-24 16:00", "postmarket", "20:00", "closed"),
        ("2025-11-24 20:00", "closed", "07:00", "premarket"),
        ("2025-11-28 12:59", "open", "13:00", "postmarket"),
        ("2025-11-28 13:00", "postmarket", "17:00", "closed"),
        ("2025-11-27 12:00", "closed", "07:00", "premarket"),
        ("2025-11-23 12:00", "closed", "07:00", "premarket"),
    ],
)
def test_the_clock_says_what_comes_next(
    at: AT, now: str, state: str, change: str, following: str
) -> None:
    tradier = at(now)
    clock = tradier.json("clock")["clock"]

    assert (clock["state"], clock["next_change"], clock["next_state"]) == (state, change, following)
    assert clock["date"] == now[:10]
    assert clock["timestamp"] == tradier.market.now_ns() // 10**9
    assert clock["description"].startswith("Market is ")


def test_a_market_that_never_closes_is_open(at: AT) -> None:
    clock = at("2025-11-23 12:00", hours=Hours.ALWAYS).json("clock")["clock"]

    assert (clock["state"], clock["next_state"]) == ("open", "open")


def test_the_calendar_is_the_exchanges(at: AT) -> None:
    november = at().json("calendar")["calendar"]
    days = {day["date"]: day for day in november["days"]["day"]}

    assert (november["month"], november["year"], len(days)) == (11, 2025, 30)
    assert days["2025-11-24"] == {
        "date": "2025-11-24",
        "status": "open",
        "description": "Market is open",
        "premarket": {"start": "07:00", "end": "09:24"},
        "open": {"start": "09:30", "end": "16:00"},
        "postmarket": {"start": "16:00", "end": "20:00"},
    }
    assert days["2025-11-28"]["open"]["end"] == "13:00"
    assert set(days["2025-11-27"]) == {"date", "status", "description"}
    assert at().json("calendar", month="02", year="2026")["calendar"]["month"] == 2


@pytest.mark.parametrize("params", [{"month": "13"}, {"month": "may"}, {"year": "1999"}])
def test_a_month_that_is_none_is_refused(at: AT, params: dict[str, str]) -> None:
    assert at().refusal("calendar", **params)[0] == 400


def test_a_search_finds_parts_of_symbols_and_names(at: AT) -> None:
    tradier = at()
    some = tradier.json("search", q="tr")["securities"]["security"]
    one = tradier.json("search", q="tesla")["securities"]["security"]

    assert {"SPY", "QQQ"} <= {row["symbol"] for row in some}
    assert one == {
        "symbol": "TSLA",
        "exchange": "Q",
        "type": "stock",
        "description": "Tesla, Inc. Common Stock",
    }
    assert tradier.json("search", q="S&P 500")["securities"]["security"]["symbol"] == "SPY"
    found = tradier.json("search", q="S&P 500", indexes="true")["securities"]["security"]
    assert {row["symbol"] for row in found} == {"SPX", "SPY"}
    assert tradier.json("search", q="zzzz") == {"securities": None}


def test_a_lookup_filters_by_symbol_exchange_and_type(at: AT) -> None:
    tradier = at()
    funds = tradier.json("lookup", types="etf")["securities"]["security"]
    arca = tradier.json("lookup", types="etf", exchanges="P")["securities"]["security"]

    assert [row["symbol"] for row in funds] == ["IWM", "QQQ", "SPY"]
    assert [row["symbol"] for row in arca] == ["IWM", "SPY"]
    assert tradier.json("lookup", q="aap")["securities"]["security"]["symbol"] == "AAPL"
    assert tradier.refusal("lookup")[0] == 400


def test_stocks_are_easy_to_borrow(at: AT) -> None:
    rows = at().json("etb")["securities"]["security"]

    assert {"AAPL", "SPY"} <= {row["symbol"] for row in rows}
    assert "index" not in {row["type"] for row in rows}
