"""Every reason code in one table: public, documented, and of one severity everywhere.

`docs/quality.md` holds the same rows. A code never changes meaning; a new meaning is
a new code. Most are found by rules; `NOTES` only the source can know and attaches;
`AT_READING` come from the age and are found again at each reading.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from onetape.provenance import GREEKS_STALE, STALE, TOO_OLD, Reason, Severity

_ERROR, _WARNING, _INFO = Severity.ERROR, Severity.WARNING, Severity.INFO


class Entry(NamedTuple):
    """What a code means, and what it does to the score."""

    severity: Severity
    doc: str


class Row(NamedTuple):
    """A row of the documented table."""

    code: str
    severity: Severity
    doc: str


RULES: Final[Mapping[str, Entry]] = {
    # presence and type
    "symbol_missing": Entry(_ERROR, "There is no symbol"),
    "root_missing": Entry(_ERROR, "The contract has no root or no underlying"),
    "strike_invalid": Entry(_ERROR, "The strike is not a number above 0"),
    "expiration_invalid": Entry(_ERROR, "The expiration is not a date"),
    "type_invalid": Entry(_ERROR, "The contract is neither call nor put"),
    "time_invalid": Entry(_ERROR, "A time is not in nanoseconds since the epoch"),
    "not_a_number": Entry(_ERROR, "A price, size or Greek is NaN, infinite or not a number"),
    "price_missing": Entry(_ERROR, "There is neither a last price nor a bid nor an ask"),
    "quote_missing": Entry(_WARNING, "The contract has no bid or no ask"),
    "time_missing": Entry(_WARNING, "There is no exchange's time, so the age is unknown"),
    # time
    "future": Entry(_ERROR, "The exchange's time is more than 2 s ahead of our clock"),
    "expired": Entry(_ERROR, "The contract expired on an earlier day, by New York's date"),
    # bid and ask
    "price_negative": Entry(_ERROR, "The bid or the ask is below 0"),
    "crossed": Entry(_ERROR, "The bid is above the ask"),
    "locked": Entry(_INFO, "The bid equals the ask"),
    "zero_bid": Entry(_WARNING, "Nobody bids"),
    "size_negative": Entry(_WARNING, "The size of a bid, an ask or a trade is below 0"),
    "spread_wide": Entry(_WARNING, "The spread is over 20 % of the middle, up to 50 %"),
    "spread_extreme": Entry(_WARNING, "The spread is over 50 % of the middle"),
    # last price and the day
    "price_not_positive": Entry(_ERROR, "A price or an index value is 0 or below"),
    "last_invalid": Entry(_WARNING, "The last trade of the contract has no price above 0"),
    "range_inverted": Entry(_ERROR, "The high is below the low"),
    "last_outside_range": Entry(_WARNING, "The last price is outside high and low"),
    "change_inconsistent": Entry(
        _WARNING,
        "The change is not last price less previous close, to 1 point (1 % below 100)",
    ),
    # liquidity
    "no_volume": Entry(_WARNING, "The contract did not trade today"),
    "volume_invalid": Entry(_WARNING, "The volume is below 0 or not a number"),
    "no_open_interest": Entry(_WARNING, "Nobody holds the contract"),
    "open_interest_invalid": Entry(_WARNING, "The open interest is below 0 or not a number"),
    # Greeks and implied volatility
    "delta_range": Entry(_WARNING, "Delta is outside -1..1"),
    "delta_sign": Entry(_WARNING, "Delta is below 0 for a call or above 0 for a put"),
    "gamma_negative": Entry(_ERROR, "Gamma is below 0"),
    "gamma_high": Entry(_WARNING, "Gamma is above 0.5, in proportion for strikes below 100"),
    "theta_range": Entry(_WARNING, "Theta is outside -2..2, in proportion for strikes above 100"),
    "vega_range": Entry(_WARNING, "Vega is outside 0..1, in proportion for strikes above 100"),
    "iv_negative": Entry(_ERROR, "The implied volatility is below 0"),
    "iv_high": Entry(_WARNING, "The implied volatility is above 3 (300 %), up to 10"),
    "iv_extreme": Entry(_ERROR, "The implied volatility is above 10 (1000 %)"),
    # bars
    "window_invalid": Entry(_ERROR, "A bar does not end after it begins"),
    "open_outside_range": Entry(_WARNING, "A bar's open is outside its high and low"),
    "close_outside_range": Entry(_WARNING, "A bar's close is outside its high and low"),
    "bars_missing": Entry(_WARNING, "A series or a bar length that was asked for has no bars"),
    "bars_unordered": Entry(_WARNING, "Bars repeat or are not in the order of time"),
    "bars_dropped": Entry(_WARNING, "Bars with errors were left out"),
    "bars_marked": Entry(_INFO, "Bars have warnings, which they carry themselves"),
    # chains
    "chain_empty": Entry(_ERROR, "The chain has no valid contract"),
    "chain_partial": Entry(_WARNING, "A part of the chain could not be had; `partial` names it"),
    "contracts_dropped": Entry(_WARNING, "Contracts with errors were left out, up to 20 %"),
    "too_many_invalid": Entry(_ERROR, "More than 20 % of the contracts had errors"),
    "underlying_price_missing": Entry(_WARNING, "There is no price of the underlying"),
    "calls_missing": Entry(_WARNING, "The chain has puts only"),
    "puts_missing": Entry(_WARNING, "The chain has calls only"),
    "atm_missing": Entry(_ERROR, "No expiration has a strike near the underlying's price"),
    "atm_partial": Entry(_WARNING, "Some expirations have no strike near the underlying's price"),
    "strike_gap": Entry(_INFO, "Strikes are missing between others, by the usual step"),
}

AT_READING: Final[Mapping[str, Entry]] = {
    STALE: Entry(_INFO, "Older than its kind should be: the score is multiplied by 0.9 or 0.75"),
    TOO_OLD: Entry(_ERROR, "Too old to use: six times what makes it stale"),
    GREEKS_STALE: Entry(_WARNING, "The Greeks are more than 60 s old, by their own time"),
}

NOTES: Final[Mapping[str, Entry]] = {
    "fallback": Entry(
        _WARNING, "Another provider than the first answered; `fallback_reason` says why"
    ),
    "last_good": Entry(_WARNING, "The source does not answer; this is the last good value"),
    "mixed_sources": Entry(_INFO, "Fields come from several providers; each group names its own"),
    "greeks_computed": Entry(
        _INFO, "We computed implied volatility and Greeks from bid and ask ourselves"
    ),
    "greeks_corrected": Entry(_INFO, "The source gave a put the call's Greeks; we converted them"),
    "greeks_withheld": Entry(
        _WARNING, "The source gave a put the call's Greeks; theta and rho are absent"
    ),
    "greeks_hourly": Entry(_INFO, "The source renews its Greeks about once an hour"),
    "greeks_stale_0dte": Entry(
        _WARNING, "The contract expires today and its Greeks are of an earlier day"
    ),
    "greeks_missing": Entry(_INFO, "The source has no Greeks for the contract"),
    "iv_smoothed": Entry(_INFO, "The implied volatility is the smoothed one of the strike"),
    "iv_unsolved": Entry(_INFO, "The source found no implied volatility; it is absent, not 0"),
    "last_frozen": Entry(
        _INFO, "The last price is of the regular session; the source gives no later one"
    ),
}

REASONS: Final[Mapping[str, Entry]] = {**RULES, **AT_READING, **NOTES}


def reasons_table() -> tuple[Row, ...]:
    """Return every code with its severity and meaning, in the order of the documentation."""
    return tuple(Row(code, entry.severity, entry.doc) for code, entry in REASONS.items())


def reason(code: str, detail: str = "") -> Reason:
    """Return a reason by its code.

    Raises:
        KeyError: When the table has no such code.
    """
    return Reason(code=code, severity=REASONS[code].severity, detail=detail)


def first_error(reasons: tuple[Reason, ...]) -> str | None:
    """Return the code of the first error among reasons."""
    for one in reasons:
        if one.severity is Severity.ERROR:
            return one.code
    return None
