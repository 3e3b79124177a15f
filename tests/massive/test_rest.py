"""The edge against a vendor on the loopback that can do everything wrong."""

import asyncio
import contextlib
import gzip
import re
import zlib
from collections.abc import AsyncGenerator, Callable, Mapping
from email.utils import formatdate

import msgspec
import pytest

from onetape.core.recovery import BreakerState
from onetape.errors import (
    ConfigInvalid,
    InvalidRequest,
    UpstreamDown,
    UpstreamGarbled,
    UpstreamThrottled,
    UpstreamTimeout,
)
from onetape.massive.rest import MassiveREST, RestPolicy
from onetape.massive.wire_rest import Endpoint
from onetape.testing import ManualClock

QUOTES = "/v3/quotes/O:SPY251219C00650000"
PAGE = b'{"status":"OK","request_id":"6a7e","results":[]}'


def answer(
    status: int = 200, body: bytes = PAGE, *, kind: str = "application/json", **headers: str
) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


STALL, RESET, HANG_UP = b"stall", b"reset", b"hang up"
CUT = answer()[:-5] + HANG_UP
CHUNKED = b"HTTP/1.1 200 X\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


Headers = Callable[[], Mapping[str, str]]


class Vendor:
    """Answers with the script, and with its last entry for ever; keeps what it was asked."""

    def __init__(self, *script: bytes) -> None:
        self.script = list(script)
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []  # of the requests that name a length
        self.waiting = 0
        self.tasks: set[asyncio.Task[None]] = set()
        self.abandoned = asyncio.Event()
        self.release = asyncio.Event()  # ends the stalls

    @property
    def lines(self) -> list[bytes]:
        return [head.split(b"\r\n")[0] for head in self.heads]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await self.reply(await reader.readuntil(b"\r\n\r\n"), reader, writer):
                pass
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        self.tasks.discard(task)

    async def reply(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        self.heads.append(head)
        if length := re.search(rb"(?i)content-length: (\d+)", head):
            self.bodies.append(await reader.readexactly(int(length[1])))
        script = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if script == RESET:
            writer.transport.abort()
            return False
        if script == STALL:
            self.waiting += 1
            await self.stall(reader)
            script = answer()
        writer.write(script.removesuffix(HANG_UP))
        await writer.drain()
        return not script.endswith(HANG_UP)

    async def stall(self, reader: asyncio.StreamReader) -> None:
        gone = asyncio.ensure_future(reader.read(1))  # noqa: TID251 - raced below
        released = asyncio.ensure_future(self.release.wait())  # noqa: TID251 - raced below
        await asyncio.wait({gone, released}, return_when=asyncio.FIRST_COMPLETED)
        released.cancel()
        if gone.done():
            self.abandoned.set()
        gone.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await gone


class Rig:
    """A vendor, a client, a clock that only sleeps move, and the naps taken."""

    def __init__(self, vendor: Vendor, port: int, policy: RestPolicy, headers: Headers) -> None:
        self.vendor = vendor
        self.clock = ManualClock()
        self.naps: list[float] = []
        self.url = f"http://127.0.0.1:{port}/base/"
        self.rest = MassiveREST(
            base_url=self.url,
            headers=headers,
            clock=self.clock,
            policy=policy,
            sleep=self.sleep,
            random=lambda: 1.0,
        )

    async def sleep(self, seconds: float) -> None:
        self.naps.append(round(seconds, 6))
        self.clock.advance(seconds)
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def rigged(
    *script: bytes,
    policy: RestPolicy | None = None,
    headers: Headers = lambda: {"Authorization": "Bearer k"},
) -> AsyncGenerator[Rig]:
    vendor = Vendor(*script)
    server = await asyncio.start_server(vendor.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    rig = Rig(vendor, port, policy or RestPolicy(), headers)
    try:
        async with rig.rest:
            yield rig
    finally:
        vendor.release.set()
        server.close()
        if vendor.tasks:  # they see that the client left
            await asyncio.wait(vendor.tasks, timeout=2)


# bytes


async def test_path_and_query_reach_the_vendor_as_they_are() -> None:
    """R79, W-19: behind the base path, encoded forms untouched."""
    path = "/v3/snapshot/options/I%3aSPX/O:SPXW251219C06000000"
    query = "ticker.any_of=A%2CB&x=%7e+%20&timestamp.gte=1&y=a/b?c&apos='%22"
    async with rigged(answer()) as rig:
        await rig.rest.get(path, query)
        await rig.rest.get("/v3/../x//y/.")

    assert rig.vendor.lines == [
        f"GET /base{path}?{query} HTTP/1.1".encode(),
        b"GET /base/v3/../x//y/. HTTP/1.1",
    ]


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("v1/x", ""),
        ("", ""),
        ("/v1/a b", ""),
        ("/v1/a\r\nX: y", ""),
        ("/v1/é", ""),
        ("/v1/a?b", ""),
        ("/v1/a#b", ""),
        ("/v1", "a=b c"),
        ("/v1", "a=\x00"),
        ("/v1", "a=b#c"),
    ],
)
async def test_what_is_not_encoded_is_refused_before_it_travels(path: str, query: str) -> None:
    async with rigged(answer()) as rig:
        with pytest.raises(InvalidRequest):
            await rig.rest.get(path, query)
        assert rig.vendor.heads == []


async def test_the_answer_comes_as_the_vendor_wrote_it() -> None:
    body = b' {"request_id" : "6a7e", "n":1.50,"big":1645119125346243600} '
    async with rigged(answer(body=body, kind="application/json; charset=utf-8")) as rig:
        response = await rig.rest.get(QUOTES)

    assert response.body == body
    assert (response.status, response.attempts, response.request_id) == (200, 1, "6a7e")
    assert response.content_type == "application/json; charset=utf-8"
    assert response.received_ns == rig.clock.now_ns()


async def test_packed_answers_are_unpacked() -> None:
    async with rigged(answer(body=gzip.compress(PAGE), Content_Encoding="gzip")) as rig:
        assert (await rig.rest.get(QUOTES)).body == PAGE
    assert b"gzip" in rig.vendor.heads[0]


async def test_the_request_id_of_the_header_comes_first() -> None:
    async with rigged(answer(X_Request_Id="ffff")) as rig:
        assert (await rig.rest.get(QUOTES)).request_id == "ffff"


async def test_headers_are_read_anew_for_every_attempt() -> None:
    """R82, W-08."""
    keys = iter(["one", "two"])
    headers = lambda: {"Authorization": f"Bearer {next(keys)}"}  # noqa: E731
    async with rigged(answer(503), answer(), headers=headers) as rig:
        await rig.rest.get(QUOTES)
    assert b"Bearer one" in rig.vendor.heads[0]
    assert b"Bearer two" in rig.vendor.heads[1]


async def test_cookies_are_not_kept_and_redirects_not_followed() -> None:
    script = answer(302, Location="http://127.0.0.1:1/elsewhere", Set_Cookie="a=b")
    async with rigged(script) as rig:
        assert (await rig.rest.get(QUOTES)).status == 302
        await rig.rest.get(QUOTES)
    assert b"cookie" not in rig.vendor.heads[1].lower()


# retry


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
async def test_the_callers_faults_are_returned_at_once(status: int) -> None:
    """R83, W-15."""
    body = b'{"status":"ERROR","error":"why"}'
    async with rigged(answer(status, body)) as rig:
        response = await rig.rest.get(QUOTES)
        assert (response.status, response.body, response.attempts) == (status, body, 1)
        assert len(rig.vendor.heads) == 1


@pytest.mark.parametrize(
    "fault",
    [
        answer(500),
        answer(503, b"<html>", kind="text/html"),
        answer(408, b""),
        RESET,
        CUT,
        CHUNKED + b'5\r\n{"a":' + HANG_UP,
        answer(body=b'{"status":"OK"'),
        answer(body=b""),
        answer(body=gzip.compress(PAGE)[:-12], Content_Encoding="gzip"),
        b"SSH-2.0-OpenSSH_9.9\r\n\r\n" + HANG_UP,
    ],
)
async def test_faults_of_the_vendor_are_retried_with_growing_jittered_waits(fault: bytes) -> None:
    """R83, R84, W-17: 503 twice, then 200, is three calls; waits of at most 1 and 2 s."""
    async with rigged(fault, fault, answer()) as rig:
        response = await rig.rest.get(QUOTES)

    assert (response.status, response.body, response.attempts) == (200, PAGE, 3)
    assert rig.naps == [1, 2]


async def test_the_last_answer_is_returned_when_the_attempts_are_over() -> None:
    """R83, R91."""
    async with rigged(answer(500, b"a"), answer(502, b"b"), answer(504, b"gateway")) as rig:
        response = await rig.rest.get(QUOTES)
    assert (response.status, response.body, response.attempts) == (504, b"gateway", 3)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (RESET, UpstreamDown),
        (CUT, UpstreamGarbled),
        (answer(body=b"<html>"), UpstreamGarbled),
        (b"nonsense\r\n\r\n" + HANG_UP, UpstreamGarbled),
    ],
)
async def test_only_the_lack_of_an_answer_is_raised(fault: bytes, error: type[Exception]) -> None:
    async with rigged(fault) as rig:
        with pytest.raises(error) as caught:
            await rig.rest.get(QUOTES)
        assert len(rig.vendor.heads) == 3
    assert "127.0.0.1" not in str(caught.value)


async def test_nobody_there_is_upstream_down() -> None:
    async with rigged(answer()) as rig:
        pass
    async with rig.rest:
        with pytest.raises(UpstreamDown):
            await rig.rest.get(QUOTES)


async def test_no_retry_outlasts_the_deadline() -> None:
    async with rigged(answer(503)) as rig:
        response = await rig.rest.get(QUOTES, deadline_s=1.5)
        assert (response.status, response.attempts, rig.naps) == (503, 2, [1])


@pytest.mark.parametrize("status", [200, 503])
async def test_the_vendors_own_wait_counts_for_a_failing_vendor_too(status: int) -> None:
    async with rigged(answer(503, Retry_After="7"), answer(status)) as rig:
        await rig.rest.get(QUOTES)
    assert rig.naps[0] == 7


async def test_plain_text_and_errors_need_not_be_json() -> None:
    async with rigged(
        answer(404, b"404 page not found"), answer(body=b"a,b", kind="text/csv")
    ) as rig:
        assert (await rig.rest.get(QUOTES)).body == b"404 page not found"
        assert (await rig.rest.get(QUOTES)).body == b"a,b"


@pytest.mark.parametrize(("end", "attempts"), [(b"]", 1), (b"]}", 3)])
async def test_of_a_large_body_only_the_ends_are_checked(end: bytes, attempts: int) -> None:
    body = b"[" + b"1," * 600_000 + b"1" + end
    async with rigged(answer(body=body)) as rig:
        if attempts == 1:
            assert (await rig.rest.get(QUOTES)).body == body
        else:
            with pytest.raises(UpstreamGarbled):
                await rig.rest.get(QUOTES)
        assert len(rig.vendor.heads) == attempts


@pytest.mark.parametrize("packed", [False, True])
async def test_a_body_larger_than_we_read_is_garbled_and_not_asked_for_again(packed: bool) -> None:
    body = b"x" * 3_000_000
    script = answer(body=body, kind="text/plain")
    if packed:
        script = answer(body=zlib.compress(body), kind="text/plain", Content_Encoding="deflate")
    async with rigged(script, policy=RestPolicy(max_body_bytes=1_000_000)) as rig:
        with pytest.raises(UpstreamGarbled, match="larger"):
            await rig.rest.get(QUOTES)
        assert len(rig.vendor.heads) == 1


# post


async def test_a_post_carries_json_and_comes_back_as_it_is() -> None:
    """R81."""
    async with rigged(answer(body=b'{"token":"t"}'), answer(404, b"no")) as rig:
        response = await rig.rest.post("/api/ws-token", b'{"a":1}')
        assert (response.status, response.body, response.attempts) == (200, b'{"token":"t"}', 1)
        assert (await rig.rest.post("/api/ws-token")).status == 404

    head = rig.vendor.heads[0]
    assert head.startswith(b"POST /base/api/ws-token HTTP/1.1\r\n")
    assert b"Content-Type: application/json\r\n" in head
    assert b"Authorization: Bearer k\r\n" in head
    assert rig.vendor.bodies == [b'{"a":1}', b""]


@pytest.mark.parametrize("status", [408, 429, 500, 503])
async def test_a_post_is_made_once_whatever_is_answered(status: int) -> None:
    """R81, W-15."""
    async with rigged(answer(status, b"")) as rig:
        response = await rig.rest.post("/api/ws-token")
        assert (response.status, len(rig.vendor.heads), rig.naps) == (status, 1, [])


@pytest.mark.parametrize(
    ("fault", "error"),
    [(RESET, UpstreamDown), (CUT, UpstreamGarbled), (HANG_UP, UpstreamDown)],
)
async def test_a_post_is_made_once_when_nothing_is_answered(
    fault: bytes, error: type[Exception]
) -> None:
    """R81: nobody knows what became of it."""
    async with rigged(fault) as rig:
        with pytest.raises(error, match="1 try"):
            await rig.rest.post("/api/ws-token")
        assert len(rig.vendor.heads) == 1


async def test_a_post_keeps_the_rules_of_every_request() -> None:
    policy = RestPolicy(breaker_failures=1, timeout_s=0.05)
    async with rigged(answer(429, Retry_After="20"), STALL, policy=policy) as rig:
        await rig.rest.post("/a")
        with pytest.raises(UpstreamThrottled):
            await rig.rest.post("/a", deadline_s=10)
        with pytest.raises(UpstreamTimeout):
            await rig.rest.post("/a")
        assert rig.naps == [20]
        with pytest.raises(UpstreamDown, match="the vendor keeps failing at other"):
            await rig.rest.post("/a")
        with pytest.raises(InvalidRequest):
            await rig.rest.post("/a?b=c")
        assert len(rig.vendor.heads) == 2
        assert rig.rest.statistics().requests == 4


# a gateway in the vendor's place


async def test_a_gateways_marks_are_told() -> None:
    """The code of an error, and of a copy how old it is and why there is no newer one."""
    stale = answer(Age="17", X_Onetape_Stale_Reason="upstream_down", X_Onetape_Simulated="true")
    async with rigged(
        stale, answer(404, X_Onetape_Code="not_found"), answer(Age="x"), answer(Age="9" * 400)
    ) as rig:
        copy = await rig.rest.get(QUOTES)
        assert (copy.age_s, copy.stale_reason, copy.simulated) == (17, "upstream_down", True)
        assert (await rig.rest.get(QUOTES)).code == "not_found"
        for _ in range(2):
            bare = await rig.rest.get(QUOTES)
            assert (bare.age_s, bare.stale_reason, bare.code) == (None, None, None)


async def test_errors_call_the_other_side_by_its_name_and_know_its_mount() -> None:
    async with rigged(RESET) as rig:
        rest = MassiveREST(
            base_url=rig.url,
            headers=dict,
            clock=rig.clock,
            policy=RestPolicy(attempts=1),
            peer="the gateway",
            mount="/api/massive",
        )
        async with rest:
            with pytest.raises(UpstreamDown, match="the gateway cannot be reached"):
                await rest.get("/api/massive" + QUOTES)
            assert list(rest.statistics().breakers) == [Endpoint.QUOTES]


async def test_a_request_may_bring_its_own_headers() -> None:
    """R82: read anew for every attempt too."""
    keys = iter(["one", "two"])
    own = lambda: {"X-Key": next(keys)}  # noqa: E731
    async with rigged(answer(503), answer()) as rig:
        await rig.rest.get(QUOTES, headers=own)
    assert [b"X-Key: one" in rig.vendor.heads[0], b"X-Key: two" in rig.vendor.heads[1]] == [
        True
    ] * 2
    assert b"Bearer" not in rig.vendor.heads[0]


# time


async def test_a_silent_vendor_is_a_time_out() -> None:
    """R90."""
    async with rigged(STALL, policy=RestPolicy(timeout_s=0.05)) as rig:
        with pytest.raises(UpstreamTimeout):
            await rig.rest.get(QUOTES)
        assert len(rig.vendor.heads) == 3


async def test_cancelling_the_caller_cancels_the_request_and_blames_nobody() -> None:
    """R89, W-18."""
    async with rigged(STALL, policy=RestPolicy(breaker_failures=1)) as rig:
        caller = asyncio.get_running_loop().create_task(rig.rest.get(QUOTES))
        async with asyncio.timeout(2):
            while not rig.vendor.waiting:
                await asyncio.sleep(0.001)
            caller.cancel()
            with pytest.raises(asyncio.CancelledError):
                await caller
            await rig.vendor.abandoned.wait()
        statistics = rig.rest.statistics()
        assert (statistics.in_flight, statistics.failures) == (0, 0)
        assert statistics.breakers == {Endpoint.QUOTES: BreakerState.CLOSED}


# throttling


@pytest.mark.parametrize(
    ("value", "nap"),
    [("3", 3.0), ("999999", 60.0), (None, 5.0), ("soon", 5.0), ("date", 9.0)],
)
async def test_after_a_429_the_client_waits_as_long_as_the_vendor_says(
    value: str | None, nap: float
) -> None:
    """R85, W-16: both forms, a cap, and a default."""
    async with rigged(answer(429, b""), answer()) as rig:
        if value == "date":
            value = formatdate(rig.clock.now_ns() / 1e9 + 9, usegmt=True)
        rig.vendor.script[0] = answer(429, b"", **({"Retry_After": value} if value else {}))
        response = await rig.rest.get(QUOTES, deadline_s=100)
    assert (response.status, response.attempts, rig.naps) == (200, 2, [nap])


async def test_a_429_that_outlasts_the_deadline_is_returned_with_its_wait() -> None:
    """R87."""
    body = b'{"status":"ERROR","error":"too many"}'
    async with rigged(answer(429, body, Retry_After="45")) as rig:
        response = await rig.rest.get(QUOTES)
    assert (response.status, response.body, response.retry_after_s) == (429, body, 45)
    assert (rig.naps, len(rig.vendor.heads)) == ([], 1)


async def test_everybody_waits_out_a_429_or_is_told_how_long_it_takes() -> None:
    """R85, W-16: a shared cool-down; and a 429 opens no breaker."""
    policy = RestPolicy(breaker_failures=1)
    async with rigged(answer(429, Retry_After="20"), answer(), policy=policy) as rig:
        assert (await rig.rest.get(QUOTES, deadline_s=10)).status == 429
        with pytest.raises(UpstreamThrottled) as caught:
            await rig.rest.get("/v1/marketstatus/now", deadline_s=10)
        assert caught.value.retry_after_s == 20
        assert len(rig.vendor.heads) == 1
        assert rig.rest.statistics().cooling_s == 20

        patient = await rig.rest.get("/v1/marketstatus/now", deadline_s=25)

    assert (patient.status, rig.naps) == (200, [20])


async def test_calls_are_paced() -> None:
    """W-73."""
    policy = RestPolicy(rate_per_s=10, burst=2)
    async with rigged(answer(), policy=policy) as rig:
        for _ in range(4):
            await rig.rest.get(QUOTES)
        assert rig.naps == [0.1, 0.1]
        with pytest.raises(UpstreamThrottled):
            await rig.rest.get(QUOTES, deadline_s=0.05)
        await rig.rest.get(QUOTES)
    assert rig.naps == [0.1] * 3, "the turn that was too late was given back"


async def test_no_more_than_the_allowed_number_is_in_flight() -> None:
    """W-73."""
    async with rigged(STALL, policy=RestPolicy(concurrency=2)) as rig, asyncio.timeout(3):
        async with asyncio.TaskGroup() as tasks:
            for _ in range(5):
                tasks.create_task(rig.rest.get(QUOTES))
            while rig.vendor.waiting < 2:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.02)
            assert (rig.vendor.waiting, rig.rest.statistics().in_flight) == (2, 2)
            with pytest.raises(UpstreamTimeout, match="ahead"):
                await rig.rest.get(QUOTES, deadline_s=0.01)
            rig.vendor.release.set()
        assert len(rig.vendor.heads) == 5


# the breaker


async def test_an_endpoint_that_keeps_failing_is_not_asked_until_a_probe_succeeds() -> None:
    """W-58."""
    policy = RestPolicy(attempts=1, breaker_failures=2, breaker_open_s=10)
    async with rigged(answer(500), RESET, answer(), policy=policy) as rig:
        await rig.rest.get(QUOTES)
        with pytest.raises(UpstreamDown):
            await rig.rest.get(QUOTES)
        with pytest.raises(UpstreamDown, match="keeps failing") as caught:
            await rig.rest.get(QUOTES)
        assert caught.value.retry_after_s == 10
        assert len(rig.vendor.heads) == 2
        assert (await rig.rest.get("/v1/marketstatus/now")).status == 200, "others are asked"

        rig.clock.advance(10)
        assert (await rig.rest.get(QUOTES)).status == 200
        assert rig.rest.statistics().breakers[Endpoint.QUOTES] is BreakerState.CLOSED


async def test_a_breaker_that_opens_between_attempts_leaves_the_answer_we_had() -> None:
    async with rigged(answer(503, b"busy"), policy=RestPolicy(breaker_failures=1)) as rig:
        response = await rig.rest.get(QUOTES)
    assert (response.status, response.body, response.attempts) == (503, b"busy", 1)


@pytest.mark.parametrize("status", [400, 403, 404, 429])
async def test_the_vendors_refusals_open_no_breaker(status: int) -> None:
    policy = RestPolicy(attempts=1, breaker_failures=1)
    async with rigged(answer(status, Retry_After="0"), policy=policy) as rig:
        for _ in range(3):
            assert (await rig.rest.get(QUOTES)).status == status


@pytest.mark.parametrize(("deadline_s", "state"), [(0.02, "closed"), (None, "open")])
async def test_a_caller_in_a_hurry_does_not_blame_the_vendor(
    deadline_s: float | None, state: str
) -> None:
    policy = RestPolicy(attempts=1, timeout_s=0.1, breaker_failures=1)
    async with rigged(STALL, policy=policy) as rig:
        with pytest.raises(UpstreamTimeout):
            await rig.rest.get(QUOTES, deadline_s=deadline_s)
        assert rig.rest.statistics().breakers == {Endpoint.QUOTES: state}


async def test_a_deadline_that_has_passed_asks_nobody() -> None:
    async with rigged(answer()) as rig:
        with pytest.raises(UpstreamTimeout):
            await rig.rest.get(QUOTES, deadline_s=0)
        assert rig.vendor.heads == []


# counting


async def test_everything_is_counted() -> None:
    """R88, R261."""
    async with rigged(answer(503), answer(), answer(429), answer(404), RESET) as rig:
        await rig.rest.get(QUOTES)
        failed_at = rig.clock.now_ns()
        await rig.rest.get(QUOTES)
        with pytest.raises(UpstreamDown):
            await rig.rest.get("/v1/marketstatus/now")
        statistics = rig.rest.statistics()

    assert (statistics.requests, statistics.attempts, statistics.throttled) == (3, 7, 1)
    assert (statistics.failures, statistics.consecutive_failures) == (4, 3)
    assert statistics.per_minute == {"quotes": 4, "market_status": 3}
    assert statistics.last_failure == "upstream_down"
    assert (statistics.last_success_ns or 0) >= failed_at
    assert statistics.latency_p50_s == statistics.latency_p95_s == 0


async def test_before_anything_happened_the_statistics_say_so() -> None:
    async with rigged(answer()) as rig:
        statistics = rig.rest.statistics()
        assert (statistics.latency_p50_s, statistics.last_failure) == (None, None)


# making


@pytest.mark.parametrize("url", ["ftp://a.b", "api.massive.com", "https://", "https://a.b/?k=v"])
def test_a_base_address_that_is_none_is_refused_at_once(url: str) -> None:
    with pytest.raises(ConfigInvalid):
        MassiveREST(base_url=url, headers=dict, clock=ManualClock(), policy=RestPolicy())


async def test_it_is_a_context_manager() -> None:
    rest = MassiveREST(
        base_url="http://127.0.0.1:1", headers=dict, clock=ManualClock(), policy=RestPolicy()
    )
    with pytest.raises(RuntimeError):
        await rest.get(QUOTES)
    await rest.__aexit__(None, None, None)


@pytest.mark.parametrize("field", RestPolicy.__struct_fields__)
def test_a_policy_refuses_what_cannot_be(field: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({field: 0}, RestPolicy)
