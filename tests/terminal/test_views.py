import io
import re
from datetime import date
from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st
from rich.console import Console, RenderableType
from rich.text import Text

from onetape.client import Gap, Reason, SourceChanged
from onetape.client._notices import Key, Kind
from onetape.model import (
    Bar,
    ContractType,
    Greeks,
    OptionChain,
    OptionContract,
    OptionSnapshot,
    Quote,
    Trade,
)
from onetape.provenance import Quality, Reason as Finding, Severity, Source
from onetape.terminal import views
from onetape.terminal.columns import COLUMNS, LINE, Column, Form, named

NOW = 1_795_194_000_000_000_000  # noon in New York
COMMON: dict[str, Any] = {"event_ns": NOW, "received_ns": NOW, "provider": "massive"}
POOR = Quality(
    provider="massive",
    source=Source.REST,
    received_ns=NOW,
    reasons=(Finding(code="crossed", severity=Severity.ERROR),),
)


def drawn(view: RenderableType, *, width: int = 10_000, is_terminal: bool = False) -> str:
    out = io.StringIO()
    console = Console(
        file=out,
        width=width,
        force_terminal=is_terminal,
        color_system="standard" if is_terminal else None,
        legacy_windows=False,
    )
    console.print(view)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def quote(symbol: str, **facts: Any) -> Quote:
    given: dict[str, Any] = {"symbol": symbol, "source": Source.REST}
    return Quote(**COMMON | given | facts)


def table(rows: list[Quote], *, width: int = 10_000, is_terminal: bool = False) -> str:
    view = views.table(rows, COLUMNS[Quote], now_ns=NOW, width=width)
    return drawn(view, width=width, is_terminal=is_terminal)


SPY = quote("SPY", last=660.5, change=-0.7, change_percent=-0.1059, bid=660.48, ask=660.5)
SPX = quote("I:SPX", last=6616.71, change=3.0, change_percent=0.05)


# tables


def test_numbers_stand_one_below_the_other_and_what_is_missing_is_a_dash() -> None:
    header, spy, spx = table([SPY, SPX]).splitlines()

    assert header.startswith("Symbol      Last  Change  Change %     Bid     Ask")
    assert spy.startswith("SPY       660.50   -0.70     -0.11  660.48  660.50")
    assert spx.startswith("I:SPX   6,616.71   +3.00     +0.05       -       -")


def test_one_price_finer_than_a_cent_gives_the_whole_column_its_decimals() -> None:
    _, spy, penny = table([SPY, quote("PENNY", last=0.0123)]).splitlines()

    assert "660.5000" in spy
    assert "  0.0123" in penny


@pytest.mark.parametrize("width", [40, 60, 80, 100, 140])
def test_on_a_narrow_terminal_columns_give_way_and_no_number_is_cut(width: int) -> None:
    lines = table([SPY, SPX], width=width).splitlines()

    assert len(lines) == 3
    assert max(map(len, lines)) <= width
    assert "660.48" in lines[1]
    assert "6,616.71" in lines[2]
    assert ("Prev. close" in lines[0]) is (width == 140)


def test_where_even_what_must_stay_does_not_fit_a_number_goes_on_below() -> None:
    text = table([SPX], width=20)

    assert "6,616.71" in "".join(re.findall(r"[\d,.]+", text))
    assert "…" not in text


COLUMN = st.builds(Column, st.uuids().map(str), st.just(Form.PRICE), rank=st.integers(0, 5))


@given(st.dictionaries(COLUMN, st.integers(1, 20), max_size=12), st.integers(1, 200))
def test_columns_give_way_by_rank_and_no_more_than_needed(
    widths: dict[Column, int], width: int
) -> None:
    kept = views.fitting(widths, width)
    gone = [column for column in widths if column not in kept]

    def needs(columns: list[Column]) -> int:
        return sum(widths[column] + 2 for column in columns) - 2

    assert kept == [column for column in widths if column in kept]
    assert needs(kept) <= width or all(column.rank == 0 for column in kept)
    assert all(column.rank > 0 for column in gone)
    if gone:
        last = min(gone, key=lambda column: column.rank)
        assert all(column.rank <= last.rank for column in kept if column.rank)
        back = [column for column in widths if column in kept or column == last]
        assert needs(back) > width or any(one.rank == last.rank for one in gone if one != last)


def test_colours_are_for_terminals_only() -> None:
    plain, coloured = table([SPY]), table([SPY], is_terminal=True)

    assert "\x1b" not in plain
    assert "\x1b[31m -0.70" in coloured  # fell: red
    assert "\x1b[2m" in table([SPX], is_terminal=True)  # missing: dim


def test_quality_and_provider_are_shown_as_soon_as_one_row_is_judged() -> None:
    judged = table([SPX, msgspec.structs.replace(SPY, quality=POOR)]).splitlines()

    assert "Quality" not in table([SPX, SPY])
    assert "Provider" not in table([SPX, SPY])
    assert re.search(r"Quality +Provider +Source$", judged[0])
    assert re.search(r"- +massive +rest$", judged[1])
    assert re.search(r"0 poor +massive +rest$", judged[2])


def test_two_providers_are_told_apart() -> None:
    lines = table([SPX, msgspec.structs.replace(SPY, provider="tradier")]).splitlines()

    assert "massive" in lines[1]
    assert "tradier" in lines[2]


def test_what_a_vendor_sends_cannot_steer_the_terminal() -> None:
    nasty = "\x1b]0;title\x07[bold]"

    assert "?]0;title?[bold]" in table([quote(nasty, last=1.0)])


# headings


def test_what_is_made_up_or_late_cannot_be_overlooked() -> None:
    heading = drawn(views.heading("Quotes", "2 rows", simulated=True, delayed=True))

    assert heading == "Quotes   2 rows   DELAYED   SIMULATED: no number here is real"
    assert drawn(views.heading("Quotes", simulated=False)) == "Quotes"


def test_the_origin_of_rows_is_said_once() -> None:
    assert views.origin([SPY, SPX]) == "massive, rest"
    assert views.origin([]) == ""
    assert (
        views.origin([SPY, quote("X", source=Source.STREAM)]) == "massive, rest and massive, stream"
    )


# chains


def option(
    side: ContractType, strike: float, *, root: str = "SPY", day: int = 18, **facts: Any
) -> OptionSnapshot:
    symbol = f"O:{root}2612{day}{side[0].upper()}{round(strike * 1000):08}"
    contract = OptionContract(
        symbol=symbol,
        root=root,
        underlying="SPY",
        expiration=date(2026, 12, day),
        strike=strike,
        contract_type=side,
    )
    given: dict[str, Any] = {
        "quote": quote(symbol, bid=1.0, ask=1.1),
        "greeks": Greeks(delta=0.5, provider="massive"),
        "implied_volatility": 0.2,
        "volume": 0.0,
        "open_interest": 1234.0,
    }
    return OptionSnapshot(contract=contract, **given | facts)


CALL, PUT = ContractType.CALL, ContractType.PUT


def chain(*contracts: OptionSnapshot, **facts: Any) -> OptionChain:
    given: dict[str, Any] = {
        "underlying": "SPY",
        "underlying_price": 650.4,
        "received_ns": NOW,
        "provider": "massive",
    }
    return OptionChain(contracts=contracts, **given | facts)


def chain_text(one: OptionChain, *, width: int = 10_000, is_terminal: bool = False) -> str:
    view = views.chain(one, now_ns=NOW, width=width)
    return drawn(view, width=width, is_terminal=is_terminal)


def test_a_chain_has_calls_left_and_puts_right_of_the_strikes() -> None:
    one = chain(option(CALL, 650), option(PUT, 650), option(PUT, 655), listed=6914)
    heading, blank, title, header, first, second = chain_text(one).splitlines()

    assert heading == "SPY   650.40   3 of 6,914 contracts   12:00:00 EST   massive, rest"
    assert (blank, title) == ("", "2026-12-18  SPY  28 days")
    sides = header.split("Strike")
    assert sides[0].split() == ["OI", "Volume", "IV", "Delta", "Ask", "Bid"]
    assert sides[1].split() == ["Bid", "Ask", "Delta", "IV", "Volume", "OI"]
    assert first.split()[:4] == ["1,234", "0", "20.0%", "0.50"]
    assert second.split()[:7] == [*"------", "655.00"]


def test_roots_and_expirations_are_kept_apart() -> None:
    rows = [option(CALL, 650, root="SPX"), option(CALL, 650, root="SPXW"), option(CALL, 1, day=19)]
    text = chain_text(chain(*rows, simulated=True, delayed=True))

    assert re.findall(r"^2026-12-(\d+  \w+)", text, re.MULTILINE) == [
        "18  SPX",
        "18  SPXW",
        "19  SPY",
    ]
    assert "DELAYED   SIMULATED" in text


def test_one_side_is_shown_alone() -> None:
    calls, puts = chain_text(chain(option(CALL, 650))), chain_text(chain(option(PUT, 650)))

    assert calls.splitlines()[3].split()[-1] == "Strike"
    assert puts.splitlines()[3].split()[0] == "Strike"


def test_tomorrow_is_one_day_away_and_an_empty_chain_is_a_heading() -> None:
    at = NOW + 27 * 86_400 * 1_000_000_000
    text = drawn(views.chain(chain(option(CALL, 650)), now_ns=at, width=200))

    assert "2026-12-18  SPY  1 day\n" in text
    assert chain_text(chain(underlying_price=None)).count("\n") == 0


def test_the_money_is_marked_on_a_terminal() -> None:
    one = chain(option(CALL, 650), option(CALL, 655))
    text = chain_text(one, is_terminal=True, width=100)

    assert "\x1b[1;7m650.00" in text
    assert "\x1b[1;7m655.00" not in text


@pytest.mark.parametrize("width", [36, 60, 90])
def test_a_narrow_chain_keeps_strikes_bids_and_asks(width: int) -> None:
    text = chain_text(chain(option(CALL, 650), option(PUT, 650)), width=width)
    row = text.splitlines()[-1]

    assert len(row) <= width
    assert {"650.00", "1.00", "1.10"} <= {*row.split()}
    assert ("1,234" in row) is (width == 90)


def test_a_judged_chain_shows_the_quality_of_each_contract_and_its_own() -> None:
    quality = msgspec.structs.replace(POOR, reasons=())
    rows = [option(CALL, 650, quality=POOR), option(PUT, 650)]
    text = chain_text(chain(*rows, quality=quality))

    assert "quality 100 excellent" in text
    assert "Quality" in text
    assert "Provider" in text
    assert "0 poor" in text.splitlines()[-1]


def test_who_stands_in_for_whom_is_said_once_and_why() -> None:
    """R220."""
    why = "massive is down"
    fallen = msgspec.structs.replace(POOR, provider="tradier", fallback_reason=why + "\x1b[2J")
    rows = [quote(one, provider="tradier", quality=fallen) for one in ("SPY", "QQQ")]
    rows += [SPY, quote("IWM", quality=POOR)]

    (line,) = views.stand_ins(rows)
    text = chain_text(chain(option(CALL, 650), provider="tradier", quality=fallen))

    assert line.plain == "tradier stands in: massive is down?[2J"
    assert text.splitlines()[1] == line.plain


# lines


def lines(kind: type, *symbols: str) -> views.Lines:
    return views.Lines(named(COLUMNS[kind], LINE[kind]), symbols)


def test_lines_stand_in_columns_before_anyone_knows_what_comes() -> None:
    writer = lines(Quote, "SPY", "O:SPY261218C00650000")
    header, spy = writer.header(), writer.line(SPY, now_ns=NOW)

    assert header.plain.index("Last") + 4 == spy.plain.index("660.50") + 6
    assert header.plain.index("Source") == spy.plain.index("rest")
    assert spy.plain.startswith("12:00:00.000 EST  SPY                 ")


def styles(line: Text) -> set[str]:
    return {str(span.style) for span in line.spans}


def test_a_price_is_coloured_by_where_it_went_for_each_symbol_by_itself() -> None:
    writer = lines(Trade, "A", "B")

    def line(symbol: str, price: float) -> set[str]:
        trade = Trade(symbol=symbol, price=price, size=1.0, **COMMON)
        return styles(writer.line(trade, now_ns=NOW)) & {views.UP, views.DOWN}

    went = [line(*one) for one in (("A", 1), ("B", 2), ("A", 2), ("B", 1), ("B", 1))]
    assert went == [set(), set(), {views.UP}, {views.DOWN}, set()]


def test_a_quote_without_a_price_moves_nothing() -> None:
    writer = lines(Quote, "A")

    for one in (quote("A"), quote("A", last=1.0), quote("A"), quote("A", last=2.0)):
        line = writer.line(one, now_ns=NOW)

    assert views.UP in styles(line)


def test_the_line_of_a_bar_begins_with_when_it_began() -> None:
    bar = Bar(
        symbol="I:SPX", end_ns=NOW + 1, open=1, high=2, low=1, close=2, source=Source.REST, **COMMON
    )
    text = lines(Bar, "I:SPX").line(bar, now_ns=NOW).plain

    assert re.fullmatch(r"2026-11-20 12:00 EST  I:SPX( +[\d.]+){4} +-  rest", text)


# what readers are told


def test_a_change_of_source_is_one_sentence() -> None:
    key = Key(Kind.QUOTE, "SPY")

    def changed(source: Source | None, detail: str = "") -> str:
        change = SourceChanged(
            key=key, source=source, reason=Reason.STREAM_DOWN, at_ns=NOW, detail=detail
        )
        return views.told(change, now_ns=NOW)

    gap = Gap(key=key, start_ns=NOW, end_ns=NOW + 2_000_000_000, reason=Reason.STREAM_DOWN)
    assert changed(Source.REST) == "SPY: from rest now (stream_down)"
    assert changed(None, "not_found") == "SPY: nothing comes (stream_down: not_found)"
    assert views.told(gap, now_ns=NOW) == (
        "SPY: events between 12:00:00.000 EST and 12:00:02.000 EST were missed (stream_down)"
    )
