"""Massive first, Tradier when it fails or is poor; start with `providers`."""

from onetape.hybrid.factory import (
    DataProviders,
    VendorProviders,
    create_data_providers,
    opened,
)
from onetape.hybrid.providers import (
    HybridBrokerProvider,
    HybridIndicesProvider,
    HybridOptionsProvider,
)

__all__ = [
    "DataProviders",
    "HybridBrokerProvider",
    "HybridIndicesProvider",
    "HybridOptionsProvider",
    "VendorProviders",
    "create_data_providers",
    "opened",
]
