"""One request to the simulated REST API, once its caller is known: what handlers are given.

A handler is a plain function from an `Ask` to a body; it raises `Refusal` for
everything that is not 200. Handlers never await: the application runs those that may
take long in a thread.
"""

from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final, Generic, NamedTuple, TypeVar

import msgspec

from onetape.model import AssetClass
from onetape.simulator.market import Market
from onetape.simulator.massive.accounts import Account, DataType, Tier
from onetape.simulator.massive.pages import InvalidCursor, Key, encode_cursor, page_of
from onetape.simulator.massive.rest_query import Query, Refusal, malformed
from onetape.simulator.massive.rows import Envelope

ORDERS: Final = ("asc", "desc")
PRICING: Final = "Please upgrade your plan at https://massive.com/pricing"
NOT_ENTITLED: Final = f"You are not entitled to this data. {PRICING}"
WRONG_TIMEFRAME: Final = f"Your plan doesn't include this data timeframe. {PRICING}"
BEFORE_END_OF_DAY: Final = f"Attempted to request today's data before end of day. {PRICING}"

R = TypeVar("R")


def forbidden(text: str) -> Refusal:
    """Refuse what the plan does not include: 403."""
    return Refusal(HTTPStatus.FORBIDDEN, "NOT_AUTHORIZED", text)


def asset_of(ticker: str) -> AssetClass | None:
    """Return the asset class of a ticker in the vendor's form; None for those we do not simulate."""
    if ticker.startswith(("X:", "C:")):
        return None
    prefixes = {"O:": AssetClass.OPTIONS, "I:": AssetClass.INDICES}
    return prefixes.get(ticker[:2], AssetClass.STOCKS)


class Listing(msgspec.Struct, Generic[R], frozen=True, kw_only=True):
    """How one endpoint lists its rows: by what they may be sorted, and how many at once.

    Each sort gives a row's unique key; the first is the default.
    """

    sorts: Mapping[str, Callable[[R], Key]]
    default: int
    maximum: int
    order: str = "asc"


class Listed(NamedTuple, Generic[R]):
    """One page of rows, and where the next one is."""

    rows: list[R]
    next_url: str | None


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """One request of a known account, at one instant of market time."""

    market: Market
    account: Account
    query: Query
    path: Mapping[str, str]
    origin: str
    """The scheme and host the caller used, to which the next page belongs."""
    url_path: str
    now_ns: int
    request_id: str

    def tier(self, asset: AssetClass, data: DataType) -> Tier:
        """Return what the account bought of the asset class, which must cover the data."""
        tier = self.account.plan.tier(asset)
        if tier is None or not self.account.plan.includes(asset, data):
            raise forbidden(NOT_ENTITLED)
        return tier

    def seen_ns(self, asset: AssetClass) -> int:
        """Return the instant up to which the account's plan sees the asset class."""
        tier = self.account.plan.tier(asset)
        return self.now_ns - (tier.delay_ns if tier is not None else 0)

    def page(self, rows: Iterable[R], listing: Listing[R], **pinned: str) -> Listed[R]:
        """Return the page of the rows that the query asks for, and where the next one is.

        `pinned` are parameters that the next page must not work out again.
        """
        query = self.query
        limit = query.integer("limit", default=listing.default, maximum=listing.maximum)
        order = query.choice("order", ORDERS, listing.order)
        sort = query.choice("sort", listing.sorts, next(iter(listing.sorts)))
        try:
            page = page_of(
                rows,
                key=listing.sorts[sort],
                limit=limit,
                position=query.position,
                descending=order == "desc",
            )
        except InvalidCursor as error:
            raise malformed("The cursor could not be read") from error
        if page.position is None:
            return Listed(page.rows, None)
        resolved = {**pinned, "limit": str(limit), "order": order, "sort": sort}
        return Listed(page.rows, self.next_url(page.position, **resolved))

    def next_url(self, position: str | None, *, path: str | None = None, **resolved: str) -> str:
        """Return where the next page is; `resolved` are defaults that it must not lose."""
        cursor = encode_cursor({**self.query.params, **resolved}, position)
        return f"{self.origin}{path or self.url_path}?cursor={cursor}"

    def envelope(
        self, results: object, *, next_url: str | None = None, count: int | None = None
    ) -> Envelope:
        """Wrap the results of an endpoint of the usual shape."""
        return Envelope(
            results=results,
            status="OK",
            request_id=self.request_id,
            count=count,
            next_url=next_url,
        )


Handler = Callable[[Ask], Any]


class Endpoint(NamedTuple):
    """One route: a path template and what answers it, in a thread if it reads the market."""

    path: str
    answer: Handler
    reads_market: bool = True
    has_request_id: bool = True
