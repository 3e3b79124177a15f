"""The vendor's answers as models: the values are those that its own Python client reads.

Appendix A and W-74: the paths and shapes are the documented ones, read from the simulated
vendor over a socket and, from the same bytes, by the models of the official client.
"""

# The vendor's client is not typed:
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given, strategies as st
from massive.rest.models import (
    Agg,
    IndicesSnapshot,
    MarketHoliday,
    MarketStatus as OfficialStatus,
    OptionContractSnapshot,
    OptionsContract,
    Quote as OfficialQuote,
    SingleIndicatorResults,
    TickerSnapshot,
    Trade as OfficialTrade,
    UniversalSnapshot,
)

from onetape.calendar import upcoming_holidays
from onetape.clock import SystemClock
from onetape.errors import UpstreamGarbled
from onetape.massive.parse import (
    parse_bars,
    parse_chain,
    parse_contracts,
    parse_holidays,
    parse_indicator,
    parse_market_status,
    parse_option_snapshots,
    parse_quote_history,
    parse_quotes,
    parse_stock_quotes,
    parse_trades,
)
from onetape.massive.rest import MassiveREST, RestPolicy, RestResponse
from onetape.model import OptionSnapshot, Quote
from onetape.provenance import Source
from onetape.simulator.app import Simulator, SimulatorSettings
from onetape.simulator.market import Hours
from onetape.timeframes import BarLength, Timespan

NOW_NS = 1_764_000_000_000_000_000
MONDAY = datetime(2025, 11, 24, 16, 0, tzinfo=UTC)  # eleven o'clock in New York
SPY_CALL = "O:SPY251219C00670000"
SPX_PUT = "O:SPXW251219P06750000"

PATHS: Final[Mapping[str, tuple[str, str]]] = {
    "chain": ("/v3/snapshot/options/SPY", "limit=250"),
    "spx_chain": ("/v3/snapshot/options/I:SPX", "limit=250&strike_price.gte=6700"),
    "contract_snapshot": (f"/v3/snapshot/options/SPY/{SPY_CALL}", ""),
    "universal": (
        "/v3/snapshot",
        f"limit=250&ticker.any_of=SPY,AAPL,I:SPX,I:VIX,NOPE,{SPY_CALL},{SPX_PUT}",
    ),
    "indices": ("/v3/snapshot/indices", "limit=250&ticker.any_of=I:SPX,I:VIX,I:NOPE"),
    "stocks": ("/v2/snapshot/locale/us/markets/stocks/tickers", "tickers=SPY,AAPL,NOPE"),
    "stock": ("/v2/snapshot/locale/us/markets/stocks/tickers/SPY", ""),
    "minutes": ("/v2/aggs/ticker/SPY/range/5/minute/2025-11-24/2025-11-24", "limit=50000"),
    "days": ("/v2/aggs/ticker/I:SPX/range/1/day/2025-10-27/2025-11-21", "limit=50000"),
    "no_bars": ("/v2/aggs/ticker/SPY/range/1/day/2025-11-22/2025-11-23", ""),
    "trades": (f"/v3/trades/{SPY_CALL}", "limit=50"),
    "stock_trades": ("/v3/trades/SPY", "limit=50"),
    "quotes": (f"/v3/quotes/{SPY_CALL}", "limit=50"),
    "stock_quotes": ("/v3/quotes/SPY", "limit=50"),
    "contracts": ("/v3/reference/options/contracts", "underlying_ticker=SPX&limit=200"),
    "contract": (f"/v3/reference/options/contracts/{SPY_CALL}", ""),
    "status": ("/v1/marketstatus/now", ""),
    "holidays": ("/v1/marketstatus/upcoming", ""),
    "rsi": ("/v1/indicators/rsi/I:SPX", "timespan=day&window=14&limit=20"),
    "macd": ("/v1/indicators/macd/SPY", "timespan=day&limit=5"),
}


async def collected() -> dict[str, RestResponse]:
    """Ask the simulated vendor for each path, as the package does."""
    start_ns = int(MONDAY.timestamp()) * 1_000_000_000
    settings = SimulatorSettings(start_ns=start_ns, hours=Hours.EXCHANGE, speed=1e-6)
    async with Simulator(settings) as simulator, asyncio.timeout(50):
        rest = MassiveREST(
            base_url=simulator.url,
            headers=lambda: {"Authorization": f"Bearer {simulator.key}"},
            clock=SystemClock(),
            policy=RestPolicy(),
        )
        async with rest:
            return {name: await rest.get(*target) for name, target in PATHS.items()}


@pytest.fixture(scope="module")
def answers() -> dict[str, RestResponse]:
    return asyncio.run(collected())


def known(answer: RestResponse) -> dict[str, Any]:
    """What a model of an answer is told of it."""
    assert answer.status == 200
    return {"received_ns": answer.received_ns, "simulated": answer.simulated}


def rows_of(answer: RestResponse) -> list[Any]:
    found = msgspec.json.decode(answer.body)
    rows: Any = found.get("results") or found.get("tickers") or found.get("ticker")
    return rows if isinstance(rows, list) else [rows]


# ---- the values are those of the official client ----


def same_quote(quote: Quote, day: Any, sides: Any, trade: Any) -> None:
    """Compare with the parts that the official client reads."""
    for ours, theirs in (("open", "open"), ("high", "high"), ("low", "low"), ("vwap", "vwap")):
        assert getattr(quote, ours) == (day and getattr(day, theirs, None))
    assert quote.previous_close == (day and day.previous_close)
    assert (quote.bid, quote.ask) == ((sides.bid, sides.ask) if sides else (None, None))
    assert (quote.bid_size, quote.ask_size) == (
        (sides.bid_size, sides.ask_size) if sides else (None, None)
    )
    if trade:
        assert (quote.last, quote.last_size) == (trade.price, trade.size)
    times = [sides and sides.last_updated, trade and trade.sip_timestamp]
    assert quote.event_ns == max(filter(None, times))


def same_option(option: OptionSnapshot, official: Any, symbol: str) -> None:
    terms, contract = official.details, option.contract
    assert option.symbol == option.quote.symbol == symbol
    assert contract.expiration.isoformat() == terms.expiration_date
    assert (contract.strike, contract.contract_type) == (terms.strike_price, terms.contract_type)
    assert (contract.exercise_style, contract.shares_per_contract) == (
        terms.exercise_style,
        terms.shares_per_contract,
    )
    assert contract.underlying == official.underlying_asset.ticker
    assert option.implied_volatility == official.implied_volatility
    assert option.open_interest == official.open_interest
    assert option.break_even == official.break_even_price
    if official.greeks is None:
        assert option.greeks is None
    else:
        assert option.greeks is not None
        for name in ("delta", "gamma", "theta", "vega"):
            assert getattr(option.greeks, name) == getattr(official.greeks, name)
    trade = official.last_trade
    assert (option.last_trade is None) == (trade is None)
    if option.last_trade is not None:
        assert option.last_trade.event_ns == trade.sip_timestamp
        assert (option.last_trade.price, option.last_trade.size) == (trade.price, trade.size)
        assert option.last_trade.conditions == tuple(trade.conditions or ())


@pytest.mark.parametrize("name", ["chain", "spx_chain", "contract_snapshot"])
def test_a_chain_is_what_the_official_client_reads(
    answers: dict[str, RestResponse], name: str
) -> None:
    answer = answers[name]
    page = parse_chain(answer.body, **known(answer))
    officials: Any = [OptionContractSnapshot.from_dict(row) for row in rows_of(answer)]

    assert not page.faults
    for option, official in zip(page.rows, officials, strict=True):
        same_option(option, official, official.details.ticker)
        same_quote(option.quote, official.day, official.last_quote, official.last_trade)
        assert option.volume == official.day.volume
        assert option.quote.simulated
        assert not option.quote.delayed
    on = officials[0].underlying_asset
    assert page.underlying == on.ticker
    assert page.underlying_price == (on.price or on.value)
    assert page.underlying_event_ns == on.last_updated


def test_a_page_of_a_chain_has_250_rows_some_of_them_without_greeks(
    answers: dict[str, RestResponse],
) -> None:
    answer = answers["chain"]
    page = parse_chain(answer.body, **known(answer))

    assert len(page.rows) == 250
    assert page.next_url
    assert page.next_url.startswith("http")
    assert {option.greeks is None for option in page.rows} == {True, False}


def test_a_universal_snapshot_is_what_the_official_client_reads(
    answers: dict[str, RestResponse],
) -> None:
    answer = answers["universal"]
    page = parse_quotes(answer.body, **known(answer))
    officials = {row["ticker"]: UniversalSnapshot.from_dict(row) for row in rows_of(answer)}

    assert [(one.symbol, one.error) for one in page.faults] == [("NOPE", "not_found")]
    assert [row.symbol for row in page.rows] == [name for name in officials if name != "NOPE"]
    for quote in page.rows:
        official: Any = officials[quote.symbol]
        if quote.symbol.startswith("I:"):
            assert quote.last == official.value == official.session.close
            assert quote.event_ns == official.last_updated
        else:
            same_quote(quote, official.session, official.last_quote, official.last_trade)
        assert quote.market_status == "open"
    options = parse_option_snapshots(answer.body, **known(answer))
    assert {row.symbol for row in options.rows} == {SPY_CALL, SPX_PUT}
    for option in options.rows:
        same_option(option, officials[option.symbol], option.symbol)


def test_indices_are_what_the_official_client_reads(answers: dict[str, RestResponse]) -> None:
    answer = answers["indices"]
    page = parse_quotes(answer.body, **known(answer))
    officials: Any = [IndicesSnapshot.from_dict(row) for row in rows_of(answer)]

    assert [one.symbol for one in page.faults] == [one.ticker for one in officials if one.error]
    good = [one for one in officials if not one.error]
    for quote, official in zip(page.rows, good, strict=True):
        assert (quote.symbol, quote.last) == (official.ticker, official.value)
        for name in ("open", "high", "low", "previous_close", "change", "change_percent"):
            assert getattr(quote, name) == getattr(official.session, name)


@pytest.mark.parametrize(("name", "count"), [("stocks", 2), ("stock", 1)])
def test_stocks_are_what_the_official_client_reads(
    answers: dict[str, RestResponse], name: str, count: int
) -> None:
    answer = answers[name]
    page = parse_stock_quotes(answer.body, **known(answer))
    officials: Any = [TickerSnapshot.from_dict(row) for row in rows_of(answer)]

    assert len(page.rows) == count
    for quote, official in zip(page.rows, officials, strict=True):
        sides, trade = official.last_quote, official.last_trade
        assert (quote.bid, quote.ask) == (sides.bid_price, sides.ask_price)
        assert (quote.bid_size, quote.ask_size) == (sides.bid_size, sides.ask_size)
        assert (quote.last, quote.last_size) == (trade.price, trade.size)
        assert quote.event_ns == max(sides.sip_timestamp, trade.sip_timestamp)
        assert (quote.change, quote.previous_close) == (
            official.todays_change,
            official.prev_day.close,
        )
        assert (quote.open, quote.volume, quote.vwap) == (
            official.day.open,
            official.day.volume,
            official.day.vwap,
        )


@pytest.mark.parametrize(
    ("name", "symbol", "length"),
    [
        ("minutes", "SPY", BarLength(5, Timespan.MINUTE)),
        ("days", "I:SPX", BarLength(1, Timespan.DAY)),
    ],
)
def test_bars_are_what_the_official_client_reads(
    answers: dict[str, RestResponse], name: str, symbol: str, length: BarLength
) -> None:
    answer = answers[name]
    page = parse_bars(answer.body, symbol, length, **known(answer))
    officials: Any = [Agg.from_dict(row) for row in rows_of(answer)]

    assert len(page.rows) >= 18
    for bar, official in zip(page.rows, officials, strict=True):
        assert bar.event_ns == official.timestamp * 1_000_000
        for part in ("open", "high", "low", "close", "volume", "vwap"):
            assert getattr(bar, part) == getattr(official, part)
        assert bar.trades == official.transactions
        assert bar.source is Source.REST
    assert all(a.end_ns <= b.event_ns for a, b in zip(page.rows, page.rows[1:], strict=False))
    has_volume = {bar.volume is not None for bar in page.rows}
    assert has_volume == {not symbol.startswith("I:")}, "an index has no volume, not 0"


def test_days_without_bars_are_an_empty_page(answers: dict[str, RestResponse]) -> None:
    answer = answers["no_bars"]

    assert parse_bars(answer.body, "SPY", BarLength(1, Timespan.DAY), **known(answer)).rows == ()


@pytest.mark.parametrize(("name", "symbol"), [("trades", SPY_CALL), ("stock_trades", "SPY")])
def test_trades_are_what_the_official_client_reads(
    answers: dict[str, RestResponse], name: str, symbol: str
) -> None:
    answer = answers[name]
    page = parse_trades(answer.body, symbol, **known(answer))
    officials: Any = [OfficialTrade.from_dict(row) for row in rows_of(answer)]

    assert len(page.rows) == 50
    assert page.next_url
    for trade, official in zip(page.rows, officials, strict=True):
        assert (trade.symbol, trade.event_ns) == (symbol, official.sip_timestamp)
        assert (trade.price, trade.size) == (official.price, official.size)
        assert (trade.exchange, trade.sequence) == (official.exchange, official.sequence_number)
        assert trade.conditions == tuple(official.conditions or ())


@pytest.mark.parametrize(("name", "symbol"), [("quotes", SPY_CALL), ("stock_quotes", "SPY")])
def test_quotes_are_what_the_official_client_reads(
    answers: dict[str, RestResponse], name: str, symbol: str
) -> None:
    answer = answers[name]
    page = parse_quote_history(answer.body, symbol, **known(answer))
    officials: Any = [OfficialQuote.from_dict(row) for row in rows_of(answer)]

    assert len(page.rows) == 50
    for quote, official in zip(page.rows, officials, strict=True):
        assert (quote.symbol, quote.event_ns) == (symbol, official.sip_timestamp)
        assert (quote.bid, quote.ask) == (official.bid_price, official.ask_price)
        assert (quote.bid_size, quote.ask_size) == (official.bid_size, official.ask_size)
        assert (quote.bid_exchange, quote.ask_exchange) == (
            official.bid_exchange,
            official.ask_exchange,
        )
        assert quote.sequence == official.sequence_number


@pytest.mark.parametrize("name", ["contracts", "contract"])
def test_contracts_are_what_the_official_client_reads(
    answers: dict[str, RestResponse], name: str
) -> None:
    page = parse_contracts(answers[name].body)
    officials: Any = [OptionsContract.from_dict(row) for row in rows_of(answers[name])]

    assert not page.faults
    for contract, official in zip(page.rows, officials, strict=True):
        assert contract.symbol == official.ticker
        assert contract.underlying.removeprefix("I:") == official.underlying_ticker
        assert contract.expiration.isoformat() == official.expiration_date
        assert contract.strike == official.strike_price
        assert contract.contract_type == official.contract_type
    assert {row.underlying for row in page.rows} == {"I:SPX" if name == "contracts" else "SPY"}


@pytest.mark.parametrize("name", ["rsi", "macd"])
def test_indicators_are_what_the_official_client_reads(
    answers: dict[str, RestResponse], name: str
) -> None:
    page = parse_indicator(answers[name].body)
    found: Any = msgspec.json.decode(answers[name].body)
    official: Any = SingleIndicatorResults.from_dict(found["results"])

    assert len(page.rows) >= 5
    assert page.next_url == found.get("next_url")
    assert [(row.event_ns, row.value) for row in page.rows] == [
        (value.timestamp * 1_000_000, value.value) for value in official.values
    ]


def test_the_market_status_is_what_the_official_client_reads(
    answers: dict[str, RestResponse],
) -> None:
    answer = answers["status"]
    status = parse_market_status(answer.body, **known(answer))
    official: Any = OfficialStatus.from_dict(msgspec.json.decode(answer.body))

    assert status.session == official.market == "open"
    assert status.is_open
    assert status.event_ns == int(MONDAY.timestamp()) * 1_000_000_000
    assert datetime.fromisoformat(official.server_time) == MONDAY
    assert status.exchanges == vars(official.exchanges)
    assert status.next_close_ns == status.event_ns + 5 * 3600 * 1_000_000_000
    assert status.simulated


def test_the_holidays_are_those_of_the_official_client_once_each(
    answers: dict[str, RestResponse],
) -> None:
    body = answers["holidays"].body
    holidays = parse_holidays(body).rows
    officials: Any = [MarketHoliday.from_dict(row) for row in msgspec.json.decode(body)]

    assert list(holidays) == list(upcoming_holidays(MONDAY.date()))
    assert {(one.date.isoformat(), one.status.value) for one in holidays} == {
        (row.date, row.status) for row in officials
    }


# ---- any bytes at all ----

PARSERS: Final[Mapping[str, Callable[[bytes], Any]]] = {
    "chain": lambda body: parse_chain(body, received_ns=NOW_NS),
    "universal": lambda body: parse_quotes(body, received_ns=NOW_NS),
    "stocks": lambda body: parse_stock_quotes(body, received_ns=NOW_NS),
    "minutes": lambda body: parse_bars(
        body, "SPY", BarLength(5, Timespan.MINUTE), received_ns=NOW_NS
    ),
    "trades": lambda body: parse_trades(body, SPY_CALL, received_ns=NOW_NS),
    "quotes": lambda body: parse_quote_history(body, SPY_CALL, received_ns=NOW_NS),
    "contracts": parse_contracts,
    "status": lambda body: parse_market_status(body, received_ns=NOW_NS),
    "holidays": parse_holidays,
    "rsi": parse_indicator,
}


@pytest.mark.parametrize("name", PARSERS)
@given(data=st.data())
def test_bytes_flipped_cut_or_put_in_give_models_or_our_error(
    answers: dict[str, RestResponse], name: str, data: st.DataObject
) -> None:
    body = answers[name].body
    at = data.draw(st.integers(0, min(len(body), 3000) - 1))
    skipped = data.draw(st.sampled_from([0, 1, 5, len(body)]))
    put_in = data.draw(st.binary(max_size=3) | st.sampled_from([b"NaN", b"[[", b'"', b"1e999"]))

    try:
        PARSERS[name](body[:at] + put_in + body[at + skipped :])
    except UpstreamGarbled:
        return


@pytest.mark.parametrize("name", PARSERS)
def test_a_refusal_that_came_as_a_200_is_no_answer(name: str) -> None:
    with pytest.raises(UpstreamGarbled):
        PARSERS[name](b'{"status":"ERROR","request_id":"r","error":"Not now."}')
