"""What can be asked of Tradier, and what its answers are worth."""

from datetime import date

import pytest
from hypothesis import given, strategies as st

from onetape.calendar import NEW_YORK
from onetape.errors import (
    InvalidRequest,
    InvalidSymbol,
    UpstreamDown,
    UpstreamError,
    UpstreamForbidden,
    UpstreamGarbled,
    UpstreamThrottled,
    UpstreamTimeout,
)
from onetape.tradier.wire_rest import (
    Again,
    Hours,
    Intraday,
    Period,
    RateLimits,
    Refusal,
    as_list,
    ask_calendar,
    ask_chain,
    ask_clock,
    ask_expirations,
    ask_history,
    ask_lookup,
    ask_quotes,
    ask_session,
    ask_strikes,
    ask_timesales,
    date_of,
    epoch_ns,
    number,
    rate_limits,
    refusal_of,
)

JSON = "application/json;charset=UTF-8"
TEXT = "plain/text"
NOW_NS = 1_764_000_000_000_000_000
HTML = b"<!DOCTYPE html><html><head><title>Tradier API</title></head></html>"


def judge(status: int, body: bytes, kind: str = JSON, *, root: str = "quotes") -> Refusal | None:
    return refusal_of(status, kind, body, root=root, now_ns=NOW_NS)


def refused(status: int, body: bytes, kind: str = TEXT) -> Refusal:
    refusal = judge(status, body, kind)
    assert refusal is not None
    return refusal


def test_symbols_are_asked_for_as_tradier_writes_them() -> None:
    asked = ask_quotes(["BRK.B", "I:SPX", "O:SPY251219C00650000", "SPY", "SPY"], greeks=True)

    assert asked.params == {"symbols": "BRK/B,SPX,SPY251219C00650000,SPY", "greeks": "true"}
    assert (asked.path, asked.root) == ("/markets/quotes", "quotes")


def test_a_request_for_no_symbol_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        ask_quotes([])


def test_a_symbol_of_no_shape_is_refused() -> None:
    with pytest.raises(InvalidSymbol):
        ask_quotes(["not a symbol"])


def test_a_chain_names_its_expiration_and_the_underlying_not_the_root() -> None:
    """W-70."""
    asked = ask_chain("I:SPX", date(2026, 8, 21))

    assert asked.params == {"symbol": "SPX", "expiration": "2026-08-21", "greeks": "true"}
    assert ask_chain("SPXW", date(2026, 8, 21)).params["symbol"] == "SPX"


def test_expirations_and_strikes_are_of_all_roots() -> None:
    assert ask_expirations("I:SPX").params == {
        "symbol": "SPX",
        "includeAllRoots": "true",
        "contractSize": "true",
        "expirationType": "true",
    }
    assert ask_strikes("SPY", date(2026, 1, 16)).params["includeAllRoots"] == "true"
    assert ask_lookup("BRK.B").params == {"underlying": "BRK/B"}


def test_timesales_are_asked_for_by_new_yorks_clock() -> None:
    """R215."""
    start_ns, end_ns = 1_779_370_200_000_000_000, 1_779_393_659_000_000_000  # 9:30:00, 16:00:59
    asked = ask_timesales("SPY", start_ns, end_ns, interval=Intraday.FIVE_MINUTES)

    assert asked.params == {
        "symbol": "SPY",
        "interval": "5min",
        "start": "2026-05-21 09:30",
        "end": "2026-05-21 16:00",
        "session_filter": "all",
    }
    assert [one.seconds for one in Intraday] == [60, 300, 900]


def test_the_other_questions() -> None:
    history = ask_history(
        "SPY", date(2024, 2, 1), date(2024, 2, 2), period=Period.WEEKLY, hours=Hours.OPEN
    )

    assert history.params["interval"] == "weekly"
    assert history.params["session_filter"] == "open"
    assert ask_calendar(2026, 2).params == {"month": "02", "year": "2026"}
    assert ask_clock().root == "clock"
    assert ask_session().post


@pytest.mark.parametrize(
    ("value", "items"),
    [
        (None, []),
        ("null", []),
        ("", []),
        ("2026-01-16", ["2026-01-16"]),
        (150.0, [150.0]),
        ({"symbol": "A"}, [{"symbol": "A"}]),
        ([1, 2], [1, 2]),
        ([], []),
    ],
)
def test_one_or_many_or_none_is_a_list(value: object, items: list[object]) -> None:
    assert as_list(value) == items


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (1, 1.0),
        (-9.238670289776906e-4, -9.238670289776906e-4),
        ("373.45", 373.45),
        ("NaN", None),
        ("Infinity", None),
        ("", None),
        (None, None),
        (True, None),
        ("abc", None),
        (10**400, None),
        (0.0, 0.0),
    ],
)
def test_a_number_is_finite_or_none(value: float | str | None, found: float | None) -> None:
    assert number(value) == found


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (1779480000301, 1_779_480_000_301_000_000),
        ("1609447718018", 1_609_447_718_018_000_000),
        (1557156988, 1_557_156_988_000_000_000),
        ("1557156988.5", 1_557_156_988_500_000_000),
        (0, None),
        ("0", None),
        (None, None),
        (-1, None),
        ("NaN", None),
        (True, None),
        (10**30, None),
        ("9" * 400, None),
    ],
)
def test_an_instant_is_milliseconds_or_seconds(
    value: float | str | None, found: int | None
) -> None:
    assert epoch_ns(value) == found


def test_a_day_is_a_day_or_none() -> None:
    assert date_of("2026-01-16") == date(2026, 1, 16)
    assert date_of("soon") is None


@pytest.mark.parametrize("expiry", ["1719590820000", "1719590820"])
def test_rate_headers_expire_in_milliseconds_or_seconds(expiry: str) -> None:
    headers = {
        "X-Ratelimit-Allowed": "200",
        "X-Ratelimit-Available": "0",
        "X-Ratelimit-Expiry": expiry,
    }

    assert rate_limits(headers) == RateLimits(200, 0, 1_719_590_820_000_000_000)
    assert rate_limits({}) == RateLimits(None, None, None)
    assert rate_limits({"X-Ratelimit-Allowed": "many"}).allowed is None


@pytest.mark.parametrize(
    "body", [b'{"quotes":null}', b'{"quotes":"null"}', b'{"quotes":{"quote":[]}}']
)
def test_an_answer_with_its_member_is_good(body: bytes) -> None:
    assert judge(200, body) is None


CASES: list[tuple[int, bytes, str, type[Exception], Again]] = [
    (200, b"{}", JSON, UpstreamGarbled, Again.NEVER),
    (200, HTML, "text/html", UpstreamDown, Again.LATER),
    (200, b'{"quotes":', JSON, UpstreamDown, Again.LATER),
    (200, b"<quotes/>", "application/xml", UpstreamDown, Again.LATER),
    (200, b"[]", JSON, UpstreamDown, Again.LATER),
    (200, b'{"errors":{"error":"no"}}', JSON, InvalidRequest, Again.NEVER),
    (200, b'{"errors":{"error":["a","b"]}}', JSON, InvalidRequest, Again.NEVER),
    (200, b'{"errors":null,"fault":null}', JSON, UpstreamDown, Again.LATER),
    (400, b"Invalid parameter, start: must be a date.", TEXT, InvalidRequest, Again.NEVER),
    (400, b"", TEXT, InvalidRequest, Again.NEVER),
    (401, b"Invalid Access Token", TEXT, UpstreamForbidden, Again.ONCE),
    (401, b"", TEXT, UpstreamForbidden, Again.ONCE),
    (401, b"Invalid API call as no apiproduct match found", TEXT, UpstreamForbidden, Again.ONCE),
    (
        401,
        b'{"fault":{"faultstring":"Access Token expired","detail":'
        b'{"errorcode":"keymanagement.service.access_token_expired"}}}',
        JSON,
        UpstreamForbidden,
        Again.NEVER,
    ),
    (403, b"", TEXT, UpstreamForbidden, Again.NEVER),
    (404, b"", TEXT, UpstreamDown, Again.LATER),
    (408, b"", TEXT, UpstreamTimeout, Again.LATER),
    (409, b"", TEXT, UpstreamDown, Again.LATER),
    (418, b"", TEXT, InvalidRequest, Again.NEVER),
    (429, b"slow down", TEXT, UpstreamThrottled, Again.LATER),
    (
        429,
        b'{"fault":{"faultstring":"Rate limit quota violation. Quota limit exceeded.",'
        b'"detail":{"errorcode":"policies.ratelimit.QuotaViolation"}}}',
        JSON,
        UpstreamThrottled,
        Again.LATER,
    ),
    (
        500,
        b'{"fault":{"faultstring":"Datastore Error","detail":{"errorcode":"x"}}}',
        JSON,
        UpstreamDown,
        Again.LATER,
    ),
    (500, b'{"fault":{"faultstring":"?"}}', JSON, UpstreamDown, Again.LATER),
    (500, b'{"fault":7}', JSON, UpstreamDown, Again.LATER),
    (502, HTML, "text/html", UpstreamDown, Again.LATER),
    (530, b"", TEXT, UpstreamDown, Again.LATER),
]


@pytest.mark.parametrize(("status", "body", "kind", "error", "again"), CASES)
def test_every_refusal_is_one_of_our_errors(
    status: int, body: bytes, kind: str, error: type[Exception], again: Again
) -> None:
    """W-52."""
    refusal = refused(status, body, kind)

    assert type(refusal.error) is error
    assert refusal.again is again


def test_a_quota_violation_names_when_it_ends_at_any_status() -> None:
    text = b"Quota Violation: try again at %d" % (NOW_NS // 1_000_000 + 12_500)

    for status in (200, 400, 403, 429):
        assert refused(status, text).error.retry_after_s == 12.5
    assert refused(429, b"Quota Violation").error.retry_after_s is None


def test_a_start_too_early_names_the_earliest_in_new_york() -> None:
    """R215."""
    refusal = refused(400, b"Invalid parameter, start: must be on or after 2026-02-27 00:00:00.")

    assert refusal.earliest_ns == 1_772_168_400_000_000_000  # 05:00 UTC
    assert "must be on or after 2026-02-27" in str(refusal.error)
    assert refused(400, b"Invalid parameter, start: on or after 2026-99-99").earliest_ns is None
    day_only = refused(400, b"Invalid parameter, start: on or after 2026-02-27").earliest_ns
    assert day_only == refusal.earliest_ns
    assert NEW_YORK.key == "America/New_York"


def test_an_answer_too_large_can_be_had_in_parts() -> None:
    body = b'{"fault":{"faultstring":"x","detail":{"errorcode":"protocol.http.TooBigBody"}}}'
    refusal = refused(502, body, JSON)

    assert refusal.too_large
    assert isinstance(refusal.error, UpstreamGarbled)
    assert refusal.again is Again.NEVER


def test_what_a_refusal_quotes_is_bounded_and_harmless() -> None:
    refusal = refused(400, b"Invalid parameter, \x1b[31m" + b"x" * 10_000)

    assert len(str(refusal.error)) < 300
    assert str(refusal.error).isprintable()


@given(
    status=st.integers(100, 599),
    kind=st.sampled_from([JSON, TEXT, "text/html", ""]),
    body=st.binary(max_size=200)
    | st.sampled_from([body for _, body, _, _, _ in CASES]).flatmap(
        lambda body: st.integers(0, len(body)).map(lambda end: body[:end])
    ),
)
def test_any_bytes_are_good_or_one_of_our_errors(status: int, kind: str, body: bytes) -> None:
    refusal = judge(status, body, kind)

    assert refusal is None or isinstance(refusal.error, (UpstreamError, InvalidRequest))
