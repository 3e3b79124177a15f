"""Trades and quotes: order, pages, plans."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from onetape.simulator.massive.pages import encode_cursor

MINUTE = "timestamp.gte=1763996400000000000&timestamp.lt=1763996460000000000"


def option_of(rest: Any) -> str:
    rows = rest.rows(
        "/v3/snapshot/options/SPY?expiration_date.lte=2025-11-24&strike_price.gte=655&limit=250"
    )
    return max(rows, key=lambda row: row["day"].get("volume", 0))["details"]["ticker"]


@pytest.mark.parametrize("kind", ["trades", "quotes"])
def test_the_newest_comes_first_unless_asked_otherwise(rest: Any, kind: str) -> None:
    down = rest.rows(f"/v3/{kind}/SPY?{MINUTE}")
    up = rest.rows(f"/v3/{kind}/SPY?{MINUTE}&order=asc")

    assert down == up[::-1] != []
    times = [row["sip_timestamp"] for row in up]
    assert times == sorted(times)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    limit=st.integers(5, 400),
    kind=st.sampled_from(["trades", "quotes"]),
    order=st.sampled_from(["asc", "desc"]),
)
def test_the_size_of_a_page_does_not_change_the_rows(
    rest: Any, limit: int, kind: str, order: str
) -> None:
    url = f"/v3/{kind}/SPY?{MINUTE}&order={order}"

    pages = rest.pages(f"{url}&limit={limit}")

    assert [row for page in pages for row in page["results"]] == rest.rows(f"{url}&limit=50000")
    assert all(page["results"] for page in pages), "an empty page"


def test_ticks_of_one_instant_may_be_parted_by_a_page(rest: Any) -> None:
    """A position is a time and a sequence, because times are not unique."""
    [tick] = rest.json("/v3/trades/SPY?limit=1")["results"]
    at_ns, sequence = tick["sip_timestamp"], tick["sequence_number"]

    def after(sequence: int, order: str) -> list[int]:
        cursor = encode_cursor({"limit": "1", "order": order}, f"[{at_ns},{sequence}]")
        rows = rest.json(f"/v3/trades/SPY?cursor={cursor}")["results"]
        return [row["sequence_number"] for row in rows]

    assert after(sequence + 1, "desc") == [sequence]
    assert after(sequence - 1, "asc") == [sequence]
    assert after(sequence, "asc") != [sequence] != after(sequence, "desc")


def test_sequences_are_unique_exact_integers(rest: Any) -> None:
    rows = rest.rows(f"/v3/trades/SPY?{MINUTE}&limit=10")

    sequences = [row["sequence_number"] for row in rows]
    assert len(sequences) == len(set(sequences))
    assert all(isinstance(row["sip_timestamp"], int) for row in rows)


def test_without_a_time_the_newest_of_all_are_given(rest: Any) -> None:
    page = rest.json("/v3/trades/SPY?limit=5")

    newest = rest.json("/v2/last/trade/SPY")["results"]
    assert page["results"][0]["sip_timestamp"] == newest["t"]
    assert "next_url" in page


def test_a_whole_day_may_be_named_by_its_date(rest: Any) -> None:
    [first] = rest.json("/v3/trades/SPY?timestamp=2025-11-20&order=asc&limit=1")["results"]
    [last] = rest.json("/v3/trades/SPY?timestamp=2025-11-20&limit=1")["results"]

    assert 1763614800000000000 <= first["sip_timestamp"] < last["sip_timestamp"]
    assert last["sip_timestamp"] < 1763701200000000000


def test_an_options_quote_has_no_participant_time(rest: Any) -> None:
    ticker = option_of(rest)
    [quote] = rest.json(f"/v3/quotes/{ticker}?limit=1")["results"]
    [stock] = rest.json("/v3/quotes/SPY?limit=1")["results"]

    assert "participant_timestamp" not in quote
    assert "participant_timestamp" in stock
    assert quote["ask_price"] >= quote["bid_price"]


def test_an_options_trade_has_no_id(rest: Any) -> None:
    ticker = option_of(rest)
    [trade] = rest.json(f"/v3/trades/{ticker}?limit=1")["results"]

    assert "id" not in trade
    assert trade["conditions"]
    assert rest.json(f"/v2/last/trade/{ticker}")["results"]["i"] == ""


@pytest.mark.parametrize("kind", ["trades", "quotes"])
def test_unknown_tickers_have_an_empty_history(rest: Any, kind: str) -> None:
    body = rest.json(f"/v3/{kind}/NONE")

    assert body["results"] == []
    assert "next_url" not in body


@pytest.mark.parametrize(
    "url",
    [
        "/v3/trades/I:SPX",
        "/v3/quotes/I:SPX",
        "/v3/trades/X:BTCUSD",
        "/v2/last/trade/I:SPX",
        "/v2/last/trade/NONE",
        "/v2/last/nbbo/NONE",
        "/v2/last/nbbo/O:SPY251219C00650000",
    ],
)
def test_what_has_no_tape_is_not_found(rest: Any, url: str) -> None:
    status, body = rest.refusal(url)

    assert (status, body["status"], body["message"]) == (404, "NOT_FOUND", "Ticker not found.")


@pytest.mark.parametrize("bad", ["limit=50001", "order=up", "sort=price", "timestamp.gte=soon"])
def test_what_cannot_be_read_is_refused(rest: Any, bad: str) -> None:
    assert rest.refusal(f"/v3/trades/SPY?{bad}")[0] == 400


def test_a_cursor_of_another_list_is_refused(rest: Any) -> None:
    assert rest.refusal("/v3/trades/SPY?cursor=YXA9JTVCMSU1RA")[0] == 400


def test_a_cursor_outside_its_own_span_is_refused(rest: Any) -> None:
    cursor = encode_cursor({"timestamp.gte": "500"}, "[7,1]")

    assert rest.refusal(f"/v3/trades/SPY?cursor={cursor}")[0] == 400


def test_a_delayed_plan_sees_no_newer_trade(rest: Any) -> None:
    late_ns = rest.market.now_ns() - 15 * 60 * 1_000_000_000
    [newest] = rest.json("/v3/trades/SPY?limit=1", key="sim-developer-key")["results"]
    last = rest.json("/v2/last/trade/SPY", key="sim-developer-key")["results"]

    assert newest["sip_timestamp"] == last["t"] <= late_ns
