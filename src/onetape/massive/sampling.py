"""Flow from a sample of the tape: what can be had in a few requests, and is said to be a sample.

    a chain's contracts ──▶ the five that traded most today
                              └─▶ the prints of each in the last hour, the newest thousand
                              └─▶ and the quotes they met, the newest five thousand
                                    └─▶ `analytics.flow`

A busy contract has more quotes in an hour than that: prints from before the oldest of them
go by the tick rule, as all do where the plan has no quotes. A sample without prints is not
available, and says why; it has no numbers (W-63).
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Final, Protocol, TypeVar

from onetape.analytics.flow import Tape, figures
from onetape.errors import UpstreamForbidden
from onetape.massive.batches import all_of
from onetape.massive.questions import PROVIDER, MassiveQuestions
from onetape.model import Flow, OptionChain, OptionSnapshot
from onetape.pages import Pages

T = TypeVar("T")

WINDOW_S: Final = 3600
EXPIRATIONS: Final = 3
"""How many of the next expirations are looked at."""
CONTRACTS: Final = 5
TRADES: Final = 1_000
QUOTES: Final = 5_000

_SHARES: Final = 100.0


class Ask(Protocol):
    """How a question is asked: `Vendor.ask`."""

    def __call__(self, what: str, question: Awaitable[T], /) -> Awaitable[T]:
        """Wait for an answer, or raise a provider's error."""
        ...


class Sampling:
    """Takes samples of the tape. Cancel-safe; errors are those of `ask`."""

    def __init__(self, questions: MassiveQuestions, ask: Ask) -> None:
        self._questions = questions
        self._ask = ask

    async def flow(self, chain: OptionChain, *, now_ns: int) -> Flow:
        """Return what the prints of a chain's most traded contracts say."""
        active = _most_traded(chain.contracts)
        if not active:
            return _unavailable(chain, "no contract of the next expirations traded today")
        since_ns = now_ns - WINDOW_S * 1_000_000_000
        tapes = await all_of(self._tape(row, since_ns) for row in active)
        known = [tape for tape in tapes if tape is not None]
        if not known:
            return _unavailable(chain, "the plan does not have the prints of options")
        found = figures(known)
        if not found.trades:
            return _unavailable(chain, "no prints in the last hour")
        return Flow(
            underlying=chain.underlying,
            available=True,
            provider=PROVIDER,
            trades=found.trades,
            volume=found.volume,
            pressure=found.pressure,
            score=found.score,
            updated_ns=found.newest_ns,
            simulated=chain.simulated,
        )

    async def _tape(self, row: OptionSnapshot, since_ns: int) -> Tape | None:
        asks = self._questions
        trades = await self._newest("trades", asks.trades, row.symbol, since_ns, TRADES)
        if trades is None:
            return None
        quotes = await self._newest("quotes", asks.quote_history, row.symbol, since_ns, QUOTES)
        shares = row.contract.shares_per_contract or _SHARES
        return Tape(trades[::-1], (quotes or ())[::-1], shares, row.open_interest)

    async def _newest(
        self, what: str, ask: Callable[..., Pages[T]], symbol: str, since_ns: int, most: int
    ) -> tuple[T, ...] | None:
        """Return the newest rows, newest first; None if the plan does not have them."""

        async def read() -> tuple[T, ...] | None:
            try:
                return await ask(symbol, start=since_ns, newest_first=True, max_rows=most)
            except UpstreamForbidden:  # an answer: it says nothing of how the vendor does
                return None

        return await self._ask(what, read())


def _most_traded(contracts: Iterable[OptionSnapshot]) -> list[OptionSnapshot]:
    traded = (row for row in contracts if row.volume)
    return sorted(traded, key=lambda row: row.volume or 0.0, reverse=True)[:CONTRACTS]


def _unavailable(chain: OptionChain, reason: str) -> Flow:
    return Flow(
        underlying=chain.underlying,
        available=False,
        reason=reason,
        provider=PROVIDER,
        simulated=chain.simulated,
    )
