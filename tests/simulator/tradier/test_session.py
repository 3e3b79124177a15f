"""The machine of Tradier's streams; what it says on a real socket is in `test_stream`."""

from typing import Any

import msgspec
import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from onetape.simulator.effects import Abort, Close, Effect, Freeze, Send, SessionId, Thaw
from onetape.simulator.faults import (
    Close as CloseFault,
    Drop,
    Evict,
    Faults,
    FaultScript,
    Garbage,
    Mute,
    Refuse,
    SendError,
    Stage,
    TradierStreamActions,
    TradierStreamRule,
    ZeroSize,
)
from onetape.simulator.tradier.events import Event, event
from onetape.simulator.tradier.policy import TradierPolicy
from onetape.simulator.tradier.session import TradierStreams

ONE, TWO = SessionId(1), SessionId(2)
NOT_FOUND = b'{"error":"session not found"}'


def trade(symbol: str = "SPY", number: int = 1, kind: str = "trade") -> Event:
    return event(symbol, kind, {"price": "1.0", "size": "5", "date": str(number)}, {"seq": number})


class Streams:
    """The machine, with a clock of its own and clients that say JSON."""

    def __init__(self, *rules: TradierStreamRule, **policy: Any) -> None:
        self.now = 100.0
        self.machine = TradierStreams(
            policy=TradierPolicy(**policy), faults=Faults(FaultScript(rules=rules), now=self.now)
        )

    def mint(self) -> str:
        return self.machine.mint(self.now)

    def accept(self, identity: SessionId, transport: Any = "websocket") -> list[Effect]:
        return self.machine.accept(identity, transport, self.now)

    def ask(
        self, identity: SessionId, sessionid: str | None = None, **payload: Any
    ) -> list[Effect]:
        whole = {"symbols": ["SPY"], "sessionid": sessionid or self.mint(), **payload}
        return self.machine.receive(identity, msgspec.json.encode(whole), self.now)

    def reading(
        self, identity: SessionId = ONE, transport: Any = "websocket", **payload: Any
    ) -> None:
        assert self.accept(identity, transport) == []
        assert self.ask(identity, **payload) == []

    def publish(self, *events: Event) -> list[Effect]:
        return self.machine.publish(list(events), self.now)

    def after(self, seconds: float) -> list[Effect]:
        self.now += seconds
        return self.machine.tick(self.now)

    @property
    def counts(self) -> Any:
        return self.machine.statistics()


def always(action: TradierStreamActions, stage: Stage | None = None) -> TradierStreamRule:
    return TradierStreamRule(action=action, stage=stage)


def frames(effects: list[Effect]) -> list[bytes]:
    return [effect.frame for effect in effects if isinstance(effect, Send)]


# ---- sessions ----


def test_nothing_is_said_until_a_good_session_reads() -> None:
    streams = Streams()

    assert streams.accept(ONE) == []
    assert streams.publish(trade()) == []
    assert streams.ask(ONE) == []
    assert frames(streams.publish(trade())) == [trade().raw]


def test_an_unknown_session_is_not_found_and_the_socket_stays() -> None:
    streams = Streams()
    streams.accept(ONE)

    assert streams.ask(ONE, "c8638963") == [Send(ONE, NOT_FOUND)]
    assert streams.ask(ONE) == []


def test_a_session_must_be_used_within_five_minutes_and_reads_on_after_them() -> None:
    streams = Streams()
    late, good = streams.mint(), streams.mint()
    streams.accept(ONE)
    streams.after(299)
    assert streams.ask(ONE, good) == []
    streams.after(2)

    assert streams.ask(ONE, late) == [Send(ONE, NOT_FOUND)]
    assert streams.ask(ONE, good, symbols=["QQQ"]) == [Send(ONE, NOT_FOUND)], "nor may it change"
    assert frames(streams.publish(trade(), trade("QQQ"))) == [trade().raw]
    assert streams.ask(ONE, symbols=["QQQ"]) == [], "but with a new one it may"


def test_the_sandboxs_sessions_are_good_for_nothing() -> None:
    streams = Streams(sandbox=True)
    streams.accept(ONE)

    assert streams.ask(ONE) == [Send(ONE, NOT_FOUND)]


def test_sessions_that_nobody_uses_are_forgotten_in_the_end() -> None:
    streams = Streams()
    first = streams.mint()
    for _ in range(10_000):
        streams.mint()
    streams.accept(ONE)

    assert streams.ask(ONE, first) == [Send(ONE, NOT_FOUND)]


def test_a_second_stream_ends_the_first() -> None:
    streams = Streams()
    streams.reading(ONE)
    streams.accept(TWO)

    assert streams.ask(TWO) == [Close(ONE, 1000)]
    assert [effect.session for effect in streams.publish(trade())] == [TWO]
    assert (streams.counts.evictions, streams.counts.connections_open) == (1, 1)


def test_or_is_refused() -> None:
    streams = Streams(second_stream="reject")
    streams.reading(ONE)
    streams.accept(TWO)
    said, ended = streams.ask(TWO)

    assert isinstance(said, Send)
    assert "error" in msgspec.json.decode(said.frame)
    assert ended == Close(TWO, 1008)
    assert [effect.session for effect in streams.publish(trade())] == [ONE]
    assert streams.counts.rejections == 1


def test_the_night_ends_streams_and_sessions() -> None:
    streams = Streams()
    old = streams.mint()
    streams.reading(ONE)

    assert streams.machine.end_all() == [Close(ONE, 1001)]
    streams.accept(TWO)
    assert streams.ask(TWO, old) == [Send(TWO, NOT_FOUND)]


# ---- what is read ----


def test_what_is_sent_again_replaces_it_all() -> None:
    streams = Streams()
    streams.reading(symbols=["SPY", "QQQ"])
    streams.ask(ONE, symbols=["QQQ"], filter=["quote"])

    assert streams.machine.demand() == {"quote": {"QQQ"}}
    assert streams.publish(trade("SPY"), trade("QQQ")) == []
    assert frames(streams.publish(trade("QQQ", kind="quote"))) == [trade("QQQ", kind="quote").raw]


def test_a_filter_that_is_absent_or_empty_is_all_kinds() -> None:
    streams = Streams()
    streams.reading(filter=[])

    assert set(streams.machine.demand()) == {"trade", "quote", "summary", "timesale", "tradex"}


def test_no_symbol_at_all_has_a_name() -> None:
    streams = Streams()
    streams.reading(symbols=["$empty$"])

    assert streams.machine.demand() == {}
    assert streams.counts.symbols == ()


def test_lines_end_and_details_come_for_those_who_asked() -> None:
    streams = Streams()
    streams.reading(linebreak=True, advancedDetails=True, validOnly=False, unknown=1)
    sale = trade(kind="timesale")

    assert frames(streams.publish(sale)) == [sale.detailed + b"\n"]


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        ({"symbols": ["1234"]}, "1234 is not a valid symbol"),
        ({"symbols": ["SPY", "I:SPX"]}, "I:SPX is not a valid symbol"),
        ({"symbols": ["O:SPY251219C00650000"]}, "O:SPY251219C00650000 is not a valid symbol"),
        ({"symbols": ["spy"]}, "spy is not a valid symbol"),
        ({"symbols": []}, "symbols is required"),
        ({"filter": ["trades"]}, "trades is not a valid filter"),
        ({"symbols": "SPY"}, "invalid request"),
    ],
)
def test_what_cannot_be_read_is_an_error_and_changes_nothing(
    payload: dict[str, Any], error: str
) -> None:
    streams = Streams()
    streams.reading()
    said = streams.ask(ONE, **payload)

    assert [msgspec.json.decode(frame) for frame in frames(said)] == [{"error": error}]
    assert frames(streams.publish(trade())) == [trade().raw]
    assert streams.counts.errors == 1


@pytest.mark.parametrize("symbol", ["BRK/B", "BIP'B", "SPY251219C00650000", "SPXW260805C06000000"])
def test_symbols_of_every_form_are_taken(symbol: str) -> None:
    streams = Streams()
    streams.reading(symbols=[symbol])

    assert streams.counts.symbols == (symbol,)


def test_an_error_may_end_the_stream() -> None:
    streams = Streams(close_on_error=True)
    streams.accept(ONE)

    assert streams.ask(ONE, "no") == [Send(ONE, NOT_FOUND), Close(ONE, 1000)]
    http = Streams()
    http.accept(ONE, "http")
    assert http.ask(ONE, "no")[-1] == Close(ONE, 1000), "over HTTP it always does"


def test_who_is_gone_is_forgotten() -> None:
    streams = Streams()
    streams.reading()
    streams.machine.lost(ONE)
    streams.machine.lost(ONE)

    assert streams.publish(trade()) == []
    assert streams.ask(ONE) == []
    assert streams.machine.written(ONE, 1 << 30) == []
    assert streams.machine.demand() == {}


# ---- idle symbols and idle streams ----


def test_idle_symbols_get_their_old_tick_every_twenty_seconds() -> None:
    streams = Streams()
    streams.reading(symbols=["SPY", "QQQ"], filter=["trade"])
    streams.publish(trade("SPY", 1))
    streams.after(15)
    streams.publish(trade("QQQ", 2))

    assert frames(streams.after(4)) == []
    assert frames(streams.after(1.1)) == [trade("SPY", 1).raw]
    assert frames(streams.after(10)) == []
    assert frames(streams.after(11)) == [trade("SPY", 1).raw, trade("QQQ", 2).raw]


def test_what_was_never_heard_stands_from_before() -> None:
    streams = Streams()
    streams.reading(filter=["trade"])
    streams.machine.remember([trade("SPY", 9), trade("IWM", 9)])

    assert frames(streams.after(20)) == [trade("SPY", 9).raw]


def test_summaries_and_timesales_are_not_sent_again() -> None:
    streams = Streams()
    streams.reading(filter=["timesale", "summary"])
    streams.publish(trade(kind="timesale"))

    assert streams.after(100) == []


def test_nothing_may_be_sent_again_at_all() -> None:
    streams = Streams(resend_s=None)
    streams.reading()
    streams.publish(trade())

    assert streams.after(100) == []


def test_an_http_stream_without_data_ends_after_a_quarter_of_an_hour() -> None:
    streams = Streams()
    streams.reading(ONE, "http", symbols=["$empty$"])

    assert streams.after(899) == []
    assert streams.after(2) == [Close(ONE, 1000)]
    other = Streams()
    other.reading(symbols=["$empty$"])
    assert other.after(2_000) == [], "a WebSocket does not"


def test_a_client_that_does_not_read_is_cut() -> None:
    streams = Streams(buffer_bytes=1_000)
    streams.reading()

    assert streams.machine.written(ONE, 1_000) == []
    assert streams.machine.written(ONE, 1_001) == [Close(ONE, 1008, "slow consumer")]
    assert streams.counts.slow_consumers == 1


# ---- faults ----


@pytest.mark.parametrize(
    ("action", "effects"),
    [
        (Drop(), [Abort(ONE)]),
        (CloseFault(code=1006), [Abort(ONE)]),
        (CloseFault(code=1012, reason="restart"), [Close(ONE, 1012, "restart")]),
        (Evict(), [Close(ONE, 1000)]),
        (SendError(), [Send(ONE, NOT_FOUND)]),
        (Garbage(), [Send(ONE, b"<html>502 Bad Gateway</html>")]),
        (Mute(), []),
    ],
)
def test_a_live_stream_suffers(action: TradierStreamActions, effects: list[Effect]) -> None:
    streams = Streams(TradierStreamRule(action=action, stage=Stage.LIVE, count=1))
    streams.reading()

    assert streams.after(0.05) == effects


def test_an_upgrade_may_be_refused() -> None:
    streams = Streams(TradierStreamRule(action=Refuse(status=502), transport="http"))

    assert streams.machine.refuses("http", streams.now) == 502
    assert streams.machine.refuses("websocket", streams.now) is None


@pytest.mark.parametrize("stage", [Stage.ACCEPT, Stage.SUBSCRIBE, Stage.DATA])
def test_a_stream_may_drop_at_every_stage(stage: Stage) -> None:
    streams = Streams(always(Drop(), stage))
    effects = streams.accept(ONE)
    effects += streams.ask(ONE)
    effects += streams.publish(trade())

    assert effects == [Abort(ONE)]


def test_a_mute_stream_says_nothing_and_no_goodbye_and_may_speak_again() -> None:
    streams = Streams(always(Mute(pong=False, for_s=10), Stage.SUBSCRIBE))
    streams.accept(ONE)

    assert streams.ask(ONE) == [Freeze(ONE)]
    assert streams.publish(trade()) == []
    assert streams.after(10) == [Thaw(ONE)]
    assert frames(streams.publish(trade())) == [trade().raw]
    streams.ask(ONE)
    assert streams.machine.end_all() == [Abort(ONE)]


def test_a_mute_stream_that_is_read_needs_no_thaw() -> None:
    streams = Streams(TradierStreamRule(action=Mute(for_s=1), stage=Stage.LIVE, count=1))
    streams.reading()

    assert streams.after(0.1) == []
    assert streams.after(2) == []
    assert frames(streams.publish(trade())) == [trade().raw]


def test_data_is_spoilt_on_the_way_out() -> None:
    streams = Streams(always(ZeroSize()))
    streams.reading()

    assert [msgspec.json.decode(f)["size"] for f in frames(streams.publish(trade()))] == ["5", "0"]


# ---- any history ----


class AnyHistory(RuleBasedStateMachine):
    """One token, one stream: whatever happened, the newest good one reads, and what it asked for."""

    ids = st.integers(1, 4).map(SessionId)
    names = st.sets(st.sampled_from(["SPY", "QQQ", "SPX"]), min_size=1)

    def __init__(self) -> None:
        super().__init__()
        self.streams = Streams(resend_s=None)
        self.open: dict[SessionId, frozenset[str]] = {}
        self.number = 0

    def obey(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Close | Abort):
                del self.open[effect.session]

    @precondition(lambda self: len(self.open) < 4)
    @rule()
    def connect(self) -> None:
        self.number += 1
        identity = SessionId(self.number)
        self.open[identity] = frozenset()
        self.obey(self.streams.accept(identity))

    @precondition(lambda self: self.open)
    @rule(data=st.data(), names=names)
    def read(self, data: st.DataObject, names: set[str]) -> None:
        identity = data.draw(st.sampled_from(sorted(self.open)))
        self.obey(self.streams.ask(identity, symbols=sorted(names)))
        self.open[identity] = frozenset(names)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        identity = data.draw(st.sampled_from(sorted(self.open)))
        self.obey(self.streams.ask(identity, "unknown", symbols=["IWM"]))

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        identity = data.draw(st.sampled_from(sorted(self.open)))
        del self.open[identity]
        self.streams.machine.lost(identity)

    @rule()
    def night(self) -> None:
        self.obey(self.streams.machine.end_all())
        assert not self.open

    @invariant()
    def one_reads_and_hears_what_it_asked_for(self) -> None:
        readers = {identity: names for identity, names in self.open.items() if names}
        assert len(readers) <= 1
        assert self.streams.machine.demand().get("trade", frozenset()) == frozenset().union(
            *readers.values()
        )
        heard = self.streams.publish(*(trade(name) for name in ("SPY", "QQQ", "SPX")))
        assert sorted(heard) == sorted(
            Send(identity, trade(name).raw) for identity, names in readers.items() for name in names
        )
        assert self.streams.counts.connections_open == len(self.open)


AnyHistory.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestAnyHistory = AnyHistory.TestCase
