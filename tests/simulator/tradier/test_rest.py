"""The edge of the REST half: token, limit, formats; handlers are tested by themselves."""

from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest
from hypothesis import given, settings, strategies as st

from onetape.simulator.tradier.rest import ENDPOINTS

AT = Callable[..., Any]
RATE_HEADERS = ("X-Ratelimit-Allowed", "X-Ratelimit-Used", "X-Ratelimit-Available")


@pytest.mark.parametrize("token", [None, "", "sim-key", "sim-tradier-token-2"])
def test_a_missing_or_wrong_token_is_refused_in_the_vendors_way(tradier: Any, token: Any) -> None:
    """Captured: 20 bytes of `plain/text`, CORS headers, and nothing of limits."""
    answer = tradier.ask("clock", token=token)

    assert (answer.status_code, answer.text) == (401, "Invalid Access Token")
    assert answer.headers["Content-Type"] == "plain/text"
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert not [name for name in answer.headers if "ratelimit" in name.lower()]


def test_every_answer_says_that_it_is_simulated(tradier: Any) -> None:
    answers = [
        tradier.ask("clock"),
        tradier.ask("clock", accept=None),
        tradier.ask("clock", token="no"),
        tradier.ask("quotes"),
        tradier.client.get("/v1/nothing"),
    ]

    assert [answer.status_code for answer in answers] == [200, 200, 401, 400, 404]
    assert {answer.headers["X-Onetape-Simulated"] for answer in answers} == {"true"}


def test_json_comes_in_chunks_and_with_a_charset(tradier: Any) -> None:
    answer = tradier.ask("clock")

    assert answer.headers["Content-Type"] == "application/json;charset=UTF-8"
    assert "Content-Length" not in answer.headers


@pytest.mark.parametrize("accept", [None, "application/xml", "text/html"])
def test_without_accepting_json_it_is_xml(tradier: Any, accept: str | None) -> None:
    answer = tradier.ask("quotes", accept=accept, symbols="SPY,NOPE")
    root = ElementTree.fromstring(answer.text)

    assert answer.headers["Content-Type"].startswith("application/xml")
    assert root.findtext("quote/symbol") == "SPY"
    assert root.findtext("unmatched_symbols/symbol") == "NOPE"
    empty = tradier.ask("options/expirations", accept=accept, symbol="NOPE")
    assert empty.text.endswith("<expirations/>")


def test_or_it_is_406(at: AT) -> None:
    tradier = at(without_accept="refuse")

    assert tradier.refusal("clock", accept=None) == (406, "Not Acceptable")
    assert tradier.ask("clock").status_code == 200


def test_calls_are_counted_by_the_minute_of_the_clock(at: AT) -> None:
    tradier = at(calls_per_minute=3)
    first = tradier.ask("clock")
    answers = [tradier.ask("clock") for _ in range(3)]
    expiry = int(first.headers["X-Ratelimit-Expiry"])

    assert [first.headers[name] for name in RATE_HEADERS] == ["3", "1", "2"]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert expiry % 60_000 == 0
    assert 0 < expiry - tradier.clock.now_ns() // 10**6 <= 60_000
    assert "X-Ratelimit-Used" not in answers[-1].headers
    tradier.clock.advance(60)
    assert tradier.ask("clock").headers["X-Ratelimit-Used"] == "1"


def test_a_429_says_in_words_when_it_ends(at: AT) -> None:
    tradier = at(calls_per_minute=1)
    expiry = tradier.ask("clock").headers["X-Ratelimit-Expiry"]
    text = tradier.refusal("clock")[1]

    assert text.startswith("Quota Violation")
    assert text.split()[-1] == expiry


def test_or_as_a_fault_of_the_gateways(at: AT) -> None:
    tradier = at(calls_per_minute=1, quota_body="fault")
    tradier.ask("clock")
    answer = tradier.ask("clock")

    fault = msgspec.json.decode(answer.content)["fault"]
    assert answer.status_code == 429
    assert answer.headers["Content-Type"].startswith("application/json")
    assert fault["detail"]["errorcode"] == "policies.ratelimit.QuotaViolation"


def test_refused_parameters_count_and_refused_tokens_do_not(at: AT) -> None:
    tradier = at(calls_per_minute=2)
    tradier.ask("clock", token="no")
    tradier.ask("quotes")

    assert tradier.ask("clock").headers["X-Ratelimit-Used"] == "2"


def test_counters_may_lag(at: AT) -> None:
    tradier = at(calls_per_minute=100, used_jitter=True)
    told = [int(tradier.ask("clock").headers["X-Ratelimit-Used"]) for _ in range(12)]

    assert told != sorted(set(told))
    assert all(1 <= used <= place for place, used in enumerate(told, 1))


def test_a_session_is_a_post_and_says_where_the_http_stream_is(tradier: Any) -> None:
    answer = tradier.json("events/session", method="POST")

    assert answer["stream"]["sessionid"] == "session-1"
    assert answer["stream"]["url"] == "http://testserver/v1/markets/events"
    assert tradier.ask("events/session").status_code == 405
    assert tradier.refusal("events/session", method="POST", token="no")[0] == 401


def test_every_endpoint_is_below_markets_and_get() -> None:
    assert len(ENDPOINTS) == 12
    assert all(one.path.startswith("/markets/") and "GET" in one.methods for one in ENDPOINTS)


NAMES = [
    "SPY",
    "spx",
    "SPXW",
    "SPY251219C00650000",
    "SPY251121C00650000",
    "BRK/B",
    "é,,*",
    "",
    "A" * 99,
]
DAYS = [
    "2025-11-24",
    "2025-12-19",
    "0001-01-01",
    "9999-12-31",
    "2025-02-30",
    "now",
    "2025-11-24 09:30",
    "",
]
params = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("symbol", "symbols", "underlying", "q"), st.sampled_from(NAMES)),
        **dict.fromkeys(("start", "end", "expiration"), st.sampled_from(DAYS)),
        "interval": st.sampled_from(["daily", "weekly", "monthly", "tick", "15min", "1h"]),
        **dict.fromkeys(
            ("strike", "month", "year"), st.sampled_from(["1", "-1", "nan", "2025", "٣", "²"])
        ),
        **dict.fromkeys(("greeks", "strikes", "includeAllRoots"), st.sampled_from(["true", "no"])),
        "session_filter": st.sampled_from(["open", "all", "x"]),
        "type": st.sampled_from(["call", "straddle"]),
    },
)


@settings(max_examples=100)
@given(path=st.sampled_from([one.path for one in ENDPOINTS]), asked=params, accept=st.booleans())
def test_no_question_breaks_it(sunday: Any, path: str, asked: dict[str, str], accept: bool) -> None:
    answer = sunday.ask(
        path.removeprefix("/markets/"), accept="application/json" if accept else None, **asked
    )

    assert answer.status_code in {200, 400, 502}, answer.text
    if answer.status_code == 200 and accept:
        assert isinstance(msgspec.json.decode(answer.content), dict)
