"""Two scripted vendors asked for numbers, on a loop whose time is leapt over."""

import asyncio
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Self

import msgspec
import pytest
from hypothesis import given, settings, strategies as st

from onetape.core.choice import Route
from onetape.errors import (
    AllProvidersFailed,
    ContractNotFound,
    InvalidRequest,
    MassiveApiError,
    NotConnected,
    OnetapeError,
    ShuttingDown,
    UpstreamDown,
    UpstreamForbidden,
    UpstreamGarbled,
    UpstreamThrottled,
    UpstreamTimeout,
)
from onetape.hybrid.fallback import Fallback, Settled
from onetape.hybrid.seats import HybridPolicy, Question
from onetape.hybrid.verdicts import GOOD, WORDS, Verdict, Why
from onetape.model import ProviderHealth
from onetape.testing import LeapClock, leaping

S = 1_000_000_000
DOWN = UpstreamDown("the vendor's own words")
NOT_THERE = ContractNotFound("none")
POOR = 10
FINE = 90
MUTE = 1e6
CLOCK = LeapClock(start_ns=0)
elapsed = CLOCK.monotonic


Reply = int | Exception
"""A confidence, which is the answer as well; 0 is an empty one."""


class Vendor:
    """Answers every question with what it is told."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.reply: Reply = FINE
        self.next: list[Reply] = []
        self.by_part: dict[str, Reply] = {}
        self.delay_s = 0.0
        self.asked: list[tuple[float, tuple[str, ...]]] = []
        self.cancelled = 0

    def health(self) -> tuple[ProviderHealth, ...]:
        return ()

    async def get(self, parts: tuple[str, ...]) -> Mapping[str, int | OnetapeError]:
        self.asked.append((elapsed(), parts))
        reply = self.next.pop(0) if self.next else self.reply
        try:
            await asyncio.sleep(self.delay_s)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if isinstance(reply, Exception):
            raise reply
        found: dict[str, int | OnetapeError] = {}
        for part in parts:
            one = self.by_part.get(part, reply)
            assert isinstance(one, int | OnetapeError)
            found[part] = one
        return found


def judge(answer: int, _now_ns: int) -> Verdict:
    if not answer:
        return Verdict(0, Why.EMPTY)
    return GOOD if answer >= 40 else Verdict(answer, Why.POOR, f"confidence {answer}")


def about(*parts: str) -> Question[Vendor, int]:
    return Question(
        what="number", parts=parts or ("a",), ask=lambda vendor, some: vendor.get(some), judge=judge
    )


class Duo:
    def __init__(self, **policy: Any) -> None:
        self.massive, self.tradier = Vendor("massive"), Vendor("tradier")
        self.fallback = Fallback(
            self.massive, self.tradier, clock=CLOCK, policy=HybridPolicy(**policy)
        )

    async def __aenter__(self) -> Self:
        await self.fallback.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self.fallback.__aexit__(*error)

    async def ask(self, part: str = "a") -> Settled[int]:
        return (await self.fallback.ask(about(part)))[part]

    async def asking_for(self, seconds: int) -> list[Route]:
        """Ask every second; return who answered."""
        given: list[Route] = []
        for _ in range(seconds):
            given.append((await self.ask()).by)
            await asyncio.sleep(1)
        return given

    def health(self) -> tuple[ProviderHealth, ProviderHealth]:
        primary, secondary = self.fallback.health()
        return primary, secondary


def changes(given: list[Route]) -> int:
    return sum(a is not b for a, b in pairwise(given))


# who answers


@leaping
async def test_the_secondary_stays_for_a_minute_and_until_the_primary_proved_itself() -> None:
    """R224: hysteresis both ways."""
    async with Duo() as duo:
        duo.massive.next = [DOWN]

        given = await duo.asking_for(90)

        assert given == [Route.SECONDARY] * 61 + [Route.PRIMARY] * 29
        assert len(duo.massive.asked) == 1 + 2 + 29, "one failure, two probes"
        statistics = duo.fallback.statistics()
        assert statistics.fallbacks == {Why.DOWN: 1, Why.HELD: 60}
        assert (statistics.switches, statistics.probes) == (2, 2)


@leaping
async def test_a_return_that_fails_is_called_off() -> None:
    async with Duo() as duo:
        duo.massive.next = [DOWN, FINE, FINE, DOWN]

        given = await duo.asking_for(120)

        assert given.count(Route.PRIMARY) == 0
        statistics = duo.fallback.statistics()
        assert (statistics.switches, statistics.called_off) == (2, 1)


@leaping
async def test_a_key_moves_alone() -> None:
    async with Duo() as duo:
        duo.massive.by_part = {"a": POOR}

        settled = await duo.fallback.ask(about("a", "b"))

        assert (settled["a"].by, settled["b"].by) == (Route.SECONDARY, Route.PRIMARY)
        assert duo.fallback.statistics().on_secondary == 1
        again = await duo.fallback.ask(about("b", "a"))
        assert list(again) == ["b", "a"], "in the order asked for"
        assert duo.massive.asked[-1][1] == ("b",)
        assert duo.tradier.asked[-1][1] == ("a",)


@leaping
async def test_when_the_secondary_fails_meanwhile_the_primary_stands_in() -> None:
    async with Duo() as duo:
        duo.massive.next = [DOWN]
        await duo.ask()
        duo.tradier.reply = DOWN

        settled = await duo.ask()

        assert (settled.by, settled.why) == (Route.PRIMARY, None)
        assert duo.fallback.statistics().switches == 1


@leaping
async def test_when_the_secondary_hangs_the_probe_is_the_answer() -> None:
    async with Duo() as duo:
        duo.massive.next = [DOWN]
        await duo.ask()
        duo.tradier.delay_s = MUTE
        await asyncio.sleep(30)
        before = elapsed()

        settled = await duo.ask()

        assert settled.by is Route.PRIMARY
        assert elapsed() - before == pytest.approx(3.0)
        assert len(duo.massive.asked) == 2, "asked once"


@leaping
async def test_when_all_hang_it_is_told_within_five_seconds() -> None:
    async with Duo() as duo:
        duo.massive.next = [DOWN]
        await duo.ask()
        duo.tradier.delay_s = duo.massive.delay_s = MUTE
        await asyncio.sleep(30)
        before = elapsed()

        settled = await duo.ask()

        with pytest.raises(AllProvidersFailed, match="massive did not answer in time; tradier did"):
            settled.value()
        assert elapsed() - before <= 5


@leaping
async def test_with_both_left_alone_it_fails_at_once_until_one_may_be_probed() -> None:
    async with Duo() as duo:
        duo.massive.reply = duo.tradier.reply = DOWN
        for _ in range(3):
            await duo.ask()
        asked = len(duo.massive.asked), len(duo.tradier.asked)

        error = (await duo.ask()).outcome.error

        assert isinstance(error, AllProvidersFailed)
        assert "left alone" in str(error)
        assert error.retry_after_s == pytest.approx(2), "nobody else is left to ask"
        assert (len(duo.massive.asked), len(duo.tradier.asked)) == asked
        duo.massive.reply = FINE
        await asyncio.sleep(2)
        assert (await duo.ask()).by is Route.PRIMARY


@leaping
async def test_while_the_secondary_is_left_alone_the_primary_has_all_the_time() -> None:
    async with Duo() as duo:
        duo.tradier.reply = DOWN
        for _ in range(3):
            await duo.fallback.second_opinion(about("a"))
        duo.massive.delay_s = 4.0

        assert (await duo.ask()).by is Route.PRIMARY


@leaping
async def test_of_two_poor_answers_the_better_is_given_and_nobody_is_blamed() -> None:
    """The market itself may be at fault: nobody is switched to."""
    async with Duo() as duo:
        duo.massive.reply, duo.tradier.reply = 20, 10
        for _ in range(5):
            assert (await duo.ask()).by is Route.PRIMARY
        assert len(duo.tradier.asked) == 1, "not compared again for a while"

        duo.tradier.reply = 30
        settled = await duo.ask("b")

        assert settled.by is Route.SECONDARY
        assert settled.why == "massive answered poorly (confidence 20)"
        assert duo.fallback.statistics().switches == 0
        assert all(one.failures == 0 for one in duo.health())


@leaping
async def test_a_poor_answer_is_the_primarys_fault_if_the_other_had_a_good_one() -> None:
    """W-59: failures of quality count."""
    async with Duo() as duo:
        duo.massive.reply = POOR

        for n in range(3):
            assert (await duo.ask(str(n))).by is Route.SECONDARY

        primary, _ = duo.health()
        assert (primary.failures, primary.status) == (3, "open")
        assert primary.last_failure is not None
        assert "answered poorly" in primary.last_failure


@leaping
async def test_a_poor_answer_is_better_than_none() -> None:
    async with Duo() as duo:
        duo.massive.reply, duo.tradier.reply = POOR, DOWN

        assert (await duo.ask()).by is Route.PRIMARY

        assert duo.health()[0].failures == 0


@leaping
async def test_a_key_first_asked_while_the_primary_is_left_alone_stays_for_its_minute() -> None:
    """W-58, R224."""
    async with Duo() as duo:
        duo.massive.reply = DOWN
        for n in range(3):
            await duo.ask(str(n))
        assert (await duo.ask()).why == f"massive {WORDS[Why.OPEN]}"
        duo.massive.reply = FINE
        await asyncio.sleep(30)
        await duo.ask("0")
        await asyncio.sleep(1)
        assert duo.health()[0].healthy

        given = await duo.asking_for(90)

        assert given[:29] == [Route.SECONDARY] * 29
        assert given[-1] is Route.PRIMARY
        assert changes(given) == 1
        assert duo.fallback.statistics().fallbacks[Why.OPEN] == 1


@leaping
async def test_leaving_the_block_tells_those_who_wait() -> None:
    duo = Duo()
    told: list[OnetapeError] = []

    async def ask() -> None:
        try:
            await duo.ask()
        except ShuttingDown as error:
            told.append(error)

    async with asyncio.TaskGroup() as tasks, duo:
        duo.massive.next = [DOWN]
        await duo.ask()
        duo.massive.delay_s, duo.tradier.reply = MUTE, DOWN
        await asyncio.sleep(30)
        tasks.create_task(ask())
        await asyncio.sleep(1)

    assert len(told) == 1
    assert len(asyncio.all_tasks()) == 1


@leaping
async def test_a_poor_probe_proves_nothing() -> None:
    async with Duo() as duo:
        duo.massive.reply = POOR

        given = await duo.asking_for(200)

        assert set(given) == {Route.SECONDARY}
        assert duo.fallback.statistics().probes >= 6


@leaping
async def test_a_probe_does_not_hold_up_an_answer_and_ends_with_the_block() -> None:
    async with Duo() as duo:
        duo.massive.next = [DOWN]
        await duo.ask()
        duo.massive.delay_s = MUTE
        await asyncio.sleep(30)
        before = elapsed()
        await duo.ask()
        assert elapsed() == before

    assert duo.massive.cancelled == 1
    with pytest.raises(NotConnected):
        await duo.ask()


@leaping
async def test_not_there_is_an_answer_from_whoever_is_asked_first() -> None:
    """W-59."""
    async with Duo() as duo:
        duo.massive.reply = NOT_THERE
        for _ in range(4):
            assert (await duo.ask()).outcome.error is NOT_THERE
        assert duo.tradier.asked == []
        assert duo.health()[0].healthy

        duo.massive.reply, duo.tradier.reply = DOWN, NOT_THERE
        assert (await duo.ask()).outcome.error is NOT_THERE
        assert duo.fallback.statistics().switches == 0


@leaping
async def test_empty_at_one_and_not_there_at_the_other_is_empty() -> None:
    """W-60."""
    async with Duo() as duo:
        duo.massive.reply, duo.tradier.reply = 0, NOT_THERE

        assert [(await duo.ask()).outcome.answer for _ in range(3)] == [0, 0, 0]

        assert len(duo.tradier.asked) == 1


@pytest.mark.parametrize("error", [InvalidRequest("x"), ShuttingDown("x")])
def test_what_is_nobodys_failure_is_told_as_it_is(error: OnetapeError) -> None:
    @leaping
    async def run() -> None:
        async with Duo() as duo:
            duo.massive.reply = error
            for _ in range(4):
                assert (await duo.ask()).outcome.error is error
            assert duo.tradier.asked == []
            assert duo.health()[0].healthy

    run()


@leaping
async def test_what_the_secondary_cannot_do_is_no_mistake_of_the_caller() -> None:
    async with Duo() as duo:
        duo.massive.reply, duo.tradier.reply = DOWN, InvalidRequest("not here")

        assert isinstance((await duo.ask()).outcome.error, AllProvidersFailed)

        assert duo.health()[1].healthy


@leaping
async def test_the_callers_mistake_is_told_though_the_secondary_is_first() -> None:
    async with Duo() as duo:
        duo.massive.next = [DOWN]
        await duo.ask()
        duo.massive.reply, duo.tradier.reply = InvalidRequest("x"), DOWN

        assert isinstance((await duo.ask()).outcome.error, InvalidRequest)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (UpstreamTimeout("x"), "massive did not answer in time"),
        (UpstreamForbidden("x"), "massive does not accept our key, or the plan lacks this"),
        (UpstreamGarbled("x"), "massive answered what cannot be read"),
        (UpstreamThrottled("x"), "massive asks us to wait"),
        (MassiveApiError("x", provider="massive", causes=[DOWN]), "massive is down"),
        (MassiveApiError("x", provider="massive"), "massive failed"),
        (TimeoutError("x"), "massive did not answer in time"),
        (KeyError("a bug"), "massive failed"),
    ],
)
def test_every_failure_is_told_in_our_words(error: Exception, words: str) -> None:
    """R220."""

    @leaping
    async def run() -> None:
        async with Duo() as duo:
            duo.massive.reply = error
            settled = await duo.ask()
            assert (settled.by, settled.why) == (Route.SECONDARY, words)

    run()


@leaping
async def test_a_fallback_is_logged_and_so_is_a_switch(caplog: pytest.LogCaptureFixture) -> None:
    """R220, R263."""
    async with Duo() as duo:
        duo.massive.reply = DOWN
        await duo.ask()
        await duo.ask()

    fell = [one.__dict__ for one in caplog.records if one.msg == "provider.fell_back"]
    switched = [one.__dict__ for one in caplog.records if one.msg == "provider.switched"]
    assert len(fell) == 1, "and not once more for each answer while it is so"
    assert (fell[0]["provider"], fell[0]["instead_of"]) == ("tradier", "massive")
    assert fell[0]["reason"] == "down"
    assert (len(switched), switched[0]["provider"]) == (1, "tradier")
    assert "own words" not in caplog.text


@leaping
async def test_one_failure_is_one_however_many_wait_for_it() -> None:
    """W-58: a hundred callers do not make a single failure three in a row."""
    async with Duo() as duo:
        duo.massive.reply, duo.massive.delay_s = DOWN, 1.0

        settled = await asyncio.gather(*(duo.ask() for _ in range(100)))

        assert {one.by for one in settled} == {Route.SECONDARY}
        assert (len(duo.massive.asked), len(duo.tradier.asked)) == (1, 1)
        assert duo.health()[0].consecutive_errors == 1


@leaping
async def test_a_second_opinion_is_only_a_good_one() -> None:
    async with Duo() as duo:
        duo.tradier.by_part = {"b": POOR}
        assert await duo.fallback.second_opinion(about("a", "b")) == {"a": FINE}

        duo.tradier.reply = DOWN
        for _ in range(3):
            assert await duo.fallback.second_opinion(about("a")) == {}
        asked = len(duo.tradier.asked)
        assert await duo.fallback.second_opinion(about("a")) == {}

        assert len(duo.tradier.asked) == asked, "left alone"
        assert duo.massive.asked == []


@leaping
async def test_without_a_secondary_it_passes_everything_through() -> None:
    """R22: no breaker, no deadline, no comparing."""
    massive = Vendor("massive")
    async with Fallback(massive, None, clock=CLOCK, policy=HybridPolicy()) as fallback:
        massive.reply = POOR
        settled = (await fallback.ask(about("a")))["a"]
        massive.delay_s, massive.reply = 20.0, DOWN
        for _ in range(4):
            await fallback.ask(about("a"))
        error = (await fallback.ask(about("a")))["a"].outcome.error

        assert (settled.outcome.answer, settled.why) == (POOR, None)
        assert isinstance(error, MassiveApiError)
        assert len(massive.asked) == 6
        assert await fallback.second_opinion(about("a")) == {}
        assert [one.healthy for one in fallback.health()] == [False]


# a hedge: both are asked when the first takes long


async def _learn_what_is_usual(duo: Duo) -> None:
    """All but a twentieth of the answers take 0.2 s at most."""
    for n in range(25):
        duo.massive.delay_s = 0.2 if n < 5 else 0.1
        await duo.ask()
    assert duo.fallback.statistics().hedged == 0


@leaping
async def test_a_hedge_answers_soon_and_blames_nobody() -> None:
    """R227: the loser is cancelled."""
    async with Duo(hedge=True) as duo:
        await _learn_what_is_usual(duo)
        duo.massive.delay_s, duo.tradier.delay_s = MUTE, 0.3
        before = elapsed()

        settled = await duo.ask()

        assert (settled.by, settled.why) == (Route.SECONDARY, "massive took longer than usual")
        assert elapsed() - before == pytest.approx(0.5)
        assert (duo.health()[0].failures, duo.massive.cancelled) == (0, 1)
        statistics = duo.fallback.statistics()
        assert (statistics.hedged, statistics.switches) == (1, 0)
        assert statistics.fallbacks == {Why.SLOW: 1}


@leaping
async def test_a_hedge_is_called_off_when_the_primary_is_only_a_little_late() -> None:
    """R227."""
    async with Duo(hedge=True) as duo:
        await _learn_what_is_usual(duo)
        duo.massive.delay_s, duo.tradier.delay_s = 0.4, 0.5

        assert (await duo.ask()).by is Route.PRIMARY

        assert duo.tradier.cancelled == 1
        assert duo.health()[1].failures == 0
        assert duo.fallback.statistics().fallbacks == {}


@leaping
async def test_a_hedge_that_answers_poorly_waits_for_the_primary() -> None:
    """R227: the first good one wins."""
    async with Duo(hedge=True) as duo:
        await _learn_what_is_usual(duo)
        duo.massive.delay_s, duo.tradier.reply = 0.9, POOR
        assert (await duo.ask()).by is Route.PRIMARY

        duo.massive.reply = DOWN
        settled = await duo.ask()

        assert settled.by is Route.SECONDARY, "the lesser evil"
        assert len(duo.tradier.asked) == 2, "asked once each"


@leaping
async def test_when_both_are_left_alone_one_that_heals_answers_within_seconds() -> None:
    """R224: half a minute without anybody would be worse than a question every 2 s."""
    async with Duo() as duo:
        duo.massive.reply = duo.tradier.reply = DOWN
        for _ in range(20):
            with pytest.raises(AllProvidersFailed, match=r"massive .*; tradier "):
                await asked(duo)
            await asyncio.sleep(0.5)
        assert len(duo.massive.asked) <= 3 + 10 / 2 + 1
        duo.massive.reply = FINE
        healed_at = elapsed()
        while await silent(duo):
            await asyncio.sleep(0.1)

        assert elapsed() - healed_at <= 2.1


async def asked(duo: Duo) -> Settled[int]:
    settled = await duo.ask()
    if settled.outcome.error is not None:
        raise settled.outcome.error
    return settled


async def silent(duo: Duo) -> bool:
    return (await duo.ask()).outcome.error is not None


@leaping
async def test_what_takes_anybody_long_is_waited_for_longer() -> None:
    """A whole chain of many pages: it is not a time-out that it takes a while."""
    async with Duo() as duo:
        duo.massive.delay_s = 6.0
        whole = msgspec.structs.replace(about(), is_long=True)
        settled = await duo.fallback.ask(whole)
        assert (settled["a"].by, elapsed()) == (Route.PRIMARY, 6.0)

        assert (await duo.ask()).by is Route.SECONDARY, "3 s, when it should be quick"


@leaping
async def test_nobody_is_asked_as_a_hedge_who_is_left_alone() -> None:
    """R227."""
    async with Duo(hedge=True) as duo:
        await _learn_what_is_usual(duo)
        duo.tradier.reply = DOWN
        for _ in range(3):
            await duo.fallback.second_opinion(about("a"))
        duo.massive.delay_s = 4.0

        assert (await duo.ask()).by is Route.PRIMARY

        assert duo.fallback.statistics().hedged == 0


@leaping
async def test_a_probe_that_is_quicker_than_the_answer_is_no_word_against_the_primary() -> None:
    """R224: it usually is, for it is the primary; a return is not called off by what proved it."""
    async with Duo() as duo:
        duo.massive.reply, duo.tradier.delay_s = DOWN, 0.5
        await duo.ask()
        duo.massive.reply = FINE

        for wait_s in (31, 31, 1):
            await asyncio.sleep(wait_s)
            settled = await duo.ask()

        assert settled.by is Route.PRIMARY
        statistics = duo.fallback.statistics()
        assert (statistics.switches, statistics.called_off, statistics.on_secondary) == (2, 0, 0)
        assert dict(statistics.fallbacks) == {Why.DOWN: 1, Why.HELD: 2}


@leaping
async def test_a_caller_that_leaves_frees_the_probe_and_blames_nobody() -> None:
    async with Duo() as duo:
        duo.massive.delay_s = MUTE
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await duo.ask()
        await asyncio.sleep(0.1)
        assert (duo.massive.cancelled, duo.health()[0].failures) == (1, 0)

        duo.massive.delay_s, duo.massive.reply, duo.tradier.delay_s = 0, POOR, MUTE
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await duo.ask()
        await asyncio.sleep(0.1)
        assert (duo.tradier.cancelled, duo.health()[0].failures) == (1, 0)


# any history


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[float, Reply, float, Reply]]:
    """Waits, and what the primary and the secondary would answer."""
    replies = st.sampled_from([FINE, FINE, POOR, 0, DOWN, NOT_THERE])
    waits = st.sampled_from([0.1, 1.0, 7.0, 31.0, 61.0])
    delays = st.sampled_from([0.0, 0.0, 0.5, 10.0])
    return draw(st.lists(st.tuples(waits, replies, delays, replies), max_size=50))


@settings(max_examples=30)
@given(histories())
def test_whatever_happens_an_open_breaker_is_respected_and_answers_come_in_time(
    history: list[tuple[float, Reply, float, Reply]],
) -> None:
    """W-58: while it is open the primary is only probed, every 30 s at most."""

    @leaping
    async def run() -> None:
        async with Duo() as duo:
            switches = 0
            for wait_s, primary, delay_s, secondary in history:
                await asyncio.sleep(wait_s)
                duo.massive.reply, duo.massive.delay_s = primary, delay_s
                duo.tradier.reply = secondary
                was_open, asked = duo.health()[0].status == "open", len(duo.massive.asked)
                is_other_trusted = duo.health()[1].status not in {"open", "probing"}
                since = elapsed()
                settled = await duo.ask()
                assert elapsed() - since <= 5, "too late"
                if was_open:
                    before = [at for at, _ in duo.massive.asked[:asked]]
                    after = [at for at, _ in duo.massive.asked[asked:]]
                    assert len(after) <= 1, "more than a probe"
                    assert all(at - before[-1] >= 30 for at in after), "probed too soon"
                if secondary == FINE and is_other_trusted:
                    assert settled.outcome.error is None or settled.outcome.error is NOT_THERE
                else:
                    assert settled.by is Route.PRIMARY or settled.outcome.is_answer
                switches = duo.fallback.statistics().switches
            assert switches <= elapsed() / 60 + 1, "it flaps"

    run()


@settings(max_examples=20)
@given(st.lists(st.sampled_from([FINE, POOR, 0, DOWN]), min_size=1, max_size=80))
def test_whatever_the_primary_does_who_answers_changes_once_a_minute(replies: list[Reply]) -> None:
    """R224: with a secondary that answers; once more for where it begins."""

    @leaping
    async def run() -> None:
        async with Duo() as duo:
            given: list[Route] = []
            for reply in replies:
                duo.massive.reply = reply
                given += await duo.asking_for(5)
            assert changes(given) <= elapsed() / 60 + 1, "it flaps"

    run()


def test_all_words_are_ours() -> None:
    """R220: one sentence for every reason."""
    assert set(WORDS) == set(Why)


@leaping
async def test_an_error_in_the_block_is_raised_as_it_is() -> None:
    with pytest.raises(KeyError):
        async with Duo():
            raise KeyError("the block's own")
