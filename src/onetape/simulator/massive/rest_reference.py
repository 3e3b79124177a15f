"""What exists: market status, holidays, contracts, tickers, exchanges, conditions.

Reference data is in every plan. The corporate and editorial lists of the vendor that
the simulated market has nothing to say about are empty and well formed.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime
from itertools import chain
from typing import Any, Final

from onetape import calendar
from onetape.calendar import Holiday
from onetape.errors import InvalidRequest
from onetape.model import AssetClass
from onetape.simulator.massive.pages import Key
from onetape.simulator.massive.rest_contracts import SORTS, narrowed
from onetape.simulator.massive.rest_query import NEW_YORK, NS_PER_S, not_found
from onetape.simulator.massive.rest_request import Ask, Endpoint, Listing
from onetape.simulator.massive.rows import ContractRow, Envelope
from onetape.simulator.seeded import conditions
from onetape.simulator.seeded.conditions import Condition, Exchange
from onetape.simulator.seeded.instruments import Instrument
from onetape.simulator.seeded.records import Contract, Session

ASSET_CLASSES: Final = ("stocks", "options", "crypto", "fx", "indices", "futures")
LOCALES: Final = ("us", "global")
EXCHANGES: Final = ("NYSE", "NASDAQ", "OTC")
INDEX_GROUPS: Final = (
    "s_and_p",
    "societe_generale",
    "cgi",
    "msci",
    "ftse_russell",
    "mstar",
    "mstarc",
    "cccy",
    "nasdaq",
    "dow_jones",
)
TICKER_TYPES: Final[Mapping[str, str]] = {
    "CS": "Common Stock",
    "ADRC": "American Depository Receipt Common",
    "ETF": "Exchange Traded Fund",
    "INDEX": "Index",
}

# ---- the calendar ----


def market_now(ask: Ask) -> dict[str, Any]:
    """Answer `/v1/marketstatus/now`: a bare object."""
    session = ask.market.session(ask.now_ns)
    stocks = {Session.REGULAR: "open", Session.CLOSED: "closed"}.get(session, "extended-hours")
    indices = "open" if ask.market.is_open(ask.now_ns, AssetClass.INDICES) else "closed"
    now = datetime.fromtimestamp(ask.now_ns // NS_PER_S, NEW_YORK)
    return {
        "afterHours": session is Session.AFTER,
        "currencies": {"crypto": "open", "fx": "open"},
        "earlyHours": session is Session.PRE,
        "exchanges": {"nasdaq": stocks, "nyse": stocks, "otc": stocks},
        "indicesGroups": dict.fromkeys(INDEX_GROUPS, indices),
        "market": stocks,
        "serverTime": now.isoformat(),
    }


def holidays(ask: Ask) -> list[dict[str, str]]:
    """Answer `/v1/marketstatus/upcoming`: a bare array, a row per exchange and date.

    It is the exchanges' own calendar even when the simulated market never closes.
    """
    today = ask.market.market_date(ask.now_ns)
    try:
        upcoming = calendar.upcoming_holidays(today)
    except InvalidRequest:
        return []  # the simulated day is beyond what anybody has announced
    return [_holiday_row(day, exchange) for day in upcoming for exchange in EXCHANGES]


def _holiday_row(day: Holiday, exchange: str) -> dict[str, str]:
    row = {
        "date": day.date.isoformat(),
        "exchange": exchange,
        "name": day.name,
        "status": day.status.value,
    }
    if day.open_ns is not None and day.close_ns is not None:
        row |= {"open": _instant(day.open_ns), "close": _instant(day.close_ns)}
    return row


def _instant(at_ns: int) -> str:
    return datetime.fromtimestamp(at_ns // NS_PER_S, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


# ---- options contracts ----


def _contract_row(contract: Contract) -> ContractRow:
    return ContractRow(
        additional_underlyings=contract.additional_underlyings or None,
        cfi=contract.cfi,
        contract_type=contract.contract_type,
        exercise_style=contract.exercise_style,
        expiration_date=contract.expiration.isoformat(),
        primary_exchange=contract.primary_exchange,
        shares_per_contract=contract.shares_per_contract,
        strike_price=contract.strike,
        ticker=contract.ticker,
        underlying_ticker=contract.underlying_ref,
    )


_CONTRACTS: Final = Listing[Contract](
    sorts={**SORTS, "underlying_ticker": lambda row: (row.underlying_ref, row.ticker)},
    default=10,
    maximum=1000,
)


def contracts(ask: Ask) -> Envelope:
    """Answer `/v3/reference/options/contracts`."""
    as_of = ask.query.day("as_of") or ask.market.market_date(ask.now_ns)
    expired = ask.query.is_set("expired", default=False)
    # The next page must mean the same day, even when midnight falls between the two.
    rows = _contracts(ask, as_of, expired=expired)
    listed = ask.page(rows, _CONTRACTS, as_of=as_of.isoformat())
    return ask.envelope([_contract_row(row) for row in listed.rows], next_url=listed.next_url)


def _contracts(ask: Ask, as_of: date, *, expired: bool) -> Iterator[Contract]:
    market, underlyings = ask.market, ask.query.strings("underlying_ticker")
    every = chain.from_iterable(
        market.contracts(underlying, as_of=as_of, expired=expired)
        for underlying in market.optionable()
        if underlyings.admits(underlying.removeprefix("I:"))
    )
    ticker = ask.query.strings("ticker")
    found = narrowed(ask.query, every)
    return filter(lambda row: ticker.admits(row.ticker), found) if ticker else found


def contract(ask: Ask) -> Envelope:
    """Answer `/v3/reference/options/contracts/{ticker}`."""
    found = ask.market.contract(ask.path["ticker"], as_of=ask.query.day("as_of"))
    if found is None:
        raise not_found()
    return ask.envelope(_contract_row(found))


# ---- tickers ----


def _ticker_row(instrument: Instrument, *, today: date) -> dict[str, Any]:
    is_index = instrument.asset is AssetClass.INDICES
    row = {
        "ticker": instrument.ticker,
        "name": instrument.name,
        "market": "indices" if is_index else "stocks",
        "locale": "us",
        "primary_exchange": instrument.primary_exchange,
        "type": None if is_index else instrument.type,
        "active": True,
        "currency_name": "usd",
        "cik": instrument.cik,
        "last_updated_utc": f"{today}T00:00:00Z",
    }
    return {name: value for name, value in row.items() if value is not None}


def _by(name: str) -> Callable[[dict[str, Any]], Key]:
    def key(row: dict[str, Any]) -> Key:
        return str(row.get(name, "")), row["ticker"]

    return key


_TICKERS: Final = Listing[dict[str, Any]](
    sorts={
        name: _by(name)
        for name in (
            "ticker",
            "name",
            "market",
            "locale",
            "primary_exchange",
            "type",
            "currency_symbol",
            "currency_name",
            "base_currency_symbol",
            "base_currency_name",
            "cik",
            "composite_figi",
            "share_class_figi",
            "last_updated_utc",
            "delisted_utc",
        )
    },
    default=100,
    maximum=1000,
)


def tickers(ask: Ask) -> Envelope:
    """Answer `/v3/reference/tickers`; options are not in this list."""
    listed = ask.page(_tickers(ask), _TICKERS)
    return ask.envelope(listed.rows, next_url=listed.next_url, count=len(listed.rows))


def _tickers(ask: Ask) -> Iterator[dict[str, Any]]:
    query = ask.query
    names = query.strings("ticker")
    wanted = {
        "type": query.text("type"),
        "market": query.optional_choice("market", ("stocks", "crypto", "fx", "otc", "indices")),
        "primary_exchange": query.text("exchange"),
        "cik": query.text("cik"),
    }
    search = (query.text("search") or "").casefold()
    if not query.is_set("active", default=True) or query.text("cusip"):
        return  # nothing is ever delisted here, and nothing has a CUSIP
    today = ask.market.market_date(ask.now_ns)
    for instrument in ask.market.instruments():
        row = _ticker_row(instrument, today=today)
        found = search in f"{instrument.ticker} {instrument.name}".casefold()
        matches = all(value is None or row.get(name) == value for name, value in wanted.items())
        if found and matches and names.admits(instrument.ticker):
            yield row


def ticker(ask: Ask) -> Envelope:
    """Answer `/v3/reference/tickers/{ticker}`."""
    instrument = ask.market.instrument(ask.path["ticker"])
    if instrument is None:
        raise not_found()
    row = _ticker_row(instrument, today=ask.market.market_date(ask.now_ns))
    del row["last_updated_utc"]  # the list has it, the details do not
    if instrument.asset is AssetClass.STOCKS:
        shares = instrument.shares_outstanding
        more = {
            "description": instrument.description,
            "list_date": instrument.list_date,
            "market_cap": ask.market.market_cap(instrument.ticker, ask.now_ns),
            "round_lot": 100,
            "share_class_shares_outstanding": shares,
            "ticker_root": instrument.ticker,
            "weighted_shares_outstanding": shares,
        }
        row |= {name: value for name, value in more.items() if value is not None}
    return ask.envelope(row)


def ticker_types(ask: Ask) -> Envelope:
    """Answer `/v3/reference/tickers/types`."""
    asset = ask.query.optional_choice("asset_class", ASSET_CLASSES)
    locale = ask.query.optional_choice("locale", LOCALES)
    rows = [
        {
            "code": code,
            "description": description,
            "asset_class": "indices" if code == "INDEX" else "stocks",
            "locale": "us",
        }
        for code, description in TICKER_TYPES.items()
    ]
    kept = [row for row in rows if asset in {None, row["asset_class"]} and locale in {None, "us"}]
    return ask.envelope(kept, count=len(kept))


# ---- exchanges and conditions ----


def exchanges(ask: Ask) -> Envelope:
    """Answer `/v3/reference/exchanges`: all of them at once."""
    asset = ask.query.optional_choice("asset_class", ASSET_CLASSES)
    locale = ask.query.optional_choice("locale", LOCALES)
    rows = [
        _exchange_row(exchange)
        for exchange in conditions.EXCHANGES
        if asset in {None, exchange.asset} and locale in {None, "us"}
    ]
    return ask.envelope(rows, count=len(rows))


def _exchange_row(exchange: Exchange) -> dict[str, Any]:
    row = {
        "id": exchange.id,
        "type": exchange.type,
        "asset_class": exchange.asset,
        "locale": "us",
        "name": exchange.name,
        "acronym": exchange.acronym,
        "mic": exchange.mic,
        "operating_mic": exchange.operating_mic,
        "participant_id": exchange.participant_id,
    }
    return {name: value for name, value in row.items() if value is not None}


_CONDITIONS: Final = Listing[Condition](
    sorts={
        "asset_class": lambda row: (row.asset, row.id),
        "id": lambda row: (row.id, row.asset),
        "type": lambda row: (row.type, row.asset, row.id),
        "name": lambda row: (row.name, row.asset, row.id),
        "data_types": lambda row: (",".join(row.data_types), row.asset, row.id),
        "legacy": lambda row: (int(row.legacy), row.asset, row.id),
    },
    default=10,
    maximum=1000,
)


def trade_conditions(ask: Ask) -> Envelope:
    """Answer `/v3/reference/conditions`."""
    listed = ask.page(_conditions(ask), _CONDITIONS)
    rows = [_condition_row(row) for row in listed.rows]
    return ask.envelope(rows, next_url=listed.next_url, count=len(rows))


def _conditions(ask: Ask) -> Iterator[Condition]:
    query = ask.query
    asset = query.optional_choice("asset_class", ASSET_CLASSES)
    data_type = query.optional_choice("data_type", ("trade", "bbo", "nbbo"))
    sip = query.optional_choice("sip", ("CTA", "UTP", "OPRA"))
    identifier = query.text("id")
    for row in conditions.CONDITIONS:
        if (
            asset in {None, row.asset}
            and (data_type is None or data_type in row.data_types)
            and (sip is None or sip in row.sip_mapping)
            and identifier in {None, str(row.id)}
        ):
            yield row


def _condition_row(condition: Condition) -> dict[str, Any]:
    updates = {
        "updates_high_low": condition.updates_high_low,
        "updates_open_close": condition.updates_open_close,
        "updates_volume": condition.updates_volume,
    }
    row: dict[str, Any] = {
        "id": condition.id,
        "type": condition.type,
        "name": condition.name,
        "asset_class": condition.asset,
        "data_types": condition.data_types,
        "sip_mapping": condition.sip_mapping,
        "update_rules": {"consolidated": updates, "market_center": updates},
    }
    if condition.abbreviation is not None:
        row["abbreviation"] = condition.abbreviation
    if condition.legacy:
        row["legacy"] = True
    return row


# ---- what the simulated market has nothing to say about ----


def nothing(ask: Ask) -> Envelope:
    """Answer a list of which the simulated world has no rows."""
    return ask.envelope([])


def related(ask: Ask) -> dict[str, Any]:
    """Answer `/v1/related-companies/{ticker}`: nothing here is related."""
    return {
        "request_id": ask.request_id,
        "results": [],
        "status": "OK",
        "ticker": ask.path["ticker"],
    }


def events(ask: Ask) -> Envelope:
    """Answer `/vX/reference/tickers/{id}/events`: nothing was ever renamed."""
    instrument = ask.market.instrument(ask.path["ticker"])
    if instrument is None:
        raise not_found()
    return ask.envelope({"name": instrument.name, "events": []})


ENDPOINTS: Final = (
    Endpoint("/v1/marketstatus/now", market_now, has_request_id=False),
    Endpoint("/v1/marketstatus/upcoming", holidays, has_request_id=False),
    Endpoint("/v3/reference/options/contracts", contracts),
    Endpoint("/v3/reference/options/contracts/{ticker}", contract),
    Endpoint("/v3/reference/tickers", tickers),
    Endpoint("/v3/reference/tickers/types", ticker_types, reads_market=False),
    Endpoint("/v3/reference/tickers/{ticker}", ticker),
    Endpoint("/v3/reference/exchanges", exchanges, reads_market=False),
    Endpoint("/v3/reference/conditions", trade_conditions, reads_market=False),
    Endpoint("/v3/reference/splits", nothing, reads_market=False),
    Endpoint("/v3/reference/dividends", nothing, reads_market=False),
    Endpoint("/v2/reference/news", nothing, reads_market=False),
    Endpoint("/vX/reference/financials", nothing, reads_market=False),
    Endpoint("/vX/reference/ipos", nothing, reads_market=False),
    Endpoint("/v1/related-companies/{ticker}", related, reads_market=False),
    Endpoint("/vX/reference/tickers/{ticker}/events", events),
)
