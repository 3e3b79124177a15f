"""The machine of Tradier's stream, by example and against a Tradier made of its effects."""

from typing import Any, TypeVar

import msgspec
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

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
from onetape.model import Quote
from onetape.secret import Secret
from onetape.tradier.feed import TradierFeed, market_is_open
from onetape.tradier.notices import (
    Mint,
    SymbolsFailed,
    Ticks,
    TradierFeedPolicy,
    TradierOutput,
    TradierState,
)
from onetape.tradier.wire_stream import StreamSession

T = TypeVar("T")
POLICY = TradierFeedPolicy()
S = 1_000_000_000
NOT_FOUND = b'{"error":"session not found"}'


def quote(symbol: str = "SPY", second: int = 1609447718, bid: float = 1.0) -> bytes:
    return (
        f'{{"type":"quote","symbol":"{symbol}","bid":{bid},"bidsz":1,"biddate":"{second}000",'
        f'"ask":{bid + 1},"asksz":1,"askdate":"{second}000"}}'
    ).encode()


class Rig:
    """A feed, its time, and everything that it ever said."""

    def __init__(self, policy: TradierFeedPolicy = POLICY, *, open_market: bool = True) -> None:
        self.open = open_market
        self.feed = TradierFeed(policy, is_open=lambda _: self.open, random=lambda: 0.5)
        self.now = 1000.0
        self.said: list[TradierOutput] = []
        self.sessions = 0
        self.mute = False  # answers no ping

    @property
    def now_ns(self) -> int:
        return round(self.now * S)

    def drain(self) -> list[TradierOutput]:
        fresh = self.feed.drain()
        self.said += fresh
        return fresh

    def all(self, kind: type[T]) -> list[T]:
        self.drain()
        return [one for one in self.said if isinstance(one, kind)]

    def sent(self) -> list[dict[str, Any]]:
        return [msgspec.json.decode(one.data) for one in self.all(SendText)]

    def want(self, *symbols: str) -> None:
        self.feed.want(frozenset(symbols), self.now, self.now_ns)

    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        while (wake_at := self.feed.wake_at()) is not None and wake_at <= end:
            self.now = max(self.now, wake_at)
            self.feed.tick(self.now, self.now_ns)
            if any(isinstance(one, Ping) for one in self.drain()) and not self.mute:
                self.feed.alive(self.all(Dial)[-1].generation)
        self.now = end

    def mint(self) -> None:
        self.sessions += 1
        session = StreamSession(Secret(f"session-{self.sessions}"), "")
        self.feed.minted(session, self.now, self.now_ns)

    def refuse(self, message: str = "no", *, refused: bool = True, after_s: float = 0.0) -> None:
        self.feed.mint_failed(
            message, self.now, self.now_ns, refused=refused, retry_after_s=after_s
        )

    def open_(self) -> None:
        self.feed.opened(self.all(Dial)[-1].generation, self.now, self.now_ns)

    def frame(self, data: bytes) -> None:
        self.feed.frame(self.all(Dial)[-1].generation, data, self.now, self.now_ns)

    def close(self, code: int | None = None, reason: str = "") -> None:
        self.feed.closed(self.all(Dial)[-1].generation, code, reason, self.now, self.now_ns)

    def live(self, *symbols: str) -> "Rig":
        self.want(*(symbols or ("SPY",)))
        self.mint()
        self.open_()
        assert self.feed.state is TradierState.LIVE
        return self


def test_it_mints_dials_and_sends_the_whole_list_once_something_is_wanted() -> None:
    rig = Rig()
    assert rig.feed.state is TradierState.IDLE

    rig.live("SPY", "I:SPX")

    rig.drain()
    assert [type(one) for one in rig.said] == [Mint, Connecting, Dial, SendText]
    assert rig.sent()[0]["symbols"] == ["SPX", "SPY"]
    assert rig.sent()[0]["sessionid"] == "session-1"
    assert "session-1" not in repr(rig.said)
    assert "LIVE" in repr(rig.feed).upper()


def test_wanting_the_same_again_is_nothing() -> None:
    rig = Rig().live()
    rig.drain()

    rig.want("SPY")

    assert rig.drain() == []


def test_many_wishes_of_a_moment_are_one_list_and_it_replaces_the_other() -> None:
    rig = Rig().live()
    for number in range(50):
        rig.want("SPY", *(f"A{index}" for index in range(number)))

    rig.wait(1.0)

    assert len(rig.sent()) == 2
    assert len(rig.sent()[-1]["symbols"]) == 50


def test_a_wish_after_the_session_aged_exchanges_it_on_the_running_connection() -> None:
    rig = Rig(open_market=False).live()
    rig.wait(400.0)
    rig.want("QQQ")
    rig.wait(1.0)
    assert len(rig.all(Mint)) == 2
    assert len(rig.sent()) == 1

    rig.mint()

    assert rig.sent()[-1]["sessionid"] == "session-2"
    assert rig.sent()[-1]["symbols"] == ["QQQ"]
    assert len(rig.all(Dial)) == 1


def test_a_refused_exchange_leaves_running_what_runs_and_is_told() -> None:
    rig = Rig(open_market=False).live()
    rig.wait(400.0)
    rig.want("QQQ")
    rig.wait(1.0)
    rig.refuse("token gone")
    assert rig.feed.state is TradierState.LIVE
    assert rig.all(VendorStatus)[-1].message == "no new session: token gone"

    rig.wait(60.0)
    assert len(rig.all(Mint)) == 3
    rig.refuse("busy", refused=False, after_s=20.0)
    rig.wait(19.0)
    assert len(rig.all(Mint)) == 3
    rig.wait(2.0)

    assert len(rig.all(Mint)) == 4
    assert rig.all(AuthFailed) == rig.all(Lost) == []


def test_events_come_out_as_news() -> None:
    rig = Rig().live()

    rig.frame(quote() + b"\n" + quote(bid=2.0))
    rig.frame(quote(bid=2.0))

    (ticks,) = rig.all(Ticks)
    assert [one.bid for one in ticks.events if isinstance(one, Quote)] == [1.0, 2.0]
    counted = rig.feed.statistics()
    assert (counted.frames, counted.events, counted.old, counted.symbols_wanted) == (2, 2, 1, 1)
    assert counted.connected_since_ns == counted.last_frame_ns == rig.now_ns


def test_a_bad_symbol_fails_and_the_list_goes_out_without_it() -> None:
    rig = Rig().live("SPY", "BRK.B")

    rig.frame(b'{"error":"BRK/B is not a valid symbol"}')
    rig.wait(1.0)

    assert rig.all(SymbolsFailed)[0].symbols == {"BRK.B"}
    assert rig.feed.failed == {"BRK.B": "BRK/B is not a valid symbol"}
    assert rig.sent()[-1]["symbols"] == ["SPY"]
    rig.want("SPY")
    rig.want("SPY", "BRK.B")
    rig.wait(1.0)
    assert rig.sent()[-1]["symbols"] == ["BRK/B", "SPY"]


def test_a_symbol_without_a_name_there_fails_at_once() -> None:
    rig = Rig()
    rig.want("no such thing")

    assert rig.all(SymbolsFailed)[0].symbols == {"no such thing"}


def test_other_errors_are_told_once() -> None:
    rig = Rig().live()
    for _ in range(3):
        rig.frame(b'{"error":"you are too loud"}')
    for number in range(100):
        rig.frame(b'{"error":"%d"}' % number)

    assert rig.all(VendorStatus)[0].message == "you are too loud"
    assert len(rig.all(VendorStatus)) == 32


def test_garbage_is_told_once_and_the_stream_goes_on() -> None:
    rig = Rig().live()
    rig.frame(b"<html> session-1")
    rig.frame(b"<html>")
    rig.frame(quote())

    assert rig.all(Garbled) == [Garbled(count=1, sample="<html> ***")]
    assert len(rig.all(Ticks)) == 1
    assert rig.feed.statistics().garbled == 2


def test_a_lost_stream_is_made_again_with_a_new_session_and_the_gap_is_told() -> None:
    """W-08 in this vendor's words: the overnight close, frame and all."""
    rig = Rig().live()
    rig.wait(20.0)
    rig.frame(quote())
    heard_ns = rig.now_ns
    rig.wait(5.0)
    rig.close(1000, "overnight")
    assert rig.feed.state is TradierState.MINTING

    rig.mint()
    rig.open_()
    rig.frame(quote(second=1609447719))

    assert rig.all(Lost) == [Lost(reason="overnight", code=1000, since_ns=heard_ns)]
    assert rig.all(Restored) == [Restored(gap_start_ns=heard_ns, gap_end_ns=rig.now_ns)]
    assert rig.sent()[-1]["sessionid"] == "session-2"
    assert rig.feed.statistics().reconnects == 1


def test_a_stream_that_says_nothing_and_no_error_counts_as_restored_in_a_moment() -> None:
    rig = Rig(open_market=False).live()
    rig.close()
    rig.mint()
    rig.open_()
    assert rig.all(Restored) == []

    rig.wait(POLICY.settle_s)

    assert len(rig.all(Restored)) == 1
    assert rig.all(Restored)[0].gap_start_ns < rig.all(Restored)[0].gap_end_ns


def test_failures_in_a_row_are_spaced_and_told_once() -> None:
    rig = Rig().live()
    waits: list[float] = []
    for _ in range(8):
        rig.close(None, "refused")
        began = rig.now
        while rig.feed.state is TradierState.BACKING_OFF:
            wake_at = rig.feed.wake_at()
            assert wake_at is not None
            rig.wait(wake_at - rig.now)
        waits.append(rig.now - began)
        if rig.feed.state is TradierState.MINTING:
            rig.mint()

    assert waits == [0, 0.5, 1, 2, 4, 8, 15, 15]
    assert len(rig.all(Lost)) == 1


def test_a_session_that_was_never_used_is_used_by_the_next_connection() -> None:
    rig = Rig()
    rig.want("SPY")
    rig.mint()
    rig.close(None, "refused")

    assert rig.feed.state is TradierState.CONNECTING
    assert len(rig.all(Mint)) == 1


def test_a_session_that_aged_before_the_connection_stood_is_exchanged() -> None:
    rig = Rig()
    rig.want("SPY")
    rig.mint()
    rig.now += 300.0
    rig.open_()
    assert rig.sent() == []

    rig.mint()

    assert rig.sent()[0]["sessionid"] == "session-2"


def test_a_rejected_session_is_replaced_at_once_and_a_second_one_slowly() -> None:
    """The sandbox has no stream: it refuses every session, and must not be hammered."""
    rig = Rig().live()
    rig.frame(NOT_FOUND)
    assert rig.all(Hangup) == [Hangup(1000)]
    rig.close(1000)
    assert rig.feed.state is TradierState.MINTING

    rig.mint()
    rig.open_()
    rig.frame(NOT_FOUND)
    rig.close(1000)

    assert rig.feed.state is TradierState.BACKING_OFF
    assert rig.all(AuthFailed) == [AuthFailed(message="session not found")]
    wake_at = rig.feed.wake_at()
    assert wake_at is not None
    assert wake_at >= rig.now + POLICY.refused_retry_s
    assert rig.feed.statistics().refusals == 1


def test_a_refused_token_is_told_and_tried_again_slowly() -> None:
    rig = Rig()
    rig.want("SPY")
    rig.refuse("bad token")
    assert rig.feed.state is TradierState.BACKING_OFF
    rig.wait(29.0)
    assert len(rig.all(Mint)) == 1
    rig.wait(2.0)
    assert len(rig.all(Mint)) == 2

    rig.refuse("bad token")
    rig.wait(100.0)
    rig.mint()
    rig.open_()
    rig.frame(quote())

    assert len(rig.all(AuthFailed)) == 1
    assert len(rig.all(Restored)) == 1


def test_who_comes_while_we_wait_after_a_refusal_is_told_why() -> None:
    rig = Rig()
    rig.want("SPY")
    rig.refuse("bad token")
    rig.want()
    assert rig.feed.state is TradierState.IDLE
    rig.want("QQQ")

    assert [one.message for one in rig.all(AuthFailed)] == ["bad token", "bad token"]
    assert rig.feed.state is TradierState.BACKING_OFF


def test_no_session_for_another_reason_is_tried_again_when_it_says() -> None:
    rig = Rig()
    rig.want("SPY")
    rig.refuse("busy", refused=False, after_s=7.0)
    assert rig.all(Lost)[0].reason == "busy"
    rig.wait(6.0)
    assert len(rig.all(Mint)) == 1
    rig.wait(1.0)

    assert len(rig.all(Mint)) == 2


def test_silence_while_the_market_is_open_is_a_loss_and_each_time_more_patient() -> None:
    rig = Rig().live()
    lasted: list[float] = []
    for _ in range(6):
        began, hangups = rig.now, len(rig.all(Hangup))
        while len(rig.all(Hangup)) == hangups:
            rig.wait(1.0)
        lasted.append(rig.now - began)
        rig.close(1000)
        rig.wait(60.0)
        rig.mint()
        rig.open_()

    assert lasted == [90, 180, 360, 720, 900, 900]
    assert rig.all(Lost)[0].reason == "silent while the market is open"


def test_silence_while_the_market_is_closed_is_peace() -> None:
    rig = Rig(open_market=False).live()
    rig.wait(3600.0)
    rig.open = True
    rig.wait(89.0)
    assert rig.all(Hangup) == []

    rig.wait(91.0)

    assert rig.all(Hangup) == [Hangup(1000)]


def test_what_is_repeated_is_a_sign_of_life() -> None:
    rig = Rig().live()
    for _ in range(60):
        rig.frame(quote())
        rig.wait(20.0)

    assert rig.all(Hangup) == []


def test_a_peer_that_answers_no_ping_is_lost() -> None:
    rig = Rig(open_market=False).live()
    rig.mute = True
    rig.wait(POLICY.ping_interval_s)
    assert rig.all(Ping) == [Ping()]
    rig.wait(POLICY.pong_deadline_s)

    assert rig.all(Hangup) == [Hangup(None)]
    assert rig.all(Lost)[0].reason == "no sign of life after a ping"


def test_an_old_session_is_renewed_when_the_market_is_closed() -> None:
    rig = Rig(open_market=True).live()

    def pass_hours(hours: int) -> None:
        for _ in range(hours * 45):
            rig.frame(quote())
            rig.wait(80.0)

    pass_hours(20)
    assert rig.all(Hangup) == []
    rig.open = False
    pass_hours(1)

    assert rig.all(Hangup) == [Hangup(1000)]
    assert rig.all(Lost)[0].reason == "the session is renewed"
    rig.close(1000)
    assert rig.feed.state is TradierState.MINTING


def test_nothing_wanted_lets_the_stream_go_after_a_while() -> None:
    rig = Rig(open_market=False).live()
    rig.want()
    rig.wait(1.0)
    assert rig.sent()[-1]["symbols"] == ["$empty$"]
    rig.want("QQQ")
    rig.wait(25.0)
    rig.want()
    rig.wait(61.0)

    assert rig.all(Hangup) == [Hangup(1000)]
    rig.close(1000)
    assert rig.feed.state is TradierState.IDLE
    assert rig.feed.wake_at() is None
    assert rig.all(Lost) == []


def test_nothing_wanted_any_more_ends_what_is_under_way() -> None:
    rig = Rig()
    rig.want("SPY")
    rig.want()
    rig.mint()
    assert rig.feed.state is TradierState.IDLE

    rig.want("SPY")
    assert rig.feed.state is TradierState.CONNECTING  # by the session that is there
    rig.want()
    rig.open_()
    assert rig.all(Hangup) == [Hangup(1000)]
    rig.close()

    rig.live()
    rig.close(None, "gone")
    rig.close(None, "gone")
    rig.refuse("x", refused=False)
    assert rig.feed.state is TradierState.BACKING_OFF
    rig.want()
    assert rig.feed.state is TradierState.IDLE


def test_a_refusal_that_nobody_waits_for_is_told_to_who_comes_next() -> None:
    rig = Rig(open_market=False).live()
    rig.wait(400.0)
    rig.want("QQQ")
    rig.wait(1.0)
    rig.want()
    rig.close()
    rig.refuse("token gone")
    assert rig.all(AuthFailed) == []

    rig.want("SPY")

    assert [one.message for one in rig.all(AuthFailed)] == ["token gone"]


def test_an_aged_session_is_not_exchanged_to_carry_nothing() -> None:
    rig = Rig(open_market=False).live()
    rig.wait(400.0)
    rig.want()
    rig.wait(1.0)

    assert len(rig.all(Mint)) == len(rig.sent()) == 1


def test_retiring_hangs_up_now() -> None:
    rig = Rig().live()
    rig.feed.retire(rig.now, rig.now_ns)
    assert rig.all(Hangup) == [Hangup(1000)]
    rig.close(1000)
    assert rig.feed.state is TradierState.IDLE

    fresh = Rig()
    fresh.feed.retire(0, 0)
    fresh.want("SPY")
    fresh.feed.retire(0, 0)
    fresh.mint()  # late, and nobody needs it
    fresh.refuse()
    assert fresh.feed.state is TradierState.IDLE

    dialling = Rig()
    dialling.want("SPY")
    dialling.mint()
    dialling.feed.retire(0, 0)
    dialling.close()
    assert dialling.feed.state is TradierState.IDLE
    assert dialling.all(Lost) == []


def test_late_news_of_an_old_connection_is_not_heard() -> None:
    rig = Rig().live()
    rig.close()
    rig.mint()
    rig.drain()

    for generation in (1, 99):
        rig.feed.opened(generation, rig.now, 0)
        rig.feed.frame(generation, quote(), rig.now, 0)
        rig.feed.alive(generation)
        rig.feed.closed(generation, None, "", rig.now, 0)

    assert rig.feed.drain() == []
    assert rig.feed.state is TradierState.CONNECTING


def test_an_error_after_we_hung_up_is_not_heard() -> None:
    rig = Rig().live()
    rig.frame(NOT_FOUND + b"\n" + NOT_FOUND)

    assert len(rig.all(Hangup)) == 1


def test_the_market_is_open_by_the_exchange_calendar() -> None:
    assert market_is_open(1_764_000_000 * S)  # a Monday, 11:00 in New York
    assert not market_is_open(1_764_000_000 * S + 12 * 3600 * S)
    assert not market_is_open(1)


class AnyHistory(RuleBasedStateMachine):
    """Against a Tradier that is built from the effects alone.

    There is never more than one connection and one request for a session; each
    connection has a session of its own, and no list goes out by one that has aged; and
    when nothing more is due, a live connection carries exactly what is wanted.
    """

    names = st.sets(st.sampled_from(["SPY", "QQQ", "BRK.B", "I:SPX"]))

    def __init__(self) -> None:
        super().__init__()
        self.rig = Rig()
        self.minting = False
        self.link: int | None = None
        self.up = False
        self.carried: list[str] | None = None
        self.minted_at: dict[str, float] = {}
        self.used: dict[str, int] = {}
        self.trouble = False
        self.bad: set[str] = set()

    def follow(self) -> None:
        for one in self.rig.drain():
            match one:
                case Mint():
                    assert not self.minting, "two at a time"
                    self.minting = True
                case Dial(generation=generation):
                    assert self.link is None, "dialled beside a connection"
                    self.link, self.up, self.carried = generation, False, None
                case SendText(data=data):
                    assert self.up
                    assert self.link is not None
                    said = msgspec.json.decode(data)
                    session = said["sessionid"]
                    assert self.rig.now - self.minted_at[session] < 300
                    assert self.used.setdefault(session, self.link) == self.link, "used twice"
                    self.carried = said["symbols"]
                case Hangup():
                    assert self.up
                    self.up = False
                case Ping() if not self.rig.mute:
                    assert self.link is not None
                    self.rig.feed.alive(self.link)
                case Lost() | AuthFailed():
                    self.trouble = True
                case Restored(gap_start_ns=start_ns, gap_end_ns=end_ns):
                    assert self.trouble
                    assert start_ns <= end_ns
                    self.trouble = False
                case _:
                    pass

    @rule(symbols=names)
    def want(self, symbols: set[str]) -> None:
        self.rig.want(*symbols)
        if not symbols and self.rig.feed.state is TradierState.IDLE:
            self.trouble = False
        self.follow()

    @precondition(lambda self: self.minting)
    @rule()
    def mint(self) -> None:
        self.minting = False
        self.minted_at[f"session-{self.rig.sessions + 1}"] = self.rig.now
        self.rig.mint()
        self.follow()

    @precondition(lambda self: self.minting)
    @rule(refused=st.booleans(), after_s=st.sampled_from([0.0, 5.0]))
    def no_mint(self, refused: bool, after_s: float) -> None:
        self.minting = False
        self.rig.refuse(refused=refused, after_s=after_s)
        self.follow()

    @precondition(lambda self: self.link is not None and not self.up and self.carried is None)
    @rule()
    def open(self) -> None:
        assert self.link is not None
        if self.rig.feed.state is TradierState.CONNECTING:
            self.up = True
        self.rig.feed.opened(self.link, self.rig.now, self.rig.now_ns)
        self.follow()

    @precondition(lambda self: self.link is not None)
    @rule()
    def close(self) -> None:
        assert self.link is not None
        link, self.link, self.up = self.link, None, False
        self.rig.feed.closed(link, None, "gone", self.rig.now, self.rig.now_ns)
        self.follow()

    @precondition(lambda self: self.up)
    @rule(
        data=st.sampled_from(
            [quote(), NOT_FOUND, b'{"error":"QQQ is not a valid symbol"}', b"junk", b""]
        )
    )
    def say(self, data: bytes) -> None:
        assert self.link is not None
        self.rig.feed.frame(self.link, data, self.rig.now, self.rig.now_ns)
        self.follow()

    @rule(seconds=st.sampled_from([0.1, 1.0, 30.0, 400.0]), mute=st.booleans())
    def wait(self, seconds: float, mute: bool) -> None:
        end = self.rig.now + seconds
        self.rig.mute = mute
        while (wake_at := self.rig.feed.wake_at()) is not None and wake_at <= end:
            self.rig.now = max(self.rig.now, wake_at)
            self.rig.feed.tick(self.rig.now, self.rig.now_ns)
            self.follow()
        self.rig.now = end

    @rule(is_open=st.booleans())
    def ring(self, is_open: bool) -> None:
        self.rig.open = is_open

    @rule()
    def come_to_rest(self) -> None:
        """Let Tradier do all that it is asked for, until nothing is left to do."""
        self.rig.open = False
        for _ in range(600):
            if self.minting:
                self.mint()
            elif self.link is not None and not self.up:
                state = self.rig.feed.state
                self.open() if state is TradierState.CONNECTING else self.close()
            self.wait(1.0, mute=False)
        feed, counted = self.rig.feed, self.rig.feed.statistics()
        if counted.symbols_wanted == 0:
            assert feed.state is TradierState.IDLE
        else:
            assert feed.state is TradierState.LIVE
            assert self.carried is not None
            carried = [one for one in self.carried if one != "$empty$"]
            assert len(carried) == counted.symbols_wanted - counted.symbols_failed
            assert not self.trouble

    @invariant()
    def nothing_is_left_behind(self) -> None:
        if self.rig.feed.state is TradierState.IDLE:
            assert self.link is None
            self.trouble = False


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
