# pyright: reportPrivateUsage=false
# Which parts it is made of is seen from inside alone.
"""The facade: what it promises by its shape, and what it does with what it is given."""

import ast
import asyncio
import inspect
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import onetape
import onetape.client
from onetape.client import MassiveDataProvider, Overflow
from onetape.client._notices import Key, Kind
from onetape.errors import (
    ConfigInvalid,
    ContractNotFound,
    InvalidRequest,
    InvalidSymbol,
    NotConnected,
    NotFound,
    OnetapeError,
    UpstreamForbidden,
)
from onetape.model import AssetClass, OptionChain, Trade
from onetape.provenance import Source
from onetape.testing import until

CLIENT = Path(onetape.client.__file__).parent
OPTION = "O:SPY251219C00650000"
NOW_NS = 1_764_000_000_000_000_000
METHODS = {
    name: member for name, member in vars(MassiveDataProvider).items() if not name.startswith("_")
}


def provider_of(bench: Any, **settings: Any) -> MassiveDataProvider:
    settings = {"streams": ["indices"], "clock": bench.clock, "parts": bench.parts} | settings
    return MassiveDataProvider("http://gateway.invalid", "ot_secret-of-a-test", **settings)


# its shape


def test_it_has_fewer_than_twenty_public_methods_and_one_import_path() -> None:
    """R170."""
    assert len(METHODS) < 20
    assert len(onetape.__all__) <= 20
    assert onetape.MassiveDataProvider is MassiveDataProvider
    assert set(METHODS) == {
        "connect",
        "disconnect",
        "clear_cache",
        "get_aggregates",
        "get_health",
        "get_index",
        "get_indices",
        "get_market_holidays",
        "get_market_status",
        "get_option_contract",
        "get_option_trades",
        "get_options_chain",
        "get_quote",
        "get_quotes",
        "get_rsi",
        "subscribe_aggregates",
        "subscribe_quotes",
        "subscribe_trades",
        "update_watchlist",
    }


@pytest.mark.parametrize("credential", ["", " ", "ot_a\nb"])
def test_a_credential_that_is_none_is_refused_before_it_travels(credential: str) -> None:
    with pytest.raises(ConfigInvalid, match="credential") as refused:
        MassiveDataProvider("http://gateway.invalid", credential)

    assert "ot_a" not in str(refused.value)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_says_what_it_does_and_where_its_data_is_from(name: str) -> None:
    doc = inspect.getdoc(METHODS[name]) or ""

    assert doc
    if name.startswith(("get_", "subscribe_")) and name != "get_health":
        assert re.search(r"Sources?: ", doc), "name the source endpoint"
        assert "`" in doc


WITHOUT_IO = """
import sys, threading
events = []
def hook(event, args):
    if event.startswith("socket.") or event in {"subprocess.Popen", "os.mkdir", "os.remove"}:
        events.append((event, args))
    if event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+"):
        events.append((event, args))
sys.addaudithook(hook)
import onetape.client
onetape.client.MassiveDataProvider
assert not events, events
assert threading.active_count() == 1
foreign = {name.partition(".")[2].partition(".")[0] for name in sys.modules if name.startswith("onetape.")}
assert not foreign & {"gateway", "simulator", "config", "settings", "cli", "tradier"}, foreign
assert not {"polars", "pandas", "starlette", "anyio", "prometheus_client"} & set(sys.modules)
for name in sorted(name for name in sys.modules if name.startswith("onetape")):
    print(sys.modules[name].__file__)
"""


def test_importing_it_does_nothing_and_brings_no_vendor() -> None:
    """R169, R1, W-72: no socket, no file, no thread, and no host or key of the vendor's."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_IO], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    for path in map(Path, done.stdout.split()):
        text = path.read_text()
        found = re.findall(r"(?i)\w\.massive\.com|polygon\.io|MASSIVE_API_KEY|\bapikey\b", text)
        assert not found, path.name


@pytest.mark.parametrize("path", sorted(CLIENT.glob("*.py")), ids=lambda path: path.name)
def test_the_client_knows_no_address_but_the_one_it_is_given(path: Path) -> None:
    """R1, C38: the only places it asks are the gateway's."""
    strings = [
        node.value
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    hosts = re.findall(r"(?:https?|wss?)://([\w.-]+\w)", " ".join(strings))
    assert set(hosts) <= {"127.0.0.1", "host"}


def test_the_credential_is_shown_nowhere() -> None:
    massive = MassiveDataProvider("http://gateway.invalid", "ot_secret-of-a-test")

    assert repr(massive) == "<MassiveDataProvider http://gateway.invalid disconnected>"
    assert "secret" not in repr(vars(massive))
    assert "secret" not in repr(vars(massive._connection))


@pytest.mark.parametrize("streams", ["options", ["options"], [AssetClass.OPTIONS]])
def test_the_plan_may_be_named_in_any_form(bench: Any, streams: Any) -> None:
    massive = provider_of(bench, streams=streams)

    assert massive._connection._streamed == {AssetClass.OPTIONS}


def test_a_plan_that_there_is_not_is_refused(bench: Any) -> None:
    with pytest.raises(ConfigInvalid, match="options, indices, stocks"):
        provider_of(bench, streams=["crypto"])


# its life


async def test_it_lives_wholly_of_fakes_and_touches_no_network(bench: Any) -> None:
    """R4: each part by its Protocol."""
    bench.rest.answers["/api/quotes"] = bench.market.quotes
    async with provider_of(bench) as massive:
        quote = await massive.get_quote("SPY")
        reading = massive.subscribe_quotes(["SPX"])
        assert bench.streams.wants == [{"V.I:SPX"}]

    assert quote.last == 2.0
    assert reading.is_closed
    assert bench.rest.closed


async def test_connecting_and_disconnecting_twice_is_once(bench: Any) -> None:
    """R168."""
    massive = provider_of(bench)
    await massive.disconnect()
    await massive.connect()
    first = massive._connection
    await massive.connect()
    assert massive._connection is first

    await massive.disconnect()
    await massive.disconnect()

    assert massive.get_health().status == "disconnected"


async def test_it_connects_again_after_an_end_and_after_a_refusal(bench: Any) -> None:
    bench.rest.answers["/api/quotes"] = bench.market.quotes
    massive = provider_of(bench)
    bench.tokens.refusal = NotFound("no gateway here")
    with pytest.raises(NotFound):
        await massive.connect()
    bench.tokens.refusal = None
    for _ in range(2):
        async with massive:
            assert (await massive.get_quote("SPY")).last == 2.0
            massive.subscribe_quotes(["SPX"])


async def test_many_may_connect_it_again_at_once(bench: Any) -> None:
    massive = provider_of(bench)
    await massive.connect()
    await asyncio.gather(massive.disconnect(), *(massive.connect() for _ in range(5)))

    assert bench.streams.running == 1
    await massive.disconnect()
    assert bench.streams.running == 0


async def test_outside_of_the_block_every_question_is_not_connected(bench: Any) -> None:
    async def awaited(what: Any) -> Any:
        return await what()

    massive = provider_of(bench)
    asks: list[Callable[[], Awaitable[Any]]] = [
        massive.get_market_status,
        massive.get_market_holidays,
        lambda: massive.get_quote("SPY"),
        lambda: massive.get_quotes(["SPY"]),
        lambda: massive.get_index("SPX"),
        lambda: massive.get_indices(["SPX"]),
        lambda: massive.get_options_chain("SPY"),
        lambda: massive.get_option_contract(OPTION),
        lambda: massive.get_option_trades(OPTION),
        lambda: massive.get_aggregates("SPY", lookback=1),
        lambda: massive.get_rsi("SPY"),
    ]
    for _ in range(2):
        for ask in asks:
            with pytest.raises(NotConnected):
                await awaited(ask)
        for call in (
            lambda: massive.subscribe_quotes(["SPX"]),
            lambda: massive.subscribe_quotes(),
            lambda: massive.subscribe_aggregates(["SPX"]),
            lambda: massive.subscribe_trades(["SPY"]),
            lambda: massive.update_watchlist(["SPX"]),
        ):
            with pytest.raises(NotConnected):
                call()
        assert massive.clear_cache() == 0
        assert massive.get_health().reasons == ("not_connected",)
        async with massive:  # and after it
            pass


async def test_pages_that_were_not_read_in_time_are_not_connected(bench: Any) -> None:
    async with provider_of(bench) as massive:
        trades = massive.get_option_trades(OPTION)
        bars = massive.get_aggregates("SPY", lookback=1)
    for pages in (trades, bars):
        with pytest.raises(NotConnected):
            await pages
        with pytest.raises(NotConnected):
            [one async for one in pages]


@pytest.mark.parametrize("paged", [False, True])
async def test_what_is_asked_when_the_end_comes_is_not_connected(
    bench: Any, *, paged: bool
) -> None:
    """Whatever broke first: a session that was closed, a connection that was reset."""
    bench.rest.hold = asyncio.Event()
    bench.rest.answers = {
        f"/v3/trades/{OPTION}": RuntimeError("the session is closed"),
        "/api/quotes": bench.market.quotes,
    }
    massive = provider_of(bench)
    await massive.connect()

    async def ask() -> object:
        with pytest.raises(NotConnected):
            await (massive.get_option_trades(OPTION) if paged else massive.get_quotes(["SPY"]))
        return None

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(ask())
        await until(lambda: bench.rest.asked)
        await massive.disconnect()
        bench.rest.hold.set()


async def test_a_bug_while_connected_is_not_hidden(bench: Any) -> None:
    bench.rest.answers[f"/v3/trades/{OPTION}"] = RuntimeError("a bug")
    async with provider_of(bench) as massive:
        with pytest.raises(RuntimeError):
            await massive.get_option_trades(OPTION)


# what it asks


@pytest.mark.parametrize(
    ("symbol", "error"),
    [("NOPE", NotFound), ("I:DJI", UpstreamForbidden), ("?", InvalidSymbol), ("", InvalidSymbol)],
)
async def test_one_quote_raises_what_is_wrong_with_its_symbol(
    bench: Any, symbol: str, error: type[OnetapeError]
) -> None:
    """R156, R160."""
    bench.rest.answers["/api/quotes"] = bench.market.quotes
    async with provider_of(bench) as massive:
        with pytest.raises(error):
            await massive.get_quote(symbol)


async def test_many_quotes_come_in_order_and_one_bad_symbol_costs_only_itself(bench: Any) -> None:
    """R157, R160: the same for indices."""
    bench.rest.answers = {
        "/api/quotes": bench.market.quotes,
        "/api/massive/indices": bench.market.indices,
    }
    async with provider_of(bench) as massive:
        rows = await massive.get_quotes(["brk/b", "NOPE", "SPX", "SPY"])
        indices = await massive.get_indices(["VIX", "DJI", "I:SPX"])
        alone = await massive.get_quote("SPY")
        index = await massive.get_index("$vix")
        with pytest.raises(UpstreamForbidden):
            await massive.get_index("DJI")
        with pytest.raises(InvalidSymbol):
            await massive.get_index("SPY")
        with pytest.raises(InvalidRequest):
            await massive.get_quotes("SPY")

    assert [row.symbol for row in rows] == ["BRK.B", "I:SPX", "SPY"]
    assert {symbol: fault.error for symbol, fault in rows.errors.items()} == {"NOPE": "not_found"}
    assert alone == rows[2]
    assert [row.symbol for row in indices] == ["I:VIX", "I:SPX"]
    assert index == indices[0]
    assert indices.errors["I:DJI"].error == "upstream_forbidden"


async def test_more_symbols_than_fit_are_asked_in_chunks(bench: Any) -> None:
    """R157, W-20."""
    bench.rest.answers["/api/quotes"] = bench.market.quotes
    symbols = [f"S{chr(65 + n // 26)}{chr(65 + n % 26)}" for n in range(300)]
    async with provider_of(bench) as massive:
        rows = await massive.get_quotes(symbols)

    assert [row.symbol for row in rows] == symbols
    assert bench.rest.paths == {"/api/quotes": 2}


async def test_an_option_that_is_not_listed_is_told_apart(bench: Any) -> None:
    path = f"/v3/reference/options/contracts/{OPTION}"
    bench.rest.answers[path] = NotFound("no")
    async with provider_of(bench) as massive:
        with pytest.raises(ContractNotFound):
            await massive.get_option_contract("SPY251219C00650000")
        with pytest.raises(InvalidSymbol):
            await massive.get_option_contract("SPY")


async def test_a_chain_is_asked_with_all_its_bounds(bench: Any) -> None:
    """R158."""
    bench.rest.answers["/api/options/chain"] = bench.market.chain(underlying="SPY")
    async with provider_of(bench) as massive:
        chain = await massive.get_options_chain(
            "spy",
            min_strike=600,
            max_strike=650.5,
            first_expiration="2025-12-19",  # type: ignore[arg-type]
            contract_type="put",
            min_volume=1,
            around=2,
        )

    assert isinstance(chain, OptionChain)
    assert (chain.source, chain.simulated) == (Source.REST, True)
    assert bench.rest.asked == [
        (
            "/api/options/chain",
            "around=2&contract_type=put&first_expiration=2025-12-19&max_strike=650.5"
            "&min_strike=600&min_volume=1&underlying=SPY&whole=true",
        )
    ]


@pytest.mark.parametrize(
    "bounds",
    [
        {"contract_type": "straddle"},
        {"min_strike": 2, "max_strike": 1},
        {"around": -1},
        {"max_expirations": 0},
        {"min_volume": -1},
    ],
    ids=str,
)
async def test_bounds_that_nothing_meets_are_refused(bench: Any, bounds: dict[str, Any]) -> None:
    async with provider_of(bench) as massive:
        with pytest.raises(InvalidRequest):
            await massive.get_options_chain("SPY", **bounds)
    assert bench.rest.asked == []


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"start": "2025-11-01", "lookback": 5},
        {"end": "2025-11-01", "lookback": 5},
        {"end": "2025-11-01"},
        {"lookback": 0},
        {"lookback": -1},
        {"start": "2025-13-01"},
        {"start": "2025-11-01", "max_rows": 0},
        {"start": "2025-11-01", "timeframe": "1fortnight"},
    ],
    ids=str,
)
async def test_bars_are_of_a_range_or_the_last_so_many(
    bench: Any, arguments: dict[str, Any]
) -> None:
    """R161, C36."""
    async with provider_of(bench) as massive:
        with pytest.raises(InvalidRequest):
            await massive.get_aggregates("SPY", **arguments)
    assert bench.rest.asked == []


async def test_bars_of_a_range_are_asked_by_multiplier_and_timespan(bench: Any) -> None:
    """R161, R162, W-21."""
    bench.rest.answers["/api/bars"] = bench.market.bars(1_763_650_800 * 10**9)
    async with provider_of(bench) as massive:
        pages = massive.get_aggregates("spx", "5m", "2025-11-20", "2025-11-21")
        rows = await pages
        walked = [one async for one in pages]

    assert rows == tuple(walked)
    assert rows[0].volume is None
    assert set(bench.rest.asked) == {
        (
            "/api/bars",
            "from=2025-11-20&limit=50000&multiplier=5&sort=asc&symbol=I:SPX&timespan=minute"
            "&to=2025-11-21",
        )
    }


async def test_rsi_passes_its_parameters_on_and_comes_oldest_first(bench: Any) -> None:
    """R163."""
    values = [{"timestamp": at, "value": float(at)} for at in (3_000, 2_000, 1_000)]
    bench.rest.answers["/v1/indicators/rsi/I:SPX"] = {"results": {"values": values}}
    async with provider_of(bench) as massive:
        rows = await massive.get_rsi("spx", window=7, limit=3, adjusted=True)

    assert [row.value for row in rows] == [1_000.0, 2_000.0, 3_000.0]
    assert bench.rest.asked[0][1] == (
        "adjusted=true&limit=3&series_type=close&timespan=day&window=7"
    )


async def test_trades_have_the_defaults_of_old(bench: Any) -> None:
    """R164."""
    bench.rest.answers[f"/v3/trades/{OPTION}"] = {"status": "OK", "results": []}
    async with provider_of(bench) as massive:
        await massive.get_option_trades(OPTION)
        await massive.get_option_trades(OPTION, start=NOW_NS, order="desc", max_rows=None)

    assert [query for _, query in bench.rest.asked] == [
        "limit=50&order=asc&sort=timestamp",
        f"limit=50000&order=desc&sort=timestamp&timestamp.gte={NOW_NS}",
    ]


async def test_the_cache_is_cleared_by_glob_and_not_by_pattern(bench: Any) -> None:
    """R95, R166, W-23."""
    bench.rest.answers["/api/options/chain"] = bench.market.chain()
    async with provider_of(bench) as massive:
        await massive.get_options_chain("SPY")
        await massive.get_options_chain("SPX")
        await massive.get_options_chain("SPX", min_strike=1)

        assert massive.clear_cache("chain:.*") == 0
        assert massive.clear_cache("chain:I:SPX:*") == 2
        assert massive.clear_cache() == 1


# live


async def test_a_subscription_is_to_the_vendors_form_of_its_symbols(bench: Any) -> None:
    bench.streams.states = dict.fromkeys(AssetClass, "up")
    async with provider_of(bench, streams=AssetClass) as massive:
        massive.subscribe_quotes(["spx", "brk/b", OPTION, "I:SPX"])
        massive.subscribe_aggregates(["SPX"], timespan="1s")
        massive.subscribe_aggregates(["SPX"])
        massive.subscribe_trades([OPTION])

    assert bench.streams.wants[-1] >= {"T." + OPTION}
    assert max(bench.streams.wants, key=len) == {
        "V.I:SPX",
        "Q.BRK.B",
        f"Q.{OPTION}",
        "A.I:SPX",
        "AM.I:SPX",
        f"T.{OPTION}",
    }


WRONG: list[Callable[[MassiveDataProvider], object]] = [
    lambda m: m.subscribe_trades(["SPX"]),
    lambda m: m.subscribe_quotes(["not a symbol"]),
    lambda m: m.subscribe_quotes("SPX"),
    lambda m: m.subscribe_quotes(["SPX"], poll_interval_s=0),
    lambda m: m.subscribe_aggregates(["SPX"], timespan="5m"),
    lambda m: m.subscribe_aggregates(["SPX"], timespan="bogus"),
    lambda m: m.update_watchlist(["not a symbol"]),
    lambda m: m.update_watchlist("SPX"),
]


@pytest.mark.parametrize("call", WRONG)
async def test_what_there_is_not_is_refused_and_nothing_is_subscribed(
    bench: Any, call: Callable[[MassiveDataProvider], object]
) -> None:
    async with provider_of(bench) as massive:
        with pytest.raises(InvalidRequest):
            call(massive)

        assert massive._connection.transport.states() == {}
        assert bench.streams.wants == []


async def test_the_interval_and_the_overflow_are_the_readers_choice(bench: Any) -> None:
    """R141: the shortest interval counts."""
    bench.rest.answers["/api/quotes"] = bench.market.quotes
    async with provider_of(bench) as massive:
        massive.subscribe_quotes(["SPY"], poll_interval_s=60.0)
        reading = massive.subscribe_quotes(
            ["SPY"], poll_interval_s=0.5, overflow=Overflow.DROP_OLDEST
        )
        line = massive._connection.transport._transport._lines[Key(Kind.QUOTE, "SPY")]

        assert line.base_s == 0.5
        await until(lambda: reading.statistics().pending)


async def test_who_follows_the_watchlist_chooses_the_interval_too(bench: Any) -> None:
    """R141: of what is watched then and of what is watched later."""
    bench.rest.answers["/api/quotes"] = bench.market.quotes
    async with provider_of(bench) as massive:
        massive.update_watchlist(["SPY"], at_once=True)
        massive.subscribe_quotes(poll_interval_s=0.5)
        massive.update_watchlist(["SPY", "QQQ"], at_once=True)
        lines = massive._connection.transport._transport._lines

        assert [lines[Key(Kind.QUOTE, one)].base_s for one in ("SPY", "QQQ")] == [0.5, 0.5]


@pytest.mark.parametrize("judged", [True, False])
async def test_what_is_streamed_is_judged_if_asked_for(bench: Any, *, judged: bool) -> None:
    """Of each kind; it takes longer than all else that happens to an event."""
    now_ns = bench.clock.now_ns()
    known: dict[str, Any] = {"event_ns": now_ns, "received_ns": now_ns, "provider": "massive"}
    trade = Trade(symbol="SPY", price=1.0, size=1.0, **known)
    async with provider_of(bench) as massive:
        quotes = massive.subscribe_quotes(["SPX"], judged=judged)
        trades = massive.subscribe_trades(["SPY"], judged=judged)
        bars = massive.subscribe_aggregates(["SPX"], timespan="1s", judged=judged)
        quotes.offer([bench.market.quote("I:SPX")])
        trades.offer([trade])
        bars.offer([bench.market.bar("I:SPX", now_ns)])
        found = [await anext(reading) for reading in (quotes, trades, bars)]

    assert [one.quality is not None for one in found] == [judged] * 3


async def test_every_end_of_a_subscription_is_the_same_end(bench: Any) -> None:
    """R111, R153: called, closed, left, or the provider's end."""
    async with provider_of(bench) as massive:
        called, closed, left, kept = (massive.subscribe_quotes(["SPX"]) for _ in range(4))
        called()
        closed.close()
        async with left:
            pass
        assert [one.is_closed for one in (called, closed, left, kept)] == [True] * 3 + [False]
        for one in (called, closed, left):
            one()
            assert [quote async for quote in one] == []

    assert [quote async for quote in kept] == []
