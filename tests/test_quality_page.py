"""What `docs/quality.md` says of providers is so; its rules and ages are tested with `quality`."""

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from onetape.hybrid.verdicts import CONFIDENCE_FROM, WORDS
from onetape.quality.reasons import REASONS
from onetape.quality.score import THRESHOLDS, DataClass
from onetape.tradier.providers import TradierHabits
from onetape.tradier.valuation import DOUBT_POINTS, GREEKS_NS

PAGE = (Path(__file__).parents[1] / "docs/quality.md").read_text("utf-8")


def section(heading: str) -> str:
    found = PAGE.partition(f"\n{heading}\n")[2].partition("\n## ")[0]
    assert found, heading
    return found


def rows(heading: str) -> list[list[str]]:
    table = re.search(r"^\|.*\n\|[-|]+\n((?:\|.*\n?)+)", section(heading), re.MULTILINE)
    assert table, f"no table under {heading}"
    return [[cell.strip() for cell in row[1:-1].split("|")] for row in table[1].splitlines()]


def test_the_page_has_every_reason_of_a_fallback_with_its_sentence() -> None:
    """R220."""
    heading = "## Why another provider answered"

    assert rows(heading) == [[f"`{why.value}`", words] for why, words in WORDS.items()]
    assert f"Below a confidence of {CONFIDENCE_FROM} " in section(heading)
    assert "fallback" in REASONS


def fields(habits: msgspec.Struct, prefix: str = "") -> Iterator[tuple[str, str]]:
    for name in habits.__struct_fields__:
        value = getattr(habits, name)
        if isinstance(value, msgspec.Struct):
            yield from fields(value, f"{prefix}{name}.")
        else:
            yield f"`{prefix}{name}`", str(value)


def test_the_page_has_every_assumption_about_tradier_with_its_default() -> None:
    documented = [(cells[0], cells[1]) for cells in rows("## What is assumed of Tradier")]

    assert documented == list(fields(TradierHabits()))


def test_the_page_says_when_greeks_are_computed_and_with_which_rate() -> None:
    said = section("## Greeks of our own")

    assert f"{TradierHabits().rate:.0%}".replace("%", " %") in said
    assert f"more than {DOUBT_POINTS:.0f} points of volatility" in said
    assert GREEKS_NS == 60_000_000_000 == THRESHOLDS[DataClass.GREEKS].stale * 1e9
    assert "shown for a minute" in said
