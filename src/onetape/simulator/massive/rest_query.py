"""What a caller of the simulated REST API asked: parameters, read with the vendor's complaints.

Unknown parameters are ignored, a repeated one counts once (the first), and a cursor
replaces everything else. Whatever cannot be read is a `Refusal`.
"""

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, timedelta
from http import HTTPStatus
from typing import Any, Final, Generic, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

from onetape.simulator.massive.pages import POSITION, InvalidCursor, decode_cursor

NEW_YORK: Final = ZoneInfo("America/New_York")
NS_PER_S: Final = 1_000_000_000
MS_PER_S: Final = 1_000
FOREVER: Final = 1 << 63

T = TypeVar("T", str, int, float)
V = TypeVar("V")


_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_YEARS: Final = range(1900, 2200)
_INTEGER: Final = re.compile(r"\d{1,19}", re.ASCII)
_INSTANT: Final = re.compile(
    r"(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2})(?:\.(\d{1,9}))?(Z|[+-]\d{2}:\d{2})", re.ASCII
)


class Refusal(Exception):
    """An answer of the vendor that is not 200; the text goes where its status says."""

    def __init__(self, http: HTTPStatus, status: str, text: str) -> None:
        super().__init__(text)
        self.http = http
        self.status = status
        self.text = text


def malformed(text: str) -> Refusal:
    """Refuse a parameter: 400."""
    return Refusal(HTTPStatus.BAD_REQUEST, "ERROR", text)


def not_found(text: str = "Ticker not found.") -> Refusal:
    """Refuse a single-ticker request for a ticker that does not exist: 404."""
    return Refusal(HTTPStatus.NOT_FOUND, "NOT_FOUND", text)


class Span(NamedTuple):
    """A half-open interval of integers, here always of time."""

    start: int
    end: int

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int) and self.start <= value < self.end


class Filter(Generic[T]):
    """The dotted comparisons of one parameter: `.gte`, `.gt`, `.lte`, `.lt` and equality."""

    def __init__(self, tests: Iterable[tuple[str, T]]) -> None:
        self._tests = [(_OPERATORS[suffix], bound) for suffix, bound in tests]

    def __bool__(self) -> bool:
        return bool(self._tests)

    def admits(self, value: T) -> bool:
        """Whether the value passes every comparison."""
        return all(test(value, bound) for test, bound in self._tests)


_OPERATORS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "": operator.eq,
    ".gte": operator.ge,
    ".gt": operator.gt,
    ".lte": operator.le,
    ".lt": operator.lt,
}


class Query:
    """One request's parameters: the caller's own, or those inside the caller's cursor."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        params: dict[str, str] = {}
        for name, value in pairs:
            params.setdefault(name, value)
        self.position: str | None = None
        if cursor := params.get("cursor"):
            params = _inside(cursor)
            self.position = params.pop(POSITION, None)
        self.params: Mapping[str, str] = params

    def text(self, name: str) -> str | None:
        """Return the parameter, None when absent or empty."""
        return self.params.get(name) or None

    def choice(self, name: str, options: Iterable[str], default: str) -> str:
        """Return the parameter, which must be one of the options."""
        value = self.text(name)
        if value is None:
            return default
        if value not in (known := tuple(options)):
            raise malformed(f"The parameter '{name}' must be one of: {', '.join(known)}")
        return value

    def optional_choice(self, name: str, options: Iterable[str]) -> str | None:
        """Return the parameter, None when absent; else it must be one of the options."""
        return self.choice(name, options, "") or None

    def is_set(self, name: str, *, default: bool) -> bool:
        """Return a boolean parameter, written `true` or `false`."""
        return self.choice(name, ("true", "false"), "true" if default else "false") == "true"

    def integer(self, name: str, *, default: int, maximum: int | None = None) -> int:
        """Return a positive whole number, at most the maximum."""
        value = self.text(name)
        if value is None:
            return default
        if not value.isascii() or not value.isdigit() or int(value) < 1:
            raise malformed(f"The parameter '{name}' must be a positive integer")
        if maximum is not None and int(value) > maximum:
            raise malformed(f"The parameter '{name}' cannot be greater than {maximum}")
        return int(value)

    def day(self, name: str) -> date | None:
        """Return a date parameter."""
        value = self.text(name)
        return None if value is None else parse_day(value, name=name)

    def any_of(self, name: str, *, maximum: int = 250) -> list[str] | None:
        """Return the values of `name.any_of`, each once; None when it was not given."""
        value = self.text(f"{name}.any_of")
        if value is None:
            return None
        listed = list(dict.fromkeys(part for item in value.split(",") if (part := item.strip())))
        if len(listed) > maximum:
            raise malformed(f"The parameter '{name}.any_of' cannot list more than {maximum} values")
        return listed

    def strings(self, name: str) -> Filter[str]:
        """Return the comparisons of a text parameter."""
        return Filter(self._tests(name, str))

    def numbers(self, name: str) -> Filter[float]:
        """Return the comparisons of a numeric parameter."""
        return Filter(self._tests(name, lambda value: _number(value, name=name)))

    def days(self, name: str) -> Filter[str]:
        """Return the comparisons of a date parameter, over ISO dates."""
        return Filter(self._tests(name, lambda value: parse_day(value, name=name).isoformat()))

    def span(self, name: str, *, per_s: int) -> Span:
        """Return the time that the comparisons leave; a date means its whole New York day."""
        start, end = 0, FOREVER
        for suffix, when in self._tests(
            name, lambda value: parse_time(value, name=name, per_s=per_s)
        ):
            if suffix in {"", ".gte"}:
                start = max(start, when.start)
            if suffix == ".gt":
                start = max(start, when.end)
            if suffix in {"", ".lte"}:
                end = min(end, when.end)
            if suffix == ".lt":
                end = min(end, when.start)
        return Span(start, end)

    def _tests(self, name: str, read: Callable[[str], V]) -> list[tuple[str, V]]:
        return [
            (suffix, read(value))
            for suffix in _OPERATORS
            if (value := self.text(name + suffix)) is not None
        ]


def parse_day(value: str, *, name: str) -> date:
    """Read a date, written YYYY-MM-DD."""
    day = _day(value)
    if day is None:
        raise malformed(f"Could not parse the time parameter: '{name}'. Use YYYY-MM-DD")
    return day


def parse_time(value: str, *, name: str, per_s: int) -> Span:
    """Read an instant or a whole New York day, in units of which `per_s` make a second."""
    if _INTEGER.fullmatch(value):
        return Span(int(value), int(value) + 1)
    if match := _INSTANT.fullmatch(value):
        seconds = _epoch_s(f"{match[1]}{match[3]}", name=name, per_s=per_s)
        fraction = int((match[2] or "").ljust(9, "0")[:9]) * per_s // NS_PER_S
        return Span(seconds * per_s + fraction, seconds * per_s + fraction + 1)
    day = _day(value)
    if day is None:
        raise _unparsed(name, per_s)
    return day_span(day, per_s=per_s)


def day_span(day: date, *, per_s: int) -> Span:
    """Return the New York day, midnight to midnight, whatever its number of hours."""
    return Span(_midnight(day) * per_s, _midnight(day + timedelta(days=1)) * per_s)


def day_of(time_s: float) -> date:
    """Return the New York date of a time in seconds since the epoch."""
    return datetime.fromtimestamp(time_s, NEW_YORK).date()


def _midnight(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=NEW_YORK).timestamp())


def _day(value: str) -> date | None:
    """Return the date, None for what is none or too far off to reckon with."""
    if not _DAY.fullmatch(value):
        return None
    try:
        day = date.fromisoformat(value)
    except ValueError:
        return None
    return day if day.year in _YEARS else None


def _epoch_s(instant: str, *, name: str, per_s: int) -> int:
    try:
        return int(datetime.fromisoformat(instant).timestamp())
    except ValueError as error:
        raise _unparsed(name, per_s) from error


def _unparsed(name: str, per_s: int) -> Refusal:
    unit = "Unix MS Timestamps" if per_s == MS_PER_S else "Unix NS Timestamps"
    return malformed(f"Could not parse the time parameter: '{name}'. Use YYYY-MM-DD or {unit}")


def _number(value: str, *, name: str) -> float:
    try:
        number = float(value)
    except ValueError as error:
        raise malformed(f"The parameter '{name}' must be a number") from error
    if not math.isfinite(number):
        raise malformed(f"The parameter '{name}' must be a number")
    return number


def _inside(cursor: str) -> dict[str, str]:
    try:
        return decode_cursor(cursor)
    except InvalidCursor as error:
        raise malformed("The cursor could not be read") from error
