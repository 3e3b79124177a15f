from collections.abc import Callable
from typing import Any

import pytest

AT = Callable[..., Any]
SPXW_ONLY = "2025-11-25"
BOTH = "2025-12-19"


def test_a_chain_mixes_the_roots_of_its_underlying(tradier: Any) -> None:
    rows = tradier.chain("SPX", BOTH)

    assert {row["root_symbol"] for row in rows} == {"SPX", "SPXW"}
    assert {row["underlying"] for row in rows} == {"SPX"}
    assert {row["expiration_type"] for row in rows} == {"standard"}


def test_a_chain_is_ordered_by_strike_and_by_nothing_else(tradier: Any) -> None:
    rows = tradier.chain("SPY", BOTH)
    strikes = [row["strike"] for row in rows]
    firsts = {row["option_type"] for row in rows[::2]}

    assert strikes == sorted(strikes)
    assert firsts == {"call", "put"}
    assert rows == tradier.chain("SPY", BOTH), "but the same each time"


@pytest.mark.parametrize(
    ("symbol", "expiration"),
    [("SPXW", BOTH), ("SPY", "2025-11-23"), ("NOPE", BOTH), ("SPY", "2025-11-21"), ("I:SPX", BOTH)],
)
def test_what_has_no_chain_is_null(tradier: Any, symbol: str, expiration: str) -> None:
    answer = tradier.json("options/chains", symbol=symbol, expiration=expiration)

    assert answer == {"options": None}


def test_an_adjusted_root_is_in_the_chain_and_only_in_the_expirations_of_all_roots(
    tradier: Any,
) -> None:
    rows = tradier.chain("AAPL", BOTH)
    own = tradier.json("options/strikes", symbol="AAPL", expiration=BOTH)
    every = tradier.json("options/strikes", symbol="AAPL", expiration=BOTH, includeAllRoots="true")

    assert {row["root_symbol"] for row in rows} == {"AAPL", "AAPL1"}
    assert set(own["strikes"]["strike"]) <= set(every["strikes"]["strike"])


def test_expirations_are_dates_and_leave_other_roots_out(at: AT) -> None:
    tradier = at()
    own = tradier.json("options/expirations", symbol="SPX")["expirations"]["date"]
    every = tradier.json("options/expirations", symbol="SPX", includeAllRoots="true")
    dates = every["expirations"]["date"]

    assert SPXW_ONLY not in own
    assert BOTH in own
    assert SPXW_ONLY in dates
    assert dates == sorted(set(dates))
    assert dates[0] == "2025-11-24", "today's stays listed"
    assert tradier.json("options/expirations", symbol="SPXW") == {"expirations": None}
    assert at("2025-11-24 20:00").json("options/expirations", symbol="SPY") == tradier.json(
        "options/expirations", symbol="SPY"
    )


def test_switches_turn_expirations_into_objects_of_what_was_asked(tradier: Any) -> None:
    answer = tradier.json(
        "options/expirations",
        symbol="SPX",
        includeAllRoots="True",
        strikes="true",
        contractSize="true",
        expirationType="true",
    )
    rows = answer["expirations"]["expiration"]
    third = [row for row in rows if row["date"] == BOTH]

    assert {tuple(row) for row in rows} == {("date", "contract_size", "expiration_type", "strikes")}
    assert len(third) == 2, "one for each root"
    assert all(row["strikes"]["strike"] for row in rows)
    typed = tradier.json("options/expirations", symbol="SPY", expirationType="true")
    assert set(typed["expirations"]["expiration"][0]) == {"date", "expiration_type"}


def test_strikes_are_those_of_the_chain(tradier: Any) -> None:
    answer = tradier.json("options/strikes", symbol="SPY", expiration=BOTH)
    rows = tradier.chain("SPY", BOTH)

    assert answer["strikes"]["strike"] == sorted({row["strike"] for row in rows})
    nothing = tradier.json("options/strikes", symbol="SPX", expiration=SPXW_ONLY)
    assert nothing == {"strikes": None}


def test_a_lookup_lists_the_symbols_of_every_root(tradier: Any) -> None:
    answer = tradier.json("options/lookup", underlying="SPX")["symbols"]
    roots = {row["rootSymbol"]: row["options"] for row in answer}
    rows = {row["symbol"] for row in tradier.chain("SPX", BOTH)}

    assert set(roots) == {"SPX", "SPXW"}
    assert rows <= {symbol for symbols in roots.values() for symbol in symbols}
    assert tradier.json("options/lookup", underlying="NOPE") == {"symbols": None}


def test_a_lookup_may_be_narrowed(tradier: Any) -> None:
    answer = tradier.json(
        "options/lookup", underlying="SPX", expiration=BOTH, strike="6750", type="put"
    )

    assert answer == {
        "symbols": [
            {"rootSymbol": "SPX", "options": ["SPX251219P06750000"]},
            {"rootSymbol": "SPXW", "options": ["SPXW251219P06750000"]},
        ]
    }


@pytest.mark.parametrize(
    ("path", "params", "name"),
    [
        ("options/chains", {"expiration": BOTH}, "symbol"),
        ("options/chains", {"symbol": "SPY"}, "expiration"),
        ("options/chains", {"symbol": "SPY", "expiration": "friday"}, "expiration"),
        ("options/strikes", {"symbol": "SPY"}, "expiration"),
        ("options/lookup", {"underlying": "SPY", "strike": "high"}, "strike"),
    ],
)
def test_parameters_are_checked(tradier: Any, path: str, params: dict[str, str], name: str) -> None:
    status, text = tradier.refusal(path, **params)

    assert status == 400
    assert text.startswith(f"Invalid parameter, {name}: ")
