import string
from datetime import date

import pytest
from hypothesis import given, strategies as st

from onetape.errors import InvalidSymbol, InvalidTopic
from onetape.model import AssetClass, ContractType
from onetape.symbols import (
    CHANNELS,
    INDEX_ALIASES,
    INDICES,
    OptionSymbol,
    asset_class,
    from_compact,
    from_osi,
    from_tradier,
    normalize_symbol,
    parse_option,
    parse_topic,
    to_tradier,
    topic,
    underlying_of,
)

OPTIONS, INDEXES, STOCKS = AssetClass.OPTIONS, AssetClass.INDICES, AssetClass.STOCKS
SPY_CALL = "O:SPY251219C00650000"

roots = st.from_regex(r"[A-Z0-9]([A-Z0-9.]{0,4}[A-Z0-9])?", fullmatch=True).filter(
    lambda root: not root.isdigit()
)
option_symbols = st.builds(
    OptionSymbol,
    root=roots,
    expiration=st.dates(date(2000, 1, 1), date(2099, 12, 31)),
    contract_type=st.sampled_from(ContractType),
    strike_thousandths=st.integers(1, 99_999_999),
)
tickers = st.from_regex(r"[A-Z][A-Za-z]{0,5}(\.[A-Z]{1,2})?", fullmatch=True)
indices = st.from_regex(r"I:[A-Z0-9]{1,10}", fullmatch=True)
symbols = st.one_of(option_symbols.map(str), tickers, indices)


# options


@pytest.mark.parametrize(
    ("symbol", "root", "expiration", "right", "strike", "underlying"),
    [
        (SPY_CALL, "SPY", date(2025, 12, 19), "call", 650.0, "SPY"),
        ("O:SPXW251205P06850500", "SPXW", date(2025, 12, 5), "put", 6850.5, "I:SPX"),
        ("O:AAPL1211119C00085000", "AAPL1", date(2021, 11, 19), "call", 85.0, "AAPL"),
        ("O:VMW1231215P00005000", "VMW1", date(2023, 12, 15), "put", 5.0, "VMW"),
        ("O:F260116C00000500", "F", date(2026, 1, 16), "call", 0.5, "F"),
        ("O:NDXP260105C25000000", "NDXP", date(2026, 1, 5), "call", 25000.0, "I:NDX"),
        ("O:BRKB250912C00455000", "BRKB", date(2025, 9, 12), "call", 455.0, "BRK.B"),
        ("O:PANW1250117C00286670", "PANW1", date(2025, 1, 17), "call", 286.67, "PANW"),
        ("O:SPY240229C00500000", "SPY", date(2024, 2, 29), "call", 500.0, "SPY"),
        ("O:2SPX251219C06000000", "2SPX", date(2025, 12, 19), "call", 6000.0, "I:SPX"),
    ],
)
def test_an_option_is_read_from_the_right(
    symbol: str, root: str, expiration: date, right: str, strike: float, underlying: str
) -> None:
    """R127: adjusted roots end in a digit, so only the tail has a fixed width."""
    option = parse_option(symbol)

    assert (option.root, option.expiration, option.contract_type) == (root, expiration, right)
    assert (option.strike, option.underlying, str(option)) == (strike, underlying, symbol)


@pytest.mark.parametrize(
    "symbol",
    [
        "",
        "O:",
        "SPY251219C00650000",
        "o:SPY251219C00650000",
        "O:spy251219C00650000",
        "O:SPY251319C00650000",  # month 13
        "O:SPY251200C00650000",  # day 0
        "O:SPY250229C00650000",  # no leap year
        "O:SPY250431C00650000",
        "O:SPY251219X00650000",
        "O:SPY251219c00650000",
        "O:SPY251219C0065000",
        "O:SPY251219C006500000",  # nine digits of strike, as in one broken vendor example
        "O:SPY251219C00000000",
        "O:SPY251219C0065000٠",  # a digit, but not ours
        "O:251219C00650000",
        "O:12251219C00650000",
        "O:.SPY251219C00650000",
        "O:SPY.251219C00650000",
        "O:TOOLONG251219C00650000",
        "O:SPY 251219C00650000",
        "O:SPY251219C00650000 ",
        "I:SPX",
        "O:SPY251219C*",
    ],
)
def test_what_is_not_exactly_an_option_is_refused(symbol: str) -> None:
    """R127: a malformed contract is rejected."""
    with pytest.raises(InvalidSymbol):
        parse_option(symbol)


@given(option_symbols)
def test_every_option_survives_every_spelling(option: OptionSymbol) -> None:
    assert parse_option(str(option)) == option
    assert from_compact(option.compact) == option
    assert from_osi(option.osi) == option
    assert asset_class(str(option)) is OPTIONS
    assert normalize_symbol(option.osi) == normalize_symbol(option.compact.lower()) == str(option)
    assert from_tradier(to_tradier(str(option))) == str(option)


@given(option_symbols)
def test_the_osi_form_has_21_characters_and_a_padded_root(option: OptionSymbol) -> None:
    assert len(option.osi) == 21
    assert option.osi[:6].rstrip() == option.root


@given(option_symbols)
def test_a_strike_is_exact_to_the_thousandth(option: OptionSymbol) -> None:
    assert round(option.strike * 1000) == option.strike_thousandths


@given(option_symbols.map(str), st.integers(0, 22), st.characters(), st.sampled_from("xid"))
def test_a_mutated_option_is_an_option_or_our_error(
    symbol: str, place: int, character: str, how: str
) -> None:
    keep = {"x": 1, "i": 0, "d": 1}[how]
    put = "" if how == "d" else character
    mutated = symbol[:place] + put + symbol[place + keep :]

    try:
        option = parse_option(mutated)
    except InvalidSymbol:
        assert _class_or_none(mutated) is not OPTIONS, "the quick check is as strict as the parser"
    else:
        assert str(option) == mutated
        assert asset_class(mutated) is OPTIONS


def _class_or_none(symbol: str) -> AssetClass | None:
    try:
        return asset_class(symbol)
    except InvalidSymbol:
        return None


@given(st.text(max_size=30))
def test_any_text_is_a_symbol_or_our_error(text: str) -> None:
    for read in (parse_option, from_compact, from_osi, asset_class, normalize_symbol, to_tradier):
        said = ""
        try:
            read(text)
        except InvalidSymbol as error:
            said = str(error)
        assert said.isascii(), "what came from outside is quoted harmlessly"


@pytest.mark.parametrize(
    "text", ["", "SPY251219C00650000", "SPY    251219C00650000", "   SPY251219C00650000"]
)
def test_an_osi_symbol_has_its_blanks_after_the_root_and_nowhere_else(text: str) -> None:
    with pytest.raises(InvalidSymbol):
        from_osi(text)


@pytest.mark.parametrize(
    "wrong",
    [
        {"root": ""},
        {"root": "spy"},
        {"root": "SEVENTY"},
        {"expiration": date(1999, 12, 31)},
        {"expiration": date(2100, 1, 1)},
        {"strike_thousandths": 0},
        {"strike_thousandths": -5},
        {"strike_thousandths": 100_000_000},
    ],
)
def test_an_option_that_could_not_be_written_cannot_be_made(wrong: dict[str, object]) -> None:
    parts: dict[str, object] = {
        "root": "SPY",
        "expiration": date(2025, 12, 19),
        "contract_type": ContractType.CALL,
        "strike_thousandths": 650_000,
    }

    with pytest.raises(InvalidSymbol):
        OptionSymbol(**{**parts, **wrong})  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("root", "underlying"),
    [
        ("SPX", "I:SPX"), ("SPXW", "I:SPX"), ("NDX", "I:NDX"), ("NDXP", "I:NDX"),
        ("RUT", "I:RUT"), ("RUTW", "I:RUT"), ("VIX", "I:VIX"), ("VIXW", "I:VIX"),
        ("XSP", "I:XSP"), ("XEO", "I:OEX"), ("SPY", "SPY"), ("AAPL1", "AAPL"),
        ("BRKB", "BRK.B"), ("BRKB1", "BRK.B"),
    ],
)  # fmt: skip
def test_an_index_root_leads_to_its_index(root: str, underlying: str) -> None:
    assert underlying_of(root) == underlying


def test_an_adjusted_root_is_recognised() -> None:
    assert parse_option("O:AAPL1211119C00085000").is_adjusted
    assert not parse_option(SPY_CALL).is_adjusted


# classes and spellings


@pytest.mark.parametrize(
    ("symbol", "expected"),
    [
        ("I:SPX", INDEXES), ("SPX", INDEXES), ("SPXW", INDEXES), ("I:COMP", INDEXES),
        (SPY_CALL, OPTIONS), ("SPY", STOCKS), ("QQQ", STOCKS), ("BRK.B", STOCKS),
        ("KIMpL", STOCKS), ("ACHR.WS", STOCKS), ("A", STOCKS), ("SPXC", STOCKS),
        *((index, INDEXES) for index in sorted(INDICES)),
        *((alias, INDEXES) for alias in sorted(INDEX_ALIASES)),
    ],
)  # fmt: skip
def test_the_class_of_a_symbol_is_explicit(symbol: str, expected: AssetClass) -> None:
    """R116, R131, C28, W-01: a colon alone never means option; SPY and QQQ are no indices."""
    assert asset_class(symbol) is expected


@pytest.mark.parametrize(
    "symbol",
    ["", " ", "spy", "SPY ", "1SPY", "BRK/B", "SPY*", "*", "X:BTCUSD", "C:EURUSD", "I:", "I:.X",
     "O:SPY", "Z:SPY", ":SPY", "BRK.", ".BRK", "SPY,QQQ", "SPY251219C00650000", "SPÜ", "S" * 16,
     "I:" + "X" * 25, "i:SPX"],
)  # fmt: skip
def test_an_unknown_shape_is_an_error_and_never_a_guess(symbol: str) -> None:
    """W-01."""
    with pytest.raises(InvalidSymbol):
        asset_class(symbol)


def test_a_compact_option_is_told_what_it_lacks() -> None:
    with pytest.raises(InvalidSymbol, match="write O:SPY251219C00650000"):
        asset_class("SPY251219C00650000")


def test_crypto_and_forex_are_named_in_their_refusal() -> None:
    with pytest.raises(InvalidSymbol, match="not carried"):
        asset_class("X:BTCUSD")


def test_the_set_of_known_indices_can_be_chosen() -> None:
    """R131: configurable."""
    assert asset_class("TRIN", indices={"SPX"}) is STOCKS
    assert normalize_symbol("comp", indices={"COMP"}) == "I:COMP"
    assert normalize_symbol("TRIN", indices={"SPX"}) == "TRIN"


@pytest.mark.parametrize(
    ("typed", "symbol"),
    [
        ("SPX", "I:SPX"), ("I:SPX", "I:SPX"), ("$SPX", "I:SPX"), ("spx", "I:SPX"),
        ("$spx", "I:SPX"), ("i:spx", "I:SPX"), ("SPXW", "I:SPX"), ("ndxp", "I:NDX"),
        (" VIX ", "I:VIX"), ("I:COMP", "I:COMP"), ("i:comp", "I:COMP"), ("i:Comp", "I:Comp"),
        ("SPY", "SPY"), ("spy", "SPY"), ("BRK.B", "BRK.B"), ("brk/b", "BRK.B"),
        ("KIMpL", "KIMpL"), ("SpX", "SpX"),
        (SPY_CALL, SPY_CALL), (SPY_CALL.lower(), SPY_CALL), (SPY_CALL[2:], SPY_CALL),
        ("SPY   251219C00650000", SPY_CALL), ("O:SPXW251205P06850500", "O:SPXW251205P06850500"),
    ],
)  # fmt: skip
def test_what_a_person_types_is_brought_to_the_vendors_form(typed: str, symbol: str) -> None:
    """R130."""
    assert normalize_symbol(typed) == symbol


@pytest.mark.parametrize(
    "typed", ["", "$", "$AAPL", "$I:SPX", "SPY QQQ", "ſpx", "straße", "*", "O:", "X:BTCUSD", "I:"]
)
def test_what_nobody_can_mean_is_refused(typed: str) -> None:
    with pytest.raises(InvalidSymbol):
        normalize_symbol(typed)


@given(symbols)
def test_normalising_the_vendors_form_changes_nothing_but_known_indices(symbol: str) -> None:
    once = normalize_symbol(symbol)

    assert normalize_symbol(once) == once
    if symbol[2:] not in INDEX_ALIASES and asset_class(symbol) is not INDEXES:
        assert once == symbol


@pytest.mark.parametrize(
    ("symbol", "tradier"),
    [("AAPL", "AAPL"), ("BRK.B", "BRK/B"), ("I:SPX", "SPX"), (SPY_CALL, "SPY251219C00650000")],
)
def test_tradier_writes_symbols_in_its_own_way(symbol: str, tradier: str) -> None:
    assert to_tradier(symbol) == tradier
    assert from_tradier(tradier) == symbol


def test_a_bare_index_reaches_tradier_by_its_own_name() -> None:
    assert to_tradier("SPXW") == "SPX"


@pytest.mark.parametrize("text", ["", "spy", "O:X", "SPY 1", "$SPX"])
def test_what_tradier_would_not_write_is_refused(text: str) -> None:
    with pytest.raises(InvalidSymbol):
        from_tradier(text)


# topics


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("V.I:SPX", ("V", "I:SPX", INDEXES)),
        ("AM.I:SPX", ("AM", "I:SPX", INDEXES)),
        (f"Q.{SPY_CALL}", ("Q", SPY_CALL, OPTIONS)),
        (f"T.{SPY_CALL}", ("T", SPY_CALL, OPTIONS)),
        (f"A.{SPY_CALL}", ("A", SPY_CALL, OPTIONS)),
        (f"FMV.{SPY_CALL}", ("FMV", SPY_CALL, OPTIONS)),
        ("T.BRK.B", ("T", "BRK.B", STOCKS)),
        ("LULD.KIMpL", ("LULD", "KIMpL", STOCKS)),
        ("V.SPX", ("V", "I:SPX", INDEXES)),
        ("AM.SPXW", ("AM", "I:SPX", INDEXES)),
    ],
)
def test_a_topic_is_taken_apart_at_its_first_dot(
    text: str, parts: tuple[str, str, AssetClass]
) -> None:
    """R125 to R129."""
    assert parse_topic(text) == parts
    assert parse_topic(text, parts[2]).topic == f"{parts[0]}.{parts[1]}"


@pytest.mark.parametrize("name", ["TRIN", "SPX"])
def test_a_bare_symbol_on_the_stocks_socket_is_a_stock_whatever_its_name(name: str) -> None:
    """TRIN is an index to people and Trinity Capital to the vendor."""
    assert parse_topic(f"T.{name}", STOCKS) == ("T", name, STOCKS)


@pytest.mark.parametrize(
    ("text", "asset", "says"),
    [
        ("", None, "write CHANNEL.SYMBOL"),
        ("SPY", None, "write CHANNEL.SYMBOL"),
        (".SPY", None, "write CHANNEL.SYMBOL"),
        ("T.", None, "write CHANNEL.SYMBOL"),
        ("T.SPY", OPTIONS, "subscribe on the stocks socket"),
        ("V.I:SPX", STOCKS, "SPX is an index, and this socket carries stocks"),
        ("Q.I:SPX", INDEXES, "choose among A, AM, V"),
        ("Q.I:SPX", None, "choose among A, AM, V"),
        ("V.SPY", None, "choose among A, AM, FMV, LULD, NOI, Q, T"),
        (f"V.{SPY_CALL}", OPTIONS, "options have no channel 'V'"),
        (f"q.{SPY_CALL}", OPTIONS, "options have no channel 'q'"),
        (f"LULD.{SPY_CALL}", OPTIONS, "choose among A, AM, FMV, Q, T"),
        ("Q.SPY251219C00650000", OPTIONS, "write O:SPY251219C00650000"),
        ("Q.O:SPY251219C0065000", OPTIONS, "neither an option"),
        ("T.SPY*", STOCKS, "no partial ones"),
        ("options.bars:1m,5m:SPY*", None, "no partial ones"),
        ("XT.X:BTCUSD", None, "crypto and forex"),
        ("T.*", None, "needs an asset class"),
        ("V.*", STOCKS, "stocks have no channel 'V'"),
        ("Q.*", OPTIONS, "name the contracts"),
        ("FMV.*", OPTIONS, "name the contracts"),
    ],
)
def test_a_refused_topic_says_what_to_write_instead(
    text: str, asset: AssetClass | None, says: str
) -> None:
    """R127, R128, W-01."""
    with pytest.raises(InvalidTopic, match=says.replace("*", r"\*")):
        parse_topic(text, asset)


@pytest.mark.parametrize(
    ("asset", "channel"),
    [
        (asset, channel)
        for asset, channels in CHANNELS.items()
        for channel in sorted(channels)
        if (asset, channel) not in {(OPTIONS, "Q"), (OPTIONS, "FMV")}
    ],
)
def test_a_wildcard_is_offered_where_the_vendor_has_one(asset: AssetClass, channel: str) -> None:
    assert topic(channel, "*", asset) == f"{channel}.*"


@given(symbols, st.data())
def test_every_topic_we_make_is_read_back(symbol: str, data: st.DataObject) -> None:
    channel = data.draw(st.sampled_from(sorted(CHANNELS[asset_class(symbol)])))

    made = topic(channel, symbol)

    assert parse_topic(made).topic == made


@given(
    st.one_of(
        st.text(max_size=40),
        st.text(string.ascii_letters + string.digits + ".:*O", max_size=24).map("T.".__add__),
    ),
    st.sampled_from([None, *AssetClass]),
)
def test_any_text_is_a_topic_or_our_error(text: str, asset: AssetClass | None) -> None:
    said = ""
    try:
        parts = parse_topic(text, asset)
    except InvalidTopic as error:
        said = str(error)
    else:
        assert parse_topic(parts.topic, parts.asset) == parts
    assert said.isascii()
    assert len(said) < 300, "a long topic is not echoed whole"
