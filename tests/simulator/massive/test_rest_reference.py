"""What exists: calendar, contracts, tickers, exchanges, conditions."""

from typing import Any

import msgspec
import pytest
from starlette.testclient import TestClient

from onetape.simulator.market import Hours, Market, SimClock
from onetape.simulator.massive.accounts import Accounts
from onetape.simulator.massive.rest import MassiveRestSimulator
from onetape.testing import ManualClock

NONE: frozenset[str] = frozenset()


def status_at(now_ns: int) -> Any:
    clock = ManualClock(now_ns=now_ns)
    market = Market(clock=SimClock(clock=clock), hours=Hours.EXCHANGE)
    client = TestClient(MassiveRestSimulator(market, Accounts(), clock))
    return client.get("/v1/marketstatus/now?apiKey=sim-key").json()


# ---- the calendar ----


@pytest.mark.parametrize(
    ("now_ns", "market", "early", "after", "indices"),
    [
        (1764000000000000000, "open", False, False, "open"),  # Monday 11:00
        (1763976600000000000, "extended-hours", True, False, "closed"),  # Monday 04:30
        (1764019800000000000, "extended-hours", False, True, "closed"),  # Monday 16:30
        (1763863200000000000, "closed", False, False, "closed"),  # Saturday
    ],
)
def test_the_market_status_follows_the_session(
    now_ns: int, market: str, early: bool, after: bool, indices: str
) -> None:
    status = status_at(now_ns)

    assert status["market"] == status["exchanges"]["nyse"] == market
    assert (status["earlyHours"], status["afterHours"]) == (early, after)
    assert set(status["indicesGroups"].values()) == {indices}
    assert len(status["indicesGroups"]) == 10


def test_the_server_time_is_that_of_new_york(rest: Any) -> None:
    assert rest.json("/v1/marketstatus/now")["serverTime"] == "2025-11-24T11:00:00-05:00"


def test_holidays_are_a_bare_array_of_the_future(rest: Any) -> None:
    rows = rest.json("/v1/marketstatus/upcoming?year=2020")

    assert min(row["date"] for row in rows) == "2025-11-27"
    assert {row["date"]: row["name"] for row in rows}["2025-11-27"] == "Thanksgiving"


def test_only_a_half_day_has_its_hours(rest: Any) -> None:
    rows = rest.json("/v1/marketstatus/upcoming")

    half = next(row for row in rows if row["status"] == "early-close")
    assert half["date"] == "2025-11-28"
    assert (half["open"], half["close"]) == (
        "2025-11-28T14:30:00.000Z",
        "2025-11-28T18:00:00.000Z",
    )
    assert all("open" not in row for row in rows if row["status"] == "closed")


# ---- tickers ----


def test_tickers_are_counted_per_page(rest: Any) -> None:
    pages = rest.pages("/v3/reference/tickers?limit=4")

    assert [page["count"] for page in pages] == [len(page["results"]) for page in pages]
    names = [row["ticker"] for page in pages for row in page["results"]]
    assert names == sorted(set(names))
    assert not any(name.startswith("O:") for name in names)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("ticker=AAPL", {"AAPL"}),
        ("search=apple", {"AAPL"}),
        ("market=indices&ticker.gte=I:SPX&ticker.lte=I:SPX", {"I:SPX"}),
        ("market=stocks&ticker=I:SPX", NONE),
        ("type=CS&ticker=SPY", NONE),
        ("type=ETF&ticker=SPY", {"SPY"}),
        ("active=false", NONE),
        ("cusip=037833100", NONE),
        ("cik=0000320193", {"AAPL"}),
        ("exchange=XNAS&ticker=AAPL", {"AAPL"}),
        ("market=crypto", NONE),
    ],
)
def test_tickers_are_filtered(rest: Any, query: str, expected: set[str]) -> None:
    assert {row["ticker"] for row in rest.rows(f"/v3/reference/tickers?{query}")} == expected


@pytest.mark.parametrize("sort", ["name", "type", "primary_exchange", "cik"])
def test_tickers_are_sorted_as_asked(rest: Any, sort: str) -> None:
    values = [row.get(sort, "") for row in rest.rows(f"/v3/reference/tickers?sort={sort}&limit=3")]

    assert values == sorted(values)


def test_a_stocks_details_say_more_than_an_indexs(rest: Any) -> None:
    stock = rest.json("/v3/reference/tickers/AAPL?ticker=AAPL")["results"]
    index = rest.json("/v3/reference/tickers/I:SPX")["results"]

    assert stock["market_cap"] > 0
    assert stock["ticker_root"] == "AAPL"
    assert "market_cap" not in index
    assert rest.refusal("/v3/reference/tickers/NONE")[0] == 404


def test_ticker_types_are_those_of_an_asset_class(rest: Any) -> None:
    every = rest.json("/v3/reference/tickers/types")["results"]
    indices = rest.json("/v3/reference/tickers/types?asset_class=indices")["results"]

    assert {row["code"] for row in indices} == {"INDEX"}
    assert len(every) > len(indices)
    assert rest.json("/v3/reference/tickers/types?locale=global")["results"] == []


# ---- exchanges and conditions ----


def test_exchanges_are_all_on_one_page(rest: Any) -> None:
    every = rest.json("/v3/reference/exchanges")
    options = rest.json("/v3/reference/exchanges?asset_class=options")

    assert every["count"] == len(every["results"]) > options["count"]
    assert {row["asset_class"] for row in options["results"]} == {"options"}
    assert [row["id"] for row in every["results"]].count(4) == 4
    assert rest.json("/v3/reference/exchanges?locale=global")["results"] == []


@pytest.mark.parametrize("sort", ["asset_class", "id", "type", "name", "data_types", "legacy"])
def test_conditions_are_paged_in_any_order(rest: Any, sort: str) -> None:
    url = f"/v3/reference/conditions?sort={sort}"
    rows = rest.rows(f"{url}&limit=7")

    assert rows == rest.rows(f"{url}&limit=1000")
    if sort not in {"data_types", "legacy"}:
        assert [row[sort] for row in rows] == sorted(row[sort] for row in rows)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("asset_class=options", {"options"}),
        ("sip=OPRA", {"options"}),
        ("sip=CTA", {"stocks"}),
        ("id=209", {"options"}),
        ("data_type=trade&asset_class=stocks", {"stocks"}),
        ("data_type=nbbo", NONE),
    ],
)
def test_conditions_are_filtered(rest: Any, query: str, expected: set[str]) -> None:
    rows = rest.rows(f"/v3/reference/conditions?{query}&limit=1000")

    assert {row["asset_class"] for row in rows} == expected


# ---- what the simulated market has nothing to say about ----


@pytest.mark.parametrize(
    "url",
    [
        "/v3/reference/splits",
        "/v3/reference/dividends",
        "/v2/reference/news?ticker=NFLX",
        "/vX/reference/financials",
        "/vX/reference/ipos",
        "/v1/related-companies/AAPL",
    ],
)
def test_other_lists_are_empty_and_well_formed(rest: Any, url: str) -> None:
    body = rest.json(url)

    assert (body["results"], body["status"]) == ([], "OK")
    assert "next_url" not in body


def test_nothing_was_ever_renamed(rest: Any) -> None:
    assert rest.json("/vX/reference/tickers/AAPL/events")["results"]["events"] == []
    assert rest.refusal("/vX/reference/tickers/NONE/events")[0] == 404


def test_beyond_the_announced_calendar_there_are_no_holidays() -> None:
    clock = ManualClock(now_ns=4_102_444_800_000_000_000)  # 2100
    market = Market(clock=SimClock(clock=clock))
    client = TestClient(MassiveRestSimulator(market, Accounts(), clock))

    answer = client.get("/v1/marketstatus/upcoming?apiKey=sim-key")

    assert msgspec.json.decode(answer.content) == []
