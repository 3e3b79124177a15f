"""R212, W-63: flow is a sample of real prints, or it is not available."""

from collections.abc import AsyncGenerator, Awaitable, Mapping
from datetime import date
from typing import TypeVar

import msgspec
import pytest

from onetape.errors import UpstreamDown, UpstreamForbidden
from onetape.massive.questions import MassiveQuestions, Params
from onetape.massive.rest import RestResponse
from onetape.massive.sampling import CONTRACTS, QUOTES, TRADES, WINDOW_S, Sampling
from onetape.model import ContractType, OptionChain, OptionContract, OptionSnapshot, Quote
from onetape.testing import ManualClock

T = TypeVar("T")

NOW_NS = 1_764_000_000_000_000_000


def row(strike: int, volume: float | None) -> OptionSnapshot:
    symbol = f"O:SPY251219C{strike * 1000:08}"
    return OptionSnapshot(
        contract=OptionContract(
            symbol=symbol,
            root="SPY",
            underlying="SPY",
            expiration=date(2025, 12, 19),
            strike=strike,
            contract_type=ContractType.CALL,
            shares_per_contract=100,
        ),
        quote=Quote(symbol=symbol, event_ns=NOW_NS, received_ns=NOW_NS, provider="massive"),
        volume=volume,
        open_interest=1000,
    )


def chain(*volumes: float | None) -> OptionChain:
    return OptionChain(
        underlying="SPY",
        underlying_price=650.0,
        contracts=tuple(row(600 + at, volume) for at, volume in enumerate(volumes)),
        received_ns=NOW_NS,
        provider="massive",
        simulated=True,
    )


class Tape:
    """An asker for which every contract has the same prints and quotes."""

    def __init__(self, trades: object = (), quotes: object = ()) -> None:
        self.asked: list[tuple[str, Params]] = []
        self._answers = {"trades": trades, "quotes": quotes}

    async def get(self, path: str, params: Params | None = None) -> RestResponse:
        raise AssertionError(path, params)

    async def pages(
        self, path: str, params: Params | None = None, *, max_pages: int | None = None
    ) -> AsyncGenerator[RestResponse]:
        assert max_pages is None
        self.asked.append((path, params or {}))
        answer = self._answers[path.split("/")[2]]
        if isinstance(answer, Exception):
            raise answer
        yield RestResponse(
            status=200,
            body=msgspec.json.encode({"status": "OK", "results": answer}),
            content_type="application/json",
            request_id=None,
            retry_after_s=None,
            received_ns=NOW_NS,
            attempts=1,
            simulated=True,
        )


async def plainly(what: str, question: Awaitable[T], /) -> T:
    assert what in {"trades", "quotes"}
    return await question


def sampling(tape: Tape) -> Sampling:
    return Sampling(MassiveQuestions(tape, ManualClock()), plainly)


def trade(ago_s: int, price: float, size: int = 10) -> Mapping[str, object]:
    at = NOW_NS - ago_s * 1_000_000_000
    return {"sip_timestamp": at, "price": price, "size": size, "exchange": 302, "conditions": [209]}


def quote(ago_s: int, bid: float, ask: float) -> Mapping[str, object]:
    at = NOW_NS - ago_s * 1_000_000_000
    return {"sip_timestamp": at, "bid_price": bid, "ask_price": ask, "sequence_number": 1}


NEWEST_FIRST = [trade(10, 1.10, 30), trade(20, 1.00, 10)]


async def test_the_prints_of_what_traded_most_are_met_with_the_quotes_of_their_time() -> None:
    tape = Tape(NEWEST_FIRST, [quote(15, 1.00, 1.10), quote(25, 1.00, 1.10)])

    found = await sampling(tape).flow(chain(None, 5, 0, 70), now_ns=NOW_NS)

    assert (found.available, found.provider, found.simulated) == (True, "massive", True)
    assert (found.trades, found.volume, found.pressure) == (4, 80, 75)
    assert found.updated_ns == NOW_NS - 10 * 1_000_000_000
    asked = {path for path, _ in tape.asked}
    assert asked == {
        f"/v3/{what}/O:SPY251219C{strike}"
        for what in ("trades", "quotes")
        for strike in ("00601000", "00603000")
    }


async def test_a_sample_is_bounded() -> None:
    tape = Tape(NEWEST_FIRST, [])

    await sampling(tape).flow(chain(*range(1, 30)), now_ns=NOW_NS)

    assert len(tape.asked) == 2 * CONTRACTS
    strikes = {int(path[-8:]) // 1000 for path, _ in tape.asked}
    assert strikes == {*range(624, 629)}, "those with the largest volume"
    limits = {path.split("/")[2]: params["limit"] for path, params in tape.asked}
    assert limits == {"trades": TRADES, "quotes": QUOTES}
    assert {params["timestamp.gte"] for _, params in tape.asked} == {NOW_NS - WINDOW_S * 10**9}
    assert {params["order"] for _, params in tape.asked} == {"desc"}


async def test_without_quotes_in_the_plan_prices_are_compared_with_each_other() -> None:
    tape = Tape(NEWEST_FIRST, UpstreamForbidden("plan"))

    found = await sampling(tape).flow(chain(5), now_ns=NOW_NS)

    assert (found.available, found.trades, found.pressure) == (True, 2, 100)


@pytest.mark.parametrize(
    ("tape", "volumes", "reason"),
    [
        (Tape(), (None, 0), "no contract of the next expirations traded today"),
        (Tape(), (), "no contract of the next expirations traded today"),
        (Tape([]), (5,), "no prints in the last hour"),
        (Tape(UpstreamForbidden("plan")), (5,), "the plan does not have the prints of options"),
    ],
)
async def test_without_prints_it_is_not_available_and_has_no_numbers(
    tape: Tape, volumes: tuple[float | None, ...], reason: str
) -> None:
    found = await sampling(tape).flow(chain(*volumes), now_ns=NOW_NS)

    assert (found.available, found.reason) == (False, reason)
    assert found.underlying == "SPY"
    numbers = (found.trades, found.volume, found.pressure, found.score, found.updated_ns)
    assert numbers == (None,) * 5, "never neutral ones"


@pytest.mark.parametrize(
    "tape", [Tape(UpstreamDown("gone")), Tape(NEWEST_FIRST, UpstreamDown("gone"))]
)
async def test_a_failure_is_not_mistaken_for_silence(tape: Tape) -> None:
    with pytest.raises(UpstreamDown):
        await sampling(tape).flow(chain(5), now_ns=NOW_NS)
