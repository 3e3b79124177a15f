"""What is asked of the vendor alone, of one that says what it was asked."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping
from datetime import date
from typing import Any

import msgspec
import pytest
from starlette.datastructures import QueryParams

from onetape.errors import InvalidSymbol, MassiveApiError, OnetapeError, UpstreamDown
from onetape.gateway.market_reference import (
    CONTRACTS_S,
    STATUS_KEPT_S,
    STATUS_S,
    STATUS_WAIT_S,
    Reference,
)
from onetape.gateway.parameters import Bars, Contracts, read
from onetape.massive.rest import RestResponse
from onetape.testing import ManualClock, until

MINUTE_MS = 60_000
FIRST_MS = 1_767_623_400_000


def bar(at: int) -> dict[str, Any]:
    return {"t": FIRST_MS + at * MINUTE_MS, "o": 1, "h": 2, "l": 1, "c": 2, "v": 10}


def contract(strike: int) -> dict[str, Any]:
    return {
        "ticker": f"O:SPX261218C{strike:05}000",
        "underlying_ticker": "SPX",
        "expiration_date": "2026-12-18",
        "strike_price": strike,
        "contract_type": "call",
    }


class Vendor:
    """Answers with pages of rows."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.rows: list[dict[str, Any]] = []
        self.page = 2
        self.down: OnetapeError | None = None
        self.body: object = {}
        self.release = asyncio.Event()
        self.release.set()

    def response(self, body: object) -> RestResponse:
        return RestResponse(
            status=200,
            body=msgspec.json.encode(body),
            content_type="application/json",
            request_id=None,
            retry_after_s=None,
            received_ns=self.clock.now_ns(),
            attempts=1,
            simulated=True,
        )

    async def get(self, path: str, params: Mapping[str, Any] | None = None) -> RestResponse:
        self.asked.append((path, dict(params or {})))
        await self.release.wait()
        if self.down:
            raise self.down
        return self.response(self.body)

    async def pages(
        self, path: str, params: Mapping[str, Any] | None = None, *, max_pages: int | None = None
    ) -> AsyncGenerator[RestResponse]:
        for at in range(0, max(1, len(self.rows)), self.page):
            self.asked.append((path, dict(params or {})))
            if self.down:
                raise self.down
            yield self.response({"status": "OK", "results": self.rows[at : at + self.page]})


class Desk:
    def __init__(self, status_wait_s: float) -> None:
        self.clock = ManualClock(now_ns=1_767_630_000_000_000_000)  # 5 January 2026, 11:20
        self.vendor = Vendor(self.clock)
        self.reference = Reference(asker=self.vendor, clock=self.clock, status_wait_s=status_wait_s)


@contextlib.asynccontextmanager
async def desk(status_wait_s: float = STATUS_WAIT_S) -> AsyncGenerator[Desk]:
    here = Desk(status_wait_s)
    async with here.reference:
        yield here


def bars_of(query: str) -> Bars:
    return read(Bars, QueryParams(f"symbol=SPX&from=2026-01-05&to=2026-01-05&{query}"))


def contracts_of(query: str) -> Contracts:
    return read(Contracts, QueryParams(query), drops_unknown=True)


async def test_bars_are_read_no_further_than_one_more_than_the_limit() -> None:
    """R40."""
    async with desk() as here:
        here.vendor.rows = [bar(at) for at in range(10)]

        rows = await here.reference.bars(bars_of("limit=2"), "I:SPX")

        path, params = here.vendor.asked[0]
        assert (len(rows), len(here.vendor.asked)) == (3, 2)
        assert path == "/v2/aggs/ticker/I:SPX/range/1/minute/2026-01-05/2026-01-05"
        assert params == {"adjusted": True, "sort": "asc", "limit": 3}
        assert rows.simulated


@pytest.mark.parametrize(
    ("query", "limit"),
    [("timespan=hour&limit=9", 600), ("timespan=day&limit=9", 10), ("limit=50000", 50_000)],
)
async def test_the_vendors_limit_counts_what_it_makes_bars_of(query: str, limit: int) -> None:
    async with desk() as here:
        await here.reference.bars(bars_of(query), "I:SPX")

        assert here.vendor.asked[0][1]["limit"] == limit


async def test_bars_are_kept_a_minute_for_the_same_question() -> None:
    async with desk() as here:
        for query in ("limit=2", "limit=2", "limit=2&sort=desc"):
            await here.reference.bars(bars_of(query), "I:SPX")
        assert len(here.vendor.asked) == 2

        here.clock.advance(61)
        await here.reference.bars(bars_of("limit=2"), "I:SPX")

        assert len(here.vendor.asked) == 3


async def test_contracts_are_asked_for_by_the_vendors_filters_and_kept_15_minutes() -> None:
    """R43: an index without its prefix, as the reference names it."""
    async with desk() as here:
        here.vendor.rows = [contract(5_000), contract(5_005)]
        asked = contracts_of("underlying_ticker=$SPX&strike_price.gte=5000&foo=1&limit=5")

        first = await here.reference.contracts(asked)
        here.clock.advance(CONTRACTS_S - 1)
        again = await here.reference.contracts(asked)

        assert first is again
        assert [one.strike for one in first.results] == [5_000, 5_005]
        assert (first.has_more, first.simulated) == (False, True)
        [(path, params)] = here.vendor.asked
        assert path == "/v3/reference/options/contracts"
        assert params["underlying_ticker"] == "SPX"
        assert (params["strike_price.gte"], params["limit"]) == (5_000, 6)
        assert (params["expired"], params["as_of"]) == (None, None)


async def test_contracts_beyond_the_limit_are_told_of() -> None:
    async with desk() as here:
        here.vendor.rows = [contract(strike) for strike in range(5_000, 5_020)]

        answer = await here.reference.contracts(contracts_of("limit=3"))

        assert (len(answer.results), answer.has_more) == (3, True)
        assert len(here.vendor.asked) == 2


async def test_contracts_of_no_symbol_are_not_asked_for() -> None:
    async with desk() as here:
        with pytest.raises(InvalidSymbol):
            await here.reference.contracts(contracts_of("underlying_ticker=bad!!"))

        assert here.vendor.asked == []


async def test_a_failure_is_named_and_not_kept() -> None:
    async with desk() as here:
        here.vendor.down = UpstreamDown("dead")
        for _ in range(2):
            with pytest.raises(MassiveApiError) as failed:
                await here.reference.contracts(contracts_of(""))
            assert isinstance(failed.value.causes[0], UpstreamDown)

        assert len(here.vendor.asked) == 2


async def test_holidays_are_the_vendors_for_a_day_and_else_the_calendars() -> None:
    """R49: a failure is not kept, and no year of the calendar is without holidays."""
    async with desk() as here:
        here.vendor.down = UpstreamDown("dead")
        by_calendar = await here.reference.holidays(None)
        assert (by_calendar.year, by_calendar.provider) == (2026, "calendar")
        assert by_calendar.results[0].date == date(2026, 1, 1)
        assert all(one.date.year == 2026 for one in by_calendar.results)

        here.vendor.down = None
        ahead = {"date": "2026-01-19", "exchange": "NYSE", "name": "MLK", "status": "closed"}
        here.vendor.body = [ahead]
        for _ in range(2):
            by_vendor = await here.reference.holidays(2026)
            assert (by_vendor.provider, by_vendor.results[-1].name) == ("massive", "MLK")
            assert by_vendor.results[0].date == date(2026, 1, 1)

        assert len(here.vendor.asked) == 2


async def test_the_market_status_is_the_vendors_and_at_most_a_minute_old() -> None:
    """R49, R32: asked for by who comes, at most every ten seconds."""
    async with desk() as here:
        here.vendor.body = {
            "market": "open",
            "serverTime": "2026-01-05T11:20:00-05:00",
            "exchanges": {"nyse": "open"},
        }
        status, same = await asyncio.gather(
            here.reference.market_status(), here.reference.market_status()
        )
        assert status is not None
        assert same is status
        assert (status.session, status.provider) == ("open", "massive")
        assert len(here.vendor.asked) == 1

        here.vendor.down = UpstreamDown("dead")
        here.clock.advance(STATUS_S)
        assert await here.reference.market_status() is status, "without waiting"
        await until(lambda: len(here.vendor.asked) == 2)
        here.clock.advance(STATUS_KEPT_S)
        assert await here.reference.market_status() is None


async def test_a_slow_vendor_is_asked_for_its_status_once_and_leaves_nothing_behind() -> None:
    async with desk(status_wait_s=0.01) as here:
        here.vendor.release.clear()
        assert await here.reference.market_status() is None
        here.clock.advance(STATUS_S)

        assert await here.reference.market_status() is None
        assert len(here.vendor.asked) == 1


async def test_an_error_in_the_block_comes_out_as_it_is() -> None:
    with pytest.raises(ValueError, match="mine"):
        async with desk():
            raise ValueError("mine")
