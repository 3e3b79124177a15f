"""Which contracts are meant, in what order: as the contracts reference and the chain show it."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from onetape.simulator.massive.pages import decode_cursor

CONTRACTS = "/v3/reference/options/contracts"
NEAR = "underlying_ticker=SPY&expiration_date.lte=2025-11-26&strike_price.gte=650"


def test_contracts_come_ten_at_a_time(rest: Any) -> None:
    page = rest.json(CONTRACTS)

    assert len(page["results"]) == 10
    assert rest.refusal(f"{CONTRACTS}?limit=1001")[0] == 400


def test_index_options_name_their_underlying_without_a_prefix(rest: Any) -> None:
    [row] = rest.json(f"{CONTRACTS}?underlying_ticker=SPX&limit=1")["results"]

    assert row["underlying_ticker"] == "SPX"
    assert row["exercise_style"] == "european"
    assert rest.json(f"{CONTRACTS}?underlying_ticker=I:SPX")["results"] == []


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    limit=st.integers(60, 1000),
    sort=st.sampled_from(["ticker", "underlying_ticker", "expiration_date", "strike_price"]),
    order=st.sampled_from(["asc", "desc"]),
)
def test_the_size_of_a_page_does_not_change_the_rows(
    rest: Any, limit: int, sort: str, order: str
) -> None:
    url = f"{CONTRACTS}?{NEAR}&sort={sort}&order={order}"

    rows = rest.rows(f"{url}&limit={limit}")

    assert rows == rest.rows(f"{url}&limit=1000") != []
    values = [row[sort] for row in rows]
    assert values == sorted(values, reverse=order == "desc")


def test_contracts_are_filtered(rest: Any) -> None:
    rows = rest.rows(f"{CONTRACTS}?{NEAR}&contract_type=call&limit=1000")

    assert {row["contract_type"] for row in rows} == {"call"}
    assert all(row["expiration_date"] <= "2025-11-26" for row in rows)
    assert all(row["strike_price"] >= 650 for row in rows)


def test_underlyings_may_be_bounded(rest: Any) -> None:
    url = f"{CONTRACTS}?underlying_ticker.gte=S&underlying_ticker.lt=SPY&expiration_date=2025-11-28"
    rows = rest.rows(f"{url}&limit=1000")

    assert {row["underlying_ticker"] for row in rows} == {"SPX"}


def test_the_deprecated_ticker_still_names_one_contract(rest: Any) -> None:
    [row] = rest.json(f"{CONTRACTS}?limit=1")["results"]

    assert rest.json(f"{CONTRACTS}?ticker={row['ticker']}")["results"] == [row]


def test_expired_contracts_are_listed_only_when_asked_for(rest: Any) -> None:
    living = rest.rows(f"{CONTRACTS}?underlying_ticker=SPY&limit=1000")
    expired = rest.json(f"{CONTRACTS}?underlying_ticker=SPY&expired=true&limit=1000")["results"]

    assert min(row["expiration_date"] for row in living) == "2025-11-24"
    assert max(row["expiration_date"] for row in expired) < "2025-11-24"


def test_a_list_may_be_that_of_an_earlier_day(rest: Any) -> None:
    rows = rest.json(f"{CONTRACTS}?underlying_ticker=SPY&as_of=2025-06-02&sort=expiration_date")

    assert rows["results"][0]["expiration_date"] == "2025-06-02"


def test_the_next_page_means_the_same_day(rest: Any) -> None:
    url = f"{CONTRACTS}?underlying_ticker=SPY&limit=1"

    cursor = parse_qs(urlsplit(str(rest.json(url)["next_url"])).query)["cursor"][0]

    assert decode_cursor(cursor)["as_of"] == "2025-11-24"


def test_adjusted_contracts_name_what_they_deliver(rest: Any) -> None:
    rows = rest.rows(f"{CONTRACTS}?underlying_ticker=AAPL&limit=1000")

    adjusted = [row for row in rows if "additional_underlyings" in row]
    assert adjusted
    assert all(row["additional_underlyings"][0]["underlying"] for row in adjusted)


def test_one_contract_is_the_row_of_the_list(rest: Any) -> None:
    [row] = rest.json(f"{CONTRACTS}?limit=1")["results"]

    assert rest.json(f"{CONTRACTS}/{row['ticker']}")["results"] == row
    assert rest.json(f"{CONTRACTS}/{row['ticker']}?as_of=2025-11-21")["results"] == row


@pytest.mark.parametrize("ticker", ["O:NONE251219C00650000", "SPY", "O:SPY2512"])
def test_an_unknown_contract_is_not_found(rest: Any, ticker: str) -> None:
    assert rest.refusal(f"{CONTRACTS}/{ticker}")[0] == 404


@pytest.mark.parametrize("bad", ["as_of=then", "expired=yes", "sort=cfi", "expiration_date=soon"])
def test_what_cannot_be_read_is_refused(rest: Any, bad: str) -> None:
    assert rest.refusal(f"{CONTRACTS}?{bad}")[0] == 400


def test_the_chain_narrows_as_the_reference_does(rest: Any) -> None:
    filters = "contract_type=put&strike_price.lte=660&expiration_date.lte=2025-11-26&limit=250"

    chain = rest.rows(f"/v3/snapshot/options/SPY?{filters}")
    reference = rest.rows(f"{CONTRACTS}?underlying_ticker=SPY&{filters}")

    assert [row["details"]["ticker"] for row in chain] == [row["ticker"] for row in reference] != []
