"""Log lines: events with fields, as JSON or for people, and never a secret among them.

    gateway code ── structlog ──┐
                                ├─ render ─ redact ─▶ sink ── own thread ──▶ stdout
    every other logger ─ bridge ┘

Redaction is a second line of defence: no code of ours logs a credential, and what looks
like one, or is one we know, is blotted out of the finished line wherever it stands. The
sink is bounded: a terminal or pipe that blocks costs lines, which are counted, never
the loop.
"""

import logging
import queue
import re
import threading
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, BinaryIO, Final, Literal, Protocol, Self, cast
from urllib.parse import quote

import msgspec
import structlog
from structlog.dev import ConsoleRenderer, plain_traceback
from structlog.processors import format_exc_info

from onetape.clock import Clock

Write = Callable[[bytes], None]
Format = Literal["json", "console"]

HIDDEN: Final = "***"
SENSITIVE: Final = frozenset(
    {
        "apiKey",
        "api_key",
        "apikey",
        "authorization",
        "credential",
        "headers",
        "password",
        "proxy_token",
        "secret",
        "token",
        "x-massive-proxy-token",
    }
)
"""Fields whose value is never shown, whatever it is."""

# What looks like a credential, after text without which it cannot be there: looking for
# that first keeps an ordinary line at a microsecond.
_QUERY: Final = re.compile(r"""(?i)\b((?:api_?key|[a-z_-]*token)=)[^&\s"'\\<>]+""")
_BEARER: Final = re.compile(r"(?i)\b(bearer +)[A-Za-z0-9._~+/=-]{6,}")
_JWT: Final = re.compile(r"()eyJ[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?")
_KEY: Final = re.compile(r"\b(ot_[a-z2-7]{8}_)[A-Za-z0-9_-]{8,}")
_PATTERNS: Final[tuple[tuple[str, re.Pattern[str]], ...]] = (
    ("=", _QUERY),
    ("ot_", _KEY),
    ("eyJ", _JWT),
    ("earer ", _BEARER),
    ("EARER ", _BEARER),
)
_MIN_SECRET: Final = 4  # anything shorter is no secret, and blotting it out ruins every line

_LEVELS: Final[Mapping[str, int]] = logging.getLevelNamesMapping()
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {
    "message",
    "asctime",
    "taskName",
    "color_message",
}

_encoder = msgspec.json.Encoder(enc_hook=str)


class EventLog(Protocol):
    """What code that logs asks for."""

    def info(self, event: str, /, **fields: Any) -> Any:
        """Log one event with its fields."""
        ...

    def warning(self, event: str, /, **fields: Any) -> Any:
        """Log one event that somebody should look at."""
        ...


def redactor(secrets: Iterable[str]) -> Callable[[str], str]:
    """Return what blots the secrets, and all that looks like one, out of a line."""
    forms: set[str] = set()
    for secret in secrets:
        if len(secret) >= _MIN_SECRET:
            text = secret.encode("utf-8", "replace").decode()  # an environment may hold any bytes
            forms.update((secret, repr(secret)[1:-1], quote(text), quote(text, safe="")))
            forms.add(_encoder.encode(text).decode()[1:-1])
    longest_first = sorted(forms, key=len, reverse=True)

    def redact(line: str) -> str:
        for form in longest_first:
            if form in line:
                line = line.replace(form, HIDDEN)
        for hint, pattern in _PATTERNS:
            if hint in line:
                line = pattern.sub(rf"\1{HIDDEN}", line)
        return line

    return redact


class Renderer:
    """The last processor: from an event and its fields to one finished line."""

    def __init__(self, form: Format, *, clock: Clock, redact: Callable[[str], str]) -> None:
        self._clock = clock
        self._redact = redact
        self._console = (
            ConsoleRenderer(colors=False, exception_formatter=plain_traceback, pad_event_to=24)
            if form == "console"
            else None
        )

    def __call__(self, logger: Any, method: str, fields: Mapping[str, Any]) -> bytes:
        """Render one event; anything that cannot be encoded is shown as its `str`."""
        line: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(self._clock.now_ns() / 1e9, UTC),
            "level": method,
            **fields,
        }
        for name in SENSITIVE & line.keys():
            line[name] = HIDDEN
        return self._redact(self._text(logger, method, line)).encode("utf-8", "backslashreplace")

    def _text(self, logger: Any, method: str, line: dict[str, Any]) -> str:
        if self._console is not None:
            line["timestamp"] = f"{line['timestamp']:%H:%M:%S.%f}"[:-3]
            return self._console(logger, method, line)
        if "exc_info" in line:
            line = cast("dict[str, Any]", format_exc_info(logger, method, line))
        try:
            return _encoder.encode(line).decode()
        except (TypeError, ValueError):  # a key that is no string, a lone surrogate
            return _encoder.encode({str(k): ascii(v) for k, v in line.items()}).decode()


class _Lines:
    """A structlog logger that hands finished lines on."""

    def __init__(self, write: Write) -> None:
        self.debug = self.info = self.warning = self.error = self.critical = write


def event_log(write: Write, renderer: Renderer, *, level: str = "info") -> EventLog:
    """Make a logger of our own; it shares no state with any other."""
    return cast(
        "EventLog",
        structlog.wrap_logger(
            _Lines(write),
            processors=[renderer],
            wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level.upper()]),
            cache_logger_on_first_use=True,
        ).bind(),
    )


class Bridge(logging.Handler):
    """Takes what the standard library's loggers say, `extra` fields and all."""

    def __init__(self, write: Write, renderer: Renderer) -> None:
        super().__init__()
        self._write = write
        self._render = renderer

    def emit(self, record: logging.LogRecord) -> None:
        """Render the record as one of our events."""
        try:
            extra = {name: value for name, value in vars(record).items() if name not in _STANDARD}
            fields = {"event": record.getMessage(), "logger": record.name, **extra}
            if record.exc_info:
                fields["exc_info"] = record.exc_info
            self._write(self._render(None, record.levelname.lower(), fields))
        except Exception:  # noqa: BLE001 - the protocol of logging: a handler never raises
            self.handleError(record)


@contextmanager
def bridged(
    bridge: Bridge,
    *,
    level: str = "info",
    names: Iterable[str] = ("onetape", "uvicorn", "asyncio", "aiohttp"),
) -> Generator[None]:
    """Send these loggers' records through the bridge, and nowhere else, while open."""
    before = [(logging.getLogger(name), logging.getLogger(name).level) for name in names]
    for logger, _ in before:
        logger.addHandler(bridge)
        logger.setLevel(_LEVELS[level.upper()])
        logger.propagate = False
    try:
        yield
    finally:
        for logger, former in before:
            logger.removeHandler(bridge)
            logger.setLevel(former)
            logger.propagate = True


class Sink:
    """Writes lines from a thread of its own; what does not fit is dropped and counted."""

    def __init__(self, file: BinaryIO, *, max_lines: int = 10_000) -> None:
        self._file = file
        self._max_lines = max_lines
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="onetape.log", daemon=True)
        self.dropped = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, line: bytes) -> None:
        """Hand one line over; never blocks."""
        if self._lines.qsize() >= self._max_lines:
            self.dropped += 1
        else:
            self._lines.put(line)

    def close(self, *, timeout_s: float = 2.0) -> None:
        """Write what waits, unless the file blocks for longer than the timeout."""
        self._lines.put(None)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            batch = [self._lines.get()]
            while len(batch) < 256 and not self._lines.empty():
                batch.append(self._lines.get())
            lines = [line for line in batch if line is not None]
            try:
                self._file.write(b"".join(line + b"\n" for line in lines))
                self._file.flush()
            except (OSError, ValueError):  # a reader that went away; the gateway stays
                self.dropped += len(lines)
            if len(lines) < len(batch):
                return
