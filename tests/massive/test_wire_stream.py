import msgspec
import pytest
from hypothesis import given, strategies as st

from onetape.errors import InvalidFrame, InvalidTopic
from onetape.massive import wire_stream
from onetape.massive.wire_stream import Action, Batch, Split, Status, parse_params
from onetape.model import Bar, Quote, Topic, Trade

CONNECTED = b'[{"ev":"status","status":"connected","message":"Connected Successfully"}]'
TRADE = b'[{"ev":"T","sym":"O:AMC210827C00037000","x":65,"p":1.54,"s":1,"c":[233],"t":1629820676333,"q":651921857}]'
QUOTE = b'[{"ev":"Q","sym":"O:SPY241220P00720000","bx":302,"ax":302,"bp":9.71,"ap":9.81,"bs":17,"as":24,"t":1644506128351,"q":844090872}]'
MINUTE = b'[{"ev":"AM","sym":"O:ONEM220121C00025000","v":2,"av":8,"op":2.2,"vw":2.05,"o":2.05,"c":2.05,"h":2.05,"l":2.05,"a":2.1312,"z":2,"s":1632419640000,"e":1632419700000}]'
VALUE = b'[{"ev":"V","val":3988.5,"T":"I:SPX","t":1678220098130}]'
INDEX_MINUTE = b'[{"ev":"AM","sym":"I:SPX","op":3985.67,"o":3985.67,"c":3985.67,"h":3985.67,"l":3985.67,"s":1678220640000,"e":1678220700000}]'
LULD = b'[{"ev":"LULD","T":"MSFT","h":218.96,"l":198.11,"i":[21],"z":3,"t":1601316752683746,"q":290317}]'
GOLDEN = [TRADE, QUOTE, MINUTE, VALUE, INDEX_MINUTE, LULD]
"""The vendor's own samples, byte for byte."""


def only(frame: bytes) -> tuple[Topic, bytes]:
    split = wire_stream.split(frame)
    assert (split.statuses, split.garbage) == ([], [])
    [topic], [raw] = split.topics, split.raws
    return topic, raw


@pytest.mark.parametrize("frame", GOLDEN)
def test_what_is_taken_apart_goes_together_to_the_same_bytes(frame: bytes) -> None:
    """R66: a reader gets the vendor's own bytes."""
    for _ in range(2):  # the second time by the remembered prefix
        assert wire_stream.array(wire_stream.split(frame).raws) == frame


@pytest.mark.parametrize(
    ("frame", "topic"),
    [
        (TRADE, "T.O:AMC210827C00037000"),
        (QUOTE, "Q.O:SPY241220P00720000"),
        (MINUTE, "AM.O:ONEM220121C00025000"),
        (VALUE, "V.I:SPX"),
        (INDEX_MINUTE, "AM.I:SPX"),
        (LULD, "LULD.MSFT"),
    ],
)
def test_the_ticker_is_found_under_the_key_the_channel_has_it_under(
    frame: bytes, topic: str
) -> None:
    """W-31, R109: V events use `T` and `val`."""
    assert only(frame)[0] == topic
    assert wire_stream.topic_of(only(frame)[1]) == topic


def test_a_quote_keeps_both_sides_and_its_time_in_nanoseconds() -> None:
    quote = wire_stream.decode(*only(QUOTE), received_ns=5)

    assert quote == Quote(
        symbol="O:SPY241220P00720000",
        event_ns=1644506128351_000_000,
        received_ns=5,
        provider="massive",
        bid=9.71,
        ask=9.81,
        bid_size=17,
        ask_size=24,
        bid_exchange=302,
        ask_exchange=302,
        sequence=844090872,
    )


def test_a_trade_without_conditions_has_none() -> None:
    topic, raw = only(b'[{"ev":"T","sym":"F","p":1.5,"s":2,"t":3}]')

    trade = wire_stream.decode(topic, raw, received_ns=5)

    assert isinstance(trade, Trade)
    assert (trade.conditions, trade.exchange, trade.sequence) == ((), None, None)


def test_an_index_bar_has_no_volume_rather_than_none_of_it() -> None:
    bar = wire_stream.decode(*only(INDEX_MINUTE), received_ns=5)

    assert isinstance(bar, Bar)
    assert bar.volume is None
    assert bar.end_ns - bar.event_ns == 60_000_000_000


def test_an_index_value_and_a_channel_without_a_model() -> None:
    value = wire_stream.decode(*only(VALUE), received_ns=5, simulated=True)

    assert isinstance(value, Quote)
    assert (value.last, value.bid, value.simulated) == (3988.5, None, True)
    assert wire_stream.decode(*only(LULD), received_ns=5) is None


def test_an_event_that_lacks_its_price_is_an_error_of_ours() -> None:
    topic, raw = only(b'[{"ev":"T","sym":"F","s":2,"t":3}]')

    with pytest.raises(InvalidFrame, match=r"T\.F"):
        wire_stream.decode(topic, raw, received_ns=5)


MIXED = b"[" + b",".join(frame[1:-1] for frame in GOLDEN) + b"]"


def test_a_frame_is_read_whole_in_order_each_event_as_its_model() -> None:
    """R109, R125, R126, R128: golden frames of every kind, in one pass."""
    batch = wire_stream.read(MIXED)
    models = batch.models(received_ns=5, simulated=True)

    assert [type(model) for model in models] == [Trade, Quote, Bar, Quote, Bar]
    assert [model.symbol for model in models] == [
        "O:AMC210827C00037000",
        "O:SPY241220P00720000",
        "O:ONEM220121C00025000",
        "I:SPX",
        "I:SPX",
    ]
    assert {(m.received_ns, m.provider, m.simulated, m.source) for m in models} == {
        (5, "massive", True, "stream")
    }
    assert (batch.size, batch.undecodable, batch.statuses, batch.garbage) == (6, 0, (), ())


def test_what_is_read_whole_is_what_is_read_one_by_one() -> None:
    split, batch = wire_stream.split(MIXED), wire_stream.read(MIXED)
    one_by_one = [
        wire_stream.decode(topic, raw, received_ns=5)
        for topic, raw in zip(split.topics, split.raws, strict=True)
    ]

    assert batch.models(received_ns=5) == [model for model in one_by_one if model is not None]
    assert batch.topics == split.topics
    assert batch.size == split.size


@pytest.mark.parametrize("ev", sorted({c for each in wire_stream.CHANNELS.values() for c in each}))
def test_every_channel_is_known(ev: str) -> None:
    fields = '"p":1,"s":1,"t":1,"o":1,"c":1,"h":1,"l":1,"e":1,"val":1'
    fields = fields.replace('"c":1', '"c":[1]') if ev == "T" else fields
    frame = f'[{{"ev":"{ev}","sym":"F","T":"F",{fields}}}]'.encode()

    batch = wire_stream.read(frame)

    assert batch.undecodable == 0
    assert batch.topics == [f"{ev}.F"]
    assert len(batch.models(received_ns=5)) == (ev not in {"LULD", "NOI", "FMV"})


@pytest.mark.parametrize(
    "bad",
    [
        b'{"ev":"T","sym":"F","s":2,"t":3}',
        b'{"ev":"Q","sym":"F","t":"soon"}',
        b'{"ev":"Q","sym":"F","t":1644506128351000000}',  # nanoseconds are no milliseconds
        b'{"ev":"Q","sym":"F","t":-1}',
        b'{"ev":"Q","sym":"F","t":1,"bp":1e999}',
        b'{"ev":"V","T":"I:SPX","t":1}',
        b'{"ev":"LV","sym":"F","t":1}',
    ],
)
def test_an_event_that_cannot_be_read_is_counted_and_the_others_are_read(bad: bytes) -> None:
    batch = wire_stream.read(TRADE[:-1] + b"," + bad + b"," + QUOTE[1:])

    assert [type(model) for model in batch.models(received_ns=5)] == [Trade, Quote]
    assert (batch.undecodable, batch.size) == (1, 3)


def test_statuses_and_garbage_stand_apart_from_the_events() -> None:
    batch = wire_stream.read(CONNECTED[:-1] + b"," + TRADE[1:-1] + b",7]")

    assert [status.status for status in batch.statuses] == ["connected"]
    assert batch.garbage == [b"7"]
    assert batch.topics == ["T.O:AMC210827C00037000"]


def test_a_gateways_status_has_its_fields_and_the_vendors_has_none() -> None:
    frame = wire_stream.status_frame(
        "upstream_evicted",
        "why",
        code="upstream_evicted",
        topic="T.F",
        gap_start_ns=1,
        gap_end_ns=2,
        retry_after_s=3.5,
        expires_in_s=60,
    )

    assert wire_stream.read(frame).statuses == [
        Status(
            status="upstream_evicted",
            message="why",
            code="upstream_evicted",
            topic=Topic("T.F"),
            gap_start_ns=1,
            gap_end_ns=2,
            retry_after_s=3.5,
            expires_in_s=60,
        )
    ]
    assert wire_stream.read(CONNECTED).statuses == [
        Status(status="connected", message="Connected Successfully")
    ]


def test_a_status_that_means_something_else_by_our_words_is_still_one() -> None:
    frame = wire_stream.status_frame("maintenance", "at noon", code=7, topic=["T.F"])

    assert wire_stream.split(frame).statuses == [Status(status="maintenance", message="at noon")]
    assert wire_stream.split(b'[{"ev":"status","status":7}]').garbage != []


def test_the_handshake_is_the_vendors() -> None:
    assert wire_stream.status_frame("connected", "Connected Successfully") == CONNECTED
    assert wire_stream.auth_frame("K") == b'{"action":"auth","params":"K"}'
    topics = [Topic("T.A"), Topic("AM.B")]
    assert wire_stream.subscribe_frame(topics) == b'{"action":"subscribe","params":"T.A,AM.B"}'
    assert wire_stream.unsubscribe_frame(topics) == b'{"action":"unsubscribe","params":"T.A,AM.B"}'


def test_statuses_stand_apart_from_the_data_they_share_an_array_with() -> None:
    split = wire_stream.split(CONNECTED[:-1] + b"," + TRADE[1:])

    assert [status.status for status in split.statuses] == ["connected"]
    assert split.topics == ["T.O:AMC210827C00037000"]


@pytest.mark.parametrize(
    ("params", "topics"),
    [
        ("T.SPY", ["T.SPY"]),
        (" T.SPY, T.BRK.B ,,T.SPY", ["T.SPY", "T.BRK.B"]),
        (["V.I:SPX", "V.I:NDX,V.I:VIX"], ["V.I:SPX", "V.I:NDX", "V.I:VIX"]),
        (None, []),
        ("", []),
    ],
)
def test_topics_come_as_a_comma_list_or_an_array(
    params: str | list[str] | None, topics: list[str]
) -> None:
    """W-49."""
    assert parse_params(params) == topics


def test_an_action_may_have_anything_else_beside_it() -> None:
    frame = b'{"id": 7, "action": "subscribe", "params": ["T.SPY"]}'

    assert wire_stream.parse_action(frame) == Action("subscribe", ["T.SPY"])


@pytest.mark.parametrize(
    "frame",
    [b"", b"[]", b"hello", b"\xff\xfe", b'{"action":7}', b"{}", b'{"params":' + b"[" * 100_000],
)
def test_what_is_no_action_is_an_error_of_ours(frame: bytes) -> None:
    """W-47."""
    with pytest.raises(InvalidFrame):
        wire_stream.parse_action(frame)


def test_a_topic_is_parted_at_its_first_dot() -> None:
    assert wire_stream.split_topic("T.BRK.B") == ("T", "BRK.B")
    for wrong in ["AAPL", ".AAPL", "T.", ""]:
        with pytest.raises(InvalidTopic):
            wire_stream.split_topic(wrong)


@pytest.mark.parametrize("broken", [b"", b"[", b"nonsense", b"null", b"7", b"\xff", b'[{"ev":'])
def test_a_frame_that_cannot_be_read_is_garbage_not_an_exception(broken: bytes) -> None:
    split = wire_stream.split(broken)

    assert (split.topics, split.statuses) == ([], [])
    assert split.garbage or broken == b""


@pytest.mark.parametrize(
    "garbage",
    [
        b'{"ev":7,"sym":"X"}',
        b'{"sym":"X"}',
        b'{"ev":"T"}',
        b"nonsense",
        b'{"ev":"T","sym":"X","p":}',
        b"7",
    ],
)
def test_garbage_does_not_lose_the_rest_of_its_frame(garbage: bytes) -> None:
    split = wire_stream.split(TRADE[:-1] + b"," + garbage + b"," + QUOTE[1:])

    assert split.topics == ["T.O:AMC210827C00037000", "Q.O:SPY241220P00720000"]
    assert len(split.garbage) <= 1


@pytest.mark.parametrize(
    "frame",
    [
        b'[ {"ev":"T","sym":"A","p":1} , {"ev":"T","sym":"B","p":2} ]',
        b'[{"ev":"T","sym":"A","x":"},{"},{"ev":"T","sym":"B","x":{"y":1}}]',
        b'[{"sym":"A","ev":"T"},{"p":1,"ev":"T","sym":"B"}]',
    ],
)
def test_other_spacing_nesting_and_key_order_are_read_all_the_same(frame: bytes) -> None:
    split = wire_stream.split(frame)

    assert split.topics == ["T.A", "T.B"]
    assert [element["sym"] for element in msgspec.json.decode(wire_stream.array(split.raws))] == [
        "A",
        "B",
    ]


def test_large_sends_are_packed_into_frames_every_client_reads() -> None:
    raws = [TRADE[2:-2]] * 30_000

    frames = wire_stream.pack(raws)

    assert len(frames) > 1
    assert all(len(frame) < wire_stream.MAX_FRAME_BYTES for frame in frames)
    assert sum(len(msgspec.json.decode(frame)) for frame in frames) == 30_000
    assert wire_stream.pack([]) == []


def test_an_event_leaves_out_what_is_none_and_keeps_the_order_given() -> None:
    raw = wire_stream.event("Q", sym="F", bp=None, as_=3, t=1)

    assert raw == b'"ev":"Q","sym":"F","as":3,"t":1'


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)
events = st.dictionaries(
    st.sampled_from(["ev", "sym", "T", "p", "x", "},{", "{"]),
    st.sampled_from(["T", "A.B", "},{", "Q"]) | json_values,
    max_size=5,
)


@given(st.lists(events, max_size=6))
def test_every_readable_event_comes_out_once_in_order_whatever_surrounds_it(
    elements: list[dict[str, object]],
) -> None:
    split = wire_stream.split(msgspec.json.encode(elements))

    kept = [msgspec.json.decode(b"{" + raw + b"}") for raw in split.raws]
    rest = [element for element in elements if element not in kept]
    assert kept == [element for element in elements if element in kept]
    assert len(split.garbage) + len(split.statuses) == len(rest)


@given(st.binary(max_size=80))
def test_any_bytes_split_without_an_exception(frame: bytes) -> None:
    assert isinstance(wire_stream.split(frame), Split)


@given(st.sampled_from(GOLDEN), st.integers(0, 400), st.integers(1, 255))
def test_any_damaged_byte_splits_without_an_exception(frame: bytes, at: int, flip: int) -> None:
    damaged = bytearray(frame)
    damaged[at % len(frame)] ^= flip
    assert isinstance(wire_stream.split(bytes(damaged)), Split)
    assert isinstance(wire_stream.split(frame[: at % len(frame)]), Split)


@given(st.lists(events, max_size=6))
def test_reading_and_taking_apart_agree_whatever_comes(elements: list[dict[str, object]]) -> None:
    frame = msgspec.json.encode(elements)
    split, batch = wire_stream.split(frame), wire_stream.read(frame)

    assert batch.size == split.size
    assert list(batch.statuses) == split.statuses
    assert list(batch.garbage) == split.garbage
    assert [topic for topic in split.topics if topic in batch.topics] or not batch.topics


@given(st.binary(max_size=80))
def test_any_bytes_are_read_without_an_exception(frame: bytes) -> None:
    assert isinstance(wire_stream.read(frame), Batch)


@given(st.sampled_from([*GOLDEN, MIXED]), st.integers(0, 4000), st.integers(1, 255))
def test_any_damaged_byte_is_read_without_an_exception(frame: bytes, at: int, flip: int) -> None:
    damaged = bytearray(frame)
    damaged[at % len(frame)] ^= flip
    for broken in (bytes(damaged), frame[: at % len(frame)]):
        batch = wire_stream.read(broken)
        assert len(batch.models(received_ns=5)) <= batch.size
