"""Whose key it is and what it may see: the simulated vendor's customers.

A key belongs to an account; an account may hold several keys, which share its rate
limit and its connections. An account's plan is one tier per asset class, because
the vendor sells stocks, options and indices apart.

    tier         calls/min  snapshots  sockets  seconds  trades  quotes  data
    basic        5          -          -        -        -       -       end of day
    starter      -          yes        yes      yes      -       -       15 min late
    developer    -          yes        yes      yes      yes     -       15 min late
    advanced     -          yes        yes      yes      yes     yes     real time
    business     -          yes        yes      yes      yes     yes     real time, fair values
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final

import msgspec

from onetape.model import AssetClass

DELAY_NS: Final = 15 * 60 * 1_000_000_000
"""How late a delayed tier sees the market."""


class DataType(StrEnum):
    """What an endpoint serves, as the vendor's entitlements divide it."""

    REFERENCE = "reference"
    AGGREGATES = "aggregates"
    SECONDS = "seconds"
    SNAPSHOTS = "snapshots"
    TRADES = "trades"
    QUOTES = "nbbo"
    FAIR_VALUES = "fmv"


class Freshness(StrEnum):
    """How late a tier sees the market."""

    REAL_TIME = "real-time"
    DELAYED = "delayed"
    END_OF_DAY = "end-of-day"


class Tier(msgspec.Struct, frozen=True, kw_only=True):
    """What one asset class of a plan includes."""

    name: str
    freshness: Freshness
    data: frozenset[DataType]
    websocket: bool = True
    calls_per_minute: int | None = None
    history_years: int | None = None

    @property
    def is_delayed(self) -> bool:
        """Whether the tier sees anything later than it happened."""
        return self.freshness is not Freshness.REAL_TIME

    @property
    def delay_ns(self) -> int:
        """How far behind the market the tier's newest datum is."""
        return DELAY_NS if self.is_delayed else 0

    @property
    def timeframe(self) -> str:
        """The mark the vendor puts on the tier's quotes, trades and values."""
        return "DELAYED" if self.is_delayed else "REAL-TIME"

    def admits_channel(self, channel: str) -> bool:
        """Whether a socket of this tier may subscribe to the channel."""
        needed = _CHANNEL_DATA.get(channel)
        if not self.websocket or needed is None or needed not in self.data:
            return False
        return channel not in _REAL_TIME_CHANNELS or not self.is_delayed


_CHANNEL_DATA: Final[Mapping[str, DataType]] = {
    "A": DataType.SECONDS,
    "AM": DataType.AGGREGATES,
    "V": DataType.AGGREGATES,
    "T": DataType.TRADES,
    "Q": DataType.QUOTES,
    "LULD": DataType.QUOTES,
    "NOI": DataType.QUOTES,
    "FMV": DataType.FAIR_VALUES,
}
_REAL_TIME_CHANNELS: Final = frozenset({"Q", "LULD", "NOI"})

_BASIC: Final = frozenset({DataType.REFERENCE, DataType.AGGREGATES})
_STARTER: Final = _BASIC | {DataType.SNAPSHOTS, DataType.SECONDS}
_DEVELOPER: Final = _STARTER | {DataType.TRADES}
_ADVANCED: Final = _DEVELOPER | {DataType.QUOTES}

BASIC: Final = Tier(
    name="basic",
    freshness=Freshness.END_OF_DAY,
    data=_BASIC,
    websocket=False,
    calls_per_minute=5,
    history_years=2,
)
STARTER: Final = Tier(name="starter", freshness=Freshness.DELAYED, data=_STARTER, history_years=5)
DEVELOPER: Final = Tier(
    name="developer", freshness=Freshness.DELAYED, data=_DEVELOPER, history_years=10
)
ADVANCED: Final = Tier(name="advanced", freshness=Freshness.REAL_TIME, data=_ADVANCED)
BUSINESS: Final = Tier(
    name="business", freshness=Freshness.REAL_TIME, data=_ADVANCED | {DataType.FAIR_VALUES}
)


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What an account has bought: a tier for each asset class it pays for."""

    tiers: Mapping[AssetClass, Tier]

    @classmethod
    def everywhere(cls, tier: Tier) -> "Plan":
        """Return the plan with this tier in every asset class."""
        return cls(tiers=dict.fromkeys(AssetClass, tier))

    @property
    def calls_per_minute(self) -> int | None:
        """The account's request limit: one unlimited product lifts it for all."""
        limits = [tier.calls_per_minute for tier in self.tiers.values()]
        bounded = [limit for limit in limits if limit is not None]
        return max(bounded) if bounded and len(bounded) == len(limits) else None

    def tier(self, asset: AssetClass) -> Tier | None:
        """Return what was bought of the asset class, if anything."""
        return self.tiers.get(asset)

    def includes(self, asset: AssetClass, data: DataType) -> bool:
        """Whether the plan covers that data of that asset class; reference covers all."""
        tier = self.tiers.get(asset)
        return data is DataType.REFERENCE or (tier is not None and data in tier.data)

    def admits_socket(self, asset: AssetClass) -> bool:
        """Whether the plan may open a socket of the asset class at all."""
        tier = self.tiers.get(asset)
        return tier is not None and tier.websocket


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """One customer of the vendor; limits are counted by `name`, never by key."""

    name: str
    keys: frozenset[str]
    plan: Plan
    max_connections: int = 1  # per cluster; three for Business


def sample_accounts() -> tuple[Account, ...]:
    """Return one account of each tier, and two whose products differ."""
    everywhere = Plan.everywhere
    options_only = Plan(tiers={AssetClass.OPTIONS: ADVANCED})
    mixed = Plan(
        tiers={
            AssetClass.OPTIONS: ADVANCED,
            AssetClass.STOCKS: STARTER,
            AssetClass.INDICES: BASIC,
        }
    )
    plans = {
        "basic": everywhere(BASIC),
        "starter": everywhere(STARTER),
        "developer": everywhere(DEVELOPER),
        "advanced": everywhere(ADVANCED),
        "options-only": options_only,
        "mixed": mixed,
    }
    sim = Account(
        name="sim",
        keys=frozenset({"sim-key", "sim-key-2"}),
        plan=everywhere(BUSINESS),
    )
    return (
        sim,
        *(
            Account(name=f"sim-{name}", keys=frozenset({f"sim-{name}-key"}), plan=plan)
            for name, plan in plans.items()
        ),
    )


class Accounts:
    """Every customer of the simulated vendor, found by any of their keys."""

    def __init__(self, accounts: Iterable[Account] | None = None) -> None:
        """Know these accounts; by default `sample_accounts`, of which `sim-key` has all."""
        known = sample_accounts() if accounts is None else tuple(accounts)
        self._by_key = {key: account for account in known for key in account.keys}

    def find(self, key: str) -> Account | None:
        """Return the account the key belongs to."""
        return self._by_key.get(key)
