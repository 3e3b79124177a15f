import asyncio
import gzip
from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from onetape.config import GatewayConfig
from onetape.core.cache import Cache
from onetape.core.limits import SlidingWindow
from onetape.errors import OnetapeError, TokenExpired, TokenInvalid, TokenMissing, UpstreamDown
from onetape.flights import Flights
from onetape.gateway.answers import Answer
from onetape.gateway.auth import Principal
from onetape.gateway.keys import Scopes
from onetape.gateway.proxy import CLIENT_GONE, Limits, Proxy, RequestRecord
from onetape.gateway.supply import Supply
from onetape.massive.wire_rest import Endpoint
from onetape.testing import ManualClock

CANARY = "canary-that-must-not-fly"
CHAIN = "/v3/snapshot/options/SPY"
ERROR = b'{"status":"ERROR","error":"x"}'


class Response(msgspec.Struct, frozen=True, kw_only=True):
    status: int = 200
    body: bytes = b'{"status":"OK"}'
    content_type: str = "application/json"
    request_id: str | None = "f" * 32
    retry_after_s: float | None = None
    simulated: bool = False


class ScriptedVendor:
    """Answers what the script says; pages like the vendor when told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.script: list[Response | Exception] = []
        self.pages = 0
        self.open = asyncio.Event()
        self.open.set()
        self.arrived = asyncio.Event()
        self.given_up = asyncio.Event()

    async def get(self, path: str, query: str = "") -> Response:
        self.asked.append((path, query))
        self.arrived.set()
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.given_up.set()
            raise
        step = self.script.pop(0) if self.script else self._page(path, query)
        if isinstance(step, Exception):
            raise step
        return step

    def _page(self, path: str, query: str) -> Response:
        at = int(query.removeprefix("cursor=page")) if query.startswith("cursor=page") else 1
        body = b'{"results":[%d],"status":"OK"' % at
        if at < self.pages:
            body += b',"next_url":"https://api.massive.com%b?cursor=page%d"' % (
                path.encode(),
                at + 1,
            )
        return Response(body=body + b"}")


class Doorkeeper:
    """Knows a few credentials."""

    def __init__(self) -> None:
        self.peers: list[str] = []
        self.known = {
            CANARY: Principal(key_id="alice", name="alice", kind="token", scopes=Scopes()),
            "bob-s": Principal(
                key_id="bob",
                name="bob",
                kind="client_key",
                scopes=Scopes(rest=("/v3/trades",), rate_per_minute=3),
            ),
        }

    def identify(self, credential: str | None, *, peer: str) -> Principal:
        self.peers.append(peer)
        if not credential:
            raise TokenMissing("no credential")
        if credential == "old":
            raise TokenExpired("too late")
        if credential not in self.known:
            raise TokenInvalid("who is that")
        return self.known[credential]


class Ledger:
    """Keeps what was told."""

    def __init__(self) -> None:
        self.records: list[RequestRecord] = []

    def rest_request(self, record: RequestRecord) -> None:
        self.records.append(record)


class Seen(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class House:
    """A proxy and everything around it, spoken to in ASGI."""

    def __init__(self, flights: Flights[str, Answer], *, raw: int = 10_000) -> None:
        self.clock = ManualClock()
        self.vendor = ScriptedVendor()
        self.ledger = Ledger()
        self.door = Doorkeeper()
        self.flights = flights
        self.proxy = Proxy(
            auth=self.door,
            supply=Supply(
                cache=Cache(1 << 20), flights=flights, upstream=self.vendor, clock=self.clock
            ),
            limits=Limits(total=SlidingWindow(1200, 60), raw=SlidingWindow(raw, 60)),
            telemetry=self.ledger,
            clock=self.clock,
            config=GatewayConfig(trusted_proxies=("10.0.0.0/8",)),
        )

    async def ask(
        self,
        path: str | bytes,
        query: str | bytes = "",
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        leave: asyncio.Event | None = None,
    ) -> Seen:
        headers = {"host": "gw.test", "authorization": f"Bearer {CANARY}"} | dict(headers or {})
        raw_path = path if isinstance(path, bytes) else path.encode("latin-1")
        scope: dict[str, Any] = {
            "type": "http",
            "method": method,
            "scheme": "http",
            "raw_path": raw_path,
            "path": raw_path.decode("latin-1"),
            "query_string": query if isinstance(query, bytes) else query.encode("latin-1"),
            "headers": [(k.encode(), v.encode("latin-1")) for k, v in headers.items() if v],
            "client": ("192.0.2.1", 1234),
            "server": ("127.0.0.1", 80),
        }
        sent: list[Any] = []
        bodies = [{"type": "http.request", "body": b"x", "more_body": False}]

        async def receive() -> Any:
            if bodies:
                return bodies.pop()
            await (leave or asyncio.Event()).wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.proxy(scope, receive, send)
        return read(sent, method)


def read(sent: list[Any], method: str) -> Seen:
    if not sent:
        return Seen(0, {}, b"")
    start, body = sent
    assert start["type"] == "http.response.start"
    assert body["type"] == "http.response.body"
    headers: dict[str, str] = {}
    for name, value in start["headers"]:
        assert name == name.lower()
        assert name.decode() not in headers, f"{name} twice"
        assert value.decode("ascii").isprintable()
        headers[name.decode()] = value.decode()
    if method != "HEAD":
        assert headers["content-length"] == str(len(body["body"]))
    return Seen(start["status"], headers, body["body"])


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with Flights[str, Answer]() as flights:
        yield House(flights)


# answers


async def test_a_miss_then_hits_with_their_age(house: House) -> None:
    """R98-R102."""
    miss = await house.ask(CHAIN, "limit=250")
    house.clock.advance(3.9)
    hit = await house.ask(CHAIN, "limit=250")

    assert (
        (miss.status, miss.body)
        == (hit.status, hit.body)
        == (200, b'{"results":[1],"status":"OK"}')
    )
    assert miss.headers["x-onetape-cache"] == "miss"
    assert "age" not in miss.headers
    assert (hit.headers["x-onetape-cache"], hit.headers["age"]) == ("hit", "3")
    assert hit.headers["x-request-id"] == miss.headers["x-request-id"] == "f" * 32
    assert hit.headers["content-type"] == "application/json"
    assert hit.headers["cache-control"] == "no-store"
    assert house.vendor.asked == [("/v3/snapshot/options/SPY", "limit=250")]


async def test_both_places_share_one_copy(house: House) -> None:
    await house.ask(CHAIN)

    assert (await house.ask("/api/massive" + CHAIN)).headers["x-onetape-cache"] == "hit"


@pytest.mark.parametrize("mount", ["", "/api/massive"])
async def test_following_next_url_stays_with_us_to_the_last_page(house: House, mount: str) -> None:
    """R30 and massive-api 9.3.7: JS and Go clients follow it as it is."""
    house.vendor.pages = 3
    url, rows = f"http://gw.test{mount}/v3/reference/options/contracts?limit=1", []

    while url:
        at = urlsplit(url)
        assert (at.scheme, at.netloc) == ("http", "gw.test")
        assert at.path.startswith(mount + "/v3/")
        page = await house.ask(at.path, at.query + "&apiKey=" + CANARY)
        rows += page.json["results"]
        url = page.json.get("next_url", "")

    assert rows == [1, 2, 3]
    assert [query for _, query in house.vendor.asked] == ["limit=1", "cursor=page2", "cursor=page3"]


async def test_one_copy_names_each_callers_own_origin(house: House) -> None:
    house.vendor.pages = 2

    origins = [
        (await house.ask(path, headers={"host": host})).json["next_url"].partition("/v3/")[0]
        for path, host in ((CHAIN, "a:1"), (CHAIN, "b"), ("/api/massive" + CHAIN, "a:1"))
    ]

    assert origins == ["http://a:1", "http://b", "http://a:1/api/massive"]
    assert len(house.vendor.asked) == 1


async def test_head_is_get_without_the_body(house: House) -> None:
    get = await house.ask(CHAIN)
    head = await house.ask(CHAIN, method="HEAD")

    assert head.body == b""
    assert head.headers["content-length"] == str(len(get.body))
    assert (head.status, head.headers["x-onetape-cache"]) == (200, "hit")


async def test_a_large_answer_is_packed_for_who_takes_gzip(house: House) -> None:
    body = b'{"results":"%b"}' % (b"x" * 50_000)
    house.vendor.script = [Response(body=body)]

    packed = await house.ask(CHAIN, headers={"accept-encoding": "gzip"})
    again = await house.ask(CHAIN, headers={"accept-encoding": "gzip"})
    plain = await house.ask(CHAIN)

    assert gzip.decompress(packed.body) == plain.body == body
    assert packed.body == again.body
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert packed.headers["vary"] == plain.headers["vary"] == "accept-encoding"


async def test_five_hundred_clients_cause_one_request(house: House) -> None:
    """R92, W-25."""
    house.vendor.open.clear()
    async with asyncio.TaskGroup() as tasks:
        asking = [tasks.create_task(house.ask("/v3/trades/AAPL")) for _ in range(500)]
        await house.vendor.arrived.wait()
        house.vendor.open.set()

    assert len(house.vendor.asked) == 1
    hows = [task.result().headers["x-onetape-cache"] for task in asking]
    assert sorted(set(hows)) == ["coalesced", "miss"]
    assert hows.count("miss") == 1


async def test_a_client_that_leaves_spares_the_others(house: House) -> None:
    """R89."""
    house.vendor.open.clear()
    leave = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        leaver = tasks.create_task(house.ask(CHAIN, leave=leave))
        stayer = tasks.create_task(house.ask(CHAIN))
        await house.vendor.arrived.wait()
        leave.set()
        await asyncio.wait([leaver])
        house.vendor.open.set()

    assert leaver.result().status == 0, "nothing is sent to who has gone"
    assert stayer.result().status == 200
    assert sorted(record.status for record in house.ledger.records) == [200, CLIENT_GONE]


async def test_when_the_last_client_leaves_the_vendors_request_is_cancelled(house: House) -> None:
    house.vendor.open.clear()
    leave = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(house.ask(CHAIN, leave=leave))
        await house.vendor.arrived.wait()
        leave.set()
        await house.vendor.given_up.wait()


@pytest.mark.parametrize("steps", range(8))
async def test_a_request_can_be_cancelled_anywhere(house: House, steps: int) -> None:
    house.vendor.open.clear()
    async with asyncio.TaskGroup() as tasks:
        stayer = tasks.create_task(house.ask(CHAIN))
        asking = tasks.create_task(house.ask(CHAIN))
        for _ in range(steps):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])
        house.vendor.open.set()

    assert asking.cancelled()
    assert stayer.result().status == 200
    assert house.flights.in_flight == 0


# faults


async def test_an_old_copy_says_so_and_why(house: House) -> None:
    await house.ask(CHAIN)
    house.clock.advance(42)
    house.vendor.script = [UpstreamDown("refused")]

    seen = await house.ask(CHAIN)

    assert seen.status == 200
    assert seen.headers["x-onetape-cache"] == "stale"
    assert seen.headers["x-onetape-stale-reason"] == "upstream_down"
    assert seen.headers["age"] == "42"


@pytest.mark.parametrize(
    ("step", "status", "code"),
    [
        (Response(status=400, body=ERROR), 400, "invalid_request"),
        (Response(status=401, body=ERROR), 403, "upstream_forbidden"),
        (Response(status=403, body=ERROR), 403, "upstream_forbidden"),
        (Response(status=404, body=ERROR), 404, "not_found"),
        (Response(status=429, body=ERROR, retry_after_s=900), 429, "upstream_throttled"),
        (Response(status=500, body=b"<html>", content_type="text/html"), 502, "upstream_down"),
        (Response(status=502, body=b""), 502, "upstream_down"),
        (Response(status=503, body=ERROR), 503, "upstream_down"),
        (Response(status=504, body=b"<html>"), 504, "upstream_timeout"),
        (Response(body=b"<html>", content_type="text/html"), 502, "upstream_garbled"),
        (UpstreamDown("refused", retry_after_s=30), 502, "upstream_down"),
        (OnetapeError("?"), 500, "internal"),
        (RuntimeError(CANARY), 500, "internal"),
    ],
)
async def test_every_failure_is_json_with_a_code(
    house: House, step: Response | Exception, status: int, code: str
) -> None:
    """R31, C7: the vendor's status to ours."""
    house.vendor.script = [step]

    seen = await house.ask(CHAIN)

    assert (seen.status, seen.headers["x-onetape-code"]) == (status, code)
    assert seen.json["status"] == "ERROR"
    assert int(seen.headers.get("retry-after", 1)) <= 5
    assert CANARY not in seen.body.decode()
    assert house.ledger.records[-1].code == code


async def test_a_bug_of_ours_is_logged_under_the_id_the_client_reads(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    house.vendor.script = [RuntimeError("bug")]

    seen = await house.ask(CHAIN)

    assert seen.status == 500
    [line] = caplog.records
    assert line.message == "rest.internal"
    assert vars(line)["request_id"] == seen.headers["x-request-id"] == seen.json["request_id"]


# who may ask what


@pytest.mark.parametrize(
    ("authorization", "code"),
    [("", "token_missing"), ("Bearer nobody", "token_invalid"), ("Bearer old", "token_expired")],
)
async def test_a_bad_credential_is_403_with_its_code(
    house: House, authorization: str, code: str
) -> None:
    """R29, C7."""
    seen = await house.ask(CHAIN, headers={"authorization": authorization})

    assert (seen.status, seen.json["code"]) == (403, code)
    assert house.vendor.asked == []
    assert house.ledger.records[-1].client is None


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ({}, ""),
        ({"authorization": "", "x-massive-proxy-token": CANARY}, ""),
        ({"authorization": ""}, f"apiKey={CANARY}"),
        ({"cookie": f"s={CANARY}", "x-massive-edge-id": CANARY}, f"a=1&apiKey={CANARY}&apiKey=x"),
        ({}, f"%61piKey={CANARY}&APIKEY={CANARY}&token={CANARY}"),
    ],
)
async def test_no_credential_goes_upstream(
    house: House, headers: dict[str, str], query: str
) -> None:
    """R30: an upstream that is a path and a query has no place for a header."""
    seen = await house.ask(CHAIN, query, headers=headers)

    assert seen.status == 200
    assert CANARY not in str(house.vendor.asked)
    assert CANARY not in str(house.ledger.records)


async def test_scopes_are_judged_by_the_plain_path(house: House) -> None:
    bob = {"authorization": "Bearer bob-s"}

    allowed = await house.ask("/v3/trades/O%3ASPY", headers=bob)
    refused = await house.ask("/v3/quotes/O:SPY", headers=bob)
    mounted = await house.ask("/api/massive/v3/trades/X", headers=bob)

    assert [seen.status for seen in (allowed, refused, mounted)] == [200, 403, 200]
    assert refused.json["code"] == "not_entitled"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
async def test_only_get_and_head_are_answered(house: House, method: str) -> None:
    """R45, W-42."""
    seen = await house.ask(CHAIN, method=method)

    assert (seen.status, seen.headers["allow"]) == (405, "GET, HEAD")
    assert seen.json["code"] == "method_not_allowed"
    assert house.vendor.asked == []


@pytest.mark.parametrize(
    ("path", "query", "status"),
    [
        ("http://evil.example/v3/x", "", 400),
        ("//evil.example/v3/x", "", 400),
        ("/v3/../../etc/passwd", "", 400),
        ("/v3/trades/%2e%2e/x", "", 400),
        ("/v3/trades/a%2fb", "", 400),
        ("/v3/trades/a\\b", "", 400),
        ("/v3/trades/a%00", "", 400),
        ("/v3/trades/\xff", "", 400),
        ("/v3/trades/" + "A" * 4_000, "", 400),
        ("/v3/trades/A", "a=%0d%0aHost: evil", 400),
        ("/v3/trades/A", "a=" + "1" * 20_000, 400),
        ("/metrics", "", 404),
        ("/api/massive/metrics", "", 404),
        ("/api/massive", "", 404),
    ],
)
async def test_a_hostile_target_reaches_nobody(
    house: House, path: str, query: str, status: int
) -> None:
    """R45, W-42; the long table is in test_routes."""
    seen = await house.ask(path, query)

    assert seen.status == status
    assert seen.json["code"] in {"invalid_request", "not_found"}
    assert house.vendor.asked == []


async def test_the_peer_is_the_address_behind_the_request(house: House) -> None:
    await house.ask(CHAIN, headers={"x-forwarded-for": "127.0.0.1"})

    assert house.door.peers == ["192.0.2.1"]


# how much


async def test_the_1201st_request_of_a_minute_is_refused_and_the_next_minute_is_free(
    house: House,
) -> None:
    """R28, C14."""
    for _ in range(1200):
        assert (await house.ask(CHAIN)).status == 200

    seen = await house.ask(CHAIN)
    assert (seen.status, seen.json["code"]) == (429, "throttled")
    assert "maximum requests per minute" in seen.json["error"]
    assert 1 <= int(seen.headers["retry-after"]) <= 5
    assert (
        await house.ask("/v3/trades/A", headers={"authorization": "Bearer bob-s"})
    ).status == 200

    house.clock.advance(61)
    assert (await house.ask(CHAIN)).status == 200


async def test_the_raw_proxy_has_its_own_lower_bucket() -> None:
    """C14: 300 a minute, of the client's 1200."""
    async with Flights[str, Answer]() as flights:
        house = House(flights, raw=300)
        statuses = [(await house.ask(CHAIN)).status for _ in range(301)]

    assert (statuses.count(200), statuses[-1]) == (300, 429)


async def test_a_keys_own_rate_replaces_the_common_one(house: House) -> None:
    bob = {"authorization": "Bearer bob-s"}
    paths = ["/v3/trades/A", "/metrics", "/v3/trades/A", "/v3/trades/A"]
    statuses = [(await house.ask(path, headers=bob)).status for path in paths]

    assert statuses == [200, 404, 200, 429], "what is refused counts too"


# what is told


async def test_each_request_is_told_once(house: House) -> None:
    """R261: endpoint class and client, from closed sets."""
    await house.ask(CHAIN)
    await house.ask(CHAIN)
    await house.ask("/metrics")

    told = [(r.endpoint, r.client, r.status, r.how, r.code) for r in house.ledger.records]
    assert told == [
        (Endpoint.OPTIONS_CHAIN, "alice", 200, "miss", None),
        (Endpoint.OPTIONS_CHAIN, "alice", 200, "hit", None),
        (Endpoint.OTHER, "alice", 404, None, "not_found"),
    ]
    assert house.ledger.records[0].sent_bytes == len(b'{"results":[1],"status":"OK"}')
    assert house.ledger.records[0].request_id == "f" * 32
    assert house.ledger.records[0].peer == "192.0.2.1"


async def test_what_each_client_costs_the_plan_is_counted_for_a_minute(house: House) -> None:
    """R261: hits and joined requests cost nothing."""
    for _ in range(3):
        await house.ask(CHAIN)
        await house.ask("/v3/trades/A", headers={"authorization": "Bearer bob-s"})

    assert house.proxy.spent() == {"alice": 1, "bob": 3}
    house.clock.advance(61)
    assert house.proxy.spent() == {}


# whatever arrives

BYTES = st.one_of(
    st.binary(max_size=24),
    st.text("/.%2eEfF5cC30;:,\\?#&= av13X", max_size=24).map(str.encode),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    head=st.sampled_from([b"", b"/v3/", b"/api/massive/", b"/v1/a/"]),
    tail=BYTES,
    query=BYTES,
    method=st.sampled_from(["GET", "HEAD", "POST"]),
)
async def test_whatever_arrives_the_reply_is_well_formed_and_upstream_sees_only_its_own(
    house: House, head: bytes, tail: bytes, query: bytes, method: str
) -> None:
    """W-42."""
    house.clock.advance(61)
    house.vendor.asked.clear()

    seen = await house.ask(head + tail, query, method=method)

    assert seen.status in {200, 400, 404, 405}
    if method != "HEAD":
        assert seen.json
    for path, asked in house.vendor.asked:
        assert path.startswith(("/v1/", "/v2/", "/v3/", "/vX/"))
        assert (head + tail).endswith(path.encode())
        assert ".." not in path
        assert set(asked.encode()) <= set(query)
