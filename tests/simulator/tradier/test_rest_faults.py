"""Tradier's own failures; what both vendors suffer alike is in `../test_faulty_rest`."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from starlette.testclient import TestClient

from onetape.simulator.faults import (
    EmptyAnswer,
    Fail,
    FailureKind,
    Faults,
    FaultScript,
    Shape,
    StalePage,
    StaleValues,
    TradierActions,
    TradierRule,
    WrongValues,
)
from onetape.simulator.tradier.rest_faults import TradierFaults, faulty_rest
from onetape.testing import ManualClock

AT = Callable[..., Any]
CHAIN = {"symbol": "SPY", "expiration": "2025-12-19"}
WEEK = {"symbol": "SPY", "start": "2025-11-17"}
BAR = {"symbol": "SPY", "interval": "15min"}


def spoilt(at: AT, *rules: TradierRule) -> Any:
    """A Tradier with faults."""
    tradier = at()
    faults = Faults(FaultScript(rules=rules), now=tradier.clock.monotonic())
    tradier.client = TestClient(faulty_rest(tradier.client.app, faults=faults, clock=tradier.clock))
    return tradier


def always(action: TradierActions, path: str = "*") -> TradierRule:
    return TradierRule(action=action, path=path)


@pytest.mark.parametrize(
    ("kind", "status", "media", "words"),
    [
        ("datastore_error", 500, "application/json", '"faultstring":"Datastore Error"'),
        ("html", 200, "text/html", "<title>Tradier API</title>"),
        ("bad_gateway", 502, "text/html", "502 Bad Gateway"),
        ("not_found", 404, "text/plain", "Not Found"),
        ("too_big_body", 502, "application/json", '"errorcode":"protocol.http.TooBigBody"'),
        ("quota_text", 429, "text/plain", "Quota Violation"),
        ("quota_fault", 429, "application/json", "policies.ratelimit.QuotaViolation"),
        ("token_expired", 401, "application/json", "Access Token expired"),
        ("invalid_token", 401, "plain/text", "Invalid Access Token"),
        ("not_entitled", 403, "text/plain", "Forbidden"),
        ("errors", 200, "application/json", '{"errors":{"error":'),
        ("text", 503, "text/plain", "Service Unavailable"),
        ("empty_body", 200, "application/json", ""),
    ],
)
def test_every_failure_has_its_shape(
    at: AT, kind: str, status: int, media: str, words: str
) -> None:
    answer = spoilt(at, always(Fail(kind=FailureKind(kind)))).ask("clock")

    assert answer.status_code == status
    assert answer.headers["Content-Type"].startswith(media)
    assert words in answer.text
    assert answer.headers["X-Onetape-Simulated"] == "true"


def test_a_failures_status_and_words_may_be_others(at: AT) -> None:
    tradier = spoilt(
        at,
        TradierRule(action=Fail(kind=FailureKind.TEXT, status=504, message="late"), count=1),
        TradierRule(action=Fail(message="Broken"), count=1),
        TradierRule(action=Fail(kind=FailureKind.ERRORS, message="no"), count=1),
        TradierRule(action=Fail(kind=FailureKind.QUOTA_TEXT, message="Quota Violation 5"), count=1),
    )

    assert tradier.refusal("clock") == (504, "late")
    assert "Broken" in tradier.refusal("clock")[1]
    assert tradier.json("clock") == {"errors": {"error": "no"}}
    assert tradier.refusal("clock") == (429, "Quota Violation 5")
    assert tradier.json("clock")["clock"]


def test_a_quota_says_when_the_minute_ends(at: AT) -> None:
    tradier = spoilt(at, always(Fail(kind=FailureKind.QUOTA_TEXT)))
    ends_ms = int(tradier.refusal("clock")[1].split()[-1])

    assert 0 < ends_ms - tradier.clock.now_ns() // 10**6 <= 60_000


def test_a_404_may_be_passing(at: AT) -> None:
    once = TradierRule(action=Fail(kind=FailureKind.NOT_FOUND), count=1, path="/v1/markets/clock")
    tradier = spoilt(at, once)

    assert [tradier.ask("clock").status_code for _ in range(2)] == [404, 200]


@pytest.mark.parametrize(
    ("path", "params", "root", "key"),
    [
        ("options/chains", CHAIN, "options", "option"),
        ("options/strikes", CHAIN, "strikes", "strike"),
        ("options/expirations", {"symbol": "SPY"}, "expirations", "date"),
        ("options/expirations", {"symbol": "SPY", "strikes": "true"}, "expirations", "expiration"),
        ("history", WEEK, "history", "day"),
        ("timesales", BAR, "series", "data"),
        ("search", {"q": "s"}, "securities", "security"),
    ],
)
def test_every_list_can_be_two_one_or_none(
    at: AT, path: str, params: dict[str, str], root: str, key: str
) -> None:
    def shaped(**shape: Any) -> Any:
        return spoilt(at, always(Shape(**shape))).json(path, **params)

    two, one = shaped(items=2)[root][key], shaped(items=1)[root][key]

    assert len(two) == 2
    assert one == two[0]
    assert shaped(items=0) == {root: None}
    assert shaped(items=0, nothing="text") == {root: "null"}
    assert shaped(items=0, nothing="absent") == {root: {}}


def test_quotes_without_rows_are_all_unmatched(at: AT) -> None:
    none = spoilt(at, always(EmptyAnswer())).json("quotes", symbols="SPY,SPX")
    one = spoilt(at, always(EmptyAnswer())).json("quotes", symbols="SPY")

    assert none == {"quotes": {"unmatched_symbols": {"symbol": ["SPY", "SPX"]}}}
    assert one == {"quotes": {"unmatched_symbols": {"symbol": "SPY"}}}


@pytest.mark.parametrize(
    ("path", "params", "empty"),
    [
        ("options/chains", CHAIN, {"options": None}),
        ("options/chains", {"symbol": "NOPE", "expiration": "2025-12-19"}, {"options": None}),
        ("options/lookup", {"underlying": "SPY"}, {"symbols": None}),
    ],
)
def test_an_empty_answer_is_null(at: AT, path: str, params: dict[str, str], empty: Any) -> None:
    assert spoilt(at, always(EmptyAnswer())).json(path, **params) == empty


def test_what_is_no_list_keeps_its_shape(at: AT) -> None:
    assert spoilt(at, always(EmptyAnswer())).json("clock")["clock"]["state"] == "open"
    assert len(spoilt(at, always(Shape())).chain("SPY", "2025-12-19")) > 2


@pytest.mark.parametrize(("path", "params"), [("history", WEEK), ("timesales", BAR)])
def test_a_bar_may_have_no_numbers(at: AT, path: str, params: dict[str, str]) -> None:
    answer = spoilt(at, always(Shape(nan=True))).json(path, **params)
    ((rows,),) = [list(inner.values()) for inner in answer.values()]

    assert [rows[0][key] for key in ("open", "high", "low", "close")] == ["NaN"] * 4
    assert rows[0]["volume"] > 0
    assert rows[1]["open"] > 0
    assert spoilt(at, always(Shape(nan=True))).json("clock")["clock"]


def test_greeks_and_quotes_can_be_wrong(at: AT) -> None:
    rules = (
        always(WrongValues(), "/v1/markets/options/*"),
        always(WrongValues(fields=("bid", "ask"), times=10.0), "/v1/markets/quotes"),
    )
    wrong, right = spoilt(at, *rules), at()
    rows = wrong.chain("SPY", "2025-12-19", greeks="true")

    assert min(row["greeks"]["gamma"] for row in rows) < 0
    assert wrong.quote("SPY")["bid"] == pytest.approx(10 * right.quote("SPY")["bid"])
    assert wrong.quote("SPY")["last"] == right.quote("SPY")["last"]


def test_xml_is_left_alone(at: AT) -> None:
    tradier = spoilt(at, always(WrongValues(fields=("timestamp",), times=2.0)))

    assert tradier.ask("clock", accept=None).text == at().ask("clock", accept=None).text


def test_pages_are_kept_only_while_they_may_be_wanted() -> None:
    clock = ManualClock()

    def keeps(*rules: TradierRule) -> bool:
        return TradierFaults(Faults(FaultScript(rules=rules)), clock).keeps_pages()

    assert keeps(always(StalePage()))
    assert not keeps(always(StaleValues()))


def test_a_list_without_a_root_is_left_alone() -> None:
    tree = [msgspec.json.decode(b"{}")]

    TradierFaults(Faults(), ManualClock()).reshape(EmptyAnswer(), tree)

    assert tree == [{}]
