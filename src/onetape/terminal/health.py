"""How the gateway and the client fare, line by line.

Pure. The gateway's answer is taken as it comes, part by part, so that what a newer one
tells besides is shown as well.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple, cast

from rich.table import Table
from rich.text import Text

from onetape.client import Health, Status
from onetape.terminal.columns import MISSING, Column, Form, duration, new_york
from onetape.terminal.views import DOWN, UP, blank_table

_MS_NS: Final = 1_000_000


class Line(NamedTuple):
    """One part: how it is in a word, and the figures."""

    part: str
    is_well: bool
    state: str
    figures: str


COLUMNS: Final = (
    Column("part", Form.TEXT),
    Column("is_well", Form.FLAG),
    Column("state", Form.TEXT),
    Column("figures", Form.TEXT),
)
"""What programs see of a line."""


def lines_of(gateway: Mapping[str, Any], client: Health, *, now_ns: int) -> tuple[Line, ...]:
    """Return the lines of both, the gateway's first."""
    return (*_gateway(gateway, now_ns), *_client(client, now_ns))


def drawn(lines: Iterable[Line]) -> Table:
    """Draw the lines."""
    table = blank_table()
    for title in ("Part", "State", "Figures"):
        table.add_column(title, overflow="fold")
    for line in lines:
        state = Text(line.state, style=UP if line.is_well else DOWN)
        table.add_row(Text(line.part), state, Text(line.figures))
    return table


# the gateway's


def _gateway(body: Mapping[str, Any], now_ns: int) -> Iterator[Line]:
    status = str(body.get("status", MISSING))
    facts = {"version": body.get("version"), "up": _seconds(body.get("uptime_s"))}
    yield Line("gateway", status == "ok", status, _because(body.get("reasons"), facts))
    parts: Mapping[str, Any] = body.get("components") or {}
    if hub := body.get("hub"):
        parts = {**parts, "hub": hub}
    for name, part in parts.items():
        yield _part(f"gateway {name}", part, now_ns)
    providers: list[Mapping[str, Any]] = body.get("providers") or []
    for one in providers:
        name = f"{one.get('provider', MISSING)} {one.get('data', '')}".rstrip()
        yield _part(f"provider {name}", one, now_ns)


_SAID: Final = {"healthy", "status", "provider", "data"}


def _part(name: str, part: Mapping[str, Any], now_ns: int) -> Line:
    is_well = part.get("healthy") is not False
    state = str(part.get("status") or ("ok" if is_well else "failing"))
    figures = {
        _words(key): _figure(key, value, now_ns) for key, value in part.items() if key not in _SAID
    }
    return Line(name, is_well, state, _listed(figures))


def _words(key: str) -> str:
    """`lastMessageTime`, `last_success_ns` and `response_time_s` become words."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", key).lower()
    return re.sub(r" (ns|s|at|time)$", "", words)


def _figure(key: str, value: Any, now_ns: int) -> str | None:
    if value is None:
        return None
    if (
        isinstance(value, int)
        and not isinstance(value, bool)
        and key.endswith(("Time", "At", "_ns"))
    ):
        at_ns = value if key.endswith("_ns") else value * _MS_NS
        return new_york(at_ns, now_ns=now_ns)
    if key.endswith("_s") and isinstance(value, int | float):
        return _seconds(value)
    return f"{value:,.1f}" if isinstance(value, float) else str(value)


# the client's


def _client(health: Health, now_ns: int) -> Iterator[Line]:
    is_well = health.status is Status.OK
    yield Line("client", is_well, health.status, _because(health.reasons, {}))
    rest = health.rest.rest
    figures = {
        "requests": rest.requests,
        "failures": rest.failures,
        "p50": _seconds(rest.latency_p50_s),
        "last failure": rest.last_failure,
    }
    state = "ok" if health.rest.healthy else "failing"
    yield Line("client rest", health.rest.healthy, state, _listed(figures))
    for asset, stream in health.streams.items():
        last_ns = stream.last_message_ns
        figures = {
            "topics": f"{stream.topics_acked}/{stream.topics_wanted}",
            "failed": stream.topics_failed or None,
            "events/s": f"{stream.messages_per_s:.1f}",
            "reconnects": stream.reconnects,
            "lag": _seconds(stream.lag_s),
            "last frame": None if last_ns is None else new_york(last_ns, now_ns=now_ns),
        }
        yield Line(f"client {asset}", stream.authenticated, stream.state, _listed(figures))
    token = health.token
    figures = {"expires in": _seconds(token.expires_in_s), "mints": token.mints}
    state = "valid" if token.valid else "missing"
    yield Line("client token", token.valid, state, _listed(figures))
    cache = health.cache
    rate = None if cache.hit_rate is None else f"{100 * cache.hit_rate:.0f}%"
    figures = {"entries": cache.entries, "bytes": f"{cache.size_bytes:,}", "hits": rate}
    yield Line("client cache", is_well=True, state="ok", figures=_listed(figures))


# in words


def _because(reasons: Any, figures: Mapping[str, object]) -> str:
    because = ", ".join(map(str, cast("Iterable[object]", reasons or ())))
    return "  ".join(filter(None, (because, _listed(figures))))


def _listed(figures: Mapping[str, object]) -> str:
    return "  ".join(f"{name} {value}" for name, value in figures.items() if value is not None)


def _seconds(value: float | None) -> str | None:
    if value is None:
        return None
    return f"{1000 * value:.0f} ms" if value < 1 else duration(value)
