"""Where each key's data comes from: the stream, and REST while the stream cannot.

Sans-I/O. One line per key (kind, symbol) however many read it. What the endpoints, the
topics and the polls do comes in; what to want, to ask and to deliver goes out. Time comes
in as seconds on the monotonic clock (`now`) and as nanoseconds UTC (`now_ns`).

    open ──▶ UNSTREAMED                 the plan does not stream it: polled for good
      │
      ▼      topic live, or an event
    WAITING ──────────────────────────▶ STREAMING ◀──────────────────────┐
      │ not live in time, topic failed      │                            │ answered, or
      ▼                                     │ endpoint down, topic       │ given up (a gap)
    POLLING ◀───────────────────────────────┘ failed, or silent while    │
      │  ▲                                    REST shows something       │
      │  └──── endpoint down, topic failed ────────────────────────┐     │
      │                                                            │     │
      └──────────────────────────────────────────────────────────▶ BRIDGING
             topic live, or an event newer than all delivered

A line has one source: the stream's events are delivered in STREAMING alone, those of REST
never there. BRIDGING asks REST once more, for what happened until the stream was back:
trades and bars of the stream are held until it has told; a quote of the stream ends it,
for an old quote is of no use. What a poll brings after its line moved on is dropped.

That the stream is up is judged by connection and by topic. A symbol that is silent for
seconds is looked at once and then left alone: illiquid contracts are quiet.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from onetape.client._line import Line, Polls
from onetape.client._notices import (
    WINDOW_NS,
    Change,
    Deliver,
    Event,
    Gap,
    Key,
    Kind,
    Output,
    Reason,
    SourceChanged,
    State,
    Streamed,
    TransportPolicy,
    TransportStatistics,
    Want,
)
from onetape.client._tape import Verdict
from onetape.errors import InvalidRequest
from onetape.model import AssetClass, Bar, Quote, Topic
from onetape.provenance import Source

_SCAN_S: Final = 0.5  # silence is looked for that often at most
_NEW: Final = Verdict.NEW  # of an Enum a lookup costs as much as the rest of a comparison
_POLLED: Final = frozenset({State.POLLING, State.UNSTREAMED})


class Transport:
    """The source of every key that is read. One task owns it.

    Args:
        policy: Intervals and bounds.
        streamed: The asset classes that the plan streams; others are polled for good.
    """

    def __init__(
        self, policy: TransportPolicy | None = None, *, streamed: Collection[AssetClass]
    ) -> None:
        self._policy = policy or TransportPolicy()
        self._streamed = frozenset(streamed)
        self._lines: dict[Key, Line] = {}
        self._by_topic: dict[Topic, Line] = {}
        self._by_symbol: dict[Kind, dict[str, Line]] = {kind: {} for kind in Kind}
        self._up: set[AssetClass] = set()
        self._upstream_down: set[AssetClass] = set()
        self._polls = Polls(self._policy)
        self._deadlines: dict[Line, float] = {}  # of those waiting
        self._scan_at: float | None = None
        self._outputs: list[Output] = []
        self._want_changed = False
        self._count = dict.fromkeys(TransportStatistics._fields[len(State) :], 0)

    def __repr__(self) -> str:
        states = ", ".join(f"{n} {state}" for state, n in self._census().items() if n)
        return f"<Transport {states or 'idle'}>"

    # what is read

    def open(
        self, key: Key, now: float, now_ns: int, *, poll_interval_s: float | None = None
    ) -> None:
        """Carry the key for one more reader. The shortest interval asked for counts.

        Raises:
            InvalidRequest: there is no such data (not a symbol, or an index's trades), or no
                such interval.
        """
        topic = key.topic
        default_s = self._policy.interval_s(key.asset)
        base_s = default_s if poll_interval_s is None else poll_interval_s
        if not base_s > 0:
            raise InvalidRequest("an interval is longer than 0 seconds")
        line = self._lines.get(key)
        if line is None:
            self._add(key, topic, now, now_ns, base_s=base_s)
        else:
            line.readers += 1
            line.base_s = min(line.base_s, base_s)

    def tag(self, key: Key, tag: object) -> None:
        """Mark the key's line; `Streamed` shows the mark again."""
        self._lines[key].tag = tag

    def close(self, key: Key) -> None:
        """One reader less; with the last, the key is forgotten. Unknown keys are ignored."""
        line = self._lines.get(key)
        if line is None:
            return
        line.readers -= 1
        if line.readers:
            return
        del self._lines[key]
        del self._by_symbol[key.kind][key.symbol]
        self._unplan(line)
        if line.topic is not None:
            del self._by_topic[line.topic]
            self._want_changed = True
        if not self._lines:
            self._scan_at = None

    @property
    def wanted(self) -> frozenset[Topic]:
        """The topics that the stream shall carry."""
        return frozenset(self._by_topic)

    def source_of(self, key: Key) -> Source | None:
        """Where the key's events come from now; None: from nowhere yet, or any more."""
        line = self._lines.get(key)
        if line is None or line.dark or line.state is State.WAITING:
            return None
        return Source.STREAM if line.state is State.STREAMING else Source.REST

    def states(self) -> Mapping[Key, State]:
        """Where each key is: a copy."""
        return {key: line.state for key, line in self._lines.items()}

    def statistics(self) -> TransportStatistics:
        """Count everything; O(keys)."""
        census = {state.value: n for state, n in self._census().items()}
        asked = {"batches": self._polls.batches, "requests": self._polls.requests}
        return TransportStatistics(**census | self._count | asked)

    # what the stream tells

    def endpoint_up(self, asset: AssetClass, now: float, now_ns: int) -> None:
        """The socket is up and logged in; its topics are told by `topics_live`."""
        self._up.add(asset)
        self._carry_on(asset, now, now_ns)

    def endpoint_down(
        self, asset: AssetClass, now: float, since_ns: int, now_ns: int, detail: str = ""
    ) -> None:
        """The socket is gone, and with it the word about its topics; nothing came since."""
        self._up.discard(asset)
        self._upstream_down.discard(asset)  # it is told anew on the next connection
        for line in self._streamed_lines(asset):
            line.live = False
        self._lose(asset, now, since_ns, now_ns, detail)

    def upstream_up(self, asset: AssetClass, now: float, now_ns: int) -> None:
        """The gateway has its vendor back; the topics that were live are live again."""
        self._upstream_down.discard(asset)
        self._carry_on(asset, now, now_ns)

    def upstream_down(
        self, asset: AssetClass, now: float, since_ns: int, now_ns: int, detail: str = ""
    ) -> None:
        """The gateway lost the vendor, nothing came since; our socket to it stays up."""
        self._upstream_down.add(asset)
        self._lose(asset, now, since_ns, now_ns, detail)

    def topics_live(self, topics: Iterable[Topic], now: float, now_ns: int) -> None:
        """The stream carries these. Unknown topics are ignored."""
        for topic in topics:
            line = self._by_topic.get(topic)
            if line is not None:
                line.live = True
                self._come_back(line, now, now_ns)

    def topics_failed(
        self, topics: Iterable[Topic], now: float, now_ns: int, detail: str = ""
    ) -> None:
        """The stream does not carry these. Unknown topics are ignored."""
        for topic in topics:
            line = self._by_topic.get(topic)
            if line is not None:
                line.live = False
                self._fall_back(line, Reason.TOPIC_FAILED, now, now_ns, detail)

    def events(self, asset: AssetClass, events: Sequence[Event], now: float, now_ns: int) -> None:
        """Take the events of one frame. The hot path: one lookup and one comparison each."""
        if not self._carries(asset):
            self._count["stale"] += len(events)  # REST tells them, or is about to
            return
        quotes = self._by_symbol[Kind.QUOTE]
        lines: list[Line] = []
        fresh: list[Event] = []
        for event in events:  # noqa: PLR1702 - a call for each event would cost a third more
            if type(event) is Quote:
                line = quotes.get(event.symbol)
                # Nearly always: a quote newer than the last, of a line that streams.
                if line is not None and line.steady and event.event_ns is not None:
                    cursor = line.quotes
                    if event.event_ns > cursor.floor_ns:
                        cursor.floor_ns = event.event_ns
                        cursor.polled = False
                        cursor.last = event
                        line.heard_at = now
                        lines.append(line)
                        fresh.append(event)
                        continue
            else:
                line = self._tape_line(event)
            if line is not None and self._takes(line, event, now, now_ns):
                lines.append(line)
                fresh.append(event)
        if fresh:
            self._count["streamed_events"] += len(fresh)
            self._outputs.append(Streamed(lines, fresh))

    # what REST answered

    def polled(
        self, batch: int, key: Key, events: Sequence[Event], now: float, now_ns: int
    ) -> None:
        """Take what REST said of one key of a batch; dropped if the line has moved on."""
        line = self._polls.heard(self._lines.get(key), batch)
        if line is None:
            return
        if line.state is State.STREAMING:
            self._look(line, events, now, now_ns)
        elif line.state is State.BRIDGING:
            self._bridge(line, line.settled(events, now_ns, self._policy), now, now_ns)
        else:
            self._poll_answered(line, line.settled(events, now_ns, self._policy), now, now_ns)

    def poll_failed(self, batch: int, key: Key, now: float, now_ns: int, detail: str = "") -> None:
        """REST did not say it; asked again at the line's pace, or given up."""
        line = self._polls.heard(self._lines.get(key), batch)
        if line is None:
            return
        self._count["failures"] += 1
        if line.state is State.BRIDGING:
            self._bridge_failed(line, now, now_ns, detail)
        elif line.state in _POLLED:
            if not line.dark:
                line.dark = True
                self._change(line, None, Reason.POLL_FAILED, now_ns, detail)
            line.unchanged += 1
            self._polls.plan(line, now, now_ns)

    # time, and the market's

    def market(self, now: float, *, is_open: bool) -> None:
        """Say whether the market trades: closed, REST is asked less and silence is no news."""
        if is_open is self._polls.is_open:
            return
        self._polls.is_open = is_open
        self._scan_at = now + self._policy.silence_s if is_open and self._lines else None
        if is_open:
            for line in self._lines.values():
                line.heard_at = now
                line.unchanged = 0
                line.steady = line.state is State.STREAMING and not self._polls.is_asked(line)
            self._polls.hasten(self._lines.values(), now)

    def volatility(self, symbol: str, atr_percent: float | None) -> None:
        """Say how much a symbol moves: its average true range, in percent of its price."""
        self._polls.calm(symbol, atr_percent)

    def tick(self, now: float, now_ns: int) -> None:
        """Do what is due."""
        wake_at = self.wake_at()
        if wake_at is None or wake_at > now:
            return
        for line in [line for line, at in self._deadlines.items() if at <= now]:
            self._fall_back(line, Reason.NOT_LIVE_IN_TIME, now, now_ns)
        if self._scan_at is not None and self._scan_at <= now:
            self._scan(now)
        self._outputs += self._polls.take(now)

    def wake_at(self) -> float | None:
        """Return when to call `tick`; None: not before something else happens."""
        at, scan_at = self._polls.wake_at(), self._scan_at
        if scan_at is not None and (at is None or scan_at < at):
            at = scan_at
        if self._deadlines:
            deadline_at = min(self._deadlines.values())
            at = deadline_at if at is None else min(at, deadline_at)
        return at

    # output

    @property
    def has_output(self) -> bool:
        """Whether `drain` would return anything."""
        return self._want_changed or bool(self._outputs)

    def drain(self) -> list[Output]:
        """Return what to do since the last call, in order."""
        outputs, self._outputs = self._outputs, []
        if self._want_changed:
            self._want_changed = False
            outputs.append(Want(self.wanted))
        return outputs

    # private; a line's states

    def _add(self, key: Key, topic: Topic, now: float, now_ns: int, *, base_s: float) -> None:
        streamed = key.asset in self._streamed
        line = Line(key, topic if streamed else None, base_s)
        line.cursor.begin(now_ns)
        self._lines[key] = line
        self._by_symbol[key.kind][key.symbol] = line
        if streamed:
            self._by_topic[topic] = line
            self._want_changed = True
            self._wait(line, now)
        else:
            line.state = State.UNSTREAMED
            self._change(line, Source.REST, Reason.UNSTREAMED, now_ns)
            self._polls.urge(line, now)

    def _wait(self, line: Line, now: float) -> None:
        up = self._carries(line.key.asset)
        grace_s = self._policy.ack_grace_s if up else self._policy.grace_s
        self._deadlines[line] = now + grace_s

    def _carry_on(self, asset: AssetClass, now: float, now_ns: int) -> None:
        if not self._carries(asset):
            return
        for line in self._streamed_lines(asset):
            if line.live:
                self._come_back(line, now, now_ns)
            elif line.state is State.WAITING:
                self._wait(line, now)

    def _lose(self, asset: AssetClass, now: float, since_ns: int, now_ns: int, detail: str) -> None:
        for line in self._streamed_lines(asset):
            if line.state is State.WAITING:  # for a little longer
                grace_at = now + self._policy.grace_s
                self._deadlines[line] = min(self._deadlines[line], grace_at)
                continue
            self._fall_back(line, Reason.STREAM_DOWN, now, now_ns, detail)
            if line.lost_ns is not None:
                line.lost_ns = min(line.lost_ns, since_ns)

    def _come_back(self, line: Line, now: float, now_ns: int) -> None:
        if not self._carries(line.key.asset):
            return
        if line.state is State.WAITING:
            self._stream(line, Reason.LIVE, now, now_ns)
        elif line.state is State.POLLING:
            self._begin_bridge(line, now, now_ns)

    def _stream(self, line: Line, reason: Reason, now: float, now_ns: int) -> None:
        """STREAMING: from here on the stream alone is the source."""
        self._unplan(line)
        was = line.state
        line.state = State.STREAMING
        line.steady = True
        line.dark = False
        line.heard_at = now
        line.owed_ns = None
        self._scan_soon(now + line.silence_s(self._policy))
        self._change(line, Source.STREAM, reason, now_ns)
        if was is State.WAITING:
            line.live_ns = now_ns
        elif line.key.kind is Kind.QUOTE and line.lost_ns is not None:
            self._gap(line, line.lost_ns, line.live_ns, line.why)
        line.lost_ns = None

    def _fall_back(
        self, line: Line, reason: Reason, now: float, now_ns: int, detail: str = ""
    ) -> None:
        """POLLING, at once: the stream does not bring it."""
        if line.state is State.POLLING:
            return
        if line.state is not State.BRIDGING:  # which has REST for a source already
            line.lost_ns = now_ns if line.state is State.STREAMING else None
            line.why = reason
            self._count["fallbacks"] += 1
            self._change(line, Source.REST, reason, now_ns, detail)
            line.unchanged = 0
        self._unplan(line)
        line.state = State.POLLING
        line.steady = False
        line.held = []  # REST tells it again
        self._polls.urge(line, now)

    def _begin_bridge(self, line: Line, now: float, now_ns: int) -> None:
        """BRIDGING: ask REST once more, when it can know what happened until now."""
        self._unplan(line)
        line.state = State.BRIDGING
        line.live_ns = now_ns
        line.attempts = 0
        self._polls.urge(line, now + self._policy.settle_s)

    def _bridge(self, line: Line, events: Sequence[Event], now: float, now_ns: int) -> None:
        bridged = line.cursor.bridge(events, line.held)
        line.held = []
        self._count["bridges"] += 1
        if bridged.rest:
            self._answered(line, now_ns)
        self._deliver(line, bridged.rest, Source.REST)
        self._stream(line, Reason.RESUMED, now, now_ns)
        self._deliver(line, bridged.stream, Source.STREAM)

    def _bridge_failed(self, line: Line, now: float, now_ns: int, detail: str) -> None:
        line.attempts += 1
        if line.attempts < self._policy.bridge_attempts:
            wait_s = self._policy.bridge_retry_s * 2 ** (line.attempts - 1)
            self._polls.urge(line, now + wait_s)
        else:
            self._give_up(line, Reason.BRIDGE_FAILED, now, now_ns, detail)

    def _give_up(
        self, line: Line, reason: Reason, now: float, now_ns: int, detail: str = ""
    ) -> None:
        """Go on with the stream, and say what is missing before it."""
        since_ns = line.cursor.since_ns
        bridged = line.cursor.bridge([], line.held)
        line.held = []
        self._stream(line, Reason.RESUMED, now, now_ns)
        if since_ns is not None:
            first = bridged.stream[0].event_ns if bridged.stream else line.live_ns
            self._gap(line, since_ns, max(since_ns, first), reason, detail)
        self._deliver(line, bridged.stream, Source.STREAM)

    # private; events of the stream

    def _tape_line(self, event: Event) -> Line | None:
        """Find the line of a trade or a bar."""
        kind = Kind.TRADE
        if isinstance(event, Bar):
            is_minute = event.end_ns - event.event_ns >= WINDOW_NS[Kind.MINUTE_BAR]
            kind = Kind.MINUTE_BAR if is_minute else Kind.SECOND_BAR
        return self._by_symbol[kind].get(event.symbol)

    def _takes(self, line: Line, event: Event, now: float, now_ns: int) -> bool:
        if not line.steady:
            return self._takes_unsteady(line, event, now, now_ns)
        line.heard_at = now
        verdict = line.cursor.take(event)
        if verdict is not _NEW:
            self._refuse(line, event, verdict)
        return verdict is _NEW

    def _refuse(self, line: Line, event: Event, verdict: Verdict) -> None:
        self._count["stale"] += 1
        if verdict is Verdict.LATE and event.event_ns is not None:
            self._gap(line, event.event_ns, event.event_ns, Reason.LATE)

    def _takes_unsteady(self, line: Line, event: Event, now: float, now_ns: int) -> bool:
        """Take an event of a line that is not simply streaming; True: deliver it now."""
        if line.state is State.WAITING:
            self._stream(line, Reason.LIVE, now, now_ns)
        elif line.state is State.STREAMING:  # silent until now
            self._unplan(line)
            line.steady, line.heard_at, line.owed_ns = True, now, None
            self._scan_soon(now + line.silence_s(self._policy))
        elif line.topic is None:
            return False
        elif line.key.kind is Kind.QUOTE and line.cursor.is_ahead(event):
            line.live_ns = now_ns
            self._stream(line, Reason.RESUMED, now, now_ns)
        else:
            self._hold(line, event, now, now_ns)
            return False
        verdict = line.cursor.take(event)
        if verdict is not Verdict.NEW:
            self._refuse(line, event, verdict)
        return verdict is Verdict.NEW

    def _hold(self, line: Line, event: Event, now: float, now_ns: int) -> None:
        """Keep it until REST has told what came before; unless it is told already."""
        if line.key.kind is Kind.QUOTE or not line.cursor.is_ahead(event):
            self._count["stale"] += 1
            return
        if line.state is State.POLLING:
            self._begin_bridge(line, now, now_ns)
        line.held.append(event)
        if len(line.held) >= self._policy.hold_events:
            self._give_up(line, Reason.HELD_TOO_MUCH, now, now_ns)

    # private; silence

    def _scan(self, now: float) -> None:
        """Look for lines that are silent, and ask REST about each of them once."""
        earliest = float("inf")
        one_by_one = True  # trades and bars cost a request each: one of them at a time
        for line in self._lines.values():
            if not line.steady:
                continue
            silent_at = line.heard_at + line.silence_s(self._policy)
            if silent_at > now:
                earliest = min(earliest, silent_at)
            elif line.key.kind is Kind.QUOTE or one_by_one:
                one_by_one = one_by_one and line.key.kind is Kind.QUOTE
                line.steady = False
                self._count["verifications"] += 1
                self._polls.look(line, now)
            else:
                earliest = min(earliest, now + line.base_s)
        self._scan_at = None if earliest == float("inf") else max(earliest, now + _SCAN_S)

    def _scan_soon(self, at: float) -> None:
        if self._polls.is_open and (self._scan_at is None or self._scan_at > at):
            self._scan_at = at

    def _look(self, line: Line, events: Sequence[Event], now: float, now_ns: int) -> None:
        """Judge a silent line by what REST shows: what the stream owes, and owes too long."""
        owed = line.owed(line.settled(events, now_ns, self._policy))
        if owed is None:
            return
        if owed > now_ns - round(self._policy.missed_after_s * 1e9):
            # It may be on its way. Of a busy symbol REST only ever shows what is new.
            self._polls.look(line, now + self._policy.missed_after_s)
            return
        silent_ns = round((now - line.heard_at) * 1e9)
        self._fall_back(line, Reason.SILENT, now, now_ns)
        line.lost_ns = now_ns - silent_ns

    # private; polls

    def _poll_answered(self, line: Line, events: Sequence[Event], now: float, now_ns: int) -> None:
        self._answered(line, now_ns)
        polled = line.cursor.news(events)
        line.unchanged = 0 if polled.moved else line.unchanged + 1
        self._deliver(line, polled.events, Source.REST)
        self._polls.plan(line, now, now_ns)

    def _answered(self, line: Line, now_ns: int) -> None:
        if line.dark:
            line.dark = False
            self._change(line, Source.REST, Reason.POLL_ANSWERED, now_ns)

    def _unplan(self, line: Line) -> None:
        self._polls.cancel(line)
        self._deadlines.pop(line, None)

    # private; the rest

    def _carries(self, asset: AssetClass) -> bool:
        return asset in self._up and asset not in self._upstream_down

    def _streamed_lines(self, asset: AssetClass) -> list[Line]:
        return [line for line in self._by_topic.values() if line.key.asset is asset]

    def _deliver(self, line: Line, events: Sequence[Any], source: Source) -> None:
        if events:
            streamed = source is Source.STREAM
            self._count["streamed_events" if streamed else "polled_events"] += len(events)
            self._outputs.append(Deliver(line.key, list(events)))

    def _change(
        self,
        line: Line,
        source: Source | None,
        reason: Reason,
        at_ns: int,
        detail: str = "",
    ) -> None:
        self._tell(
            SourceChanged(key=line.key, source=source, reason=reason, at_ns=at_ns, detail=detail)
        )

    def _gap(
        self, line: Line, start_ns: int, end_ns: int, reason: Reason, detail: str = ""
    ) -> None:
        self._count["gaps"] += 1
        self._tell(
            Gap(key=line.key, start_ns=start_ns, end_ns=end_ns, reason=reason, detail=detail)
        )

    def _tell(self, change: Change) -> None:
        self._outputs.append(change)

    def _census(self) -> dict[State, int]:
        census = dict.fromkeys(State, 0)
        for line in self._lines.values():
            census[line.state] += 1
        return census


__all__ = ["Gap", "Key", "Kind", "Reason", "SourceChanged", "State", "Transport"]
