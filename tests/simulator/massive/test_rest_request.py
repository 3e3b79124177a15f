import pytest

from onetape.model import AssetClass
from onetape.simulator.market import Market, SimClock
from onetape.simulator.massive.accounts import Accounts, DataType
from onetape.simulator.massive.rest_query import Query, Refusal
from onetape.simulator.massive.rest_request import NOT_ENTITLED, Ask, Listing, asset_of
from onetape.testing import ManualClock

NOW_NS = 1_764_000_000_000_000_000
LETTERS = Listing[str](sorts={"ticker": lambda row: (row,)}, default=2, maximum=3)


def ask(key: str = "sim-key", **params: str) -> Ask:
    account = Accounts().find(key)
    assert account is not None
    return Ask(
        market=Market(clock=SimClock(clock=ManualClock(now_ns=NOW_NS))),
        account=account,
        query=Query(params.items()),
        path={},
        origin="http://vendor.example",
        url_path="/v3/letters",
        now_ns=NOW_NS,
        request_id="0" * 32,
    )


@pytest.mark.parametrize(
    ("ticker", "asset"),
    [
        ("SPY", AssetClass.STOCKS),
        ("I:SPX", AssetClass.INDICES),
        ("O:SPY251219C00650000", AssetClass.OPTIONS),
        ("X:BTCUSD", None),
    ],
)
def test_the_prefix_tells_the_asset_class(ticker: str, asset: AssetClass | None) -> None:
    assert asset_of(ticker) is asset


def test_what_the_plan_lacks_is_refused_in_the_vendors_words() -> None:
    with pytest.raises(Refusal) as refusal:
        ask("sim-basic-key").tier(AssetClass.STOCKS, DataType.TRADES)

    assert (refusal.value.http, refusal.value.text) == (403, NOT_ENTITLED)


def test_a_delayed_plan_sees_the_market_fifteen_minutes_late() -> None:
    late_ns = NOW_NS - ask("sim-starter-key").seen_ns(AssetClass.STOCKS)

    assert late_ns == 15 * 60 * 1_000_000_000
    assert ask().seen_ns(AssetClass.STOCKS) == NOW_NS


def test_a_page_leads_to_the_next_and_the_last_to_none() -> None:
    first = ask().page("abc", LETTERS)
    last = ask(limit="3").page("abc", LETTERS)

    assert (first.rows, last.rows) == (["a", "b"], ["a", "b", "c"])
    assert last.next_url is None
    assert first.next_url is not None
    assert first.next_url.startswith("http://vendor.example/v3/letters?cursor=")
