"""How things stand: `/markets/quotes`, and the rows that chains are made of too.

before the open   open … close are null and `last` is the close before; volume counts
in the session    `close` is null
after the close   `close` is set if it traded, and `last` stays there, whatever trades on
on a weekend      as after the close of the last session
"""

from collections.abc import Sequence
from datetime import date
from typing import Any, Final

from msgspec import UNSET, UnsetType

from onetape import calendar
from onetape.model import AssetClass, ContractType
from onetape.simulator.market import Contract, DayStats, Instrument, Market, OptionRow, QuoteTick
from onetape.simulator.tradier import names
from onetape.simulator.tradier.greeks import greeks_of
from onetape.simulator.tradier.request import NS_PER_MS, NS_PER_S, Ask, Endpoint, few
from onetape.simulator.tradier.rows import Greeks, OptionQuote, Quote

_QUARTER_ENDS: Final = frozenset({3, 6, 9, 12})
_FRIDAY: Final = 4
_THIRD: Final = range(15, 22)


def change_of(last: float | None, before: float | None) -> tuple[float | None, float | None]:
    """Return what moved, in dollars and in percent."""
    if last is None or before is None:
        return None, None
    return round(last - before, 2), round(100 * (last - before) / before, 2) if before else None


def second_ms(event_ns: int) -> int:
    """Return the time of a quote as it is told: milliseconds, to the second."""
    return event_ns // NS_PER_S * 1000


# ---- stocks and indices ----


def quote(ask: Ask, instrument: Instrument) -> Quote:
    """Return the row of a stock, ETF or index."""
    is_index = instrument.asset is AssetClass.INDICES
    market, at_ns, ticker = ask.market, ask.now_ns, instrument.ticker
    stats = market.session_stats(ticker, at_ns)
    last = stats.previous_close if stats.close is None else stats.close
    change, percent = change_of(last, stats.previous_close)
    trade = None if is_index else market.last_trade(ticker, at_ns)
    value = market.value_at(ticker, at_ns)
    traded_ns = value.event_ns if value else trade.event_ns if trade else 0
    before = None if is_index else market.previous_day_stats(ticker, _open_ns(stats.day))
    low, high = market.year_range(ticker, at_ns) or (0.0, 0.0)
    standing = market.last_quote(ticker, at_ns)
    return Quote(
        symbol=names.name_of(ticker),
        description=instrument.name,
        exch=names.listing_letter(instrument),
        type=names.kind_of(instrument),
        last=last,
        change=change,
        volume=stats.volume or 0,
        open=stats.open,
        high=stats.high,
        low=stats.low,
        close=_close(market, stats, at_ns),
        change_percentage=percent,
        average_volume=(before.volume or 0) if before else 0,
        last_volume=trade.size if trade else 0,
        trade_date=traded_ns // NS_PER_MS,
        prevclose=stats.previous_close,
        week_52_high=high,
        week_52_low=low,
        root_symbols=names.name_of(ticker) if instrument.has_options else "",
        **_sides(standing, nothing=_nothing(ask) if is_index else 0.0),
    )


def _open_ns(day: date) -> int:
    return calendar.instant_ns(day, calendar.OPEN)


def _nothing(ask: Ask) -> float | None:
    return None if ask.policy.index_quotes == "null" else 0.0


def _close(market: Market, stats: DayStats, at_ns: int) -> float | None:
    """Return the close, once there is one."""
    bounds = market.session_bounds(stats.day)
    return stats.close if bounds is not None and at_ns >= bounds[1] else None


def _sides(standing: QuoteTick | None, *, nothing: float | None) -> dict[str, Any]:
    """Return the keys of bid and ask; a side without size has no exchange."""
    if standing is None:
        none = {"bidsize": 0, "bidexch": None, "bid_date": 0}
        also = {"asksize": 0, "askexch": None, "ask_date": 0}
        return {"bid": nothing, "ask": nothing, **none, **also}
    at_ms = second_ms(standing.event_ns)
    return {
        "bid": standing.bid,
        "ask": standing.ask,
        "bidsize": standing.bid_size,
        "bidexch": names.letter(standing.bid_exchange) if standing.bid_size else None,
        "bid_date": at_ms,
        "asksize": standing.ask_size,
        "askexch": names.letter(standing.ask_exchange) if standing.ask_size else None,
        "ask_date": at_ms,
    }


# ---- options ----


def option_quotes(ask: Ask, contracts: Sequence[Contract]) -> list[OptionQuote]:
    """Return the rows of contracts of one underlying and expiration, in their order."""
    wants_greeks = ask.is_set("greeks")
    blocks: Sequence[Greeks | UnsetType | None] = (
        greeks_of(ask.market, contracts, ask.now_ns, ask.policy)
        if wants_greeks
        else [UNSET] * len(contracts)
    )
    rows = {row.contract.ticker: row for row in _option_rows(ask, contracts)}
    return [
        _option_quote(ask, rows[contract.ticker], block)
        for contract, block in zip(contracts, blocks, strict=True)
        if contract.ticker in rows
    ]


def _option_rows(ask: Ask, contracts: Sequence[Contract]) -> list[OptionRow]:
    """Return how contracts stand, or stood when they expired earlier today."""
    living = [one for one in contracts if ask.now_ns < one.expires_ns]
    rows = ask.market.option_rows(living, ask.now_ns)
    gone = [one for one in contracts if ask.now_ns >= one.expires_ns]
    for end_ns in dict.fromkeys(one.expires_ns for one in gone):
        ended = [one for one in gone if one.expires_ns == end_ns]
        rows += ask.market.option_rows(ended, end_ns - 1)
    return rows


def _option_quote(ask: Ask, row: OptionRow, greeks: Greeks | UnsetType | None) -> OptionQuote:
    contract, stats, trade = row.contract, row.day, row.trade
    last = stats.close if stats.close is not None else trade and trade.price
    change, percent = change_of(last, stats.previous_close)
    kind = "call" if contract.contract_type is ContractType.CALL else "put"
    return OptionQuote(
        symbol=names.name_of(contract.ticker),
        description=f"{contract.root} {contract.expiration:%b} {contract.expiration.day} "
        f"{contract.expiration.year} ${contract.strike:.2f} {kind.title()}",
        exch="Z" if contract.exercise_style == "american" else "C",
        last=last,
        change=change,
        volume=stats.volume or 0,
        open=stats.open,
        high=stats.high,
        low=stats.low,
        close=_close(ask.market, stats, ask.now_ns),
        underlying=names.name_of(contract.underlying),
        strike=contract.strike,
        greeks=greeks,
        change_percentage=percent,
        last_volume=trade.size if trade else 0,
        trade_date=trade.event_ns // NS_PER_MS if trade else 0,
        prevclose=stats.previous_close,
        open_interest=row.open_interest,
        contract_size=contract.shares_per_contract,
        expiration_date=contract.expiration.isoformat(),
        expiration_type=expiration_type(contract),
        option_type=kind,
        root_symbol=contract.root,
        **_sides(row.quote, nothing=0.0),
    )


def expiration_type(contract: Contract) -> str:
    """Return the label of a contract's date; a third Friday is `standard` for every root."""
    day = contract.expiration
    if contract.root == "VIX" or (day.weekday() == _FRIDAY and day.day in _THIRD):
        return "standard"
    following = calendar.next_session(day) if day < calendar.LAST_DAY else day
    if following.month != day.month:
        return "quarterlys" if day.month in _QUARTER_ENDS else "eom"
    return "weeklys"


# ---- the endpoint ----


def quotes(ask: Ask) -> dict[str, Any]:
    """Answer `/markets/quotes`: any mixture, and the names nobody knows apart."""
    ask.text("symbols")
    unknown: list[str] = []
    found: dict[str, Quote | list[Contract]] = {}
    chains: dict[tuple[str, object], list[Contract]] = {}
    for name in ask.names("symbols"):
        symbol = names.symbol_of(name.upper(), ask.market)
        if symbol is None:
            unknown.append(name)
        elif symbol.startswith("O:"):
            contract = names.living_contract(symbol, ask.market, ask.now_ns)
            if contract is None:
                unknown.append(name)
            else:
                key = (contract.underlying, contract.expiration)
                chains.setdefault(key, []).append(contract)
                found[symbol] = chains[key]
        elif (instrument := ask.market.instrument(symbol)) is not None:
            found[symbol] = quote(ask, instrument)
    rows = _in_order(ask, found, list(chains.values()))
    body = dict(few("quote", rows) or {})
    if unknown:
        body["unmatched_symbols"] = few("symbol", unknown)
    return {"quotes": body}


def _in_order(
    ask: Ask, found: dict[str, Quote | list[Contract]], chains: list[list[Contract]]
) -> list[Quote | OptionQuote]:
    """Return every row where its symbol was named; options are cheaper together."""
    options = {
        f"O:{row.symbol}": row for contracts in chains for row in option_quotes(ask, contracts)
    }
    rows = (one if isinstance(one, Quote) else options.get(name) for name, one in found.items())
    return [row for row in rows if row is not None]


ENDPOINTS: Final = (Endpoint("/markets/quotes", quotes, ("GET", "POST")),)
