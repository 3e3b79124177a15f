"""Keys, limits, errors, headers and links of the simulated REST API."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from starlette.testclient import TestClient

from onetape.simulator.market import Hours, Market, SimClock
from onetape.simulator.massive.accounts import Accounts
from onetape.simulator.massive.pages import decode_cursor
from onetape.simulator.massive.rest import ENDPOINTS, MassiveRestSimulator
from onetape.testing import ManualClock

STATUS = "/v1/marketstatus/now"
CHAIN = "/v3/snapshot/options/SPY?limit=1"
TOO_MANY = (
    "You've exceeded the maximum requests per minute, please wait or upgrade your subscription "
    "to continue. https://polygon.io/pricing"
)


def simulator(clock: ManualClock, **options: Any) -> TestClient:
    market = Market(clock=SimClock(clock=clock), hours=Hours.EXCHANGE)
    return TestClient(MassiveRestSimulator(market, Accounts(), clock, **options))


# ---- keys ----


def test_the_key_is_taken_from_the_query_or_the_bearer_header(rest: Any) -> None:
    assert rest.get(f"{STATUS}?apiKey=sim-key", key=None).status_code == 200
    assert rest.get(STATUS, key=None, Authorization="Bearer sim-key").status_code == 200
    assert rest.get(STATUS, key=None, Authorization="bearer sim-key-2").status_code == 200


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer "}, {"Authorization": "Basic x"}]
)
def test_a_request_without_a_key_is_told_so(rest: Any, headers: dict[str, str]) -> None:
    answer = rest.get(STATUS, key=None, **headers)

    body = answer.json()
    assert answer.status_code == 401
    assert body == {
        "status": "ERROR",
        "request_id": answer.headers["X-Request-Id"],
        "error": "API Key was not provided",
    }


@pytest.mark.parametrize("url", [STATUS, f"{STATUS}?apiKey=other", "/v3/snapshot/options/SPY"])
def test_an_unknown_key_is_told_so_before_anything_else(rest: Any, url: str) -> None:
    status, body = rest.refusal(url, key="other")

    assert (status, body["status"], body["error"]) == (401, "ERROR", "Unknown API Key")


def test_no_answer_contains_the_key(rest: Any) -> None:
    answer = rest.get("/v3/reference/options/contracts?limit=1&apiKey=sim-key", key=None)

    cursor = parse_qs(urlsplit(str(answer.json()["next_url"])).query)["cursor"][0]
    assert "sim-key" not in answer.text
    assert "apiKey" not in decode_cursor(cursor)


# ---- plans ----


@pytest.mark.parametrize(
    ("url", "key"),
    [
        (CHAIN, "sim-basic-key"),
        ("/v3/snapshot", "sim-basic-key"),
        ("/v3/snapshot/indices", "sim-options-only-key"),
        ("/v3/snapshot/indices", "sim-mixed-key"),
        ("/v2/aggs/ticker/SPY/range/1/day/2025-11-01/2025-11-20", "sim-options-only-key"),
        ("/v2/aggs/ticker/SPY/range/1/second/2025-11-20/2025-11-20", "sim-basic-key"),
        ("/v3/trades/SPY", "sim-starter-key"),
        ("/v3/quotes/SPY", "sim-developer-key"),
        ("/v2/last/nbbo/SPY", "sim-developer-key"),
        ("/v2/last/trade/SPY", "sim-starter-key"),
        ("/v2/snapshot/locale/us/markets/stocks/tickers", "sim-options-only-key"),
    ],
)
def test_what_the_plan_lacks_is_not_authorized(rest: Any, url: str, key: str) -> None:
    status, body = rest.refusal(url, key=key)

    assert (status, body["status"]) == (403, "NOT_AUTHORIZED")
    assert body["message"] == (
        "You are not entitled to this data. Please upgrade your plan at https://massive.com/pricing"
    )
    assert "error" not in body


@pytest.mark.parametrize("key", ["sim-starter-key", "sim-options-only-key", "sim-mixed-key"])
def test_reference_data_is_in_every_plan(rest: Any, key: str) -> None:
    for url in ("/v3/reference/tickers", "/v3/reference/exchanges", STATUS):
        assert rest.get(url, key=key).status_code == 200


# ---- the limit per minute ----


def test_the_sixth_call_of_a_minute_is_too_many_on_a_basic_plan() -> None:
    clock = ManualClock()
    client = simulator(clock)
    url = f"{STATUS}?apiKey=sim-basic-key"

    answers = [client.get(url) for _ in range(6)]
    clock.advance(60)

    assert [answer.status_code for answer in answers] == [200] * 5 + [429]
    body = answers[-1].json()
    assert (body["status"], body["error"]) == ("ERROR", TOO_MANY)
    assert body["request_id"] == answers[-1].headers["X-Request-Id"]
    assert "Retry-After" not in answers[-1].headers
    assert client.get(url).status_code == 200


def test_retry_after_is_sent_when_the_fault_script_wants_it() -> None:
    client = simulator(ManualClock(), retry_after=lambda: "12")

    answers = [client.get(f"{STATUS}?apiKey=sim-basic-key") for _ in range(6)]

    assert answers[-1].headers["Retry-After"] == "12"
    assert "Retry-After" not in answers[0].headers


def test_a_paid_plan_has_no_limit_per_minute() -> None:
    client = simulator(ManualClock())

    assert {client.get(f"{STATUS}?apiKey=sim-key").status_code for _ in range(20)} == {200}


# ---- routes and headers ----


@pytest.mark.parametrize(
    "url",
    [
        "/",
        "/v3/snapshots",
        "/v3/snapshot/",
        "/v1/last/crypto/BTC/USD",
        "/v2/ticks/stocks/trades/A/D",
    ],
)
def test_an_unknown_route_is_404_in_plain_text(rest: Any, url: str) -> None:
    answer = rest.get(url)

    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.headers["X-Onetape-Simulated"] == "true"


@pytest.mark.parametrize("url", [STATUS, "/nowhere", "/v3/trades/I:SPX", CHAIN])
def test_every_answer_says_that_it_is_simulated(rest: Any, url: str) -> None:
    assert rest.get(url).headers["X-Onetape-Simulated"] == "true"


def test_the_request_id_is_32_hex_digits_in_the_body_and_in_the_header(rest: Any) -> None:
    answer = rest.get(CHAIN)

    identifier = answer.headers["X-Request-Id"]
    assert answer.json()["request_id"] == identifier
    assert len(identifier) == 32
    assert int(identifier, 16) >= 0


@pytest.mark.parametrize("url", [STATUS, "/v1/marketstatus/upcoming"])
def test_the_market_status_pair_has_no_request_id(rest: Any, url: str) -> None:
    answer = rest.get(url)

    assert "X-Request-Id" not in answer.headers
    assert "request_id" not in answer.text


def test_a_head_request_is_answered_without_being_refused(rest: Any) -> None:
    answer = rest.get(CHAIN, method="HEAD")

    assert answer.status_code == 200
    assert answer.headers["X-Request-Id"]


def test_other_methods_are_not_served(rest: Any) -> None:
    assert rest.get(CHAIN, method="POST").status_code == 405


def test_unknown_parameters_are_ignored(rest: Any) -> None:
    """6.1.1: the official client sends `options=<object at 0x…>`."""
    answer = rest.json(f"{CHAIN}&options=%3Cmassive.rest%20object%20at%200x7f%3E&x.gte=1")

    assert len(answer["results"]) == 1


def test_a_colon_in_a_path_may_be_encoded(rest: Any) -> None:
    plain = rest.json("/v3/snapshot/options/I:SPX?limit=2")
    encoded = rest.json("/v3/snapshot/options/I%3ASPX?limit=2")

    assert plain["results"] == encoded["results"] != []


@pytest.mark.parametrize(
    ("headers", "origin"),
    [
        ({}, "http://testserver"),
        ({"Host": "gw:8080"}, "http://gw:8080"),
        ({"X-Forwarded-Proto": "https", "X-Forwarded-Host": "gw.example"}, "https://gw.example"),
        ({"X-Forwarded-Proto": "https,http", "Host": "a"}, "https://a"),
    ],
)
def test_the_next_page_is_where_the_caller_called(
    rest: Any, headers: dict[str, str], origin: str
) -> None:
    answer = rest.get(CHAIN, **headers)

    assert answer.json()["next_url"].startswith(f"{origin}/v3/snapshot/options/SPY?cursor=")


@pytest.mark.parametrize("cursor", ["%C3%A4", "a", "YXA9WzFd", "YXA9e30"])
def test_a_cursor_that_is_none_is_refused(rest: Any, cursor: str) -> None:
    status, body = rest.refusal(f"/v3/snapshot/options/SPY?cursor={cursor}")

    assert (status, body["status"]) == (400, "ERROR")


def test_a_large_answer_holds_the_rows_of_small_ones(rest: Any) -> None:
    """It is encoded in pieces, so that the event loop gets its turn."""
    large = rest.json("/v3/quotes/SPY?limit=4500")["results"]
    url = "/v3/quotes/SPY?limit=1500"
    small: list[Any] = []
    for _ in range(3):
        page = rest.json(url)
        small += page["results"]
        url = str(page["next_url"]).removeprefix("http://testserver")

    assert large == small


def test_no_two_endpoints_share_a_path() -> None:
    paths = [endpoint.path for endpoint in ENDPOINTS]

    assert len(paths) == len(set(paths))


# ---- the vendor's own tests ----


@pytest.mark.parametrize(
    "url",
    [
        "/v1/indicators/ema/AAPL?timestamp.lte=1478393873000&timestamp.gte=1477972800000"
        "&window=5&adjusted=false",
        "/v1/indicators/macd/SPY?timestamp.gt=2022-08-09&long_window=20&signal_window=10",
        "/v1/indicators/rsi/AAPL?timestamp.gt=2025-11-24&timespan=minute&window=20&adjusted=true",
        "/v1/indicators/sma/AAPL?timestamp=1483958600&timespan=quarter&window=30"
        "&expand_underlying=true",
        "/v1/summaries?ticker.any_of=NCLH%2CO%3ANCLH221014C00005000%2CC%3AEURUSD%2CX%3ABTCUSD%2CAPx",
        "/v2/aggs/grouped/locale/us/market/stocks/2005-04-04"
        "?adjusted=true&locale=us&market_type=stocks&include_otc=false",
        "/v2/aggs/ticker/AAPL/prev",
        "/v2/aggs/ticker/AAPL/range/1/day/2005-04-01/2005-04-04",
        "/v2/last/nbbo/AAPL",
        "/v2/last/trade/AAPL",
        "/v2/reference/news?ticker=NFLX",
        "/v2/snapshot/locale/us/markets/stocks/tickers/AAPL",
        "/v2/snapshot/locale/us/markets/stocks/tickers?include_otc=false",
        "/v3/quotes/AAPL",
        "/v3/reference/conditions?asset_class=stocks",
        "/v3/reference/dividends",
        "/v3/reference/splits",
        "/v3/reference/exchanges?asset_class=stocks",
        "/v3/reference/options/contracts",
        "/v3/reference/tickers?limit=10&sort=ticker&order=asc",
        "/v3/reference/tickers/AAPL?ticker=AAPL&date=2020-10-01",
        "/v3/reference/tickers/types?asset_class=stocks",
        "/v3/snapshot?limit=10",
        "/v3/snapshot/indices?ticker.any_of=SPX%2CAPx%2CAPy",
        "/v3/snapshot/options/AAPL",
        "/v3/trades/AAPL?limit=2",
        "/vX/reference/tickers/META/events?types=ticker_change",
    ],
)
def test_what_the_official_clients_own_tests_ask_is_answered(rest: Any, url: str) -> None:
    """6.3: 200, or a 404 in the vendor's shape for a ticker we do not simulate."""
    answer = rest.get(url)

    assert answer.status_code in {200, 404}
    assert answer.json()["request_id"] == answer.headers["X-Request-Id"]


@pytest.mark.parametrize(
    "url",
    [
        "/v1/conversion/AUD/USD?amount=100&precision=2",
        "/v1/last/crypto/BTC/USD",
        "/v1/last_quote/currencies/AUD/USD",
        "/v2/snapshot/locale/global/markets/crypto/tickers/X:BTCUSD/book",
    ],
)
def test_currencies_are_no_route(rest: Any, url: str) -> None:
    assert rest.get(url).status_code == 404
