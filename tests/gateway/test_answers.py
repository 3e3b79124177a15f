import gzip

import msgspec
import pytest

from onetape.errors import UpstreamDown, UpstreamGarbled
from onetape.gateway.answers import MAX_RETRY_AFTER_S, Answer, answer_of, refusal
from onetape.massive.wire_rest import next_url_of

ORIGIN = "http://gateway.test:3000"
HTML = b"<html><h1>502 Bad Gateway</h1></html>"


class Response(msgspec.Struct, frozen=True, kw_only=True):
    status: int = 200
    body: bytes = b'{"status":"OK"}'
    content_type: str = "application/json"
    request_id: str | None = "a" * 32
    retry_after_s: float | None = None
    simulated: bool = False


def headers_of(answer: Answer) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in answer.plain(ORIGIN).headers}


def body_of(answer: Answer) -> dict[str, object]:
    return msgspec.json.decode(answer.plain(ORIGIN).body, type=dict[str, object])


def test_a_good_answer_is_the_vendors_own_bytes() -> None:
    body = b' {"b": 1.50, "a":\t[1e3]}\n'
    answer = answer_of(Response(body=body))

    assert answer.plain(ORIGIN).body == body
    assert headers_of(answer) == {
        "content-type": "application/json",
        "cache-control": "no-store",
        "x-request-id": "a" * 32,
        "content-length": str(len(body)),
    }


def test_each_caller_reads_its_own_origin_in_next_url() -> None:
    body = b'{"results":[1],"next_url":"https://api.massive.com/v3/x?cursor=YXA9MQ"}'
    answer = answer_of(Response(body=body))

    for base in (ORIGIN, ORIGIN + "/api/massive", "https://other"):
        copy = answer.plain(base)
        assert next_url_of(copy.body) == base + "/v3/x?cursor=YXA9MQ"
        assert dict(copy.headers)[b"content-length"] == b"%d" % len(copy.body)


def test_the_word_next_url_elsewhere_changes_nothing() -> None:
    body = b'{"results":[{"next_url":"https://api.massive.com/v3/x"}]}'

    assert answer_of(Response(body=body)).plain(ORIGIN).body == body


def test_a_packed_copy_unpacks_to_the_plain_one_and_is_made_once_per_base() -> None:
    body = b'{"results":[%b],"next_url":"https://api.massive.com/v3/x?c=1"}' % b",".join(
        [b"1"] * 999
    )
    answer = answer_of(Response(body=body))
    assert answer.needs_packing(ORIGIN)
    assert answer.packed(ORIGIN) == answer.plain(ORIGIN)

    answer.pack(ORIGIN)

    copy = answer.packed(ORIGIN)
    assert not answer.needs_packing(ORIGIN)
    assert gzip.decompress(copy.body) == answer.plain(ORIGIN).body
    assert dict(copy.headers)[b"content-encoding"] == b"gzip"
    assert dict(copy.headers)[b"vary"] == b"accept-encoding"
    assert answer.needs_packing("http://other")


def test_packed_copies_for_made_up_hosts_are_bounded() -> None:
    body = b'{"results":[%b],"next_url":"https://api.massive.com/v3/x?c=1"}' % b",".join(
        [b"1"] * 999
    )
    answer = answer_of(Response(body=body))

    for n in range(10):
        answer.pack(f"http://host{n}")

    assert [n for n in range(10) if not answer.needs_packing(f"http://host{n}")] == [6, 7, 8, 9]


def test_a_body_without_next_url_has_one_packed_copy_for_all() -> None:
    answer = answer_of(Response(body=b'{"a":"%b"}' % (b"x" * 2_000)))

    answer.pack(ORIGIN)

    assert not answer.needs_packing("http://other")


@pytest.mark.parametrize(
    "response",
    [Response(), Response(body=b"\x89PNG" + b"x" * 5_000, content_type="image/png")],
)
def test_small_and_packed_things_are_not_packed(response: Response) -> None:
    assert not answer_of(response).needs_packing(ORIGIN)


@pytest.mark.parametrize(
    "response",
    [
        Response(body=b'{"results":[1,'),
        Response(body=b""),
        Response(body=HTML, content_type="text/html; charset=utf-8"),
        Response(status=302),
    ],
)
def test_success_that_cannot_be_read_is_garbled(response: Response) -> None:
    with pytest.raises(UpstreamGarbled):
        answer_of(response)


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (400, b'{"status":"ERROR","request_id":"r","error":"bad \'from\'"}', "invalid_request"),
        (403, b'{"status":"NOT_AUTHORIZED","message":"upgrade"}', "upstream_forbidden"),
        (404, b'{"status":"NOT_FOUND","message":"Ticker not found."}', "not_found"),
        (404, b"404 page not found", "not_found"),
        (422, b"", "invalid_request"),
        (502, b'{"status":"ERROR","error":"x"}', "upstream_down"),
        (503, b'{"status":"ERROR","error":"x"}', "upstream_down"),
        (504, b'{"status":"ERROR","error":"x"}', "upstream_timeout"),
    ],
)
def test_a_refusal_passes_unchanged_with_our_code_beside_it(
    status: int, body: bytes, code: str
) -> None:
    """R31: the table of the vendor's statuses."""
    answer = answer_of(Response(status=status, body=body))

    assert (answer.status, answer.plain(ORIGIN).body) == (status, body)
    assert headers_of(answer)["x-onetape-code"] == answer.code == code
    assert not answer.is_good
    assert answer.is_fault is (status >= 500)


def test_the_vendors_401_is_not_the_clients_fault() -> None:
    """C7, R31: a client must not throw its own credential away for our bad key."""
    answer = answer_of(Response(status=401, body=b'{"status":"ERROR","error":"Unknown API Key"}'))

    assert answer.status == 403
    assert headers_of(answer)["x-onetape-code"] == "upstream_forbidden"
    assert body_of(answer)["code"] == "upstream_forbidden"
    assert "gateway's key" in str(body_of(answer)["error"])
    assert answer.request_id == "a" * 32


@pytest.mark.parametrize(
    ("status", "ours", "code"),
    [
        (500, 502, "upstream_down"),
        (502, 502, "upstream_down"),
        (503, 503, "upstream_down"),
        (504, 504, "upstream_timeout"),
        (599, 502, "upstream_down"),
        (404, 404, "not_found"),
    ],
)
def test_a_page_instead_of_an_error_becomes_json(status: int, ours: int, code: str) -> None:
    answer = answer_of(
        Response(status=status, body=HTML, content_type="text/html", request_id=None)
    )

    assert answer.status == ours
    assert body_of(answer)["status"] == "ERROR"
    assert body_of(answer)["code"] == code
    assert body_of(answer)["request_id"] == answer.request_id == headers_of(answer)["x-request-id"]


def test_an_empty_5xx_becomes_json() -> None:
    assert body_of(answer_of(Response(status=503, body=b"")))["code"] == "upstream_down"


@pytest.mark.parametrize(
    ("told_s", "passed"), [(None, "5"), (0.0, "1"), (1.2, "2"), (60.0, "5"), (1e12, "5")]
)
@pytest.mark.parametrize("body", [b'{"status":"ERROR","error":"maximum requests"}', b""])
def test_the_vendors_429_keeps_its_status_with_a_bearable_wait(
    told_s: float | None, passed: str, body: bytes
) -> None:
    """R85: the official client sleeps three times what we say."""
    answer = answer_of(Response(status=429, body=body, retry_after_s=told_s))

    assert answer.status == 429
    assert answer.is_fault
    assert headers_of(answer)["retry-after"] == passed
    assert headers_of(answer)["x-onetape-code"] == "upstream_throttled"
    assert body_of(answer)["status"] == "ERROR"


@pytest.mark.parametrize("evil", ["a\r\nset-cookie: x=1", "\xe9", "x" * 200])
def test_a_header_of_the_vendor_cannot_break_ours(evil: str) -> None:
    answer = answer_of(Response(content_type=evil, request_id=evil))

    assert headers_of(answer)["content-type"] == "application/octet-stream"
    assert len(headers_of(answer)["x-request-id"]) == 32


def test_our_own_errors_wait_no_longer_than_the_vendors() -> None:
    answer = refusal(UpstreamDown("the breaker is open", retry_after_s=60), "r" * 32)

    assert headers_of(answer)["retry-after"] == str(round(MAX_RETRY_AFTER_S))
    assert headers_of(answer)["x-onetape-code"] == "upstream_down"


def test_what_keeping_costs_has_room_for_packed_copies() -> None:
    answer = answer_of(Response(body=b'{"a":"%b"}' % (b"x" * 10_000)))

    assert answer.size_bytes > 20_000
