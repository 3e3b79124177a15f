"""The stock snapshots of the vendor's second version."""

from typing import Any

import pytest
from starlette.testclient import TestClient

from onetape.simulator.market import Hours, Market, SimClock
from onetape.simulator.massive.accounts import Accounts
from onetape.simulator.massive.rest import MassiveRestSimulator
from onetape.testing import ManualClock

STOCKS = "/v2/snapshot/locale/us/markets/stocks"


def test_the_whole_market_is_one_answer_with_its_count(rest: Any) -> None:
    body = rest.json(f"{STOCKS}/tickers")

    assert body["count"] == len(body["tickers"]) > 3
    assert {"next_url", "results"}.isdisjoint(body)


def test_unknown_tickers_are_silently_missing(rest: Any) -> None:
    body = rest.json(f"{STOCKS}/tickers?tickers=AAPL,NONE,I:SPX,aapl")

    assert [row["ticker"] for row in body["tickers"]] == ["AAPL"]


def test_a_repeated_parameter_counts_once(rest: Any) -> None:
    body = rest.json(f"{STOCKS}/tickers?tickers=AAPL&tickers=SPY")

    assert body["count"] == 1


@pytest.mark.parametrize("ticker", ["NONE", "I:SPX", "O:SPY251219C00650000"])
def test_one_unknown_ticker_is_not_found(rest: Any, ticker: str) -> None:
    status, body = rest.refusal(f"{STOCKS}/tickers/{ticker}")

    assert (status, body["status"], body["message"]) == (404, "NOT_FOUND", "Ticker not found.")


def test_the_change_is_between_the_last_price_and_the_previous_close(rest: Any) -> None:
    row = rest.json(f"{STOCKS}/tickers/AAPL")["ticker"]

    assert row["todaysChange"] == pytest.approx(row["day"]["c"] - row["prevDay"]["c"], abs=0.01)
    assert row["min"]["t"] == 1763999940000
    assert row["min"]["av"] == row["day"]["v"]


def test_quotes_and_trades_need_their_plan(rest: Any) -> None:
    url = f"{STOCKS}/tickers/AAPL"

    assert {"lastQuote", "lastTrade"} <= rest.json(url)["ticker"].keys()
    assert "lastQuote" not in rest.json(url, key="sim-developer-key")["ticker"]
    assert "lastTrade" not in rest.json(url, key="sim-starter-key")["ticker"]


def test_before_the_first_trade_of_a_day_it_is_all_zeros() -> None:
    """Vendor facts 3.7: snapshots are cleared in the night."""
    clock = ManualClock(now_ns=1_763_971_200_000_000_000)  # Monday 03:00 in New York
    market = Market(clock=SimClock(clock=clock), hours=Hours.EXCHANGE)
    client = TestClient(MassiveRestSimulator(market, Accounts(), clock))

    row = client.get(f"{STOCKS}/tickers/AAPL?apiKey=sim-key").json()["ticker"]

    assert set(row["day"].values()) == set(row["min"].values()) == {0}
    assert (row["todaysChange"], row["todaysChangePerc"], row["updated"]) == (0, 0, 0)
    assert row["prevDay"]["c"] > 0


def test_gainers_and_losers_share_nothing_and_are_sorted(rest: Any) -> None:
    risen = [row["todaysChangePerc"] for row in rest.json(f"{STOCKS}/gainers")["tickers"]]
    fallen = [row["todaysChangePerc"] for row in rest.json(f"{STOCKS}/losers")["tickers"]]

    assert risen == sorted(risen, reverse=True)
    assert fallen == sorted(fallen)
    assert all(change > 0 for change in risen)
    assert all(change < 0 for change in fallen)
    assert risen or fallen
