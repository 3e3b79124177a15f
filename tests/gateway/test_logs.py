"""Lines are complete, and no secret is in them however it got there."""

import io
import logging
import threading
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import given, strategies as st

from onetape.gateway.logs import (
    SENSITIVE,
    Bridge,
    EventLog,
    Format,
    Renderer,
    Sink,
    bridged,
    event_log,
    redactor,
)
from onetape.secret import Secret
from onetape.testing import ManualClock

CANARY = 'c4n"ary/ü\\secret'
KEY = "ot_abcdefgh_" + "A1-_" * 10 + "xyz"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhYmMifQ.c2lnbmF0dXJl"


def renderer(form: Format = "json", secrets: tuple[str, ...] = (CANARY,)) -> Renderer:
    return Renderer(form, clock=ManualClock(), redact=redactor(secrets))


def log_to(lines: list[bytes], form: Format = "json", level: str = "info") -> EventLog:
    return event_log(lines.append, renderer(form), level=level)


def test_an_event_is_one_json_object_with_its_fields() -> None:
    lines: list[bytes] = []

    log_to(lines).info("request.finished", status=200, cache=None, duration_ms=0.25)

    assert msgspec.json.decode(lines[0]) == {
        "timestamp": "2025-11-24T16:00:00Z",
        "level": "info",
        "event": "request.finished",
        "status": 200,
        "cache": None,
        "duration_ms": 0.25,
    }


def test_people_get_lines_they_can_read() -> None:
    lines: list[bytes] = []

    log_to(lines, "console").warning("quota.high", used=0.81)

    assert b"quota.high" in lines[0]
    assert b"used=0.81" in lines[0]
    assert b"\x1b" not in lines[0]


def test_what_is_below_the_level_costs_no_line() -> None:
    lines: list[bytes] = []

    log_to(lines, level="warning").info("request.finished")

    assert lines == []


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize(
    "fields",
    [
        {"note": f"before {CANARY} after"},
        {"nested": {"deep": [CANARY, KEY]}},
        {CANARY: 1},
        {"url": f"https://x/v3?apiKey={quote(CANARY)}&limit=1"},
        {"url": f"/options?token={JWT}"},
        {"url": "https://x/?limit=1&access_token=plain-but-secret"},
        {"header": "Authorization: Bearer plain-but-secret"},
        {"text": KEY},
        {"text": JWT},
        {"blob": JWT.encode()},
        {"token": "plain-but-secret"},
        {"authorization": "plain-but-secret"},
        {"error": ValueError(CANARY)},
        {"secret_object": Secret(CANARY)},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_no_secret_is_in_a_line_however_it_got_there(form: Format, fields: dict[str, Any]) -> None:
    """R16, R26, W-14."""
    lines: list[bytes] = []

    log_to(lines, form).info("event", **fields)

    (line,) = lines
    spellings = (CANARY, quote(CANARY), repr(CANARY)[1:-1], "plain-but-secret", KEY, JWT)
    for spelling in (*spellings, msgspec.json.encode(CANARY)[1:-1].decode()):
        assert spelling not in line.decode("utf-8", "backslashreplace")


@given(around=st.text(max_size=10), secret=st.text(min_size=4, max_size=20))
def test_a_known_secret_never_survives_json(around: str, secret: str) -> None:
    line = redactor([secret])(msgspec.json.encode({"x": around + secret + around}).decode())

    if secret not in '{"x":"***"}':
        assert msgspec.json.encode(secret).decode()[1:-1] not in line


def test_an_ordinary_line_is_left_as_it_is() -> None:
    line = '{"event":"request.finished","endpoint":"stocks_snapshot_","token_id":"abc-_def"}'

    assert redactor([CANARY])(line) == line


def test_the_public_id_of_a_key_stays() -> None:
    assert redactor([])(KEY) == "ot_abcdefgh_***"


def test_a_secret_too_short_to_be_one_does_not_ruin_every_line() -> None:
    assert redactor(["a"])("abracadabra") == "abracadabra"


def test_a_secret_of_odd_bytes_is_hidden_too() -> None:
    assert redactor(["secret\udcff"])("a secret\udcff b") == "a *** b"


def test_every_sensitive_field_is_hidden() -> None:
    lines: list[bytes] = []

    log_to(lines).info("event", **dict.fromkeys(SENSITIVE, "plain"))

    assert b"plain" not in lines[0]


def test_what_cannot_be_encoded_is_shown_some_way() -> None:
    lines: list[bytes] = []
    log = log_to(lines)

    log.info("event", thing=threading.Lock())
    log.info("event", text="\ud800")
    log.info("event", table={(1, 2): "pair"})

    assert len(lines) == 3
    for line in lines:
        msgspec.json.decode(line)


def test_other_loggers_lines_look_like_ours() -> None:
    lines: list[bytes] = []
    logger = logging.getLogger("onetape.test.bridge")

    with bridged(Bridge(lines.append, renderer()), names=["onetape.test"]):
        logger.info("token.minted", extra={"key_id": "abcdefgh"})
        logger.debug("not.this")
        logger.warning("%s of %s", 1, 2)
    logger.warning("after")

    first, second = map(msgspec.json.decode, lines)
    assert first == {
        "timestamp": "2025-11-24T16:00:00Z",
        "level": "info",
        "event": "token.minted",
        "logger": "onetape.test.bridge",
        "key_id": "abcdefgh",
    }
    assert second["event"] == "1 of 2"


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_traceback_is_told_without_its_secrets(form: Format) -> None:
    lines: list[bytes] = []
    logger = logging.getLogger("onetape.test.traceback")

    with bridged(Bridge(lines.append, renderer(form)), names=[logger.name]):
        try:
            int(CANARY)
        except ValueError:
            logger.exception("rest.internal")

    text = b"\n".join(lines)
    assert b"ValueError" in text
    assert b"test_logs.py" in text
    assert msgspec.json.encode(CANARY)[1:-1] not in text
    assert CANARY.encode() not in text


def test_a_record_that_cannot_be_rendered_harms_nobody(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines: list[bytes] = []
    logger = logging.getLogger("onetape.test.bad")

    with bridged(Bridge(lines.append, renderer()), names=[logger.name]):
        logger.warning("%d", "not a number")
        logger.warning("next")

    assert len(lines) == 1
    assert "Logging error" in capsys.readouterr().err


def test_a_sink_writes_what_it_was_given_before_it_closes() -> None:
    file = io.BytesIO()

    with Sink(file) as sink:
        for n in range(1000):
            sink.write(b"%d" % n)

    assert file.getvalue().splitlines() == [b"%d" % n for n in range(1000)]
    assert sink.dropped == 0


class Stuck(io.RawIOBase):
    """A pipe that nobody reads, until told."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()
        self.released = threading.Event()

    def write(self, _data: object) -> int:
        self.reached.set()
        self.released.wait(10)
        return 0


def test_a_stuck_file_costs_lines_and_not_time() -> None:
    file = Stuck()
    sink = Sink(file, max_lines=10)  # pyright: ignore[reportArgumentType] - a RawIOBase writes too
    with sink:
        sink.write(b"first")
        assert file.reached.wait(10)
        for _ in range(25):
            sink.write(b"more")

        assert sink.dropped == 15
        sink.close(timeout_s=0.01)
        file.released.set()


def test_a_file_that_is_gone_costs_lines_and_nothing_else() -> None:
    file = io.BytesIO()
    file.close()

    with Sink(file) as sink:
        sink.write(b"line")

    assert sink.dropped == 1
