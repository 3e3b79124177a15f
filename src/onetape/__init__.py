"""Share one Massive.com subscription among any number of programs.

The public names are fetched when they are first used: `import onetape` itself does
nothing, opens nothing and costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from onetape.client import Gap, MassiveDataProvider, Overflow, SourceChanged, Subscription
    from onetape.errors import OnetapeError
    from onetape.model import (
        AssetClass,
        Bar,
        ContractType,
        Greeks,
        IndexSnapshot,
        MarketStatus,
        OptionChain,
        OptionContract,
        OptionSnapshot,
        Quote,
        Trade,
    )
    from onetape.provenance import Quality
    from onetape.rows import Rows

__version__ = "0.1.0"

__all__ = [
    "AssetClass",
    "Bar",
    "ContractType",
    "Gap",
    "Greeks",
    "IndexSnapshot",
    "MarketStatus",
    "MassiveDataProvider",
    "OnetapeError",
    "OptionChain",
    "OptionContract",
    "OptionSnapshot",
    "Overflow",
    "Quality",
    "Quote",
    "Rows",
    "SourceChanged",
    "Subscription",
    "Trade",
]

_CLIENT: Final = {"Gap", "MassiveDataProvider", "Overflow", "SourceChanged", "Subscription"}
_ELSEWHERE: Final = {
    "OnetapeError": "onetape.errors",
    "Quality": "onetape.provenance",
    "Rows": "onetape.rows",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'onetape' has no attribute {name!r}")
    home = "onetape.client" if name in _CLIENT else _ELSEWHERE.get(name, "onetape.model")
    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
