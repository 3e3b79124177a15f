"""The client's memory: what it keeps, for how long, and what survives it."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import date
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from onetape.calendar import Holiday, HolidayStatus
from onetape.client._cache import (
    MAX_BYTES,
    PERSISTED,
    SAVE_AFTER_S,
    STALE_S,
    TTL_S,
    ClientCache,
    ClientCacheStatistics,
)
from onetape.errors import (
    InvalidRequest,
    NotFound,
    OnetapeError,
    ShuttingDown,
    Throttled,
    UpstreamDown,
    UpstreamForbidden,
)
from onetape.massive.wire_rest import ParamValue
from onetape.model import ContractType, OptionContract, Quote
from onetape.rows import Rows
from onetape.symbols import normalize_symbol
from onetape.testing import ManualClock, until

HOLIDAYS = (Holiday(date=date(2025, 12, 25), name="Christmas", status=HolidayStatus.CLOSED),)
CONTRACT = OptionContract(
    symbol="O:SPY251219C00650000",
    root="SPY",
    underlying="SPY",
    expiration=date(2025, 12, 19),
    strike=650.0,
    contract_type=ContractType.CALL,
)
DAY_S = 86_400.0


class Source:
    """Answers with what it is told, and counts how often it was asked."""

    def __init__(self, answer: object = "answer") -> None:
        self.answer = answer
        self.calls = 0
        self.cancelled = 0
        self.ready = asyncio.Event()
        self.ready.set()

    async def __call__(self) -> object:
        self.calls += 1
        try:
            await self.ready.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def outcome(call: Awaitable[object]) -> object:
    try:
        return await call
    except OnetapeError as error:
        return error


@contextlib.asynccontextmanager
async def opened(
    directory: Path | None = None, clock: ManualClock | None = None, **kwargs: Any
) -> AsyncGenerator[tuple[ClientCache, ManualClock]]:
    clock = clock or ManualClock()
    async with ClientCache(clock=clock, directory=directory, **kwargs) as cache:
        yield cache, clock


# keeping


async def test_an_answer_is_fetched_once_while_it_is_fresh() -> None:
    """R92, R93."""
    async with opened() as (cache, clock):
        source = Source()
        assert await cache.get_or_fetch("aggs:SPY", source, ttl_s=60) == "answer"
        clock.advance(59.9)
        assert await cache.get_or_fetch("aggs:SPY", source, ttl_s=60) == "answer"
        assert source.calls == 1
        clock.advance(0.1)
        await cache.get_or_fetch("aggs:SPY", source, ttl_s=60)
        assert source.calls == 2


@pytest.mark.parametrize(
    ("namespace", "fresh_s"),
    [
        ("contract", 15 * 60),
        ("aggs", 60),
        ("aggs_closed", DAY_S),
        ("holidays", DAY_S),
        ("indicators", 60),
        ("chain", 10),
        ("chain_closed", 60),
    ],
)
async def test_every_namespace_has_its_time(namespace: str, fresh_s: float) -> None:
    """R98, R99, R100, R101, R102, C11, W-29."""
    async with opened() as (cache, clock):
        source = Source()
        for advance, calls in ((0.0, 1), (fresh_s - 1, 1), (2.0, 2)):
            clock.advance(advance)
            await cache.get_or_fetch(f"{namespace}:x", source, ttl_s=TTL_S[namespace])
            assert source.calls == calls


def test_nothing_live_has_a_time_to_live() -> None:
    """R103."""
    live = {"status", "quotes", "quote", "rsi", "indices", "index", "trades"}
    assert not live & TTL_S.keys()
    assert TTL_S.keys() >= STALE_S.keys() == PERSISTED.keys()


async def test_without_a_time_to_live_calls_are_joined_in_flight_only() -> None:
    """R103: two in a row are two fetches, and two at once are one."""
    async with opened() as (cache, _):
        source = Source()
        await cache.get_or_fetch("quote:SPY", source, ttl_s=0)
        await cache.get_or_fetch("quote:SPY", source, ttl_s=0)
        assert source.calls == 2

        source.ready.clear()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(10):
                tasks.create_task(cache.get_or_fetch("quote:SPY", source, ttl_s=0))
            await until(lambda: source.calls == 3)
            source.ready.set()
        assert source.calls == 3
        statistics = cache.statistics()
        assert (statistics.uncached, statistics.misses, statistics.entries) == (12, 0, 0)
        assert statistics.hit_rate is None


async def test_a_hundred_callers_cause_one_fetch() -> None:
    """R92, W-25."""
    async with opened() as (cache, _):
        source = Source()
        source.ready.clear()
        async with asyncio.TaskGroup() as tasks:
            calls = [
                tasks.create_task(cache.get_or_fetch("k", source, ttl_s=10)) for _ in range(100)
            ]
            await until(lambda: source.calls)
            source.ready.set()
        assert {call.result() for call in calls} == {"answer"}
        assert (source.calls, cache.statistics().coalesced) == (1, 99)


@pytest.mark.parametrize("ttl_s", [0.0, 10.0])
async def test_cancelling_one_caller_leaves_the_fetch_to_the_others(ttl_s: float) -> None:
    """R89, W-18: and with the last one it is cancelled."""
    async with opened() as (cache, _), asyncio.TaskGroup() as tasks:
        source = Source()
        source.ready.clear()
        first, second = (
            tasks.create_task(cache.get_or_fetch("k", source, ttl_s=ttl_s)) for _ in range(2)
        )
        await until(lambda: source.calls)
        first.cancel()
        await asyncio.wait([first])
        assert source.cancelled == 0
        second.cancel()
        await asyncio.wait([second])
        await until(lambda: source.cancelled)
        assert cache.statistics().entries == 0


async def test_failures_are_not_kept() -> None:
    """R92, R100, W-28."""
    async with opened() as (cache, _):
        source = Source(UpstreamDown("no"))
        for _ in range(2):
            with pytest.raises(UpstreamDown):
                await cache.get_or_fetch("holidays:2025", source, ttl_s=60, stale_s=60)
        source.answer = HOLIDAYS
        assert await cache.get_or_fetch("holidays:2025", source, ttl_s=60) == HOLIDAYS
        assert source.calls == 3


@pytest.mark.parametrize("value", [[1], {"a": 1}, {1}, bytearray(b"a")])
async def test_what_anybody_could_change_is_refused(value: object) -> None:
    """R93, W-27."""
    async with opened() as (cache, _):
        with pytest.raises(TypeError):
            cache.put("k", value, ttl_s=10)
        with pytest.raises(TypeError):
            await cache.get_or_fetch("k", Source(value), ttl_s=10)
        assert cache.statistics().entries == 0


async def test_values_are_shared_and_cannot_be_changed() -> None:
    """R93, W-27."""
    async with opened() as (cache, _):
        cache.put("contract:x", CONTRACT, ttl_s=10)
        found: Any = cache.get("contract:x")
        with pytest.raises(AttributeError):
            found.strike = 1.0
        assert cache.get("contract:x") is CONTRACT


async def test_what_was_put_is_got_while_it_is_fresh() -> None:
    """R93."""
    async with opened() as (cache, clock):
        assert cache.get("k") is None
        assert cache.put("k", "v", ttl_s=10, stale_s=10)
        assert cache.get("k") == "v"
        clock.advance(10)
        assert cache.get("k") is None


async def test_the_least_recently_used_makes_room() -> None:
    """R94, W-22."""
    async with opened(max_bytes=300) as (cache, _):
        for key in "abc":
            cache.put(key, key, ttl_s=10, size_bytes=100)
        cache.get("a")
        cache.put("d", "d", ttl_s=10, size_bytes=100)
        assert [cache.get(key) for key in "abcd"] == ["a", None, "c", "d"]
        assert not cache.put("e", "e", ttl_s=10, size_bytes=301)
        assert cache.statistics().evictions == 1


async def test_without_a_size_it_is_that_of_the_encoded_value() -> None:
    async with opened() as (cache, _):
        cache.put("k", "x" * 10_000, ttl_s=10)
        assert 10_000 < cache.statistics().size_bytes < 11_000
        await cache.get_or_fetch("k", Source("short"), ttl_s=10)
        cache.clear()
        await cache.get_or_fetch("k", Source("short"), ttl_s=10, size=lambda value: 77)
        assert cache.statistics().size_bytes == 77
    assert MAX_BYTES == 32 * 1024 * 1024


# stale


async def test_a_stale_answer_stands_in_while_the_gateway_fails() -> None:
    """R100, W-28: the last good one, and not for ever."""
    async with opened() as (cache, clock):
        source = Source(HOLIDAYS)
        key = cache.key("holidays", 2025)
        await cache.get_or_fetch(key, source, ttl_s=60, stale_s=60)
        source.answer = UpstreamDown("no")
        clock.advance(60)
        assert await cache.get_or_fetch(key, source, ttl_s=60, stale_s=60) == HOLIDAYS
        assert source.calls == 2, "it was tried"
        clock.advance(60)
        with pytest.raises(UpstreamDown):
            await cache.get_or_fetch(key, source, ttl_s=60, stale_s=60)
        assert cache.statistics().stood_in == 1


@pytest.mark.parametrize(
    ("error", "stands_in"),
    [
        (UpstreamForbidden("no"), True),
        (Throttled("later"), True),
        (ShuttingDown("later"), True),
        (NotFound("no"), False),
        (InvalidRequest("no"), False),
    ],
)
async def test_it_stands_in_for_no_fault_of_the_caller(
    error: OnetapeError, stands_in: bool
) -> None:
    async with opened() as (cache, clock):
        source = Source()
        await cache.get_or_fetch("k", source, ttl_s=1, stale_s=60)
        clock.advance(1)
        source.answer = error
        found = await outcome(cache.get_or_fetch("k", source, ttl_s=1, stale_s=60))
        assert found is ("answer" if stands_in else error)


async def test_a_stale_answer_is_returned_at_once_and_renewed_behind() -> None:
    """W-25."""
    async with opened() as (cache, clock):
        source = Source("old")
        fetch: Callable[[], Awaitable[object]] = lambda: cache.get_or_fetch(  # noqa: E731
            "k", source, ttl_s=10, stale_s=10, revalidate=True
        )
        await fetch()
        clock.advance(10)
        source.answer = "new"
        source.ready.clear()
        assert [await fetch() for _ in range(5)] == ["old"] * 5
        source.ready.set()
        await until(lambda: cache.get("k") == "new")
        assert source.calls == 2
        assert cache.statistics().stale_hits == 5

        clock.advance(20)
        source.answer = "newest"
        assert await fetch() == "newest", "gone is gone: there is a wait"


@pytest.mark.parametrize("error", [UpstreamDown("no"), RuntimeError("a bug")])
async def test_a_renewal_that_fails_is_counted_and_tried_again(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened() as (cache, clock):
        source = Source("old")
        await cache.get_or_fetch("k", source, ttl_s=10, stale_s=10)
        clock.advance(10)
        source.answer = error
        for failures in (1, 2):
            found = await cache.get_or_fetch("k", source, ttl_s=10, stale_s=10, revalidate=True)
            assert found == "old"
            await until(lambda: cache.statistics().renewal_failures == failures)  # noqa: B023
    assert "cache.renewal_failed" in caplog.text
    assert ("a bug" in caplog.text) is isinstance(error, RuntimeError)


# leaving


async def test_leaving_the_block_ends_fetches_and_renewals() -> None:
    """R89."""
    before = asyncio.all_tasks()
    source = Source("old")
    async with opened() as (cache, clock):
        await cache.get_or_fetch("k", source, ttl_s=10, stale_s=10)
        clock.advance(10)
        source.ready.clear()
        await cache.get_or_fetch("k", source, ttl_s=10, stale_s=10, revalidate=True)
        waiting = asyncio.get_running_loop().create_task(
            outcome(cache.get_or_fetch("other", source, ttl_s=10))
        )
        await until(lambda: source.calls == 3)
    assert isinstance(await waiting, ShuttingDown)
    assert source.cancelled == 2
    assert asyncio.all_tasks() <= before

    found = await cache.get_or_fetch("k", source, ttl_s=10, stale_s=10, revalidate=True)
    assert found == "old", "what is there is there"
    with pytest.raises(ShuttingDown):
        await cache.get_or_fetch("third", source, ttl_s=10)


@pytest.mark.parametrize("error", [KeyError("theirs"), asyncio.CancelledError()])
async def test_what_ends_the_block_comes_out_as_it_is(error: BaseException, tmp_path: Path) -> None:
    async def leave() -> None:
        async with opened(tmp_path) as (cache, _):
            cache.put("holidays:2025", HOLIDAYS, ttl_s=10)
            raise error

    with pytest.raises(type(error)):
        await leave()
    assert (tmp_path / "holidays.json").is_file(), "and what was known is saved"


# clearing


@pytest.mark.parametrize(
    ("glob", "left"),
    [
        (None, []),
        ("*", []),
        ("chain:SPX:", ["aggs:SPX", "chain:SPXW", "chain:SPXW:b=1"]),
        ("chain:SPX:*", ["aggs:SPX", "chain:SPXW", "chain:SPXW:b=1"]),
        ("chain:SPX*", ["aggs:SPX"]),
        ("chain:SPX", ["aggs:SPX", "chain:SPX:a=1", "chain:SPXW", "chain:SPXW:b=1"]),
        ("chain:*", ["aggs:SPX"]),
        ("*:SPX", ["chain:SPX:a=1", "chain:SPXW", "chain:SPXW:b=1"]),
        ("chain:SP.W", ["aggs:SPX", "chain:SPX", "chain:SPX:a=1", "chain:SPXW", "chain:SPXW:b=1"]),
        ("", ["aggs:SPX", "chain:SPX", "chain:SPX:a=1", "chain:SPXW", "chain:SPXW:b=1"]),
    ],
)
async def test_a_glob_clears_what_it_names(glob: str | None, left: list[str]) -> None:
    """R95, W-23: a dot is a dot."""
    keys = ["aggs:SPX", "chain:SPX", "chain:SPX:a=1", "chain:SPXW", "chain:SPXW:b=1"]
    async with opened() as (cache, _):
        for key in keys:
            cache.put(key, key, ttl_s=10)
        assert cache.clear(glob) == len(keys) - len(left)
        assert [key for key in keys if cache.get(key)] == left


async def test_what_is_fetched_during_a_clear_is_delivered_and_not_kept() -> None:
    """R95."""
    async with opened() as (cache, _), asyncio.TaskGroup() as tasks:
        source = Source("old")
        source.ready.clear()
        call = tasks.create_task(cache.get_or_fetch("k", source, ttl_s=10))
        await until(lambda: source.calls)
        cache.clear()
        source.ready.set()
        assert await call == "old"
        assert cache.get("k") is None


# counting


async def test_everything_is_counted() -> None:
    """R96, W-24."""
    async with opened(max_bytes=1000) as (cache, clock):
        source = Source("v")
        assert cache.statistics().hit_rate is None
        await cache.get_or_fetch("a", source, ttl_s=10, size=lambda _: 400)  # miss
        await cache.get_or_fetch("a", source, ttl_s=10)  # hit
        cache.get("a")  # hit
        cache.get("b")  # miss
        await cache.get_or_fetch("b", source, ttl_s=10, stale_s=10, size=lambda _: 400)  # miss
        cache.put("c", "v", ttl_s=50, size_bytes=400)  # evicts a
        clock.advance(10)
        await cache.get_or_fetch("b", source, ttl_s=10, stale_s=10, revalidate=True)  # stale
        await until(lambda: source.calls == 3)
        source.answer = UpstreamDown("no")
        await outcome(cache.get_or_fetch("d", source, ttl_s=10))  # miss

        statistics = cache.statistics()
        assert statistics == ClientCacheStatistics(
            hits=2,
            stale_hits=1,
            misses=4,
            stood_in=0,
            coalesced=0,
            uncached=0,
            renewal_failures=0,
            evictions=1,
            expired=0,
            entries=2,
            size_bytes=statistics.size_bytes,
            restored=0,
            unreadable=0,
            save_failures=0,
        )
        assert statistics.hit_rate == 3 / 7


async def test_a_dashboard_is_answered_from_the_cache_most_of_the_time() -> None:
    """R97: 12 panels looking every two seconds at a chain, bars and an indicator each."""
    async with opened() as (cache, clock):
        source = Source()
        symbols, namespaces = ("SPY", "QQQ", "IWM", "AAPL") * 3, ("chain", "aggs", "indicators")
        for _ in range(300):
            for symbol, namespace in itertools.product(symbols, namespaces):
                key = cache.key(namespace, symbol)
                await cache.get_or_fetch(key, source, ttl_s=TTL_S[namespace])
            clock.advance(2)
        assert (cache.statistics().hit_rate or 0) > 0.7


# keys


def test_keys_are_those_of_the_design() -> None:
    """R104."""
    key = ClientCache.key
    assert key("holidays", 2025) == "holidays:2025"
    assert key("contract", "O:SPY251219C00650000") == "contract:O:SPY251219C00650000"
    assert key("aggs", "SPY", "5m", date(2025, 1, 2), date(2025, 1, 3)) == (
        "aggs:SPY:5m:2025-01-02:2025-01-03"
    )
    assert key("chain", "I:SPX", **{"strike_price.gte": 6000.0, "limit": 250, "root": None}) == (
        "chain:I:SPX:limit=250&strike_price.gte=6000"
    )
    assert key("a", "b*?c", namespace="x") == "a:b%2A%3Fc:namespace=x"


def test_an_index_has_one_key_however_it_is_written() -> None:
    """R104."""
    keys = {
        ClientCache.key("chain", normalize_symbol(text)) for text in ("spx", "SPX", "I:SPX", "$SPX")
    }
    assert keys == {"chain:I:SPX"}


def test_another_timeframe_or_look_back_is_another_entry() -> None:
    """R101."""
    keys = {
        ClientCache.key("indicators", "SPY", timeframe, window=window)
        for timeframe in ("1m", "5m")
        for window in (14, 50)
    }
    assert len(keys) == 4


values = st.one_of(st.none(), st.text(max_size=5), st.integers(), st.dates())


@given(st.dictionaries(st.text(max_size=5), values, max_size=5), st.randoms())
def test_permuted_parameters_give_the_same_key(
    params: dict[str, ParamValue], random: Random
) -> None:
    """R104, W-26: and None is as good as absent."""
    names = list(params)
    random.shuffle(names)
    try:
        key = ClientCache.key("chain", "SPY", **params)
    except InvalidRequest:  # a lone surrogate
        return
    assert ClientCache.key("chain", "SPY", **{name: params[name] for name in names}) == key
    present = {name: value for name, value in params.items() if value is not None}
    assert ClientCache.key("chain", "SPY", **present) == key


ascii_texts = st.text(st.characters(max_codepoint=127), max_size=4)


@given(*[st.dictionaries(ascii_texts, ascii_texts, max_size=3)] * 2)
def test_different_parameters_give_different_keys(
    one: dict[str, str], other: dict[str, str]
) -> None:
    """W-26."""
    keys = [ClientCache.key("chain", "SPY", **params) for params in (one, other)]
    assert (keys[0] == keys[1]) is (one == other)


# outliving the process


async def test_holidays_and_contracts_survive_and_quotes_do_not(tmp_path: Path) -> None:
    """R105."""
    clock = ManualClock()
    quote = Quote(symbol="SPY", event_ns=1, received_ns=1, provider="massive", last=1.0)
    directory = tmp_path / "deep" / "cache"
    async with opened(directory, clock) as (cache, _):
        cache.put("holidays:2025", HOLIDAYS, ttl_s=DAY_S)
        cache.put("contract:x", CONTRACT, ttl_s=900)
        cache.put("quote:SPY", quote, ttl_s=DAY_S)
        cache.put("aggs:SPY", "bars", ttl_s=DAY_S)
    assert sorted(file.name for file in directory.iterdir()) == ["contract.json", "holidays.json"]
    assert all(file.stat().st_mode & 0o077 == 0 for file in directory.iterdir())
    assert b"bars" not in b"".join(file.read_bytes() for file in directory.iterdir())

    async with opened(directory, clock) as (cache, _):
        assert cache.get("holidays:2025") == HOLIDAYS
        assert cache.get("contract:x") == CONTRACT
        assert cache.get("quote:SPY") is None
        assert cache.statistics().restored == 2


async def test_their_time_runs_on_while_nobody_is_there(tmp_path: Path) -> None:
    """R100, R105: by the wall clock; and then they stand in for a failing gateway."""
    clock = ManualClock()
    async with opened(tmp_path, clock) as (cache, _):
        cache.put("holidays:2025", HOLIDAYS, ttl_s=100, stale_s=1000)
    for age_s, fresh in ((99.0, True), (100.0, False), (1099.0, False)):
        later = ManualClock(
            monotonic=5.0, now_ns=ManualClock().now_ns() + round(age_s * 1_000_000_000)
        )
        async with opened(tmp_path, later) as (cache, _):
            assert (cache.get("holidays:2025") == HOLIDAYS) is fresh
            failing = Source(UpstreamDown("no"))
            found = await cache.get_or_fetch("holidays:2025", failing, ttl_s=100, stale_s=1000)
            assert found == HOLIDAYS
            if fresh:
                later.advance(1)
                assert cache.get("holidays:2025") is None
    much_later = ManualClock(now_ns=ManualClock().now_ns() + 1100 * 1_000_000_000)
    async with opened(tmp_path, much_later) as (cache, _):
        assert cache.statistics().restored == 0


async def test_a_wall_clock_set_back_lengthens_no_life(tmp_path: Path) -> None:
    async with opened(tmp_path) as (cache, _):
        cache.put("contract:x", CONTRACT, ttl_s=100)
    earlier = ManualClock(now_ns=ManualClock().now_ns() - 3_600_000_000_000)
    async with opened(tmp_path, earlier) as (cache, _):
        assert cache.get("contract:x") == CONTRACT
        earlier.advance(100)
        assert cache.get("contract:x") is None


async def test_changes_are_saved_together_and_soon(tmp_path: Path) -> None:
    """R105: a crash costs seconds."""
    naps: list[float] = []
    wake = asyncio.Event()

    async def sleep(seconds: float) -> None:
        naps.append(seconds)
        await wake.wait()

    async with opened(tmp_path, sleep=sleep) as (cache, _):
        for number in range(50):
            cache.put(f"contract:{number}", CONTRACT, ttl_s=100)
        await until(lambda: naps)
        wake.set()
        file = tmp_path / "contract.json"
        while not await asyncio.to_thread(file.is_file):
            await asyncio.sleep(0.005)
        assert len(msgspec.json.decode(await asyncio.to_thread(file.read_bytes))["records"]) == 50
        assert naps == [SAVE_AFTER_S]

        cache.clear("contract:*")
        await until(lambda: len(naps) == 2)
    assert msgspec.json.decode(file.read_bytes())["records"] == []


async def test_what_a_simulator_made_up_is_not_saved(tmp_path: Path) -> None:
    made_up = True
    async with opened(tmp_path, simulated=lambda: made_up) as (cache, _):
        cache.put("contract:x", CONTRACT, ttl_s=100)
        assert cache.get("contract:x") == CONTRACT
        made_up = False
        cache.put("contract:y", CONTRACT, ttl_s=100)
    async with opened(tmp_path) as (cache, _):
        assert [cache.get("contract:x"), cache.get("contract:y")] == [None, CONTRACT]


async def test_rows_come_back_as_a_plain_tuple(tmp_path: Path) -> None:
    async with opened(tmp_path) as (cache, _):
        cache.put("holidays:2025", Rows(HOLIDAYS, kind=Holiday), ttl_s=100)
    async with opened(tmp_path) as (cache, _):
        assert cache.get("holidays:2025") == HOLIDAYS
        assert type(cache.get("holidays:2025")) is tuple


async def test_an_entry_that_was_evicted_is_not_saved(tmp_path: Path) -> None:
    async with opened(tmp_path, max_bytes=100) as (cache, _):
        for number in range(3):
            cache.put(f"contract:{number}", CONTRACT, ttl_s=100, size_bytes=60)
    async with opened(tmp_path, max_bytes=100) as (cache, _):
        assert cache.statistics().restored == 1
        assert cache.get("contract:2") == CONTRACT


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"null",
        b"\xff\xfe",
        b'{"version":1,"records":{}}',
        b'{"version":2,"records":[]}',
        b'{"version":1,"records":[{"key":"contract:x"}]}',
        b'{"version":1,"records":[{"key":"contract:x","life":[1,1.0,1.0,1],"value":{"a":1}}]}',
        b'{"version":1,"records":[{"key":"contract:x","life":[1,-1.0,1.0,1],"value":null}]}',
        b'{"version":1,"records":[{"key":"contract:x","life":[1,1e999,1.0,1],"value":null}]}',
    ],
)
async def test_a_corrupt_file_is_ignored_counted_and_replaced(tmp_path: Path, text: bytes) -> None:
    """R105."""
    (tmp_path / "contract.json").write_bytes(text)
    async with opened(tmp_path) as (cache, _):
        statistics = cache.statistics()
        assert (statistics.restored, statistics.unreadable) == (0, 1)
        cache.put("contract:x", CONTRACT, ttl_s=100)
    async with opened(tmp_path) as (cache, _):
        assert cache.get("contract:x") == CONTRACT
        assert cache.statistics().unreadable == 0


async def test_one_bad_record_spoils_no_other(tmp_path: Path) -> None:
    async with opened(tmp_path) as (cache, _):
        cache.put("contract:x", CONTRACT, ttl_s=100)
    file = tmp_path / "contract.json"
    good = msgspec.json.decode(file.read_bytes())["records"][0]
    bad = [{**good, "key": "holidays:2025"}, {**good, "value": "x"}, 17]
    file.write_bytes(msgspec.json.encode({"version": 1, "records": [*bad, good]}))

    async with opened(tmp_path) as (cache, _):
        statistics = cache.statistics()
        assert (statistics.restored, statistics.unreadable) == (1, 3)
        assert cache.get("holidays:2025") is None


@settings(max_examples=50)
@given(data=st.data())
def test_a_damaged_file_never_does_harm(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    directory = tmp_path_factory.mktemp("damaged")

    async def restart() -> ClientCacheStatistics:
        async with opened(directory) as (cache, _):
            assert cache.get("contract:x") in {None, CONTRACT} or damaged != whole
            cache.put("contract:y", CONTRACT, ttl_s=100)
            return cache.statistics()

    async def fill() -> None:
        async with opened(directory) as (cache, _):
            cache.put("contract:x", CONTRACT, ttl_s=100)

    asyncio.run(fill())
    file = directory / "contract.json"
    whole = damaged = file.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        damaged = whole[:at]
    else:
        bit = 1 << data.draw(st.integers(0, 7))
        damaged = whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :]
    file.write_bytes(damaged)
    statistics = asyncio.run(restart())
    assert statistics.restored + statistics.unreadable <= 1


async def test_a_file_too_large_to_be_ours_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "contract.json").open("wb") as file:
        file.truncate((64 << 20) + 1)
    async with opened(tmp_path) as (cache, _):
        assert cache.statistics().unreadable == 1


async def test_a_place_that_cannot_be_written_harms_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "taken"
    directory.write_text("a file")
    async with opened(directory) as (cache, _):
        cache.put("contract:x", CONTRACT, ttl_s=100)
        assert cache.get("contract:x") == CONTRACT
    assert cache.statistics().save_failures == 1
    assert str(tmp_path) not in caplog.text


async def test_a_value_of_another_type_is_not_saved(tmp_path: Path) -> None:
    async with opened(tmp_path) as (cache, _):
        cache.put("contract:x", object(), ttl_s=100, size_bytes=1)
    assert cache.statistics().save_failures == 1
    assert list(tmp_path.iterdir()) == []


async def test_a_save_that_is_interrupted_leaves_the_old_file_whole(tmp_path: Path) -> None:
    async with opened(tmp_path) as (cache, _):
        cache.put("contract:x", CONTRACT, ttl_s=100)
    (tmp_path / "holidays.json").unlink()
    (tmp_path / "holidays.json").mkdir()  # nothing can take its place
    async with opened(tmp_path) as (cache, _):
        cache.put("contract:y", CONTRACT, ttl_s=100)
    assert cache.statistics().save_failures == 1
    assert sorted(file.name for file in tmp_path.iterdir()) == ["contract.json", "holidays.json"]
    async with opened(tmp_path) as (cache, _):
        assert cache.statistics().restored == 2


async def test_leaving_while_a_save_is_under_way_loses_nothing(tmp_path: Path) -> None:
    async def soon(_seconds: float) -> None:
        await asyncio.sleep(0)

    for turns in range(6):
        directory = tmp_path / str(turns)
        async with opened(directory, sleep=soon) as (cache, _):
            cache.put("contract:x", CONTRACT, ttl_s=100)
            for _ in range(turns):
                await asyncio.sleep(0)
        async with opened(directory) as (cache, _):
            assert cache.get("contract:x") == CONTRACT


# laws


class Remembering(RuleBasedStateMachine):
    """Against a naive model: what is found is what was put last and is fresh; bytes are bounded."""

    LIMIT = 1_000

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.cache = ClientCache(clock=self.clock, max_bytes=self.LIMIT)
        self.model: dict[str, tuple[str, float]] = {}
        self.lookups = 0

    keys = st.sampled_from(["chain:SPX", "chain:SPX:a=1", "chain:SPXW", "aggs:SPX"])

    @rule(key=keys, value=st.text(max_size=3), ttl_s=st.integers(1, 20), size=st.integers(0, 1_200))
    def put(self, key: str, value: str, ttl_s: int, size: int) -> None:
        kept = self.cache.put(key, value, ttl_s=ttl_s, stale_s=5, size_bytes=size)
        assert kept is (size <= self.LIMIT)
        self.model[key] = (value, self.clock.monotonic() + ttl_s) if kept else ("", 0.0)

    @rule(key=keys)
    def get(self, key: str) -> None:
        self.lookups += 1
        value, until_s = self.model.get(key, ("", 0.0))
        found = self.cache.get(key)
        if self.clock.monotonic() >= until_s:
            assert found is None
        else:
            assert found in {value, None}, "evicted or the last one put"

    @rule(glob=st.sampled_from([None, "chain:SPX:", "chain:*", "aggs:SPX"]))
    def clear(self, glob: str | None) -> None:
        self.cache.clear(glob)
        for key in list(self.model):
            if (
                glob is None
                or key == glob
                or (glob == "chain:*" and key.startswith("chain:"))
                or (glob == "chain:SPX:" and f"{key}:".startswith("chain:SPX:"))
            ):
                del self.model[key]

    @rule(seconds=st.integers(1, 30))
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @invariant()
    def it_is_bounded_and_counts(self) -> None:
        statistics = self.cache.statistics()
        assert 0 <= statistics.size_bytes <= self.LIMIT
        assert statistics.hits + statistics.misses == self.lookups
        assert 0 <= (statistics.hit_rate or 0) <= 1


TestRemembering = Remembering.TestCase
TestRemembering.settings = settings(max_examples=40, stateful_step_count=30)
