"""The table from codes to transports is complete, and tells clients the truth."""

from pathlib import Path

import msgspec
import pytest

from onetape import errors
from onetape.errors import (
    BY_CODE,
    InvalidTopic,
    NotEntitled,
    OnetapeError,
    SlowReader,
    Throttled,
    TokenExpired,
    Unauthorized,
    UpstreamThrottled,
)
from onetape.gateway.replies import (
    REPLIES,
    auth_failed_frame,
    close_code,
    http_reply,
    new_request_id,
    reply_for,
    status_event,
    status_frame,
)
from onetape.massive.wire_stream import array
from onetape.model import Topic

STANDARD = {1008, 1009, 1011, 1012}  # RFC 6455 codes we use in their own sense
DOCUMENT = Path(__file__).parents[2] / "docs" / "errors.md"

every_code = pytest.mark.parametrize("code", BY_CODE)


def documented() -> dict[str, list[str]]:
    rows = [line.strip("|").split("|") for line in DOCUMENT.read_text().splitlines()]
    return {
        row[0].strip(" `"): [cell.strip() for cell in row[1:]]
        for row in rows
        if row[0].startswith(" `")
    }


def test_every_code_has_a_reply_and_every_reply_a_code() -> None:
    assert REPLIES.keys() == BY_CODE.keys()


@every_code
def test_a_close_code_below_4500_means_come_back(code: str) -> None:
    error = BY_CODE[code]
    closed = REPLIES[code].close_code
    comes_back = error.retryable or issubclass(error, Unauthorized)

    assert closed in STANDARD or (4000 <= closed < 4500) == comes_back, code
    assert closed in STANDARD or 4000 <= closed <= 4999, code


@every_code
def test_every_error_is_answered_in_the_vendors_shape(code: str) -> None:
    """R31, C7: one body for every failure, with a machine code in it."""
    reply = http_reply(BY_CODE[code]("why"), "0123abcd")

    assert reply.status == REPLIES[code].http_status
    assert 400 <= reply.status < 600
    assert list(msgspec.json.decode(reply.body).items()) == [
        ("status", "ERROR"),
        ("request_id", "0123abcd"),
        ("error", "why"),
        ("code", code),
    ]


@every_code
def test_every_error_has_a_status_frame_with_a_message(code: str) -> None:
    """W-47: errors reach the client; official clients require `message`."""
    (event,) = msgspec.json.decode(status_frame(BY_CODE[code](""), topic=Topic("T.SPY")))

    assert event["ev"] == "status"
    assert event["code"] == code
    assert event["topic"] == "T.SPY"
    assert event["message"]


@pytest.mark.parametrize("error", errors.BY_CODE.values())
def test_credential_faults_are_403_and_nothing_else_has_a_token_code(
    error: type[OnetapeError],
) -> None:
    """C7: a bad token is 403 with a `token_*` code."""
    assert issubclass(error, Unauthorized) == error.code.startswith("token_")
    if issubclass(error, Unauthorized):
        assert REPLIES[error.code] == (403, 4401, "auth_failed")


@pytest.mark.parametrize(
    ("retry_after_s", "header"), [(0.0, b"1"), (0.2, b"1"), (2.0, b"2"), (2.1, b"3")]
)
@pytest.mark.parametrize("error", [Throttled, UpstreamThrottled])
def test_retry_after_is_in_whole_seconds_and_never_early(
    error: type[OnetapeError], retry_after_s: float, header: bytes
) -> None:
    """R28: 429 says when to come back."""
    reply = http_reply(error("wait", retry_after_s=retry_after_s), "id")

    assert reply.status == 429
    assert dict(reply.headers)[b"retry-after"] == header


def test_without_a_wait_there_is_no_retry_after() -> None:
    assert b"retry-after" not in dict(http_reply(Throttled("wait"), "id").headers)


def test_a_foreign_exception_is_internal_and_says_nothing_of_itself() -> None:
    error = RuntimeError("canary in the message")

    reply = http_reply(error, "id")

    assert (reply.status, close_code(error)) == (500, 1011)
    assert b"canary" not in reply.body + status_frame(error)


def test_errors_are_not_cached_and_carry_the_request_id() -> None:
    headers = dict(http_reply(NotEntitled("no"), "abc").headers)

    assert headers[b"cache-control"] == b"no-store"
    assert headers[b"x-request-id"] == b"abc"


def test_a_slow_reader_is_told_in_the_vendors_own_words() -> None:
    assert reply_for(SlowReader("outbox full")) == (503, 1008, "slow_consumer")


def test_an_error_frame_reads_as_the_contract_says() -> None:
    assert status_frame(InvalidTopic("no dot"), topic=Topic("SPY")) == (
        b'[{"ev":"status","status":"error","code":"invalid_topic","message":"no dot","topic":"SPY"}]'
    )
    assert status_frame(TokenExpired("mint another")) == (
        b'[{"ev":"status","status":"auth_failed","code":"token_expired","message":"mint another"}]'
    )


def test_an_event_among_others_makes_the_same_frame() -> None:
    error = InvalidTopic("no dot")

    assert array([status_event(error)]) == status_frame(error)


def test_any_refused_login_reads_auth_failed() -> None:
    (event,) = msgspec.json.decode(auth_failed_frame(NotEntitled("not this asset")))

    assert (event["status"], event["code"]) == ("auth_failed", "not_entitled")


def test_request_ids_are_in_the_vendors_form() -> None:
    first, second = new_request_id(), new_request_id()

    assert first != second
    assert len(first) == 32
    assert set(first) <= set("0123456789abcdef")


def test_docs_list_every_code_with_its_status_and_close_code() -> None:
    listed = documented()

    assert listed.keys() == BY_CODE.keys()
    for code, reply in REPLIES.items():
        assert listed[code][:2] == [str(reply.http_status), str(reply.close_code)], code
        assert all(listed[code]), f"{code} lacks a meaning or an advice"
