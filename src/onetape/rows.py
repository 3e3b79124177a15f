"""What an answer with many rows is: a tuple that also knows what is missing, and its table.

    Rows[Quote] ── the rows in order, as any tuple
        ├── errors        symbol → why it has no row; the other symbols have theirs
        ├── by_symbol     symbol → row
        ├── simulated     made up by the simulator, not by a market
        └── to_polars(), to_pandas()

A table has one column per field. Instants are UTC timestamps in nanoseconds and lose their
`_ns`: `event_ns` is the column `event_time`. Enums are strings, what is not known is null,
and a column has its type even when there is no row or nothing in it. What is nested (an
option's terms, its quote, its greeks) is laid flat by the table `_PARTS`.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from enum import Enum, auto
from functools import cache, cached_property
from types import MappingProxyType
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Generic,
    NamedTuple,
    Self,
    SupportsIndex,
    TypeVar,
    overload,
)

import msgspec
from msgspec.structs import fields

from onetape.errors import BY_CODE, OnetapeError
from onetape.model import IndexSnapshot, OptionSnapshot
from onetape.provenance import Quality

if TYPE_CHECKING:
    import pandas as pd  # pyright: ignore[reportMissingTypeStubs] - it brings its own types, in part
    import polars as pl

T_co = TypeVar("T_co", covariant=True)

_NAMED: Final = 3


class SymbolFault(msgspec.Struct, frozen=True, kw_only=True):
    """Why one symbol has no row, or one row was left out. `symbol` is empty if it was unreadable.

    `error` is the code of an `OnetapeError`: `not_found`, `upstream_forbidden` (our plan lacks
    it), `upstream_garbled` (a row that we cannot read) …
    """

    symbol: str
    error: str
    message: str = ""
    retry_after_s: float | None = None

    def as_error(self) -> OnetapeError:
        """Make the exception that it would have been, had only this symbol been asked for."""
        error = BY_CODE.get(self.error, OnetapeError)
        return error(f"{self.symbol}: {self.message}", retry_after_s=self.retry_after_s)


class _About(NamedTuple):
    """What rows know besides themselves."""

    kind: type
    errors: dict[str, SymbolFault]
    simulated: bool


class Rows(tuple[T_co, ...], Generic[T_co]):
    """Some rows of one type, immutable, with what could not be had.

    A tuple in every way: it equals a tuple of the same rows, and is encoded as an array. A
    slice is `Rows` again, with the same `errors`.
    """

    _about: _About

    def __new__(
        cls,
        rows: Iterable[T_co] = (),
        *,
        kind: type[T_co],
        errors: Iterable[SymbolFault] = (),
        simulated: bool = False,
    ) -> Self:
        """Hold rows of one type.

        Args:
            rows: The rows, in the order to keep.
            kind: Their type, which no rows could not tell.
            errors: What is missing. Of several faults of one symbol the first stands.
            simulated: Whether a simulator made them up.
        """
        self = super().__new__(cls, rows)
        found: dict[str, SymbolFault] = {}
        for fault in errors:
            found.setdefault(fault.symbol, fault)
        self._about = _About(kind, found, simulated)
        return self

    @property
    def kind(self) -> type[T_co]:
        """The type of the rows."""
        return self._about.kind

    @property
    def errors(self) -> Mapping[str, SymbolFault]:
        """What could not be had, by symbol; what failed for one symbol failed only there."""
        return MappingProxyType(self._about.errors)

    @property
    def simulated(self) -> bool:
        """Whether a simulator made them up."""
        return self._about.simulated

    @cached_property
    def by_symbol(self) -> Mapping[str, T_co]:
        """The rows by symbol; of several rows of one symbol, the last.

        Raises:
            TypeError: When rows of this type have no symbol.
        """
        if not hasattr(self.kind, "symbol"):
            raise TypeError(f"{self.kind.__name__} has no symbol to look it up by")
        return MappingProxyType({_symbol_of(row): row for row in self})

    @overload
    def __getitem__(self, at: SupportsIndex, /) -> T_co: ...
    @overload
    def __getitem__(self, at: slice, /) -> "Rows[T_co]": ...
    def __getitem__(self, at: SupportsIndex | slice, /) -> "T_co | Rows[T_co]":
        """Return one row, or the rows of a slice."""
        if not isinstance(at, slice):
            return super().__getitem__(at)
        return _again(super().__getitem__(at), self._about)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle as what it was made of."""
        return _again, (tuple(self), self._about)

    def __repr__(self) -> str:
        kind, errors, simulated = self._about
        named = [symbol for row in self[:_NAMED] if (symbol := _symbol_of(row))]
        if named and len(self) > _NAMED:
            named.append("…")
        status = f"{len(self)} {kind.__name__}"
        status += f": {', '.join(named)}" if named else ""
        status += f"; {len(errors)} missing: {', '.join(list(errors)[:_NAMED])}" if errors else ""
        return f"<Rows of {status}{'; simulated' if simulated else ''}>"

    def to_polars(self) -> "pl.DataFrame":
        """Lay the rows out as a polars table; instants are `Datetime("ns", "UTC")`.

        Raises:
            ImportError: When polars is not installed.
        """
        try:
            import polars as pl
        except ImportError as error:
            raise _not_installed("polars") from error
        types: dict[_Kind, Any] = {
            _Kind.TEXT: pl.String,
            _Kind.NUMBER: pl.Float64,
            _Kind.COUNT: pl.Int64,
            _Kind.FLAG: pl.Boolean,
            _Kind.INSTANT: pl.Datetime("ns", "UTC"),
            _Kind.DAY: pl.Date,
            _Kind.COUNTS: pl.List(pl.Int64),
            _Kind.TEXTS: pl.List(pl.String),
        }
        table = _table(self, self.kind)
        return pl.DataFrame(
            {column.name: values for column, values in table},
            schema={column.name: types[column.kind] for column, _ in table},
        )

    def to_pandas(self) -> "pd.DataFrame":
        """Lay the rows out as a pandas table; instants are `datetime64[ns, UTC]`.

        Days are `datetime64[s]`, lists are objects; integers that may be null are `Int64`.

        Raises:
            ImportError: When pandas is not installed.
        """
        try:
            import pandas as pd  # pyright: ignore[reportMissingTypeStubs] - as above
        except ImportError as error:
            raise _not_installed("pandas") from error
        types = {
            _Kind.TEXT: ("str", "str"),
            _Kind.NUMBER: ("float64", "float64"),
            _Kind.COUNT: ("int64", "Int64"),
            _Kind.FLAG: ("bool", "boolean"),
            _Kind.INSTANT: ("datetime64[ns, UTC]", "datetime64[ns, UTC]"),
            _Kind.DAY: ("datetime64[s]", "datetime64[s]"),
            _Kind.COUNTS: ("object", "object"),
            _Kind.TEXTS: ("object", "object"),
        }
        return pd.DataFrame(
            {
                column.name: pd.Series(values, dtype=types[column.kind][column.nullable])
                for column, values in _table(self, self.kind)
            }
        )


def _again(rows: Iterable[T_co], about: _About) -> Rows[T_co]:
    kind, errors, simulated = about
    return Rows(rows, kind=kind, errors=errors.values(), simulated=simulated)


def _symbol_of(row: Any) -> str:
    return getattr(row, "symbol", "")


def _not_installed(name: str) -> ImportError:
    return ImportError(f"to_{name} needs {name}: pip install 'onetape[{name}]'", name=name)


# ---- tables ----


class _Kind(Enum):
    """What a column holds."""

    TEXT = auto()
    NUMBER = auto()
    COUNT = auto()
    FLAG = auto()
    INSTANT = auto()
    DAY = auto()
    COUNTS = auto()
    TEXTS = auto()


class _Column(NamedTuple):
    """One column, and the attributes that lead from a row to its value."""

    name: str
    kind: _Kind
    path: tuple[str, ...]
    nullable: bool


class _Part(NamedTuple):
    """A nested struct whose fields are columns of the row's own table; all, or only some."""

    path: str
    prefix: str = ""
    only: tuple[str, ...] = ()


_PARTS: Final[Mapping[type, tuple[_Part, ...]]] = {
    OptionSnapshot: (
        _Part("contract"),
        _Part("quote"),
        _Part("last_trade", "last_trade_", ("event_ns", "price", "size", "exchange", "conditions")),
        _Part("greeks", "", ("delta", "gamma", "theta", "vega", "rho")),
        _Part("greeks", "greeks_", ("provider", "source", "event_ns")),
    ),
    IndexSnapshot: (_Part("quote"),),
}
"""Which nested structs are laid flat. A column of the row itself replaces a nested one."""

_INSTANT: Final = "_ns"
_SCALARS: Final[Mapping[Any, _Kind]] = {
    float: _Kind.NUMBER,
    int: _Kind.COUNT,
    bool: _Kind.FLAG,
    date: _Kind.DAY,
}


def _table(rows: Sequence[Any], kind: type) -> list[tuple[_Column, list[Any]]]:
    """Return each column with its values."""
    parts: dict[tuple[str, ...], Sequence[Any]] = {(): rows}
    table: list[tuple[_Column, list[Any]]] = []
    for column in _columns(kind):
        *parents, name = column.path
        for depth in range(len(parents)):
            path = tuple(parents[: depth + 1])
            if path not in parts:
                parts[path] = _attributes(parts[path[:-1]], path[-1])
        values = _attributes(parts[tuple(parents)], name)
        table.append((column, _plain(values, column.kind)))
    return table


def _attributes(rows: Sequence[Any], name: str) -> list[Any]:
    return [None if row is None else getattr(row, name) for row in rows]


def _plain(values: list[Any], kind: _Kind) -> list[Any]:
    match kind:
        case _Kind.TEXT:  # an enum is its value
            return [None if value is None else str(value) for value in values]
        case _Kind.COUNTS:
            return [None if value is None else list(value) for value in values]
        case _Kind.TEXTS:
            return [None if value is None else [one.code for one in value] for value in values]
        case _:
            return values


@cache
def _columns(kind: type) -> tuple[_Column, ...]:
    found: dict[str, _Column] = {}
    for part in _PARTS.get(kind, ()):
        nested = _field_type(kind, part.path)
        for column in _flat(nested.base):
            field = column.path[-1]
            if not part.only or field in part.only:
                name = part.prefix + column.name
                nullable = column.nullable or nested.nullable
                path = (part.path, *column.path)
                found.setdefault(name, _Column(name, column.kind, path, nullable))
    found |= {column.name: column for column in _flat(kind)}
    return tuple(found.values())


def _flat(kind: Any) -> list[_Column]:
    """Return the columns of a struct's own fields; what is nested has none of its own."""
    columns: list[_Column] = []
    for field in fields(kind):
        base, nullable = _unwrapped(field.type)
        if base is Quality:
            path = (field.name, "reasons")
            columns.append(_Column("quality_reasons", _Kind.TEXTS, path, nullable=True))
        elif (held := _kind_of(field.name, base)) is not None:
            name = field.name
            if held is _Kind.INSTANT:
                name = name.removesuffix(_INSTANT) + "_time"
            columns.append(_Column(name, held, (field.name,), nullable))
    return columns


class _FieldType(NamedTuple):
    base: Any
    nullable: bool


def _field_type(kind: Any, name: str) -> _FieldType:
    return next(_unwrapped(field.type) for field in fields(kind) if field.name == name)


def _unwrapped(annotation: Any) -> _FieldType:
    """Part `X | None` into X and whether None is allowed."""
    members = getattr(annotation, "__args__", ())
    if type(None) not in members:
        return _FieldType(annotation, nullable=False)
    return _FieldType(next(one for one in members if one is not type(None)), nullable=True)


def _kind_of(name: str, base: Any) -> _Kind | None:
    if base == tuple[int, ...]:
        return _Kind.COUNTS
    if base is int and name.endswith(_INSTANT):
        return _Kind.INSTANT
    if isinstance(base, type) and issubclass(base, str):
        return _Kind.TEXT
    return _SCALARS.get(base)
