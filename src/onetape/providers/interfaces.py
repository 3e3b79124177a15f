"""What a provider of market data is: three interfaces that every vendor meets.

    OptionsDataProvider   chains, contracts, expirations, flow
    IndicesDataProvider   snapshots over several bar lengths, indicators, bars
    BrokerDataProvider    quotes and bars of stocks

A provider answers for one vendor, or, as a hybrid, for several. What it returns is
validated and judged. It raises `DataProviderError`: `ContractNotFound` is an answer, all
else a failure. An empty chain is an answer too, and `listed` says whether the filter
emptied it or the vendor.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Protocol, runtime_checkable

from onetape.chain_query import ChainQuery
from onetape.model import (
    Bar,
    ContractType,
    Flow,
    IndexSnapshot,
    OptionChain,
    OptionSnapshot,
    ProviderHealth,
    Quote,
    Topic,
    Trade,
)
from onetape.rows import Rows
from onetape.timeframes import BarLength, Moment


class Handle(Protocol):
    """Something open that can be closed; closing it twice is closing it once."""

    def close(self) -> None:
        """End it; nothing is delivered afterwards."""
        ...


class LiveFeed(Protocol):
    """Where a provider gets live events from; who owns the socket is not its business."""

    def open(
        self,
        topics: frozenset[Topic],
        take: Callable[[Sequence[Quote | Trade | Bar]], None],
        tell: Callable[[frozenset[Topic], bool], None],
    ) -> Handle:
        """Read topics: `take` gets their events, `tell` whenever some go live or stop being.

        Both are called from the event loop, may not block, and what they raise is logged.
        """
        ...


@runtime_checkable
class DataProvider(Protocol):
    """What all three have in common."""

    @property
    def name(self) -> str:
        """`massive`, `tradier` or `hybrid`."""
        ...

    def health(self) -> tuple[ProviderHealth, ...]:
        """Return how it does: of a hybrid, one for each provider in it."""
        ...


@runtime_checkable
class OptionsDataProvider(DataProvider, Protocol):
    """Options: R205, R212-R214, R218."""

    async def get_option_chain(self, underlying: str, query: ChainQuery = ...) -> OptionChain:
        """Return the contracts that the query wants, judged."""
        ...

    async def get_option_contract(
        self, underlying: str, strike: float, expiration: date, contract_type: ContractType
    ) -> OptionSnapshot:
        """Return one contract with its market, judged.

        Raises:
            ContractNotFound: there is none.
        """
        ...

    async def get_expirations(self, underlying: str) -> tuple[date, ...]:
        """Return the listed expirations, soonest first."""
        ...

    async def get_flow(self, underlying: str) -> Flow:
        """Return what the tape says; `available=False` where there is no tape."""
        ...

    def subscribe_chain(
        self, underlying: str, take: Callable[[OptionChain], None], query: ChainQuery = ...
    ) -> Handle:
        """Tell of the chain whenever it changes, at most every 100 ms."""
        ...


@runtime_checkable
class IndicesDataProvider(DataProvider, Protocol):
    """Indices: R206, R207."""

    async def get_index_snapshots(
        self, symbols: Sequence[str], *, timeframes: Sequence[BarLength] = ()
    ) -> Rows[IndexSnapshot]:
        """Return the indices now, with bars and indicators of each length asked for."""
        ...

    async def get_indicators(
        self, symbol: str, length: BarLength, *, lookback: int = 250
    ) -> Mapping[str, float | None]:
        """Return the usual indicators over the last `lookback` bars."""
        ...

    def subscribe_index(self, symbol: str, take: Callable[[IndexSnapshot], None]) -> Handle:
        """Tell of the index whenever its value changes."""
        ...


@runtime_checkable
class BrokerDataProvider(DataProvider, Protocol):
    """Stocks: R215, R225."""

    async def get_quotes(self, symbols: Sequence[str]) -> Rows[Quote]:
        """Return the quotes in the order asked for; what has none is in `errors`."""
        ...

    async def get_bars(
        self, symbol: str, length: BarLength, start: Moment, end: Moment
    ) -> Rows[Bar]:
        """Return the bars of a range, both ends included, oldest first."""
        ...

    def subscribe_equity(self, symbol: str, take: Callable[[Quote], None]) -> Handle:
        """Tell of the quote whenever it changes."""
        ...
