"""The commands that ask once: `onetape quote | chain | bars | trades | health`.

What is wrong with a question is said before anybody is asked; what is missing from an
answer is named on standard error, beside what is there.

This module imports the client and all that draws, so `cli` names its functions and does
not import it before one of them is called.
"""

from collections.abc import Collection, Iterator, Mapping
from datetime import date, datetime, timedelta
from math import ceil
from typing import Annotated, Any, Final

from cyclopts import Parameter
from cyclopts.validators import Number
from rich.console import RenderableType

from onetape.calendar import NEW_YORK, new_york_date
from onetape.chain_query import ChainQuery
from onetape.client import Health, MassiveDataProvider, Status
from onetape.commands.desk import DEFAULTS, STREAMED, Common, Desk, complain, desk_of, ran
from onetape.commands.exits import Exit
from onetape.errors import InvalidRequest, OnetapeError
from onetape.massive.questions import normalized
from onetape.model import Bar, ContractType, OptionChain, OptionSnapshot, Quote, Trade
from onetape.rows import Rows
from onetape.symbols import normalize_symbol
from onetape.terminal import health as health_view, views
from onetape.terminal.columns import COLUMNS, new_york
from onetape.timeframes import bar_length

_ROWS_A_PAGE: Final = 50_000
_LOOKBACK: Final = 50
_SAID: Final = ("symbol", "source")
_HORIZONS: Final = (timedelta(days=8), timedelta(days=40), timedelta(days=400))

Positive = Annotated[int | None, Parameter(validator=Number(gt=0))]
NotNegative = Annotated[float | None, Parameter(validator=Number(gte=0))]


def quote(symbols: tuple[str, ...], /, *, common: Common = DEFAULTS) -> int:
    """Show the quotes of stocks, options and indices.

    Args:
        symbols: As people write them: SPY, SPX, SPY261218C00650000.
        common: Whom to ask, and how to print.
    """
    desk, wanted = desk_of(common), normalized(symbols)

    async def ask() -> Rows[Quote]:
        async with desk.connected() as massive:
            return await massive.get_quotes(wanted)

    rows = ran(ask())
    document = {"quotes": rows, "errors": rows.errors, "simulated": rows.simulated}
    _print_rows(desk, "Quotes", rows, document)
    return desk.report(rows, rows.errors, "quotes")


def chain(  # noqa: PLR0913 - each is an option of the command
    underlying: str,
    /,
    *,
    expiration: date | None = None,
    expirations: Positive = None,
    around: Annotated[int | None, Parameter(validator=Number(gte=0))] = None,
    type_: Annotated[ContractType | None, Parameter(name="--type")] = None,
    min_strike: NotNegative = None,
    max_strike: NotNegative = None,
    min_volume: NotNegative = None,
    min_open_interest: NotNegative = None,
    max_spread: NotNegative = None,
    common: Common = DEFAULTS,
) -> int:
    """Show the options on a stock or an index: calls, strikes, puts.

    Args:
        underlying: SPY, SPX.
        expiration: One day, as 2026-12-18; without one, the soonest.
        expirations: The soonest so many, instead of one.
        around: So many strikes on either side of the money.
        type_: call or put; both without it.
        min_strike: The lowest.
        max_strike: The highest.
        min_volume: Contracts traded today, at least.
        min_open_interest: Contracts open as of yesterday, at least.
        max_spread: In percent of the middle of the market, at most.
        common: Whom to ask, and how to print.
    """
    if expiration is not None and expirations is not None:
        raise InvalidRequest("--expiration is one day, --expirations a number: choose one")
    desk, symbol = desk_of(common), normalize_symbol(underlying)
    bounds: dict[str, Any] = {
        "around": around,
        "contract_type": type_,
        "min_strike": min_strike,
        "max_strike": max_strike,
        "min_volume": min_volume,
        "min_open_interest": min_open_interest,
        "max_spread_percent": max_spread,
    }
    ChainQuery(**bounds)  # raises for what nothing could meet

    async def ask() -> OptionChain:
        async with desk.connected() as massive:
            if expiration is None:
                today = new_york_date(desk.now_ns)
                work = _soonest(massive, symbol, expirations or 1, today, bounds)
            else:
                day = {"first_expiration": expiration, "last_expiration": expiration}
                work = massive.get_options_chain(symbol, **day, **bounds)
            return await desk.paged(massive, work)

    return _show_chain(desk, ran(ask()))


async def _soonest(
    massive: MassiveDataProvider,
    symbol: str,
    expirations: int,
    today: date,
    bounds: Mapping[str, Any],
) -> OptionChain:
    """Look no further ahead than it takes: a whole chain is thousands of contracts."""
    for horizon in _HORIZONS:
        found = await massive.get_options_chain(
            symbol,
            first_expiration=today,
            last_expiration=today + horizon,
            max_expirations=expirations,
            **bounds,
        )
        if len(found.expirations) >= expirations:
            return found
    return await massive.get_options_chain(
        symbol, first_expiration=today, max_expirations=expirations, **bounds
    )


def _show_chain(desk: Desk, found: OptionChain) -> int:
    def draw() -> Iterator[RenderableType]:
        yield views.chain(found, now_ns=desk.now_ns, width=desk.screen.width)

    desk.print(found, found.contracts, COLUMNS[OptionSnapshot], draw=draw)
    for what in found.partial:
        complain(f"{found.underlying}: missing is {what}")
    for code, count in found.dropped.items():
        complain(f"{found.underlying}: {count} contracts left out: {code}")
    status = desk.report(found.contracts, {}, f"contracts of {found.underlying} like that")
    return Exit.FAULT_FOUND if found.partial else status


def bars(  # noqa: PLR0913 - each is an option of the command
    symbol: str,
    /,
    *,
    timeframe: str = "1m",
    start: str | None = None,
    end: str | None = None,
    lookback: Positive = None,
    max_rows: Positive = None,
    common: Common = DEFAULTS,
) -> int:
    """Show bars, oldest first: of a range, or the last so many.

    Args:
        symbol: A stock, an option or an index.
        timeframe: 30s, 1m, 5m, 1h, 1d, 1w, 1mo ...
        start: A day, or an instant, of New York's if it has no zone: 2026-11-20T09:30.
        end: The same; now without one.
        lookback: In place of a range: the last so many; 50 without either.
        max_rows: Where to stop in a range; 50000 without it.
        common: Whom to ask, and how to print.
    """
    desk, ticker, length = desk_of(common), normalize_symbol(symbol), bar_length(timeframe)
    first, last = _moment(start), _moment(end)
    if first is None and last is not None:
        raise InvalidRequest("--end needs a --start")
    if first is not None and lookback is not None:
        raise InvalidRequest("--start begins a range, --lookback is in place of one: choose one")
    count = None if first is not None else lookback or _LOOKBACK
    most = max_rows or _ROWS_A_PAGE

    async def ask() -> Rows[Bar]:
        async with desk.connected() as massive:
            pages = massive.get_aggregates(
                ticker, str(length), first, last, lookback=count, max_rows=most
            )
            return await desk.paged(massive, pages.collect(), most=ceil(most / _ROWS_A_PAGE))

    rows = ran(ask())
    document = {"symbol": ticker, "timeframe": str(length), "bars": rows, **_facts(rows)}
    _print_rows(desk, f"{ticker} {length} bars", rows, document, but=_SAID)
    if count is None:
        _tell_end(rows, most)
    return desk.report(rows, rows.errors, f"bars of {ticker}")


def trades(
    symbol: str,
    /,
    *,
    start: str | None = None,
    end: str | None = None,
    max_rows: Positive = None,
    common: Common = DEFAULTS,
) -> int:
    """Show the prints of an option, oldest first: from an instant on, or the last ones.

    Args:
        symbol: O:SPY261218C00650000, or SPY261218C00650000.
        start: A day, or an instant, of New York's if it has no zone; without one, the last.
        end: The same; now without one.
        max_rows: Where to stop; 50 without it.
        common: Whom to ask, and how to print.
    """
    desk, ticker = desk_of(common), normalize_symbol(symbol)
    first, last, most = _moment(start), _moment(end), max_rows or _LOOKBACK

    async def ask() -> Rows[Trade]:
        async with desk.connected() as massive:
            order = "desc" if first is None else "asc"
            pages = massive.get_option_trades(
                ticker, start=first, end=last, order=order, max_rows=most
            )
            rows = await desk.paged(massive, pages.collect(), most=ceil(most / _ROWS_A_PAGE))
            return rows if order == "asc" else rows[::-1]

    rows = ran(ask())
    document = {"symbol": ticker, "trades": rows, **_facts(rows)}
    _print_rows(desk, f"{ticker} trades", rows, document, but=_SAID)
    if first is not None:
        _tell_end(rows, most)
    return desk.report(rows, rows.errors, f"trades of {ticker}")


def health(*, common: Common = DEFAULTS) -> int:
    """Say how the gateway fares, and a client of it: REST, streams, token, cache.

    It exits with 1 unless all of it is well.

    Args:
        common: Whom to ask, and how to print.
    """
    desk = desk_of(common)

    async def ask() -> tuple[dict[str, Any], Health, OnetapeError | None]:
        gateway = await desk.gateway_health()
        async with desk.connected(STREAMED) as massive:
            failure = await _asked_once(massive) or await desk.ask_vendor()
            return gateway, massive.get_health(), failure

    gateway, client, failure = ran(ask())
    lines = health_view.lines_of(gateway, client, now_ns=desk.now_ns)
    is_simulated = bool(gateway.get("simulated")) or client.simulated

    def draw() -> Iterator[RenderableType]:
        facts = (desk.url, new_york(desk.now_ns, now_ns=desk.now_ns))
        yield views.heading("Health", *facts, simulated=is_simulated)
        yield health_view.drawn(lines)

    document = {"gateway": gateway, "client": client.as_dict(), "simulated": is_simulated}
    desk.print(document, lines, health_view.COLUMNS, draw=draw)
    if failure is not None:
        complain(f"{failure.code}: {failure}")
    is_well = failure is None and client.status is Status.OK and gateway.get("status") == "ok"
    return Exit.OK if is_well else Exit.FAULT_FOUND


async def _asked_once(massive: MassiveDataProvider) -> OnetapeError | None:
    """Ask the gateway the cheapest question, so that REST has something to tell of itself."""
    try:
        await massive.get_market_status()
    except OnetapeError as error:
        return error
    return None


# private


def _print_rows(
    desk: Desk, title: str, rows: Rows[Any], document: object, *, but: Collection[str] = ()
) -> None:
    """Print rows; people do not see the columns whose values the heading has."""
    columns = COLUMNS[rows.kind]
    seen = [column for column in columns if column.name not in but]

    def draw() -> Iterator[RenderableType]:
        facts = [f"{len(rows):,}", new_york(desk.now_ns, now_ns=desk.now_ns), views.origin(rows)]
        is_delayed = any(row.delayed for row in rows)
        yield views.heading(
            title, *filter(None, facts), simulated=rows.simulated, delayed=is_delayed
        )
        yield from views.stand_ins(rows)
        if rows:
            yield views.table(rows, seen, now_ns=desk.now_ns, width=desk.screen.width)

    desk.print(document, rows, columns, draw=draw)


def _facts(rows: Rows[Any]) -> dict[str, object]:
    return {"errors": rows.errors, "simulated": rows.simulated}


def _tell_end(rows: Rows[Any], most: int) -> None:
    if len(rows) == most:
        complain(f"stopped after {most} rows, and there may be more: --max-rows says how many")


def _moment(text: str | None) -> date | datetime | None:
    """Read a day or an instant; one without a zone is meant as the screen shows it."""
    if text is None:
        return None
    try:
        if len(text) == len("2026-01-02"):
            return date.fromisoformat(text)
        at = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidRequest(
            f"{text[:40]!r} is not a day or an instant: write 2026-11-20 or 2026-11-20T09:30"
        ) from None
    return at if at.tzinfo else at.replace(tzinfo=NEW_YORK)
