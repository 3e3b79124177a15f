from collections.abc import Collection
from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from onetape.model import AssetClass, Topic
from onetape.simulator.massive.events import Symbols, by_channel, events_between
from onetape.simulator.seeded.records import BarTick, QuoteTick, TradeTick, ValueTick

MS, SECOND = 1_000_000, 1_000_000_000
OPTIONS, STOCKS, INDICES = AssetClass.OPTIONS, AssetClass.STOCKS, AssetClass.INDICES
CONTRACT = "O:SPY251219C00650000"


class GridTape:
    """A tape that ticks every 10 ms for whatever is asked, and bars that end every second."""

    def ticks(
        self, symbols: Collection[str] | None, start_ns: int, end_ns: int, every_ns: int
    ) -> list[tuple[str, int]]:
        first = -(-start_ns // every_ns) * every_ns
        times = range(first, end_ns, every_ns)
        return [(symbol, t) for t in times for symbol in sorted(symbols or {"ALL"})]

    def stream_trades(
        self, asset: AssetClass, symbols: Collection[str] | None, start_ns: int, end_ns: int
    ) -> list[TradeTick]:
        stock = asset is STOCKS
        return [
            TradeTick(
                symbol=symbol,
                event_ns=t,
                price=114.125,
                size=100,
                exchange=4,
                conditions=(233,) if asset is OPTIONS else (),
                sequence=t // (10 * MS),
                participant_ns=t,
                id="71" if stock else None,
                tape=1 if stock else None,
                trf_id=201 if stock else None,
                trf_ns=3 * MS if stock else None,
            )
            for symbol, t in self.ticks(symbols, start_ns, end_ns, 10 * MS)
        ]

    def stream_quotes(
        self, asset: AssetClass, symbols: Collection[str] | None, start_ns: int, end_ns: int
    ) -> list[QuoteTick]:
        return [
            QuoteTick(
                symbol=symbol,
                event_ns=t,
                bid=9.71,
                ask=9.81,
                bid_size=17,
                ask_size=24,
                bid_exchange=302,
                ask_exchange=308,
                sequence=t // (10 * MS),
                participant_ns=t,
                tape=3 if asset is STOCKS else None,
            )
            for symbol, t in self.ticks(symbols, start_ns, end_ns, 10 * MS)
        ]

    def stream_values(
        self, symbols: Collection[str] | None, start_ns: int, end_ns: int
    ) -> list[ValueTick]:
        ticks = self.ticks(symbols, start_ns, end_ns, 10 * MS)
        return [ValueTick(symbol, t, 3988.5) for symbol, t in ticks]

    def closed_bars(
        self,
        asset: AssetClass,
        symbols: Collection[str] | None,
        start_ns: int,
        end_ns: int,
        *,
        seconds: int = 60,
    ) -> list[BarTick]:
        length_ns = seconds * SECOND
        volumes = asset is not INDICES
        return [
            BarTick(
                symbol=symbol,
                start_ns=t - length_ns,
                end_ns=t,
                open=25.39,
                high=25.41,
                low=25.37,
                close=25.4,
                volume=200 if volumes else None,
                vwap=25.3981 if volumes else None,
                transactions=4 if volumes else None,
                day_open=25.66,
                day_volume=8642007 if volumes else None,
                day_vwap=25.3714 if volumes else None,
            )
            for symbol, t in self.ticks(symbols, start_ns, end_ns, length_ns)
        ]


def raws(asset: AssetClass, topic: str, *, at_ns: int = SECOND) -> list[bytes]:
    wanted = by_channel([Topic(topic)])
    events = events_between(GridTape(), asset, wanted, start_ns=at_ns, end_ns=at_ns + 1)
    return [event.raw for event in events if event.topic == topic]


@pytest.mark.parametrize(
    ("asset", "topic", "raw"),
    [
        (
            OPTIONS,
            f"T.{CONTRACT}",
            b'"ev":"T","sym":"O:SPY251219C00650000","x":4,"p":114.125,"s":100,"c":[233],"t":1000,"q":100',
        ),
        (
            OPTIONS,
            f"Q.{CONTRACT}",
            b'"ev":"Q","sym":"O:SPY251219C00650000","bx":302,"ax":308,"bp":9.71,"ap":9.81,'
            b'"bs":17,"as":24,"t":1000,"q":100',
        ),
        (INDICES, "V.I:SPX", b'"ev":"V","val":3988.5,"T":"I:SPX","t":1000'),
        (
            INDICES,
            "A.I:SPX",
            b'"ev":"A","sym":"I:SPX","op":25.66,"o":25.39,"c":25.4,"h":25.41,"l":25.37,"s":0,"e":1000',
        ),
        (
            STOCKS,
            "T.MSFT",
            b'"ev":"T","sym":"MSFT","x":4,"i":"71","z":1,"p":114.125,"s":100,"t":1000,"q":100,'
            b'"trfi":201,"trft":3',
        ),
        (
            STOCKS,
            "Q.MSFT",
            b'"ev":"Q","sym":"MSFT","bx":302,"bp":9.71,"bs":17,"ax":308,"ap":9.81,"as":24,'
            b'"t":1000,"q":100,"z":3',
        ),
        (
            STOCKS,
            "A.SPCE",
            b'"ev":"A","sym":"SPCE","v":200,"av":8642007,"op":25.66,"vw":25.3981,"o":25.39,'
            b'"c":25.4,"h":25.41,"l":25.37,"a":25.3714,"z":50,"s":0,"e":1000',
        ),
    ],
)
def test_every_event_is_the_vendors_to_the_byte(asset: AssetClass, topic: str, raw: bytes) -> None:
    assert raws(asset, topic) == [raw]


def test_a_minute_ends_a_minute_after_it_began() -> None:
    (raw,) = raws(OPTIONS, f"AM.{CONTRACT}", at_ns=60 * SECOND)

    assert raw.endswith(b'"s":0,"e":60000')


@pytest.mark.parametrize("topic", ["FMV.SPY", "LULD.SPY", "NOI.SPY"])
def test_some_channels_can_be_subscribed_and_never_speak(topic: str) -> None:
    assert raws(STOCKS, topic) == []


def test_topics_are_parted_by_channel_and_a_star_is_everything() -> None:
    topics = [Topic("T.BRK.B"), Topic("T.SPY"), Topic("Q.SPY"), Topic("A.SPY"), Topic("A.*")]

    assert by_channel(topics) == {
        "T": frozenset({"BRK.B", "SPY"}),
        "Q": frozenset({"SPY"}),
        "A": None,
    }


def test_a_bar_is_published_its_lag_after_its_window() -> None:
    wanted: dict[str, Symbols] = {"A": frozenset({"SPY"})}

    def bars(start_ns: int, end_ns: int) -> int:
        return len(
            events_between(
                GridTape(), STOCKS, wanted, start_ns=start_ns, end_ns=end_ns, bar_lag_ns=2 * SECOND
            )
        )

    assert bars(2 * SECOND + 1, 3 * SECOND) == 0
    assert bars(3 * SECOND, 3 * SECOND + 1) == 1


@given(cuts=st.lists(st.integers(0, 300 * MS), max_size=8), lag=st.integers(0, 3 * SECOND))
def test_however_time_is_cut_every_event_comes_once_and_in_order(cuts: list[int], lag: int) -> None:
    begin, wanted = 7 * SECOND, by_channel([Topic("T.SPY"), Topic("Q.SPY"), Topic("A.SPY")])
    edges = [begin, *(begin + cut for cut in sorted(cuts)), begin + 300 * MS]

    def between(start_ns: int, end_ns: int) -> list[bytes]:
        events = events_between(
            GridTape(), STOCKS, wanted, start_ns=start_ns, end_ns=end_ns, bar_lag_ns=lag
        )
        return [event.raw for event in events]

    pieces = [raw for one, two in pairwise(edges) for raw in between(one, two)]

    assert pieces == between(begin, begin + 300 * MS)
