"""Captured answers of Tradier as our model."""

import contextlib
from collections.abc import Callable
from datetime import date

import msgspec
import pytest
from hypothesis import given, strategies as st

from onetape.errors import UpstreamGarbled
from onetape.model import ContractType, Quote
from onetape.provenance import Source
from onetape.tradier.greeks import Carry
from onetape.tradier.parse import (
    ChainPage,
    Expiration,
    QuotesPage,
    parse_chain,
    parse_expirations,
    parse_lookup,
    parse_quotes,
    parse_strikes,
    underlying_price,
)
from onetape.tradier.shapes import Origin

RECEIVED_NS = 1_785_528_900_000_000_000  # 2026-07-31 20:15 UTC, after the close
OPEN_NS = 1_785_510_000_000_000_000  # 15:00 UTC, in the session
ORIGIN = Origin(RECEIVED_NS)

AAPL = (
    b'{"symbol":"AAPL","description":"Apple Inc","exch":"Q","type":"stock","last":308.82,'
    b'"change":3.83,"volume":43662292,"open":306.12,"high":311.4,"low":305.84,"close":308.82,'
    b'"bid":308.5,"ask":308.6,"change_percentage":1.26,"average_volume":42896285,'
    b'"last_volume":6953632,"trade_date":1779480000301,"prevclose":304.99,"week_52_high":305.54,'
    b'"week_52_low":193.46,"bidsize":1040,"bidexch":"Q","bid_date":1779492934000,"asksize":80,'
    b'"askexch":"P","ask_date":1779492932000,"root_symbols":"AAPL"}'
)
PREMARKET = (
    b'{"symbol":"BRK/B","type":"stock","last":469.33,"change":0.0,"volume":308790,"open":null,'
    b'"high":null,"low":null,"close":null,"bid":470.74,"ask":470.75,"prevclose":469.33,'
    b'"bidsize":0,"asksize":40,"bid_date":0,"ask_date":0,"trade_date":0,"last_volume":0,'
    b'"change_percentage":null}'
)
SPX = (
    b'{"symbol":"SPX","type":"index","last":6100.5,"change":-1.5,"volume":0,"open":6090.0,'
    b'"high":6110.0,"low":6080.0,"prevclose":6102.0,"bid":0.0,"ask":0.0,"bidsize":0,"asksize":0,'
    b'"bid_date":0,"ask_date":0,"trade_date":1785528000000}'
)
CALL = (
    b'{"symbol":"SPY260803C00740000","description":"SPY Aug 3 2026 $740.00 Call","exch":"Z",'
    b'"type":"option","last":7.69,"change":1.99,"volume":30837,"open":6.42,"high":9.33,"low":2.64,'
    b'"close":7.69,"bid":7.53,"ask":7.63,"underlying":"SPY","strike":740.0,"greeks":{"delta":0.8331,'
    b'"gamma":0.02617,"theta":-0.2395,"vega":0.1395,"rho":0.0538,"phi":-0.0546,"bid_iv":0.1168,'
    b'"mid_iv":0.1195,"ask_iv":0.1222,"smv_vol":0.104,"updated_at":"2026-07-31 20:00:07"},'
    b'"change_percentage":34.92,"average_volume":0,"last_volume":1,"trade_date":1785528732917,'
    b'"prevclose":5.7,"week_52_high":0.0,"week_52_low":0.0,"bidsize":51,"bidexch":"B",'
    b'"bid_date":1785528899000,"asksize":31,"askexch":"N","ask_date":1785528899000,'
    b'"open_interest":1637,"contract_size":100,"expiration_date":"2026-08-03",'
    b'"expiration_type":"weeklys","option_type":"call","root_symbol":"SPY"}'
)
PUT = (
    CALL.replace(b"C00740000", b"P00740000")
    .replace(b"0.8331", b"-0.1669")
    .replace(b'"bid":7.53,"ask":7.63', b'"bid":0.0,"ask":0.03')
    .replace(b'"bidexch":"B"', b'"bidexch":null')
    .replace(b'"bidsize":51', b'"bidsize":0')
)
NEVER = (
    b'{"symbol":"SPXW260803C05000000","type":"option","last":null,"change":null,"volume":0,'
    b'"open":null,"high":null,"low":null,"close":null,"prevclose":null,"bid":245.29,"ask":248.8,'
    b'"greeks":null,"trade_date":0,"open_interest":0,"underlying":"SPX","bidsize":1,"asksize":1,'
    b'"bid_date":1785528899000,"ask_date":1785528899000,"contract_size":100,"last_volume":0}'
)


def quotes(*rows: bytes, rest: bytes = b"", origin: Origin = ORIGIN) -> QuotesPage:
    return parse_quotes(b'{"quotes":{"quote":[' + b",".join(rows) + b"]" + rest + b"}}", origin)


def chain(*rows: bytes, carry: dict[str, Carry] | None = None) -> ChainPage:
    body = b'{"options":{"option":[' + b",".join(rows) + b"]}}"
    return parse_chain(body, ORIGIN, carry=carry)


def test_a_captured_stock_is_a_quote_with_sizes_in_shares() -> None:
    """R213."""
    page = parse_quotes(b'{"quotes":{"quote":' + AAPL + b"}}", ORIGIN)

    assert page.quotes == [
        Quote(
            symbol="AAPL",
            event_ns=1_779_492_934_000_000_000,
            received_ns=RECEIVED_NS,
            provider="tradier",
            source=Source.REST,
            bid=308.5,
            ask=308.6,
            bid_size=1040.0,
            ask_size=80.0,
            last=308.82,
            last_size=6953632.0,
            open=306.12,
            high=311.4,
            low=305.84,
            previous_close=304.99,
            change=3.83,
            change_percent=1.26,
            volume=43662292.0,
        )
    ]
    assert page.contracts == page.faults == []


def test_the_unit_of_a_stocks_sizes_can_be_set_and_a_contracts_stays() -> None:
    page = quotes(AAPL, CALL, origin=ORIGIN._replace(round_lot=100))

    assert [one.bid_size for one in page.quotes] == [104_000, 51]


def test_what_is_not_there_is_none_and_never_zero() -> None:
    quote = quotes(PREMARKET).quotes[0]

    assert quote.symbol == "BRK.B"
    assert quote.event_ns is None
    assert (quote.open, quote.high, quote.change_percent, quote.last_size) == (None,) * 4


def test_last_stands_still_outside_the_session_and_the_middle_does_not() -> None:
    page = quotes(AAPL, SPX)
    in_session = quotes(AAPL, origin=Origin(OPEN_NS))
    delayed = quotes(AAPL, origin=Origin(RECEIVED_NS - 600_000_000_000, delayed=True))

    assert [one.code for one in page.reasons["AAPL"]] == ["last_frozen"]
    assert "I:SPX" not in page.reasons
    assert underlying_price(page.quotes[0]) == pytest.approx(308.55)
    assert underlying_price(in_session.quotes[0]) == 308.82
    assert in_session.reasons == delayed.reasons == {}
    assert underlying_price(page.quotes[1]) == 6100.5
    assert quotes(AAPL, origin=Origin(1)).reasons == {}


def test_an_index_has_a_value_and_no_bid_nor_volume() -> None:
    quote = quotes(SPX).quotes[0]

    assert quote.symbol == "I:SPX"
    assert (quote.bid, quote.ask, quote.bid_size, quote.volume) == (None,) * 4
    assert quote.last == 6100.5
    assert quote.event_ns == 1_785_528_000_000_000_000


def test_the_type_tells_an_index_from_a_stock_of_its_name() -> None:
    rows = [b'{"symbol":"TRIN","type":"%s"}' % kind for kind in (b"stock", b"index")]
    odd = b'{"symbol":"DJX","type":"index"}', b'{"symbol":"VIX"}'

    found = [quote.symbol for quote in quotes(*rows, *odd).quotes]

    assert found == ["TRIN", "I:TRIN", "I:DJX", "I:VIX"]


@pytest.mark.parametrize(
    ("unmatched", "symbols"), [('"BRK.C"', ["BRK.C"]), ('["ZZZ","SPY991231C00001000"]', None)]
)
def test_unknown_symbols_fail_alone(unmatched: str, symbols: list[str] | None) -> None:
    rest = b',"unmatched_symbols":{"symbol":' + unmatched.encode() + b"}"
    page = quotes(AAPL, rest=rest)

    assert [quote.symbol for quote in page.quotes] == ["AAPL"]
    found = [fault.symbol for fault in page.faults]
    assert found == (symbols or ["ZZZ", "O:SPY991231C00001000"])
    assert {fault.error for fault in page.faults} == {"not_found"}


@pytest.mark.parametrize(
    "body",
    [
        b'{"quotes":{"unmatched_symbols":{"symbol":"ZZZZNOTREAL"}}}',
        b'{"quotes":{"unmatched_symbols":{"symbol":["ZZZZNOTREAL"]},"quote":null}}',
    ],
)
def test_all_symbols_may_be_unknown(body: bytes) -> None:
    page = parse_quotes(body, ORIGIN)

    assert page.quotes == []
    assert [fault.symbol for fault in page.faults] == ["ZZZZNOTREAL"]


@pytest.mark.parametrize("body", [b'{"quotes":null}', b'{"quotes":"null"}'])
def test_no_quotes_are_no_quotes(body: bytes) -> None:
    assert parse_quotes(body, ORIGIN) == QuotesPage([], [], {}, [])


def test_a_captured_contract_is_a_snapshot() -> None:
    """R214."""
    page = chain(CALL)
    one = page.contracts[0]

    assert one.contract == msgspec.structs.replace(
        one.contract,
        symbol="O:SPY260803C00740000",
        root="SPY",
        underlying="SPY",
        expiration=date(2026, 8, 3),
        strike=740.0,
        contract_type=ContractType.CALL,
        exercise_style="american",
        shares_per_contract=100.0,
    )
    assert one.quote.event_ns == 1_785_528_899_000_000_000
    assert (one.quote.bid, one.quote.ask, one.quote.bid_size) == (7.53, 7.63, 51)
    assert one.last_trade is not None
    assert (one.last_trade.price, one.last_trade.size) == (7.69, 1)
    assert one.last_trade.event_ns == 1_785_528_732_917_000_000
    assert one.implied_volatility == 0.1195
    assert (one.open_interest, one.volume) == (1637, 30837)
    assert one.break_even == pytest.approx(747.58)
    assert one.greeks is not None
    assert one.greeks.event_ns == 1_785_528_007_000_000_000
    assert [why.code for why in page.reasons[one.symbol]] == ["greeks_hourly"]


def test_a_put_is_corrected_by_the_carry_of_its_underlying() -> None:
    """W-61."""
    bare, carried = chain(PUT), chain(PUT, carry={"SPY": Carry(747.0, 0.04, 0.012)})

    assert bare.contracts[0].greeks is not None
    assert bare.contracts[0].greeks.theta is None
    assert carried.contracts[0].greeks is not None
    assert carried.contracts[0].greeks.theta != -0.2395
    assert carried.contracts[0].greeks.rho is not None
    assert carried.contracts[0].greeks.rho < 0
    reasons = carried.reasons["O:SPY260803P00740000"]
    assert [why.code for why in reasons] == ["greeks_hourly", "greeks_corrected"]


def test_nobody_bidding_is_a_bid_of_zero_on_an_option() -> None:
    """W-57."""
    one = chain(PUT).contracts[0]

    assert (one.quote.bid, one.quote.bid_size) == (0.0, 0.0)
    assert one.break_even == pytest.approx(739.985)


def test_a_contract_that_never_traded_has_no_trade_and_no_greeks() -> None:
    page = chain(NEVER)
    one = page.contracts[0]

    assert (one.last_trade, one.greeks, one.implied_volatility) == (None, None, None)
    assert one.quote.last is None
    assert (one.contract.underlying, one.contract.exercise_style) == ("I:SPX", "european")
    assert [why.code for why in page.reasons[one.symbol]] == ["greeks_missing"]


def test_greeks_that_were_not_asked_for_are_not_missed() -> None:
    row = CALL[: CALL.index(b'"greeks"')] + CALL[CALL.index(b'"change_percentage"') :]

    assert chain(row).reasons["O:SPY260803C00740000"] == ()
    nothing = CALL.replace(b'"greeks":{', b'"greeks":"null","x":{')
    assert [why.code for why in chain(nothing).reasons["O:SPY260803C00740000"]] == [
        "greeks_missing"
    ]


def test_no_middle_is_no_break_even() -> None:
    row = CALL.replace(b'"ask":7.63', b'"ask":null')

    assert chain(row).contracts[0].break_even is None


def test_a_chain_is_sorted_by_strike_with_calls_first() -> None:
    lower = CALL.replace(b"00740000", b"00730000")
    weekly = NEVER.replace(b"05000000", b"00740000")

    found = [one.symbol for one in chain(PUT, weekly, CALL, lower).contracts]

    assert found == [
        "O:SPY260803C00730000",
        "O:SPXW260803C00740000",
        "O:SPY260803C00740000",
        "O:SPY260803P00740000",
    ]


def test_an_adjusted_or_class_share_contract_keeps_its_underlying() -> None:
    adjusted = CALL.replace(b"SPY260803", b"AAPL1260803").replace(
        b'"underlying":"SPY"', b'"underlying":"AAPL"'
    )
    shares = CALL.replace(b"SPY260803", b"BRKB260803").replace(
        b'"underlying":"SPY"', b'"underlying":"BRK\\/B"'
    )
    quiet = CALL.replace(b"SPY260803", b"IWM260803").replace(
        b'"underlying":"SPY"', b'"underlying":null'
    )

    found = [one.contract.underlying for one in chain(adjusted, shares, quiet).contracts]

    assert sorted(found) == ["AAPL", "BRK.B", "IWM"]


def test_a_bad_row_is_left_out_and_named() -> None:
    named = CALL.replace(b"SPY260803C00740000", b"SPY260803X00740000")
    boolean = PUT.replace(b'"bid":0.0', b'"bid":true')
    page = chain(CALL, named, boolean)

    assert [one.symbol for one in page.contracts] == ["O:SPY260803C00740000"]
    assert {fault.symbol for fault in page.faults} == {"SPY260803X00740000", "O:SPY260803P00740000"}
    assert {fault.error for fault in page.faults} == {"upstream_garbled"}
    assert quotes(named).faults[0].symbol == "SPY260803X00740000"


@pytest.mark.parametrize("body", [b'{"options":null}', b'{"options":"null"}', b'{"options":{}}'])
def test_a_date_without_options_is_an_empty_chain(body: bytes) -> None:
    assert parse_chain(body, ORIGIN) == ChainPage([], {}, [])


def test_a_chain_of_one_contract_is_not_lost() -> None:
    page = parse_chain(b'{"options":{"option":' + CALL + b"}}", ORIGIN)

    assert [one.symbol for one in page.contracts] == ["O:SPY260803C00740000"]


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b'{"expirations":null}', ()),
        (b'{"expirations":{"date":"2026-08-03"}}', (Expiration(date(2026, 8, 3)),)),
        (
            b'{"expirations":{"date":["2026-08-04","2026-08-03","soon"]}}',
            (Expiration(date(2026, 8, 3)), Expiration(date(2026, 8, 4))),
        ),
        (
            b'{"expirations":{"expiration":[{"date":"2024-07-05","contract_size":100,'
            b'"expiration_type":"weeklys","strikes":{"strike":152.5}},{"date":"2024-07-05",'
            b'"contract_size":10,"expiration_type":"standard"},{"date":"2024-06-28"}]}}',
            (
                Expiration(date(2024, 6, 28)),
                Expiration(date(2024, 7, 5), ("standard", "weeklys"), (10.0, 100.0)),
            ),
        ),
        (
            b'{"expirations":{"expiration":{"date":"2024-06-28","contract_size":100}}}',
            (Expiration(date(2024, 6, 28), (), (100.0,)),),
        ),
    ],
)
def test_expirations_have_each_date_once(body: bytes, found: tuple[Expiration, ...]) -> None:
    """R214."""
    assert parse_expirations(body) == found


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b'{"strikes":null}', ()),
        (b'{"strikes":{"strike":150.0}}', (150.0,)),
        (b'{"strikes":{"strike":[205.0,195.0,"227.5",null,195.0]}}', (195.0, 205.0, 227.5)),
    ],
)
def test_strikes_are_numbers_in_order(body: bytes, found: tuple[float, ...]) -> None:
    assert parse_strikes(body) == found


def test_strikes_that_are_none_are_garbled() -> None:
    with pytest.raises(UpstreamGarbled):
        parse_strikes(b'{"strikes":{"strike":{"a":1}}}')


def test_lookup_lists_the_contracts_by_root() -> None:
    page = parse_lookup(
        b'{"symbols":[{"rootSymbol":"SPX","options":"SPX260821C05000000"},{"rootSymbol":"SPXW",'
        b'"options":["SPXW260805P06000000","SPXW260805C06000000","SPXW"]}]}'
    )

    assert page.contracts == {
        "SPX": ("O:SPX260821C05000000",),
        "SPXW": ("O:SPXW260805C06000000", "O:SPXW260805P06000000"),
    }
    assert [fault.symbol for fault in page.faults] == ["SPXW"]
    assert parse_lookup(b'{"symbols":null}').contracts == {}


PARSERS: list[Callable[[bytes], object]] = [
    lambda body: parse_quotes(body, ORIGIN),
    lambda body: parse_chain(body, ORIGIN),
    parse_expirations,
    parse_strikes,
    parse_lookup,
]
BODIES = [
    b'{"quotes":{"quote":[' + AAPL + b"," + CALL + b'],"unmatched_symbols":{"symbol":"Z"}}}',
    b'{"options":{"option":[' + CALL + b"," + PUT + b"]}}",
    b'{"expirations":{"expiration":[{"date":"2024-07-05","contract_size":100}]}}',
    b'{"strikes":{"strike":[195.0,200.0]}}',
    b'{"symbols":[{"rootSymbol":"SPX","options":["SPX260821C05000000"]}]}',
]


@given(st.integers(0, 4), st.data())
def test_cut_or_flipped_bytes_are_our_error_or_rows(which: int, data: st.DataObject) -> None:
    body = bytearray(BODIES[which])
    at = data.draw(st.integers(0, len(body) - 1))
    if data.draw(st.booleans()):
        del body[at:]
    else:
        body[at] ^= 1 << data.draw(st.integers(0, 7))

    with contextlib.suppress(UpstreamGarbled):
        PARSERS[which](bytes(body))
