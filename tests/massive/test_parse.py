"""History and reference as models: paths and shapes are the documented ones (W-74, Appendix A).

That the values are those of the vendor's own client is in `test_parse_official_client`.
"""

from datetime import date, datetime
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, strategies as st

from onetape.calendar import Holiday, HolidayStatus
from onetape.errors import InvalidRequest, UpstreamGarbled
from onetape.massive import parse
from onetape.massive.parse import (
    bar_end,
    parse_bars,
    parse_chain,
    parse_contracts,
    parse_holidays,
    parse_indicator,
    parse_market_status,
    parse_quote_history,
    parse_quotes,
    parse_stock_quotes,
    parse_trades,
)
from onetape.model import ContractType, IndicatorValue, OptionContract
from onetape.timeframes import BarLength, Timespan

NOW_NS = 1_764_000_000_000_000_000
SPY_CALL = "O:SPY251219C00670000"
MINUTE = BarLength(1, Timespan.MINUTE)

# ---- bars ----


def bars_of(*rows: Any, symbol: str = "SPY", length: BarLength | None = None) -> parse.Page[Any]:
    body = msgspec.json.encode({"status": "OK", "ticker": symbol, "results": rows})
    return parse_bars(body, symbol, length or BarLength(1, Timespan.MINUTE), received_ns=NOW_NS)


def new_york(day: str, hour: int = 0) -> int:
    """An instant by New York's clocks, from an independent source."""
    zone = ZoneInfo("America/New_York")
    return round(datetime.fromisoformat(f"{day}T{hour:02}:00").replace(tzinfo=zone).timestamp())


@pytest.mark.parametrize(
    ("length", "start", "end"),
    [
        (BarLength(1, Timespan.DAY), ("2025-11-24", 0), ("2025-11-25", 0)),
        (BarLength(1, Timespan.DAY), ("2025-03-09", 0), ("2025-03-10", 0)),  # 23 hours
        (BarLength(1, Timespan.DAY), ("2025-11-02", 0), ("2025-11-03", 0)),  # 25 hours
        (BarLength(1, Timespan.DAY), ("2025-11-02", 1), ("2025-11-03", 1)),  # an index: Chicago's
        (BarLength(3, Timespan.DAY), ("2025-03-08", 0), ("2025-03-11", 0)),
        (BarLength(1, Timespan.WEEK), ("2025-10-26", 0), ("2025-11-02", 0)),
        (BarLength(2, Timespan.WEEK), ("2025-10-26", 0), ("2025-11-09", 0)),
        (BarLength(1, Timespan.MONTH), ("2025-11-01", 0), ("2025-12-01", 0)),
        (BarLength(1, Timespan.MONTH), ("2025-12-01", 0), ("2026-01-01", 0)),
        (BarLength(1, Timespan.MONTH), ("2025-01-31", 0), ("2025-02-28", 0)),
        (BarLength(13, Timespan.MONTH), ("2025-02-01", 1), ("2026-03-01", 1)),
        (BarLength(1, Timespan.QUARTER), ("2025-10-01", 0), ("2026-01-01", 0)),
        (BarLength(1, Timespan.YEAR), ("2024-02-29", 0), ("2025-02-28", 0)),
        (BarLength(4, Timespan.YEAR), ("2024-02-29", 0), ("2028-02-29", 0)),
        (
            BarLength(1, Timespan.HOUR),
            ("2025-03-09", 1),
            ("2025-03-09", 3),
        ),  # two o'clock is skipped
        (BarLength(30, Timespan.SECOND), ("2025-11-24", 10), None),
        (BarLength(5, Timespan.MINUTE), ("2025-11-24", 10), None),
    ],
)
def test_a_bar_ends_by_new_yorks_calendar(
    length: BarLength, start: tuple[str, int], end: tuple[str, int] | None
) -> None:
    start_s = new_york(*start)
    fixed = {"second": 1, "minute": 60}.get(length.timespan, 0)
    end_s = new_york(*end) if end else start_s + fixed * length.multiplier

    [bar] = bars_of({"o": 1, "h": 2, "l": 0.5, "c": 1, "t": start_s * 1000}, length=length).rows

    assert bar.event_ns == start_s * 1_000_000_000
    assert bar.end_ns == end_s * 1_000_000_000


@given(
    st.integers(0, 7_258_118_399_999),
    st.integers(1, 1000),
    st.sampled_from(Timespan),
)
def test_every_bar_ends_after_it_began(start_ms: int, multiplier: int, timespan: Timespan) -> None:
    start_ns = start_ms * 1_000_000

    assert bar_end(BarLength(multiplier, timespan))(start_ns) > start_ns


@pytest.mark.parametrize("multiplier", [-1, 0, 1001])
def test_a_length_that_the_vendor_does_not_have_is_refused(multiplier: int) -> None:
    with pytest.raises(InvalidRequest):
        bar_end(BarLength(multiplier, Timespan.DAY))


@pytest.mark.parametrize(
    "bad",
    [
        {"o": 1, "h": 1, "l": 1, "t": 1},
        {"o": 1, "h": 1, "l": 1, "c": 1},
        {"o": 1, "h": 1, "l": 1, "c": 1, "t": 0},
        {"o": 1, "h": 1, "l": 1, "c": 1, "t": 1.5},
        {"o": "1", "h": 1, "l": 1, "c": 1, "t": 1},
        {"o": 1, "h": 1, "l": 1, "c": None, "t": 1},
    ],
)
def test_a_bar_without_a_price_or_a_time_is_told_of_and_left_out(bad: dict[str, Any]) -> None:
    good = {"o": 1, "h": 1, "l": 1, "c": 1, "t": 60_000, "v": 2.0, "n": 3.0}

    page = bars_of(bad, good)

    assert [(bar.event_ns, bar.trades) for bar in page.rows] == [(60_000_000_000, 3)]
    assert [one.symbol for one in page.faults] == ["SPY"]


def test_the_bars_of_another_symbol_are_no_answer() -> None:
    body = b'{"status":"OK","ticker":"QQQ","results":[]}'

    with pytest.raises(UpstreamGarbled, match="another symbol"):
        parse_bars(body, "SPY", BarLength(1, Timespan.DAY), received_ns=NOW_NS)


# ---- trades and quotes ----


def test_a_trade_needs_a_time_and_a_price() -> None:
    good = {"price": 7.2, "size": 1, "sip_timestamp": 1401716547786000001, "conditions": None}
    bad = [good | {"price": 0}, good | {"sip_timestamp": 0}, {"price": 1, "size": 1}]
    body = msgspec.json.encode({"status": "OK", "results": [good, *bad]})

    page = parse_trades(body, SPY_CALL, received_ns=NOW_NS)

    [trade] = page.rows
    assert (trade.event_ns, trade.conditions) == (1401716547786000001, ())
    assert [one.symbol for one in page.faults] == [SPY_CALL] * 3


@pytest.mark.parametrize(("symbol", "bid"), [("SPY", None), (SPY_CALL, 0)])
def test_a_side_that_nobody_quoted_is_none(symbol: str, bid: float | None) -> None:
    """W-76: the vendor's own sample has an ask of 0 for 0 on exchange 0."""
    row = {"sip_timestamp": 5, "ask_price": 0, "ask_size": 0, "ask_exchange": 0}
    row |= {"bid_price": 0, "bid_size": 0, "bid_exchange": 11}
    body = msgspec.json.encode({"status": "OK", "results": [row]})

    [quote] = parse_quote_history(body, symbol, received_ns=NOW_NS).rows

    assert (quote.ask, quote.ask_size, quote.ask_exchange) == (None, None, None)
    assert quote.bid == bid
    assert quote.bid_exchange == (None if bid is None else 11)


# ---- indicators ----


def test_an_indicator_without_values_is_an_empty_page() -> None:
    body = b'{"results":{"underlying":{"url":"u"}},"status":"OK","request_id":"r"}'

    assert parse_indicator(body) == parse.Page(())


def test_an_indicators_line_is_its_value() -> None:
    values = [{"histogram": -4.7, "signal": 220.7, "timestamp": 1687237200000, "value": 215.995}]
    body = msgspec.json.encode({"status": "OK", "results": {"values": values, "underlying": {}}})

    assert parse_indicator(body).rows == (
        IndicatorValue(event_ns=1687237200000000000, value=215.995),
    )


# ---- reference ----


def test_a_contract_is_its_terms_whatever_else_it_delivers() -> None:
    """The vendor's own sample of an adjusted contract."""
    row = {
        "additional_underlyings": [{"amount": 44, "type": "equity", "underlying": "VMW"}],
        "cfi": "OCASPS",
        "contract_type": "call",
        "exercise_style": "american",
        "expiration_date": "2021-11-19",
        "primary_exchange": "BATO",
        "shares_per_contract": 100,
        "strike_price": 90,
        "ticker": "O:AAPL1211119C00090000",
        "underlying_ticker": "AAPL",
    }

    page = parse_contracts(
        msgspec.json.encode({"status": "OK", "results": [row, row | {"ticker": "AAPL"}]})
    )

    assert page.rows == (
        OptionContract(
            symbol="O:AAPL1211119C00090000",
            root="AAPL1",
            underlying="AAPL",
            expiration=date(2021, 11, 19),
            strike=90,
            contract_type=ContractType.CALL,
            exercise_style="american",
            shares_per_contract=100,
        ),
    )
    assert [one.symbol for one in page.faults] == ["AAPL"]


def test_a_day_that_only_others_keep_is_no_holiday() -> None:
    """The vendor's own sample, with more exchanges than it has."""
    half = {"open": "2020-11-27T14:30:00.000Z", "close": "2020-11-27T18:00:00.000Z"}
    rows = [
        {"date": "2020-11-27", "exchange": "NASDAQ", "name": "Nasdaq's", "status": "early-close"}
        | half,
        {"date": "2020-11-26", "exchange": "OTC", "name": "OTC's", "status": "closed"},
        {"date": "2020-11-26", "exchange": "NASDAQ", "name": "Nasdaq's", "status": "closed"},
        {"date": "2020-11-26", "exchange": "NYSE", "name": "Thanksgiving", "status": "closed"},
        {"date": "2020-12-31", "exchange": "OTC", "name": "OTC's alone", "status": "closed"},
        {"date": "2020-12-30", "exchange": "NYSE", "name": "New", "status": "on-strike"},
    ]

    page = parse_holidays(msgspec.json.encode(rows))

    assert page.rows == (
        Holiday(date=date(2020, 11, 26), name="Thanksgiving", status=HolidayStatus.CLOSED),
        Holiday(
            date=date(2020, 11, 27),
            name="Nasdaq's",
            status=HolidayStatus.EARLY_CLOSE,
            open_ns=1_606_487_400_000_000_000,
            close_ns=1_606_500_000_000_000_000,
        ),
    )
    assert ["on-strike" in one.message for one in page.faults] == [True]


@pytest.mark.parametrize("body", [b"", b"{}", b'{"results":[]}', b"3", b"[", b"[]]"])
def test_what_is_no_list_of_holidays_is_garbled(body: bytes) -> None:
    with pytest.raises(UpstreamGarbled):
        parse_holidays(body)


def test_a_holiday_in_another_age_is_garbled() -> None:
    row = {"date": "2025-11-28", "name": "n", "status": "early-close"}
    body = msgspec.json.encode([row | {"open": "0001-01-01T00:00:00Z"}])

    with pytest.raises(UpstreamGarbled, match="dated 1"):
        parse_holidays(body)


@pytest.mark.parametrize(
    ("market", "early", "late", "at", "session"),
    [
        ("open", False, False, "2020-11-10T11:00:00-05:00", "open"),
        ("closed", False, False, "2020-11-10T22:00:00-05:00", "closed"),
        ("extended-hours", True, False, "2020-11-10T07:00:00-05:00", "pre"),
        ("extended-hours", False, True, "2020-11-10T17:37:37-05:00", "after"),
        ("extended-hours", True, True, "2020-11-10T17:37:37-05:00", "after"),  # the sample
        ("extended-hours", True, True, "2020-11-10T12:00:00Z", "pre"),
        ("extended-hours", False, False, "2020-11-27T14:00:00-05:00", "after"),  # a half day
        ("on-fire", False, False, "2020-11-10T11:00:00-05:00", "on-fire"),
    ],
)
def test_the_session_is_in_our_words(
    market: str, early: bool, late: bool, at: str, session: str
) -> None:
    body = {"market": market, "earlyHours": early, "afterHours": late, "serverTime": at}

    status = parse_market_status(msgspec.json.encode(body), received_ns=NOW_NS)

    assert status.session == session
    assert status.event_ns == round(datetime.fromisoformat(at).timestamp()) * 1_000_000_000
    assert status.exchanges == {}


def test_without_the_vendors_clock_it_is_as_of_now() -> None:
    status = parse_market_status(b'{"market":"closed"}', received_ns=NOW_NS)

    assert status.event_ns == status.received_ns == NOW_NS


def test_beyond_the_calendar_the_next_opening_is_not_known() -> None:
    body = b'{"market":"closed","serverTime":"2150-01-01T00:00:00Z"}'

    status = parse_market_status(body, received_ns=NOW_NS)

    assert (status.next_open_ns, status.next_close_ns) == (None, None)


@pytest.mark.parametrize(
    "body",
    [b"{}", b"[]", b"", b'{"market":1}', b'{"market":"open","serverTime":"9999-01-01T00:00:00Z"}'],
)
def test_what_is_no_market_status_is_garbled(body: bytes) -> None:
    with pytest.raises(UpstreamGarbled):
        parse_market_status(body, received_ns=NOW_NS)


# ---- the names on the wire ----

SCHEMAS: Final[dict[str, Any]] = msgspec.json.decode(
    (Path(__file__).parents[1] / "data" / "massive_rest_schemas.json").read_bytes()
)
TEXTS: Final = {
    "ticker": SPY_CALL,
    "expiration_date": "2025-12-19",
    "contract_type": "call",
    "next_url": "https://v/n",
    "market": "open",
    "serverTime": "2025-11-24T11:00:00-05:00",
}


def filled(schema: dict[str, Any], name: str = "") -> Any:
    """Make what a schema describes, with everything in it that may be there."""
    match schema.get("type"):
        case "object":
            parts = schema.get("properties", {}).items()
            return {part: filled(inner, part) for part, inner in parts if part != "error"}
        case "array":
            return [filled(schema["items"], name)]
        case "integer":
            return 1_700_000_000_000  # a time in milliseconds, and one in nanoseconds
        case "boolean":
            return True
        case "string":
            return TEXTS.get(name) or schema.get("enum", ["closed"])[0]
        case _:
            return 3.0  # whole, because some of these are codes


def unknown(model: Any) -> set[str]:
    """The fields of a model that are None."""
    return {name for name in model.__struct_fields__ if getattr(model, name) is None}


def whole(name: str) -> bytes:
    return msgspec.json.encode(filled(SCHEMAS[name]))


NEVER_IN_A_SNAPSHOT: Final = {"sequence", "quality"}


def test_every_field_is_read_by_the_name_it_has_in_the_vendors_specification() -> None:
    """W-74: a misspelt name would read as "not there" for ever."""
    [option] = parse_chain(whole("chain"), received_ns=NOW_NS).rows
    assert unknown(option) == {"quality"}
    assert unknown(option.quote) == NEVER_IN_A_SNAPSHOT | {"market_status"}
    assert type(option.quote.bid_exchange) is int
    assert option.last_trade is not None
    assert unknown(option.last_trade) == NEVER_IN_A_SNAPSHOT
    assert option.greeks is not None
    assert unknown(option.greeks) == {"rho", "event_ns"}
    assert unknown(option.contract) == set()
    [quote] = parse_quotes(whole("snapshot"), received_ns=NOW_NS).rows
    assert unknown(quote) == NEVER_IN_A_SNAPSHOT | {"vwap"}
    [stock] = parse_stock_quotes(whole("stocks-tickers"), received_ns=NOW_NS).rows
    exchanges = {"bid_exchange", "ask_exchange"}
    assert unknown(stock) == NEVER_IN_A_SNAPSHOT | exchanges | {"market_status"}
    [bar] = parse_bars(
        whole("aggs-stock"), SPY_CALL, BarLength(1, Timespan.DAY), received_ns=NOW_NS
    ).rows
    assert unknown(bar) == {"quality"}
    [trade] = parse_trades(whole("trades-stock"), "SPY", received_ns=NOW_NS).rows
    assert unknown(trade) == {"quality"}
    [tick] = parse_quote_history(whole("quotes-stock"), "SPY", received_ns=NOW_NS).rows
    both = {"bid", "ask", "bid_size", "ask_size", "bid_exchange", "ask_exchange", "sequence"}
    assert not unknown(tick) & both
    for name in ("contracts", "contract"):
        assert unknown(parse_contracts(whole(name)).rows[0]) == set()
    for name in ("sma", "ema", "rsi", "macd"):
        assert parse_indicator(whole(name)).rows[0].value == 3
    assert parse_quotes(whole("snapshot-indices"), received_ns=NOW_NS).rows[0].last == 3
    assert set(parse_market_status(whole("marketstatus-now"), received_ns=1).exchanges) == {
        "nasdaq",
        "nyse",
        "otc",
    }


def test_the_door_has_every_name() -> None:
    assert set(parse.__all__) >= {name for name in dir(parse) if name.startswith("parse_")} - {
        "parse_pages",
        "parse_snapshots",
        "parse_stocks",
    }


def test_what_a_delayed_plan_answers_is_marked() -> None:
    """The vendor says so of the page, not of its rows."""
    page = b'{"status":"%b","results":[%b]}'
    bar = b'{"o":1.0,"h":2.0,"l":1.0,"c":2.0,"v":5.0,"t":1700000000000}'
    trade = b'{"price":1.0,"size":2,"sip_timestamp":1700000000000000000}'
    for status, delayed in ((b"DELAYED", True), (b"OK", False)):
        bars = parse_bars(page % (status, bar), "SPY", MINUTE, received_ns=1)
        trades = parse_trades(page % (status, trade), "SPY", received_ns=1)
        assert [row.delayed for row in (*bars.rows, *trades.rows)] == [delayed, delayed]
