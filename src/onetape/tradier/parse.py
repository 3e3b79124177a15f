"""Tradier's quotes, chains and contract lists as our model: pure functions from bytes.

`reasons` are by symbol and say what is doubtful about a row. What reads differently than it looks:

    `last` moves in the regular session only, and `trade_date` is not its time after hours
    sizes of stocks are shares, whatever the documentation says
    a bid of 0 is a bid on an option that nobody bids for, and no bid on anything else
    `exch` of an option is not where it traded
"""

from collections.abc import Mapping
from datetime import date
from functools import lru_cache
from typing import Final, NamedTuple, cast

import msgspec

from onetape.calendar import Session, session_of
from onetape.errors import UNREADABLE, InvalidRequest, InvalidSymbol, UpstreamGarbled
from onetape.model import ContractType, OptionContract, OptionSnapshot, Quote, Trade
from onetape.provenance import Reason, Severity, Source
from onetape.rows import SymbolFault
from onetape.symbols import from_compact, from_tradier, underlying_of
from onetape.tradier.greeks import Carry, GreeksBlock, Reading, read_greeks
from onetape.tradier.shapes import (
    PROVIDER,
    Number,
    Origin,
    RowReader,
    is_none,
    malformed,
    opened,
    root_of,
    texts_of,
    unmatched,
)
from onetape.tradier.wire_rest import as_list, date_of, epoch_ns, number

EUROPEAN_ROOTS: Final = frozenset(
    ("SPX", "SPXW", "XSP", "NDX", "NDXP", "VIX", "VIXW", "RUT", "RUTW", "MRUT", "DJX", "XEO")
)
"""Tradier does not tell the exercise style; all other roots are American."""

LAST_FROZEN: Final = Reason(
    code="last_frozen",
    severity=Severity.INFO,
    detail="outside the regular session Tradier's last price stands still",
)


class QuotesPage(NamedTuple):
    """Quotes of all symbols; `contracts` has the options of them with greeks, if asked for."""

    quotes: list[Quote]
    contracts: list[OptionSnapshot]
    reasons: Mapping[str, tuple[Reason, ...]]
    faults: list[SymbolFault]


class ChainPage(NamedTuple):
    """One expiration by strike, calls first; `reasons` says what is doubtful, by symbol."""

    contracts: list[OptionSnapshot]
    reasons: Mapping[str, tuple[Reason, ...]]
    faults: list[SymbolFault]


class Expiration(NamedTuple):
    """One date on which options end; several roots may share it."""

    date: date
    types: tuple[str, ...] = ()
    contract_sizes: tuple[float, ...] = ()


class LookupPage(NamedTuple):
    """Every listed contract, by root."""

    contracts: Mapping[str, tuple[str, ...]]
    faults: list[SymbolFault]


# quotes and chains


class _Row(msgspec.Struct):
    symbol: str
    type: str | None = None
    last: Number = None
    change: Number = None
    change_percentage: Number = None
    volume: Number = None
    open: Number = None
    high: Number = None
    low: Number = None
    prevclose: Number = None
    bid: Number = None
    ask: Number = None
    bidsize: Number = None
    asksize: Number = None
    bid_date: Number = None
    ask_date: Number = None
    trade_date: Number = None
    last_volume: Number = None
    open_interest: Number = None
    contract_size: Number = None
    underlying: str | None = None
    greeks: GreeksBlock | str | msgspec.UnsetType | None = msgspec.UNSET


_quote_rows = RowReader(_Row, "symbol")


def parse_quotes(
    body: bytes, origin: Origin, *, carry: Mapping[str, Carry] | None = None
) -> QuotesPage:
    """Read `/markets/quotes`. `carry` is by underlying, to correct the greeks of puts.

    Raises:
        UpstreamGarbled: there are no quotes in it.
    """
    inside = opened(root_of(body, "quotes"), "quotes")
    quotes: list[Quote] = []
    contracts: list[OptionSnapshot] = []
    reasons: dict[str, tuple[Reason, ...]] = {}
    faults: list[SymbolFault] = []
    for row in _quote_rows.read(inside.get("quote"), faults):
        try:
            found = _contract(row, origin, carry or {}) if row.type == "option" else None
            quote = _listed(row, origin) if found is None else found.snapshot.quote
        except InvalidSymbol:
            faults.append(malformed(row.symbol))
            continue
        quotes.append(quote)
        if found is not None:
            contracts.append(found.snapshot)
            reasons[quote.symbol] = found.reasons
        elif row.type != "index" and _is_frozen(origin):
            reasons[quote.symbol] = (LAST_FROZEN,)
    unknown = inside.get("unmatched_symbols")
    if unknown is not None:
        named = opened(unknown, "unmatched symbols").get("symbol")
        faults.extend(map(unmatched, texts_of(named)))
    return QuotesPage(quotes, contracts, reasons, faults)


def underlying_price(quote: Quote) -> float | None:
    """Return what an underlying is worth: outside the regular session not `last`, if it can be."""
    if _is_frozen(Origin(quote.received_ns, delayed=quote.delayed)) and quote.mid is not None:
        return quote.mid
    return quote.price


_DELAY_NS: Final = 15 * 60 * 1_000_000_000


def _is_frozen(origin: Origin) -> bool:
    """Tell whether `last` stood still at the time that the answer is of."""
    at_ns = origin.received_ns - (_DELAY_NS if origin.delayed else 0)
    try:
        return session_of(at_ns) is not Session.REGULAR
    except InvalidRequest:  # outside the exchange calendar: nobody knows
        return False


def parse_chain(
    body: bytes, origin: Origin, *, carry: Mapping[str, Carry] | None = None
) -> ChainPage:
    """Read `/markets/options/chains`: one expiration, roots mixed, sorted here.

    Raises:
        UpstreamGarbled: there is no chain in it.
    """
    inside = opened(root_of(body, "options"), "options")
    contracts: list[OptionSnapshot] = []
    reasons: dict[str, tuple[Reason, ...]] = {}
    faults: list[SymbolFault] = []
    for row in _quote_rows.read(inside.get("option"), faults):
        try:
            reading = _contract(row, origin, carry or {})
        except InvalidSymbol:
            faults.append(malformed(row.symbol))
            continue
        contracts.append(reading.snapshot)
        reasons[reading.snapshot.symbol] = reading.reasons
    contracts.sort(key=_by_strike)
    return ChainPage(contracts, reasons, faults)


def _by_strike(one: OptionSnapshot) -> tuple[date, float, bool, str]:
    terms = one.contract
    is_put = terms.contract_type is ContractType.PUT
    return terms.expiration, terms.strike, is_put, terms.root


_NOT_ASKED: Final = Reading(None, None, ())


class _Contract(NamedTuple):
    snapshot: OptionSnapshot
    reasons: tuple[Reason, ...]


def _contract(row: _Row, origin: Origin, carry: Mapping[str, Carry]) -> _Contract:
    terms = _terms(row)
    quote = _quote(row, terms.symbol, origin)
    reading = _NOT_ASKED
    if row.greeks is not msgspec.UNSET:
        reading = read_greeks(
            row.greeks if isinstance(row.greeks, GreeksBlock) else None,
            contract_type=terms.contract_type,
            strike=terms.strike,
            expiration=terms.expiration,
            received_ns=origin.received_ns,
            carry=carry.get(terms.underlying),
        )
    snapshot = OptionSnapshot(
        contract=terms,
        quote=quote,
        last_trade=_last_trade(row, terms.symbol, origin),
        greeks=reading.greeks,
        implied_volatility=reading.implied_volatility,
        open_interest=number(row.open_interest),
        volume=quote.volume,
        break_even=_break_even(terms, quote),
    )
    return _Contract(snapshot, reading.reasons)


_name = lru_cache(maxsize=20_000)(from_compact)  # the same contracts come at every poll


def _terms(row: _Row) -> OptionContract:
    name = _name(row.symbol)
    underlying = underlying_of(name.root)
    if not underlying.startswith("I:") and row.underlying:
        underlying = from_tradier(row.underlying)
    return OptionContract(
        symbol=f"O:{row.symbol}",
        root=name.root,
        underlying=underlying,
        expiration=name.expiration,
        strike=name.strike,
        contract_type=name.contract_type,
        exercise_style="european" if name.root in EUROPEAN_ROOTS else "american",
        shares_per_contract=number(row.contract_size),
    )


def _last_trade(row: _Row, symbol: str, origin: Origin) -> Trade | None:
    """Return the last print, which may be days old; None without its time, price and size."""
    event_ns, price, size = epoch_ns(row.trade_date), number(row.last), number(row.last_volume)
    if event_ns is None or price is None or not size:
        return None
    return Trade(
        symbol=symbol,
        event_ns=event_ns,
        received_ns=origin.received_ns,
        provider=PROVIDER,
        source=Source.REST,
        simulated=origin.simulated,
        delayed=origin.delayed,
        price=price,
        size=size,
    )


def _break_even(terms: OptionContract, quote: Quote) -> float | None:
    middle = quote.mid
    if middle is None:
        return None
    is_call = terms.contract_type is ContractType.CALL
    return terms.strike + middle if is_call else terms.strike - middle


def _listed(row: _Row, origin: Origin) -> Quote:
    """Return the quote of a stock, a fund or an index."""
    if row.type == "index":
        return _quote(row, from_tradier(row.symbol, indices={row.symbol}), origin)
    # What says that it is a stock is one, though an index may have its name: TRIN.
    symbol = from_tradier(row.symbol, indices=()) if row.type else from_tradier(row.symbol)
    return _quote(row, symbol, origin)


def _quote(row: _Row, symbol: str, origin: Origin) -> Quote:
    bid, ask, volume = number(row.bid), number(row.ask) or None, number(row.volume)
    lot = origin.round_lot
    if symbol[1:2] == ":":
        lot = 1.0
    if not symbol.startswith("O:"):
        bid = bid or None
    if symbol.startswith("I:"):
        volume = volume or None
    times = (epoch_ns(row.bid_date), epoch_ns(row.ask_date))
    return Quote(
        symbol=symbol,
        event_ns=max((at for at in times if at), default=epoch_ns(row.trade_date)),
        received_ns=origin.received_ns,
        provider=PROVIDER,
        source=Source.REST,
        simulated=origin.simulated,
        delayed=origin.delayed,
        bid=bid,
        ask=ask,
        bid_size=None if bid is None else _times(row.bidsize, lot),
        ask_size=None if ask is None else _times(row.asksize, lot),
        last=number(row.last),
        last_size=number(row.last_volume) or None,
        open=number(row.open),
        high=number(row.high),
        low=number(row.low),
        previous_close=number(row.prevclose),
        change=number(row.change),
        change_percent=number(row.change_percentage),
        volume=volume,
    )


def _times(size: Number, lot: float) -> float | None:
    found = number(size)
    return None if found is None else found * lot


# contracts


class _ExpirationRow(msgspec.Struct):
    date: str
    contract_size: Number = None
    expiration_type: str | None = None


_expiration_rows = RowReader(_ExpirationRow, "date")


def parse_expirations(body: bytes) -> tuple[Expiration, ...]:
    """Read `/markets/options/expirations`, either form: each date once, soonest first.

    Raises:
        UpstreamGarbled: there are no expirations in it.
    """
    inside = opened(root_of(body, "expirations"), "expirations")
    rows = _expiration_rows.read(inside.get("expiration"), [])
    rows.extend(_ExpirationRow(text) for text in texts_of(inside.get("date")))
    types: dict[date, set[str]] = {}
    sizes: dict[date, set[float]] = {}
    for row in rows:
        day = date_of(row.date)
        if day is None:
            continue
        size = number(row.contract_size)
        types.setdefault(day, set()).update((row.expiration_type,) if row.expiration_type else ())
        sizes.setdefault(day, set()).update(() if size is None else (size,))
    return tuple(
        Expiration(day, tuple(sorted(types[day])), tuple(sorted(sizes[day])))
        for day in sorted(types)
    )


class _Strikes(msgspec.Struct):
    strike: list[Number] | Number = None


_strikes = msgspec.json.Decoder(_Strikes)


def parse_strikes(body: bytes) -> tuple[float, ...]:
    """Read `/markets/options/strikes`, lowest first.

    Raises:
        UpstreamGarbled: there are no strikes in it.
    """
    raw = root_of(body, "strikes")
    if is_none(raw):
        return ()
    try:
        said = as_list(_strikes.decode(raw).strike)
    except UNREADABLE as error:
        raise UpstreamGarbled("Tradier's strikes are not numbers") from error
    return tuple(sorted({strike for one in said if (strike := number(one)) is not None}))


class _RootRow(msgspec.Struct):
    rootSymbol: str  # noqa: N815 - theirs
    options: list[str] | str | None = None


_root_rows = RowReader(_RootRow, "rootSymbol")


def parse_lookup(body: bytes) -> LookupPage:
    """Read `/markets/options/lookup`: the contracts in Massive's form, by root, in order.

    Raises:
        UpstreamGarbled: there are no symbols in it.
    """
    faults: list[SymbolFault] = []
    found: dict[str, set[str]] = {}
    for row in _root_rows.read(root_of(body, "symbols"), faults):
        for text in cast("list[str]", as_list(row.options)):
            try:
                found.setdefault(row.rootSymbol, set()).add(str(from_compact(text)))
            except InvalidSymbol:
                faults.append(malformed(text))
    return LookupPage({root: tuple(sorted(names)) for root, names in found.items()}, faults)
