"""What a symbol is, in every spelling we meet, and what a topic is.

The vendor's form is the one the rest of the package speaks, byte for byte: case
matters (`KIMpL` is a preferred share), so nothing that reads it changes a letter.

    O:SPY251219C00650000   option   root, YYMMDD, C or P, strike in thousandths
    I:SPX                  index
    BRK.B                  stock

The last 15 characters of an option are fixed width while the root is not, and an
adjusted root ends in a digit (`O:AAPL1211119C00085000`), so options are read from
the right. People and Tradier write otherwise: `normalize_symbol`, `from_osi` and
`from_tradier` bring those to the vendor's form.

A bare `SPX` is an index and a bare `TRIN` is both an index and a Nasdaq stock.
`asset_class` answers as a person means it (known indices are indices); a topic on
the stocks socket is read as the vendor reads it (a bare symbol is a stock).
"""

from collections.abc import Collection, Mapping
from datetime import date
from typing import Final, NamedTuple

import msgspec

from onetape.errors import InvalidSymbol, InvalidTopic
from onetape.model import AssetClass, ContractType, Topic

INDICES: Final[frozenset[str]] = frozenset(
    {"SPX", "NDX", "VIX", "RVX", "VXN", "RUT", "DJI", "TICK", "TRIN"}
)
"""The indices known by a bare name; any other index needs its `I:`. Never SPY or QQQ."""

INDEX_ALIASES: Final[Mapping[str, str]] = {
    "SPXW": "SPX",
    "NDXP": "NDX",
    "RUTW": "RUT",
    "VIXW": "VIX",
}
"""Option roots that people also use as the name of the index under them."""

CHANNELS: Final[Mapping[AssetClass, frozenset[str]]] = {
    AssetClass.OPTIONS: frozenset({"T", "Q", "A", "AM", "FMV"}),
    AssetClass.INDICES: frozenset({"V", "A", "AM"}),
    AssetClass.STOCKS: frozenset({"T", "Q", "A", "AM", "LULD", "NOI", "FMV"}),
}
"""What each upstream socket carries."""

WILDCARD: Final = "*"
"""Every symbol of a channel. The vendor has no partial wildcards."""

_NO_WILDCARD: Final = {AssetClass.OPTIONS: frozenset({"Q", "FMV"})}

_UNDERLYINGS: Final[Mapping[str, str]] = {
    **{name: f"I:{name}" for name in ("SPX", "NDX", "RUT", "VIX", "XSP", "MRUT", "DJX", "OEX")},
    **{alias: f"I:{name}" for alias, name in INDEX_ALIASES.items()},
    "XEO": "I:OEX",
    "BRKB": "BRK.B",  # OCC roots drop the dot of a class share; not recoverable by rule
    "BFB": "BF.B",
}

_DIGITS: Final = "0123456789"
_UPPER: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_ROOT_CHARACTERS: Final = _UPPER + _DIGITS + "."
_TICKER_CHARACTERS: Final = _UPPER + _UPPER.lower() + _DIGITS + "."
_INDEX_CHARACTERS: Final = _TICKER_CHARACTERS + "_-"

_TAIL: Final = 15  # YYMMDD, C or P, eight digits of strike
_ROOT_MAX: Final = 6
_OSI_LENGTH: Final = _ROOT_MAX + _TAIL
_TICKER_MAX: Final = 15  # below the shortest compact option, so the two never meet
_INDEX_MAX: Final = 24
_STRIKE_MAX: Final = 99_999_999
_LEAP_DAY: Final = "0229"
_DAYS: Final = frozenset(
    f"{month:02}{day:02}"
    for month, days in enumerate((31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31), start=1)
    for day in range(1, days + 1)
)
_RIGHTS: Final = {"C": ContractType.CALL, "P": ContractType.PUT}
_LETTERS: Final = {ContractType.CALL: "C", ContractType.PUT: "P"}
_NOUNS: Final = {
    AssetClass.OPTIONS: "an option",
    AssetClass.INDICES: "an index",
    AssetClass.STOCKS: "a stock",
}


class OptionSymbol(msgspec.Struct, frozen=True, kw_only=True):
    """One listed option, as its symbol names it.

    Raises:
        InvalidSymbol: When the parts do not make a symbol.
    """

    root: str
    expiration: date
    contract_type: ContractType
    strike_thousandths: int

    def __post_init__(self) -> None:
        """Refuse what could not be written as a symbol and read back."""
        if not _is_root(self.root):
            raise InvalidSymbol(f"{_shown(self.root)} is not the root of an option")
        if not 2000 <= self.expiration.year <= 2099:
            raise InvalidSymbol("an option symbol has two digits for a year: 2000 to 2099")
        if not 0 < self.strike_thousandths <= _STRIKE_MAX:
            raise InvalidSymbol("a strike is between 0.001 and 99999.999")

    @property
    def strike(self) -> float:
        """The strike in dollars."""
        return self.strike_thousandths / 1000

    @property
    def underlying(self) -> str:
        """What the option is on, in the vendor's form: `I:SPX` for SPXW, `AAPL` for AAPL1."""
        return underlying_of(self.root)

    @property
    def is_adjusted(self) -> bool:
        """Whether a corporate action changed the deliverable: it may not be 100 shares."""
        return self.root[-1] in _DIGITS

    @property
    def compact(self) -> str:
        """The form of Tradier: `SPY251219C00650000`."""
        return self.root + self._tail

    @property
    def osi(self) -> str:
        """The 21 characters of the OCC, root padded: `SPY   251219C00650000`."""
        return self.root.ljust(_ROOT_MAX) + self._tail

    @property
    def _tail(self) -> str:
        day, right = self.expiration, _LETTERS[self.contract_type]
        year = day.year - 2000
        return f"{year:02}{day.month:02}{day.day:02}{right}{self.strike_thousandths:08}"

    def __str__(self) -> str:
        """The vendor's form: `O:SPY251219C00650000`."""
        return "O:" + self.compact


def parse_option(symbol: str) -> OptionSymbol:
    """Read an option in the vendor's form.

    Raises:
        InvalidSymbol: When it is anything else.
    """
    if not symbol.startswith("O:"):
        raise InvalidSymbol(f"{_shown(symbol)} is not an option: an option begins with O:")
    return from_compact(symbol[2:])


def from_compact(text: str) -> OptionSymbol:
    """Read an option as Tradier writes it: the vendor's form without `O:`.

    Raises:
        InvalidSymbol: When it is anything else.
    """
    if not _is_compact(text):
        raise InvalidSymbol(
            f"{_shown(text)} is not an option: expected a root of 1 to 6 characters, YYMMDD, "
            "C or P, and 8 digits of strike, as in SPY251219C00650000"
        )
    root, tail = text[:-_TAIL], text[-_TAIL:]
    return OptionSymbol(
        root=root,
        expiration=date(2000 + int(tail[:2]), int(tail[2:4]), int(tail[4:6])),
        contract_type=_RIGHTS[tail[6]],
        strike_thousandths=int(tail[7:]),
    )


def from_osi(text: str) -> OptionSymbol:
    """Read the 21 characters of the OCC, whose root is padded with blanks on the right.

    Raises:
        InvalidSymbol: When it is anything else.
    """
    if len(text) != _OSI_LENGTH:
        raise InvalidSymbol(f"{_shown(text)} is not an OSI symbol: it has 21 characters")
    return from_compact(text[:_ROOT_MAX].rstrip(" ") + text[_ROOT_MAX:])


def underlying_of(root: str) -> str:
    """Return what options of a root are on, in the vendor's form.

    Index and class-share roots come from a table; the digit of an adjusted or
    FLEX root is dropped. A rule cannot know every root: where it matters, the
    vendor's contract reference is the authority.
    """
    known = _UNDERLYINGS.get(root)
    if known is not None:
        return known
    bare = root.strip(_DIGITS) or root
    return _UNDERLYINGS.get(bare, bare)


def asset_class(symbol: str, *, indices: Collection[str] = INDICES) -> AssetClass:
    """Tell what a symbol is, as a person means it: bare names of known indices are indices.

    Raises:
        InvalidSymbol: When it has no shape that we know.
    """
    if symbol[1:2] == ":":
        return _prefixed_class(symbol)
    if symbol in indices or symbol in INDEX_ALIASES:
        return AssetClass.INDICES
    if _is_ticker(symbol):
        return AssetClass.STOCKS
    raise _no_such_shape(symbol)


def normalize_symbol(text: str, *, indices: Collection[str] = INDICES) -> str:
    """Bring what a person typed to the vendor's form.

    `SPX`, `$SPX`, `spx`, `i:spx` and `SPXW` are `I:SPX`; `brk/b` is `BRK.B`; an
    option may lack its `O:` or be padded. Mixed case is left alone: `KIMpL`.

    Raises:
        InvalidSymbol: When it has no shape that we know.
    """
    typed = text.strip()
    if not typed.isascii():  # upper-casing some letters makes ASCII of them
        raise _no_such_shape(typed)
    upper = typed.upper()
    bare = upper.removeprefix("I:").removeprefix("$")
    index = INDEX_ALIASES.get(bare, bare)
    if index in indices and (upper != bare or typed in (bare, bare.lower())):
        return f"I:{index}"
    if upper.startswith("O:"):
        return str(parse_option(upper))
    if len(typed) > _TICKER_MAX and upper[:2] != "I:":
        return str(from_osi(upper) if " " in upper else from_compact(upper))
    plain = (upper if typed.islower() else typed).replace("/", ".")
    if plain[:2] == "i:":
        plain = "I:" + plain[2:]
    asset_class(plain, indices=indices)
    return plain


def to_tradier(symbol: str) -> str:
    """Write a symbol of the vendor's form as Tradier does: no prefix, `BRK/B`.

    Raises:
        InvalidSymbol: When it is not in the vendor's form.
    """
    if asset_class(symbol) is AssetClass.STOCKS:
        return symbol.replace(".", "/")
    return symbol[2:] if symbol[1:2] == ":" else INDEX_ALIASES.get(symbol, symbol)


def from_tradier(text: str, *, indices: Collection[str] = INDICES) -> str:
    """Write a symbol of Tradier's form as the vendor does. Tradier does not mark an index.

    Raises:
        InvalidSymbol: When it has no shape that we know.
    """
    if text in indices:
        return f"I:{text}"
    if _is_compact(text):
        return f"O:{text}"
    symbol = text.replace("/", ".")
    if not _is_ticker(symbol):
        raise _no_such_shape(text)
    return symbol


class TopicParts(NamedTuple):
    """One topic, taken apart and found valid."""

    channel: str
    symbol: str
    asset: AssetClass

    @property
    def topic(self) -> Topic:
        """The topic in the vendor's form, which is also how its events name it."""
        return Topic(f"{self.channel}.{self.symbol}")


def topic(channel: str, symbol: str, asset: AssetClass | None = None) -> Topic:
    """Make a topic; `asset` is needed only for the wildcard.

    Raises:
        InvalidTopic: When there is no such channel, or the symbol is not on it.
    """
    return parse_topic(f"{channel}.{symbol}", asset).topic


def parse_topic(text: str, asset: AssetClass | None = None) -> TopicParts:
    """Take a topic apart at its first dot and check both halves.

    Args:
        text: `CHANNEL.SYMBOL` in the vendor's form; a bare known index gets its `I:`.
        asset: The socket it is for. Without it the symbol decides.

    Raises:
        InvalidTopic: With a message for the person who wrote the topic.
    """
    channel, dot, symbol = text.partition(".")
    if not (dot and channel and symbol):
        raise InvalidTopic(
            f"{_shown(text)} is not a topic: write CHANNEL.SYMBOL, as in Q.O:SPY251219C00650000"
        )
    if symbol == WILDCARD:
        return _wildcard(channel, asset)
    try:
        found = _class_on(symbol, asset)
    except InvalidSymbol as error:
        raise InvalidTopic(str(error)) from error
    if asset is not None and found is not asset:
        raise InvalidTopic(
            f"{_shown(text)}: {symbol} is {_NOUNS[found]}, and this socket carries {asset.value}; "
            f"subscribe on the {found.value} socket"
        )
    _check_channel(channel, found)
    if found is AssetClass.INDICES and symbol[1:2] != ":":
        symbol = "I:" + INDEX_ALIASES.get(symbol, symbol)
    return TopicParts(channel, symbol, found)


def _wildcard(channel: str, asset: AssetClass | None) -> TopicParts:
    if asset is None:
        raise InvalidTopic(
            f"{_shown(channel + '.*')}: a wildcard needs an asset class: options, indices or stocks"
        )
    _check_channel(channel, asset)
    if channel in _NO_WILDCARD.get(asset, ()):
        raise InvalidTopic(
            f"{channel}.* is not offered for {asset.value}: it is more than one connection "
            "can carry; name the contracts"
        )
    return TopicParts(channel, WILDCARD, asset)


def _check_channel(channel: str, asset: AssetClass) -> None:
    if channel not in CHANNELS[asset]:
        known = ", ".join(sorted(CHANNELS[asset]))
        raise InvalidTopic(f"{asset.value} have no channel {_shown(channel)}: choose among {known}")


def _class_on(symbol: str, asset: AssetClass | None) -> AssetClass:
    # The vendor reads a bare symbol on the stocks socket as a stock whatever its
    # name: TRIN is Trinity Capital there, and an index only to people.
    if asset is AssetClass.STOCKS and _is_ticker(symbol):
        return AssetClass.STOCKS
    return asset_class(symbol)


def _prefixed_class(symbol: str) -> AssetClass:
    body = symbol[2:]
    if symbol[0] == "O" and _is_compact(body):
        return AssetClass.OPTIONS
    if symbol[0] == "I" and _is_index(body):
        return AssetClass.INDICES
    raise _no_such_shape(symbol)


# The checks below run once per topic a client subscribes, a thousand to a frame.
# `not s.strip(characters)` is "only those characters", at the speed of C.


def _is_compact(text: str) -> bool:
    tail = text[-_TAIL:]
    return (
        _is_root(text[:-_TAIL])
        and tail[6] in _RIGHTS
        and not tail[:6].strip(_DIGITS)
        and not tail[7:].strip(_DIGITS)
        and tail[2:6] in _DAYS
        and tail[7:] != "00000000"
        and (tail[2:6] != _LEAP_DAY or int(tail[:2]) % 4 == 0)  # 2000 to 2099
    )


def _is_root(text: str) -> bool:
    return (
        0 < len(text) <= _ROOT_MAX
        and not text.strip(_ROOT_CHARACTERS)
        and text[0] != "."
        and text[-1] != "."
        and not text.isdigit()
    )


def _is_index(text: str) -> bool:
    return 0 < len(text) <= _INDEX_MAX and not text.strip(_INDEX_CHARACTERS) and text[0].isalnum()


def _is_ticker(text: str) -> bool:
    return (
        0 < len(text) <= _TICKER_MAX
        and text[0] in _UPPER
        and not text.strip(_TICKER_CHARACTERS)
        and text[-1] != "."
    )


def _no_such_shape(symbol: str) -> InvalidSymbol:
    if WILDCARD in symbol:
        return InvalidSymbol(
            f"{_shown(symbol)}: a wildcard stands alone, there are no partial ones"
        )
    if symbol[:2] in ("X:", "C:"):
        return InvalidSymbol(f"{_shown(symbol)}: crypto and forex are not carried")
    if _is_compact(symbol):
        return InvalidSymbol(f"{_shown(symbol)} lacks its prefix: write O:{symbol}")
    return InvalidSymbol(
        f"{_shown(symbol)} is neither an option (O:SPY251219C00650000), "
        "an index (I:SPX) nor a stock (BRK.B)"
    )


def _shown(text: str) -> str:
    """Quote what came from outside: bounded, and harmless in a log or a terminal."""
    return ascii(text if len(text) <= 40 else text[:37] + "...")
