"""What the normalised routes answer, decoded as a client does."""

from datetime import date
from typing import Any

import msgspec
import pytest

from onetape import market_json
from onetape.market_answers import BarsAnswer, IndicesAnswer, MarketStatusAnswer, QuotesAnswer
from onetape.model import MarketStatus, Quote
from onetape.provenance import Quality, Source
from onetape.rows import SymbolFault
from onetape.timeframes import Timespan

QUOTE = Quote(
    symbol="I:SPX",
    event_ns=1,
    received_ns=2,
    provider="massive",
    last=6_000.5,
    quality=Quality(provider="massive", source=Source.REST, received_ns=2, event_ns=1),
)
STATUS = MarketStatus(session="open", event_ns=1, received_ns=2, provider="calendar")
ANSWERS: list[Any] = [
    QuotesAnswer(
        as_of_ns=3,
        results=(QUOTE,),
        errors={"NOSUCH": SymbolFault(symbol="NOSUCH", error="not_found")},
    ),
    IndicesAnswer(as_of_ns=3, results=()),
    BarsAnswer(
        as_of_ns=3,
        symbol="SPY",
        timespan=Timespan.DAY,
        multiplier=1,
        start=date(2026, 1, 5),
        end=1_767_600_000_000,
        adjusted=True,
        sort="asc",
        count=0,
        bars=(),
    ),
    MarketStatusAnswer(
        is_open=True, session="open", next_open=5, next_close=6, timestamp=3, status=STATUS
    ),
]


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda one: type(one).__name__)
def test_an_answer_is_decoded_into_what_it_was(answer: Any) -> None:
    """The readings that `market_json` adds are passed over."""
    written = market_json.encode(answer, now_ns=10)

    assert msgspec.json.decode(written, type=answer.__class__) == answer


def test_names_on_the_wire_are_those_of_the_old_routes() -> None:
    """R32, 2.7: `from` and `to`, and the five fields of the market's status."""
    bars, status = (msgspec.to_builtins(ANSWERS[at]) for at in (2, 3))

    assert {"from": "2026-01-05", "to": 1_767_600_000_000}.items() <= bars.items()
    assert {"isOpen", "session", "nextOpen", "nextClose", "timestamp"} <= status.keys()
