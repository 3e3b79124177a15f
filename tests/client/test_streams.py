"""The client's streams through a real gateway to the simulated vendor, over bad cables."""

import asyncio
import base64
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar

import aiohttp
import msgspec
import pytest

from onetape.client._endpoint import (
    Denied,
    EndpointDown,
    EndpointState,
    EndpointUp,
    Event,
    Evicted,
    StreamNotice,
    TopicFailed,
    TopicLive,
    TopicState,
    UpstreamDown,
    UpstreamUp,
)
from onetape.client._streams import Streams, TokenSource
from onetape.client._tokens import Tokens
from onetape.clock import SystemClock
from onetape.errors import ConfigInvalid, InvalidTopic, TokenMissing, UpstreamDown as GatewayDown
from onetape.gateway.app import Gateway
from onetape.massive.notices import FeedPolicy
from onetape.massive.rest import MassiveREST, RestPolicy
from onetape.model import AssetClass, Bar, Quote, Topic, Trade
from onetape.provenance import Source
from onetape.simulator.app import Simulator, SimulatorSettings
from onetape.simulator.faults import Drop, Evict, RejectLogin, Stage, StreamRule
from onetape.testing import Playground, until

IMPORTED = (Gateway, Simulator)  # in the loop an import would block
OPTIONS, INDICES, STOCKS = AssetClass.OPTIONS, AssetClass.INDICES, AssetClass.STOCKS
SPX, NDX, SPY = Topic("V.I:SPX"), Topic("V.I:NDX"), Topic("T.SPY")
CALL = Topic("T.O:SPY991218C00650000")  # as good as any: the vendor acknowledges it
FAST = FeedPolicy(
    connect_timeout_s=3,
    greet_timeout_s=3,
    auth_timeout_s=3,
    close_timeout_s=0.2,
    idle_s=0.1,
    backoff_base_s=0.02,
    backoff_cap_s=0.1,
    auth_retry_s=2,
    auth_retry_cap_s=2,
)
N = TypeVar("N", bound=StreamNotice)


class Cable:
    """What lies between a client and a gateway; can be cut, pulled out and gone dead."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.is_plugged = True
        self.is_dead = False
        self.connections = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        self.connections += 1
        with contextlib.suppress(ConnectionError):
            if self.is_plugged:
                host, _, port = self.target.rpartition(":")
                beyond_reader, beyond = await asyncio.open_connection(host, int(port))
                self._writers.add(beyond)
                await asyncio.gather(
                    self._carry(reader, beyond), self._carry(beyond_reader, writer)
                )
        writer.transport.abort()
        self._tasks.discard(task)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                if not self.is_dead:
                    writer.write(data)
        writer.close()

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def gone(self) -> None:
        self.cut()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=3)


@contextlib.asynccontextmanager
async def cabled(netloc: str) -> AsyncGenerator[tuple[Cable, str]]:
    cable = Cable(netloc)
    server = await asyncio.start_server(cable.serve, "127.0.0.1", 0)
    try:
        yield cable, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await cable.gone()


class Client:
    """Streams with real tokens, and all that came out of them."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.frames: list[tuple[AssetClass, list[Event]]] = []
        self.told: list[StreamNotice] = []
        self.streams: Streams
        self.tokens: Tokens

    def take(self, asset: AssetClass, events: list[Event]) -> None:
        self.frames.append((asset, events))
        self.events += events

    def of(self, kind: type[N], asset: AssetClass | None = None) -> list[N]:
        of_kind = [notice for notice in self.told if isinstance(notice, kind)]
        return [notice for notice in of_kind if asset is None or notice.asset is asset]

    async def more_events(self, count: int = 3, *, symbol: str = "") -> None:
        before = len(self.events)
        await until(
            lambda: sum(event.symbol.startswith(symbol) for event in self.events[before:]) >= count
        )

    async def streams_all(self, *topics: Topic) -> None:
        self.streams.want(frozenset(topics))
        await until(lambda: all(self.streams.topic_state(t) is TopicState.LIVE for t in topics))
        await self.more_events(2)


@contextlib.asynccontextmanager
async def client_of(
    play: Playground,
    key: str,
    *,
    url: str | None = None,
    policy: FeedPolicy = FAST,
    assets: frozenset[AssetClass] = frozenset(AssetClass),
    source: Callable[[Tokens], TokenSource] | None = None,
) -> AsyncGenerator[Client]:
    client = Client()
    rest = MassiveREST(
        base_url=play.gateway.url,
        headers=lambda: {"Authorization": f"Bearer {key}"},
        clock=SystemClock(),
        policy=RestPolicy(attempts=1),
    )
    before = asyncio.all_tasks()
    async with rest, Tokens(rest=rest, clock=SystemClock()) as tokens:
        client.tokens = tokens
        client.streams = Streams(
            url=url or play.gateway.url,
            assets=assets,
            tokens=source(tokens) if source else tokens,
            clock=SystemClock(),
            on_events=client.take,
            on_state=client.told.append,
            policy=policy,
        )
        run = asyncio.get_running_loop().create_task(client.streams.run())
        try:
            yield client
        finally:
            run.cancel()
            with pytest.raises(asyncio.CancelledError):
                await run
    own = {task for task in asyncio.all_tasks() - before if "onetape/client" in repr(task)}
    assert own == set(), "a task outlived its parent"


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"debug": True, "use_uvloop": False}


@pytest.fixture(scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Playground]:
    """One gateway for all these tests: each comes with a key and sockets of its own."""
    async with Playground(
        tmp_path_factory.mktemp("gateway"),
        simulator=SimulatorSettings(rate=20),
        upstream={"cool_down_s": 1.0},
    ) as play:
        yield play


@pytest.fixture
def play(running: Playground) -> Playground:
    running.simulator.faults.clear(now=0)
    running.lines.clear()
    return running


def token_id(token: str) -> str:
    claims = token.split(".")[1]
    return msgspec.json.decode(base64.urlsafe_b64decode(claims + "=="))["jti"]


def shown(play: Playground) -> set[str | None]:
    """Return the ids of the tokens that the sessions at the gateway were last shown."""
    door = play.gateway._door  # pyright: ignore[reportPrivateUsage] - nothing else tells
    return {session.principal.token_id for session in door if session.principal is not None}


async def test_all_endpoints_connect_at_once_and_stream_typed_events(play: Playground) -> None:
    """R106, R109, R123, R124, R138; every event says that the vendor is simulated."""
    async with client_of(play, await play.key()) as client:
        client.streams.connect({OPTIONS, INDICES})
        await until(lambda: client.streams.state is EndpointState.AUTHENTICATED)
        assert {notice.asset for notice in client.of(EndpointUp)} == {OPTIONS, INDICES}
        assert client.streams.health()[STOCKS].state is EndpointState.IDLE

        bars, trades = Topic("A.I:SPX"), Topic("T.SPY")
        await client.streams_all(SPX, bars, trades, CALL)
        await until(lambda: {type(event) for event in client.events} == {Quote, Trade, Bar})
        assert all(event.simulated for event in client.events)
        assert {event.source for event in client.events} == {Source.STREAM}
        assert {event.symbol for event in client.events} == {"I:SPX", "SPY"}
        health = client.streams.health()[INDICES]
        assert (health.authenticated, health.upstream_up, health.simulated) == (True, True, True)
        assert (health.topics_wanted, health.topics_acked, health.topics_failed) == (2, 2, 0)
        assert health.messages_per_s > 0
        assert health.last_message_ns is not None
        assert health.lag_s is not None
        assert health.since_ns is not None
        assert "indices authenticated" in repr(client.streams)
        assert client.of(EndpointDown) == client.of(Denied) == []


async def test_the_events_of_a_frame_come_in_one_call(play: Playground) -> None:
    async with client_of(play, await play.key()) as client:
        await client.streams_all(SPX, NDX)
        await until(lambda: any(len(events) > 1 for _, events in client.frames))
        assert {asset for asset, _ in client.frames} == {INDICES}


async def test_one_class_that_is_denied_leaves_the_others_alone(play: Playground) -> None:
    """R106, R133."""
    async with client_of(play, await play.key(assets=frozenset({INDICES}))) as client:
        client.streams.connect({OPTIONS, INDICES})
        await client.streams_all(SPX)
        await until(lambda: client.of(Denied))

        assert [(n.asset, n.code) for n in client.of(Denied)] == [(OPTIONS, "not_entitled")]
        assert client.streams.state is EndpointState.DOWN
        assert client.tokens.generation == 1, "another token would fare the same"


async def test_topics_go_to_the_socket_of_their_symbols_class(play: Playground) -> None:
    """R116, R129, W-01."""
    async with client_of(play, await play.key()) as client:
        client.streams.want(frozenset({SPX, SPY, CALL, Topic("T.BRK.B")}))
        right: dict[str, set[Topic]] = {
            INDICES: {SPX},
            OPTIONS: {CALL},
            STOCKS: {SPY, Topic("T.BRK.B")},
        }

        def carried() -> dict[str, set[Topic]]:
            return {asset: set(ts) for asset, ts in play.simulator.state().topics.items()}

        await until(lambda: carried() == right)


class NoTokens:
    """What a client has that never got one."""

    generation = 0

    def current(self) -> str:
        raise TokenMissing("there is no token at the moment")

    async def refresh_token(self, *, generation: int | None = None) -> str:
        raise TokenMissing("there is no token at the moment")


def streams(url: str = "http://127.0.0.1:1/gateway/", *assets: AssetClass) -> Streams:
    return Streams(
        url=url,
        assets=frozenset(assets or (OPTIONS, INDICES)),
        tokens=NoTokens(),
        clock=SystemClock(),
        on_events=lambda _asset, _events: None,
        on_state=lambda _: None,
    )


@pytest.mark.parametrize(
    "wrong", ["T.SPY", "V.SPX", "Q.I:SPX", "X.I:SPX", "Q.O:SPY", "T.*", "SPX", "V.I:SPX,V.I:NDX"]
)
async def test_a_topic_that_cannot_be_streamed_is_refused_and_changes_nothing(wrong: str) -> None:
    """R116, R127, R128, R132, W-01, W-49: the plan streams no stocks here."""
    some = streams()
    some.want(frozenset({SPX}))

    with pytest.raises(InvalidTopic):
        some.want(frozenset({NDX, Topic(wrong)}))

    assert some.wanted == {SPX}
    assert some.topic_state(NDX) is None


@pytest.mark.parametrize(
    "url", ["ws://a.b", "a.b:3000", "http://", "http://a.b/?token=x", "https://a.b/#x"]
)
async def test_what_is_no_address_of_a_gateway_is_refused(url: str) -> None:
    with pytest.raises(ConfigInvalid):
        streams(url)


async def test_a_gateway_behind_tls_and_a_path_is_an_address() -> None:
    """R107."""
    assert "idle" in repr(streams("https://gateway.example.com/onetape/"))


async def test_a_symbol_replaced_by_another_is_noticed(play: Playground) -> None:
    """R115, R137, W-50: by content, not by size; R121: each topic once."""
    async with client_of(play, await play.key()) as client:
        await client.streams_all(SPX)
        client.streams.want(frozenset({NDX}))
        await until(lambda: list(play.simulator.state().topics[INDICES]) == [NDX])

        assert client.streams.wanted == {NDX}
        assert client.streams.topic_state(SPX) is None


async def test_a_socket_nobody_needs_is_let_go_and_one_that_is_held_is_not(
    play: Playground,
) -> None:
    async with client_of(play, await play.key()) as client:
        client.streams.connect({OPTIONS})
        await client.streams_all(SPX)
        client.streams.want(frozenset())
        await until(lambda: client.streams.health()[INDICES].state is EndpointState.IDLE)

        assert client.streams.health()[OPTIONS].state is EndpointState.AUTHENTICATED
        client.streams.connect(())
        await until(lambda: client.streams.state is EndpointState.IDLE)
        client.streams.connect()
        await until(lambda: client.streams.state is EndpointState.AUTHENTICATED)
        assert len(client.of(EndpointUp)) == 5
        assert all(notice.gap_start_ns is None for notice in client.of(EndpointUp))
        assert client.of(EndpointDown) == []


async def test_a_cut_connection_comes_back_by_itself_with_all_that_is_wanted(
    play: Playground,
) -> None:
    """R108, R118, R120, W-03, W-32, C15: in less than two seconds, and the gap is told."""
    async with (
        cabled(play.gateway.netloc) as (cable, url),
        client_of(play, await play.key(), url=url) as client,
    ):
        await client.streams_all(SPX, NDX)
        loop = asyncio.get_running_loop()
        took_s: list[float] = []
        for _ in range(3):
            ups, cut_at = len(client.of(EndpointUp)), loop.time()
            cable.cut()
            await until(lambda n=ups: len(client.of(EndpointUp)) > n)
            await client.more_events(1)
            took_s.append(loop.time() - cut_at)

        assert min(took_s) < 2, "the p99 is in the benchmark; here others share the cores"
        assert len(client.of(EndpointDown)) == 3
        up = client.of(EndpointUp)[-1]
        assert up.gap_start_ns is not None
        assert up.gap_end_ns is not None
        assert up.gap_start_ns < up.gap_end_ns
        assert client.streams.health()[INDICES].reconnects == 3
        assert client.streams.topic_state(NDX) is not None


async def test_a_long_outage_is_told_once_and_outlived(play: Playground) -> None:
    """W-33, W-02: never gives up; at most one dial at a time, and with growing waits."""
    async with (
        cabled(play.gateway.netloc) as (cable, url),
        client_of(play, await play.key(), url=url) as client,
    ):
        await client.streams_all(SPX)
        cable.is_plugged = False
        cable.cut()
        await until(lambda: client.of(EndpointDown))
        assert client.streams.topic_state(SPX) is TopicState.DOWN
        await until(lambda: cable.connections > 6)
        assert client.streams.state in {EndpointState.DOWN, EndpointState.CONNECTING}

        cable.is_plugged = True
        await client.more_events()
        assert len(client.of(EndpointDown)) == 1


async def test_a_dead_connection_is_noticed_by_its_missing_pong(play: Playground) -> None:
    """R64, W-48, C20."""
    hasty = msgspec.structs.replace(FAST, ping_interval_s=0.2, pong_deadline_s=0.2)
    async with (
        cabled(play.gateway.netloc) as (cable, url),
        client_of(play, await play.key(), url=url, policy=hasty) as client,
    ):
        await client.streams_all(SPX)
        cable.is_dead = True
        await until(lambda: client.of(EndpointDown))
        cable.is_dead = False
        await client.more_events()
        assert client.of(EndpointDown)[0].reason == "no sign of life after a ping"


async def test_a_restart_of_the_gateway_is_outlived(play: Playground) -> None:
    """R108, C15: close 1012."""
    key = await play.key()
    async with cabled("") as (cable, url), client_of(play, key, url=url) as client:
        async with play.another() as first:
            cable.target = first.netloc
            await client.streams_all(SPX, SPY)
            up = len(client.of(EndpointUp))
            cable.is_plugged = False
        await until(lambda: len(client.of(EndpointDown)) == up)
        async with play.another() as second:
            cable.target, cable.is_plugged = second.netloc, True
            await client.more_events(1, symbol="I:SPX")
            await client.more_events(1, symbol="SPY")
            assert {n.reason for n in client.of(EndpointDown)} == {"shutting_down"}


async def test_the_loss_of_the_vendor_is_told_and_costs_no_connection(play: Playground) -> None:
    """W-51, C16: connected, but not authenticated while the gateway has no vendor."""
    async with client_of(play, await play.key()) as client:
        await client.streams_all(SPX)
        seen: list[EndpointState] = []
        play.simulator.inject(StreamRule(stage=Stage.LIVE, action=Drop(), count=1))
        await until(lambda: seen.append(client.streams.state) or client.of(UpstreamUp))

        [down], [up] = client.of(UpstreamDown), client.of(UpstreamUp)
        assert down.since_ns == up.gap_start_ns
        assert up.gap_end_ns is not None
        assert up.gap_end_ns > down.since_ns
        await client.more_events()
        assert client.streams.state is EndpointState.AUTHENTICATED
        assert client.of(EndpointDown) == []


async def test_an_eviction_of_the_gateway_is_told_with_its_wait(play: Playground) -> None:
    async with client_of(play, await play.key()) as client:
        await client.streams_all(SPX)
        play.simulator.inject(StreamRule(stage=Stage.LIVE, action=Evict(), count=1))
        await until(lambda: client.of(Evicted))

        assert client.of(Evicted) == [Evicted(asset=INDICES, retry_after_s=1.0)]
        assert client.streams.state is EndpointState.CONNECTED
        assert client.streams.topic_state(SPX) is TopicState.DOWN
        await until(lambda: client.of(UpstreamUp))
        await client.more_events()


async def test_a_class_the_vendor_refuses_to_the_gateway_is_told_by_topic(
    play: Playground,
) -> None:
    """R133, R136, W-51."""
    refuse = StreamRule(stage=Stage.AUTH, action=RejectLogin(reason="plan"), cluster="options")
    play.simulator.inject(refuse)
    async with client_of(play, await play.key()) as client:
        client.streams.want(frozenset({SPX, CALL}))
        await until(lambda: client.of(UpstreamDown) and client.of(TopicFailed))
        await client.more_events(1, symbol="I:SPX")

        assert {n.asset for n in client.of(UpstreamDown)} == {OPTIONS}
        assert client.streams.topic_state(CALL) is TopicState.FAILED
        assert client.streams.topic_state(SPX) is TopicState.LIVE
        health = client.streams.health()
        assert not health[OPTIONS].authenticated
        assert health[INDICES].authenticated
        assert client.streams.state is EndpointState.CONNECTED


async def test_a_topic_the_key_does_not_cover_fails_at_once_and_the_others_flow(
    play: Playground,
) -> None:
    """R133, W-02."""
    async with client_of(play, await play.key(topics=("V.I:SPX",))) as client:
        client.streams.want(frozenset({SPX, NDX}))
        await until(lambda: client.of(TopicFailed) and client.of(TopicLive))
        await client.more_events(1, symbol="I:SPX")

        assert client.of(TopicFailed) == [
            TopicFailed(asset=INDICES, topics=frozenset({NDX}), reason="not authorized")
        ]
        assert client.streams.topic_state(NDX) is TopicState.FAILED
        assert client.streams.health()[INDICES].topics_failed == 1


async def revoke(play: Playground, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        aiohttp.ClientSession(headers=headers) as http,
        http.delete(play.gateway.url + "/api/ws-token") as answer,
    ):
        assert answer.status < 300


async def test_a_token_that_ends_is_renewed_on_the_open_socket(tmp_path: Path) -> None:
    """W-12: the old token's end then means nothing."""
    async with (
        Playground(tmp_path, simulator=SimulatorSettings(rate=20), token_ttl_s=30) as play,
        client_of(play, await play.key()) as client,
    ):
        await until(lambda: client.tokens.generation)
        old = client.tokens.current()
        await client.streams_all(SPX)
        await until(lambda: token_id(old) not in shown(play))  # the gateway warned us
        await revoke(play, old)
        await client.more_events(10)

        assert client.of(EndpointDown) == []
        assert len(client.of(EndpointUp)) == 1


async def test_a_new_token_is_shown_on_every_open_socket(play: Playground) -> None:
    """W-12."""
    async with client_of(play, await play.key()) as client:
        await client.streams_all(SPX, SPY)
        old = client.tokens.current()
        await client.tokens.refresh_token()
        client.streams.renew()
        client.streams.renew()
        await until(lambda: token_id(old) not in shown(play))
        await revoke(play, old)
        await client.more_events(10)
        assert client.of(EndpointDown) == []


async def test_a_revoked_token_costs_one_new_one_and_a_moment(play: Playground) -> None:
    """C7, R74: refused, refreshed once, back at once."""
    async with client_of(play, await play.key()) as client:
        await client.streams_all(SPX, SPY)
        await revoke(play, client.tokens.current())
        await until(lambda: len(client.of(EndpointUp)) == 4)
        await client.more_events()

        assert {n.code for n in client.of(Denied)} == {"token_revoked"}
        assert client.tokens.generation == 2


async def test_who_is_refused_with_an_old_token_takes_the_newer_one_without_a_mint(
    play: Playground,
) -> None:
    """R74: by generation."""
    async with client_of(play, await play.key()) as client:
        await client.streams_all(SPX)
        old = client.tokens.current()
        await client.tokens.refresh_token()  # and nobody said `renew`
        await revoke(play, old)
        await until(lambda: len(client.of(EndpointUp)) == 2)

        assert client.tokens.generation == 2


class Reluctant:
    """Tokens whose owner cannot get a new one for a while."""

    def __init__(self, tokens: Tokens) -> None:
        self.tokens = tokens
        self.failures = 0
        self.asked = 0

    @property
    def generation(self) -> int:
        return self.tokens.generation

    def current(self) -> str:
        return self.tokens.current()

    async def refresh_token(self, *, generation: int | None = None) -> str:
        self.asked += 1
        if self.failures:
            self.failures -= 1
            raise GatewayDown("the gateway mints nothing")
        return await self.tokens.refresh_token(generation=generation)


async def test_a_token_refused_again_is_replaced_as_soon_as_there_is_another(
    play: Playground,
) -> None:
    """R76, W-10: refused logins go on slowly, and each asks for another token."""
    quick = msgspec.structs.replace(FAST, auth_retry_s=0.2, auth_retry_cap_s=0.2)
    reluctant: list[Reluctant] = []

    def wrapped(tokens: Tokens) -> Reluctant:
        reluctant.append(Reluctant(tokens))
        return reluctant[0]

    async with client_of(play, await play.key(), policy=quick, source=wrapped) as client:
        await client.streams_all(SPX)
        reluctant[0].failures = 2
        before = reluctant[0].asked
        await revoke(play, client.tokens.current())
        await until(lambda: len(client.of(EndpointUp)) == 2)

        assert reluctant[0].asked == before + 3
        assert len(client.of(Denied)) == len(client.of(EndpointDown)) == 1


async def test_a_revoked_key_is_told_and_not_hammered(play: Playground) -> None:
    """C17: there is no token to be had, so there is nothing to try."""
    key = await play.key()
    async with (
        cabled(play.gateway.netloc) as (cable, url),
        client_of(play, key, url=url) as client,
    ):
        await client.streams_all(SPX)
        await play.revoke(key)
        await until(lambda: client.of(Denied))
        dials = cable.connections
        await asyncio.sleep(0.5)

        assert client.of(Denied)[0].code == "token_revoked"
        assert cable.connections <= dials + 1
        assert client.streams.state is EndpointState.DOWN


async def test_without_a_token_the_login_is_denied_and_tried_when_there_is_one(
    play: Playground,
) -> None:
    async with client_of(play, "ot_aaaaaaaa_" + "b" * 43) as client:
        client.streams.connect({INDICES})
        await until(lambda: client.of(Denied))
        assert client.of(Denied)[0].code == "token_missing"


async def test_a_reader_that_raises_costs_nobody_anything(
    play: Playground, caplog: pytest.LogCaptureFixture
) -> None:
    """R110."""
    async with client_of(play, await play.key()) as client:
        await client.streams_all(SPX)
        take, raised = client.take, 0

        def fail(asset: AssetClass, events: list[Event]) -> None:
            nonlocal raised
            take(asset, events)
            raised += 1
            raise ZeroDivisionError

        client.streams._endpoints[INDICES]._on_events = fail  # pyright: ignore[reportPrivateUsage] - what the owner gave
        await until(lambda: raised > 2)
        assert client.of(EndpointDown) == []
    assert [r.message for r in caplog.records].count("upstream.callback_failed") == 1


async def test_leaving_closes_every_socket_and_dials_no_more(play: Playground) -> None:
    """R119."""
    async with cabled(play.gateway.netloc) as (cable, url):
        async with client_of(play, await play.key(), url=url) as client:
            await client.streams_all(SPX, SPY)
            told = len(client.told)
        dials = cable.connections
        hubs = [line.hub for line in play.gateway.lines.values()]
        await until(lambda: all(hub.statistics().clients == 0 for hub in hubs))
        await asyncio.sleep(0.2)
        assert cable.connections == dials
    assert client.told[told:] == []


@pytest.mark.parametrize("after_s", [0.0, 0.005, 0.02, 0.1])
async def test_it_can_be_left_at_any_moment(play: Playground, after_s: float) -> None:
    async with client_of(play, await play.key()) as client:
        client.streams.connect()
        client.streams.want(frozenset({SPX}))
        await asyncio.sleep(after_s)


async def test_no_token_is_in_an_address_or_a_log(
    play: Playground, caplog: pytest.LogCaptureFixture
) -> None:
    """R107, W-05, W-06, C33: the credential is in the first frame."""
    caplog.set_level("DEBUG", "onetape")
    async with client_of(play, await play.key()) as client:
        await client.streams_all(SPX)
        token = client.tokens.current()
    logged = b"".join(play.lines).decode() + str([record.__dict__ for record in caplog.records])
    assert token not in logged
    assert token.split(".")[2] not in logged
