"""Trade conditions and exchanges of the simulated vendor, as data.

`confirmed` says that the id appears in the vendor's own samples (its meaning may still
come from public third-party tables); everything else follows the OPRA and SIP code lists.
Option exchange ids are 300 plus the place of the OPRA participant's letter (C 302, I 308).
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from onetape.model import AssetClass


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """One trade condition and what a trade that carries it updates (consolidated tape)."""

    id: int
    name: str
    asset: AssetClass
    sip_mapping: Mapping[str, str]
    """SIP to its code: `{"OPRA": "I"}`, `{"CTA": "T", "UTP": "T"}`."""
    abbreviation: str | None = None
    type: str = "sale_condition"
    data_types: tuple[str, ...] = ("trade",)
    updates_high_low: bool = True
    updates_open_close: bool = True
    updates_volume: bool = True
    legacy: bool = False
    confirmed: bool = False


class Exchange(msgspec.Struct, frozen=True, kw_only=True):
    """One venue, trade reporting facility or SIP. An id may appear more than once (4)."""

    id: int
    type: str
    """`exchange`, `TRF` or `SIP`."""
    asset: AssetClass
    name: str
    acronym: str | None = None
    mic: str | None = None
    operating_mic: str | None = None
    participant_id: str | None = None
    confirmed: bool = False


# ---- options ----

AUTO: Final = 209
SWEEP: Final = 219
AUCTION: Final = 227
CROSS: Final = 229
FLOOR: Final = 231
MULTI_AUTO: Final = 232
MULTI_AUCTION: Final = 233
MULTI_FLOOR: Final = 235

MULTI_LEG: Final = frozenset({232, 233, 234, 235, 236, 238, 239, 246})
"""Conditions of prints that are one leg of a package."""

_CANCELED: Final = frozenset({201, 203, 205, 207})
_NOT_LAST: Final = frozenset({202, 206})
_OPTION_SAMPLES: Final = frozenset({209, 227, 233})

_OPTION_CONDITIONS: Final = (
    (201, "A", "CANC", "Canceled"),
    (202, "B", "OSEQ", "Late and Out Of Sequence"),
    (203, "C", "CNCL", "Last and Canceled"),
    (204, "D", "LATE", "Late"),
    (205, "E", "CNCO", "Opening Trade and Canceled"),
    (206, "F", "OPEN", "Opening Trade, Late, and Out Of Sequence"),
    (207, "G", "CNOL", "Only Trade and Canceled"),
    (208, "H", "OPNL", "Opening Trade and Late"),
    (209, "I", "AUTO", "Automatic Execution"),
    (210, "J", "REOP", "Reopening Trade"),
    (219, "S", "ISOI", "Intermarket Sweep Order"),
    (227, "a", "SLAN", "Single Leg Auction Non ISO"),
    (228, "b", "SLAI", "Single Leg Auction ISO"),
    (229, "c", "SLCN", "Single Leg Cross Non ISO"),
    (230, "d", "SLCI", "Single Leg Cross ISO"),
    (231, "e", "SLFT", "Single Leg Floor Trade"),
    (232, "f", "MLET", "Multi Leg Auto-Electronic Trade"),
    (233, "g", "MLAT", "Multi Leg Auction"),
    (234, "h", "MLCT", "Multi Leg Cross"),
    (235, "i", "MLFT", "Multi Leg Floor Trade"),
    (236, "j", "MESL", "Multi Leg Auto-Electronic Trade Against Single Leg(s)"),
    (237, "k", "TLAT", "Stock Options Auction"),
    (238, "l", "MASL", "Multi Leg Auction Against Single Leg(s)"),
    (239, "m", "MFSL", "Multi Leg Floor Trade Against Single Leg(s)"),
    (240, "n", "TLET", "Stock Options Auto-Electronic Trade"),
    (241, "o", "TLCT", "Stock Options Cross"),
    (242, "p", "TLFT", "Stock Options Floor Trade"),
    (243, "q", "TESL", "Stock Options Auto-Electronic Trade Against Single Leg(s)"),
    (244, "r", "TASL", "Stock Options Auction Against Single Leg(s)"),
    (245, "s", "TFSL", "Stock Options Floor Trade Against Single Leg(s)"),
    (246, "t", "CBMO", "Multi Leg Floor Trade of Proprietary Products"),
    (247, "u", "MCTP", "Multilateral Compression Trade of Proprietary Products"),
    (248, "v", "EXHT", "Extended Hours Trade"),
)

# ---- stocks ----

FORM_T: Final = 12
ISO: Final = 14
OPENING: Final = 25
CLOSING: Final = 8
ODD_LOT: Final = 37
TRADE_THRU_EXEMPT: Final = 41

# id, CTA code, UTP code, name, updates high/low, updates open/close, updates volume
_STOCK_CONDITIONS: Final = (
    (0, "@", "@", "Regular Sale", True, True, True),
    (1, None, "A", "Acquisition", True, True, True),
    (2, "B", "W", "Average Price Trade", False, False, True),
    (3, "E", None, "Automatic Execution", True, True, True),
    (4, None, "B", "Bunched Trade", True, True, True),
    (5, None, "G", "Bunched Sold Trade", True, False, True),
    (7, "C", "C", "Cash Sale", False, False, True),
    (8, "6", "6", "Closing Prints", True, True, True),
    (9, "X", "X", "Cross Trade", True, True, True),
    (10, "4", "4", "Derivatively Priced", True, False, True),
    (11, None, "D", "Distribution", True, True, True),
    (12, "T", "T", "Form T/Extended Hours", False, False, True),
    (13, "U", "U", "Extended Hours (Sold Out Of Sequence)", False, False, True),
    (14, "F", "F", "Intermarket Sweep", True, True, True),
    (15, "M", "M", "Market Center Official Close", False, False, False),
    (16, "Q", "Q", "Market Center Official Open", False, False, False),
    (17, "O", "O", "Market Center Opening Trade", True, True, True),
    (18, "5", "5", "Market Center Reopening Trade", True, True, True),
    (19, "6", "6", "Market Center Closing Trade", True, True, True),
    (20, "N", "N", "Next Day", False, False, True),
    (21, "H", "H", "Price Variation Trade", False, False, True),
    (22, "P", "P", "Prior Reference Price", True, False, True),
    (25, "O", "O", "Opening Prints", True, True, True),
    (28, "5", "5", "Re-Opening Prints", True, True, True),
    (29, "R", "R", "Seller", False, False, True),
    (30, "L", "L", "Sold Last", True, True, True),
    (32, "Z", "Z", "Sold (Out Of Sequence)", True, False, True),
    (34, None, "S", "Split Trade", True, True, True),
    (35, "V", "V", "Stock Option", False, False, True),
    (36, None, "Y", "Yellow Flag Regular Trade", True, True, True),
    (37, "I", "I", "Odd Lot Trade", False, False, True),
    (38, "9", "9", "Corrected Consolidated Close", True, True, False),
    (41, "X", "X", "Trade Thru Exempt", True, True, True),
    (52, "7", "V", "Contingent Trade", False, False, True),
    (53, "V", "7", "Qualified Contingent Trade", False, False, True),
)
_STOCK_SAMPLES: Final = frozenset({0, 12, 14, 41})


def _option_condition(row: tuple[int, str, str, str]) -> Condition:
    identifier, code, abbreviation, name = row
    return Condition(
        id=identifier,
        name=name,
        asset=AssetClass.OPTIONS,
        sip_mapping={"OPRA": code},
        abbreviation=abbreviation,
        updates_high_low=identifier not in _CANCELED,
        updates_open_close=identifier not in _CANCELED | _NOT_LAST,
        updates_volume=identifier not in _CANCELED,
        confirmed=identifier in _OPTION_SAMPLES,
    )


def _stock_condition(
    row: tuple[int, str | None, str | None, str, bool, bool, bool],
) -> Condition:
    identifier, cta, utp, name, high_low, open_close, volume = row
    return Condition(
        id=identifier,
        name=name,
        asset=AssetClass.STOCKS,
        sip_mapping={sip: code for sip, code in (("CTA", cta), ("UTP", utp)) if code},
        type="trade_thru_exempt" if identifier == TRADE_THRU_EXEMPT else "sale_condition",
        updates_high_low=high_low,
        updates_open_close=open_close,
        updates_volume=volume,
        confirmed=identifier in _STOCK_SAMPLES,
    )


CONDITIONS: Final[tuple[Condition, ...]] = (
    *map(_stock_condition, _STOCK_CONDITIONS),
    *map(_option_condition, _OPTION_CONDITIONS),
)
"""Every condition, stocks first, by id."""

BY_ID: Final[Mapping[int, Condition]] = {condition.id: condition for condition in CONDITIONS}

# id, participant, acronym, MIC, name
_OPTION_EXCHANGES: Final = (
    (300, "A", "AMEX", "AMXO", "NYSE American Options"),
    (301, "B", "BOX", "XBOX", "BOX Options Exchange"),
    (302, "C", "CBOE", "XCBO", "Cboe Options Exchange"),
    (303, "D", "EMLD", "EMLD", "MIAX Emerald"),
    (304, "E", "EDGO", "EDGO", "Cboe EDGX Options"),
    (307, "H", "GMNI", "GMNI", "Nasdaq GEMX"),
    (308, "I", "ISE", "XISX", "Nasdaq ISE"),
    (309, "J", "MCRY", "MCRY", "Nasdaq MRX"),
    (312, "M", "MIAX", "XMIO", "MIAX Options"),
    (313, "N", "ARCO", "ARCO", "NYSE Arca Options"),
    (315, "P", "MPRL", "MPRL", "MIAX Pearl Options"),
    (316, "Q", "NASD", "XNDQ", "Nasdaq Options Market"),
    (319, "T", "BX", "XBXO", "Nasdaq BX Options"),
    (322, "W", "C2", "C2OX", "Cboe C2 Options"),
    (323, "X", "PHLX", "XPHO", "Nasdaq PHLX"),
    (325, "Z", "BATO", "BATO", "Cboe BZX Options"),
)
_OPTION_EXCHANGES_CONFIRMED: Final = frozenset({302, 308})

OPRA: Final = Exchange(
    id=314,
    type="SIP",
    asset=AssetClass.OPTIONS,
    name="Options Price Reporting Authority",
    mic="OPRA",
    operating_mic="OPRA",
    participant_id="O",
)

# id, type, participant, MIC, name
_STOCK_EXCHANGES: Final = (
    (1, "exchange", "A", "XASE", "NYSE American, LLC"),
    (2, "exchange", "B", "XBOS", "Nasdaq OMX BX, Inc."),
    (3, "exchange", "C", "XCIS", "NYSE National, Inc."),
    (4, "TRF", "D", "FINY", "FINRA NYSE TRF"),
    (4, "TRF", "D", "FINN", "FINRA Nasdaq TRF Carteret"),
    (4, "TRF", "D", "FINC", "FINRA Nasdaq TRF Chicago"),
    (4, "TRF", "D", "XADF", "FINRA Alternative Display Facility"),
    (5, "SIP", "E", None, "Unlisted Trading Privileges"),
    (6, "TRF", "I", "XISE", "International Securities Exchange, LLC - Stocks"),
    (7, "exchange", "J", "EDGA", "Cboe EDGA"),
    (8, "exchange", "K", "EDGX", "Cboe EDGX"),
    (9, "exchange", "M", "XCHI", "NYSE Chicago, Inc."),
    (10, "exchange", "N", "XNYS", "New York Stock Exchange"),
    (11, "exchange", "P", "ARCX", "NYSE Arca, Inc."),
    (12, "exchange", "T", "XNAS", "Nasdaq"),
    (13, "SIP", "S", None, "Consolidated Tape Association"),
    (14, "exchange", "L", "LTSE", "Long-Term Stock Exchange"),
    (15, "exchange", "V", "IEXG", "Investors Exchange"),
    (16, "TRF", "W", "CBSX", "Cboe Stock Exchange"),
    (17, "exchange", "X", "XPHL", "Nasdaq Philadelphia Exchange LLC"),
    (18, "exchange", "Y", "BATY", "Cboe BYX"),
    (19, "exchange", "Z", "BATS", "Cboe BZX"),
    (20, "exchange", "H", "EPRL", "MIAX Pearl"),
    (21, "exchange", "U", "MEMX", "Members Exchange"),
)

EXCHANGES: Final[tuple[Exchange, ...]] = (
    *(
        Exchange(
            id=identifier,
            type=kind,
            asset=AssetClass.STOCKS,
            name=name,
            mic=mic,
            operating_mic=mic,
            participant_id=letter,
            confirmed=True,
        )
        for identifier, kind, letter, mic, name in _STOCK_EXCHANGES
    ),
    *(
        Exchange(
            id=identifier,
            type="exchange",
            asset=AssetClass.OPTIONS,
            name=name,
            acronym=acronym,
            mic=mic,
            operating_mic=mic,
            participant_id=letter,
            confirmed=identifier in _OPTION_EXCHANGES_CONFIRMED,
        )
        for identifier, letter, acronym, mic, name in _OPTION_EXCHANGES
    ),
    OPRA,
)
"""Every exchange, stocks first, by id."""
