from datetime import date, timedelta
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from onetape import calendar
from onetape.model import ContractType
from onetape.simulator.seeded.chains import Board, Boards, Chain
from onetape.simulator.seeded.instruments import listings
from onetape.simulator.seeded.levels import Levels
from onetape.simulator.seeded.records import Hours
from onetape.simulator.seeded.sessions import Sessions
from onetape.symbols import parse_option

FRIDAY = date(2026, 11, 20)
TICKERS = ("AAPL", "I:SPX", "I:VIX", "NVDA", "SPY")
hours_of = st.sampled_from(Hours)
tickers = st.sampled_from(TICKERS)


@cache
def boards(hours: Hours = Hours.EXCHANGE) -> Boards:
    sessions = Sessions(hours)
    return Boards(listings(("AMD",)), sessions=sessions, levels=Levels(seed=7, sessions=sessions))


def board(ticker: str, hours: Hours = Hours.EXCHANGE) -> Board:
    found = boards(hours).of(ticker)
    assert found is not None
    return found


def chain(ticker: str, on: date = FRIDAY, hours: Hours = Hours.EXCHANGE) -> Chain:
    return Chain(board(ticker, hours), board(ticker, hours).alive(on), on)


def expirations(ticker: str, root: str, on: date = FRIDAY) -> list[date]:
    return sorted(one.date for one in board(ticker).alive(on) if one.root == root)


def test_spx_lists_every_weekday_for_four_weeks_and_months_for_two_years() -> None:
    weeklies, monthlies = expirations("I:SPX", "SPXW"), expirations("I:SPX", "SPX")
    sessions = calendar.sessions_between(FRIDAY, FRIDAY + timedelta(days=28))

    assert set(sessions) <= set(weeklies)
    assert monthlies[0] == FRIDAY
    assert monthlies[-1] > FRIDAY + timedelta(days=540)
    assert all(15 <= day.day <= 21 and day.weekday() == 4 for day in monthlies[:6])


def test_an_expiration_on_a_holiday_is_moved_to_the_session_before() -> None:
    assert date(2025, 4, 17) in expirations("SPY", "SPY", date(2025, 4, 1))
    assert all(
        calendar.is_session(one.date) for ticker in TICKERS for one in board(ticker).alive(FRIDAY)
    )


def test_stocks_list_fridays_and_vix_wednesdays() -> None:
    assert {day.weekday() for day in expirations("NVDA", "NVDA")} <= {3, 4}
    assert {day.weekday() for day in expirations("I:VIX", "VIXW")} <= {1, 2}


def test_morning_settled_contracts_stop_before_their_last_session() -> None:
    found = {one.root: one for one in board("I:SPX").alive(FRIDAY) if one.date == FRIDAY}

    assert found["SPX"].expires_ns < found["SPXW"].expires_ns


@pytest.mark.parametrize("ticker", TICKERS)
@pytest.mark.parametrize("hours", list(Hours))
def test_a_chain_is_sorted_and_its_columns_agree_with_its_contracts(
    ticker: str, hours: Hours
) -> None:
    found = chain(ticker, hours=hours)
    some = found.contracts[:: max(found.count // 50, 1)]
    places = np.array([found.place(contract.ticker) for contract in some])

    assert found.tickers == sorted(found.tickers)
    assert [contract.ticker for contract in found.contracts] == found.tickers
    for ours, theirs in zip(found.lines.take(places), found.board.lines(some), strict=True):
        assert (ours == theirs).all()


@pytest.mark.parametrize("ticker", TICKERS)
def test_a_symbol_says_what_the_contract_is_and_finds_it(ticker: str) -> None:
    for contract in chain(ticker).contracts[::101]:
        symbol = parse_option(contract.ticker)

        assert boards().find(contract.ticker) == contract
        assert symbol.underlying == contract.underlying
        assert (symbol.strike, symbol.expiration) == (contract.strike, contract.expiration)
        assert symbol.contract_type is contract.contract_type


@settings(max_examples=25, deadline=None)
@given(tickers, hours_of, st.integers(0, 900))
def test_a_contract_that_existed_yesterday_exists_today(
    ticker: str, hours: Hours, days: int
) -> None:
    today = date(2024, 6, 3) + timedelta(days=days)
    before = chain(ticker, today - timedelta(days=1), hours)
    now = chain(ticker, today, hours)

    expired = {t for t in before.tickers if parse_option(t).expiration < today}
    assert set(before.tickers) - expired <= set(now.tickers)
    assert all(c.listed <= today <= c.expiration for c in now.contracts)
    assert all(c.listed == today for c in now.contracts if before.place(c.ticker) is None)


@pytest.mark.parametrize("ticker", TICKERS)
def test_strikes_surround_the_spot(ticker: str) -> None:
    found = board(ticker)
    spot = found.usual_level(Sessions(Hours.EXCHANGE).days[728])

    for block in chain(ticker).blocks:
        assert len(block.strikes) >= 6
        assert block.strikes[0] < spot * 1.1
        assert block.strikes[-1] > spot * 0.9


def test_adjusted_contracts_say_what_they_deliver() -> None:
    adjusted = [c for c in chain("AAPL").contracts if c.root == "AAPL1"]

    assert adjusted
    assert all(c.underlying == "AAPL" and c.additional_underlyings for c in adjusted)
    assert all(c.cfi.endswith("N") for c in adjusted)


def test_styles_follow_the_kind_of_underlying() -> None:
    index, stock = chain("I:SPX").contracts[0], chain("SPY").contracts[0]

    assert (index.exercise_style, index.cfi) == ("european", "OCEICS")
    assert (stock.exercise_style, stock.cfi) == ("american", "OCASPS")


@pytest.mark.parametrize(
    "ticker",
    ["SPY", "O:", "O:ZZZZ261120C00100000", "O:SPY261121C00650000", "O:SPY261120C00650130"],
)
def test_what_is_not_listed_is_not_found(ticker: str) -> None:
    assert boards().find(ticker) is None
    assert boards().of("ZZZZ") is None


def test_a_day_without_contracts_is_an_empty_chain() -> None:
    found = Chain(board("SPY"), [], FRIDAY)

    assert (found.count, found.tickers, list(found.contracts)) == (0, [], [])
    assert len(found.lines.strike) == 0


def test_invented_stocks_have_chains_too() -> None:
    contract = chain("AMD").contracts[0]

    assert contract.contract_type is ContractType.CALL
    assert contract.ticker.startswith("O:AMD26")
    assert board("AMD").expired(FRIDAY, days=30)
    assert chain("AMD").size_bytes > 0
