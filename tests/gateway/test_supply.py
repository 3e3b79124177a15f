import asyncio
import gzip
from collections.abc import AsyncIterator

import msgspec
import pytest

from onetape.core.cache import Cache
from onetape.errors import OnetapeError, UpstreamDown, UpstreamGarbled
from onetape.flights import Flights
from onetape.gateway.answers import Answer
from onetape.gateway.routes import Routes, Target
from onetape.gateway.supply import Served, Supply
from onetape.massive.wire_rest import TTL, Endpoint, Ttl
from onetape.testing import ManualClock

ORIGIN = "http://gateway.test"


class Response(msgspec.Struct, frozen=True, kw_only=True):
    status: int = 200
    body: bytes = b'{"status":"OK"}'
    content_type: str = "application/json"
    request_id: str | None = None
    retry_after_s: float | None = None
    simulated: bool = False


class ScriptedVendor:
    """Answers what the script says, when it says so."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.script: list[Response | OnetapeError] = []
        self.open = asyncio.Event()
        self.open.set()
        self.arrived = asyncio.Event()
        self.given_up = asyncio.Event()

    async def get(self, path: str, query: str = "") -> Response:
        self.asked.append(f"{path}?{query}")
        self.arrived.set()
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.given_up.set()
            raise
        step = self.script.pop(0) if self.script else Response()
        if isinstance(step, OnetapeError):
            raise step
        return step


class Shop:
    """A supply and everything around it."""

    def __init__(self, flights: Flights[str, Answer]) -> None:
        self.clock = ManualClock()
        self.vendor = ScriptedVendor()
        self.cache = Cache[Answer](1 << 20)
        self.flights = flights
        ttl = {**TTL, Endpoint.OPTIONS_CHAIN: Ttl(10, 120)}
        self.supply = Supply(
            cache=self.cache, flights=flights, upstream=self.vendor, clock=self.clock, ttl=ttl
        )

    async def serve(self, target: Target) -> Served:
        found = self.supply.look(target, self.clock.monotonic())
        return found or await self.supply.fetch(target)


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    async with Flights[str, Answer]() as flights:
        yield Shop(flights)


def target(path: bytes, query: bytes = b"") -> Target:
    return Routes().target(path, query)


CHAIN = target(b"/v3/snapshot/options/SPY", b"limit=250")
TRADES = target(b"/v3/trades/AAPL")


async def test_a_chain_is_asked_for_once_in_ten_seconds(shop: Shop) -> None:
    """R92, R93, R102, C11."""
    assert (await shop.serve(CHAIN)).how == "miss"
    shop.clock.advance(9.9)
    served = await shop.serve(CHAIN)
    assert (served.how, served.age_s) == ("hit", pytest.approx(9.9))

    shop.clock.advance(0.1)
    assert (await shop.serve(CHAIN)).how == "miss"
    assert len(shop.vendor.asked) == 2


async def test_live_prices_are_never_kept(shop: Shop) -> None:
    """R103."""
    assert [(await shop.serve(TRADES)).how for _ in range(2)] == ["miss", "miss"]
    assert shop.cache.statistics().entries == 0
    assert shop.cache.statistics().misses == 0


async def test_the_first_callers_spelling_goes_upstream(shop: Shop) -> None:
    one = target(b"/v3/snapshot/options/I%3ASPX", b"limit=250&contract_type=call")
    other = target(b"/v3/snapshot/options/I:SPX", b"contract_type=call&limit=250")

    await shop.serve(one)

    assert (await shop.serve(other)).how == "hit"
    assert shop.vendor.asked == ["/v3/snapshot/options/I%3ASPX?limit=250&contract_type=call"]


async def test_a_hundred_callers_of_one_question_are_one_request(shop: Shop) -> None:
    """R92, W-25: kept or not, equal requests in flight are one."""
    shop.vendor.open.clear()
    async with asyncio.TaskGroup() as tasks:
        callers = [tasks.create_task(shop.serve(TRADES)) for _ in range(100)]
        await asyncio.sleep(0)
        shop.vendor.open.set()

    assert len(shop.vendor.asked) == 1
    hows = [caller.result().how for caller in callers]
    assert (hows.count("miss"), hows.count("coalesced")) == (1, 99)
    assert len({id(caller.result().answer) for caller in callers}) == 1


async def test_who_leaves_does_not_disturb_who_stays(shop: Shop) -> None:
    """R89."""
    shop.vendor.open.clear()
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(shop.serve(CHAIN))
        second = tasks.create_task(shop.serve(CHAIN))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait([first])
        shop.vendor.open.set()

    assert first.cancelled()
    assert second.result().answer.is_good
    assert not shop.vendor.given_up.is_set()


async def test_when_all_have_left_the_request_is_given_up(shop: Shop) -> None:
    shop.vendor.open.clear()
    async with asyncio.TaskGroup() as tasks:
        callers = [tasks.create_task(shop.serve(CHAIN)) for _ in range(3)]
        await shop.vendor.arrived.wait()
        for caller in callers:
            caller.cancel()
        await asyncio.wait(callers)
        await shop.vendor.given_up.wait()

    assert shop.flights.in_flight == 0


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (UpstreamDown("refused"), "upstream_down"),
        (UpstreamGarbled("bytes"), "upstream_garbled"),
        (Response(status=500, body=b""), "upstream_down"),
        (Response(status=504, body=b"<html>", content_type="text/html"), "upstream_timeout"),
        (Response(status=429), "upstream_throttled"),
        (Response(body=b'{"results":['), "upstream_garbled"),
    ],
)
async def test_an_old_copy_stands_in_for_a_failing_vendor(
    shop: Shop, step: Response | OnetapeError, reason: str
) -> None:
    await shop.serve(CHAIN)
    shop.clock.advance(60)
    shop.vendor.script = [step]

    served = await shop.serve(CHAIN)

    assert served.answer.is_good
    assert (served.how, served.age_s, served.stale_reason) == ("stale", 60, reason)


async def test_an_old_copy_does_not_hide_a_refusal(shop: Shop) -> None:
    await shop.serve(CHAIN)
    shop.clock.advance(60)
    shop.vendor.script = [Response(status=403), Response(status=401)]

    assert [(await shop.serve(CHAIN)).answer.status for _ in range(2)] == [403, 403]


async def test_a_copy_too_old_to_be_true_stays_away(shop: Shop) -> None:
    await shop.serve(CHAIN)
    shop.clock.advance(130)
    shop.vendor.script = [UpstreamDown("refused")]

    with pytest.raises(UpstreamDown):
        await shop.serve(CHAIN)


@pytest.mark.parametrize("status", [204, 400, 403, 404, 429, 500])
async def test_only_a_200_is_kept(shop: Shop, status: int) -> None:
    """R92: failures are not cached."""
    shop.vendor.script = [Response(status=status, body=b"", content_type="text/plain")]

    await shop.serve(CHAIN)

    assert shop.cache.statistics().entries == 0


async def test_large_bodies_are_read_and_packed_in_a_thread(shop: Shop) -> None:
    rows = b",".join([b'{"strike_price":100.5}'] * 60_000)
    body = b'{"results":[%b],"next_url":"https://api.massive.com/v3/x?cursor=c"}' % rows
    shop.vendor.script = [Response(body=body)]

    answer = (await shop.serve(CHAIN)).answer
    async with asyncio.TaskGroup() as tasks:
        for _ in range(3):
            tasks.create_task(shop.supply.pack(answer, ORIGIN))

    packed = gzip.decompress(answer.packed(ORIGIN).body)
    assert packed == body.replace(b"https://api.massive.com", ORIGIN.encode())
    assert shop.flights.statistics().started == 2


async def test_small_bodies_are_packed_at_once(shop: Shop) -> None:
    shop.vendor.script = [Response(body=b'{"a":"%b"}' % (b"x" * 2_000))]
    answer = (await shop.serve(CHAIN)).answer

    await shop.supply.pack(answer, ORIGIN)

    assert not answer.needs_packing(ORIGIN)
    assert shop.flights.statistics().started == 1


async def test_an_old_copy_is_judged_when_the_vendor_has_failed(shop: Shop) -> None:
    await shop.serve(CHAIN)
    shop.clock.advance(60)
    shop.vendor.open.clear()
    shop.vendor.script = [UpstreamDown("refused")]
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(shop.serve(CHAIN))
        await asyncio.sleep(0)
        shop.clock.advance(10)
        shop.vendor.open.set()

    assert serving.result().age_s == 70
