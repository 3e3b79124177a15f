"""One request to the simulated Tradier: what handlers are given, and how they refuse.

A handler is a plain function from an `Ask` to a body. Refusals are plain text, as the
vendor's are. Handlers never await: the application runs them in a thread.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from http import HTTPStatus
from typing import Any, Final, NamedTuple

import msgspec

from onetape import calendar
from onetape.simulator.market import Market
from onetape.simulator.tradier.policy import TradierPolicy

NS_PER_S: Final = 1_000_000_000
NS_PER_MS: Final = 1_000_000
DELAY_NS: Final = 15 * 60 * NS_PER_S
_DAY_LENGTH: Final = len("2025-12-05")


class Refusal(Exception):
    """An answer that is not 200: text, or a fault in JSON when it has an error code."""

    def __init__(self, status: HTTPStatus, text: str, *, errorcode: str | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.errorcode = errorcode


def invalid(name: str, why: str) -> Refusal:
    """Refuse a parameter in the vendor's words: 400."""
    return Refusal(HTTPStatus.BAD_REQUEST, f"Invalid parameter, {name}: {why}.")


def few(key: str, rows: Sequence[Any]) -> dict[str, Any] | None:
    """Wrap rows as XML turned into JSON does: none is null, one is no list."""
    if not rows:
        return None
    return {key: rows[0] if len(rows) == 1 else rows}


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """One request, at one instant of market time."""

    market: Market
    params: Mapping[str, str]
    policy: TradierPolicy
    now_ns: int
    """What the vendor shows is not newer than this: market time, late in the sandbox."""

    @property
    def today(self) -> date:
        """The date in New York."""
        return self.market.market_date(self.now_ns)

    def text(self, name: str, default: str | None = None) -> str:
        """Return a parameter that must be there, unless it has a default."""
        value = self.params.get(name, "").strip() or default
        if value is None:
            raise invalid(name, "is required")
        return value

    def names(self, name: str) -> list[str]:
        """Return the values of a list, without repetitions."""
        parts = (part.strip() for part in self.params.get(name, "").split(","))
        return list(dict.fromkeys(part for part in parts if part))

    def is_set(self, name: str) -> bool:
        """Read a switch: `true` in any case, and off without it."""
        return self.params.get(name, "").strip().lower() == "true"

    def day(self, name: str, default: date | None = None) -> date:
        """Return a date, which may have a time behind it."""
        value = self.text(name, None if default is None else default.isoformat())
        try:
            return date.fromisoformat(value[:_DAY_LENGTH])
        except ValueError as error:
            raise invalid(name, "must be a date in the format YYYY-MM-DD") from error

    def in_calendar(self, name: str, day: date) -> date:
        """Return the date if the exchange's calendar has it."""
        if not calendar.FIRST_DAY <= day <= calendar.LAST_DAY:
            raise invalid(name, "is out of range")
        return day


class Endpoint(NamedTuple):
    """One route below `/v1`: its path, what answers it, and by which methods."""

    path: str
    answer: Callable[[Ask], Any]
    methods: tuple[str, ...] = ("GET",)
