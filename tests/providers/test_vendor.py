import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from onetape.errors import (
    ContractNotFound,
    InvalidRequest,
    MassiveApiError,
    NotConnected,
    OnetapeError,
    ShuttingDown,
    TradierApiError,
    UpstreamDown,
)
from onetape.model import OptionChain, Quote
from onetape.providers.following import Cadence
from onetape.providers.live_quote import EquityView
from onetape.providers.vendor import (
    ProviderPolicy,
    Vendor,
    chain_bytes,
)
from onetape.testing import ManualClock, until

MONDAY_NOON = 1_764_003_600_000_000_000  # 2025-11-24 12:00 in New York
SECOND = 1_000_000_000
HOUR = 3600 * SECOND


class Source:
    def __init__(self, *errors: OnetapeError) -> None:
        self.calls = 0
        self.errors = list(errors)
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self) -> int:
        self.calls += 1
        number = self.calls
        await self.gate.wait()
        if self.errors:
            raise self.errors.pop(0)
        return number


@asynccontextmanager
async def running(
    clock: ManualClock | None = None, policy: ProviderPolicy | None = None
) -> AsyncGenerator[Vendor]:
    vendor = Vendor(
        "massive",
        failure=MassiveApiError,
        clock=clock or ManualClock(),
        policy=policy or ProviderPolicy(),
    )
    async with vendor:
        yield vendor


# ---- kept ----


async def test_an_answer_is_kept_as_long_as_it_may_be() -> None:
    """R210."""
    clock, source = ManualClock(), Source()

    async with running(clock) as vendor:
        assert await vendor.kept("a", source, ttl_s=5) == 1
        clock.advance(4.9)
        assert await vendor.kept("a", source, ttl_s=5) == 1
        clock.advance(0.1)
        assert await vendor.kept("a", source, ttl_s=5) == 2
        assert await vendor.kept("b", source, ttl_s=5) == 3


async def test_all_who_ask_at_once_have_one_question() -> None:
    source = Source()
    source.gate.clear()

    async with running() as vendor, asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(vendor.kept("a", source, ttl_s=0)) for _ in range(50)]
        await until(lambda: source.calls)
        source.gate.set()
        assert {await one for one in asked} == {1}
        assert await vendor.kept("a", source, ttl_s=0) == 2, "0 s is not kept"
        assert vendor.statistics().flights.coalesced == 49


async def test_a_failure_is_not_kept() -> None:
    source = Source(UpstreamDown("gone"))

    async with running() as vendor:
        with pytest.raises(UpstreamDown):
            await vendor.kept("a", source, ttl_s=5)
        assert await vendor.kept("a", source, ttl_s=5) == 2


async def test_an_answer_that_is_not_worth_it_is_not_kept() -> None:
    source = Source()

    async with running() as vendor:
        for expected in (1, 2):
            kept = vendor.kept("a", source, ttl_s=5, worth_keeping=lambda _: False)
            assert await kept == expected


async def test_the_cache_is_bounded_in_bytes_and_the_least_used_goes_first() -> None:
    """R94, R210."""
    policy = ProviderPolicy(cache_bytes=4_000)
    source = Source()

    async with running(policy=policy) as vendor:
        for key in "abc":
            await vendor.kept(key, source, ttl_s=60, size=lambda _: 1_200)
        assert await vendor.kept("a", source, ttl_s=60) == 4
        assert await vendor.kept("c", source, ttl_s=60) == 3
        assert vendor.statistics().cache.evictions == 1


async def test_what_is_forgotten_is_asked_for_anew() -> None:
    source = Source()

    async with running() as vendor:
        for key in ("chain:SPX:1", "chain:SPXW:1"):
            await vendor.kept(key, source, ttl_s=60)
        assert vendor.forget("chain:SPX:*") == 1
        assert await vendor.kept("chain:SPXW:1", source, ttl_s=60) == 2
        assert await vendor.kept("chain:SPX:1", source, ttl_s=60) == 3
        assert vendor.forget() == 2


async def test_leaving_ends_what_is_under_way() -> None:
    source = Source()
    source.gate.clear()

    async with asyncio.TaskGroup() as tasks:
        async with running() as vendor:
            asked = tasks.create_task(outcome(vendor.kept("a", source, ttl_s=5)))
            await until(lambda: source.calls)
        assert isinstance(await asked, ShuttingDown)


async def test_nothing_is_asked_outside_of_the_block() -> None:
    source = Source()

    async def refused(vendor: Vendor) -> None:
        assert isinstance(await outcome(vendor.kept("a", source, ttl_s=5)), NotConnected)
        with pytest.raises(NotConnected):
            follow(vendor, [], Quotes())

    vendor = Vendor(
        "massive", failure=MassiveApiError, clock=ManualClock(), policy=ProviderPolicy()
    )
    await refused(vendor)
    async with vendor:
        pass
    await refused(vendor)

    assert source.calls == 0


async def test_an_error_within_the_block_comes_out_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        async with running():
            raise ZeroDivisionError


async def outcome(work: Awaitable[object]) -> object:
    try:
        return await work
    except OnetapeError as error:
        return error


# ---- asked ----


async def answer(clock: ManualClock, took_s: float, error: OnetapeError | None = None) -> str:
    clock.advance(took_s)
    if error is not None:
        raise error
    return "answer"


async def test_a_question_is_timed_and_counted() -> None:
    """R223, R226."""
    clock = ManualClock()

    async with running(clock) as vendor:
        assert await vendor.ask("chain", answer(clock, 0.12)) == "answer"

        health = vendor.health()
        assert health.response_time_s == pytest.approx(0.12)
        assert (health.requests, health.failures) == (1, 0)
        assert health.last_success_ns == clock.now_ns()


async def test_a_failure_is_of_the_providers_kind_with_the_cause_in_it() -> None:
    clock = ManualClock()
    cause = UpstreamDown("gone", retry_after_s=3)

    async with running(clock) as vendor:
        with pytest.raises(MassiveApiError) as caught:
            await vendor.ask("chain", answer(clock, 0.5, cause))

        assert (caught.value.provider, caught.value.retry_after_s) == ("massive", 3)
        assert caught.value.causes == (cause,)
        assert caught.value.__cause__ is cause
        assert vendor.health().failures == 1


@pytest.mark.parametrize("error", [ContractNotFound("none"), InvalidRequest("what?")])
async def test_an_answer_that_it_is_not_there_counts_as_one(error: OnetapeError) -> None:
    """W-59."""
    clock = ManualClock()

    async with running(clock) as vendor:
        for _ in range(5):
            with pytest.raises(type(error)) as caught:
                await vendor.ask("contract", answer(clock, 0.1, error))
            assert caught.value is error

        assert vendor.health().healthy
        assert (vendor.health().requests, vendor.health().failures) == (5, 0)


async def test_a_failure_within_a_question_is_counted_once() -> None:
    clock = ManualClock()

    async with running(clock) as vendor:
        inner = vendor.ask("inner", answer(clock, 0.1, UpstreamDown("gone")))
        with pytest.raises(MassiveApiError):
            await vendor.ask("outer", inner)

        assert (vendor.health().requests, vendor.health().failures) == (1, 1)


async def test_a_caller_that_leaves_blames_nobody() -> None:
    async with running() as vendor:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await vendor.ask("chain", asyncio.Event().wait())

        assert vendor.health().requests == 0


# ---- logged ----


async def test_answers_are_logged_unless_it_is_switched_off(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """R211."""
    caplog.set_level(logging.INFO)
    clock = ManualClock()

    async with running(clock, ProviderPolicy(enable_logging=False)) as vendor:
        await vendor.ask("chain", answer(clock, 0.1))
    assert [record.message for record in caplog.records] == []

    async with running(clock) as vendor:
        await vendor.ask("chain", answer(clock, 0.25))
        with pytest.raises(ContractNotFound):
            await vendor.ask("contract", answer(clock, 0.1, ContractNotFound("none")))

    records: list[Any] = list(caplog.records)
    assert [record.message for record in records] == ["provider.answered"] * 2
    assert [(record.what, record.outcome) for record in records] == [
        ("chain", "ok"),
        ("contract", "CONTRACT_NOT_FOUND"),
    ]
    assert (records[0].provider, records[0].took_s) == ("massive", 0.25)


@pytest.mark.parametrize("enable_logging", [True, False])
async def test_failures_are_logged_ever_more_seldom(
    caplog: pytest.LogCaptureFixture, enable_logging: bool
) -> None:
    """R211."""
    clock = ManualClock()

    async with running(clock, ProviderPolicy(enable_logging=enable_logging)) as vendor:
        for _ in range(9):
            with pytest.raises(MassiveApiError):
                await vendor.ask("chain", answer(clock, 0.1, UpstreamDown("gone")))

    records: list[Any] = list(caplog.records)
    assert {record.levelname for record in records} == {"WARNING"}
    assert [record.in_a_row for record in records] == [1, 2, 4, 8]
    assert records[0].outcome == "upstream_down"


# ---- followed ----


class Quotes:
    def __init__(self) -> None:
        self.calls = 0

    async def __call__(self) -> Quote:
        self.calls += 1
        return Quote(symbol="SPY", event_ns=self.calls, received_ns=1, provider="x", last=1.0)


def follow(vendor: Vendor, told: list[Quote], source: Quotes) -> Any:
    return vendor.follow(
        EquityView("SPY", is_open=lambda _now_ns: True),
        fetch=source,
        take=told.append,
        feed=None,
        cadence=Cadence(3600.0, 3600.0, 0.0),
    )


async def test_a_subscription_ends_with_its_handle_or_with_the_vendor() -> None:
    told, others = list[Quote](), list[Quote]()

    async with running() as vendor:
        handle = follow(vendor, told, Quotes())
        follow(vendor, others, Quotes())
        await until(lambda: told and others)
        assert vendor.statistics().followed == 2
        handle.close()
        assert vendor.statistics().followed == 1

    assert vendor.statistics().followed == 0


async def test_readers_that_raise_are_counted_beyond_their_end() -> None:
    async with running() as vendor:
        handle = vendor.follow(
            EquityView("SPY", is_open=lambda _now_ns: True),
            fetch=Quotes(),
            take=lambda _: 1 // 0,  # type: ignore[arg-type]  # what it returns is not looked at
            feed=None,
            cadence=Cadence(3600.0, 3600.0, 0.0),
        )
        await until(lambda: vendor.statistics().reader_failures == 1)
        handle.close()
        assert vendor.statistics().reader_failures == 1


# ---- policy, sizes, hours ----


def test_the_times_of_life_are_set_by_kind_and_bounded() -> None:
    """R210, C11."""
    assert msgspec.convert({"chain_s": 30, "bars_s": 0}, ProviderPolicy).chain_s == 30
    for wrong in ({"chain_s": 31}, {"snapshot_s": -1}, {"flow": 1}):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(wrong, ProviderPolicy)


def test_a_chain_takes_what_its_contracts_take() -> None:
    chain = OptionChain(
        underlying="SPY", underlying_price=None, contracts=(), received_ns=1, provider="x"
    )

    assert chain_bytes(chain) == 0


def test_the_kind_of_failure_is_the_providers() -> None:
    vendor = Vendor(
        "tradier", failure=TradierApiError, clock=ManualClock(), policy=ProviderPolicy()
    )

    assert (vendor.name, vendor.health().provider) == ("tradier", "tradier")
