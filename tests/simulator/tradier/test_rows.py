import msgspec

from onetape.simulator.tradier.rows import Day, OptionQuote, Quote


def test_the_keys_of_quotes_are_the_vendors_in_its_order() -> None:
    """Two captures of the reference: AAPL of 2026-05-22, SPY251219P00450000 of 2024-06-28."""
    stock = (
        "symbol description exch type last change volume open high low close bid ask "
        "change_percentage average_volume last_volume trade_date prevclose week_52_high "
        "week_52_low bidsize bidexch bid_date asksize askexch ask_date root_symbols"
    )
    option = (
        "symbol description exch type last change volume open high low close bid ask underlying "
        "strike greeks change_percentage average_volume last_volume trade_date prevclose "
        "week_52_high week_52_low bidsize bidexch bid_date asksize askexch ask_date open_interest "
        "contract_size expiration_date expiration_type option_type root_symbol"
    )

    assert Quote.__struct_fields__ == tuple(stock.split())
    assert OptionQuote.__struct_fields__ == tuple(option.split())


def test_a_row_writes_everything() -> None:
    day = Day(date="2025-11-24", open=1.0, high=2.0, low=1.0, close=2.0, volume=0)

    assert msgspec.json.encode(day) == (
        b'{"date":"2025-11-24","open":1.0,"high":2.0,"low":1.0,"close":2.0,"volume":0}'
    )
