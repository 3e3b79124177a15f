"""Chains, universal and index snapshots: which rows, in what order, with what in them."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

SPY = "/v3/snapshot/options/SPY"
NEAR = "expiration_date.lte=2025-11-25&strike_price.gte=655&strike_price.lte=665"
CHAIN_ROW = {
    "break_even_price",
    "day",
    "details",
    "open_interest",
    "underlying_asset",
}


def tickers(rows: list[Any]) -> list[str]:
    return [row["details"]["ticker"] for row in rows]


# ---- chains ----


def test_a_chain_has_ten_rows_a_page_unless_asked_otherwise(rest: Any) -> None:
    page = rest.json(SPY)

    assert len(page["results"]) == 10
    assert page["status"] == "OK"
    assert page["results"][0].keys() >= CHAIN_ROW


def test_a_chain_over_its_maximum_is_refused(rest: Any) -> None:
    status, body = rest.refusal(f"{SPY}?limit=251")

    assert (status, body["status"]) == (400, "ERROR")


@pytest.mark.parametrize("underlying", ["SPX", "NONE", "spy", "O:SPY251219C00650000"])
def test_a_chain_of_what_has_none_is_empty(rest: Any, underlying: str) -> None:
    """3.4: a bare index is 200 with empty results."""
    page = rest.json(f"/v3/snapshot/options/{underlying}")

    assert page["results"] == []
    assert "next_url" not in page


def test_filters_narrow_a_chain(rest: Any) -> None:
    rows = rest.rows(f"{SPY}?{NEAR}&contract_type=put&limit=250")

    details = [row["details"] for row in rows]
    assert details
    assert {one["contract_type"] for one in details} == {"put"}
    assert all(655 <= one["strike_price"] <= 665 for one in details)
    assert all("2025-11-24" <= one["expiration_date"] <= "2025-11-25" for one in details)


@pytest.mark.parametrize("sort", ["ticker", "expiration_date", "strike_price"])
@pytest.mark.parametrize("order", ["asc", "desc"])
def test_a_chain_is_sorted_as_asked(rest: Any, sort: str, order: str) -> None:
    rows = rest.rows(f"{SPY}?{NEAR}&limit=250&sort={sort}&order={order}")

    values = [row["details"][sort] for row in rows]
    assert values == sorted(values, reverse=order == "desc")


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    limit=st.integers(25, 250),
    sort=st.sampled_from(["ticker", "expiration_date", "strike_price"]),
    order=st.sampled_from(["asc", "desc"]),
)
def test_the_size_of_a_page_does_not_change_the_rows(
    rest: Any, limit: int, sort: str, order: str
) -> None:
    url = f"{SPY}?{NEAR}&sort={sort}&order={order}"

    pages = rest.pages(f"{url}&limit={limit}")

    assert [row for page in pages for row in page["results"]] == rest.rows(f"{url}&limit=250")
    assert all(page["results"] for page in pages), "an empty page"
    assert all(len(page["results"]) == limit for page in pages[:-1])


@pytest.mark.parametrize(
    "bad", ["sort=delta", "order=up", "contract_type=other", "strike_price.gte=x", "limit=0"]
)
def test_what_a_chain_cannot_read_is_refused(rest: Any, bad: str) -> None:
    status, body = rest.refusal(f"{SPY}?{bad}")

    assert (status, body["status"]) == (400, "ERROR")
    assert bad.split("=")[0].split(".")[0] in body["error"]


def test_expired_contracts_are_not_in_a_chain(rest: Any) -> None:
    assert rest.rows(f"{SPY}?expiration_date.lt=2025-11-24&limit=250") == []


def test_nothing_is_null(rest: Any) -> None:
    """6.1.5: the official client fails on nulls."""
    for url in (f"{SPY}?limit=250", "/v3/snapshot?limit=250", "/v3/snapshot/indices"):
        assert "null" not in rest.get(url).text


def test_a_delayed_plan_says_so_and_sees_no_quotes(rest: Any) -> None:
    rows = rest.rows(f"{SPY}?{NEAR}&limit=250", key="sim-developer-key")

    trades = [row["last_trade"] for row in rows if "last_trade" in row]
    late_ns = rest.market.now_ns() - 15 * 60 * 1_000_000_000
    assert trades
    assert {trade["timeframe"] for trade in trades} == {"DELAYED"}
    assert all(trade["sip_timestamp"] <= late_ns for trade in trades)
    assert all("last_quote" not in row for row in rows)
    assert {row["underlying_asset"]["timeframe"] for row in rows} == {"DELAYED"}


def test_a_delayed_index_is_the_one_of_then(rest: Any) -> None:
    [row] = rest.json("/v3/snapshot/options/I:SPX?limit=1", key="sim-starter-key")["results"]

    late_ns = rest.market.now_ns() - 15 * 60 * 1_000_000_000
    assert row["underlying_asset"]["timeframe"] == "DELAYED"
    assert row["underlying_asset"]["last_updated"] <= late_ns


def test_a_starter_plan_sees_neither_quotes_nor_trades(rest: Any) -> None:
    rows = rest.rows(f"{SPY}?{NEAR}&limit=250", key="sim-starter-key")

    assert all({"last_quote", "last_trade"}.isdisjoint(row) for row in rows)
    assert any("greeks" in row for row in rows)


def test_the_underlying_is_as_fresh_as_its_own_product(rest: Any) -> None:
    """2.8: it depends on the stocks or indices plan, not on the options plan."""
    stock = rest.json(f"{SPY}?{NEAR}&limit=1", key="sim-mixed-key")["results"][0]
    index = rest.json("/v3/snapshot/options/I:SPX?limit=1", key="sim-mixed-key")["results"][0]
    only = rest.json(f"{SPY}?limit=1", key="sim-options-only-key")["results"][0]

    assert stock["underlying_asset"]["timeframe"] == "DELAYED"
    assert stock["underlying_asset"]["price"] > 0
    assert stock["last_quote"]["timeframe"] == "REAL-TIME"
    assert {"value", "price", "timeframe"}.isdisjoint(index["underlying_asset"])
    assert only["underlying_asset"].keys() == {"ticker", "change_to_break_even"}


def test_a_fair_value_needs_a_business_plan(rest: Any) -> None:
    assert "fmv" in rest.json(f"{SPY}?limit=1")["results"][0]
    assert "fmv" not in rest.json(f"{SPY}?limit=1", key="sim-advanced-key")["results"][0]


# ---- one contract ----


def test_one_contract_is_the_row_of_its_chain(rest: Any) -> None:
    row = rest.json(f"{SPY}?{NEAR}&limit=1")["results"][0]
    alone = rest.json(f"{SPY}/{row['details']['ticker']}")

    assert alone["results"] == row


@pytest.mark.parametrize("path", ["SPY/O:SPY251128C99999000", "I:SPX/{}", "AAPL/{}", "SPY/SPY"])
def test_a_contract_of_another_underlying_is_not_found(rest: Any, path: str) -> None:
    [ticker] = tickers(rest.json(f"{SPY}?limit=1")["results"])
    status, body = rest.refusal(f"/v3/snapshot/options/{path.format(ticker)}")

    assert (status, body["status"]) == (404, "NOT_FOUND")
    assert body["message"]


def test_an_expired_contract_is_not_found(rest: Any) -> None:
    url = "/v3/reference/options/contracts?underlying_ticker=SPY&expired=true&limit=1"
    [row] = rest.json(url)["results"]

    assert rest.refusal(f"{SPY}/{row['ticker']}")[0] == 404


# ---- universal ----


def test_any_mixture_of_tickers_is_answered_in_ticker_order(rest: Any) -> None:
    [option] = tickers(rest.json(f"{SPY}?limit=1")["results"])
    wanted = ["SPY", "I:VIX", "X:BTCUSD", option, "I:NONE", "AAPL"]
    rows = rest.rows(f"/v3/snapshot?ticker.any_of={','.join(wanted)}&limit=250")

    assert [row["ticker"] for row in rows] == sorted(wanted)
    assert {row["ticker"] for row in rows if "error" in row} == {"X:BTCUSD", "I:NONE"}


def test_a_failed_row_has_nothing_but_its_failure(rest: Any) -> None:
    [row] = rest.json("/v3/snapshot?ticker.any_of=TSLAAPL")["results"]

    assert row == {"error": "NOT_FOUND", "message": "Ticker not found.", "ticker": "TSLAAPL"}


def test_what_the_plan_lacks_fails_in_its_own_row(rest: Any) -> None:
    [row] = rest.json("/v3/snapshot?ticker.any_of=SPY", key="sim-options-only-key")["results"]

    assert row == {
        "error": "NOT_ENTITLED",
        "message": "Not entitled to this ticker.",
        "ticker": "SPY",
    }


def test_a_single_ticker_is_answered_as_a_list_of_one(rest: Any) -> None:
    listed = rest.json("/v3/snapshot?ticker.any_of=SPY")["results"]

    assert rest.json("/v3/snapshot?ticker=SPY")["results"] == listed
    assert rest.json("/v3/snapshot?ticker=NONE")["results"][0]["error"] == "NOT_FOUND"


def test_without_tickers_everything_of_the_type_is_paged(rest: Any) -> None:
    stocks = rest.rows("/v3/snapshot?type=stocks&limit=4")
    indices = rest.rows("/v3/snapshot?type=indices&limit=4")

    assert {row["type"] for row in stocks} == {"stocks"}
    assert {row["type"] for row in indices} == {"indices"}
    assert len(stocks) > 4
    assert rest.json("/v3/snapshot?type=crypto")["results"] == []
    assert len(rest.json("/v3/snapshot?type=options")["results"]) == 10


def test_a_type_leaves_out_the_tickers_of_others(rest: Any) -> None:
    rows = rest.rows("/v3/snapshot?type=indices&ticker.any_of=SPY,I:SPX,NONE")

    assert [(row["ticker"], row.get("error")) for row in rows] == [
        ("I:SPX", None),
        ("NONE", "NOT_FOUND"),
    ]


def test_tickers_may_be_bounded(rest: Any) -> None:
    rows = rest.rows("/v3/snapshot?ticker.gte=I:&ticker.lt=I:S&limit=250")

    assert rows
    assert all("I:" <= row["ticker"] < "I:S" for row in rows)


def test_more_than_250_tickers_are_refused(rest: Any) -> None:
    many = ",".join(f"T{number}" for number in range(251))

    assert rest.refusal(f"/v3/snapshot?ticker.any_of={many}")[0] == 400


def test_an_unfiltered_snapshot_holds_only_what_the_plan_covers(rest: Any) -> None:
    [row] = rest.json("/v3/snapshot?limit=1", key="sim-options-only-key")["results"]

    assert row["type"] == "options"


# ---- indices ----


def test_an_index_row_has_a_value_and_a_session_without_volume(rest: Any) -> None:
    [row] = rest.json("/v3/snapshot/indices?ticker.any_of=I:SPX")["results"]

    assert row["type"] == "indices"
    assert row["timeframe"] == "REAL-TIME"
    assert row["market_status"] == "regular_trading"
    assert row["value"] == row["session"]["close"] > 0
    assert "volume" not in row["session"]


def test_a_stock_is_not_found_among_indices(rest: Any) -> None:
    [row] = rest.json("/v3/snapshot/indices?ticker.any_of=SPY")["results"]

    assert row["error"] == "NOT_FOUND"


# ---- summaries ----


def test_summaries_of_nothing_are_empty(rest: Any) -> None:
    assert rest.json("/v1/summaries")["results"] == []


def test_a_summary_has_the_price_and_the_session(rest: Any) -> None:
    stock, index = rest.json("/v1/summaries?ticker.any_of=SPY,I:SPX")["results"]

    assert stock["price"] == stock["session"]["close"]
    assert index["price"] > 0
