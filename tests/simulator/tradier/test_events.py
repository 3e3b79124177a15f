"""The stream's words against the market's ticks, and the types of the reference's 6.4."""

import itertools
from collections.abc import Callable
from datetime import date, time
from typing import Any

import msgspec
import pytest

from onetape import calendar
from onetape.simulator.market import Market
from onetape.simulator.tradier.events import KINDS, Event, Ticker, event

AT = Callable[..., Any]
NEAR = "O:SPY251124C00674000"


def ns(at: str, day: str = "2025-11-24") -> int:
    return calendar.instant_ns(date.fromisoformat(day), time.fromisoformat(at))


def told(market: Market, start: str, end: str, **wanted: set[str]) -> list[Any]:
    ticker = Ticker(market, index_ticks=True)
    some = {kind: frozenset(symbols) for kind, symbols in wanted.items()}
    return [read(one) for one in ticker.events_between(some, ns(start), ns(end))]


def read(one: Event) -> Any:
    return msgspec.json.decode(one.detailed)


def types(fields: dict[str, Any]) -> dict[str, str]:
    return {name: type(value).__name__ for name, value in fields.items()}


def test_a_quote_has_numbers_for_prices_and_text_for_times(tradier: Any) -> None:
    for symbol in ("SPY", NEAR):
        quotes = told(tradier.market, "10:00", "10:01", quote={symbol})
        ticks = tradier.market.quotes(symbol, ns("10:00"), ns("10:01"))

        assert types(quotes[0]) == {
            "type": "str",
            "symbol": "str",
            "bid": "float",
            "bidsz": "int",
            "bidexch": "str",
            "biddate": "str",
            "ask": "float",
            "asksz": "int",
            "askexch": "str",
            "askdate": "str",
        }
        assert quotes[0]["symbol"] == symbol.removeprefix("O:")
        assert [(q["bid"], q["ask"], q["bidsz"]) for q in quotes] == [
            (tick.bid, tick.ask, tick.bid_size) for tick in ticks
        ]
        assert all(int(q["biddate"]) % 1000 == 0 for q in quotes)


def test_a_trade_is_text_and_counts_the_days_volume(tradier: Any) -> None:
    trades = told(tradier.market, "10:00", "10:02", trade={"SPY"})
    ticks = tradier.market.trades("SPY", ns("10:00"), ns("10:02"))
    volumes = [int(one["cvol"]) for one in trades]

    assert set(types(trades[0]).values()) == {"str"}
    assert [(float(t["price"]), int(t["size"])) for t in trades] == [
        (t.price, t.size) for t in ticks
    ]
    assert volumes == sorted(volumes)
    assert volumes[-1] == tradier.market.day_stats("SPY", ticks[-1].event_ns).volume
    assert all(t["price"] == t["last"] for t in trades)


def test_a_trade_and_a_timesale_are_the_same_print(tradier: Any) -> None:
    both = told(tradier.market, "10:00", "10:01", trade={"SPY"}, timesale={"SPY"})
    trades = [one for one in both if one["type"] == "trade"]
    sales = [one for one in both if one["type"] == "timesale"]

    assert [(t["date"], t["price"], t["size"]) for t in trades] == [
        (s["date"], s["last"], s["size"]) for s in sales
    ]
    assert types(sales[0])["seq"] == "int"
    assert types(sales[0])["cancel"] == "bool"
    assert sales[0]["session"] == "normal"
    assert all(float(s["bid"]) < float(s["ask"]) for s in sales)


def test_only_those_who_asked_get_details(tradier: Any) -> None:
    ticker = Ticker(tradier.market, index_ticks=True)
    (sale, *_) = ticker.events_between({"timesale": frozenset({"SPY"})}, ns("10:00"), ns("10:01"))

    assert set(read(sale)) - set(msgspec.json.decode(sale.raw)) == {
        "seq",
        "flag",
        "cancel",
        "correction",
        "session",
    }


@pytest.mark.parametrize(
    ("start", "end", "session"), [("08:00", "09:00", "pre"), ("17:00", "18:00", "post")]
)
def test_before_and_after_hours_there_is_tradex_only(
    at: AT, start: str, end: str, session: str
) -> None:
    wanted = {kind: {"SPY"} for kind in ("trade", "tradex", "timesale")}
    events = told(at("2025-11-24 20:00").market, start, end, **wanted)

    assert {one["type"] for one in events} == {"tradex", "timesale"}
    assert {one["session"] for one in events if one["type"] == "timesale"} == {session}


def test_an_index_trades_without_a_size(tradier: Any) -> None:
    values = told(tradier.market, "10:00", "10:01", trade={"I:SPX"}, quote={"I:SPX"})
    ticks = tradier.market.values("I:SPX", ns("10:00"), ns("10:01"))

    assert [float(one["last"]) for one in values] == [tick.value for tick in ticks]
    assert {(v["symbol"], v["size"], v["cvol"], v["type"]) for v in values} == {
        ("SPX", "0", "0", "trade")
    }


def test_indices_may_not_stream_at_all(tradier: Any) -> None:
    ticker = Ticker(tradier.market, index_ticks=False)
    wanted = {"trade": frozenset({"I:SPX"})}

    assert ticker.events_between(wanted, ns("10:00"), ns("10:01")) == []
    assert ticker.standing(["I:SPX"], ns("10:00")) == []


def test_a_summary_comes_when_the_day_has_a_new_extreme(tradier: Any) -> None:
    summaries = told(tradier.market, "09:30", "11:00", summary={"SPY", "I:SPX"})
    mine = [one for one in summaries if one["symbol"] == "SPY"]
    stats = tradier.market.day_stats("SPY", ns("11:00") - 1)

    assert set(types(mine[0]).values()) == {"str"}
    assert mine[0]["open"] == mine[0]["high"] == mine[0]["low"] == str(stats.open)
    assert (float(mine[-1]["high"]), float(mine[-1]["low"])) == (stats.high, stats.low)
    assert float(mine[-1]["prevClose"]) == stats.previous_close
    assert {one["symbol"] for one in summaries} == {"SPY", "SPX"}
    later = told(tradier.market, "10:30", "11:00", summary={"SPY"})
    assert [one for one in mine if one in later] == later, "wherever one begins"


def test_steps_that_meet_say_what_one_step_says(tradier: Any) -> None:
    wanted = {kind: frozenset({"SPY", "I:SPX", NEAR}) for kind in KINDS}
    whole = Ticker(tradier.market, index_ticks=True)
    parts = Ticker(tradier.market, index_ticks=True)
    edges = [ns("10:00") + n * 7_000_000_000 for n in range(9)]
    pieces = [parts.events_between(wanted, a, b) for a, b in itertools.pairwise(edges)]

    assert [one for piece in pieces for one in piece] == whole.events_between(
        wanted, edges[0], edges[-1]
    )


def test_a_new_day_begins_its_volume_anew(at: AT) -> None:
    market = at("2025-11-25 11:00").market
    ticker, wanted = Ticker(market, index_ticks=True), {"tradex": frozenset({"SPY"})}
    evening = ticker.events_between(wanted, ns("19:00"), ns("20:00"))
    morning = ticker.events_between(wanted, ns("04:00", "2025-11-25"), ns("05:00", "2025-11-25"))

    assert int(read(morning[0])["cvol"]) < int(read(evening[-1])["cvol"])
    assert (
        int(read(morning[-1])["cvol"])
        == market.day_stats("SPY", ns("05:00", "2025-11-25") - 1).volume
    )


def test_what_stands_is_the_last_quote_and_trade(tradier: Any) -> None:
    ticker = Ticker(tradier.market, index_ticks=True)
    events = [read(one) for one in ticker.standing(["SPY", "I:SPX"], ns("10:30"))]

    assert [(one["type"], one["symbol"]) for one in events] == [
        ("quote", "SPY"),
        ("trade", "SPY"),
        ("tradex", "SPY"),
        ("trade", "SPX"),
    ]
    assert int(events[1]["date"]) <= ns("10:30") // 10**6


def test_time_left_out_is_forgotten(tradier: Any) -> None:
    ticker, wanted = Ticker(tradier.market, index_ticks=True), {"trade": frozenset({"SPY"})}
    ticker.events_between(wanted, ns("10:00"), ns("10:01"))
    ticker.forget()
    (first, *_) = ticker.events_between(wanted, ns("10:30"), ns("10:31"))
    at_ns = tradier.market.trades("SPY", ns("10:30"), ns("10:31"))[0].event_ns

    assert int(read(first)["cvol"]) == tradier.market.day_stats("SPY", at_ns).volume


def test_an_event_without_details_is_written_once() -> None:
    one = event("SPY", "quote", {"bid": 1.0}, {})

    assert one.raw is one.detailed
