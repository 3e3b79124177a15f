"""The client's REST against a gateway that can refuse and fail, and against a real one."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from onetape.client._rest import (
    CLIENT_POLICY,
    MAX_PAGES,
    PEER,
    GatewayREST,
    error_of,
    joined,
    root_of,
)
from onetape.client._tokens import Tokens
from onetape.clock import SystemClock
from onetape.errors import (
    BY_CODE,
    ConfigInvalid,
    FrameTooLarge,
    InvalidRequest,
    MethodNotAllowed,
    NotEntitled,
    NotFound,
    OnetapeError,
    Throttled,
    TokenExpired,
    TokenInvalid,
    TokenRevoked,
    UpstreamDown,
    UpstreamError,
    UpstreamForbidden,
    UpstreamGarbled,
    UpstreamThrottled,
    UpstreamTimeout,
)
from onetape.gateway.app import Gateway
from onetape.gateway.replies import REPLIES
from onetape.massive.rest import MassiveREST, RestPolicy, RestResponse
from onetape.massive.wire_rest import ParamValue
from onetape.simulator.app import Simulator
from onetape.testing import ManualClock, Playground, until

IMPORTED = (Gateway, Simulator)  # in the loop an import would block
NOW = "/v1/marketstatus/now"
PAGE = b'{"status":"OK","request_id":"6a7e","results":[]}'
GONE, STALLED = b"gone", b"stalled"


def reply(status: int = 200, body: bytes = PAGE, **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}"]
    given_names = {name.lower() for name in headers}
    if "content_type" not in given_names:
        lines.append("Content-Type: application/json")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def refusal(status: int, code: str, **headers: str) -> bytes:
    body = {"status": "ERROR", "request_id": "6a7e", "error": "why not", "code": code}
    return reply(status, msgspec.json.encode(body), **headers)


EXPIRED = refusal(403, "token_expired")


class Peer:
    """Mints tokens and answers the rest by script, with its last entry for ever."""

    def __init__(self) -> None:
        self.script: list[bytes | Callable[[str], bytes]] = [reply()]
        self.mint: bytes | None = None  # in place of a token
        self.life_s = 300
        self.minted = 0
        self.asked: list[tuple[str, str | None]] = []  # target, token
        self.released = asyncio.Event()
        self.tasks: set[asyncio.Task[None]] = set()

    @property
    def targets(self) -> list[str]:
        return [target for target, _ in self.asked]

    @property
    def tokens(self) -> list[str | None]:
        return [token for _, token in self.asked]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while (answer := self.answer(await reader.readuntil(b"\r\n\r\n"))) != GONE:
                if answer == STALLED:
                    await self.released.wait()
                    answer = reply()
                writer.write(answer)
                await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        self.tasks.discard(task)

    def answer(self, head: bytes) -> bytes:
        line, *lines = head.decode().split("\r\n")
        method, target, _ = line.split(" ")
        if method == "POST":
            return self.mint or self.token()
        headers = dict(one.lower().split(": ", 1) for one in lines if one)
        self.asked.append((target, headers.get("x-massive-proxy-token")))
        assert "authorization" not in headers
        script = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        return script if isinstance(script, bytes) else script(target)

    def token(self) -> bytes:
        self.minted += 1
        body = {"token": f"token-{self.minted}", "expires_in": self.life_s}
        return reply(200, msgspec.json.encode(body))


class Rig:
    """A gateway, its client, a clock that only sleeps move, and the naps taken."""

    def __init__(self, peer: Peer, url: str, policy: RestPolicy) -> None:
        self.peer = peer
        self.url = url
        self.clock = ManualClock()
        self.naps: list[float] = []
        self.edge = MassiveREST(
            base_url=url, headers=dict, clock=self.clock, policy=policy, sleep=self.sleep, peer=PEER
        )
        self.tokens = Tokens(rest=self.edge, clock=self.clock)
        self.rest = GatewayREST(
            url=url,
            tokens=self.tokens,
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
    *script: bytes | Callable[[str], bytes], policy: RestPolicy = CLIENT_POLICY, path: str = ""
) -> AsyncGenerator[Rig]:
    peer = Peer()
    peer.script = list(script) or peer.script
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
    rig = Rig(peer, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{path}", policy)
    try:
        async with rig.edge, rig.tokens, rig.rest:
            yield rig
    finally:
        peer.released.set()
        server.close()
        if peer.tasks:
            await asyncio.wait(peer.tasks, timeout=2)


# addresses


TARGETS = {
    "/v1/marketstatus/now": "/api/massive/v1/marketstatus/now",
    "v1/marketstatus/now": "/api/massive/v1/marketstatus/now",
    "//v1/marketstatus/now": "/api/massive/v1/marketstatus/now",
    "/v3/x?a=b": "/api/massive/v3/x?a=b",
    "/v3/x?a=http://b": "/api/massive/v3/x?a=http://b",
    "/v3/snapshot/options/I:SPX": "/api/massive/v3/snapshot/options/I:SPX",
    "/v2/last/trade/BRK.B": "/api/massive/v2/last/trade/BRK.B",
    "/api/massive/v3/x": "/api/massive/v3/x",
    "/api/health": "/api/health",
    "/api/market/status?x=1": "/api/market/status?x=1",
    "/apiary": "/api/massive/apiary",
}


@pytest.mark.parametrize("base", ["", "/", "/desk", "/desk/", "/api/massive", "/desk/api/massive/"])
async def test_the_prefix_is_never_lost(base: str) -> None:
    """R79, W-19."""
    async with rigged(path=base) as rig:
        for path in TARGETS:
            await rig.rest.get(path)
    own = "/desk" if "desk" in base else ""
    assert rig.peer.targets == [own + target for target in TARGETS.values()]


@pytest.mark.parametrize(
    "path", ["http://evil.example/v1", "//a b", "/v1/é", "/v1/a\r\nb", "/v1#x"]
)
async def test_what_is_no_path_is_refused_before_it_travels(path: str) -> None:
    async with rigged() as rig:
        with pytest.raises(InvalidRequest):
            await rig.rest.get(path)
        assert rig.peer.asked == []


@pytest.mark.parametrize(
    "url",
    [
        "",
        "gateway:3000",
        "ws://gateway",
        "http://",
        "http://h:port",
        "http://h:0",
        "http://user:secret-word@h",
        "http://h/?token=secret-word",
        "http://h/#secret-word",
        "http://[::1",
    ],
)
def test_an_address_that_is_none_is_refused_and_not_repeated(url: str) -> None:
    """W-14."""
    with pytest.raises(ConfigInvalid) as caught:
        root_of(url)
    assert "secret-word" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("url", ["http://h:1", " http://h:1/ ", "http://h:1/api/massive/"])
def test_an_address_has_one_form(url: str) -> None:
    assert root_of(url) == "http://h:1"


def test_parameters_join_the_query_that_a_path_has() -> None:
    assert joined("/v3/x?b=1", {"a": 2}) == ("/api/massive/v3/x", "b=1&a=2")
    assert joined("/v3/x?", {}) == ("/api/massive/v3/x", "")


# tokens


async def test_every_attempt_shows_the_token_of_the_moment() -> None:
    """R82, W-08, C6."""

    async def renewing(seconds: float) -> None:
        await rig.tokens.refresh_token()

    async with (
        rigged(reply(503), reply()) as rig,
        GatewayREST(url=rig.url, tokens=rig.tokens, clock=rig.clock, sleep=renewing) as rest,
    ):
        await rest.get(NOW)
    assert rig.peer.tokens == ["token-1", "token-2"]


@pytest.mark.parametrize(
    "refused",
    [reply(401, b""), *(refusal(403, f"token_{x}") for x in ("expired", "invalid", "revoked"))],
)
async def test_a_refused_token_is_renewed_once_and_the_request_made_again(refused: bytes) -> None:
    """R82, R86, C7, W-08."""
    async with rigged(refused, reply()) as rig:
        response = await rig.rest.get(NOW)
        assert response.body == PAGE
        assert rig.peer.tokens == ["token-1", "token-2"]
        assert rig.rest.statistics().refreshes == 1
        assert rig.naps == []


@pytest.mark.parametrize(("status", "error"), [(401, TokenInvalid), (403, TokenExpired)])
async def test_a_loop_of_refusals_ends_after_one_refresh(
    status: int, error: type[OnetapeError]
) -> None:
    """R86."""
    async with rigged(EXPIRED if status == 403 else reply(401)) as rig:
        with pytest.raises(error, match=f"status {status}"):
            await rig.rest.get(NOW)
        assert (len(rig.peer.asked), rig.peer.minted) == (2, 2)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (refusal(403, "upstream_forbidden"), UpstreamForbidden),
        (reply(403, b'{"status":"NOT_AUTHORIZED","message":"upgrade"}'), UpstreamForbidden),
        (
            reply(403, b'{"code":"token_expired"}', X_Onetape_Code="upstream_forbidden"),
            UpstreamForbidden,
        ),
        (refusal(403, "not_entitled"), NotEntitled),
    ],
)
async def test_a_403_that_is_not_about_the_token_renews_nothing(
    answer: bytes, error: type[OnetapeError]
) -> None:
    """R86, C7."""
    async with rigged(answer) as rig:
        with pytest.raises(error):
            await rig.rest.get(NOW)
        assert (len(rig.peer.asked), rig.peer.minted) == (1, 1)


async def test_a_burst_of_refusals_mints_once() -> None:
    """R74, W-09."""

    async with rigged() as rig:
        await rig.tokens.ensure_token()
        rig.peer.script = [*([EXPIRED] * 30), reply()]
        async with asyncio.TaskGroup() as tasks:
            calls = [tasks.create_task(rig.rest.get(NOW)) for _ in range(30)]

        assert all(call.result().status == 200 for call in calls)
        assert (len(rig.peer.asked), rig.peer.minted) == (60, 2)


async def test_a_newer_token_that_is_refused_too_is_renewed() -> None:
    """The token was renewed while the request waited; the one shown is what counts."""

    async def renewing(seconds: float) -> None:
        await rig.tokens.refresh_token()

    async with (
        rigged(reply(503), EXPIRED, reply()) as rig,
        GatewayREST(url=rig.url, tokens=rig.tokens, clock=rig.clock, sleep=renewing) as rest,
    ):
        assert (await rest.get(NOW)).status == 200
    assert rig.peer.tokens == ["token-1", "token-2", "token-3"]


async def test_a_token_that_ended_while_the_request_waited_is_renewed() -> None:
    async with rigged(refusal(429, "throttled", Retry_After="12"), EXPIRED, reply()) as rig:
        rig.peer.life_s = 10
        assert (await rig.rest.get(NOW)).status == 200
        assert rig.naps == [12]
    assert rig.peer.tokens == ["token-1", "token-1", "token-2"]


async def test_a_revoked_credential_is_told_as_such() -> None:
    async with rigged(refusal(403, "token_revoked")) as rig:
        await rig.tokens.ensure_token()
        rig.peer.mint = refusal(403, "token_revoked")
        with pytest.raises(TokenRevoked):
            await rig.rest.get(NOW)
        assert len(rig.peer.asked) == 1


async def test_the_mint_counts_towards_the_deadline() -> None:
    async with rigged() as rig:
        rig.peer.mint = STALLED
        with pytest.raises(UpstreamTimeout):
            await rig.rest.get(NOW, deadline_s=0.02)
        assert rig.peer.asked == []


# retry


@pytest.mark.parametrize(("status", "calls"), [(400, 1), (404, 1), (405, 1), (413, 1), (422, 1)])
async def test_the_callers_faults_are_not_retried(status: int, calls: int) -> None:
    """R83, W-15."""
    async with rigged(reply(status)) as rig:
        with pytest.raises(OnetapeError):
            await rig.rest.get(NOW)
        assert (len(rig.peer.asked), rig.naps) == (calls, [])


@pytest.mark.parametrize("fault", [reply(503), reply(500), reply(408), GONE])
async def test_two_faults_and_a_good_answer_are_three_calls(fault: bytes) -> None:
    """R83, R84."""
    async with rigged(fault, fault, reply()) as rig:
        response = await rig.rest.get(NOW)
        assert (response.status, response.attempts, rig.naps) == (200, 3, [1, 2])


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (refusal(502, "upstream_down"), UpstreamDown),
        (refusal(504, "upstream_timeout"), UpstreamTimeout),
        (reply(500, b"<html>", Content_Type="text/html"), UpstreamDown),
        (GONE, UpstreamDown),
        (reply(body=b"<html>"), UpstreamGarbled),
    ],
)
async def test_after_three_tries_the_last_error_surfaces(
    fault: bytes, error: type[OnetapeError]
) -> None:
    """R87, R91: it says how often, and never 'undefined'."""
    async with rigged(fault) as rig:
        with pytest.raises(error) as caught:
            await rig.rest.get(NOW)
        assert len(rig.peer.asked) == 3
    text = str(caught.value)
    assert "undefined" not in text
    assert "None" not in text
    assert "vendor" not in text
    if fault not in {GONE, reply(body=b"<html>")}:
        assert f"status {fault[9:12].decode()}" in text
        assert "3 tries" in text


async def test_three_429s_are_an_error_that_says_how_long_to_wait() -> None:
    """R85, R87."""
    async with rigged(refusal(429, "upstream_throttled", Retry_After="2")) as rig:
        with pytest.raises(UpstreamThrottled, match="status 429, request 6a7e, 3 tries") as caught:
            await rig.rest.get(NOW)
        assert (rig.naps, caught.value.retry_after_s) == ([2, 2], 2)


@pytest.mark.parametrize("header", [None, "soon"])
async def test_a_429_that_names_no_wait_has_one_all_the_same(header: str | None) -> None:
    """R85."""
    headers = {"Retry_After": header} if header else {}
    async with rigged(refusal(429, "throttled", **headers)) as rig:
        with pytest.raises(Throttled) as caught:
            await rig.rest.get(NOW)
        assert (rig.naps, caught.value.retry_after_s) == ([5, 5], 5)


@pytest.mark.parametrize(("value", "nap"), [("3", 3), ("date", 9), ("86400", 60)])
async def test_both_forms_of_retry_after_are_kept_and_capped(value: str, nap: float) -> None:
    """R85, W-16."""
    async with rigged(reply()) as rig:
        if value == "date":
            value = formatdate(rig.clock.now_ns() / 1e9 + 9, usegmt=True)
        rig.peer.script = [reply(429, Retry_After=value), reply()]
        assert (await rig.rest.get(NOW, deadline_s=100)).status == 200
        assert rig.naps == [nap]


async def test_requests_beside_a_throttled_one_wait_too() -> None:
    """R85, W-16."""
    async with rigged(refusal(429, "throttled", Retry_After="20")) as rig:
        with pytest.raises(Throttled):
            await rig.rest.get(NOW, deadline_s=10)
        with pytest.raises(UpstreamThrottled, match="the gateway asked us to wait") as caught:
            await rig.rest.get("/v3/quotes/O:SPY251219C00650000", deadline_s=10)
        assert caught.value.retry_after_s == 20
        assert len(rig.peer.asked) == 1


async def test_a_silent_gateway_is_a_time_out() -> None:
    """R90."""
    policy = msgspec.structs.replace(CLIENT_POLICY, timeout_s=0.03)
    async with rigged(STALLED, policy=policy) as rig:
        with pytest.raises(UpstreamTimeout, match="the gateway did not answer in time"):
            await rig.rest.get(NOW)


async def test_the_defaults_are_those_of_the_requirements() -> None:
    """R83, R84, R85, R90."""
    policy = CLIENT_POLICY
    assert (policy.attempts, policy.timeout_s, policy.retry_after_cap_s) == (3, 10, 60)
    assert (policy.backoff_base_s, policy.throttle_s) == (1, 5)


async def test_cancelling_a_caller_cancels_its_request_alone() -> None:
    """R89, W-18."""
    async with rigged(STALLED) as rig, asyncio.TaskGroup() as tasks:
        first = tasks.create_task(rig.rest.get(NOW))
        second = tasks.create_task(rig.rest.get(NOW))
        await until(lambda: len(rig.peer.asked) == 2)
        first.cancel()
        await asyncio.wait([first])
        rig.peer.released.set()
        assert (await second).status == 200
        assert first.cancelled()


# errors


def response(status: int, body: bytes = b"", **fields: Any) -> RestResponse:
    defaults: dict[str, Any] = {
        "content_type": "application/json",
        "request_id": None,
        "retry_after_s": None,
        "received_ns": 0,
        "attempts": 1,
    }
    return RestResponse(status=status, body=body, **{**defaults, **fields})


@pytest.mark.parametrize("code", sorted(BY_CODE))
@pytest.mark.parametrize("place", ["body", "header"])
def test_every_code_is_raised_as_the_error_it_names(code: str, place: str) -> None:
    """R87."""
    status = REPLIES[code].http_status
    answer = response(status, b'{"error":"why not"}', code=code)
    if place == "body":
        answer = response(status, msgspec.json.encode({"error": "why not", "code": code}))
    error = error_of(answer)
    assert type(error) is BY_CODE[code]
    assert str(error) == f"why not (status {status})"


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (101, UpstreamGarbled),
        (302, UpstreamGarbled),
        (400, InvalidRequest),
        (401, TokenInvalid),
        (403, UpstreamForbidden),
        (404, NotFound),
        (405, MethodNotAllowed),
        (408, UpstreamTimeout),
        (413, FrameTooLarge),
        (418, InvalidRequest),
        (422, InvalidRequest),
        (429, UpstreamThrottled),
        (500, UpstreamDown),
        (504, UpstreamTimeout),
        (599, UpstreamDown),
    ],
)
@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b'{"code":"newer_than_we"}', b'{"code":17}', b"\xff", b"null", b'{"error":1}'],
)
def test_without_a_code_the_status_tells(
    status: int, body: bytes, error: type[OnetapeError]
) -> None:
    found = error_of(response(status, body, request_id="6a7e"))
    assert type(found) is error
    assert str(found) == f"the gateway refused the request (status {status}, request 6a7e)"


def test_an_errors_text_is_short_and_harmless() -> None:
    """W-14: and what a stranger between us and the gateway says is not repeated."""
    long = msgspec.json.encode({"code": "internal", "error": "a\x1b[31m\r\n" + "x" * 5000})
    text = str(error_of(response(500, long, request_id="\x1b]0;" + "y" * 5000)))
    assert text.isprintable()
    assert len(text) < 500

    echo = msgspec.json.encode({"error": "x-massive-proxy-token: canary"})
    assert "canary" not in str(error_of(response(502, echo)))
    assert "canary" not in str(error_of(response(502, b"x-massive-proxy-token: canary")))


async def test_a_vendors_error_has_its_words_and_its_request_id() -> None:
    body = b'{"status":"NOT_FOUND","request_id":"beef","message":"no such ticker"}'
    async with rigged(reply(404, body, X_Onetape_Code="not_found")) as rig:
        with pytest.raises(NotFound) as caught:
            await rig.rest.get("/v3/reference/options/contracts/O:X")
    assert str(caught.value) == "no such ticker (status 404, request beef)"


# pages


def paged(*next_urls: str | None) -> list[bytes]:
    return [
        reply(200, msgspec.json.encode({"results": [number], "next_url": url} if url else {}))
        for number, url in enumerate(next_urls)
    ]


async def walk(rig: Rig, path: str = "/v3/trades/O:X", **kwargs: Any) -> list[bytes]:
    return [page.body async for page in rig.rest.pages(path, {"limit": 2}, **kwargs)]


@pytest.mark.parametrize("base", ["", "/desk"])
async def test_pages_are_followed_by_their_cursor_alone(base: str) -> None:
    """R79: the next page's address is whole; parameters are not sent again."""
    async with rigged(path=base) as rig:
        root = rig.url.removesuffix("/desk") + "/api/massive/v3/trades/O:X"
        rig.peer.script = list(paged(f"{root}?cursor=abc%3D", f"{root}/moved?cursor=d&x=%7e", None))
        assert len(await walk(rig)) == 3
    assert rig.peer.targets == [
        base + "/api/massive/v3/trades/O:X?limit=2",
        base + "/api/massive/v3/trades/O:X?cursor=abc%3D",
        base + "/api/massive/v3/trades/O:X/moved?cursor=d&x=%7e",
    ]


@pytest.mark.parametrize(
    "next_url",
    [
        "https://{netloc}/api/massive/v3/x?cursor=a",
        "http://evil.example/api/massive/v3/x?cursor=a",
        "http://{netloc}@evil.example/api/massive/v3/x?cursor=a",
        "http://127.0.0.1:1/api/massive/v3/x?cursor=a",
        "http://{netloc}/api/ws-token?cursor=a",
        "http://{netloc}/api/massive",
        "/api/massive/v3/x?cursor=a",
        "//evil.example/api/massive/v3/x",
        "http://[::1/api/massive/v3/x",
        "http://{netloc}:99999/api/massive/v3/x",
        "cursor=a",
    ],
)
async def test_a_next_page_elsewhere_is_refused(next_url: str) -> None:
    """R79: a token is shown to the gateway alone."""
    async with rigged() as rig:
        netloc = rig.url.removeprefix("http://")
        rig.peer.script = list(paged(next_url.format(netloc=netloc)))
        with pytest.raises(UpstreamGarbled):
            await walk(rig)
        assert len(rig.peer.asked) == 1
        assert len(await walk(rig, max_pages=1)) == 1, "it need not be good if it is not wanted"


async def test_as_many_pages_as_wanted_are_asked_for() -> None:
    async with rigged() as rig:

        def more(target: str) -> bytes:
            url = f"{rig.url}/api/massive/v3/trades/O:X?cursor={len(rig.peer.asked)}"
            return paged(url)[0]

        rig.peer.script = [more]
        assert len(await walk(rig, max_pages=3)) == 3
        assert await walk(rig, max_pages=0) == []
        assert len(rig.peer.asked) == 3

        pages = rig.rest.pages("/v3/trades/O:X")
        async for _ in pages:
            break
        await pages.aclose()
        assert len(rig.peer.asked) == 4, "the next page is asked for when it is wanted"
    assert MAX_PAGES == 10_000


async def test_pages_that_go_round_in_a_circle_end() -> None:
    async with rigged() as rig:
        rig.peer.script = list(paged(f"{rig.url}/api/massive/v3/trades/O:X?cursor=same"))
        with pytest.raises(UpstreamGarbled, match="circle"):
            await walk(rig)
        assert len(rig.peer.asked) == 2


# health


async def test_three_failures_in_a_row_are_unhealthy_and_a_success_heals() -> None:
    """R88."""
    async with rigged(reply(503), reply(503), reply(503), reply()) as rig:
        assert rig.rest.statistics().healthy
        with pytest.raises(UpstreamError):
            await rig.rest.get(NOW)
        statistics = rig.rest.statistics()
        assert not statistics.healthy
        assert statistics.rest.last_failure == "upstream_down"

        await rig.rest.get(NOW)
        statistics = rig.rest.statistics()
        assert statistics.healthy
        assert statistics.rest.consecutive_failures == 0
        assert statistics.rest.latency_p50_s is not None


async def test_endpoint_families_are_told_apart_behind_the_mount() -> None:
    """Else one failing family would close them all."""
    async with rigged() as rig:
        await rig.rest.get(NOW)
        await rig.rest.get("/v3/quotes/O:X")
        await rig.rest.get("/api/health")
        await rig.rest.get("/api/options/chain")
        assert set(rig.rest.statistics().rest.breakers) == {
            "market_status",
            "quotes",
            "/api/health",
            "/api/options/chain",
        }


# a real gateway


@pytest.fixture
async def play(tmp_path: Path) -> AsyncGenerator[Playground]:
    async with Playground(tmp_path) as running:
        yield running


@contextlib.asynccontextmanager
async def client(play: Playground, key: str) -> AsyncGenerator[tuple[GatewayREST, Tokens]]:
    clock = SystemClock()
    edge = MassiveREST(
        base_url=play.gateway.url,
        headers=lambda: {"Authorization": f"Bearer {key}"},
        clock=clock,
        policy=CLIENT_POLICY,
        peer=PEER,
    )
    async with (
        edge,
        Tokens(rest=edge, clock=clock) as tokens,
        GatewayREST(url=play.gateway.url, tokens=tokens, clock=clock) as rest,
    ):
        yield rest, tokens


async def test_a_real_gateway_answers_page_after_page(play: Playground) -> None:
    """R79, R80, R82."""
    async with client(play, await play.key()) as (rest, _):
        status = await rest.get(NOW)
        assert b'"market"' in status.body
        assert status.simulated
        assert (await rest.get("/api/health")).status == 200
        assert rest.statistics().simulated

        params: dict[str, ParamValue] = {
            "underlying_ticker": "SPY",
            "limit": 3,
            "expired": False,
            "contract_type": None,
        }
        pages = [
            msgspec.json.decode(page.body)["results"]
            async for page in rest.pages("/v3/reference/options/contracts", params, max_pages=3)
        ]
        tickers = [row["ticker"] for page in pages for row in page]
        assert len(tickers) == len(set(tickers)) == 9


async def test_a_copy_is_as_old_as_the_gateway_says() -> None:
    """W-29: an old price is not shown as one that just came."""
    stale = reply(Age="7", X_Onetape_Stale_Reason="upstream_down")
    async with rigged(stale, reply()) as rig:
        old = await rig.rest.get(NOW)
        assert old.received_ns == rig.clock.now_ns() - 7_000_000_000
        assert old.stale_reason == "upstream_down"
        assert (await rig.rest.get(NOW)).received_ns == rig.clock.now_ns()


async def test_a_copy_of_a_real_gateway_says_how_old_it_is(play: Playground) -> None:
    async with client(play, await play.key()) as (rest, _):
        assert (await rest.get("/v1/marketstatus/upcoming")).age_s is None
        assert (await rest.get("/v1/marketstatus/upcoming")).age_s == 0


async def test_a_real_gateways_refusals_have_their_types(play: Playground) -> None:
    """R86, R87, C7."""
    async with client(play, await play.key()) as (rest, tokens):
        with pytest.raises(NotFound, match=r"status 404, request \w+"):
            await rest.get("/v3/reference/options/contracts/O:SPY991231C99999000")
        with pytest.raises(NotFound):
            await rest.get("/api/nowhere")
        with pytest.raises(InvalidRequest, match="status 400"):
            await rest.get("/v3/../x")
        assert tokens.statistics().mints == 1


async def test_a_token_that_a_real_gateway_revoked_is_replaced(play: Playground) -> None:
    """R86, W-08."""
    key = await play.key()
    async with client(play, key) as (rest, tokens):
        await rest.get(NOW)
        shown = {"Authorization": f"Bearer {tokens.current()}"}
        async with (
            aiohttp.ClientSession() as web,
            web.delete(f"{play.gateway.url}/api/ws-token", headers=shown) as answer,
        ):
            assert answer.status == 200
        assert (await rest.get(NOW)).status == 200
        assert tokens.statistics().mints == 2

        await play.revoke(key)
        await until(lambda: not play.gateway.ring.snapshot.is_live(key.split("_")[1]))
        with pytest.raises(TokenRevoked):
            await rest.get(NOW)
