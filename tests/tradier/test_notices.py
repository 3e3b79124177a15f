"""The words of Tradier's feed."""

import msgspec
import pytest

from onetape.tradier.notices import SymbolsFailed, TradierFeedPolicy


def test_a_policy_refuses_what_makes_no_sense() -> None:
    for wrong in ({"session_s": 0}, {"rest_s": -1}, {"prints": "all"}, {"unknown": 1}):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(wrong, TradierFeedPolicy)
    assert msgspec.convert({}, TradierFeedPolicy) == TradierFeedPolicy()


def test_a_session_is_used_within_tradiers_five_minutes() -> None:
    policy = TradierFeedPolicy()

    assert policy.session_s + policy.connect_timeout_s < 300


def test_a_notice_can_be_put_on_a_wire() -> None:
    notice = SymbolsFailed(symbols=frozenset({"SPY"}), reason="not a valid symbol")

    assert msgspec.json.decode(msgspec.json.encode(notice), type=SymbolsFailed) == notice
