from collections.abc import Callable
from datetime import date
from typing import Any

import pytest

from onetape.simulator.tradier.policy import TradierPolicy
from onetape.simulator.tradier.request import Ask, Refusal, few


def ask(tradier: Any, **params: str) -> Ask:
    market = tradier.market
    return Ask(market=market, params=params, policy=TradierPolicy(), now_ns=market.now_ns())


@pytest.mark.parametrize(
    ("rows", "wrapped"), [([], None), ([7], {"row": 7}), ([7, 8], {"row": [7, 8]})]
)
def test_one_row_is_no_list_and_none_is_null(rows: list[int], wrapped: Any) -> None:
    assert few("row", rows) == wrapped


def test_parameters_are_read_leniently(tradier: Any) -> None:
    asked = ask(
        tradier, greeks="True", strikes="no", symbols=" SPY,,QQQ,SPY ", start="2025-11-03 09:30"
    )

    assert asked.is_set("greeks")
    assert not asked.is_set("strikes")
    assert not asked.is_set("missing")
    assert asked.names("symbols") == ["SPY", "QQQ"]
    assert asked.day("start") == date(2025, 11, 3)
    assert asked.day("end", date(2025, 11, 4)) == date(2025, 11, 4)
    assert asked.text("interval", "daily") == "daily"
    assert asked.today == date(2025, 11, 24)


READS: list[tuple[Callable[[Ask], object], str]] = [
    (lambda a: a.text("symbol"), "Invalid parameter, symbol: is required."),
    (lambda a: a.day("start"), "Invalid parameter, start: must be a date"),
    (lambda a: a.in_calendar("end", date(1901, 1, 1)), "Invalid parameter, end: is out of range."),
]


@pytest.mark.parametrize(("read", "words"), READS)
def test_what_cannot_be_read_is_refused_in_the_vendors_words(
    tradier: Any, read: Callable[[Ask], object], words: str
) -> None:
    with pytest.raises(Refusal) as caught:
        read(ask(tradier, start="soon"))

    assert (caught.value.status, caught.value.errorcode) == (400, None)
    assert caught.value.text.startswith(words)
