import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from onetape.asgi import Receive, Scope, Send, Server
from onetape.clock import SystemClock
from onetape.errors import NotEntitled, OnetapeError, TokenInvalid, TokenRevoked
from onetape.gateway.auth import Principal
from onetape.gateway.fanout import HubPolicy, MassiveHub, Sink
from onetape.gateway.keys import Scopes
from onetape.gateway.session import Account, Desk, SessionEnd, SessionPolicy
from onetape.gateway.sockets import Door, DoorPolicy
from onetape.massive.wire_stream import Action, array, event, split
from onetape.model import AssetClass, ClientId

CALL = "T.O:SPY251219C00650000"
NS = 1_000_000_000


class Doorkeeper:
    def __init__(self) -> None:
        self.principals: dict[str, Principal] = {
            "key": Principal(key_id="k1", name="bot", kind="client_key", scopes=Scopes())
        }
        self.peers: list[str] = []

    def add_token(self, name: str, *, age_s: int, assets: frozenset[AssetClass]) -> None:
        now_ns = SystemClock().now_ns()
        self.principals[name] = Principal(
            key_id="k1",
            name="bot",
            kind="token",
            scopes=Scopes(assets=assets),
            token_id=name,
            issued_ns=now_ns - age_s * NS,
            expires_ns=now_ns + (300 - age_s) * NS,
        )

    def identify(self, credential: str | None, *, peer: str) -> Principal:
        self.peers.append(peer)
        if credential is None or credential not in self.principals:
            raise TokenInvalid("unknown credential")
        return self.principals[credential]


class House:
    """A door with a hub behind it, on a real port."""

    def __init__(self, *, desks: Iterable[Desk] = (), **policy: Any) -> None:
        self.auth = Doorkeeper()
        everything = frozenset(AssetClass)
        for name, age_s in {"fresh": 0, "stale": 61}.items():
            self.auth.add_token(name, age_s=age_s, assets=everything)
        self.auth.add_token("narrow", age_s=0, assets=frozenset({AssetClass.INDICES}))
        self.ends: list[SessionEnd] = []
        self.query_tokens = 0
        loop = asyncio.get_running_loop()
        self.hub = MassiveHub(
            AssetClass.OPTIONS,
            clock=SystemClock(),
            loop=loop,
            policy=HubPolicy(outbox_bytes=100_000),
        )
        self.door = Door(
            {AssetClass.OPTIONS: self.hub},
            desks=desks,
            auth=self.auth,
            clock=SystemClock(),
            policy=DoorPolicy(**policy),
            on_end=self.ends.append,
            on_query_token=self.count,
        )
        self.url = ""

    def count(self) -> None:
        self.query_tokens += 1

    def publish(self, *numbers: int) -> None:
        self.hub.deliver(split(array(event("T", sym=CALL[2:], q=number) for number in numbers)))

    async def until_ended(self) -> SessionEnd:
        async with asyncio.timeout(5):
            while not self.ends:
                await asyncio.sleep(0.01)
        return self.ends[0]


async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 404, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@asynccontextmanager
async def a_house(**policy: Any) -> AsyncGenerator[House]:
    house = House(**policy)
    async with Server(nothing, host="127.0.0.1", port=0, websocket=house.door.route) as server:
        house.url = f"ws://{server.netloc}"
        yield house


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with a_house() as running:
        yield running


async def status(client: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(5):
        return msgspec.json.decode(await client.recv())[0]


async def enter(client: ClientConnection, credential: str = "key") -> None:
    assert (await status(client))["status"] == "connected"
    await client.send(msgspec.json.encode({"action": "auth", "params": credential}).decode())
    assert (await status(client))["status"] == "auth_success"
    await client.send(msgspec.json.encode({"action": "subscribe", "params": CALL}))  # binary
    assert (await status(client))["status"] == "success"


@pytest.mark.parametrize("path", ["/options", "/ws/options"])
async def test_both_doors_lead_to_the_same_dialogue(house: House, path: str) -> None:
    """R57: in-band auth on both; text and binary frames on both."""
    async with connect(house.url + path) as client:
        await enter(client)
        house.publish(1, 2)

        assert [e["q"] for e in msgspec.json.decode(await client.recv())] == [1, 2]
        assert house.auth.peers == ["127.0.0.1"]
    assert (await house.until_ended()).code == "client_left"
    assert len(house.door) == 0


@pytest.mark.parametrize(
    ("query", "options"),
    [
        ("", {"subprotocols": [Subprotocol("onetape.v1"), Subprotocol("onetape.token.fresh")]}),
        ("", {"additional_headers": {"Authorization": "Bearer fresh"}}),
        ("?token=fresh", {}),
    ],
    ids=["subprotocol", "header", "query"],
)
async def test_a_token_may_come_with_the_upgrade(
    house: House, query: str, options: Mapping[str, Any]
) -> None:
    """R57, W-06: three ways, the query deprecated."""
    async with connect(f"{house.url}/ws/options{query}", **options) as client:
        assert [(await status(client))["status"] for _ in range(2)] == [
            "connected",
            "auth_success",
        ]
        if "subprotocols" in options:
            assert client.subprotocol == "onetape.v1"
    assert house.query_tokens == (1 if query else 0)


@pytest.mark.parametrize(
    ("path", "expected", "code"),
    [
        ("/ws/options?token=wrong", 403, "token_invalid"),
        ("/ws/options?token=stale", 403, "token_invalid"),
        ("/ws/options?token=key", 403, "token_invalid"),
        ("/ws/options?token=narrow", 403, "not_entitled"),
        ("/ws/nowhere", 404, "not_found"),
        ("/forex", 404, "not_found"),
        ("/options/../options", 404, "not_found"),
    ],
)
async def test_a_bad_upgrade_is_refused_before_any_frame(
    house: House, path: str, expected: int, code: str
) -> None:
    """R36, R57, W-06: a long-lived key or an old token may not come in the URL."""
    with pytest.raises(InvalidStatus) as refused:
        await connect(house.url + path)

    assert refused.value.response.status_code == expected
    assert msgspec.json.decode(refused.value.response.body or b"")["code"] == code


async def test_a_token_in_the_url_is_good_for_one_socket(house: House) -> None:
    """W-06."""
    async with connect(f"{house.url}/ws/options?token=fresh"):
        with pytest.raises(InvalidStatus):
            await connect(f"{house.url}/ws/options?token=fresh")


async def test_pages_of_strange_origins_may_not_connect() -> None:
    """R20."""
    async with a_house(web_origins=("https://desk.example",)) as house:
        own = house.url.replace("ws://", "http://")
        for origin in ("https://desk.example", own, None):
            headers = {"Origin": origin} if origin else {}
            async with connect(house.url + "/options", additional_headers=headers):
                pass
        with pytest.raises(InvalidStatus) as refused:
            await connect(
                house.url + "/options", additional_headers={"Origin": "https://evil.example"}
            )

    assert refused.value.response.status_code == 403


async def test_behind_a_trusted_proxy_the_client_is_who_the_proxy_says() -> None:
    """A loopback-only key must not work for strangers because our proxy is local."""
    for trusted, peer in ((("127.0.0.0/8",), "8.8.8.8"), ((), "127.0.0.1")):
        async with (
            a_house(trusted_proxies=trusted) as house,
            connect(
                house.url + "/options", additional_headers={"X-Forwarded-For": "1.2.3.4, 8.8.8.8"}
            ) as client,
        ):
            await enter(client)
            assert house.auth.peers == [peer]


async def test_an_upgrade_says_when_the_vendor_is_simulated() -> None:
    async with a_house(simulated=True) as house, connect(house.url + "/options") as client:
        assert client.response is not None
        assert client.response.headers["X-Onetape-Simulated"] == "true"


async def test_an_upgrade_says_when_the_data_are_delayed() -> None:
    async with a_house(delayed=True) as house, connect(house.url + "/options") as client:
        assert client.response is not None
        assert client.response.headers["X-Onetape-Delayed"] == "true"
        assert "X-Onetape-Simulated" not in client.response.headers


async def test_a_full_house_asks_to_come_back_later() -> None:
    """W-46: counted against the clients, not the upstreams."""
    async with a_house(max_clients=1) as house, connect(house.url + "/options"):
        with pytest.raises(InvalidStatus) as refused:
            await connect(house.url + "/options")

    assert refused.value.response.status_code == 429
    assert refused.value.response.headers["Retry-After"] == "5"


async def test_a_fragmented_message_is_one_message(house: House) -> None:
    async with connect(house.url + "/options") as client:
        await enter(client)
        await client.send(['{"action":', '"ping"', "}"])

        assert (await status(client))["status"] == "pong"


async def test_a_message_too_large_in_fragments_is_told_and_survived() -> None:
    async with (
        a_house(session=SessionPolicy(max_frame_bytes=1_000)) as house,
        connect(house.url + "/options") as client,
    ):
        await enter(client)
        await client.send(["x" * 900] * 5)

        assert (await status(client))["code"] == "frame_too_large"
        await client.send('{"action":"ping"}')
        assert (await status(client))["status"] == "pong"


async def test_a_client_that_stops_reading_is_cut_and_the_others_notice_nothing(
    house: House,
) -> None:
    """W-45 over a real socket: bounded, told if it ever looks, counted."""
    async with (
        connect(house.url + "/options", max_queue=None) as brisk,
        connect(house.url + "/options", max_queue=1) as stopped,
        asyncio.timeout(20),
    ):
        await enter(brisk)
        await enter(stopped)
        stopped.transport.pause_reading()
        sent = 0
        while not house.ends:
            house.publish(*range(sent, sent + 2_000))
            sent += 2_000
            await asyncio.sleep(0.002)
        stopped.transport.abort()
        got: list[int] = []
        while len(got) < sent:
            got += [e["q"] for e in msgspec.json.decode(await brisk.recv())]

    assert house.ends[0].code == "slow_reader"
    assert got == list(range(sent))


async def test_a_revoked_key_loses_its_open_sockets_at_once(house: House) -> None:
    def why_not(principal: Principal) -> OnetapeError | None:
        return TokenRevoked("the key was revoked") if principal.key_id == "k1" else None

    async with (
        connect(house.url + "/options") as waiting,
        connect(house.url + "/options") as client,
    ):
        await enter(client)
        house.door.recheck(why_not)

        assert (await status(client))["code"] == "token_revoked"
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4401
        assert (await status(waiting))["status"] == "connected"


async def test_a_drain_closes_1012_and_lets_nobody_in(house: House) -> None:
    async with connect(house.url + "/options") as client:
        await enter(client)
        house.door.drain()
        with pytest.raises(InvalidStatus) as refused:
            await connect(house.url + "/options")
        assert (await status(client))["code"] == "shutting_down"
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()

    assert refused.value.response.status_code == 503
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012


async def test_deadlines_are_checked_by_the_doors_tick() -> None:
    async with (
        a_house(session=SessionPolicy(auth_timeout_s=0.0, ping_interval_s=0.0)) as house,
        connect(house.url + "/options") as client,
    ):
        assert (await status(client))["status"] == "connected"
        async with connect(f"{house.url}/ws/options?token=fresh") as live:
            await status(live)
            house.door.tick()

            assert (await status(client))["status"] == "auth_timeout"
            assert not house.ends or house.ends[0].code == "auth_timeout"
            assert len(house.door) == 1


async def test_an_aborted_connection_leaves_nothing_behind(house: House) -> None:
    """R68."""
    client = await connect(house.url + "/options")
    await enter(client)

    client.transport.abort()

    assert (await house.until_ended()).code == "client_left"
    assert house.hub.statistics()[:3] == (0, 0, 0)
    await client.wait_closed()


class Watch:
    """A desk of its own: it tells the time, to whoever may read stocks."""

    name = "clock"
    actions = ("time",)

    def __init__(self) -> None:
        self.sink: Sink | None = None
        self.is_congested = False

    def check(self, principal: Principal) -> None:
        if not principal.admits_asset(AssetClass.STOCKS):
            raise NotEntitled("this credential is not for the time")

    def enter(self, client: ClientId, sink: Sink) -> "Watch":
        self.sink = sink
        return self

    def act(self, action: Action, principal: Principal) -> None:
        self.say(event("time", sym=principal.name))

    def say(self, event: bytes) -> None:
        assert self.sink is not None
        self.sink.write(array([event]))

    def pause(self) -> None:
        raise AssertionError

    def resume(self) -> None:
        raise AssertionError

    def leave(self) -> Account:
        return Account(topics=7)


async def test_a_desk_of_ours_has_our_door_only_and_the_same_dialogue() -> None:
    """What may be asked there, and by whom, is the desk's to say."""
    async with a_house(desks=[Watch()]) as house:
        for path, refusal in (("/clock", 404), ("/ws/clock?token=narrow", 403)):
            with pytest.raises(InvalidStatus) as refused:
                await connect(house.url + path)
            assert refused.value.response.status_code == refusal
        async with connect(house.url + "/ws/clock") as client:
            assert (await status(client))["status"] == "connected"
            for action, expected in (
                ({"action": "time"}, ("status", "auth_required")),
                ({"action": "auth", "params": "narrow"}, ("status", "auth_failed")),
            ):
                await client.send(msgspec.json.encode(action).decode())
                said = await status(client)
                assert (said["ev"], said["status"]) == expected
        async with connect(house.url + "/ws/clock?token=fresh") as client:
            assert [(await status(client))["status"] for _ in range(2)] == [
                "connected",
                "auth_success",
            ]
            await client.send('{"action":"time"}')
            assert (await status(client))["ev"] == "time"
            await client.send('{"action":"subscribe","params":"T.SPY"}')
            assert "there are auth, time, ping" in (await status(client))["message"]

    assert {(end.asset, end.topics) for end in house.ends} == {("clock", 0), ("clock", 7)}
