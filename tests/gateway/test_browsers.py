"""Browsers are told what they need, and other hosts' pages nothing."""

from typing import Any

import httpx2
import pytest

from onetape.gateway.browsers import HEADERS, Browsers, Receive, Scope, Send

DESK = "https://desk.example"


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    del receive
    status = 405 if scope["method"] == "OPTIONS" else 200
    await send({"type": "http.response.start", "status": status, "headers": [(b"x-own", b"1")]})
    await send({"type": "http.response.body", "body": b"ok"})


async def ask(origins: tuple[str, ...], method: str = "GET", **headers: str) -> httpx2.Response:
    transport = httpx2.ASGITransport(app=Browsers(answer, origins=origins))
    async with httpx2.AsyncClient(transport=transport, base_url="http://gateway") as client:
        return await client.request(
            method, "/", headers={k.replace("_", "-"): v for k, v in headers.items()}
        )


def cors_headers(response: httpx2.Response) -> dict[str, str]:
    return {k: v for k, v in response.headers.items() if k.startswith("access-control-")}


async def test_every_answer_has_the_security_headers() -> None:
    """R27: a header snapshot; pages may connect to us alone."""
    response = await ask(())

    assert response.headers["x-own"] == "1"
    for name, value in HEADERS:
        assert response.headers[name.decode()] == value.decode()
    policy = response.headers["content-security-policy"]
    assert "connect-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize("origin", ["https://other.example", "null", DESK + ".evil.example"])
@pytest.mark.parametrize("origins", [(), (DESK,)])
async def test_a_page_of_another_host_is_told_nothing(
    origins: tuple[str, ...], origin: str
) -> None:
    """R20: no CORS header without an allowed Origin."""
    plain = await ask(origins, origin=origin)
    preflight = await ask(origins, "OPTIONS", origin=origin, access_control_request_method="POST")

    assert cors_headers(plain) == cors_headers(preflight) == {}
    assert (preflight.status_code, plain.text) == (405, "ok")


async def test_a_named_page_may_call_and_read_what_it_needs() -> None:
    """R20."""
    plain = await ask((DESK,), origin=DESK)
    preflight = await ask(
        (DESK,),
        "OPTIONS",
        origin=DESK,
        access_control_request_method="POST",
        access_control_request_headers="authorization",
    )

    assert plain.headers["access-control-allow-origin"] == DESK
    assert "retry-after" in plain.headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in plain.headers
    assert "authorization" in preflight.headers["access-control-allow-headers"].lower()
    assert preflight.headers["access-control-allow-origin"] == DESK


async def test_caches_keep_pages_of_different_hosts_apart() -> None:
    assert (await ask((DESK,))).headers["vary"] == "Origin"
    assert (await ask((DESK,), origin=DESK)).headers["vary"] == "Origin"
    assert "vary" not in (await ask(())).headers


async def test_what_is_no_http_goes_through_untouched() -> None:
    seen: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend((scope, receive, send))

    async def receive() -> Any: ...
    async def send(_message: Any) -> None: ...

    scope: Scope = {"type": "lifespan"}
    await Browsers(app)(scope, receive, send)

    assert seen == [scope, receive, send]
