"""What Tradier's stream says, line by line."""

import msgspec
import pytest
from hypothesis import given, strategies as st

from onetape.errors import UpstreamGarbled
from onetape.model import Quote, Trade
from onetape.provenance import Source
from onetape.secret import Secret
from onetape.tradier.wire_stream import (
    Parsed,
    Prints,
    StreamParser,
    parse_session,
    subscription,
    wire_names,
)

QUOTE = (
    b'{"type":"quote","symbol":"SPY","bid":373.44,"bidsz":9,"bidexch":"Z",'
    b'"biddate":"1609447718000","ask":373.45,"asksz":6,"askexch":"Q","askdate":"1609447718000"}'
)
TRADE = (
    b'{"type":"trade","symbol":"SPY","exch":"Q","price":"373.45","size":"100",'
    b'"cvol":"38311315","date":"1609447718018","last":"373.45"}'
)
TIMESALE = (
    b'{"type":"timesale","symbol":"QQQ","exch":"X","bid":"313.06","ask":"313.07",'
    b'"last":"313.06","size":"110","date":"1609447718210","seq":172047,"flag":"@",'
    b'"cancel":false,"correction":false,"session":"normal"}'
)
PLAIN_TIMESALE = (
    b'{"type":"timesale","symbol":"TSLA","exch":"D","bid":"167.87","ask":"167.9",'
    b'"last":"167.8962","size":"250","date":"1669144757274"}'
)
SUMMARY = (
    b'{"type":"summary","symbol":"SPY","open":"282.42","high":"283.49","low":"281.07",'
    b'"prevClose":"288.1"}'
)
TRADEX = TRADE.replace(b'"trade"', b'"tradex"')
INDEX = (
    b'{"type":"trade","symbol":"SPX","exch":"","price":"6100.5","size":"0","cvol":"0",'
    b'"date":"1609447718018","last":"6100.5"}'
)
SYMBOLS = ["SPY", "QQQ", "TSLA", "I:SPX", "BRK.B", "O:SPY260803C00740000"]


def parser(prints: Prints = "timesale", round_lot: float = 1.0) -> StreamParser:
    made = StreamParser(prints=prints, round_lot=round_lot)
    made.name(wire_names(SYMBOLS)[0])
    return made


def parse(*lines: bytes, prints: Prints = "timesale") -> Parsed:
    return parser(prints).parse(b"\n".join(lines), received_ns=7)


# what is sent


def test_a_session_is_a_secret_and_must_be_there() -> None:
    body = (
        b'{"stream":{"url":"https://stream.example/v1/markets/events","sessionid":"c8638963-a6d4"}}'
    )
    session = parse_session(body)

    assert session.session_id.matches("c8638963-a6d4")
    assert "c8638963" not in repr(session)
    for bad in (b"{}", b'{"stream":{"sessionid":""}}', b'{"stream":null}', b"\xff"):
        with pytest.raises(UpstreamGarbled):
            parse_session(bad)


def test_the_whole_list_is_sent_and_nothing_has_a_name() -> None:
    names, unnamed = wire_names(["SPY", "BRK.B", "I:SPX", "O:SPY260803C00740000", "not one"])
    frame = msgspec.json.decode(subscription(names, Secret("id")))
    empty = msgspec.json.decode(subscription({}, Secret("id"), prints="trade"))

    assert frame == {
        "symbols": ["BRK/B", "SPX", "SPY", "SPY260803C00740000"],
        "sessionid": "id",
        "filter": ["quote", "timesale", "trade"],
        "linebreak": True,
        "validOnly": True,
        "advancedDetails": True,
    }
    assert unnamed == {"not one"}
    assert empty["symbols"] == ["$empty$"]
    assert empty["filter"] == ["quote", "trade"]
    no_index = msgspec.json.decode(subscription({"SPY": "SPY"}, Secret("id")))
    assert no_index["filter"] == ["quote", "timesale"]


# what comes


def test_a_captured_quote() -> None:
    assert parse(QUOTE).events == [
        Quote(
            symbol="SPY",
            event_ns=1_609_447_718_000_000_000,
            received_ns=7,
            provider="tradier",
            source=Source.STREAM,
            bid=373.44,
            ask=373.45,
            bid_size=9.0,
            ask_size=6.0,
        )
    ]


@pytest.mark.parametrize(
    ("line", "prints", "price", "size", "sequence"),
    [
        (TRADE, "trade", 373.45, 100, None),
        (TRADEX, "tradex", 373.45, 100, None),
        (TIMESALE, "timesale", 313.06, 110, 172047),
        (PLAIN_TIMESALE, "timesale", 167.8962, 250, None),
    ],
)
def test_a_captured_print(
    line: bytes, prints: Prints, price: float, size: float, sequence: int | None
) -> None:
    (trade,) = parse(line, prints=prints).events

    assert isinstance(trade, Trade)
    assert (trade.price, trade.size, trade.sequence) == (price, size, sequence)
    assert trade.source is Source.STREAM


@pytest.mark.parametrize("prints", ["trade", "tradex", "timesale"])
def test_the_accounts_of_one_print_are_counted_once(prints: Prints) -> None:
    sale = TIMESALE.replace(b"QQQ", b"SPY")

    assert len(parse(TRADE, TRADEX, sale, SUMMARY, prints=prints).events) == 1


def test_an_index_is_a_value_though_its_size_is_zero() -> None:
    (value,) = parse(INDEX).events

    assert value == Quote(
        symbol="I:SPX",
        event_ns=1_609_447_718_018_000_000,
        received_ns=7,
        provider="tradier",
        source=Source.STREAM,
        last=6100.5,
    )


def test_a_print_of_nothing_is_ignored() -> None:
    for line in (
        TRADE.replace(b'"100"', b'"0"'),
        TRADE.replace(b'"1609447718018"', b'""'),
        TRADE.replace(b'"373.45"', b'"NaN"'),
    ):
        parsed = parse(line, prints="trade")
        assert (parsed.events, parsed.quiet) == ([], 1)


def test_a_print_that_takes_another_back_is_not_counted_again() -> None:
    for name in (b"cancel", b"correction"):
        assert parse(TIMESALE.replace(name + b'":false', name + b'":true')).events == []


def test_numbers_and_dates_may_be_numbers_or_strings() -> None:
    line = QUOTE.replace(b"373.44", b'"373.44"').replace(b'"1609447718000"', b"1609447718000")

    assert parse(line).events == parse(QUOTE).events


def test_a_bid_of_zero_is_a_bid_on_an_option_alone() -> None:
    zero = QUOTE.replace(b"373.44", b"0.0")
    option = zero.replace(b"SPY", b"SPY260803C00740000")

    (stock,) = parse(zero).events
    (contract,) = parse(option).events

    assert isinstance(stock, Quote)
    assert isinstance(contract, Quote)
    assert (stock.bid, stock.bid_size) == (None, None)
    assert (contract.bid, contract.bid_size) == (0.0, 9.0)


def test_the_unit_of_a_stocks_sizes_can_be_set() -> None:
    made = parser(round_lot=100)
    (stock,) = made.parse(QUOTE, received_ns=7).events
    (contract,) = made.parse(QUOTE.replace(b"SPY", b"SPY260803C00740000"), received_ns=7).events

    assert isinstance(stock, Quote)
    assert isinstance(contract, Quote)
    assert (stock.bid_size, contract.bid_size) == (900.0, 9.0)


def test_what_is_sent_again_is_not_news() -> None:
    made = parser()
    sale = TIMESALE.replace(b"QQQ", b"SPY")
    first = made.parse(b"\n".join([QUOTE, sale, INDEX]), received_ns=7)
    again = made.parse(b"\n".join([QUOTE, sale, INDEX]), received_ns=8)

    assert len(first.events) == 3
    assert (again.events, again.quiet) == ([], 3)
    assert made.statistics().old == 3


def test_what_is_older_is_not_news() -> None:
    made = parser("trade")
    made.parse(QUOTE + b"\n" + TRADE, received_ns=7)
    older = b"\n".join(line.replace(b"16094477180", b"16094477170") for line in (QUOTE, TRADE))

    assert made.parse(older.replace(b"373.4", b"373.5"), received_ns=8).events == []


def test_within_a_second_a_quote_that_differs_is_news() -> None:
    made = parser()
    prices = (b"373.44", b"373.43", b"373.44", b"373.44")

    found = [
        len(made.parse(QUOTE.replace(b"373.44", price), received_ns=7).events) for price in prices
    ]

    assert found == [1, 1, 1, 0]


def test_the_same_quote_later_is_news_and_an_undated_one_if_it_differs() -> None:
    made = parser()
    later = QUOTE.replace(b"1609447718000", b"1609447719000")
    undated = QUOTE.replace(b'"1609447718000"', b"null")

    frames = (QUOTE, later, undated, undated.replace(b"373.44", b"373.43"))
    found = [len(made.parse(frame, received_ns=7).events) for frame in frames]

    assert found == [1, 1, 0, 1]


def test_two_prints_of_one_millisecond_are_two() -> None:
    made = parser()
    second = TIMESALE.replace(b"172047", b"172048")

    parsed = made.parse(b"\n".join([TIMESALE, second, TIMESALE, second]), received_ns=7)

    assert [one.sequence for one in parsed.events if isinstance(one, Trade)] == [172047, 172048]
    assert parsed.quiet == 2


def test_symbols_that_are_not_wanted_are_ignored_and_forgotten() -> None:
    made = parser()
    made.parse(QUOTE, received_ns=7)

    made.name({})
    ignored = made.parse(QUOTE, received_ns=7)
    made.name({"SPY": "SPY"})

    assert (ignored.events, ignored.quiet) == ([], 1)
    assert len(made.parse(QUOTE, received_ns=7).events) == 1


def test_errors_are_told_and_garbage_does_not_stop_the_stream() -> None:
    parsed = parse(b'{"error":"1234 is not a valid symbol"}', b"<html>", b"", b"  ", b"7", QUOTE)

    assert parsed.errors == ["1234 is not a valid symbol"]
    assert parsed.garbage == [b"<html>", b"7"]
    assert len(parsed.events) == 1


def test_objects_may_be_run_together_or_have_other_line_ends() -> None:
    made = parser()

    assert len(made.parse(QUOTE + TIMESALE, received_ns=7).events) == 2
    assert len(parser().parse(QUOTE + b"\r\n" + TIMESALE + b"\r\n", received_ns=7).events) == 2


@given(
    st.binary(max_size=300)
    | st.tuples(
        st.sampled_from([QUOTE, TRADE, TIMESALE, INDEX, SUMMARY]),
        st.integers(0, 400),
        st.integers(0, 7),
    ).map(lambda cut: bend(*cut))
)
def test_any_bytes_are_events_or_garbage(frame: bytes) -> None:
    made = parser("trade")
    parsed = made.parse(frame, received_ns=7)
    counted = made.statistics()

    read = len(parsed.events) + len(parsed.errors) + len(parsed.garbage) + parsed.quiet
    assert read == counted.lines
    assert counted.garbled == len(parsed.garbage)


def bend(line: bytes, at: int, bit: int) -> bytes:
    bent = bytearray(line)
    if at >= len(bent):
        return bytes(bent[: at - len(bent)])
    bent[at] ^= 1 << bit
    return bytes(bent)
