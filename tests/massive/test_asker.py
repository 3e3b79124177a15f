"""What the vendor says becomes an answer or one of our errors; no secret is in either."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from onetape.clock import SystemClock
from onetape.errors import (
    InvalidRequest,
    NotFound,
    OnetapeError,
    UpstreamDown,
    UpstreamForbidden,
    UpstreamGarbled,
    UpstreamThrottled,
    UpstreamTimeout,
)
from onetape.massive.asker import MAX_PAGES, Refused, VendorAsker, error_of
from onetape.massive.rest import MassiveREST, RestPolicy, RestResponse
from onetape.simulator.app import Simulator
from onetape.simulator.faults import Answer, RestRule

VENDOR = "https://api.example.com"


def response(status: int = 200, body: object = None, **more: Any) -> RestResponse:
    known: dict[str, Any] = {
        "content_type": "application/json",
        "request_id": "abc",
        "retry_after_s": None,
        "received_ns": 1,
        "attempts": 1,
    }
    text = body if isinstance(body, bytes) else msgspec.json.encode(body or {})
    return RestResponse(status=status, body=text, **{**known, **more})


class Pages:
    """Answers each path and query with a body, as `MassiveREST` does."""

    def __init__(self, pages: Mapping[str, object]) -> None:
        self.asked: list[str] = []
        self.deadlines: list[float | None] = []
        self._pages = pages

    async def get(
        self, path: str, query: str = "", *, deadline_s: float | None = None
    ) -> RestResponse:
        self.deadlines.append(deadline_s)
        place = f"{path}?{query}" if query else path
        self.asked.append(place)
        return response(body=self._pages[place])


async def walked(pages: Pages, path: str = "/v3/x", *, max_pages: int | None = None) -> int:
    count = 0
    async for _ in VendorAsker(pages).pages(path, {"a": 1}, max_pages=max_pages):
        count += 1
    return count


async def test_a_question_is_encoded() -> None:
    pages = Pages({"/v3/x?a=I:SPX,O:Y&b=650": {}})

    await VendorAsker(pages).get("/v3/x", {"b": 650.0, "a": ["I:SPX", "O:Y"], "c": None})

    assert pages.asked == ["/v3/x?a=I:SPX,O:Y&b=650"]


async def test_pages_are_followed_to_the_last() -> None:
    pages = Pages(
        {
            "/v3/x?a=1": {"next_url": f"{VENDOR}/v3/x?cursor=%3D2"},
            "/v3/x?cursor=%3D2": {"next_url": f"{VENDOR}/v3/x?cursor=3"},
            "/v3/x?cursor=3": {"results": []},
        }
    )

    assert await walked(pages) == 3
    assert pages.asked[1] == "/v3/x?cursor=%3D2", "as it came, and at the address we were given"


async def test_pages_end_where_the_caller_says() -> None:
    pages = Pages({"/v3/x?a=1": {"next_url": f"{VENDOR}/v3/x?cursor=2"}})

    assert await walked(pages, max_pages=1) == 1


async def test_pages_that_go_round_in_a_circle_end() -> None:
    pages = Pages(
        {
            "/v3/x?a=1": {"next_url": f"{VENDOR}/v3/x?cursor=2"},
            "/v3/x?cursor=2": {"next_url": f"{VENDOR}/v3/x?a=1"},
        }
    )

    with pytest.raises(UpstreamGarbled, match="circle"):
        await walked(pages)


async def test_each_page_has_the_time_that_a_page_may_take() -> None:
    pages = Pages({"/v3/x": {"next_url": f"{VENDOR}/v3/x?cursor=b"}, "/v3/x?cursor=b": {}})

    async for _ in VendorAsker(pages, deadline_s=2.5).pages("/v3/x"):
        pass
    await VendorAsker(pages).get("/v3/x")

    assert pages.deadlines == [2.5, 2.5, None]


class Endless:
    def __init__(self) -> None:
        self.calls = 0

    async def get(
        self, path: str, query: str = "", *, deadline_s: float | None = None
    ) -> RestResponse:
        self.calls += 1
        return response(body={"next_url": f"{VENDOR}{path}?cursor={self.calls}"})


async def test_pages_without_a_last_one_end() -> None:
    endless = Endless()

    with pytest.raises(UpstreamGarbled, match="more than"):
        async for _ in VendorAsker(endless).pages("/v3/x"):
            pass
    assert endless.calls == MAX_PAGES


@pytest.mark.parametrize("next_url", ["https://evil.example/", "http://[", "/admin", "mailto:x"])
async def test_a_next_page_that_is_none_of_the_vendors_is_refused(next_url: str) -> None:
    pages = Pages({"/v3/x?a=1": {"next_url": next_url}})

    with pytest.raises(UpstreamGarbled):
        await walked(pages)
    assert pages.asked == ["/v3/x?a=1"]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidRequest),
        (401, UpstreamForbidden),
        (403, UpstreamForbidden),
        (404, NotFound),
        (408, UpstreamTimeout),
        (429, UpstreamThrottled),
        (500, UpstreamDown),
        (503, UpstreamDown),
        (301, UpstreamGarbled),
        (418, UpstreamGarbled),
    ],
)
def test_a_status_names_the_error(status: int, kind: type[OnetapeError]) -> None:
    error = error_of(response(status, {"status": "ERROR", "error": "Oh no."}))

    assert type(error) is kind
    assert str(error) == f"Oh no. (status {status}, request abc)"


def test_the_error_says_how_often_it_was_tried_and_how_long_to_wait() -> None:
    error = error_of(response(429, {"error": "slow"}, attempts=3, retry_after_s=7.0))

    assert str(error) == "slow (status 429, request abc, 3 tries)"
    assert error.retry_after_s == 7


@pytest.mark.parametrize(
    ("body", "content_type"),
    [(b"<html>secret-header: x</html>", "text/html"), (b"", "application/json")],
)
def test_what_is_not_the_vendors_own_word_is_not_repeated(body: bytes, content_type: str) -> None:
    error = error_of(response(502, body, content_type=content_type, request_id=None))

    assert str(error) == "the vendor refused the request (status 502)"


def test_words_from_outside_are_bounded_and_harmless() -> None:
    error = error_of(response(500, {"error": "\x1b[31m" + "x" * 1000}, request_id="a\nb"))

    assert len(str(error)) < 300
    assert str(error).isprintable()


async def test_the_status_is_beneath_the_error() -> None:
    """W-52: against the simulated vendor."""
    async with (
        Simulator() as simulator,
        MassiveREST(
            base_url=simulator.url,
            headers=lambda: {"Authorization": f"Bearer {simulator.key}"},
            clock=SystemClock(),
            policy=RestPolicy(attempts=1),
        ) as rest,
    ):
        asker = VendorAsker(rest)
        assert (await asker.get("/v1/marketstatus/now")).status == 200
        simulator.inject(RestRule(action=Answer(status=429, retry_after_s=9)))

        with pytest.raises(UpstreamThrottled) as caught:
            await asker.get("/v3/snapshot", {"ticker.any_of": ["SPY"]})

    cause = caught.value.__cause__
    assert isinstance(cause, Refused)
    assert (cause.status, caught.value.retry_after_s) == (429, 9)
    assert cause.request_id
    assert cause.request_id in str(caught.value)
    assert simulator.key not in str(caught.value)
