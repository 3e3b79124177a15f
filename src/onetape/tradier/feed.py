"""Tradier's stream as a machine: time and bytes in, effects and notices out.

            Mint                session             opened
    ┌────▶ MINTING ──────────▶ CONNECTING ────────▶ LIVE ─▶ CLOSING (we hung up; waits for closed)
    │         │ refused, failed     │ closed          │ closed    │
    └─ BACKING_OFF ◀────────────────┴─────────────────┴───────────┘

    IDLE is where nothing is wanted: the way out of every state after `want` of nothing.

A session is leave to connect once, within minutes: it is minted when it is about to be
used, one at a time, and with each connection anew. What is sent replaces what was sent,
so `want` sends the whole list, after a moment in which more wishes may come; by a session
that has aged it is first exchanged for a fresh one, on the running connection.

Tradier acknowledges nothing. The stream is believed once it says anything, or no error
for a moment. It is not believed when it is silent while the market is open, for idle
symbols too are repeated; nor after most of a day, when it has been seen to dry up: then
the session is renewed, while the market is closed. Every input about a connection names
its generation; a late one is not heard.
"""

import random as stdlib_random
import re
from collections import deque
from collections.abc import Callable
from typing import Final

from onetape.calendar import Session, session_of
from onetape.core.recovery import Backoff
from onetape.errors import InvalidRequest
from onetape.massive.notices import (
    AuthFailed,
    Connecting,
    Dial,
    Garbled,
    Hangup,
    Lost,
    Ping,
    Restored,
    SendText,
    VendorStatus,
)
from onetape.secret import Secret
from onetape.tradier.notices import (
    Mint,
    SymbolsFailed,
    Ticks,
    TradierFeedPolicy,
    TradierFeedStatistics,
    TradierOutput,
    TradierState,
)
from onetape.tradier.wire_stream import (
    StreamParser,
    StreamSession,
    subscription,
    wire_names,
)

_Timer = Callable[[float, int], None]
_NORMAL: Final = 1000
_SAMPLE: Final = 120
_REMARKS: Final = 32
_GARBAGE: Final = "\0garbage"  # among the remarks, and never one
_BAD_SYMBOL: Final = re.compile(r"\s*(\S+) is not a valid symbol", re.IGNORECASE)


def market_is_open(now_ns: int) -> bool:
    """Tell whether the regular session is on; where the calendar ends, nobody knows: no."""
    try:
        return session_of(now_ns) is Session.REGULAR
    except InvalidRequest:
        return False


class TradierFeed:
    """The machine. One task calls it; nothing blocks, and outputs are drained by swap.

    `now` is seconds on the monotonic clock, `now_ns` nanoseconds UTC. Call `tick`
    when `wake_at` has come, and after every input.
    """

    def __init__(
        self,
        policy: TradierFeedPolicy,
        *,
        is_open: Callable[[int], bool] = market_is_open,
        simulated: bool = False,
        random: Callable[[], float] = stdlib_random.random,  # noqa: S311 - jitter, not a secret
    ) -> None:
        self._policy = policy
        self._is_open = is_open
        self._parser = StreamParser(
            prints=policy.prints, round_lot=policy.round_lot, simulated=simulated
        )
        self._output: list[TradierOutput] = []
        self._timers: dict[_Timer, float] = {}
        self._state = TradierState.IDLE
        self._wanted: frozenset[str] = frozenset()
        self._failed: dict[str, str] = {}
        self._names: dict[str, str] = {}  # what to carry: our symbols by Tradier's

        self._session: StreamSession | None = None
        self._known_ids: deque[Secret] = deque(maxlen=8)  # to keep out of what we tell
        self._minted_at, self._sent_at = 0.0, float("-inf")
        self._minting = False
        self._used = False  # the session is, and so good for this connection alone

        self._generation = 0
        self._link = 0  # the generation whose `closed` is still to come
        self._reading = 0  # the same, while we listen to it
        self._heard = False  # anything at all since the last ping
        self._spoke_at = 0.0  # when it last sent data, or the market was closed
        self._live_since = 0.0
        self._remarks: set[str] = set()  # what was told of this connection, to tell it once

        self._backoff = _backoff(policy.backoff_base_s, policy.backoff_cap_s, random)
        self._refused_backoff = _backoff(policy.refused_retry_s, policy.refused_retry_cap_s, random)
        self._not_before = float("-inf")
        self._refusal: str | None = None  # the last, while nothing succeeded since
        self._silences = self._rejected = 0  # connections and sessions, in a row

        # An outage lasts from the first trouble to `Restored`, over any number of dials.
        self._trouble: type[Lost | AuthFailed] | None = None
        self._gap_start_ns: int | None = None

        self._frames = self._events = self._bytes = 0
        self._mints = self._refusals = self._reconnects = 0
        self._last_frame_ns: int | None = None
        self._connected_since_ns: int | None = None

    def __repr__(self) -> str:
        return f"<TradierFeed {self._state}, {len(self._names)} of {len(self._wanted)} symbols>"

    # what is wanted

    def want(self, symbols: frozenset[str], now: float, now_ns: int) -> None:
        """Carry exactly these from now on; nothing at all lets the stream go after a while."""
        if symbols == self._wanted:
            return
        self._wanted = symbols
        for gone in self._failed.keys() - symbols:
            del self._failed[gone]
        self._rename()
        self._timers.pop(self._rest, None)
        if self._state is TradierState.LIVE:
            self._resubscribe(now)
            if not symbols:
                self._timers[self._rest] = now + self._policy.rest_s
        elif self._state is TradierState.IDLE:
            self._settle(now)
            self._recall_trouble(now, now_ns)
        elif self._state is TradierState.BACKING_OFF and not symbols:
            self._settle(now)

    def retire(self, now: float, now_ns: int) -> None:
        """Let it go now."""
        self.want(frozenset(), now, now_ns)
        self._rest(now, now_ns)

    # what the edge reports

    def minted(self, session: StreamSession, now: float, now_ns: int) -> None:
        """The session that `Mint` asked for."""
        self._minting = False
        self._mints += 1
        self._session, self._minted_at, self._used = session, now, False
        self._known_ids.append(session.session_id)
        if self._state is TradierState.LIVE:
            self._subscribe(now, now_ns)
        elif self._state is TradierState.MINTING:
            self._settle(now)

    def mint_failed(
        self, message: str, now: float, now_ns: int, *, refused: bool, retry_after_s: float = 0.0
    ) -> None:
        """There is none; `refused` when our token is at fault, and asking again won't help."""
        self._minting = False
        if refused:
            self._refuse(message, now, now_ns)
        if self._state is TradierState.LIVE:  # what it carries, it goes on to carry
            again_at = now + max(retry_after_s, self._backoff.next_delay())
            self._timers[self._subscribe] = max(again_at, self._not_before)
        elif self._state is TradierState.MINTING:
            if not refused:
                self._lose(message, None, now, now_ns)
                self._not_before = max(self._not_before, now + retry_after_s)
            self._settle(now)

    def opened(self, generation: int, now: float, now_ns: int) -> None:
        """The connection is made, TLS and upgrade included."""
        if generation != self._link or self._state is not TradierState.CONNECTING:
            return
        if not self._wanted:
            self._hang_up(_NORMAL)
            return
        self._enter(TradierState.LIVE)
        self._reading = generation
        self._live_since = self._spoke_at = now
        self._connected_since_ns = now_ns
        self._remarks.clear()
        if self._trouble is not None:
            self._reconnects += 1
        self._timers[self._ping] = now + self._policy.ping_interval_s
        self._timers[self._watch] = now + self._policy.silence_s
        self._timers[self._rotate] = now + self._policy.rotate_s
        self._subscribe(now, now_ns)

    def frame(self, generation: int, data: bytes, now: float, now_ns: int) -> None:
        """A whole message came, text or binary. The hot path."""
        if generation != self._reading:
            return
        said = self._parser.parse(data, received_ns=now_ns)
        self._heard = True
        self._last_frame_ns = now_ns
        self._frames += 1
        self._bytes += len(data)
        if said.events:
            self._events += len(said.events)
            self._output.append(Ticks(said.events))
        if said.events or said.quiet:
            self._believe(now, now_ns)
        if said.garbage:
            self._complain(said.garbage)
        for error in said.errors:
            if self._reading:  # else one of them made us hang up
                self._heed(error, now, now_ns)

    def alive(self, generation: int) -> None:
        """Anything else came: a pong, a ping."""
        if generation == self._reading:
            self._heard = True

    def closed(
        self, generation: int, code: int | None, reason: str, now: float, now_ns: int
    ) -> None:
        """The connection is gone, or was never made. The last input of its generation."""
        if generation != self._link:
            return
        if self._state is not TradierState.CLOSING and self._wanted:
            self._lose(reason or "closed", code, now, now_ns)
        self._link = self._reading = 0
        if self._used:
            self._session = None
        self._settle(now)

    def tick(self, now: float, now_ns: int) -> None:
        """Do what is due."""
        while self._timers:
            timer = min(self._timers, key=self._timers.__getitem__)
            if self._timers[timer] > now:
                return
            del self._timers[timer]
            timer(now, now_ns)

    # output

    @property
    def state(self) -> TradierState:
        """Where the feed is."""
        return self._state

    @property
    def failed(self) -> dict[str, str]:
        """The symbols that Tradier does not carry, and why: a copy."""
        return dict(self._failed)

    @property
    def has_output(self) -> bool:
        """Whether `drain` has anything to return; cheaper than draining."""
        return bool(self._output)

    def drain(self) -> list[TradierOutput]:
        """Return what to do and to tell, in order."""
        output, self._output = self._output, []
        return output

    def wake_at(self) -> float | None:
        """Return when to `tick` next; None when only an input can change anything."""
        return min(self._timers.values(), default=None)

    def statistics(self) -> TradierFeedStatistics:
        """Count everything."""
        read = self._parser.statistics()
        return TradierFeedStatistics(
            state=self._state,
            symbols_wanted=len(self._wanted),
            symbols_failed=len(self._failed),
            frames=self._frames,
            events=self._events,
            old=read.old,
            ignored=read.ignored,
            garbled=read.garbled,
            bytes=self._bytes,
            mints=self._mints,
            refusals=self._refusals,
            reconnects=self._reconnects,
            last_frame_ns=self._last_frame_ns,
            connected_since_ns=self._connected_since_ns,
        )

    # private, the connection's life

    def _enter(self, state: TradierState) -> None:
        self._state = state
        self._timers.clear()
        self._connected_since_ns = None

    def _settle(self, now: float) -> None:
        """Decide what to do without a connection."""
        if not self._wanted:
            self._enter(TradierState.IDLE)
            self._gap_start_ns = None  # nobody listens, so nobody misses anything
            self._trouble = None
        elif now < self._not_before:
            self._enter(TradierState.BACKING_OFF)
            self._timers[self._resume] = self._not_before
        elif self._is_fresh(now):
            self._enter(TradierState.CONNECTING)
            self._generation += 1
            self._link = self._generation
            attempt = self._backoff.attempts + 1
            self._output += (Connecting(attempt=attempt), Dial(self._generation))
        else:
            self._enter(TradierState.MINTING)
            self._mint()

    def _is_fresh(self, now: float) -> bool:
        return self._session is not None and now - self._minted_at < self._policy.session_s

    def _mint(self) -> None:
        if not self._minting:
            self._minting = True
            self._output.append(Mint())

    def _rest(self, now: float, _now_ns: int) -> None:
        if self._reading:
            self._hang_up(_NORMAL)
        elif not self._link and not self._wanted:
            self._settle(now)

    def _resume(self, now: float, _now_ns: int) -> None:
        self._settle(now)

    def _hang_up(self, code: int | None) -> None:
        self._enter(TradierState.CLOSING)
        self._reading = 0
        self._output.append(Hangup(code))

    def _lose(self, reason: str, code: int | None, now: float, now_ns: int) -> None:
        """Note that the stream went down through no wish of ours, and when to dial again."""
        since_ns = self._begin_outage(now, now_ns)
        self._not_before = max(self._not_before, now + self._backoff.next_delay())
        self._tell(Lost(reason=self._clean(reason), code=code, since_ns=since_ns))

    def _begin_outage(self, now: float, now_ns: int) -> int:
        if self._state is TradierState.LIVE and now - self._live_since >= self._policy.stable_s:
            self._backoff.reset()
        if self._gap_start_ns is None:
            heard_ns = max(self._last_frame_ns or 0, self._connected_since_ns or 0)
            self._gap_start_ns = heard_ns if self._reading else now_ns
        return self._gap_start_ns

    def _recall_trouble(self, now: float, now_ns: int) -> None:
        """Tell who comes while we wait after a refusal, why nothing happens."""
        if self._state is TradierState.BACKING_OFF and self._refusal is not None:
            self._begin_outage(now, now_ns)
            self._tell(AuthFailed(message=self._refusal))

    def _tell(self, trouble: Lost | AuthFailed) -> None:
        """Tell of trouble, once for each kind in a row."""
        if self._trouble is not type(trouble):
            self._trouble = type(trouble)
            self._output.append(trouble)

    def _drop(self, reason: str, code: int | None, now: float, now_ns: int) -> None:
        self._lose(reason, None, now, now_ns)
        self._hang_up(code)

    def _ping(self, now: float, _now_ns: int) -> None:
        self._output.append(Ping())
        self._timers[self._ping] = now + self._policy.ping_interval_s
        if self._miss_pong not in self._timers:
            self._heard = False
            self._timers[self._miss_pong] = now + self._policy.pong_deadline_s

    def _miss_pong(self, now: float, now_ns: int) -> None:
        if not self._heard:
            self._drop("no sign of life after a ping", None, now, now_ns)

    def _watch(self, now: float, now_ns: int) -> None:
        """Hang up on a stream that is silent while the market is open."""
        policy = self._policy
        limit_s = min(
            policy.silence_s * 2**self._silences, max(policy.silence_s, policy.silence_cap_s)
        )
        if not self._names or not self._is_open(now_ns):
            self._spoke_at = now
        if now < self._spoke_at + limit_s:
            self._timers[self._watch] = min(self._spoke_at + limit_s, now + policy.silence_s)
            return
        self._silences = min(self._silences + 1, 30)
        self._drop("silent while the market is open", _NORMAL, now, now_ns)

    def _rotate(self, now: float, now_ns: int) -> None:
        """Renew an old session, but not while the market is open."""
        if self._is_open(now_ns):
            self._timers[self._rotate] = now + self._policy.silence_s
        else:
            self._drop("the session is renewed", _NORMAL, now, now_ns)

    # private, the subscription

    def _rename(self) -> None:
        names, unnamed = wire_names(self._wanted - self._failed.keys())
        self._names = names
        self._parser.name(names)
        self._fail(unnamed, "Tradier has no name for it")

    def _resubscribe(self, now: float) -> None:
        """Send the list anew, in a moment: more may change."""
        self._timers.setdefault(self._subscribe, max(now, self._sent_at + self._policy.replace_s))

    def _subscribe(self, now: float, _now_ns: int) -> None:
        self._timers.pop(self._subscribe, None)
        if self._session is None or not self._is_fresh(now):
            if self._wanted:  # else it is let go soon, which is not worth a session
                self._mint()
            return
        frame = subscription(self._names, self._session.session_id, prints=self._policy.prints)
        self._output.append(SendText(frame))
        self._sent_at = now
        self._used = True
        if self._gap_start_ns is not None:
            self._timers[self._settle_gap] = now + self._policy.settle_s

    def _fail(self, symbols: frozenset[str], reason: str) -> None:
        if symbols:
            self._failed.update(dict.fromkeys(symbols, reason))
            self._output.append(SymbolsFailed(symbols=symbols, reason=reason))

    # private, what Tradier says

    def _believe(self, now: float, now_ns: int) -> None:
        self._spoke_at = now
        self._silences = self._rejected = 0
        if self._gap_start_ns is not None:
            self._settle_gap(now, now_ns)

    def _settle_gap(self, _now: float, now_ns: int) -> None:
        """End the outage."""
        self._timers.pop(self._settle_gap, None)
        start_ns, self._gap_start_ns = self._gap_start_ns, None
        self._trouble = self._refusal = None
        self._refused_backoff.reset()
        assert start_ns is not None, "there was one"
        self._output.append(Restored(gap_start_ns=start_ns, gap_end_ns=now_ns))

    def _complain(self, garbage: list[bytes]) -> None:
        if _GARBAGE not in self._remarks:
            self._remarks.add(_GARBAGE)
            head = self._clean(garbage[0].decode("latin-1"))[:_SAMPLE]
            sample = head.encode("unicode_escape").decode()[:_SAMPLE]
            count = self._parser.statistics().garbled
            self._output.append(Garbled(count=count, sample=sample))

    def _heed(self, error: str, now: float, now_ns: int) -> None:
        message = self._clean(error)[:_SAMPLE]
        bad = _BAD_SYMBOL.match(error)
        if bad is not None and bad[1] in self._names:
            self._fail(frozenset((self._names[bad[1]],)), message)
            self._rename()
            self._resubscribe(now)
        elif "session" in error.lower():
            self._rejected += 1
            self._session = None
            if self._rejected > 1:  # the first may have been old; a fresh one tells
                self._refuse(message, now, now_ns)
                self._hang_up(_NORMAL)
            else:
                self._drop(message, _NORMAL, now, now_ns)
        else:
            self._remark(message)

    def _refuse(self, message: str, now: float, now_ns: int) -> None:
        self._refusals += 1
        self._not_before = now + self._policy.refused_retry_s + self._refused_backoff.next_delay()
        message = self._clean(message)
        if self._state is TradierState.LIVE and self._session is not None:
            self._remark(f"no new session: {message}")  # what runs, runs on
            return
        self._refusal = message
        if self._wanted:  # else nobody listens, and who comes is told then
            self._begin_outage(now, now_ns)
            self._tell(AuthFailed(message=message))

    def _remark(self, message: str) -> None:
        if message not in self._remarks and len(self._remarks) < _REMARKS:
            self._remarks.add(message)
            self._output.append(VendorStatus(status="error", message=message))

    def _clean(self, text: str) -> str:
        for one in self._known_ids:
            text = text.replace(one.reveal(), "***")
        return text


def _backoff(base_s: float, cap_s: float, random: Callable[[], float]) -> Backoff:
    return Backoff(base_s, max(base_s, cap_s), first_immediate=True, random=random)
