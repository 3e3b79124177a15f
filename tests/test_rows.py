"""Whoever asks for many symbols gets the rows there are, and why the others are missing (W-20)."""

# pandas brings its own types, in part:
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
import copy
import pickle
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import polars as pl
import pytest

from onetape.calendar import Holiday, HolidayStatus
from onetape.errors import NotFound, OnetapeError
from onetape.model import (
    Bar,
    ContractType,
    Greeks,
    IndexSnapshot,
    IndicatorValue,
    MarketStatus,
    OptionContract,
    OptionSnapshot,
    Quote,
    Trade,
)
from onetape.provenance import Quality, Reason, Severity, Source
from onetape.rows import Rows, SymbolFault

EVENT_NS = 1_763_999_999_172_975_703  # an odd last digit: a float would lose it
INSTANT = datetime(2025, 11, 24, 15, 59, 59, 172975, UTC)
NOPE = SymbolFault(symbol="NOPE", error="not_found", message="Ticker not found.")
CONTRACT = OptionContract(
    symbol="O:SPY251219C00650000",
    root="SPY",
    underlying="SPY",
    expiration=date(2025, 12, 19),
    strike=650.0,
    contract_type=ContractType.CALL,
    exercise_style="american",
)
KINDS: list[type] = [
    Quote,
    Trade,
    Bar,
    OptionSnapshot,
    OptionContract,
    IndicatorValue,
    Holiday,
    IndexSnapshot,
    MarketStatus,
]

each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def quote(symbol: str = "SPY", **fields: Any) -> Quote:
    named: dict[str, Any] = {"event_ns": EVENT_NS, "received_ns": EVENT_NS + 1, **fields}
    return Quote(symbol=symbol, provider="massive", **named)


def frame_of(rows: Rows[Any]) -> Any:
    """The pandas table; its types are too wide to say anything about a column."""
    return rows.to_pandas()


def again_pickled(rows: Rows[Quote]) -> Rows[Quote]:
    return pickle.loads(pickle.dumps(rows))


def trade(**fields: Any) -> Trade:
    return Trade(
        symbol=CONTRACT.symbol,
        event_ns=EVENT_NS,
        received_ns=EVENT_NS,
        provider="massive",
        price=28.5,
        size=2,
        conditions=(209,),
        **fields,
    )


def option(**fields: Any) -> OptionSnapshot:
    return OptionSnapshot(contract=CONTRACT, quote=quote(CONTRACT.symbol, bid=28.4), **fields)


SPY, SPX = quote(last=674.11), quote("I:SPX", last=6754.51)


# ---- a tuple ----


def test_rows_are_a_tuple_of_themselves() -> None:
    rows = Rows([SPY, SPX], kind=Quote)

    assert rows == (SPY, SPX)
    assert rows != (SPX, SPY)
    assert list(rows) == [SPY, SPX]
    assert (rows[0], rows[-1], len(rows)) == (SPY, SPX, 2)
    assert hash(rows) == hash((SPY, SPX))
    assert rows.kind is Quote


def test_a_slice_is_rows_that_still_know_what_is_missing() -> None:
    rows = Rows([SPY, SPX], kind=Quote, errors=[NOPE], simulated=True)
    part = rows[1:]

    assert isinstance(part, Rows)
    assert part == (SPX,)
    assert (part.errors, part.simulated, part.kind) == ({"NOPE": NOPE}, True, Quote)


def test_they_cannot_be_changed() -> None:
    rows: Any = Rows([SPY], kind=Quote, errors=[NOPE])

    with pytest.raises(TypeError):
        rows[0] = SPX
    with pytest.raises(TypeError):
        rows.errors["SPY"] = NOPE
    for name in ("errors", "kind", "simulated"):
        with pytest.raises(AttributeError):
            setattr(rows, name, None)


def test_they_are_encoded_as_an_array_of_their_rows() -> None:
    rows = Rows([SPY, SPX], kind=Quote, errors=[NOPE])

    assert msgspec.json.encode({"rows": rows}) == msgspec.json.encode({"rows": [SPY, SPX]})
    assert msgspec.json.decode(msgspec.json.encode(rows), type=list[Quote]) == [SPY, SPX]


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, again_pickled], ids=["copy", "deepcopy", "pickle"]
)
@pytest.mark.parametrize("simulated", [False, True])
def test_a_copy_is_whole(again: Callable[[Rows[Quote]], Rows[Quote]], simulated: bool) -> None:
    rows = Rows([SPY], kind=Quote, errors=[NOPE], simulated=simulated)
    assert rows.by_symbol

    copied = again(rows)

    assert copied == rows
    assert (copied.errors, copied.simulated, copied.kind) == ({"NOPE": NOPE}, simulated, Quote)


@pytest.mark.parametrize(
    ("rows", "shown"),
    [
        (Rows([], kind=Bar), "<Rows of 0 Bar>"),
        (Rows([SPY], kind=Quote), "<Rows of 1 Quote: SPY>"),
        (Rows([SPY] * 5, kind=Quote), "<Rows of 5 Quote: SPY, SPY, SPY, …>"),
        (
            Rows([SPY, SPX], kind=Quote, errors=[NOPE], simulated=True),
            "<Rows of 2 Quote: SPY, I:SPX; 1 missing: NOPE; simulated>",
        ),
        (
            Rows([IndicatorValue(event_ns=1, value=2.0)], kind=IndicatorValue),
            "<Rows of 1 IndicatorValue>",
        ),
    ],
)
def test_shown_they_are_one_line_of_status(rows: Rows[Any], shown: str) -> None:
    assert repr(rows) == str(rows) == shown


# ---- by symbol ----


def test_a_row_is_found_by_its_symbol() -> None:
    rows = Rows([SPY, SPX], kind=Quote)

    assert rows.by_symbol == {"SPY": SPY, "I:SPX": SPX}
    assert rows.by_symbol is rows.by_symbol
    assert Rows([one := option()], kind=OptionSnapshot).by_symbol == {CONTRACT.symbol: one}


def test_of_several_rows_of_a_symbol_the_last_is_found() -> None:
    later = quote(last=675.0)

    assert Rows([SPY, later], kind=Quote).by_symbol == {"SPY": later}


def test_rows_without_symbols_say_so() -> None:
    with pytest.raises(TypeError, match="IndicatorValue has no symbol"):
        _ = Rows([], kind=IndicatorValue).by_symbol


def test_what_is_missing_is_told_by_symbol_and_the_first_reason_stands() -> None:
    """W-20: one unknown symbol does not take the others with it."""
    later = SymbolFault(symbol="NOPE", error="upstream_garbled")
    rows = Rows([SPY], kind=Quote, errors=[NOPE, later])

    assert rows.errors == {"NOPE": NOPE}
    assert "SPY" not in rows.errors


def test_a_fault_can_be_raised_as_the_error_it_stands_for() -> None:
    error = NOPE.as_error()

    assert type(error) is NotFound
    assert str(error) == "NOPE: Ticker not found."
    assert type(SymbolFault(symbol="A", error="no such code").as_error()) is OnetapeError


# ---- tables ----


@each_kind
def test_no_rows_make_a_table_with_the_same_types_as_any_rows(kind: type) -> None:
    empty: Rows[Any] = Rows([], kind=kind)

    table = empty.to_polars()
    assert table.height == 0
    assert table.schema.get("event_time", pl.Datetime("ns", "UTC")) == pl.Datetime("ns", "UTC")
    assert pl.Null not in table.schema.values()
    frame = frame_of(empty)
    assert list(frame.columns) == table.columns
    assert len(frame) == 0


def test_types_stay_when_everything_is_unknown() -> None:
    bare = Rows([Quote(symbol="A", event_ns=None, received_ns=1, provider="p")] * 2, kind=Quote)
    full = Rows([quote(bid=1.0, bid_exchange=3, sequence=9, market_status="open")], kind=Quote)

    assert bare.to_polars().schema == full.to_polars().schema
    assert dict(frame_of(bare).dtypes) == dict(frame_of(full).dtypes)
    assert bare.to_polars()["bid"].null_count() == 2
    assert (
        frame_of(bare)[["bid", "bid_exchange", "event_time", "market_status"]].isna().all(axis=None)
    )


def test_instants_are_exact_and_utc() -> None:
    rows = Rows([SPY, quote("NONE", event_ns=None)], kind=Quote)

    times = rows.to_polars()["event_time"]
    assert times.dtype == pl.Datetime("ns", "UTC")
    assert times.cast(pl.Int64).to_list() == [EVENT_NS, None]
    column = frame_of(rows)["event_time"]
    assert str(column.dtype) == "datetime64[ns, UTC]"
    assert column[0].value == EVENT_NS
    assert column[0].floor("us").to_pydatetime() == INSTANT
    assert pd.isna(column[1])


def test_enums_are_text_and_days_are_days() -> None:
    holiday = Holiday(date=date(2025, 12, 25), name="Christmas", status=HolidayStatus.CLOSED)
    rows = Rows([holiday], kind=Holiday)

    assert rows.to_polars().row(0) == (date(2025, 12, 25), "Christmas", "closed", None, None)
    frame = frame_of(rows)
    assert str(frame["date"].dtype) == "datetime64[s]"
    assert frame["date"][0] == pd.Timestamp(2025, 12, 25)
    assert type(frame["status"][0]) is str
    assert str(frame["close_time"].dtype) == "datetime64[ns, UTC]"


def test_integers_that_may_be_unknown_stay_integers() -> None:
    rows = Rows([quote(sequence=2**53 + 1), quote()], kind=Quote)

    assert rows.to_polars()["sequence"].to_list() == [2**53 + 1, None]
    column = frame_of(rows)["sequence"]
    assert str(column.dtype) == "Int64"
    assert column[0] == 2**53 + 1
    assert column[1] is pd.NA


def test_whole_numbers_in_a_column_of_prices_are_floats() -> None:
    rows = Rows([quote(bid=1), quote(bid=1.5)], kind=Quote)

    assert rows.to_polars()["bid"].to_list() == [1.0, 1.5]
    assert frame_of(rows)["bid"].dtype == np.float64


def test_flags_are_booleans_and_conditions_are_lists() -> None:
    rows = Rows([trade(delayed=True)], kind=Trade)

    assert rows.to_polars()["delayed"].to_list() == [True]
    assert rows.to_polars()["conditions"].to_list() == [[209]]
    assert frame_of(rows)["delayed"].dtype == np.bool_
    assert frame_of(rows)["conditions"][0] == [209]


def test_an_option_is_laid_flat() -> None:
    greeks = Greeks(delta=0.8, vega=0.4, provider="tradier", source=Source.COMPUTED)
    rows = Rows(
        [option(greeks=greeks, last_trade=trade(), open_interest=900.0, volume=12.0), option()],
        kind=OptionSnapshot,
    )

    first, second = rows.to_polars().rows(named=True)

    wanted = {
        "symbol": CONTRACT.symbol,
        "expiration": date(2025, 12, 19),
        "strike": 650.0,
        "contract_type": "call",
        "bid": 28.4,
        "delta": 0.8,
        "gamma": None,
        "greeks_provider": "tradier",
        "greeks_source": "computed",
        "last_trade_price": 28.5,
        "last_trade_conditions": [209],
        "open_interest": 900.0,
        "volume": 12.0,
        "implied_volatility": None,
    }
    assert {name: first[name] for name in wanted} == wanted
    assert [second[name] for name in ("delta", "last_trade_price", "volume")] == [None] * 3
    assert second["bid"] == 28.4
    frame = frame_of(rows)
    assert frame["delta"].tolist()[0] == 0.8
    assert np.isnan(frame["delta"][1])
    assert str(frame["last_trade_event_time"].dtype) == "datetime64[ns, UTC]"


def test_the_verdict_on_a_row_is_a_column_of_codes() -> None:
    def judged(*codes: str) -> Quality:
        reasons = tuple(Reason(code=code, severity=Severity.WARNING) for code in codes)
        return Quality(provider="massive", source=Source.REST, received_ns=1, reasons=reasons)

    quotes = Rows([quote(quality=judged("locked", "wide")), SPY], kind=Quote)
    options = Rows([option(quality=judged("zero_bid"))], kind=OptionSnapshot)

    assert quotes.to_polars()["quality_reasons"].to_list() == [["locked", "wide"], None]
    assert frame_of(quotes)["quality_reasons"].tolist() == [["locked", "wide"], None]
    assert options.to_polars()["quality_reasons"].to_list() == [["zero_bid"]]


def test_an_index_is_its_quote() -> None:
    rows = Rows([IndexSnapshot(symbol="I:SPX", quote=SPX)], kind=IndexSnapshot)

    table = rows.to_polars()
    assert (table["symbol"][0], table["last"][0]) == ("I:SPX", 6754.51)
    assert "timeframes" not in table.columns


@pytest.mark.parametrize("name", ["polars", "pandas"])
def test_without_the_library_the_error_says_what_to_install(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)

    with pytest.raises(ImportError, match=rf"pip install 'onetape\[{name}\]'"):
        getattr(Rows([SPY], kind=Quote), f"to_{name}")()
