"""Tables and lines of market data, for people, drawn by rich.

Pure: rows of the model go in, and what rich can draw comes out. On a narrow terminal whole
columns give way, the least important first; a number is never cut. What a simulator made up
says so in the heading.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from onetape.calendar import new_york_date
from onetape.chain_query import nearest_strike
from onetape.client import Gap, SourceChanged
from onetape.model import Bar, ContractType, OptionChain, OptionSnapshot
from onetape.provenance import Level
from onetape.terminal.columns import (
    COLUMNS,
    Column,
    Form,
    decimals,
    new_york,
    printable,
    shown,
)

UP: Final = "green"
DOWN: Final = "red"
LOUD: Final = "bold yellow"

MADE_UP: Final = "SIMULATED: no number here is real"

Paint = Callable[[Any, Column], str]
"""A style for a cell in place of its own; empty for its own."""

_GAP: Final = 2  # blanks between columns
_LEVELS: Final[Mapping[Level, str]] = {
    Level.EXCELLENT: UP,
    Level.GOOD: "",
    Level.FAIR: "yellow",
    Level.POOR: DOWN,
}


def heading(title: str, *facts: str, simulated: bool, delayed: bool = False) -> Text:
    """Say what is shown; whether it is made up or late cannot be overlooked."""
    text = Text.assemble((title, "bold"), *(f"   {fact}" for fact in facts))
    if delayed:
        text.append("   DELAYED", style=LOUD)
    if simulated:
        text.append(f"   {MADE_UP}", style=LOUD)
    return text


def origin(rows: Sequence[Any]) -> str:
    """Say whom rows are from, and how they came: `massive, rest`."""
    sources = {f"{row.provider}, {row.source}" for row in rows}
    return " and ".join(sorted(sources))


def stand_ins(rows: Iterable[Any]) -> Iterator[Text]:
    """Say which rows are of a provider that stands in for another, and why, a line for each."""
    found = dict.fromkeys(
        (row.provider, row.quality.fallback_reason)
        for row in rows
        if row.quality is not None and row.quality.fallback_reason
    )
    for provider, why in found:
        text = f"{provider} stands in: {printable(why)}"
        yield Text(text, style=LOUD)


# tables


def _no_paint(_row: Any, _column: Column) -> str:
    return ""


def table(
    rows: Sequence[Any],
    columns: Sequence[Column],
    *,
    now_ns: int,
    width: int,
    paint: Paint = _no_paint,
) -> Table:
    """Draw rows, no wider than the terminal if the columns that may give way do."""
    cells = {
        column: _cells(column, rows, now_ns=now_ns, paint=paint)
        for column in seen_columns(columns, rows)
    }
    kept = fitting({column: _widest(column, texts) for column, texts in cells.items()}, width)
    return _drawn((column, cells[column]) for column in kept)


def seen_columns(columns: Sequence[Column], rows: Sequence[Any]) -> list[Column]:
    """Return the columns that people see of these rows.

    What is optional is left out when no row has it. Of whom a row is, is told when rows are
    judged or of several providers.
    """
    seen = [
        column
        for column in columns
        if column.title
        and not (column.is_optional and all(column.value(row) is None for row in rows))
    ]
    is_judged = any(column.form is Form.QUALITY for column in seen)
    providers = {one.value(row) for one in seen if one.name == "provider" for row in rows}
    if is_judged or len(providers) > 1:
        return seen
    return [column for column in seen if column.name != "provider"]


def fitting(widths: Mapping[Column, int], width: int) -> list[Column]:
    """Leave out columns until the rest fits: those of the highest rank first, from the right."""
    kept = list(widths)
    while sum(widths[column] + _GAP for column in kept) - _GAP > width:
        rank = max((column.rank for column in kept), default=0)
        if rank == 0:
            break
        del kept[max(place for place, column in enumerate(kept) if column.rank == rank)]
    return kept


def _cells(column: Column, rows: Sequence[Any], *, now_ns: int, paint: Paint) -> list[Text]:
    values = [column.value(row) for row in rows]
    places = decimals(values) if column.form in {Form.PRICE, Form.CHANGE} else None
    return [
        Text(
            shown(column.form, value, now_ns=now_ns, places=places),
            style=paint(row, column) or _style(column.form, value, now_ns),
        )
        for row, value in zip(rows, values, strict=True)
    ]


def _style(form: Form, value: Any, now_ns: int) -> str:
    if value is None:
        return "dim"
    if form in {Form.CHANGE, Form.PERCENT}:
        return UP if value > 0 else DOWN if value < 0 else ""
    return _LEVELS[value.level(now_ns)] if form is Form.QUALITY else ""


def _widest(column: Column, cells: Iterable[Text]) -> int:
    return max(len(column.title), *map(len, cells), 0)


def blank_table() -> Table:
    """Return a table as all of ours are: no lines, blanks between columns."""
    return Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="bold")


def _drawn(columns: Iterable[tuple[Column, Sequence[Text]]]) -> Table:
    drawn = blank_table()
    parts: list[Sequence[Text]] = []
    for column, cells in columns:
        # Too narrow for what must stay, a number goes on in the next line: it is never cut.
        justify = "right" if column.is_number else "left"
        drawn.add_column(column.title, justify=justify, overflow="fold")
        parts.append(cells)
    for row in zip(*parts, strict=True):
        drawn.add_row(*row)
    return drawn


# option chains


def chain(one: OptionChain, *, now_ns: int, width: int) -> Group:
    """Draw a chain as traders know it: calls, strikes, puts, one table for each expiration."""
    parts: list[RenderableType] = [_chain_heading(one, now_ns), *stand_ins([one])]
    for (expiration, root), rows in _by_expiration(one.contracts).items():
        days = (expiration - new_york_date(now_ns)).days
        sides = _Sides(rows, one.underlying_price, now_ns=now_ns)
        parts += [Text(), Text(f"{expiration}  {root}  {_days(days)}", style="bold cyan")]
        parts.append(sides.drawn(width))
    return Group(*parts)


def _chain_heading(one: OptionChain, now_ns: int) -> Text:
    listed = "" if one.listed is None else f" of {one.listed:,}"
    facts = [
        shown(Form.PRICE, one.underlying_price, now_ns=now_ns),
        f"{len(one.contracts):,}{listed} contracts",
        new_york(one.received_ns, now_ns=now_ns),
        f"{one.provider}, {one.source}",
    ]
    if one.quality is not None:
        facts.append(f"quality {shown(Form.QUALITY, one.quality, now_ns=now_ns)}")
    return heading(one.underlying, *facts, simulated=one.simulated, delayed=one.delayed)


def _days(days: int) -> str:
    return f"{days} day" if abs(days) == 1 else f"{days} days"


def _by_expiration(
    contracts: Iterable[OptionSnapshot],
) -> dict[tuple[date, str], list[OptionSnapshot]]:
    """Keep roots apart: on one day SPX expires in the morning, SPXW in the afternoon."""
    found: dict[tuple[date, str], list[OptionSnapshot]] = {}
    for row in contracts:
        found.setdefault((row.contract.expiration, row.contract.root), []).append(row)
    return found


_STRIKE: Final = Column("strike", Form.PRICE, "Strike", "self")


class _Sides:
    """The contracts of one expiration: calls to the left of their strikes, puts to the right."""

    def __init__(self, rows: Sequence[OptionSnapshot], price: float | None, *, now_ns: int) -> None:
        self._now_ns = now_ns
        self._strikes = sorted({row.contract.strike for row in rows})
        self._money = None if price is None else nearest_strike(self._strikes, price)
        self._columns = seen_columns(COLUMNS[OptionSnapshot], rows)
        self._sides = {
            side: {row.contract.strike: row for row in rows if row.contract.contract_type is side}
            for side in ContractType
            if any(row.contract.contract_type is side for row in rows)
        }

    def drawn(self, width: int) -> Table:
        """Draw them, no wider than that if the columns that may give way do."""
        strikes = _cells(_STRIKE, self._strikes, now_ns=self._now_ns, paint=self._at_the_money)
        cells = {
            (side, column): self._cells(side, column)
            for side in self._sides
            for column in self._columns
        }
        widths = {
            column: max(_widest(column, cells[side, column]) for side in self._sides)
            for column in self._columns
        }
        sides = len(self._sides)
        room = (width - _widest(_STRIKE, strikes) - _GAP * sides) // sides
        kept = fitting(widths, room)
        return _drawn(
            (column, strikes if side is None else cells[side, column])
            for side, column in self._mirrored(kept)
        )

    def _mirrored(self, columns: Sequence[Column]) -> Iterator[tuple[ContractType | None, Column]]:
        if ContractType.CALL in self._sides:
            yield from ((ContractType.CALL, column) for column in reversed(columns))
        yield None, _STRIKE
        if ContractType.PUT in self._sides:
            yield from ((ContractType.PUT, column) for column in columns)

    def _cells(self, side: ContractType, column: Column) -> list[Text]:
        rows = [self._sides[side].get(strike) for strike in self._strikes]
        return _cells(column, rows, now_ns=self._now_ns, paint=_no_paint)

    def _at_the_money(self, strike: float, _column: Column) -> str:
        return "bold reverse" if strike == self._money else "bold"


# lines


class Lines:
    """Events one after another, in columns whose widths are known before they come."""

    def __init__(self, columns: Sequence[Column], symbols: Iterable[str]) -> None:
        self._columns = columns
        self._widths = {**_WIDTHS, "symbol": max(map(len, symbols), default=0)}
        self._prices: dict[str, float] = {}

    def header(self) -> Text:
        """Return the titles."""
        titles = (self._set(column, column.title) for column in self._columns)
        return Text("  ".join(titles).rstrip(), style="bold")

    def line(self, row: Any, *, now_ns: int) -> Text:
        """Return one event; its price is coloured by where it went."""
        moved = self._direction(row)
        text = Text()
        for column in self._columns:
            value = column.value(row)
            cell = self._set(column, shown(column.form, value, now_ns=now_ns))
            style = moved if column.name in _MOVING else ""
            text.append(f"{cell}  ", style=style or _style(column.form, value, now_ns))
        text.rstrip()
        return text

    def _set(self, column: Column, text: str) -> str:
        width = self._widths.get(column.name, _FORM_WIDTHS.get(column.form, 0))
        width = max(width, len(column.title))
        return text.rjust(width) if column.is_number else text.ljust(width)

    def _direction(self, row: Any) -> str:
        price: float | None = row.close if isinstance(row, Bar) else row.price
        before = self._prices.get(row.symbol, price)
        if price is None or before is None:
            return ""
        self._prices[row.symbol] = price
        return UP if price > before else DOWN if price < before else ""


_MOVING: Final = {"last", "price", "close"}
_FORM_WIDTHS: Final[Mapping[Form, int]] = {
    Form.INSTANT: len("10:00:00.000 EST"),
    Form.WINDOW: len("2026-01-02 10:00 EST"),
    Form.PRICE: len("100,000.00"),
    Form.CHANGE: len("-1,000.00"),
    Form.SIZE: len("1,000,000"),
    Form.AGE: len("100 min"),
    Form.CODES: len("Conditions"),
}
_WIDTHS: Final[Mapping[str, int]] = {"source": len("stream")}


# what readers are told


def told(change: SourceChanged | Gap, *, now_ns: int) -> str:
    """Say what happened to the source of a symbol."""
    detail = f": {change.detail}" if change.detail else ""
    why = f"({change.reason}{detail})"
    symbol = change.key.symbol
    if isinstance(change, Gap):
        first = new_york(change.start_ns, now_ns=now_ns, digits=3)
        last = new_york(change.end_ns, now_ns=now_ns, digits=3)
        return f"{symbol}: events between {first} and {last} were missed {why}"
    if change.source is None:
        return f"{symbol}: nothing comes {why}"
    return f"{symbol}: from {change.source} now {why}"
