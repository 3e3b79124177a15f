"""Tradier's side of its streams: whose session is good, who reads what, who is ended.

Sans-I/O: messages and time come in, effects come out. One machine holds all connections,
WebSocket and HTTP, because there is one stream per token.

    mint ─▶ a session id, good for 5 minutes
    accept ─▶ OPEN ──payload with a good id──▶ READING ──another payload──▶ replaces it all
                │                                 │
                ├─ no good id ──▶ {"error": …}    ├─ a second stream ──▶ ended, or it is refused
                └─ bad symbol ──▶ {"error": …}    ├─ 02:00 in New York ──▶ ended
                                                  └─ HTTP, 15 minutes without data ──▶ ended

An id only opens: what reads goes on after the 5 minutes, but must not change without a new one.
"""

import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Literal, NamedTuple

import msgspec

from onetape.errors import UNREADABLE
from onetape.simulator.actions import (
    Close as CloseFault,
    Drop,
    Evict,
    Garbage,
    Mute,
    Refuse,
    Stage,
)
from onetape.simulator.effects import Abort, Close, Effect, Freeze, Send, SessionId, Thaw
from onetape.simulator.faults import Faults
from onetape.simulator.tradier.actions import SendError, TradierStreamActions
from onetape.simulator.tradier.events import KINDS, Event
from onetape.simulator.tradier.mangling import Mangler, garbage
from onetape.simulator.tradier.policy import TradierPolicy

Transport = Literal["websocket", "http"]

NOT_FOUND: Final = "session not found"
NOTHING: Final = "$empty$"
"""What Lean's client sends to read no symbol at all."""
# The vendor's words for these are not known.
NOT_READABLE: Final = "invalid request"
NO_SYMBOLS: Final = "symbols is required"
TOO_MANY: Final = "too many streaming sessions"

_SYMBOL: Final = re.compile(r"[A-Z][A-Z0-9/']{0,20}", re.ASCII)
_NORMAL, _GOING_AWAY, _POLICY_VIOLATION, _ABNORMAL = 1000, 1001, 1008, 1006
_RESENT: Final = ("quote", "trade", "tradex")
_LOOK_EVERY_S: Final = 0.25
_MOST_MINTS: Final = 10_000


class Payload(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a client reads; unknown keys are ignored."""

    symbols: list[str]
    sessionid: str = ""
    filter: list[str] = msgspec.field(default_factory=lambda: list(KINDS))
    linebreak: bool = False
    valid_only: bool = True
    advanced_details: bool = False


class StreamStatistics(NamedTuple):
    """What Tradier's streams have seen."""

    sessions_minted: int
    connections_open: int
    connections_total: int
    evictions: int
    rejections: int
    errors: int
    slow_consumers: int
    events: int
    symbols: tuple[str, ...]


class _Counts:
    def __init__(self) -> None:
        self.minted = self.connections = self.evictions = self.rejections = 0
        self.errors = self.slow = self.events = 0


class _Connection:
    """One stream, as the vendor sees it."""

    def __init__(self, identity: SessionId, transport: Transport, now: float) -> None:
        self.id = identity
        self.transport: Transport = transport
        self.data_at = self.looked_at = now
        self.payload: Payload | None = None
        self.symbols: frozenset[str] = frozenset()
        self.kinds: frozenset[str] = frozenset()
        self.heard: dict[tuple[str, str], float] = {}
        self.mangler = Mangler()
        self.muted_until: float | None = None
        self.frozen = False

    def wants(self, event: Event) -> bool:
        """Whether it reads the event."""
        return event.symbol in self.symbols and event.kind in self.kinds


_payload: Final = msgspec.json.Decoder(Payload)


class TradierStreams:
    """All streams of the one token there is. One task owns it; nothing awaits."""

    def __init__(
        self,
        *,
        policy: TradierPolicy,
        faults: Faults,
        new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        self._policy = policy
        self._faults = faults
        self._new_id = new_id
        self._mints: dict[str, float] = {}
        self._connections: dict[SessionId, _Connection] = {}
        self._latest: dict[tuple[str, str], Event] = {}
        self._demand: dict[str, frozenset[str]] | None = None
        self._counts = _Counts()
        self._out: list[Effect] = []

    # ---- sessions ----

    def mint(self, now: float) -> str:
        """Return a new session id; the sandbox's are good for nothing."""
        self._counts.minted += 1
        found = self._new_id()
        if not self._policy.sandbox:
            self._mints[found] = now
            if len(self._mints) > _MOST_MINTS:
                del self._mints[next(iter(self._mints))]
        return found

    def _is_good(self, sessionid: str, now: float) -> bool:
        minted_at = self._mints.get(sessionid)
        return minted_at is not None and now - minted_at < self._policy.session_ttl_s

    # ---- receiving ----

    def refuses(self, transport: Transport, now: float) -> int | None:
        """Whether the request fails, and with what HTTP status."""
        fault = self._faults.for_tradier_stream(Stage.UPGRADE, transport, now)
        return fault.status if isinstance(fault, Refuse) else None

    def accept(self, identity: SessionId, transport: Transport, now: float) -> list[Effect]:
        """Take on a connection; nothing is said to it."""
        new = self._connections[identity] = _Connection(identity, transport, now)
        self._counts.connections += 1
        self._suffer(new, Stage.ACCEPT, now)
        return self._drained()

    def receive(self, identity: SessionId, frame: bytes, now: float) -> list[Effect]:
        """Read what a WebSocket client sent."""
        known = self._connections.get(identity)
        if known is not None:
            try:
                payload = _payload.decode(frame)
            except UNREADABLE:
                self._complain(known, NOT_READABLE)
            else:
                self._read(known, payload, now)
        return self._drained()

    def read(self, identity: SessionId, payload: Payload, now: float) -> list[Effect]:
        """Let a connection read these symbols, and no others any more."""
        known = self._connections.get(identity)
        if known is not None:
            self._read(known, payload, now)
        return self._drained()

    def written(self, identity: SessionId, pending_bytes: int) -> list[Effect]:
        """Learn how much of what was sent still waits; too much cuts the client."""
        known = self._connections.get(identity)
        if known is not None and pending_bytes > self._policy.buffer_bytes:
            self._counts.slow += 1
            self._end(known, _POLICY_VIOLATION, "slow consumer")
        return self._drained()

    def lost(self, identity: SessionId) -> None:
        """Forget a connection that ended, however it ended."""
        known = self._connections.get(identity)
        if known is not None:
            self._forget(known)

    def end_all(self) -> list[Effect]:
        """End every stream, and every session: the night."""
        self._mints.clear()
        for one in tuple(self._connections.values()):
            self._end(one, _GOING_AWAY, "")
        return self._drained()

    def tick(self, now: float) -> list[Effect]:
        """Let time pass: silences that end, faults, idle symbols and idle streams."""
        for one in tuple(self._connections.values()):
            self._unmute(one, now)
            if one.payload is not None:
                self._suffer(one, Stage.LIVE, now)
            if one.id in self._connections and now - one.looked_at >= _LOOK_EVERY_S:
                one.looked_at = now
                self._resend(one, now)
                idle_s = now - one.data_at
                if one.transport == "http" and idle_s >= self._policy.idle_close_s:
                    self._end(one, _NORMAL, "")
        return self._drained()

    # ---- sending ----

    def demand(self) -> Mapping[str, frozenset[str]]:
        """Which symbols are read, by kind of event; the same object until it changes."""
        if self._demand is None:
            wanted: dict[str, set[str]] = {kind: set() for kind in KINDS}
            for one in self._connections.values():
                for kind in one.kinds:
                    wanted[kind] |= one.symbols
            self._demand = {kind: frozenset(some) for kind, some in wanted.items() if some}
            read = frozenset[str]().union(*self._demand.values())
            self._latest = {key: one for key, one in self._latest.items() if key[0] in read}
        return self._demand

    def remember(self, events: Iterable[Event]) -> None:
        """Know these ticks, to send them again while their symbols are idle."""
        for one in events:
            self._latest.setdefault((one.symbol, one.kind), one)

    def publish(self, events: list[Event], now: float) -> list[Effect]:
        """Hand the events of one step to whoever reads them."""
        if events:
            self._latest.update({(one.symbol, one.kind): one for one in events})
            for connection in tuple(self._connections.values()):
                self._deliver(connection, [e for e in events if connection.wants(e)], now)
        return self._drained()

    def statistics(self) -> StreamStatistics:
        """Count everything."""
        counts = self._counts
        return StreamStatistics(
            sessions_minted=counts.minted,
            connections_open=len(self._connections),
            connections_total=counts.connections,
            evictions=counts.evictions,
            rejections=counts.rejections,
            errors=counts.errors,
            slow_consumers=counts.slow,
            events=counts.events,
            symbols=tuple(sorted(frozenset[str]().union(*self.demand().values()))),
        )

    # ---- what happens to a connection ----

    def _read(self, one: _Connection, payload: Payload, now: float) -> None:
        self._suffer(one, Stage.SUBSCRIBE, now)
        if one.id not in self._connections:
            return
        why = self._objection(payload, now)
        if why is not None:
            self._complain(one, why)
        elif self._is_admitted(one):
            one.payload = payload
            one.symbols = frozenset(payload.symbols) - {NOTHING}
            one.kinds = frozenset(payload.filter or KINDS)
            known = one.heard
            names = [name for name in payload.symbols if name in one.symbols]
            pairs = ((name, kind) for name in names for kind in _RESENT if kind in one.kinds)
            one.heard = {pair: known.get(pair, now) for pair in pairs}
            self._demand = None

    def _objection(self, payload: Payload, now: float) -> str | None:
        if not self._is_good(payload.sessionid, now):
            return NOT_FOUND
        if not payload.symbols:
            return NO_SYMBOLS
        for name in payload.symbols:
            if name != NOTHING and not _SYMBOL.fullmatch(name):
                return f"{name} is not a valid symbol"
        unknown = next((kind for kind in payload.filter if kind not in KINDS), None)
        return None if unknown is None else f"{unknown} is not a valid filter"

    def _is_admitted(self, one: _Connection) -> bool:
        """Keep to one stream per token: the first or the second must go."""
        others = [c for c in self._connections.values() if c.payload is not None and c is not one]
        if others and self._policy.second_stream == "reject":
            self._counts.rejections += 1
            self._say_error(one, TOO_MANY)
            self._end(one, _POLICY_VIOLATION, "")
            return False
        for other in others:
            self._evict(other)
        return True

    def _deliver(self, one: _Connection, batch: list[Event], now: float) -> None:
        if not batch or one.payload is None:
            return
        fault = self._suffer(one, Stage.DATA, now)
        if one.id not in self._connections:
            return
        one.data_at = now
        one.heard.update({key: now for e in batch if (key := (e.symbol, e.kind)) in one.heard})
        self._counts.events += len(batch)
        self._send(one, batch, fault)

    def _send(
        self, one: _Connection, batch: list[Event], fault: TradierStreamActions | None
    ) -> None:
        payload = one.payload
        assert payload is not None, "only who reads is sent anything"
        end = b"\n" if payload.linebreak else b""
        for frame in one.mangler.frames(batch, fault, detailed=payload.advanced_details):
            self._say(one, frame + end)

    def _resend(self, one: _Connection, now: float) -> None:
        """Send the old ticks of idle symbols again, as old as they are."""
        every_s = self._policy.resend_s
        if every_s is None or one.payload is None:
            return
        due = [key for key, at in one.heard.items() if now - at >= every_s]
        batch = [self._latest[key] for key in due if key in self._latest]
        if batch:
            one.data_at = now
            one.heard.update({(event.symbol, event.kind): now for event in batch})
            self._send(one, batch, None)

    def _suffer(self, one: _Connection, stage: Stage, now: float) -> TradierStreamActions | None:
        fault = self._faults.for_tradier_stream(stage, one.transport, now)
        match fault:
            case Drop() | CloseFault(code=1006):
                self._abort(one)
            case CloseFault(code=code, reason=reason):
                self._end(one, code, reason)
            case Mute():
                self._mute(one, fault, now)
            case Evict():
                self._evict(one)
            case SendError(message=message):
                self._complain(one, message)
            case Garbage(kind=kind) if stage is not Stage.DATA:
                self._say(one, garbage(kind))
            case _:
                pass
        return fault

    def _mute(self, one: _Connection, fault: Mute, now: float) -> None:
        one.muted_until = float("inf") if fault.for_s is None else now + fault.for_s
        if not fault.pong and not one.frozen:
            one.frozen = True
            self._out.append(Freeze(one.id))

    def _unmute(self, one: _Connection, now: float) -> None:
        if one.muted_until is not None and now >= one.muted_until:
            one.muted_until = None
            if one.frozen:
                one.frozen = False
                self._out.append(Thaw(one.id))

    def _evict(self, one: _Connection) -> None:
        self._counts.evictions += 1
        self._end(one, _NORMAL, "")

    def _complain(self, one: _Connection, message: str) -> None:
        self._say_error(one, message)
        if self._policy.close_on_error or one.transport == "http":
            self._end(one, _NORMAL, "")

    def _say_error(self, one: _Connection, message: str) -> None:
        self._counts.errors += 1
        self._say(one, msgspec.json.encode({"error": message}))

    def _say(self, one: _Connection, frame: bytes) -> None:
        if one.muted_until is None:
            self._out.append(Send(one.id, frame))

    def _end(self, one: _Connection, code: int, reason: str) -> None:
        if one.muted_until is not None:
            self._abort(one)  # a mute stream says no goodbye either
            return
        self._out.append(Close(one.id, code, reason))
        self._forget(one)

    def _abort(self, one: _Connection) -> None:
        self._out.append(Abort(one.id))
        self._forget(one)

    def _forget(self, one: _Connection) -> None:
        del self._connections[one.id]
        self._demand = None

    def _drained(self) -> list[Effect]:
        effects, self._out = self._out, []
        return effects
