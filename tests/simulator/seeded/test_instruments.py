import pytest

from onetape.errors import InvalidSymbol
from onetape.model import AssetClass
from onetape.simulator.seeded.instruments import listings


def test_the_table_holds_the_indices_their_etfs_and_the_large_stocks() -> None:
    assert list(listings()) == [
        "AAPL", "I:NDX", "I:RUT", "I:SPX", "I:VIX", "IWM", "MSFT", "NVDA", "QQQ", "SPY", "TSLA",
    ]  # fmt: skip


def test_an_index_is_of_no_exchange_and_a_stock_of_one() -> None:
    for listing in listings().values():
        is_index = listing.instrument.asset is AssetClass.INDICES
        assert (listing.instrument.primary_exchange is None) is is_index
        assert (listing.behaviour.trades_per_day == 0) is is_index


def test_extra_stocks_are_invented_the_same_every_time_and_called_simulated() -> None:
    once, again = listings(("AMD", "SPY", "AMD"))["AMD"], listings(("AMD",))["AMD"]

    assert once == again
    assert "simulated" in once.instrument.name
    assert once.instrument.cik is None
    assert len(listings(("AMD", "SPY"))) == len(listings()) + 1


@pytest.mark.parametrize("ticker", ["", "amd", "I:DJI", "BRK.B", "O:AMD261120C00100000"])
def test_only_plain_tickers_can_be_invented(ticker: str) -> None:
    with pytest.raises(InvalidSymbol):
        listings((ticker,))
