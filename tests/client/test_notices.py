import typing

import msgspec
import pytest

from onetape.client import _notices as notices
from onetape.client._notices import Key, Kind, TransportPolicy
from onetape.errors import InvalidRequest
from onetape.model import AssetClass

OPTION = "O:SPY251219C00650000"


@pytest.mark.parametrize(
    ("kind", "symbol", "topic", "asset"),
    [
        (Kind.QUOTE, OPTION, f"Q.{OPTION}", AssetClass.OPTIONS),
        (Kind.QUOTE, "I:SPX", "V.I:SPX", AssetClass.INDICES),
        (Kind.QUOTE, "BRK.B", "Q.BRK.B", AssetClass.STOCKS),
        (Kind.TRADE, OPTION, f"T.{OPTION}", AssetClass.OPTIONS),
        (Kind.TRADE, "SPY", "T.SPY", AssetClass.STOCKS),
        (Kind.SECOND_BAR, "I:VIX", "A.I:VIX", AssetClass.INDICES),
        (Kind.MINUTE_BAR, OPTION, f"AM.{OPTION}", AssetClass.OPTIONS),
        (Kind.MINUTE_BAR, "TRIN", "AM.TRIN", AssetClass.STOCKS),  # in the vendor's form
    ],
)
def test_each_kind_of_each_asset_class_has_its_topic(
    kind: Kind, symbol: str, topic: str, asset: AssetClass
) -> None:
    """R112-R114, R125-R127, W-36: the topic and the fallback follow the kind."""
    key = Key(kind, symbol)

    assert (key.topic, key.asset) == (topic, asset)


@pytest.mark.parametrize(
    "key",
    [
        Key(Kind.TRADE, "I:SPX"),
        Key(Kind.TRADE, "*"),
        Key(Kind.QUOTE, "O:nonsense"),
        Key(Kind.QUOTE, "spx "),
    ],
)
def test_what_has_no_topic_is_refused(key: Key) -> None:
    """An index has no trades, and a wildcard could not fall back to REST."""
    with pytest.raises(InvalidRequest):
        _ = key.topic


@pytest.mark.parametrize("change", typing.get_args(notices.Change))
def test_what_readers_are_told_is_frozen_and_tagged(change: type[msgspec.Struct]) -> None:
    """R263, W-71: typed events, not log lines."""
    config = change.__struct_config__
    tags = [other.__struct_config__.tag for other in typing.get_args(notices.Change)]

    assert config.frozen
    assert tags.count(config.tag) == 1


@pytest.mark.parametrize("field", TransportPolicy.__struct_fields__)
def test_a_policy_refuses_what_cannot_be(field: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({field: -1}, TransportPolicy)


def test_every_asset_class_has_an_interval() -> None:
    """R142, C12: options 2 s, stocks 4 s, indices 5 s."""
    policy = TransportPolicy()

    assert {asset: policy.interval_s(asset) for asset in AssetClass} == {
        AssetClass.OPTIONS: 2.0,
        AssetClass.STOCKS: 4.0,
        AssetClass.INDICES: 5.0,
    }


def test_every_count_begins_with_the_states_in_their_order() -> None:
    fields = notices.TransportStatistics._fields

    assert fields[: len(notices.State)] == tuple(state.value for state in notices.State)
