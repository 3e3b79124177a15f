import re
from pathlib import Path
from types import ModuleType

import pytest

from onetape.provenance import GREEKS_STALE, STALE, TOO_OLD, Reason
from onetape.quality import candles, chains, contracts, indices, quotes
from onetape.quality.reasons import (
    AT_READING,
    NOTES,
    REASONS,
    RULES,
    Row,
    first_error,
    reason,
    reasons_table,
)
from onetape.quality.score import DELAYED_S, THRESHOLDS
from onetape.tradier import greeks, parse

PAGE = (Path(__file__).parents[2] / "docs/quality.md").read_text("utf-8")
TABLES = (
    *(quotes.PRESENCE, quotes.BOOK, quotes.PRICE, quotes.TRADE_PRESENCE, quotes.TRADE),
    *(contracts.PRESENCE, contracts.MARKET, contracts.LIQUIDITY),
    *(contracts.GREEKS, candles.PRESENCE, candles.BAR, candles.SERIES, indices.TIMEFRAME),
    *(chains.CHAIN, chains.COVERAGE),
)


def rows(heading: str) -> list[list[str]]:
    section = PAGE.partition(f"\n{heading}\n")[2].partition("\n## ")[0]
    table = re.search(r"^\|.*\n\|[-|]+\n((?:\|.*\n?)+)", section, re.MULTILINE)
    assert table, f"no table under {heading}"
    return [[cell.strip() for cell in row[1:-1].split("|")] for row in table[1].splitlines()]


def test_every_code_is_found_by_a_rule_and_every_rule_has_its_code() -> None:
    assert {code for table in TABLES for code in table.codes} == set(RULES)


def test_a_code_is_in_one_table_only() -> None:
    assert len(REASONS) == len(RULES) + len(AT_READING) + len(NOTES)
    assert set(AT_READING) == {STALE, TOO_OLD, GREEKS_STALE}


@pytest.mark.parametrize("row", reasons_table(), ids=lambda row: row.code)
def test_a_code_is_one_word_and_its_meaning_one_line(row: Row) -> None:
    code, _, doc = row

    assert re.fullmatch(r"[a-z]+(_[a-z0-9]+)*", code)
    assert doc
    assert "\n" not in doc
    assert not doc.endswith(".")


def test_the_page_has_every_code_with_its_severity_and_meaning() -> None:
    documented = [
        *rows("## What rules find"),
        *rows("## What the age adds"),
        *rows("## What sources add"),
    ]

    assert documented == [[f"`{row.code}`", row.severity, row.doc] for row in reasons_table()]


def test_the_page_has_every_limit_of_age() -> None:
    documented = {
        cells[0].strip("`"): [float(cell) for cell in cells[1:]] for cells in rows("## Age")
    }

    assert documented == {str(kind): list(limits) for kind, limits in THRESHOLDS.items()}
    assert f"{DELAYED_S / 60:.0f} minutes" in PAGE


@pytest.mark.parametrize("module", [greeks, parse], ids=lambda module: module.__name__)
def test_what_a_provider_attaches_is_a_documented_note(module: ModuleType) -> None:
    attached = [one for one in vars(module).values() if isinstance(one, Reason)]

    assert attached
    assert {one.code: one.severity for one in attached} == {
        one.code: NOTES[one.code].severity for one in attached
    }


def test_the_first_error_is_what_a_row_is_dropped_for() -> None:
    assert first_error(()) is None
    assert first_error((reason("zero_bid"), reason("locked"))) is None
    assert first_error((reason("zero_bid"), reason("crossed"), reason("future"))) == "crossed"
