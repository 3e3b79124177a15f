"""The client of a gateway; start with `MassiveDataProvider`. It needs none of the gateway's parts."""

from onetape.client._cache import MAX_BYTES
from onetape.client._connection import Parts
from onetape.client._health import Health, Status
from onetape.client._notices import Gap, Reason, SourceChanged, TransportPolicy
from onetape.client._provider import STREAMED, MassiveDataProvider
from onetape.client._subscription import Overflow, Subscription, SubscriptionStatistics
from onetape.client._watch import (
    ChainState,
    ChainWatch,
    MacroWatch,
    OptionTape,
    PnlTracker,
    QuoteBoard,
    provided,
    providing,
)

__all__ = [
    "MAX_BYTES",
    "STREAMED",
    "ChainState",
    "ChainWatch",
    "Gap",
    "Health",
    "MacroWatch",
    "MassiveDataProvider",
    "OptionTape",
    "Overflow",
    "Parts",
    "PnlTracker",
    "QuoteBoard",
    "Reason",
    "SourceChanged",
    "Status",
    "Subscription",
    "SubscriptionStatistics",
    "TransportPolicy",
    "provided",
    "providing",
]
