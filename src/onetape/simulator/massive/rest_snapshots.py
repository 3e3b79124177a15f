"""How things stand: option chains, universal and index snapshots.

A snapshot costs per row, so tickers are filtered, sorted and cut to a page before a
single price is asked for. What a plan does not include is left out of the rows:
quotes, trades, and the price of an underlying whose own product was not bought.
"""

from collections.abc import Iterator
from typing import Final

from onetape.model import AssetClass
from onetape.simulator.massive.accounts import DataType, Freshness, Tier
from onetape.simulator.massive.rest_contracts import SORTS, narrowed
from onetape.simulator.massive.rest_query import not_found
from onetape.simulator.massive.rest_request import (
    NOT_ENTITLED,
    Ask,
    Endpoint,
    Listing,
    asset_of,
    forbidden,
)
from onetape.simulator.massive.rows import (
    ChainRow,
    Details,
    Envelope,
    Greeks,
    LastMinute,
    LastQuote,
    LastTrade,
    Session as SessionRow,
    SnapshotRow,
    SummaryRow,
    Underlying,
)
from onetape.simulator.seeded.records import (
    BarTick,
    Contract,
    DayStats,
    OptionRow,
    QuoteTick,
    Session,
    TradeTick,
)

TYPES: Final = ("stocks", "options", "crypto", "fx", "indices")

_SESSIONS: Final = {
    Session.CLOSED: "closed",
    Session.PRE: "early_trading",
    Session.REGULAR: "open",
    Session.AFTER: "late_trading",
}

# ---- parts of rows ----


def _details(contract: Contract, *, in_chain: bool) -> Details:
    return Details(
        contract_type=contract.contract_type,
        exercise_style=contract.exercise_style,
        expiration_date=contract.expiration.isoformat(),
        shares_per_contract=contract.shares_per_contract,
        strike_price=contract.strike,
        ticker=contract.ticker if in_chain else None,
        underlying_ticker=None if in_chain else contract.underlying_ref,
    )


def _quote(tick: QuoteTick | None, tier: Tier) -> LastQuote | None:
    if tick is None or DataType.QUOTES not in tier.data:
        return None
    return LastQuote(
        ask=tick.ask,
        ask_exchange=tick.ask_exchange,
        ask_size=tick.ask_size,
        bid=tick.bid,
        bid_exchange=tick.bid_exchange,
        bid_size=tick.bid_size,
        last_updated=tick.event_ns,
        midpoint=tick.mid,
        timeframe=tier.timeframe,
    )


def _trade(tick: TradeTick | None, tier: Tier, *, is_stock: bool = False) -> LastTrade | None:
    if tick is None or DataType.TRADES not in tier.data:
        return None
    return LastTrade(
        conditions=tick.conditions or None,
        exchange=tick.exchange,
        id=tick.id if is_stock else None,
        participant_timestamp=tick.participant_ns if is_stock else None,
        price=tick.price,
        sip_timestamp=tick.event_ns,
        size=tick.size,
        timeframe=tier.timeframe,
    )


def _chain_day(stats: DayStats) -> SessionRow:
    """Return the day of a contract; empty but for the previous close until it trades."""
    return SessionRow(
        change=stats.change,
        change_percent=stats.change_percent,
        close=stats.close,
        high=stats.high,
        last_updated=stats.updated_ns,
        low=stats.low,
        open=stats.open,
        previous_close=stats.previous_close,
        volume=stats.volume,
        vwap=stats.vwap,
    )


def _session(stats: DayStats, *, is_index: bool = False) -> SessionRow | None:
    """Return the session of a universal row, once it has begun for the ticker."""
    if stats.close is None:
        return None
    regular = late = None
    if not is_index:
        regular = _move(stats.previous_close, stats.regular_close)
        late = _move(stats.regular_close, stats.after_close)
    return SessionRow(
        change=stats.change,
        change_percent=stats.change_percent,
        close=stats.close,
        high=stats.high,
        late_trading_change=late,
        late_trading_change_percent=_percent(late, stats.regular_close),
        low=stats.low,
        open=stats.open,
        previous_close=stats.previous_close,
        price=None if is_index else stats.close,
        regular_trading_change=regular,
        regular_trading_change_percent=_percent(regular, stats.previous_close),
        volume=None if is_index else stats.volume,
    )


def _move(base: float | None, price: float | None) -> float | None:
    return None if price is None or base is None else round(price - base, 4)


def _percent(move: float | None, base: float | None) -> float | None:
    return None if move is None or not base else round(100 * move / base, 4)


def _greeks(row: OptionRow) -> Greeks | None:
    return None if row.greeks is None else Greeks(**row.greeks._asdict())


def _underlying(ask: Ask, row: OptionRow) -> Underlying:
    """Return what the option is on, as fresh as the plan for *that* asset class is."""
    ticker = row.contract.underlying
    asset = asset_of(ticker)
    tier = None if asset is None else ask.account.plan.tier(asset)
    to_break_even = round(row.break_even - row.underlying_price, 4)
    if asset is None or tier is None or tier.freshness is Freshness.END_OF_DAY:
        return Underlying(ticker=ticker, change_to_break_even=to_break_even)
    price, at_ns = row.underlying_price, row.underlying_ns
    if tier.is_delayed:
        price, at_ns = _price_at(ask, ticker, asset) or (price, at_ns)
        to_break_even = round(row.break_even - price, 4)
    is_index = asset is AssetClass.INDICES
    return Underlying(
        change_to_break_even=to_break_even,
        last_updated=at_ns,
        price=None if is_index else price,
        value=price if is_index else None,
        ticker=ticker,
        timeframe=tier.timeframe,
    )


def _price_at(ask: Ask, ticker: str, asset: AssetClass) -> tuple[float, int] | None:
    at_ns = ask.seen_ns(asset)
    if asset is AssetClass.INDICES:
        value = ask.market.value_at(ticker, at_ns)
        return None if value is None else (value.value, value.event_ns)
    trade = ask.market.last_trade(ticker, at_ns)
    return None if trade is None else (trade.price, trade.event_ns)


# ---- option chains ----


def _chain_row(ask: Ask, row: OptionRow, tier: Tier) -> ChainRow:
    has_fair_value = DataType.FAIR_VALUES in tier.data
    return ChainRow(
        break_even_price=row.break_even,
        day=_chain_day(row.day),
        details=_details(row.contract, in_chain=True),
        fmv=row.mark if has_fair_value else None,
        fmv_last_updated=ask.seen_ns(AssetClass.OPTIONS) if has_fair_value else None,
        greeks=_greeks(row),
        implied_volatility=row.implied_volatility,
        last_quote=_quote(row.quote, tier),
        last_trade=_trade(row.trade, tier),
        open_interest=row.open_interest,
        underlying_asset=_underlying(ask, row),
    )


_CHAIN: Final = Listing[Contract](sorts=SORTS, default=10, maximum=250)


def chain(ask: Ask) -> Envelope:
    """Answer `/v3/snapshot/options/{underlying}`; a bare index has no chain and is no error."""
    tier = ask.tier(AssetClass.OPTIONS, DataType.SNAPSHOTS)
    at_ns = ask.seen_ns(AssetClass.OPTIONS)
    listed = ask.page(_chain_contracts(ask, at_ns), _CHAIN)
    rows = ask.market.option_rows(listed.rows, at_ns)
    return ask.envelope([_chain_row(ask, row, tier) for row in rows], next_url=listed.next_url)


def _chain_contracts(ask: Ask, at_ns: int) -> Iterator[Contract]:
    underlying = ask.path["underlying"]
    if underlying not in ask.market.optionable():
        return iter(())
    alive = (row for row in ask.market.contracts(underlying) if row.expires_ns > at_ns)
    return narrowed(ask.query, alive)


def chain_contract(ask: Ask) -> Envelope:
    """Answer `/v3/snapshot/options/{underlying}/{contract}`: both must belong together."""
    tier = ask.tier(AssetClass.OPTIONS, DataType.SNAPSHOTS)
    contract = ask.market.contract(ask.path["contract"])
    if contract is None or contract.underlying != ask.path["underlying"]:
        raise not_found("Options contract not found.")
    row = ask.market.option_row(contract, ask.seen_ns(AssetClass.OPTIONS))
    if row is None:
        raise not_found("Options contract not found.")
    return ask.envelope(_chain_row(ask, row, tier))


# ---- universal and index snapshots ----


_TICKERS: Final = Listing[str](sorts={"ticker": lambda row: (row,)}, default=10, maximum=250)


def universal(ask: Ask) -> Envelope:
    """Answer `/v3/snapshot`: any mixture of tickers, each row with its own failure."""
    kind = ask.query.optional_choice("type", TYPES)
    assets = [asset for asset in AssetClass if kind in {None, asset.value}]
    plan = ask.account.plan
    if not any(plan.includes(asset, DataType.SNAPSHOTS) for asset in AssetClass):
        raise forbidden(NOT_ENTITLED)
    return _snapshots(ask, assets, is_unfiltered=kind is None)


def indices(ask: Ask) -> Envelope:
    """Answer `/v3/snapshot/indices`."""
    ask.tier(AssetClass.INDICES, DataType.SNAPSHOTS)
    return _snapshots(ask, [AssetClass.INDICES], is_unfiltered=True)


def _snapshots(ask: Ask, assets: list[AssetClass], *, is_unfiltered: bool) -> Envelope:
    query = ask.query
    named = query.any_of("ticker")
    if named is None and (one := query.text("ticker")) is not None:
        named = [one]
    if named is None:
        tickers = _known_tickers(ask, assets)
    elif is_unfiltered:
        tickers = iter(named)
    else:
        tickers = (name for name in named if ask.market.asset_class(name) in {None, *assets})
    if bounds := query.strings("ticker"):
        tickers = filter(bounds.admits, tickers)
    listed = ask.page(tickers, _TICKERS)
    return ask.envelope(_snapshot_rows(ask, listed.rows, assets), next_url=listed.next_url)


def _known_tickers(ask: Ask, assets: list[AssetClass]) -> Iterator[str]:
    """List every ticker of these asset classes that the plan covers."""
    for asset in assets:
        if not ask.account.plan.includes(asset, DataType.SNAPSHOTS):
            continue
        if asset is not AssetClass.OPTIONS:
            yield from (row.ticker for row in ask.market.instruments(asset))
            continue
        at_ns = ask.seen_ns(asset)
        for underlying in ask.market.optionable():
            contracts = ask.market.contracts(underlying)
            yield from (row.ticker for row in contracts if row.expires_ns > at_ns)


def _snapshot_rows(ask: Ask, tickers: list[str], assets: list[AssetClass]) -> list[SnapshotRow]:
    """Return a row for each ticker; those of options are cheaper together."""
    contracts = (ask.market.contract(name) for name in tickers if name.startswith("O:"))
    found = ask.market.option_rows(
        [one for one in contracts if one is not None], ask.seen_ns(AssetClass.OPTIONS)
    )
    options = {row.contract.ticker: row for row in found}
    return [_snapshot(ask, name, assets, options.get(name)) for name in tickers]


def _snapshot(
    ask: Ask, ticker: str, assets: list[AssetClass], option: OptionRow | None
) -> SnapshotRow:
    asset = ask.market.asset_class(ticker)
    row = None
    if asset is not None and asset in assets:
        tier = ask.account.plan.tier(asset)
        if tier is None or DataType.SNAPSHOTS not in tier.data:
            return SnapshotRow(
                ticker=ticker, error="NOT_ENTITLED", message="Not entitled to this ticker."
            )
        if asset is AssetClass.INDICES:
            row = _index_snapshot(ask, ticker, tier)
        elif asset is AssetClass.STOCKS:
            row = _stock_snapshot(ask, ticker, tier)
        elif option is not None:
            row = _option_snapshot(ask, option, tier)
    if row is None:
        return SnapshotRow(ticker=ticker, error="NOT_FOUND", message="Ticker not found.")
    return row


def _index_snapshot(ask: Ask, ticker: str, tier: Tier) -> SnapshotRow | None:
    at_ns = ask.seen_ns(AssetClass.INDICES)
    instrument = ask.market.instrument(ticker)
    value = ask.market.value_at(ticker, at_ns)
    status = _SESSIONS[ask.market.session(at_ns, AssetClass.INDICES)]
    return instrument and SnapshotRow(
        last_updated=value and value.event_ns,
        market_status="regular_trading" if status == "open" else status,
        name=instrument.name,
        session=_session(ask.market.day_stats(ticker, at_ns), is_index=True),
        ticker=ticker,
        timeframe=tier.timeframe,
        type="indices",
        value=value and value.value,
    )


def _stock_snapshot(ask: Ask, ticker: str, tier: Tier) -> SnapshotRow | None:
    at_ns = ask.seen_ns(AssetClass.STOCKS)
    instrument = ask.market.instrument(ticker)
    return instrument and SnapshotRow(
        last_minute=_last_minute(ask.market.last_bar(ticker, 60, at_ns)),
        last_quote=_quote(ask.market.last_quote(ticker, at_ns), tier),
        last_trade=_trade(ask.market.last_trade(ticker, at_ns), tier, is_stock=True),
        market_status=_SESSIONS[ask.market.session(at_ns)],
        name=instrument.name,
        session=_session(ask.market.day_stats(ticker, at_ns)),
        ticker=ticker,
        type="stocks",
    )


def _last_minute(bar: BarTick | None) -> LastMinute | None:
    return bar and LastMinute(
        close=bar.close,
        high=bar.high,
        low=bar.low,
        open=bar.open,
        transactions=bar.transactions,
        volume=bar.volume,
        vwap=bar.vwap,
    )


def _option_snapshot(ask: Ask, row: OptionRow, tier: Tier) -> SnapshotRow:
    at_ns, contract = ask.seen_ns(AssetClass.OPTIONS), row.contract
    has_fair_value = DataType.FAIR_VALUES in tier.data
    return SnapshotRow(
        break_even_price=row.break_even,
        details=_details(contract, in_chain=False),
        fmv=row.mark if has_fair_value else None,
        fmv_last_updated=at_ns if has_fair_value else None,
        greeks=_greeks(row),
        implied_volatility=row.implied_volatility,
        last_quote=_quote(row.quote, tier),
        last_trade=_trade(row.trade, tier),
        market_status=_SESSIONS[ask.market.session(at_ns, AssetClass.OPTIONS)],
        name=f"{contract.underlying_ref} ${contract.strike:g} {contract.contract_type.title()}",
        open_interest=row.open_interest,
        session=_session(row.day),
        ticker=contract.ticker,
        type="options",
        underlying_asset=_underlying(ask, row),
    )


# ---- summaries ----


def summaries(ask: Ask) -> Envelope:
    """Answer `/v1/summaries`: the universal snapshot in short, of the tickers named."""
    assets = list(AssetClass)
    named = ask.query.any_of("ticker") or []
    return ask.envelope([_summary(row) for row in _snapshot_rows(ask, named, assets)])


def _summary(row: SnapshotRow) -> SummaryRow:
    price = row.value if row.session is None else row.session.close
    return SummaryRow(
        error=row.error,
        market_status=row.market_status,
        message=row.message,
        name=row.name,
        options=row.details,
        price=price,
        session=row.session,
        ticker=row.ticker,
        type=row.type,
    )


ENDPOINTS: Final = (
    Endpoint("/v1/summaries", summaries),
    Endpoint("/v3/snapshot", universal),
    Endpoint("/v3/snapshot/indices", indices),
    Endpoint("/v3/snapshot/options/{underlying}", chain),
    Endpoint("/v3/snapshot/options/{underlying}/{contract}", chain_contract),
)
