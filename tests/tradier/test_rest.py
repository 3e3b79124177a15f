"""The edge against a Tradier on the loopback that can do everything wrong."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from datetime import date

import pytest

from onetape.core.recovery import BreakerState
from onetape.errors import (
    ConfigInvalid,
    InvalidRequest,
    UpstreamDown,
    UpstreamError,
    UpstreamForbidden,
    UpstreamGarbled,
    UpstreamThrottled,
    UpstreamTimeout,
)
from onetape.providers.health import status_of
from onetape.secret import Secret
from onetape.testing import ManualClock, until
from onetape.tradier.budget import WINDOW_S, Priority
from onetape.tradier.rest import SANDBOX, TradierAnswer, TradierPolicy, TradierREST
from onetape.tradier.wire_rest import Ask, Refusal, ask_chain, ask_clock, ask_quotes

TOKEN = "the-token"
CLOCK = b'{"clock":null}'
GOOD = TradierPolicy(backoff_base_s=1.0, backoff_cap_s=8.0)
NOW_MS = 1_764_000_000_000


def answer(
    status: int = 200, body: bytes = CLOCK, *, kind: str = "application/json", **headers: str
) -> bytes:
    lines = [f"HTTP/1.1 {status} ", f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


HTML = answer(body=b"<!DOCTYPE html><title>Tradier API</title>", kind="text/html")
DENIED = answer(401, b"Invalid Access Token", kind="plain/text")
RESET, STALL = b"reset", b"stall"


class Tradier:
    """Answers with the script, and with its last entry for ever; keeps what it was asked."""

    def __init__(self, *script: bytes) -> None:
        self.script = list(script)
        self.heads: list[str] = []
        self.bodies: list[bytes] = []
        self.abandoned = 0
        self.stalled = 0
        self.release = asyncio.Event()
        self.tasks: set[asyncio.Task[None]] = set()

    @property
    def lines(self) -> list[str]:
        return [head.split("\r\n")[0] for head in self.heads]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await self.reply(reader, writer):
                pass
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        self.tasks.discard(task)

    async def reply(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = [line for line in head.lower().split("\r\n") if line.startswith("content-length")]
        body = await reader.readexactly(int(length[0].split(":")[1])) if length else b""
        self.heads.append(head)
        self.bodies.append(body)
        script = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if script == RESET:
            writer.transport.abort()
            return False
        if script == STALL:
            self.stalled += 1
            gone = asyncio.ensure_future(reader.read(1))  # noqa: TID251 - raced below
            let = asyncio.ensure_future(self.release.wait())  # noqa: TID251 - raced below
            await asyncio.wait({gone, let}, return_when=asyncio.FIRST_COMPLETED)
            self.abandoned += gone.done()
            for one in (gone, let):
                one.cancel()
            await asyncio.gather(gone, let, return_exceptions=True)
            script = answer()
        writer.write(script)
        await writer.drain()
        return True


class Rig:
    """Tradier, our edge, a clock that only sleeps move, and the naps taken."""

    def __init__(self, tradier: Tradier, port: int, policy: TradierPolicy) -> None:
        self.tradier = tradier
        self.clock = ManualClock(now_ns=NOW_MS * 1_000_000)
        self.naps: list[float] = []
        self.rest = TradierREST(
            base_url=f"http://127.0.0.1:{port}/v1/",
            token=Secret(TOKEN),
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
async def rig(*script: bytes, policy: TradierPolicy = GOOD) -> AsyncGenerator[Rig]:
    tradier = Tradier(*script)
    server = await asyncio.start_server(tradier.serve, "127.0.0.1", 0)
    made = Rig(tradier, server.sockets[0].getsockname()[1], policy)
    try:
        async with made.rest:
            yield made
    finally:
        tradier.release.set()
        server.close()
        await until(lambda: not tradier.tasks)


async def test_a_good_answer_comes_back_as_it_was() -> None:
    """R213."""
    async with rig(answer(X_Onetape_Simulated="true")) as made:
        got = await made.rest.get(ask_clock())

    assert got == TradierAnswer(
        body=CLOCK, received_ns=made.clock.now_ns(), attempts=1, simulated=True
    )
    head = made.tradier.heads[0].lower()
    assert made.tradier.lines == ["GET /v1/markets/clock HTTP/1.1"]
    assert "accept: application/json\r\n" in head
    assert f"authorization: bearer {TOKEN}\r\n" in head


async def test_a_slash_in_a_symbol_is_encoded() -> None:
    async with rig(answer(body=b'{"quotes":null}')) as made:
        await made.rest.get(ask_quotes(["BRK.B", "SPY"]))
        await made.rest.get(Ask("/x", "quotes", {"start": "2026-05-21 09:30"}))

    assert (
        made.tradier.lines[0] == "GET /v1/markets/quotes?symbols=BRK%2FB,SPY&greeks=false HTTP/1.1"
    )
    assert made.tradier.lines[1] == "GET /v1/x?start=2026-05-21%2009%3A30 HTTP/1.1"


async def test_a_long_list_is_posted_as_a_form() -> None:
    symbols = [f"A{number}" for number in range(800)]
    async with rig(answer(body=b'{"quotes":null}')) as made:
        await made.rest.get(ask_quotes(symbols))

    assert made.tradier.lines == ["POST /v1/markets/quotes HTTP/1.1"]
    assert "content-type: application/x-www-form-urlencoded" in made.tradier.heads[0].lower()
    assert made.tradier.bodies[0].startswith(b"symbols=A0,A1,")
    assert made.tradier.bodies[0].endswith(b"&greeks=false")


async def test_a_session_is_asked_for_with_an_empty_post() -> None:
    body = b'{"stream":{"url":"https://stream.example","sessionid":"s-1"}}'
    async with rig(answer(body=body)) as made:
        session = await made.rest.session()

    assert session.session_id.matches("s-1")
    assert made.tradier.lines == ["POST /v1/markets/events/session HTTP/1.1"]
    assert "content-length: 0\r\n" in made.tradier.heads[0].lower()


@pytest.mark.parametrize(
    "first",
    [
        HTML,
        RESET,
        answer(404, b"", kind="text/html"),
        answer(500, b'{"fault":{"faultstring":"Datastore Error"}}'),
        answer(502, b"", kind="text/html"),
        DENIED,
    ],
)
async def test_what_passes_is_tried_again(first: bytes) -> None:
    async with rig(first, answer()) as made:
        got = await made.rest.get(ask_clock())

    assert got.attempts == 2
    assert made.naps == [1.0]


@pytest.mark.parametrize(
    ("script", "error", "attempts"),
    [
        (DENIED, UpstreamForbidden, 2),
        (answer(403, b"", kind="text/plain"), UpstreamForbidden, 1),
        (HTML, UpstreamDown, 3),
        (RESET, UpstreamDown, 3),
        (answer(body=b"{}"), UpstreamGarbled, 1),
        (answer(400, b"Invalid parameter, symbol: no.", kind="text/plain"), InvalidRequest, 1),
        (answer()[:-3] + b"", UpstreamTimeout, 1),
    ],
)
async def test_what_does_not_pass_is_raised_as_ours(
    script: bytes, error: type[Exception], attempts: int
) -> None:
    """W-52."""
    policy = GOOD if error is not UpstreamTimeout else TradierPolicy(timeout_s=0.05, attempts=1)
    async with rig(script, policy=policy) as made:
        with pytest.raises(error):
            await made.rest.get(ask_clock())

    assert len(made.tradier.heads) == attempts
    assert made.rest.statistics().attempts == attempts


async def test_an_answer_that_breaks_off_is_garbled() -> None:
    cut = b"HTTP/1.1 200 \r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
    async with rig(cut, policy=TradierPolicy(attempts=1)) as made:
        with pytest.raises(UpstreamGarbled):
            await made.rest.get(ask_clock())


async def test_what_tradier_would_take_comes_with_the_refusal() -> None:
    """R215."""
    text = b"Invalid parameter, start: must be on or after 2026-02-27 00:00:00."
    async with rig(answer(400, text, kind="text/plain")) as made:
        refusal = await made.rest.ask(ask_clock())

    assert isinstance(refusal, Refusal)
    assert refusal.earliest_ns == 1_772_168_400_000_000_000


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (answer(403, b"Forbidden", kind="text/plain"), 403),
        (answer(500, b"", kind="text/plain"), 500),
        (answer(429, b"Quota Violation", kind="text/plain"), 429),
        (HTML, 200),  # the page of an outage
        (answer(body=b'{"clock":' + b" " * 500 + b"null}"), 200),  # larger than we read
        (RESET, None),
    ],
)
async def test_the_status_is_beneath_the_error(reply: bytes, status: int | None) -> None:
    """R264: a refusal comes with any status, and an error without an answer has none."""
    async with rig(reply, policy=TradierPolicy(attempts=1, max_body_bytes=200)) as made:
        with pytest.raises(UpstreamError) as caught:
            await made.rest.get(ask_clock())

    assert status_of(caught.value) == status


async def test_an_answer_larger_than_we_read_is_too_large() -> None:
    async with rig(answer(body=b"x" * 5000), policy=TradierPolicy(max_body_bytes=1000)) as made:
        refusal = await made.rest.ask(ask_clock())

    assert isinstance(refusal, Refusal)
    assert refusal.too_large
    assert len(made.tradier.heads) == 1


# the budget


async def test_no_minute_sees_more_than_the_limit() -> None:
    """R217."""
    policy = TradierPolicy(per_minute=5, reserve=0, deadline_s=300)
    async with rig(answer(), policy=policy) as made:
        for _ in range(11):
            await made.rest.get(ask_clock())

    assert made.naps == [WINDOW_S, WINDOW_S]
    assert (GOOD.per_minute, SANDBOX.per_minute) == (120, 60)


async def test_a_full_budget_is_refused_when_the_deadline_is_sooner() -> None:
    policy = TradierPolicy(per_minute=1, reserve=0)
    async with rig(answer(), policy=policy) as made:
        await made.rest.get(ask_clock())
        with pytest.raises(UpstreamThrottled) as refused:
            await made.rest.get(ask_clock())

    assert refused.value.retry_after_s == WINDOW_S
    assert made.rest.statistics().budget.waiting_interactive == 0


async def test_the_background_keeps_out_of_the_reserve() -> None:
    policy = TradierPolicy(per_minute=3, reserve=2)
    async with rig(answer(), policy=policy) as made:
        await made.rest.get(ask_clock(), priority=Priority.BACKGROUND)
        with pytest.raises(UpstreamThrottled):
            await made.rest.get(ask_clock(), priority=Priority.BACKGROUND)
        await made.rest.get(ask_clock())
        await made.rest.get(ask_clock())

    assert len(made.tradier.heads) == 3


async def test_who_is_in_a_hurry_gets_the_next_slot() -> None:
    policy = TradierPolicy(concurrency=1)
    async with rig(STALL, answer(), policy=policy) as made, asyncio.TaskGroup() as tasks:
        tasks.create_task(made.rest.get(ask_clock()))
        await until(lambda: made.tradier.stalled)
        slow = Ask("/slow", "clock")
        leaving = tasks.create_task(made.rest.get(slow, priority=Priority.BACKGROUND))
        tasks.create_task(made.rest.get(slow, priority=Priority.BACKGROUND))
        await asyncio.sleep(0)
        tasks.create_task(made.rest.get(Ask("/quick", "clock")))
        await until(lambda: made.rest.statistics().budget.admitted == 3)
        leaving.cancel()
        await asyncio.sleep(0)
        made.tradier.release.set()

    assert [line.split()[1] for line in made.tradier.lines[1:]] == ["/v1/quick", "/v1/slow"]


async def test_a_slot_given_to_who_just_left_goes_to_the_next() -> None:
    policy = TradierPolicy(concurrency=1, per_minute=1_000)
    async with rig(answer(), policy=policy) as made:
        for naps in range(20):
            first = asyncio.ensure_future(made.rest.get(ask_clock()))  # noqa: TID251 - raced
            for _ in range(naps % 3):
                await asyncio.sleep(0)
            second = asyncio.ensure_future(made.rest.get(ask_clock()))  # noqa: TID251 - raced
            while not first.done():
                await asyncio.sleep(0)
            second.cancel()
            await asyncio.gather(first, second, return_exceptions=True)
            assert (await made.rest.get(ask_clock(), deadline_s=1)).attempts == 1


async def test_a_caller_in_a_hurry_says_nothing_about_tradier() -> None:
    policy = TradierPolicy(breaker_failures=1, attempts=1, timeout_s=1.0)
    async with rig(STALL, answer(), policy=policy) as made:
        with pytest.raises(UpstreamTimeout):
            await made.rest.get(ask_clock(), deadline_s=0.05)
        assert (await made.rest.get(ask_clock())).attempts == 1


async def test_a_slot_that_does_not_come_in_time_is_a_timeout() -> None:
    policy = TradierPolicy(concurrency=1)
    async with rig(STALL, answer(), policy=policy) as made, asyncio.TaskGroup() as tasks:
        tasks.create_task(made.rest.get(ask_clock()))
        await until(lambda: made.tradier.stalled)
        with pytest.raises(UpstreamTimeout):
            await made.rest.get(ask_clock(), deadline_s=0.02)
        made.tradier.release.set()


@pytest.mark.parametrize("as_text", [True, False])
async def test_everybody_waits_as_long_as_a_quota_violation_says(as_text: bool) -> None:
    text = f"Quota Violation. Resets at {NOW_MS + 7_000}".encode()
    fault = b'{"fault":{"faultstring":"Rate limit quota violation.","detail":{"errorcode":"policies.ratelimit.QuotaViolation"}}}'
    first = answer(429, text, kind="text/plain") if as_text else answer(429, fault)
    async with rig(first, answer()) as made:
        got = await made.rest.get(ask_clock())

    assert got.attempts == 2
    assert made.naps == [0.0, 7.0 if as_text else GOOD.throttle_s]
    assert made.rest.statistics().throttled == 1


async def test_a_retry_after_is_heeded() -> None:
    async with rig(answer(429, b"", kind="text/plain", Retry_After="9"), answer()) as made:
        await made.rest.get(ask_clock())

    assert 9.0 in made.naps


@pytest.mark.parametrize("expiry", [NOW_MS + 4_000, NOW_MS // 1000 + 4])
async def test_the_rate_headers_are_a_brake(expiry: int) -> None:
    spent = answer(X_Ratelimit_Available="0", X_Ratelimit_Expiry=str(expiry))
    async with rig(spent, answer()) as made:
        await made.rest.get(ask_clock())
        await made.rest.get(ask_clock())

    assert made.naps == [4.0]


# failure


async def test_a_path_that_keeps_failing_is_left_alone_and_others_are_not() -> None:
    policy = TradierPolicy(attempts=1, breaker_failures=2, breaker_open_s=30)
    chain = ask_chain("SPY", date(2026, 8, 3))
    async with rig(HTML, HTML, answer(), policy=policy) as made:
        for _ in range(2):
            with pytest.raises(UpstreamDown):
                await made.rest.get(ask_clock())
        with pytest.raises(UpstreamDown) as refused:
            await made.rest.get(ask_clock())
        assert isinstance(await made.rest.ask(chain), Refusal)  # answers, if not with a chain
        counted = made.rest.statistics()
        made.clock.advance(30)
        await made.rest.get(ask_clock())

    assert refused.value.retry_after_s == 30
    assert counted.breakers["/markets/clock"] is BreakerState.OPEN
    assert counted.consecutive_failures == 3
    assert counted.last_failure == "upstream_garbled"
    assert made.rest.statistics().consecutive_failures == 0


async def test_an_open_breaker_ends_the_retries() -> None:
    policy = TradierPolicy(attempts=3, breaker_failures=1)
    async with rig(HTML, policy=policy) as made:
        with pytest.raises(UpstreamDown, match="page instead"):
            await made.rest.get(ask_clock())

    assert len(made.tradier.heads) == 1


async def test_no_retry_begins_after_the_deadline() -> None:
    async with rig(HTML) as made:
        with pytest.raises(UpstreamDown):
            await made.rest.get(ask_clock(), deadline_s=0.5)

    assert len(made.tradier.heads) == 1


async def test_a_deadline_that_passed_asks_nobody() -> None:
    async with rig(answer()) as made:
        with pytest.raises(UpstreamTimeout):
            await made.rest.get(ask_clock(), deadline_s=0)

    assert made.tradier.heads == []


async def test_cancelling_cancels_the_request_and_blames_nobody() -> None:
    policy = TradierPolicy(breaker_failures=1, concurrency=1)
    async with rig(STALL, answer(), policy=policy) as made:
        request = asyncio.ensure_future(made.rest.get(ask_clock()))  # noqa: TID251 - cancelled
        await until(lambda: made.tradier.stalled)
        request.cancel()
        await asyncio.gather(request, return_exceptions=True)
        await until(lambda: made.tradier.abandoned)
        await made.rest.get(ask_clock())
        counted = made.rest.statistics()

    assert counted.failures == counted.in_flight == 0
    assert counted.breakers["/markets/clock"] is BreakerState.CLOSED
    assert (counted.budget.used, counted.budget.admitted) == (2, 0)


async def test_the_token_is_never_shown() -> None:
    text = f"Invalid parameter, token: {TOKEN}".encode()
    async with rig(answer(400, text, kind="text/plain")) as made:
        with pytest.raises(InvalidRequest) as refused:
            await made.rest.get(ask_clock())

        assert TOKEN not in str(refused.value)
        assert "***" in str(refused.value)
        assert TOKEN not in repr(made.rest.statistics())


async def test_a_redirect_is_not_followed() -> None:
    moved = answer(302, b"", kind="text/html", Location="http://127.0.0.1:9/elsewhere")
    async with rig(moved) as made:
        with pytest.raises(InvalidRequest):
            await made.rest.get(ask_clock())

    assert len(made.tradier.heads) == 1


async def test_it_is_used_as_a_context_manager_with_an_address() -> None:
    async with rig(answer()) as made:
        pass
    with pytest.raises(RuntimeError):
        await made.rest.get(ask_clock())
    for address in ("ftp://x", "http://", "https://x/?a=b"):
        with pytest.raises(ConfigInvalid):
            TradierREST(
                base_url=address, token=Secret(TOKEN), clock=made.clock, policy=TradierPolicy()
            )
